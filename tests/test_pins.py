"""Spans that must stay and spans that must go: with every method, every allocation, and whatever runs behind them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

import judgeq
from judgeq.config import Allocation, Decoding, Selection
from judgeq.errors import InputError
from judgeq.inference.plan import Plan
from judgeq.methods import JudgeQ, Method, SnapKV, StreamingLLM, question_methods
from judgeq.methods.selection import Forced, rank_rows
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import build_prompt
from judgeq.retention import RetentionMap
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.fixtures import TEXT, four_tokens
from tests.test_profile import profile

DOCUMENT = f"{TEXT}The keeper is called Aldous. {TEXT}"
QUESTION = "How tall is the lighthouse?"
EVICTING = [name for name in question_methods() if name != "full"]
SHORT = Decoding(max_new_tokens=4)


def span(words: str) -> tuple[int, int]:
    return DOCUMENT.index(words), DOCUMENT.index(words) + len(words)


STAYS, GOES = span("keeper is called Aldous"), span("The lighthouse was built in 1874")


def with_profile(lm: LanguageModel) -> SoftTokens:
    return replace(four_tokens(lm), profile=profile(8, 64, layers=len(lm.geometry.global_layers)))


def read(lm: LanguageModel, methods: list[str | Method], **options: Any) -> list[RetentionMap]:
    options = {"budget": 48, "tokens": four_tokens(lm), "decoding": SHORT, **options}
    reading = judgeq.read(lm, DOCUMENT, QUESTION, methods=methods, **options)
    return [writer.retention for writer in reading.writers]


def share(found: RetentionMap, where: tuple[int, int], lm: LanguageModel) -> np.ndarray:
    """Of each token of a span: the share of heads that keep it, in layers that are evicted."""
    at = found.tokens_at(*where)
    layers = [found.share_kept(layer) for layer in lm.geometry.global_layers]
    return np.mean(layers, 0)[at.start : at.stop]


# Every method, every allocation, every family


def test_what_is_pinned_stays_and_what_is_dropped_goes(some_lm: LanguageModel) -> None:
    layers = some_lm.geometry.global_layers
    for free, forced in zip(read(some_lm, EVICTING), read(some_lm, EVICTING, **pins()), strict=True):
        assert (share(forced, STAYS, some_lm) == 1).all(), forced.method
        assert (share(forced, GOES, some_lm) == 0).all(), forced.method
        assert (share(free, STAYS, some_lm) < 1).any(), "else nothing is shown"
        assert forced.kept_rows[layers].sum() == free.kept_rows[layers].sum(), "pinned rows are in the budget"
        if forced.method not in ("judgeq+draft", "laq"):  # their drafts are written from other rows
            assert np.allclose(forced.scores, free.scores, equal_nan=True), "nothing else is judged differently"


def pins() -> dict[str, Any]:
    return {"pinned": [STAYS], "dropped": [GOES]}


def test_the_free_methods_keep_something_of_what_is_dropped(lm: LanguageModel) -> None:
    assert any((share(found, GOES, lm) > 0).any() for found in read(lm, EVICTING))


@pytest.mark.parametrize("allocation", get_args(Allocation))
@pytest.mark.parametrize("value_aware", [False, True])
def test_pins_hold_where_heads_have_budgets_of_their_own(
    lm: LanguageModel, allocation: Allocation, value_aware: bool
) -> None:
    selection = Selection(recent=4, sinks=2, allocation=allocation, value_aware=value_aware, beta=100)
    count = len(read(lm, ["full"])[0].tokens_at(*STAYS))
    for budget in (count, count + 1, count + 20):
        (found,) = read(lm, [JudgeQ(selection)], budget=budget, tokens=with_profile(lm), **pins())
        assert (share(found, STAYS, lm) == 1).all()
        assert (share(found, GOES, lm) == 0).all()
        assert found.kept_rows.sum() == budget * found.kept_rows.size


def test_a_budget_of_the_pinned_rows_alone_keeps_exactly_them(lm: LanguageModel) -> None:
    at = read(lm, ["full"])[0].tokens_at(*STAYS)
    for found in read(lm, EVICTING, budget=len(at), pinned=[STAYS]):
        assert {rows.tobytes() for rows in found.rows_of()} == {np.asarray(at, dtype=np.int32).tobytes()}


def test_more_pinned_rows_than_the_budget_are_refused_with_their_number(lm: LanguageModel) -> None:
    needed = len(read(lm, ["full"])[0].tokens_at(*STAYS))
    with pytest.raises(InputError, match=f"takes {needed} rows .* budget is {needed - 1}: give at least {needed}"):
        read(lm, ["snapkv"], budget=needed - 1, pinned=[STAYS])
    assert read(lm, ["full"], budget=1, pinned=[STAYS])[0].budget > needed, "the full cache has no budget"


# What is dropped is gone


def test_dropped_rows_go_under_a_budget_that_covers_everything(lm: LanguageModel) -> None:
    full, *others = read(lm, ["full", *EVICTING], budget=1.0, dropped=[GOES])
    gone = len(full.tokens_at(*GOES))
    assert (full.kept_rows == full.tokens).all(), "the reference stays complete"
    for found in others:
        assert (found.kept_rows == found.tokens - gone).all()
        assert (share(found, GOES, lm) == 0).all()


def test_sinks_and_the_recent_window_do_not_save_what_is_dropped(lm: LanguageModel) -> None:
    prompt = build_prompt(lm, DOCUMENT, QUESTION)
    first = prompt.offsets[0][1] - prompt.document[0]
    assert first <= 0, "the template comes first"
    scores = torch.rand(1, 2, 20, generator=torch.Generator().manual_seed(0))
    rows, pooled = rank_rows(scores, Selection(sinks=3, recent=4), Forced((9,), (1, 18)))
    assert rows[0, 0, :6].tolist() == [9, 19, 17, 16, 0, 2]
    assert pooled[..., :6].isinf().all()
    assert pooled[..., 6:].isfinite().all()
    assert rows.shape == pooled.shape == (1, 2, 18)


def test_no_row_survives_because_a_dropped_neighbour_was_important() -> None:
    peak = torch.zeros(1, 1, 40)
    peak[..., 20], peak[..., 30] = 1.0, 0.5
    rows, _ = rank_rows(peak, Selection(pool=7), Forced((), (20,)))
    assert sorted(rows[0, 0, :7].tolist()) == list(range(27, 34))


def test_the_cache_behind_the_map_is_cut_alike(lm: LanguageModel) -> None:
    for allocation in ("uniform", "adakv"):
        method = SnapKV(Selection(allocation=allocation))
        reading = judgeq.read(lm, DOCUMENT, QUESTION, methods=[method], budget=1.0, **pins())
        (writer,) = reading.writers
        gone = len(writer.retention.tokens_at(*GOES))
        assert writer.kv_bytes == reading.full_kv_bytes * (reading.prompt.tokens - gone) // reading.prompt.tokens
        assert writer.finish().finish in ("end", "length")


# What runs behind them


def test_drafts_and_documents_take_them_too(lm: LanguageModel) -> None:
    document = judgeq.Document(lm, DOCUMENT)
    for name in ("judgeq", "judgeq+draft", "laq", "oracle"):
        options = {"method": name, "budget": 48, "tokens": four_tokens(lm), "decoding": SHORT, **pins()}
        alone, behind = judgeq.ask(lm, DOCUMENT, QUESTION, **options), document.ask(QUESTION, **options)
        assert alone.text == behind.text
        for ours, theirs in zip(alone.retention.rows_of(), behind.retention.rows_of(), strict=True):
            assert np.array_equal(ours, theirs)


def test_a_draft_is_written_from_rows_that_are_forced_as_well(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Plan] = []
    real = Plan.__post_init__
    monkeypatch.setattr(Plan, "__post_init__", lambda self: (seen.append(self), real(self))[1])
    read(lm, ["laq"], **pins())
    writers = [plan for plan in seen if isinstance(plan.method, SnapKV)]
    assert writers
    assert all(plan.forced.pinned and plan.forced.dropped for plan in writers)


@pytest.mark.parametrize("name", ["judgeq", "snapkv", "h2o"])
def test_pinned_rows_survive_while_an_answer_is_written(endless: LanguageModel, name: str) -> None:
    answer = judgeq.ask(
        endless,
        DOCUMENT,
        QUESTION,
        method=name,
        budget=40,
        tokens=with_profile(endless),
        decoding=Decoding(max_new_tokens=26, evict_every=8),
        **pins(),
    )
    left = answer.retention_at_end
    assert (share(left, STAYS, endless) == 1).all()
    assert (share(left, GOES, endless) == 0).all()
    assert left.kept_rows.sum() < answer.retention.kept_rows.sum(), "the answer took its share"


# Which text the positions count in


def test_positions_count_in_the_text_as_it_was_given(lm: LanguageModel) -> None:
    blanks = " \n\n  "
    moved = [(first + len(blanks), last + len(blanks)) for first, last in (STAYS, GOES)]
    plain = read(lm, ["snapkv"], **pins())[0]
    reading = judgeq.read(
        lm,
        f"{blanks}{DOCUMENT}\n ",
        QUESTION,
        methods=["snapkv"],
        budget=48,
        pinned=moved[:1],
        dropped=moved[1:],
    )
    assert plain.document_text == reading.writers[0].retention.document_text
    for ours, theirs in zip(plain.rows_of(), reading.writers[0].retention.rows_of(), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_question_in_front_moves_nothing(lm: LanguageModel) -> None:
    (found,) = read(lm, ["snapkv"], question_first=True, **pins())
    assert (share(found, STAYS, lm) == 1).all()
    assert (share(found, GOES, lm) == 0).all()


def test_a_token_that_two_spans_share_stays(lm: LanguageModel) -> None:
    prompt = build_prompt(lm, DOCUMENT, QUESTION)
    start = prompt.document[0]
    first, last = next((a - start, b - start) for a, b in prompt.offsets if a > start and b - a > 2)
    (found,) = read(lm, ["snapkv"], budget=0.5, pinned=[(first - 4, first + 1)], dropped=[(first + 1, last + 4)])
    assert (share(found, (first, last), lm) == 1).all()
    assert (share(found, (last, last + 4), lm) == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pinned": [(5, 5)]}, r"pinned span is \(5, 5\)"),
        ({"pinned": [(-1, 5)]}, "two positions in the document's"),
        ({"dropped": [(0, len(DOCUMENT) + 1)]}, "dropped span is"),
        ({"dropped": [(0.0, 5)]}, "dropped span is"),
        ({"dropped": [(0, True)]}, "dropped span is"),
        ({"pinned": [(4, 30)], "dropped": [(0, 11)]}, "overlap at “harbour lies in"),
    ],
)
def test_spans_that_mean_nothing_are_refused(lm: LanguageModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(lm, ["snapkv"], **options)


def test_blanks_that_no_prompt_holds_are_refused(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="nothing but blanks"):
        judgeq.read(lm, "   The sea.", QUESTION, methods=["snapkv"], pinned=[(0, 2)])


def test_spans_of_a_document_that_is_cut_are_refused_and_others_are_not(lm: LanguageModel) -> None:
    options = {"methods": ["snapkv"], "truncate": True, "pinned": [(0, 20)], "decoding": SHORT}
    with pytest.raises(InputError, match="its middle was cut: shorten the document yourself"):
        judgeq.read(lm, DOCUMENT * 60, QUESTION, **options)
    assert judgeq.read(lm, DOCUMENT, QUESTION, **options).writers[0].retention.share_kept()[5] > 0


def test_an_answer_says_that_rows_were_forced(lm: LanguageModel) -> None:
    answer = judgeq.ask(lm, DOCUMENT, QUESTION, method=StreamingLLM(), budget=1.0, decoding=SHORT, **pins())
    stay, go = (len(answer.retention.tokens_at(*where)) for where in (STAYS, GOES))
    assert answer.notices[:2] == (
        f"{stay} tokens are pinned and stay, in every layer and KV head; only the full cache is left as it is.",
        f"{go} tokens are dropped and go, in every layer and KV head; only the full cache is left as it is.",
    )
    assert len(answer.notices) == 2, "this is not the full cache"
