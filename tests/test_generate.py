"""The program in docs/generate.md runs as it stands there, and transformers' own `generate` does what it says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import judgeq
from judgeq.inference.decode import decode
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens

PAGE = Path(__file__).resolve().parents[1] / "docs" / "generate.md"


@pytest.fixture(scope="module")
def program(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's program leaves behind, run on a tiny model with soft tokens of its own."""
    folder = tmp_path_factory.mktemp("generate")
    SoftTokens.initialise(lm, torch.arange(10, 18)).save_pretrained(folder / "judge")
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (folder / "program.py").write_text("\n".join(blocks), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("judgeq.models.loading.load", lambda name: lm)
        patch.setattr("judgeq.soft_tokens.soft_tokens.shipped_for", lambda lm, question: folder / "judge")
        patch.setattr(lm.model.config, "name_or_path", lm.name)
        patch.setattr("judgeq.integrations.generate.load_tokenizer", lambda name: lm.tokenizer)
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder / "modules"))
        return runpy.run_path(str(folder / "program.py"))


def test_the_prompt_is_longer_than_what_is_kept(program: dict[str, Any]) -> None:
    assert program["prompt"].shape[1] > 1000
    assert program["cache"].rows == 4 * 128


def test_one_call_continues_the_prompt(program: dict[str, Any]) -> None:
    prompt = program["ids"].input_ids
    assert prompt.shape[1] > 64
    assert torch.equal(program["out"][:, : prompt.shape[1]], prompt)


def written_by_us(lm: LanguageModel, reading: judgeq.Reading, length: int) -> list[int]:
    cache = reading.writers[0].retained.cache.fork()
    return [step.token for step in decode(lm, cache, reading.logits, judgeq.Decoding(length))]


def test_greedy_writes_what_ask_writes(program: dict[str, Any], lm: LanguageModel) -> None:
    assert program["greedy"][0].tolist() == written_by_us(lm, program["reading"], 21)


def test_forks_leave_the_rows_as_they_were(program: dict[str, Any]) -> None:
    again = program["go_on"](program["best"], max_new_tokens=20, do_sample=False)
    assert torch.equal(again, program["greedy"])


def test_a_seed_gives_the_same_sample_and_another_one_another(program: dict[str, Any]) -> None:
    first, second, third = program["answers"]
    assert torch.equal(program["sampled"](1), first)
    assert first.tolist() != second.tolist() != third.tolist()


def test_a_cold_sample_is_the_greedy_answer(program: dict[str, Any]) -> None:
    assert torch.equal(program["sampled"](1, temperature=1e-4), program["greedy"])


def test_a_stopping_criterion_ends_the_answer(program: dict[str, Any], lm: LanguageModel) -> None:
    assert program["short"].tolist() == program["greedy"][:, :5].tolist()
    texts = [lm.tokenizer.decode(token) for token in program["greedy"][0]]
    stop = next(text for text in texts[1:] if text.isascii())
    options = {"stop_strings": [stop], "tokenizer": lm.tokenizer}
    stopped = program["go_on"](program["best"], max_new_tokens=20, do_sample=False, **options)
    assert stopped[0].tolist() == program["greedy"][0, : texts.index(stop, 1) + 1].tolist()


def test_a_streamer_is_given_every_token_but_the_first(program: dict[str, Any], lm: LanguageModel) -> None:
    given: list[list[int]] = []
    streamer = SimpleNamespace(put=lambda ids: given.append(ids.flatten().tolist()), end=lambda: given.append([]))
    program["go_on"](program["best"], max_new_tokens=20, do_sample=False, streamer=streamer)
    before, *later, end = given
    assert before == [*program["prompt"][0].tolist(), int(program["best"])]
    assert [token for (token,) in later] == program["greedy"][0, 1:].tolist()
    assert end == []


@pytest.mark.parametrize("method", ["judgeq:allocation=adakv", "snapkv", "streamingllm", "full"])
def test_any_method_and_allocation_will_do(program: dict[str, Any], lm: LanguageModel, method: str) -> None:
    tokens = SoftTokens.initialise(lm, torch.arange(10, 18))
    asked = program["document"], program["question"]
    chosen = method_from_text(method)
    reading = judgeq.read(lm, *asked, methods=[chosen], budget=64, tokens=tokens)
    first = reading.logits.argmax(-1, keepdim=True)
    ids = torch.cat([reading.prompt.input_ids, first], 1)
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    written = lm.model.generate(ids, cache=reading.writers[0].retained.cache.fork(), **options)
    assert written[0, reading.prompt.tokens :].tolist() == written_by_us(lm, reading, 9)
