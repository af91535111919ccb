"""The public functions: ask one question under a budget, stream it, or compare methods from one prefill."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from judgeq.answers import Answer, Reading, Writer
from judgeq.config import Budget, Decoding, budget_rows, check_budget
from judgeq.decode import Step
from judgeq.language_model import LanguageModel
from judgeq.methods import Full, Method, method_named
from judgeq.prefill import LayerCallback, Plan
from judgeq.prompts import Prompt, build_prompt
from judgeq.reference import positions_behind, retain
from judgeq.rejudging import Rejudging, check_rejudging
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
    check_budget(budget)
    chosen = [method_named(method) for method in methods]
    if row_bits is not None:
        chosen = [replace(each, selection=replace(each.selection, bits=row_bits)) for each in chosen]
    rejudged = [each for each in chosen if decoding.rejudge_every and not isinstance(each, Full)]
    check_rejudging(rejudged)
    soft = _soft_tokens(lm, chosen, tokens)
    n_soft = soft.n if soft else 0
    longest = decoding.max_new_tokens + (n_soft if rejudged else 0)  # they stand behind the answer too
    reserve = positions_behind(chosen, n_soft, longest)
    prompt = build_prompt(
        lm,
        document,
        question,
        question_first=question_first,
        answer_prefix=answer_prefix,
        truncate=truncate,
        reserve=reserve,
    )
    rows = budget_rows(budget, prompt.tokens)
    profile = soft.profile if soft else None
    plans = [Plan(method, prompt.tokens if isinstance(method, Full) else rows, profile) for method in chosen]
    prepared_s = time.perf_counter() - started
    outcome = retain(
        lm,
        prompt.input_ids,
        plans,
        soft_tokens=soft.probe if soft else None,
        longest=decoding,
        on_layer=on_layer,
    )
    reading = Reading(
        prompt=prompt,
        logits=outcome.logits,
        full_kv_bytes=outcome.full_kv_bytes,
        peak_rows=outcome.peak_rows,
        prefill_s=prepared_s + outcome.seconds,
        notices=_notices(prompt, budget, rows),
    )
    bound = budget if isinstance(budget, int) else rows
    for kept in outcome.retained:
        again = None
        if decoding.rejudge_every and kept.plan.method in rejudged:
            again = Rejudging(lm, kept, bound, decoding.rejudge_every, soft.probe if soft else None)
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
