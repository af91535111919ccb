"""The public functions: ask one question under a budget, stream it, ask many, or compare methods from one prefill."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgeq.answers import Answer, Reading, Writer, written_together
from judgeq.config import Budget, Decoding, budget_rows, check_budget, check_chunk
from judgeq.decode import Step
from judgeq.errors import InputError
from judgeq.held import HeldCache, LayerCallback
from judgeq.language_model import LanguageModel
from judgeq.methods import Full, Method, method_named
from judgeq.padded import gains
from judgeq.plan import Plan
from judgeq.prefill import Prefill
from judgeq.prompts import Prompt, build_prompt
from judgeq.reference import ToRead, positions_behind, retain, retain_each
from judgeq.soft_tokens import SoftTokens

RowsOf = Callable[[Prompt, Sequence[Plan], int], HeldCache | None]
"""Rows that were read before, for a prompt, its plans and the number of soft tokens behind it."""


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
    decoding: Decoding = Decoding(),
    chunk: int | None = None,
    rows_of: RowsOf | None = None,
    on_layer: LayerCallback | None = None,
) -> Reading:
    """Read document and question once and let each method keep its rows.

    Several questions about one document are asked in a fraction of the time with `Document`.

    Args:
        methods: names or instances; each serves one writer.
        budget: rows per KV head (int) or share of the prompt (float), for every method but `full`.
        tokens: soft tokens, or where to find them; None takes those shipped for this model.
        question_first: put the question before the document.
        answer_prefix: text that the answers must continue.
        truncate: cut the middle of a document that is too long instead of refusing it.
        decoding: how answers are written.
        chunk: most tokens of a pass over the prompt; None reads it in one. What is kept is the same.
        rows_of: gives rows that were read before; see `Document`, which does.
        on_layer: progress of the prefill, and a place to cancel.

    Raises:
        InputError: bad input, in one sentence.
    """
    started = time.perf_counter()
    check_chunk(chunk)
    chosen = [method_named(method) for method in methods]
    soft = soft_tokens_of(lm, chosen, tokens)
    layout = {"question_first": question_first, "answer_prefix": answer_prefix, "truncate": truncate}
    asked = _asked(lm, document, question, chosen, budget, soft, decoding, layout)
    rows = None if rows_of is None else rows_of(asked.prompt, asked.plans, soft.n if soft else 0)
    prepared_s = time.perf_counter() - started
    outcome = retain(
        lm,
        asked.prompt.input_ids,
        asked.plans,
        soft_tokens=soft.probe if soft else None,
        longest=decoding,
        rows=rows,
        chunk=chunk,
        on_layer=on_layer,
    )
    return _reading(lm, asked, outcome, prepared_s + outcome.seconds, decoding)


@dataclass(frozen=True)
class _Asked:
    """A question about a document, ready to be read; `notices` as in `Answer`."""

    prompt: Prompt
    plans: list[Plan]
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
    reserve = positions_behind(methods, soft.n if soft else 0, decoding.max_new_tokens)
    prompt = build_prompt(lm, document, question, reserve=reserve, **layout)
    plans = plans_of(methods, budget, prompt.tokens, soft)
    return _Asked(prompt, plans, _notices(prompt, budget))


def _reading(
    lm: LanguageModel, asked: _Asked, outcome: Prefill, prefill_s: float, decoding: Decoding
) -> Reading:
    reading = Reading(
        prompt=asked.prompt,
        logits=outcome.logits,
        full_kv_bytes=outcome.full_kv_bytes,
        peak_rows=outcome.peak_rows,
        prefill_s=prefill_s,
        notices=asked.notices,
    )
    reading.writers.extend(Writer(lm, kept, reading, decoding) for kept in outcome.retained)
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
    return writer.finish()


def ask_many(
    lm: LanguageModel,
    questions: Sequence[tuple[str, str]],
    *,
    method: str | Method = "judgeq",
    budget: Budget | Sequence[Budget] = 128,
    tokens: SoftTokens | str | Path | None = None,
    padded: bool | None = None,
    decoding: Decoding = Decoding(),
    chunk: int | None = None,
    on_layer: LayerCallback | None = None,
    **layout: Any,
) -> list[Answer]:
    """Answer many questions side by side: one pass of the model writes a token of every answer.

    The answers are those of `ask`, up to rounding. Their times are those of the whole: every answer waits until all
    prompts are read.

    Args:
        questions: pairs of a document and a question.
        budget: one for all, or one for each question.
        padded: read prompts of similar length in one pass, the shorter ones padded on the left; None does so where it
            gains time: on a GPU, and for very short prompts.
        decoding: greedy.
        chunk: as in `read`; prompts are then read one by one.
        on_layer: progress of each pass over prompts, and a place to cancel.
        layout: `question_first`, `answer_prefix` and `truncate`, as in `read`.

    Raises:
        InputError: bad input, in one sentence.
    """
    started = time.perf_counter()
    budgets = list(budget) if isinstance(budget, Sequence) else [budget] * len(questions)
    if len(budgets) != len(questions):
        raise InputError(
            f"There are {len(questions)} questions and {len(budgets)} budgets: give one for each, or one for all"
        )
    check_chunk(chunk)
    chosen = [method_named(method)]
    soft = soft_tokens_of(lm, chosen, tokens)
    asked = [
        _asked(lm, *pair, chosen, own, soft, decoding, layout)
        for pair, own in zip(questions, budgets, strict=True)
    ]
    if padded is None:
        padded = gains(lm, [each.prompt.tokens for each in asked])
    outcomes = retain_each(
        lm,
        [ToRead(each.prompt.input_ids, each.plans, decoding, chunk=chunk) for each in asked],
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


def soft_tokens_of(
    lm: LanguageModel, methods: Sequence[Method], tokens: SoftTokens | str | Path | None
) -> SoftTokens | None:
    """The soft tokens that methods ask with; None where none of them does. Arguments as in `read`."""
    if not any(method.uses_soft_tokens for method in methods):
        return None
    if isinstance(tokens, SoftTokens):
        tokens.check(lm)
        return tokens
    return SoftTokens.for_model(lm, tokens)


def plans_of(methods: Sequence[Method], budget: Budget, tokens: int, soft: SoftTokens | None) -> list[Plan]:
    """What each method may keep of a prompt of so many tokens."""
    rows = budget_rows(budget, tokens)
    profile = soft.profile if soft else None
    return [Plan(method, tokens if isinstance(method, Full) else rows, profile) for method in methods]


def _notices(prompt: Prompt, budget: Budget) -> tuple[str, ...]:
    notices = []
    if prompt.cut_tokens:
        notices.append(
            f"The document was too long: {prompt.cut_tokens:,} tokens were cut out of its middle, where […] stands."
        )
    if isinstance(budget, int) and budget > prompt.tokens:
        notices.append(
            f"The budget of {budget:,} rows exceeds the prompt's {prompt.tokens:,} tokens: this is the full cache."
        )
    elif budget_rows(budget, prompt.tokens) == prompt.tokens:
        notices.append("The budget covers the whole prompt: this is the full cache.")
    return tuple(notices)
