"""Many questions at once: every answer, every kept row is what it would be alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from judgeq.config import Allocation, Budget, Decoding, Selection
from judgeq.errors import InputError
from judgeq.inference import api
from judgeq.inference import prefill_batch as padded
from judgeq.inference.answers import Answer
from judgeq.inference.api import ask, ask_many, read
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.inference.prefill_batch import MOST_TOKENS, group_by_length, pad_left, prefill_padded
from judgeq.methods import Full, JudgeQ, Method, SnapKV, method_named, question_methods
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.sweeping import sweep
from tests.fixtures import TEXT, MakeLM
from tests.test_profile import profile

QUESTIONS = [
    (TEXT, "How tall is it?"),
    (TEXT[20:120], "When?"),
    (TEXT[10:150], "Who names it?"),
    (TEXT[:90], "Why?"),
]
BUDGETS: list[Budget] = [12, 0.3, 30, 9]
SHORT = Decoding(max_new_tokens=6)


def soft_tokens(lm: LanguageModel, method: str | Method) -> SoftTokens | None:
    """Random ones with a profile, where the method uses some."""
    if not method_named(method).uses_soft_tokens:
        return None
    made = SoftTokens.initialise(lm, torch.arange(40, 45))
    noise = torch.randn((5, 64), generator=torch.Generator().manual_seed(1))
    offsets = torch.randn((4, 4, 5, 16), generator=torch.Generator().manual_seed(2))
    return SoftTokens(
        SoftTokenTensors(made.weights.embeddings + noise, offsets),
        made.config,
        profile(8, 64, layers=len(lm.geometry.global_layers)),
    )


def both(
    lm: LanguageModel, method: str | Method, padded: bool | None = None, **options: Any
) -> tuple[list[Answer], list[Answer]]:
    """Asked at once, and one by one."""
    options = {"method": method, "tokens": soft_tokens(lm, method), "decoding": SHORT, **options}
    budgets = options.pop("budgets", BUDGETS)
    many = ask_many(lm, QUESTIONS, budget=budgets, padded=padded, **options)
    alone = [ask(lm, *pair, budget=budget, **options) for pair, budget in zip(QUESTIONS, budgets, strict=True)]
    return many, alone


SAME = ("text", "finish", "method", "budget", "prompt_tokens", "kept_rows", "kv_bytes", "full_kv_bytes")


def same(many: list[Answer], alone: list[Answer]) -> None:
    for ours, expected in zip(many, alone, strict=True):
        for name in SAME:
            assert getattr(ours, name) == getattr(expected, name), name


@pytest.fixture(autouse=True)
def all_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of any length share a pass."""
    monkeypatch.setattr(padded, "MAX_LENGTH_RATIO", 100.0)


@pytest.mark.parametrize("in_one_pass", [True, False])
def test_answers_are_those_of_one_question_at_a_time(some_lm: LanguageModel, in_one_pass: bool) -> None:
    many, alone = both(some_lm, "judgeq", in_one_pass)
    same(many, alone)
    assert len({answer.text for answer in many}) > 2


ALLOCATIONS: tuple[Allocation, ...] = ("adakv", "profile", "profile+adakv", "pyramid")


@pytest.mark.parametrize(
    "method",
    [
        *sorted(question_methods()),
        *(JudgeQ(selection=Selection(pool=3, allocation=each)) for each in ALLOCATIONS),
        SnapKV(selection=Selection(pool=3, recent=4, value_aware=True)),
    ],
    ids=str,
)
def test_answers_are_those_of_one_question_at_a_time_with_every_method_and_allocation(
    lm: LanguageModel, method: str | Method
) -> None:
    same(*both(lm, method, True))


def test_and_with_sliding_windows(make_lm: MakeLM) -> None:
    mixed = make_lm("qwen2", use_sliding_window=True, sliding_window=24, max_window_layers=2)
    same(*both(mixed, "snapkv", True))


@pytest.mark.parametrize("method", ["judgeq", "h2o", "judgeq+draft", "oracle"])
def test_and_in_chunks(lm: LanguageModel, method: str) -> None:
    same(*both(lm, method, chunk=20))


