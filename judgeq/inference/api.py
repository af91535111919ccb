"""The public functions: ask one question under a budget, stream it, ask many, or compare methods from one prefill."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgeq.cache.prefix import LayerCallback, PrefixCache
from judgeq.config import Budget, Decoding, budget_rows, check_budget, check_chunk
from judgeq.errors import InputError
from judgeq.inference.answers import Answer, Reading, Writer, generate_batch
from judgeq.inference.decode import Step
from judgeq.inference.decode_batch import check_together
from judgeq.inference.decode_eviction import DecodingEviction, check_rejudging
from judgeq.inference.lookahead import ToRead, positions_behind, prefill_many, retain
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import Prefill
from judgeq.inference.prefill_batch import gains
from judgeq.inference.request import make_plans, resolve_methods, resolve_soft_tokens
from judgeq.inference.spans import Span, forced_rows
from judgeq.methods import Full, Method
from judgeq.methods.selection import Forced
from judgeq.models.language_model import LanguageModel
from judgeq.models.rope import check_appended
from judgeq.prompts.prompt import FEWER_BEHIND, SHORTER_ANSWER, Prompt, build_prompt, dated, now
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.values import number, several

RowsOf = Callable[[Prompt, Sequence[Plan], int], PrefixCache | None]
"""Rows that were read before, for a prompt, its plans and the number of soft tokens behind it."""


def read(
    lm: LanguageModel,
    document: str,
    question: str,
    *,
    methods: str | Method | Iterable[str | Method] = ("full", "judgeq", "snapkv"),
    budget: Budget = 128,
    tokens: SoftTokens | str | Path | None = None,
    question_first: bool = False,
    answer_prefix: str = "",
    truncate: bool | None = False,
    pinned: Span | Iterable[Span] = (),
    dropped: Span | Iterable[Span] = (),
    row_bits: int | None = None,
    decoding: Decoding = Decoding(),
    chunk: int | None = None,
    rows_of: RowsOf | None = None,
    on_layer: LayerCallback | None = None,
) -> Reading:
    """Read document and question once and let each method keep its rows.

    Several questions about one document are asked in a fraction of the time with `Document`.

    Args:
        methods: one name or instance, or several; each serves one writer.
        budget: rows per KV head (int) or share of the prompt (float), for every method but `full`.
        tokens: soft tokens, or where to find them; None takes those shipped for this model.
        question_first: put the question before the document.
        answer_prefix: text that the answers must continue.
        truncate: cut the middle of a document that is too long instead of refusing it; None refuses it and does not
            advise to cut it.
        pinned, dropped: a span `(first, last)` of the document's characters, or several. Tokens that hold one of a
            pinned span stay in every layer and KV head, within the budget; those of dropped spans go, even where the
            budget covers all. `full`, which is the reference, and layers with a sliding window are left as they are.
        row_bits: store every method's rows in 8 or 4 bits; None leaves it to the method's `Selection.bits`.
        decoding: how answers are written, and whether rows are judged again meanwhile.
        chunk: most tokens of a pass over the prompt; None reads it in one. What is kept is the same.
        rows_of: gives rows that were read before; see `Document`, which does.
        on_layer: progress of the prefill, and a place to cancel.

    Raises:
        InputError: bad input, in one sentence.
    """
    started = time.perf_counter()
    chunk = check_chunk(chunk)
    chosen = resolve_methods(methods, row_bits)
    check_rejudging(_rejudged(chosen, decoding))
    soft = resolve_soft_tokens(lm, chosen, tokens)
    layout = {"question_first": question_first, "answer_prefix": answer_prefix, "truncate": truncate}
    asked = _asked(lm, document, question, chosen, budget, soft, decoding, layout, (pinned, dropped))
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
    seconds = prepared_s + outcome.seconds
    return _reading(lm, asked, outcome, seconds, decoding, soft.probe if soft else None)


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
    spans: tuple[Span | Iterable[Span], Span | Iterable[Span]] = ((), ()),
) -> _Asked:
    """`layout`: the options of `read` that say how the prompt is made; `spans`: those that stay, and those that go."""
    budget = check_budget(budget)
    n_soft, longest = soft.n if soft else 0, decoding.max_new_tokens
    rejudged = _rejudged(methods, decoding)
    if rejudged:
        longest += n_soft  # they stand behind the answer too
    reserve = positions_behind(methods, n_soft, longest)
    lower = SHORTER_ANSWER if reserve == longest else FEWER_BEHIND
    prompt = build_prompt(lm, document, question, reserve=reserve, lower=lower, **layout)
    if any(method.needs_soft_tokens for method in rejudged):
        check_appended(lm.model, lm.name, prompt.tokens + decoding.max_new_tokens, n_soft)
    forced = forced_rows(prompt, document, *spans)
    plans = make_plans(methods, budget, prompt.tokens, soft, forced)
    bound = budget if isinstance(budget, int) else budget_rows(budget, prompt.tokens)
    return _Asked(prompt, plans, bound, _notices(prompt, budget, forced))


def _reading(
    lm: LanguageModel,
    asked: _Asked,
    outcome: Prefill,
    prefill_s: float,
    decoding: Decoding,
    soft_tokens: SoftTokenTensors | None = None,
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
            again = DecodingEviction(lm, kept, asked.bound, decoding.rejudge_every, soft_tokens)
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
    return writer.finish()


def ask_many(
    lm: LanguageModel,
    questions: Iterable[tuple[str, str]],
    *,
    method: str | Method = "judgeq",
    budget: Budget | Iterable[Budget] = 128,
    tokens: SoftTokens | str | Path | None = None,
    row_bits: int | None = None,
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
        questions: pairs of a document and a question; or one pair.
        budget: one for all, or one for each question.
        row_bits: as in `read`; rows are rounded where they are kept, and read side by side as they come to then.
        padded: read prompts of similar length in one pass, the shorter ones padded on the left; None does so where it
            gains time: on a GPU, and for very short prompts.
        decoding: greedy, without `rejudge_every`.
        chunk: as in `read`; prompts are then read one by one.
        on_layer: progress of each pass over prompts, and a place to cancel.
        layout: `question_first`, `answer_prefix` and `truncate`, as in `read`.

    Raises:
        InputError: bad input, in one sentence.
    """
    started = time.perf_counter()
    check_together(decoding)
    pairs = _pairs(questions)
    budgets = several(budget)
    if number(budget) is not None or isinstance(budget, str):
        budgets *= len(pairs)
    if len(budgets) != len(pairs):
        raise InputError(
            f"There are {len(pairs)} questions and {len(budgets)} budgets: give one for each, or one for all"
        )
    chunk = check_chunk(chunk)
    chosen = resolve_methods([method], row_bits)
    soft = resolve_soft_tokens(lm, chosen, tokens)
    with dated(now()):  # one for all
        asked = [
            _asked(lm, *pair, chosen, own, soft, decoding, layout)
            for pair, own in zip(pairs, budgets, strict=True)
        ]
    if padded is None:
        padded = gains(lm, [each.prompt.tokens for each in asked])
    outcomes = prefill_many(
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
    return generate_batch(lm, [reading.writers[0] for reading in readings])


def _pairs(questions: Iterable[Iterable[str]]) -> list[tuple[str, str]]:
    """The pairs of `ask_many`, or the only one.

    Raises:
        InputError: something else among them.
    """
    found = several(questions)
    if len(found) == 2 and all(isinstance(each, str) for each in found):
        return [(found[0], found[1])]
    pairs = []
    for at, pair in enumerate(found):
        if len(parts := several(pair)) != 2:
            shown = repr(pair)
            raise InputError(
                f"Question {at + 1} of ask_many is {shown[:40]}{'…' * (len(shown) > 40)}: give a pair of a document "
                "and a question"
            )
        pairs.append((parts[0], parts[1]))
    return pairs


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


def _notices(prompt: Prompt, budget: Budget, forced: Forced) -> tuple[str, ...]:
    notices = []
    for rows, what in ((forced.pinned, "pinned and stay"), (forced.dropped, "dropped and go")):
        if rows:
            notices.append(
                f"{len(rows):,} tokens are {what}, in every layer and KV head; only the full cache is left as it is."
            )
    if prompt.cut_tokens:
        notices.append(
            f"The document was too long: {prompt.cut_tokens:,} tokens were cut out of its middle, where […] stands."
        )
    if isinstance(budget, int) and budget > prompt.tokens and not forced.dropped:
        notices.append(
            f"The budget of {budget:,} rows exceeds the prompt's {prompt.tokens:,} tokens: this is the full cache."
        )
    elif budget_rows(budget, prompt.tokens) == prompt.tokens and not forced.dropped:
        notices.append("The budget covers the whole prompt: this is the full cache.")
    return tuple(notices)
