"""The public functions: ask one question under a budget, stream it, ask many, or compare methods from one prefill."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from judgeq.answers import Answer, Reading, Writer, written_together
from judgeq.batch import check_together
from judgeq.config import Budget, Decoding, budget_rows, check_budget
from judgeq.decode import Step
from judgeq.errors import InputError
from judgeq.language_model import LanguageModel
from judgeq.methods import Full, Method, method_named
from judgeq.padded import gains
from judgeq.prefill import LayerCallback, Plan, Prefill
from judgeq.probe import Probe
from judgeq.prompts import Prompt, build_prompt
from judgeq.reference import ToRead, positions_behind, retain, retain_each
from judgeq.rejudging import Rejudging, check_rejudging
from judgeq.rotation import check_appended
from judgeq.soft_tokens import SoftTokens


def read(
    lm: LanguageModel,
    document: str,
    question: str,
    *,
    methods: Sequence[str | Method] = ("full", "judgeq", "snapkv"),
    budget: Budget = 128,
    tokens: SoftTokens | str | Path | None = None,
    question_first: bool = False,
    answer_prefix: str = "",
    truncate: bool = False,
    row_bits: int | None = None,
    decoding: Decoding = Decoding(),
    on_layer: LayerCallback | None = None,
) -> Reading:
    """Read document and question once and let each method keep its rows.

    Args:
        methods: names or instances; each serves one writer.
        budget: rows per KV head (int) or share of the prompt (float), for every method but `full`.
        tokens: soft tokens, or where to find them; None takes those shipped for this model.
        question_first: put the question before the document.
        answer_prefix: text that the answers must continue.
        truncate: cut the middle of a document that is too long instead of refusing it.
        row_bits: store every method's rows in 8 or 4 bits; None leaves it to the method's `Selection.bits`.
        decoding: how answers are written, and whether rows are judged again meanwhile.
        on_layer: progress of the prefill, and a place to cancel.

    Raises:
        InputError: bad input, in one sentence.
    """
    started = time.perf_counter()
    chosen = _chosen(methods, row_bits)
    check_rejudging(_rejudged(chosen, decoding))
    soft = _soft_tokens(lm, chosen, tokens)
    layout = {"question_first": question_first, "answer_prefix": answer_prefix, "truncate": truncate}
    asked = _asked(lm, document, question, chosen, budget, soft, decoding, layout)
    prepared_s = time.perf_counter() - started
    outcome = retain(
        lm,
        asked.prompt.input_ids,
        asked.plans,
        soft_tokens=soft.probe if soft else None,
        longest=decoding,
        on_layer=on_layer,
    )
    seconds = prepared_s + outcome.seconds
    return _reading(lm, asked, outcome, seconds, decoding, soft.probe if soft else None)


def _chosen(methods: Sequence[str | Method], row_bits: int | None) -> list[Method]:
    chosen = [method_named(method) for method in methods]
    if row_bits is None:
        return chosen
    return [replace(each, selection=replace(each.selection, bits=row_bits)) for each in chosen]


def _rejudged(methods: Sequence[Method], decoding: Decoding) -> list[Method]:
    """Those whose rows are judged again while their answers are written; the full cache is bounded by nothing."""
    return [each for each in methods if decoding.rejudge_every and not isinstance(each, Full)]


@dataclass(frozen=True)
class _Asked:
    """A question about a document, ready to be read.

    Attributes:
        bound: rows per KV head where rows are judged again; unlike the budget of a plan it may exceed the prompt.
        notices: see `Answer`.
    """

    prompt: Prompt
    plans: list[Plan]
    bound: int
    notices: tuple[str, ...]


def _asked(
    lm: LanguageModel,
    document: str,
    question: str,
    methods: Sequence[Method],
    budget: Budget,
    soft: SoftTokens | None,
    decoding: Decoding,
    layout: dict[str, Any],
) -> _Asked:
    """`layout`: the options of `read` that say how the prompt is made."""
    check_budget(budget)
    n_soft, longest = soft.n if soft else 0, decoding.max_new_tokens
    rejudged = _rejudged(methods, decoding)
    if rejudged:
        longest += n_soft  # they stand behind the answer too
    reserve = positions_behind(methods, n_soft, longest)
    prompt = build_prompt(lm, document, question, reserve=reserve, **layout)
    if any(method.needs_soft_tokens for method in rejudged):
        check_appended(lm.model, lm.name, prompt.tokens + decoding.max_new_tokens, n_soft)
    rows = budget_rows(budget, prompt.tokens)
    profile = soft.profile if soft else None
    plans = [Plan(method, prompt.tokens if isinstance(method, Full) else rows, profile) for method in methods]
    bound = budget if isinstance(budget, int) else rows
    return _Asked(prompt, plans, bound, _notices(prompt, budget, rows))


def _reading(
    lm: LanguageModel,
    asked: _Asked,
    outcome: Prefill,
    prefill_s: float,
    decoding: Decoding,
    soft_tokens: Probe | None = None,
) -> Reading:
    reading = Reading(
        prompt=asked.prompt,
        logits=outcome.logits,
        full_kv_bytes=outcome.full_kv_bytes,
        peak_rows=outcome.peak_rows,
        prefill_s=prefill_s,
        notices=asked.notices,
    )
    for kept in outcome.retained:
        again = None
        if decoding.rejudge_every and _rejudged([kept.plan.method], decoding):
            again = Rejudging(lm, kept, asked.bound, decoding.rejudge_every, soft_tokens)
        reading.writers.append(Writer(lm, kept, reading, decoding, again))
    return reading


def stream(
    lm: LanguageModel, document: str, question: str, *, method: str | Method = "judgeq", **options: Any
) -> Generator[Step, None, Answer]:
    """Answer token by token; the generator returns the `Answer`. Options as in `read`, without `methods`."""
    (writer,) = read(lm, document, question, methods=[method], **options).writers
    yield from writer
    return writer.answer()


def ask(
    lm: LanguageModel, document: str, question: str, *, method: str | Method = "judgeq", **options: Any
) -> Answer:
    """Answer one question about a document under a budget. Options as in `read`, without `methods`."""
    (writer,) = read(lm, document, question, methods=[method], **options).writers
    for _ in writer:
        pass
    return writer.answer()


def ask_many(
    lm: LanguageModel,
    questions: Sequence[tuple[str, str]],
    *,
    method: str | Method = "judgeq",
    budget: Budget | Sequence[Budget] = 128,
    tokens: SoftTokens | str | Path | None = None,
    row_bits: int | None = None,
    padded: bool | None = None,
    decoding: Decoding = Decoding(),
    on_layer: LayerCallback | None = None,
    **layout: Any,
) -> list[Answer]:
    """Answer many questions side by side: one pass of the model writes a token of every answer.

    The answers are those of `ask`, up to rounding. Their times are those of the whole: every answer waits until all
    prompts are read.

    Args:
        questions: pairs of a document and a question.
        budget: one for all, or one for each question.
        row_bits: as in `read`; rows are rounded where they are kept, and read side by side as they come to then.
        padded: read prompts of similar length in one pass, the shorter ones padded on the left; None does so where it
            gains time: on a GPU, and for very short prompts.
        decoding: greedy, without `rejudge_every`.
        on_layer: progress of each pass over prompts, and a place to cancel.
        layout: `question_first`, `answer_prefix` and `truncate`, as in `read`.

    Raises:
        InputError: bad input, in one sentence.
    """
    started = time.perf_counter()
    check_together(decoding)
    budgets = list(budget) if isinstance(budget, Sequence) else [budget] * len(questions)
    if len(budgets) != len(questions):
        raise InputError(
            f"There are {len(questions)} questions and {len(budgets)} budgets: give one for each, or one for all"
        )
    chosen = _chosen([method], row_bits)
    soft = _soft_tokens(lm, chosen, tokens)
    asked = [
        _asked(lm, *pair, chosen, own, soft, decoding, layout)
        for pair, own in zip(questions, budgets, strict=True)
    ]
    if padded is None:
        padded = gains(lm, [each.prompt.tokens for each in asked])
    outcomes = retain_each(
        lm,
        [ToRead(each.prompt.input_ids, each.plans, decoding) for each in asked],
        soft_tokens=soft.probe if soft else None,
        padded=padded,
        on_layer=on_layer,
    )
    read_s = time.perf_counter() - started
    readings = [
        _reading(lm, each, outcome, read_s, decoding) for each, outcome in zip(asked, outcomes, strict=True)
    ]
    return written_together(lm, [reading.writers[0] for reading in readings])


def compare(
    lm: LanguageModel, document: str, question: str, **options: Any
) -> Generator[tuple[int, Step], None, list[Answer]]:
    """Answer with several methods from one prefill, a token of each in turn.

    Yields `(index of the method, step)`; the generator returns the answers in the order of `methods`. Options as in
    `read`.
    """
    reading = read(lm, document, question, **options)
    yield from in_turn(reading.writers)
    return [writer.answer() for writer in reading.writers]


def in_turn(writers: Sequence[Writer]) -> Iterator[tuple[int, Step]]:
    """One step of each unfinished writer after the other, as `(index, step)`."""
    running = dict(enumerate(map(iter, writers)))
    while running:
        for index, steps in list(running.items()):
            step = next(steps, None)
            if step is None:
                del running[index]
            else:
                yield index, step


def _soft_tokens(
    lm: LanguageModel, methods: Sequence[Method], tokens: SoftTokens | str | Path | None
) -> SoftTokens | None:
    if not any(method.uses_soft_tokens for method in methods):
        return None
    if isinstance(tokens, SoftTokens):
        tokens.check(lm)
        return tokens
    return SoftTokens.for_model(lm, tokens)


def _notices(prompt: Prompt, budget: Budget, rows: int) -> tuple[str, ...]:
    notices = []
    if prompt.cut_tokens:
        notices.append(
            f"The document was too long: {prompt.cut_tokens:,} tokens were cut out of its middle, where […] stands."
        )
    if isinstance(budget, int) and budget > prompt.tokens:
        notices.append(
            f"The budget of {budget:,} rows exceeds the prompt's {prompt.tokens:,} tokens: this is the full cache."
        )
    elif rows == prompt.tokens:
        notices.append("The budget covers the whole prompt: this is the full cache.")
    return tuple(notices)