def passes(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[int]:
    """Prompts of each pass."""
    seen: list[int] = []
    forward = lm.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("inputs_embeds") is not None:
            seen.append(len(kwargs["inputs_embeds"]))
        return forward(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(lm.model, "forward", counted)
        ask_many(lm, QUESTIONS, method="snapkv", decoding=SHORT, **options)
    return seen


def test_prompts_share_a_pass_only_where_that_is_asked_for(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert passes(lm, monkeypatch) == [1, 1, 1, 1]  # on a CPU
    assert passes(lm, monkeypatch, padded=True) == [4]
    monkeypatch.setattr(padded, "SHORT_PROMPT", 1000)
    assert passes(lm, monkeypatch) == [4]
    assert passes(lm, monkeypatch, padded=True, chunk=100) == [1, 1, 1, 1]
    monkeypatch.setattr(padded, "MAX_LENGTH_RATIO", 1.0)
    assert passes(lm, monkeypatch, padded=True) == [1, 1, 1, 1]


def test_prompts_of_similar_length_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padded, "MAX_LENGTH_RATIO", 1.25)
    assert list(group_by_length([100, 900, 110, 125, 130, 1000])) == [[0, 2, 3], [4], [1, 5]]
    half = MOST_TOKENS // 2
    assert list(group_by_length([half, half, half])) == [[0, 1], [2]]
    assert list(group_by_length([])) == []


def test_what_stands_in_the_padding_changes_nothing(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [torch.randint(3, 300, (1, length)) for length in (40, 23)]
    plans = [[Plan(SnapKV(window=4), 9), Plan(Full(), length)] for length in (40, 23)]
    found = []
    for token in (0, 7):
        monkeypatch.setattr(padded, "pad_left", partial(pad_left, filler=token))
        found.append(prefill_padded(lm, prompts, plans))
    for ids, own, one, other in zip(prompts, plans, *found, strict=True):
        expected = prefill(lm, ids, own)
        for outcome in (one, other):
            assert torch.allclose(outcome.logits, expected.logits, atol=1e-4)
            assert outcome.full_kv_bytes == expected.full_kv_bytes
            assert outcome.peak_rows == expected.peak_rows
            for ours, theirs in zip(outcome.retained, expected.retained, strict=True):
                assert ours.cache.get_seq_length() == ids.shape[1]
                for layer, other_layer in zip(ours.cache.layers, theirs.cache.layers, strict=True):
                    assert torch.allclose(layer.keys, other_layer.keys, atol=1e-4)
                    assert torch.allclose(layer.values, other_layer.values, atol=1e-4)


def test_progress_is_told_once_a_layer(lm: LanguageModel) -> None:
    told: list[tuple[int, int]] = []
    ask_many(lm, QUESTIONS, method="snapkv", padded=True, decoding=SHORT, on_layer=lambda *at: told.append(at))
    assert told == [(layer, 4) for layer in range(1, 5)]


def test_one_budget_serves_all_and_times_are_told(lm: LanguageModel) -> None:
    many = ask_many(lm, QUESTIONS, method="snapkv", budget=11, decoding=SHORT)
    assert [answer.budget for answer in many] == [11] * 4
    for answer in many:
        assert answer.timing.ttft_s >= answer.timing.prefill_s > 0
        assert answer.timing.decode_tokens_per_s > 0
    assert ask_many(lm, [], method="snapkv") == []


@pytest.mark.parametrize("method", ["judgeq", "snapkv", "full"])
@pytest.mark.parametrize("in_one_pass", [True, False])
def test_rows_in_few_bits_are_those_of_one_question_at_a_time(
    lm: LanguageModel, method: str, in_one_pass: bool
) -> None:
    many, alone = both(lm, method, in_one_pass, row_bits=4)
    same(many, alone)
    assert all(answer.kv_bytes < answer.full_kv_bytes / 2 for answer in many)


def test_nobody_says_what_one_answer_took_in_memory_that_all_share(lm: LanguageModel) -> None:
    many, alone = both(lm, "snapkv")
    assert [answer.kv_bytes_at_end for answer in many] == [None] * 4
    assert all(answer.kv_bytes_at_end > answer.kv_bytes for answer in alone)


def test_what_cannot_be_done_is_refused(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "prefill_many", None)  # before any prompt is read
    with pytest.raises(InputError, match="4 questions and 2 budgets"):
        ask_many(lm, QUESTIONS, method="snapkv", budget=[1, 2])
    with pytest.raises(InputError, match="greedy"):
        ask_many(lm, QUESTIONS, method="snapkv", decoding=Decoding(temperature=1.0))
    with pytest.raises(InputError, match=r"leave Decoding\.evict_every out"):
        ask_many(lm, QUESTIONS, method="snapkv", decoding=Decoding(evict_every=8))


def test_everything_that_can_be_gone_through_is_a_sequence(lm: LanguageModel) -> None:
    budgets, short = (8, 16), Decoding(max_new_tokens=2)
    listed = ask_many(lm, QUESTIONS[:2], method="snapkv", budget=list(budgets), decoding=short)
    given = ask_many(lm, (each for each in QUESTIONS[:2]), method="snapkv", budget=iter(budgets), decoding=short)
    assert [answer.kept_rows for answer in given] == [answer.kept_rows for answer in listed]
    pairs = (list(each) for each in QUESTIONS[:2])
    assert len(ask_many(lm, pairs, method="snapkv", budget=dict.fromkeys(budgets), decoding=short)) == 2
    document, question = QUESTIONS[0]
    points = sweep(lm, document, question, methods=iter(["snapkv", "full"]), budgets=iter(budgets), max_new_tokens=2)
    assert len(list(points)) == 4
    names = (name for name in ("full", "snapkv"))
    reading = read(lm, document, question, methods=names, pinned=iter([(0, 5)]), budget=16)
    assert len(reading.writers) == 2


@pytest.mark.parametrize("pair", ["a text", None, ("document",), ("a", "b", "c"), 7])
def test_what_is_no_pair_is_refused(lm: LanguageModel, pair: Any) -> None:
    with pytest.raises(InputError, match="give a pair of a document and a question"):
        ask_many(lm, [pair], method="snapkv")
