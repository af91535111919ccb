"""The callbacks of the page: values in, values out. Builds no component and keeps no state of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import text
from app.sections.ask.cards import (
    empty_cards,
    error_status,
    idle_status,
    loading_status,
    percent,
    run_cards,
    run_status,
)
from app.sections.kept.callbacks import FIELDS, map_updates
from app.server.host import ModelHost
from app.server.limits import whole_number
from app.server.pins import spans_of
from app.server.run import Run
from app.server.samples import expected_answer, sample
from app.server.stored_answers import stored_run
from app.server.task import Task
from app.style.toasts import shown
from judgeq.config import check_budget, check_text
from judgeq.errors import InputError, JudgeqError
from judgeq.look.format import size
from judgeq.methods import METHODS, JudgeQ, StockAnswer
from judgeq.prompts.answer_start import propose_answer_prefix

TICK = 0.3
"""Seconds between two updates of the page."""


@dataclass(frozen=True)
class Callbacks:
    """The page's reactions, all over one model."""

    host: ModelHost

    def watch_loading(self) -> Iterator[str]:
        """The status line until the model is ready, or cannot be."""
        self.host.start()
        while not self.host.wait(0.3):
            yield loading_status(*self.host.progress)
        yield error_status(str(self.host.error)) if self.host.error else idle_status(self.host.name)

    def count(self, document: str, question: str, truncate: bool, rows: float | None) -> tuple[str, Any]:
        """The budget for this prompt: a sentence, and the share in percent."""
        tokens, problem = self._length(document, question, truncate)
        if problem:
            return problem, gr.skip()
        if not tokens:
            return text.COUNTING if self.host.ready is None else "", gr.skip()
        try:
            kept = min(budget_of(rows), tokens)
        except InputError as error:
            return str(error), gr.skip()
        return self._share_line(kept, tokens), max(1, round(100 * kept / tokens))

    def rows_for(self, document: str, question: str, truncate: bool, share: float) -> tuple[Any, str]:
        """Rows for a share in percent, and the sentence; the other direction of `count`."""
        tokens, problem = self._length(document, question, truncate)
        if not tokens or not math.isfinite(share):
            return gr.skip(), problem or text.COUNTING
        kept = max(1, min(round(share / 100 * tokens), tokens))
        return kept, self._share_line(kept, tokens)

    def open(self) -> tuple[Any, ...]:
        """What a page shows before anything was asked: the sample's stored answers, if they are this model's.

        Returns:
            Run, cards, and what `map_updates` lists.
        """
        run = stored_run(self.host)
        if run is None:
            return None, empty_cards(text.DEFAULT_METHODS), *((gr.skip(),) * FIELDS)
        return run, run_cards(run), *map_updates(run, True)

    def stand_in(self, *pickers: list[str] | str) -> list[Any]:
        """Pickers of one or several methods, with the stock answer for Judge Q where the model has no soft tokens.

        Judge Q takes its place again where it has some.
        """
        away, here, told = StockAnswer.name, JudgeQ.name, None
        if self.host.lacks_soft_tokens:
            away, here, told = here, away, text.STANDS_IN.format(model=self.host.name)
        found = []
        for chosen in pickers:
            names = [chosen] if isinstance(chosen, str) else chosen
            if told or here not in names:
                names = list(dict.fromkeys(here if name == away else name for name in names))
            found.append(gr.update(value=names[0] if isinstance(chosen, str) else names, info=told))
        return found

    def begin(
        self,
        document: str,
        question: str,
        rows: float | None,
        methods: list[str],
        question_first: bool,
        max_new_tokens: float,
        truncate: bool,
        previous: Run | None = None,
        own: str | None = None,
        pinned: str = "",
        dropped: str = "",
        answer_prefix: str = "",
        propose: bool = False,
        proposed_for: str | None = None,
    ) -> tuple[Any, ...]:
        """A run for what the page shows, checked as far as it can be without the model, and the page before it starts.

        Args:
            own: key of the visitor's own soft tokens.
            pinned, dropped: pieces of the document that must be kept and evicted, one per line.
            answer_prefix: what all answers continue.
            propose: take what another question than `proposed_for` proposes instead, see `propose_prefix`.

        Returns:
            Run, status, cards, Ask, Ask again, Stop, the map's placeholder, the map's panel.

        Raises:
            gr.Error: something is missing or invalid, or this visitor's `previous` run has not ended.
        """
        if previous is not None and previous.busy:  # one visitor, one place in the queue
            raise shown(InputError(text.BUSY))
        try:
            check_filled(document, question)
            if not methods:
                raise InputError(text.NO_METHOD)
            if propose is True and question != proposed_for:  # asked before the page has shown it
                answer_prefix = propose_answer_prefix(question)
            document = document.strip()  # spans then count alike here, in `Document` and in a map
            task = Task(
                document,
                question,
                methods=tuple(name for name in METHODS if name in methods),
                budget=budget_of(rows),
                question_first=question_first,
                truncate=truncate,
                max_new_tokens=whole_number(max_new_tokens, text.LENGTH),
                expected=expected_answer(document, question),
                pinned=spans_of(document, pinned),
                dropped=spans_of(document, dropped),
                own_tokens=self.host.shelf.find(own),
                answer_prefix=answer_prefix.strip() if isinstance(answer_prefix, str) else answer_prefix,
            )
            run = Run(task, self.host, previous, keep=True).look()
        except JudgeqError as error:
            raise shown(error) from None
        buttons = gr.update(interactive=False), gr.update(interactive=False), gr.update(interactive=True)
        return (
            run,
            run_status(run),
            run_cards(run),
            *buttons,
            gr.update(visible=True),
            gr.update(visible=False),
        )

    def follow(self, run: Run | None) -> Iterator[tuple[Any, ...]]:
        """Start a run and report it until it ends; leaving this generator stops the run.

        Yields:
            Status, cards, and what `map_updates` lists, which is sent once.

        Raises:
            gr.Error: the run failed.
        """
        if run is None:
            raise shown(InputError(text.NO_RUN))
        try:
            run.start()
        except JudgeqError as error:
            raise shown(error) from None
        drawn = False
        try:
            while not run.finished.wait(TICK):
                news = not drawn and run.phase == "writing"
                drawn = drawn or news
                yield run_status(run), run_cards(run), *map_updates(run, news)
            yield run_status(run), run_cards(run), *map_updates(run, not drawn and bool(run.retention))
        finally:
            if not run.finished.is_set():
                run.cancel()
        if run.error is not None:
            raise shown(run.error)

    def stop(self, run: Run | None) -> tuple[str, str]:
        """Stop a run and show how far it got."""
        if run is None:
            return idle_status(self.host.name), empty_cards(text.DEFAULT_METHODS)
        run.stop()
        return run_status(run), run_cards(run)

    def _share_line(self, kept: int, tokens: int) -> str:
        memory = size(self.host.kept_bytes(tokens, kept))
        if kept >= tokens:
            return text.WHOLE.format(tokens=tokens, memory=memory)
        return text.SHARE_OF.format(share=percent(kept / tokens), tokens=tokens, memory=memory)

    def _length(self, document: str, question: str, truncate: bool) -> tuple[int, str]:
        """Tokens of the prompt, 0 = unknown, and a word if it cannot be read; `length_line` says why."""
        try:
            return self.host.count_tokens(document or "", question or "", truncate), ""
        except InputError:
            return 0, text.NO_SHARE


