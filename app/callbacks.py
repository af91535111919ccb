"""What happens on the page: values in, values out. Builds no component and holds no state of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import text
from app.cards import empty_cards, error_status, idle_status, loading_status, percent, run_cards, run_status
from app.pins import spans_of
from app.run import Run, Task, result
from app.samples import expected_answer, sample
from app.session import ModelHost
from judgeq.config import check_budget, parse_budget
from judgeq.documents import read_document
from judgeq.errors import InputError, JudgeqError

TICK = 0.3
"""Seconds between two looks at a run."""


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
        """What the budget comes to for this prompt: a sentence, and the share in percent."""
        tokens, problem = self._length(document, question, truncate)
        if problem:
            return problem, gr.skip()
        if not tokens:
            return text.COUNTING if self.host.ready is None else "", gr.skip()
        try:
            kept = min(budget_of(rows), tokens)
        except InputError as error:
            return str(error), gr.skip()
        return _share_line(kept, tokens), max(1, round(100 * kept / tokens))

    def rows_for(self, document: str, question: str, truncate: bool, share: float) -> tuple[Any, str]:
        """Rows for a share in percent, and the sentence; the other direction of `count`."""
        tokens, problem = self._length(document, question, truncate)
        if not tokens:
            return gr.skip(), problem or text.COUNTING
        kept = max(1, min(round(share / 100 * tokens), tokens))
        return kept, _share_line(kept, tokens)

    def begin(
        self,
        document: str,
        question: str,
        rows: float | None,
        methods: list[str],
        question_first: bool,
        max_new_tokens: float,
        truncate: bool,
        stay: str = "",
        go: str = "",
    ) -> tuple[Any, ...]:
        """A run for what the page shows, checked as far as it can be without the model, and the page before it starts.

        Returns:
            Run, status, cards, Ask, Stop, the map's placeholder, the map's panel.

        Raises:
            gr.Error: something is missing or means nothing.
        """
        try:
            task = _task(
                document, question, rows, methods, question_first, max_new_tokens, truncate, stay, go
            )
        except JudgeqError as error:
            raise _shown(error) from None
        run = Run(task, self.host)
        buttons = gr.update(interactive=False), gr.update(interactive=True)
        return (
            run,
            run_status(run),
            run_cards(run),
            *buttons,
            gr.update(visible=True),
            gr.update(visible=False),
        )

    def follow(self, run: Run) -> Iterator[tuple[Any, ...]]:
        """Start a run and look at it until it ends; leaving this generator stops the run.

        Yields:
            Status, cards, and what `_map_updates` lists, which is sent once.

        Raises:
            gr.Error: the run failed.
        """
        run.start()
        drawn = False
        try:
            while not run.finished.wait(TICK):
                news = not drawn and run.phase == "writing"
                drawn = drawn or news
                yield run_status(run), run_cards(run), *_map_updates(run, news)
            yield run_status(run), run_cards(run), *_map_updates(run, not drawn and bool(run.retention))
        finally:
            if not run.finished.is_set():
                run.cancel()
        if run.error is not None:
            raise _shown(run.error)

    def stop(self, run: Run | None) -> tuple[str, str]:
        """End a run and say how far it came."""
        if run is None:
            return idle_status(self.host.name), empty_cards(text.DEFAULT_METHODS)
        run.stop()
        return run_status(run), run_cards(run)

    def ask(
        self,
        document: str,
        question: str,
        method: str = "judgeq",
        budget: str = "128",
        question_first: bool = False,
        max_new_tokens: int = 64,
    ) -> dict:
        """Answer one question about a document with a KV cache that is cut to a budget.

        Args:
            document: the text to read.
            question: what to answer about it.
            method: full, judgeq, judgeq+draft, snapkv, pyramidkv, h2o, laq, keynorm, streamingllm, random or oracle.
            budget: rows per KV head such as "128", or the share of the prompt that is kept, such as "0.25" or "25%".
            question_first: put the question before the document.
            max_new_tokens: longest answer in tokens.

        Returns:
            The answer with what was kept and what it cost, as `judgeq ask --json` prints it.
        """
        return self._run(document, question, (method,), budget, question_first, max_new_tokens)[0]

    def compare(
        self,
        document: str,
        question: str,
        methods: str = "full,judgeq,snapkv",
        budget: str = "128",
        question_first: bool = False,
        max_new_tokens: int = 64,
    ) -> list:
        """Answer one question with several methods at one budget, from one reading of the document.

        Args:
            document: the text to read.
            question: what to answer about it.
            methods: names separated by commas, of those that `method` of /ask takes.
            budget: rows per KV head such as "128", or the share of the prompt that is kept, such as "0.25" or "25%".
            question_first: put the question before the document.
            max_new_tokens: longest answer in tokens.

        Returns:
            One answer a method, in the order asked for, each as `judgeq ask --json` prints it.
        """
        names = tuple(name.strip() for name in methods.split(",") if name.strip())
        return self._run(document, question, names, budget, question_first, max_new_tokens)

    def _run(
        self, document: str, question: str, methods: tuple[str, ...], budget: str, first: bool, longest: int
    ) -> list[dict[str, Any]]:
        try:
            task = Task(
                document, question, methods, parse_budget(str(budget)), first, max_new_tokens=int(longest)
            )
            run = Run(task, self.host).start()
            run.finished.wait()
            return result(run)
        except JudgeqError as error:
            raise _shown(error) from None

    def _length(self, document: str, question: str, truncate: bool) -> tuple[int, str]:
        """Tokens of the prompt, 0 = unknown, and why it cannot be read, if so."""
        try:
            return self.host.count_tokens(document or "", question or "", truncate), ""
        except InputError as error:
            return 0, str(error)


def choose_sample(name: str) -> tuple[str, str, int, bool]:
    """Document, question, rows and question-first of a sample."""
    chosen = sample(name)
    return chosen.document, chosen.question, chosen.budget, chosen.question_first


def read_upload(path: str) -> str:
    """The text of an uploaded file.

    Raises:
        gr.Error: it is empty, too large or not text.
    """
    try:
        return read_document(path)
    except JudgeqError as error:
        raise _shown(error) from None


def show_map(run: Run | None, method: str, layer: int) -> tuple[Any, Any]:
    """The marked document and the heatmap of one method; layer -1 = all. Nothing changes where there is no map."""
    found = run.retention.get(method) if run else None
    if found is None:
        return gr.skip(), gr.skip()
    return found.to_html(layer=layer if 0 <= layer < found.layers else None), found.to_figure()


def idle_buttons() -> tuple[Any, Any]:
    """Ask and Stop when nothing runs."""
    return gr.update(interactive=True), gr.update(interactive=False)


def close_run(run: Run | None) -> None:
    """Let go of a visitor's run when the page is gone or has been idle for long."""
    if run is not None:
        run.cancel()


