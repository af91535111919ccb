"""A judge for any model: the words of a ready-made answer ask, alone or beside trained soft tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from judgeq import Document, ask, ask_many, compare, sweep
from judgeq.config import Decoding, Selection
from judgeq.errors import InputError
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import Prefill, prefill, second_pass
from judgeq.methods import H2O, Full, JudgeQ, JudgeQDraft, Method, SnapKV, StockAnswer
from judgeq.methods.parsing import method_from_text
from judgeq.methods.scoring import merge_group
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import MakeLM
from tests.generators import to_the_end
from tests.rounding import moved_rows
from tests.test_prefill import attention_of
from tests.test_rope import longrope

TOKENS, SHORT = 90, Decoding(max_new_tokens=4)
DOCUMENT = "The contract was signed in Bergen by Ida Holm on 4 May 1987. " * 6
QUESTION = "Who signed it?"


@pytest.fixture
def trained(lm: LanguageModel) -> SoftTokens:
    return SoftTokens.initialise(lm, torch.arange(20, 28))


def assert_alone(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors, methods: Sequence[Method]) -> None:
    """What each method keeps and how it scores beside the others is what it does alone."""
    together = prefill(lm, ids, [Plan(method, 12) for method in methods], soft_tokens=soft)
    for method, beside in zip(methods, together.retained, strict=True):
        alone = prefill(lm, ids, [Plan(method, 12)], soft_tokens=soft)
        assert torch.allclose(together.logits, alone.logits, atol=1e-4)
        assert together.full_kv_bytes == alone.full_kv_bytes
        assert beside.plan.method == method
        moved_rows(beside.kept, alone.retained[0].kept, alone.retained[0].scores)
        for one, other in zip(beside.scores, alone.retained[0].scores, strict=True):
            assert (one is None) is (other is None)
            assert one is None or torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("floor", [False, True])
def test_scores_are_the_largest_attention_of_the_words(some_lm: LanguageModel, ids: Tensor, floor: bool) -> None:
    method = StockAnswer(text="the name, the number", group="defensive" if floor else "largest")
    words = torch.tensor(some_lm.tokenizer(method.text, add_special_tokens=False)["input_ids"])
    outcome = prefill(some_lm, ids, [Plan(method, 12)])
    embed = some_lm.model.get_input_embeddings()
    paid = attention_of(some_lm, torch.cat([embed(ids), embed(words[None])], 1))
    for layer in some_lm.geometry.global_layers:
        largest = paid[layer].reshape(1, 2, 2, *paid[layer].shape[2:])[..., TOKENS:, :TOKENS].amax((2, 3))
        expected = largest.maximum(largest.mean(-1, keepdim=True)) if floor else largest
        assert torch.allclose(outcome.retained[0].scores[layer], expected, atol=1e-5)


def test_judges_with_other_soft_tokens_do_not_see_each_other(
    some_lm: LanguageModel, ids: Tensor, soft_with_offsets: SoftTokenTensors
) -> None:
    methods = [SnapKV(window=16), StockAnswer(), JudgeQ(), Full(), StockAnswer(text="a date"), H2O()]
    assert_alone(some_lm, ids, soft_with_offsets, methods)


@pytest.mark.parametrize("tokens", [1, 12, 40])
def test_a_prompt_that_a_window_covers_is_read_for_each(
    lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors, tokens: int
) -> None:
    assert_alone(lm, ids[:, :tokens], soft, [StockAnswer(), JudgeQ(), SnapKV()])


def test_behind_a_response_too(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    rows = prefill(lm, ids, [Plan(Full(), TOKENS)]).retained[0].cache.frozen()

    def behind(*methods: Method) -> Prefill:
        plans = [Plan(method, 12) for method in methods]
        return second_pass(lm, ids, rows, ids[:, :5], plans, soft_tokens=soft)

    both = behind(JudgeQDraft(), StockAnswer()).retained
    for method, beside in zip((JudgeQDraft(), StockAnswer()), both, strict=True):
        moved_rows(beside.kept, behind(method).retained[0].kept, beside.scores)


def test_a_model_whose_positions_depend_on_the_length_is_read_once_for_each(
    make_lm: MakeLM, soft: SoftTokenTensors
) -> None:
    lm = longrope(make_lm)
    assert_alone(lm, torch.randint(3, 300, (1, 66)), soft, [StockAnswer(), JudgeQ(), SnapKV()])


def test_every_way_to_ask_gives_the_same_answer(lm: LanguageModel, trained: SoftTokens) -> None:
    options = {"budget": 24, "decoding": SHORT}
    alone = ask(lm, DOCUMENT, QUESTION, method="stockanswer", **options)
    document = Document(lm, DOCUMENT)
    both = {"methods": ["judgeq", "stockanswer"], "tokens": trained, **options}
    others = [
        to_the_end(compare(lm, DOCUMENT, QUESTION, **both))[1][1],
        document.ask(QUESTION, method="stockanswer", **options),
        to_the_end(document.compare(QUESTION, **both))[1][1],
        ask(lm, DOCUMENT, QUESTION, method="stockanswer", chunk=16, **options),
        *ask_many(lm, [(DOCUMENT, QUESTION)] * 2, method="stockanswer", padded=True, **options),
    ]
    for other in others:
        moved_rows(other.retention.kept, alone.retention.kept, alone.retention.scores)
    evicted = document.compress(method="stockanswer", budget=24).ask(QUESTION, decoding=SHORT)
    assert evicted.method == "stockanswer"
    assert not evicted.query_aware
    points = list(sweep(lm, DOCUMENT, QUESTION, methods=["stockanswer", "judgeq"], tokens=trained, budgets=24))
    assert [point.rows for point in points] == [24, 24]


def test_rows_are_evicted_again_while_an_answer_is_written(lm: LanguageModel) -> None:
    decoding = Decoding(max_new_tokens=24, evict_every=4)
    answer = ask(lm, DOCUMENT, QUESTION, method="stockanswer", budget=16, decoding=decoding)
    assert answer.rows_at_end is not None
    assert max(len(head) for layer in answer.rows_at_end for head in layer) <= 16 + 4


def test_the_largest_is_taken_by_every_method_that_asks_with_queries(
    lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    scores = torch.tensor([[[[0.5, 0.0, 0.1], [0.1, 0.0, 0.3]]]])  # (1, 1, G, T)
    assert torch.equal(merge_group(scores, "largest"), torch.tensor([[[0.5, 0.0, 0.3]]]))
    assert torch.allclose(merge_group(scores, "defensive"), torch.tensor([[[0.5, 0.8 / 3, 0.3]]]))
    rows = prefill(lm, ids, [Plan(Full(), TOKENS)]).retained[0].cache.frozen()
    for name in ("judgeq", "judgeq+draft", "snapkv", "laq", "oracle"):
        methods = [method_from_text(f"{name}:group={group}") for group in ("max", "largest", "defensive")]
        plans = [Plan(method, 12) for method in methods]
        behind = methods[0].needs_response
        found = (
            second_pass(lm, ids, rows, ids[:, :5], plans, soft_tokens=soft)
            if behind
            else prefill(lm, ids, plans, soft_tokens=soft)
        )
        of_mean, largest, floored = (kept.scores[2] for kept in found.retained)
        assert bool((largest >= of_mean).all())
        assert torch.allclose(floored, largest.maximum(largest.mean(-1, keepdim=True)))
    assert StockAnswer() == method_from_text("stockanswer:group=largest:pool=7")


def test_it_stands_in_where_no_soft_tokens_are_known(lm: LanguageModel, trained: SoftTokens) -> None:
    options = {"budget": 24, "decoding": SHORT}
    told = "No soft tokens are known for tiny-llama: the stock answer, which needs none, chooses the rows"
    document = Document(lm, DOCUMENT)
    for answer in (
        ask(lm, DOCUMENT, QUESTION, **options),
        to_the_end(compare(lm, DOCUMENT, QUESTION, **options))[1][1],
        document.ask(QUESTION, **options),
        *ask_many(lm, [(DOCUMENT, QUESTION)], **options),
    ):
        assert answer.method == "stockanswer"
        assert any(told in notice for notice in answer.notices)
    assert document.compress(budget=24).retained.plan.method == StockAnswer()
    known = ask(lm, DOCUMENT, QUESTION, tokens=trained, **options)
    assert known.method == "judgeq"
    assert not any(told in notice for notice in known.notices)
    with pytest.raises(InputError, match="or choose the method stockanswer, which needs none"):
        ask(lm, DOCUMENT, QUESTION, method="judgeq", **options)


@pytest.mark.parametrize("text", ["", " \n"])
def test_words_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"StockAnswer.text is empty"):
        StockAnswer(text=text)


def test_a_prompt_must_leave_room_for_the_words(make_lm: MakeLM) -> None:
    lm = make_lm("llama", max_position_embeddings=128)
    with pytest.raises(InputError, match="128"):
        ask(lm, DOCUMENT, QUESTION, method=StockAnswer(text="word " * 120), decoding=SHORT)


def test_pooling_and_sinks_are_the_methods_own(lm: LanguageModel, ids: Tensor) -> None:
    method = StockAnswer(selection=Selection(sinks=3, pool=1))
    kept = prefill(lm, ids, [Plan(method, 12)]).retained[0].kept
    assert all(head[:3].tolist() == [0, 1, 2] for layer in kept for head in layer[0])
