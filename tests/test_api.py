"""The public functions: one question, a stream, several methods from one prefill."""

from __future__ import annotations

import dataclasses
import json

import pytest

import judgeq
from judgeq.config import Allocation, Decoding, Selection
from judgeq.errors import InputError
from judgeq.methods import JudgeQ, Oracle, SnapKV, question_methods
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.generators import to_the_end
from tests.test_profile import profile

DOCUMENT = "The harbour lies in the north. Every ship pays 3 crowns at the gate. " * 6
QUESTION = "What does a ship pay?"
SHORT = Decoding(max_new_tokens=6)


def test_every_method_answers_from_one_prefill(lm: LanguageModel, tokens: SoftTokens) -> None:
    reading = judgeq.read(lm, DOCUMENT, QUESTION, methods=question_methods(), budget=16, tokens=tokens, decoding=SHORT)
    assert [writer.name for writer in reading.writers] == question_methods()
    for writer in reading.writers:
        assert list(writer)
        rows = reading.prompt.tokens if writer.name == "full" else 16
        answer = writer.answer()
        assert sum(map(sum, answer.kept_rows)) == 8 * rows
        assert answer.kept_rows == [[rows, rows]] * 4 or writer.name == "pyramidkv"
        assert answer.kv_bytes == 4 * rows * 256
        assert answer.full_kv_bytes == 4 * reading.prompt.tokens * 256


def test_alone_or_together_a_method_gives_the_same(lm: LanguageModel, tokens: SoftTokens) -> None:
    options = {"budget": 16, "tokens": tokens, "decoding": SHORT}
    together = judgeq.compare(lm, DOCUMENT, QUESTION, methods=["full", "judgeq", "snapkv", "oracle"], **options)
    _, answers = to_the_end(together)
    for answer in answers:
        alone = judgeq.ask(lm, DOCUMENT, QUESTION, method=answer.method, **options)
        assert alone.text == answer.text
        for ours, theirs in zip(alone.retention.kept, answer.retention.kept, strict=True):
            assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("allocation", ["adakv", "profile", "profile+adakv"])
def test_heads_can_have_budgets_of_their_own(lm: LanguageModel, tokens: SoftTokens, allocation: Allocation) -> None:
    learned = dataclasses.replace(tokens, profile=profile(8, 64))
    options = {"budget": 16, "tokens": learned, "decoding": SHORT}
    for method in (JudgeQ, SnapKV, Oracle):
        chosen = method(selection=Selection(allocation=allocation))
        answer = judgeq.ask(lm, DOCUMENT, QUESTION, method=chosen, **options)
        rows = sum(map(sum, answer.kept_rows))
        assert answer.budget == 16
        assert rows <= 4 * 2 * 16
        assert answer.kv_bytes == rows * 128
        assert len({count for heads in answer.kept_rows for count in heads}) > 2


def test_soft_tokens_without_a_profile_cannot_serve_one(lm: LanguageModel, tokens: SoftTokens) -> None:
    method = SnapKV(selection=Selection(allocation="profile"))
    with pytest.raises(InputError, match="soft tokens carry none"):
        judgeq.ask(lm, DOCUMENT, QUESTION, method=method, tokens=tokens, decoding=SHORT)


def test_a_stream_is_the_answer_in_pieces(lm: LanguageModel, tokens: SoftTokens) -> None:
    steps = judgeq.stream(lm, DOCUMENT, QUESTION, budget=16, tokens=tokens, decoding=SHORT)
    pieces, answer = to_the_end(steps)
    assert answer.text == "".join(step.text for step in pieces)
    assert answer.timing.ttft_s >= answer.timing.prefill_s > 0


def test_a_budget_above_the_prompt_is_the_full_cache_and_says_so(lm: LanguageModel, tokens: SoftTokens) -> None:
    full = judgeq.ask(lm, DOCUMENT, QUESTION, method="full", decoding=SHORT)
    for budget in (100_000, 1.0):
        answer = judgeq.ask(lm, DOCUMENT, QUESTION, budget=budget, tokens=tokens, decoding=SHORT)
        assert answer.text == full.text
        assert "full cache" in answer.notices[0]
        assert answer.kv_bytes == full.kv_bytes


def test_a_share_is_a_share_of_the_prompt(lm: LanguageModel) -> None:
    answer = judgeq.ask(lm, DOCUMENT, QUESTION, method="streamingllm", budget=0.25, decoding=SHORT)
    assert answer.budget == round(answer.prompt_tokens * 0.25)
    assert not answer.notices


def test_what_was_cut_is_said(lm: LanguageModel) -> None:
    answer = judgeq.ask(lm, DOCUMENT * 60, QUESTION, method="snapkv", truncate=True, decoding=SHORT)
    assert "cut out of its middle" in answer.notices[0]


def test_selection_options_reach_the_rows(lm: LanguageModel, tokens: SoftTokens) -> None:
    method = JudgeQ(selection=Selection(sinks=3, recent=4, pool=1))
    answer = judgeq.ask(lm, DOCUMENT, QUESTION, method=method, budget=16, tokens=tokens, decoding=SHORT)
    last = answer.prompt_tokens - 4
    for heads in answer.retention.kept:
        for rows in heads:
            assert list(rows[:3]) == [0, 1, 2]
            assert list(rows[-4:]) == list(range(last, last + 4))


@pytest.mark.parametrize("options", [{"method": "magic"}, {"budget": 0}, {"budget": -1}, {"budget": 1.5}])
def test_bad_options_are_refused_before_any_work(lm: LanguageModel, options: dict) -> None:
    def never(done: int, layers: int) -> None:
        raise AssertionError("the model ran")

    with pytest.raises(InputError):
        judgeq.ask(lm, DOCUMENT, QUESTION, **{"method": "snapkv", **options}, on_layer=never)


def test_an_answer_is_plain_json(lm: LanguageModel) -> None:
    answer = judgeq.ask(lm, DOCUMENT, QUESTION, method="snapkv", budget=40, decoding=SHORT).to_dict()
    again = json.loads(json.dumps(answer))
    assert again == answer
    assert again["ttft_s"] > 0
    assert again["decode_tokens_per_s"] > 0


def test_the_oracles_second_look_is_nobody_elses_time(lm: LanguageModel) -> None:
    reading = judgeq.read(lm, DOCUMENT, QUESTION, methods=["full", "oracle"], budget=16, decoding=SHORT)
    for writer in reading.writers:
        assert list(writer)
    full, oracle = (writer.answer().timing for writer in reading.writers)
    assert full.prefill_s == reading.prefill_s < oracle.prefill_s