def budget_of(rows: float | None) -> int:
    """Rows as typed on the page.

    Raises:
        InputError: empty, not a number, or below 1.
    """
    if rows is None or not math.isfinite(rows):
        raise InputError(text.NO_BUDGET)
    return int(check_budget(int(rows)))


def _task(
    document: str,
    question: str,
    rows: float | None,
    methods: list[str],
    question_first: bool,
    max_new_tokens: float,
    truncate: bool,
    stay: str,
    go: str,
) -> Task:
    for name, value in (("document", document), ("question", question)):
        if not (value or "").strip():
            raise InputError(text.EMPTY[name])
    if not methods:
        raise InputError(text.NO_METHOD)
    document = document.strip()  # spans then count alike here, in `Document` and in a map
    return Task(
        document,
        question,
        methods=tuple(name for name in text.METHODS if name in methods),
        budget=budget_of(rows),
        question_first=question_first,
        truncate=truncate,
        max_new_tokens=int(max_new_tokens),
        expected=expected_answer(document, question),
        pinned=spans_of(document, stay),
        dropped=spans_of(document, go),
    )


def _map_updates(run: Run, news: bool) -> tuple[Any, ...]:
    """Placeholder, panel, method choice, layer choice, document and heatmap; nothing changes without news."""
    maps = run.retention
    if not news or not maps:
        return (gr.skip(),) * 6
    method = "judgeq" if "judgeq" in maps else next(reversed(maps))
    layers = [
        (text.ALL_LAYERS, -1),
        *((text.LAYER.format(layer=layer), layer) for layer in range(maps[method].layers)),
    ]
    return (
        gr.update(visible=False),
        gr.update(visible=True),
        gr.update(choices=[(text.title(name), name) for name in maps], value=method),
        gr.update(choices=layers, value=-1),
        *show_map(run, method, -1),
    )


def _share_line(kept: int, tokens: int) -> str:
    if kept >= tokens:
        return text.WHOLE.format(tokens=tokens)
    return text.SHARE_OF.format(share=percent(kept / tokens), tokens=tokens)


def _shown(error: JudgeqError) -> gr.Error:
    """An error as the page shows it."""
    return gr.Error(str(error), duration=15, print_exception=False)
