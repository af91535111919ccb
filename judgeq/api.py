"""The public functions: ask one question under a budget, stream it, or compare methods from one prefill."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from judgeq.answers import Answer, Reading, Writer
from judgeq.config import Budget, Decoding, budget_rows, check_budget
from judgeq.decode import Step, decode
from judgeq.language_model import LanguageModel
from judgeq.methods import Full, Method, method_named
from judgeq.prefill import LayerCallback, Plan, Prefill, Retained, prefill, probe
from judgeq.prompts import Prompt, build_prompt
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
        decoding: how answers are written.
        on_layer: progress of the prefill, and a place to cancel.

    Raises:
        InputError: bad input, in one sentence.
    """
    started = time.perf_counter()
    check_budget(budget)
    chosen = [method_named(method) for method in methods]
    soft = _soft_tokens(lm, chosen, tokens)
    reserve = max(decoding.max_new_tokens, soft.n if soft else 0)
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
    plans = [Plan(method, prompt.tokens if isinstance(method, Full) else rows) for method in chosen]
    prepared_s = time.perf_counter() - started
    outcome, retained = _retain(lm, prompt, plans, soft, decoding, on_layer)
    reading = Reading(
        prompt=prompt,
        logits=outcome.logits,
        full_kv_bytes=outcome.full_kv_bytes,
        peak_rows=outcome.peak_rows,
        prefill_s=prepared_s + outcome.seconds,
        notices=_notices(prompt, budget, rows),
    )
    reading.writers.extend(Writer(lm, kept, reading, decoding) for kept in retained)
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
    if all(method.probe != "soft" for method in methods):
        return None
    if isinstance(tokens, SoftTokens):
        tokens.check(lm)
        return tokens
    return SoftTokens.for_model(lm, tokens)


def _retain(
    lm: LanguageModel,
    prompt: Prompt,
    plans: Sequence[Plan],
    soft: SoftTokens | None,
    decoding: Decoding,
    on_layer: LayerCallback | None,
) -> tuple[Prefill, list[Retained]]:
    """One pass for all plans, and a second look over the answer for those that need one."""
    late = [plan for plan in plans if plan.method.probe == "response"]
    early = [plan for plan in plans if plan.method.probe != "response"]
    if late:
        early.append(Plan(Full(), prompt.tokens))
    outcome = prefill(
        lm, prompt.input_ids, early, soft_tokens=soft.probe if soft else None, on_layer=on_layer
    )
    by_plan = dict(zip(map(id, early), outcome.retained, strict=True))
    if late:
        started = time.perf_counter()
        full = outcome.retained[-1].cache
        greedy = Decoding(max_new_tokens=decoding.max_new_tokens, stop=decoding.stop)
        response = [step.token for step in decode(lm, full.fork(), outcome.logits, greedy)]
        second = probe(lm, full.frozen(), torch.tensor([response]), late, on_layer=on_layer)
        for plan, kept in zip(late, second.retained, strict=True):
            kept.extra_s = time.perf_counter() - started
            by_plan[id(plan)] = kept
    return outcome, [by_plan[id(plan)] for plan in plans]


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