def light_layer(run: Run | None, layer: int) -> Any:
    """The cards of a run that has ended, with what one layer alone attends to; -1 = all.

    Raises:
        gr.Error: the run was evicted to make room for others.
    """
    if run is None or not run.finished.is_set() or not run.retention:
        return gr.skip()
    layers = next(iter(run.retention.values())).layers
    chosen = layer if type(layer) is int and layer in range(layers) else None
    if chosen == run.layer:
        return gr.skip()
    try:
        run.look().light(chosen)
    except JudgeqError as error:
        raise shown(error) from None
    return run_cards(run)


def choose_sample(name: str) -> tuple[Any, ...]:
    """Document, question, rows, question-first and answer prefix of a sample, and its question once more.

    The last value is the sample's own field, with what to look at.
    """
    chosen = sample(name)
    asked = chosen.question, chosen.budget, chosen.question_first, chosen.answer_prefix, chosen.question
    return chosen.document, *asked, gr.update(info=chosen.look)


def propose_prefix(
    question: str | None, propose: bool, proposed_for: str | None, prefix: str | None
) -> tuple[Any, Any]:
    """How the answers to another question than `proposed_for` are to begin, and that question.

    Without `propose` nothing changes.
    """
    question = question or ""
    if propose is not True or question == proposed_for:
        return gr.skip(), gr.skip()
    try:
        found = propose_answer_prefix(question)
    except InputError:
        found = ""
    return gr.skip() if found == prefix else found, question


def switch_proposals(question: str | None, propose: bool) -> tuple[Any, Any]:
    """The answer prefix and its question when proposals are switched: a fresh one, or none."""
    return propose_prefix(question, propose, None, None) if propose is True else ("", question)


def take_over(question: str) -> tuple[str, str]:
    """A further question moves into the question's own field, and out of the one it was typed in.

    Raises:
        gr.Error: it is empty, or text that cannot be read.
    """
    try:
        if not check_text("question", question or "").strip():
            raise InputError(text.EMPTY["question"])
    except InputError as error:
        raise shown(error) from None
    return question, ""


def idle_buttons() -> tuple[Any, Any, Any]:
    """Ask, Ask again and Stop when nothing runs."""
    return gr.update(interactive=True), gr.update(interactive=True), gr.update(interactive=False)


def close_run(run: Run | None) -> None:
    """Stop a visitor's run when the page is closed or was idle for long."""
    if run is not None:
        run.close()


def budget_of(rows: float | None) -> int:
    """Rows as typed on the page.

    Raises:
        InputError: empty, not a number, or below 1.
    """
    if not isinstance(rows, int | float) or not math.isfinite(rows):
        raise InputError(text.NO_BUDGET)
    return int(check_budget(int(rows)))


def check_filled(document: str | None, question: str | None) -> None:
    """Raise an `InputError` that names the field, if one has no text."""
    for name, value in (("document", document), ("question", question)):
        if not check_text(name, value or "").strip():
            raise InputError(text.EMPTY[name])
