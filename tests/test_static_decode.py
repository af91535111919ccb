"""Tokens from rows of a fixed size are those of the growing cache."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import judgeq
from judgeq.config import Decoding
from judgeq.inference import static_decode
from judgeq.inference.decode import decode, next_logits
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.inference.static_decode import StaticStep
from judgeq.methods.parsing import method_from_text
from tests.fixtures import TEXT, MakeLM
from tests.test_many import soft_tokens


@pytest.mark.parametrize(("room", "temperature"), [(256, 0.0), (5, 0.8)])
@pytest.mark.parametrize(
    ("family", "way"),
    [
        ("llama", "judgeq"),
        ("llama", "snapkv:allocation=adakv"),
        ("llama", "judgeq:bits=8"),
        ("qwen3", "full"),
        ("smollm3", "snapkv"),
    ],
)
def test_an_answer_is_that_of_rows_that_grow(
    make_lm: MakeLM,
    ids: Tensor,
    family: str,
    way: str,
    temperature: float,
    room: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(static_decode, "ROOM", room)
    lm, method = make_lm(family), method_from_text(way)
    lm.__dict__["eos_ids"] = frozenset()
    tokens = soft_tokens(lm, method)
    plan, decoding = Plan(method, 20), Decoding(max_new_tokens=14, temperature=temperature, seed=3)
    found = prefill(lm, ids, [plan], soft_tokens=tokens.weights if tokens else None)
    usual, ours = found.retained[0].cache, found.retained[0].cache.fork()
    step = StaticStep(lm, ours)
    written = [
        [each.token for each in decode(lm, cache, found.logits, decoding, forward)]
        for cache, forward in ((usual, None), (ours, step))
    ]
    assert written[0] == written[1]
    assert len(set(written[0])) > 2
    step.store()
    step.store()
    assert ours.get_seq_length() == usual.get_seq_length()
    assert ours.rows == usual.rows
    torch.testing.assert_close(*(next_logits(lm, cache, 7) for cache in (ours, usual)), atol=1e-4, rtol=1e-4)


def test_it_writes_answers_only_where_asked_for_and_on_a_gpu(make_lm: MakeLM, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, stored, store = make_lm(), [], StaticStep.store
    monkeypatch.setattr(StaticStep, "store", lambda self: stored.append(self) or store(self))
    decoding = Decoding(max_new_tokens=9)

    def answer() -> judgeq.Answer:
        return judgeq.ask(lm, TEXT, "How tall?", method="snapkv", budget=40, decoding=decoding)

    usual = answer()
    lm.cuda_graphs = True
    assert answer().text == usual.text
    assert not stored
    monkeypatch.setattr(StaticStep, "suits", lambda *_: True)
    ours = answer()
    assert (ours.text, ours.kv_bytes) == (usual.text, usual.kv_bytes)
    assert stored
