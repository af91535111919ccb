"""The public functions: ask one question under a budget, stream it, ask many, or compare methods from one prefill."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from judgeq.cache.prefix import LayerCallback, PrefixCache
from judgeq.config import AUTO, DEFAULT_BUDGET, Budget, Decoding
from judgeq.errors import InputError
from judgeq.inference.answers import Answer, Reading, Writer, generate_batch
from judgeq.inference.attending import WhatAttends
from judgeq.inference.decode import Step
from judgeq.inference.decode_batch import check_together
from judgeq.inference.lookahead import prefill_many, prefill_with_lookahead
from judgeq.inference.prefill_batch import gains
from judgeq.inference.request import Request, make_request, resolve_methods, resolve_soft_tokens
from judgeq.inference.spans import Span
from judgeq.methods import Method
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import dated, now
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.values import number, several


def ask(lm: LanguageModel, document: str, question: str, *, method: str | Method = AUTO, **options: Any) -> Answer:
    """Answer one question about a document under a budget.

    Args:
        method: a name, with options such as `"snapkv:window=16"`, or an instance; `"auto"` as in `read`.
        options: those of `read` but `methods`; `budget` above all: rows per KV head, or the share of the prompt kept.

    Raises:
        InputError: bad input, in one sentence.
    """
    (writer,) = read(lm, document, question, methods=[method], **options).writers
    return writer.finish()


def stream(
    lm: LanguageModel, document: str, question: str, *, method: str | Method = AUTO, **options: Any
) -> Generator[Step, None, Answer]:
    """Answer token by token; the generator returns the `Answer`. Arguments and errors as in `ask`."""
    (writer,) = read(lm, document, question, methods=[method], **options).writers
    yield from writer
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


def read(
    lm: LanguageModel,
    document: str,
    question: str,
    *,
    methods: str | Method | Iterable[str | Method] = ("full", AUTO, "snapkv"),
    budget: Budget = DEFAULT_BUDGET,
    tokens: SoftTokens | str | Path | None = None,
    question_first: bool = False,
    answer_prefix: str = "",
    truncate: bool | None = False,
    pinned: Span | Iterable[Span] = (),
    dropped: Span | Iterable[Span] = (),
    row_bits: int | None = None,
    decoding: Decoding = Decoding(),
    chunk: int | None = None,
    attended: WhatAttends = False,
    on_layer: LayerCallback | None = None,
) -> Reading:
    """Read document and question once and let each method keep its rows.

    For several questions about one document, `Document` takes a fraction of the time.

    Args:
        methods: one or several, each a name, with options such as `"snapkv:window=16"`, or an instance; each has one
            writer. `"auto"` is `judgeq`, or `stockanswer` where no soft tokens are given and none are shipped for this
            model; a notice says so.
        budget: rows per KV head (int) or share of the prompt (float), for every method but `full`.
        tokens: soft tokens, or where to find them; None takes those shipped for this model.
        question_first: put the question before the document.
        answer_prefix: text that the answers must continue.
        truncate: cut the middle of a document that is too long instead of refusing it; None refuses it and does not
            advise to cut it.
        pinned, dropped: a span `(first, last)` of the document's characters, or several. Tokens with a character of a
            pinned span are kept in every layer and KV head, within the budget; those of dropped spans are evicted, even
            where the budget covers all. `full`, the reference, and layers with a sliding window ignore both.
        row_bits: store every method's rows in 8 or 4 bits; None leaves it to the method's `Selection.bits`.
        decoding: how answers are written, and whether rows are evicted meanwhile.
        chunk: most tokens of a pass over the prompt; None reads it in one. What is kept is the same.
        attended: record which of the stored rows each token of an answer attends to, as `Answer.attended`: the mean
            over all layers and query heads, or of those in `(layer, head)`, such as `(12, 3)`, with None for all;
            `"layers"` records each layer apart, too, and `"heads"` each query head, see `Attended.of_layer`.
        on_layer: progress of the prefill, and a place to cancel.

    Raises:
        InputError: bad input, in one sentence.
    """
    request = make_request(
        lm,
        document,
        question,
        methods=methods,
        budget=budget,
        tokens=tokens,
        question_first=question_first,
        answer_prefix=answer_prefix,
        truncate=truncate,
        pinned=pinned,
        dropped=dropped,
        row_bits=row_bits,
        decoding=decoding,
        chunk=chunk,
        attended=attended,
    )
    return run(request, on_layer=on_layer)


def run(request: Request, *, prefix: PrefixCache | None = None, on_layer: LayerCallback | None = None) -> Reading:
    """Read the prompt of a request and let each method keep its rows.

    Args:
        request: see `judgeq.inference.request.make_request`.
        prefix: rows of tokens that were read before, see `judgeq.inference.prefill.prefill`.
        on_layer: progress of the prefill, and a place to cancel.
    """
    return Reading.of(prefill_with_lookahead(request, prefix=prefix, on_layer=on_layer))


def ask_many(
    lm: LanguageModel,
    questions: Iterable[tuple[str, str]],
    *,
    method: str | Method = AUTO,
    budget: Budget | Iterable[Budget] = DEFAULT_BUDGET,
    tokens: SoftTokens | str | Path | None = None,
    row_bits: int | None = None,
    padded: bool | None = None,
    decoding: Decoding = Decoding(),
    chunk: int | None = None,
    on_layer: LayerCallback | None = None,
    **layout: Any,
) -> list[Answer]:
    """Answer many questions side by side: one pass of the model writes a token of every answer.

    The answers are those of `ask`, up to rounding. Their times are those of all: every answer waits until all prompts
    are read.

    Args:
        questions: pairs of a document and a question; or one pair.
        method, tokens: as in `ask`.
        budget: one for all, or one for each question.
        row_bits: as in `read`; rows are rounded when they are kept, and stored in full precision side by side.
        padded: read prompts of similar length in one pass, the shorter ones padded on the left; None does so where it
            saves time: on a GPU, and for very short prompts.
        decoding: greedy, without `evict_every`.
        chunk: as in `read`; prompts are then read one by one.
        on_layer: progress of each pass over prompts, and a place to cancel.
        layout: `question_first`, `answer_prefix` and `truncate`, as in `read`.

    Raises:
        InputError: bad input, in one sentence.
    """
    if layout.pop("attended", False):
        raise InputError(
            "What answers attend to is not recorded where they are written side by side: leave attended out, or call "
            "ask for each question"
        )
    check_together(decoding)
    pairs = _pairs(questions)
    budgets = several(budget)
    if number(budget) is not None or isinstance(budget, str):
        budgets *= len(pairs)
    if len(budgets) != len(pairs):
        raise InputError(
            f"There are {len(pairs)} questions and {len(budgets)} budgets: give one for each, or one for all"
        )
    started = time.perf_counter()
    soft = resolve_soft_tokens(lm, resolve_methods(lm, [method], row_bits, tokens), tokens)
    options = {"methods": [method], "tokens": soft, "row_bits": row_bits, "chunk": chunk, **layout}
    with dated(now()):  # one for all
        requests = [
            make_request(lm, *pair, budget=own, decoding=decoding, **options)
            for pair, own in zip(pairs, budgets, strict=True)
        ]
    if padded is None:
        padded = gains(lm, [request.input_ids.shape[1] for request in requests])
    outcomes = prefill_many(requests, padded=padded, on_layer=on_layer)
    finished = time.perf_counter()
    for each in outcomes:  # every answer waits for all prompts
        each.request, each.finished = replace(each.request, started=started), finished
    return generate_batch([Reading.of(each) for each in outcomes])


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
