"""What programs can call: over HTTP with `gradio_client`, and as tools of the same names over MCP.

Arguments come from anywhere and of any type. An endpoint that uses the model is a generator: it reports progress every
second, so that a caller who disconnects is noticed and the run is stopped; its last value is the result.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from app.documents import StoredDocuments
from app.server.calibrate_run import CalibrationRun, CalibrationTask, read_questions
from app.server.host import ModelHost
from app.server.limits import check_method, whole_number
from app.server.run import Run, result
from app.server.task import Task
from app.style.toasts import errors_sent, sent
from judgeq.config import CONFIDENCE, DEFAULT_BUDGET, RISK, Budget, parse_budget
from judgeq.errors import InputError, JudgeqError
from judgeq.methods import METHODS, question_methods

TICK = 1.0
"""Seconds between two progress messages."""

MOST_BUDGETS = 20
"""Of one calibration."""

F = TypeVar("F", bound=Callable[..., Any])


def ends_with(kind: type) -> Callable[[F], F]:
    """Declare the type of a generator's last value, as the schema shows it, and name the methods in its docstring."""
    *names, last = question_methods()

    def mark(function: F) -> F:
        function.__annotations__["return"] = kind
        function.__doc__ = str(function.__doc__).replace("METHODS", f"{', '.join(names)} or {last}")
        return function

    return mark


@dataclass(frozen=True)
class Endpoints:
    """The endpoints, all over one model. Docstrings are what callers read."""

    host: ModelHost
    documents: StoredDocuments | None = None

    def add(self) -> None:
        """Add all of them to the page that is being built; those about a shared folder only where there is one."""
        waiting = {"concurrency_limit": None}  # the model's own queue is fair and reports positions
        stored = (self.ask_document,) if self.documents else ()
        for function in (self.ask, self.compare, self.retained, self.calibrate, *stored):
            gr.api(function, api_name=function.__name__, **waiting)
        listed = (self.list_documents,) if self.documents else ()
        for light in (self.count_tokens, self.models_and_methods, *listed):
            gr.api(light, api_name=light.__name__, concurrency_limit=2)

    @ends_with(dict)
    def ask(
        self,
        document: str,
        question: str,
        method: str = "judgeq",
        budget: int | float | str = str(DEFAULT_BUDGET),
        question_first: bool | str = False,
        max_new_tokens: int | str = 64,
        answer_prefix: str = "",
    ) -> Iterator[dict]:
        """Answer one question about a document with a KV cache that is cut to a budget.

        While it works, values such as {"status": "waiting", "place": 3} come; the last one is the answer.

        Args:
            document: the text to read.
            question: what to answer about it.
            method: METHODS.
            budget: rows per KV head such as 128, or the share of the prompt that is kept, such as 0.25 or "25%".
            question_first: put the question before the document.
            max_new_tokens: longest answer in tokens.
            answer_prefix: what every answer continues, such as "The tower is"; the "answer" is what comes after it.

        Returns:
            The answer with what was kept and what it cost, as `judgeq ask --json` prints it.
        """
        run = self._run(document, question, [method], budget, question_first, max_new_tokens, answer_prefix)
        yield from _followed(run)
        yield _results(run)[0]

    @ends_with(list)
    def compare(
        self,
        document: str,
        question: str,
        methods: str | list[str] = "full,judgeq,snapkv",
        budget: int | float | str = str(DEFAULT_BUDGET),
        question_first: bool | str = False,
        max_new_tokens: int | str = 64,
        answer_prefix: str = "",
    ) -> Iterator[list]:
        """Answer one question with several methods at one budget, from one reading of the document.

        While it works, values such as [{"status": "waiting", "place": 3}] come; the last one has the answers.

        Args:
            document: the text to read.
            question: what to answer about it.
            methods: names, in a list or separated by commas, each as `method` of ask takes it.
            budget: rows per KV head such as 128, or the share of the prompt that is kept, such as 0.25 or "25%".
            question_first: put the question before the document.
            max_new_tokens: longest answer in tokens.
            answer_prefix: what every answer continues, such as "The tower is"; the "answer" is what comes after it.

        Returns:
            One answer per method, in the order requested, each as `judgeq ask --json` prints it.
        """
        run = self._run(document, question, methods, budget, question_first, max_new_tokens, answer_prefix)
        for state in _followed(run):
            yield [state]
        yield _results(run)

    @ends_with(dict)
    def retained(
        self,
        document: str,
        question: str,
        method: str = "judgeq",
        budget: int | float | str = str(DEFAULT_BUDGET),
        question_first: bool | str = False,
    ) -> Iterator[dict]:
        """Which tokens of a prompt a method keeps at a budget, in each layer and KV head.

        While it works, values such as {"status": "waiting", "place": 3} come; the last one is the map.

        Args:
            document: the text to read.
            question: what is going to be asked about it.
            method: METHODS.
            budget: rows per KV head such as 128, or the share of the prompt that is kept, such as 0.25 or "25%".
            question_first: put the question before the document.

        Returns:
            The map as the library's `RetentionMap.from_json` reads it, with the kept rows as `kept[layer][head]`.
        """
        run = self._run(document, question, [method], budget, question_first, 1)
        yield from _followed(run)
        _results(run)
        yield run.retention[method].to_json()

    @ends_with(dict)
    def calibrate(
        self,
        document: str,
        questions: str | list[str],
        method: str = "judgeq",
        risk: float | str = RISK,
        confidence: float | str = CONFIDENCE,
        budgets: str | list = "2%,5%,10%,20%,40%,70%",
        question_first: bool | str = False,
        max_new_tokens: int | str = 32,
    ) -> Iterator[dict]:
        """The smallest budget at which enough of the full cache's answers survive, and how sure that is.

        While it works, values such as {"status": "writing", "place": 0} come; the last one is the result.

        Args:
            document: the text to read.
            questions: one on each line or in a list; "The tower was built in … => 1874" is a begun sentence with what a
                right answer contains.
            method: METHODS; full evicts nothing.
            risk: the largest share of questions whose answer may be lost.
            confidence: how sure the result has to be; both are between 0 and 1.
            budgets: in a list or separated by commas, all rows per KV head such as 128, or all shares such as "10%".
            question_first: put the question before the document.
            max_new_tokens: longest answer in tokens.

        Returns:
            The "budget" or null, a "sentence", the "points" of the curve with bounds, and the answers that were "lost",
            as `judgeq calibrate --json` prints it.
        """
        with errors_sent():
            task = CalibrationTask.of(
                document,
                read_questions(questions, self.host.limits),
                methods=(check_method(method),),
                risk=_share(risk, "risk"),
                confidence=_share(confidence, "confidence"),
                budgets=_budgets(budgets),
                question_first=_flag(question_first),
                max_new_tokens=_whole(max_new_tokens, "max_new_tokens"),
            )
            run = CalibrationRun(task, self.host)
            run.start()
        yield from _followed(run)
        if run.error is not None:
            raise sent(run.error)
        if run.found is None:
            raise sent(JudgeqError("The run was stopped: ask again"))
        yield run.found.to_dict()

    def list_documents(self) -> list:
        """The compressed documents that `ask_document` answers questions about, by their names."""
        assert self.documents is not None
        return self.documents.names

    @errors_sent()
    def ask_document(self, name: str, question: str, max_new_tokens: int | str = 64) -> dict:
        """Answer one question about a document that was compressed before and lies in the server's folder.

        Args:
            name: one of those that `list_documents` gives.
            question: what to answer about it.
            max_new_tokens: longest answer in tokens.

        Returns:
            The answer with what was kept and what it cost, as `judgeq ask --json` prints it.
        """
        assert self.documents is not None
        return self.documents.answer(name, question, _whole(max_new_tokens, "max_new_tokens"))

    @errors_sent()
    def count_tokens(self, document: str, question: str = "") -> dict:
        """How long the prompt with this document and question is for the model, in tokens.

        Args:
            document: the text to read.
            question: what is going to be asked about it.

        Returns:
            "tokens" of the prompt, the "limit" of the model, and whether it "fits" with the longest answer.
        """
        lm = self.host.model()
        if not isinstance(document, str) or not document.strip():
            raise InputError("The document is empty or not a text: give it as one string")
        tokens = self.host.count_all(document, question)
        limit = lm.geometry.max_positions
        return {"tokens": tokens, "limit": limit, "fits": tokens + self.host.limits.answer <= limit}

    @errors_sent()
    def models_and_methods(self) -> dict:
        """The model that answers here, the available methods, and the limits of one call.

        Returns:
            Its name and sizes, "methods" with one line on each, what a "budget" may be, and the "limits" of one call.
        """
        geometry, limits = self.host.model().geometry, self.host.limits
        return {
            "model": self.host.name,
            "positions": geometry.max_positions,
            "layers": geometry.layers,
            "kv_heads": geometry.kv_heads,
            "methods": {name: METHODS[name].summary or "A method of its own." for name in question_methods()},
            "budget": f"rows from 1 to {geometry.max_positions}, or a share above 0 and up to 1",
            "limits": {
                "max_new_tokens": limits.answer,
                "document_characters": limits.document,
                "question_characters": limits.question,
                "seconds": limits.seconds,
                "waiting": limits.waiting,
            },
        }

    @errors_sent()
    def _run(
        self,
        document: str,
        question: str,
        methods: object,
        budget: object,
        first: object,
        longest: object,
        answer_prefix: str = "",
    ) -> Run:
        """A run that has joined the queue; raises `gr.Error` if the arguments are invalid."""
        names = _names(methods)
        for name in names:
            check_method(name)
        task = Task(
            document,
            question,
            names,
            _budget(budget),
            _flag(first),
            truncate=None,  # not an argument here, so errors must not suggest it
            max_new_tokens=_whole(longest, "max_new_tokens"),
            answer_prefix=answer_prefix,
        )
        return Run(task, self.host).start()


# Language models send numbers as texts and texts as numbers, regardless of the schema.


def _names(value: object) -> tuple[Any, ...]:
    """Methods that a program sent, as a list or with commas."""
    if isinstance(value, str) and len(value) <= 400:
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, list) or len(value) > 40:
        raise InputError("The methods are neither a list nor a short text: give names separated by commas")
    if not value:
        raise InputError(f"No method is named: choose from {', '.join(question_methods())}")
    return tuple(value)


def _budget(value: object) -> Budget:
    """A budget that a program sent, as text or as a number; 128.0 is 128, since JSON knows one kind of number."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        whole = isinstance(value, float) and value > 1 and value.is_integer()
        written = str(int(value) if whole else value)
        if len(written) <= 40:
            return parse_budget(written)
    raise InputError(
        'The budget is neither a number nor a short text: give rows such as 128, or a share such as 0.25 or "25%"'
    )


def _budgets(value: object) -> tuple[Budget, ...]:
    """Budgets that a program sent, as a list or with commas."""
    if isinstance(value, str) and len(value) <= 400:
        value = [part for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not 0 < len(value) <= MOST_BUDGETS:
        raise InputError(
            f"The budgets are neither a list nor a short text: give up to {MOST_BUDGETS}, separated by commas"
        )
    return tuple(map(_budget, value))


def _share(value: object, what: str) -> float:
    """A share that a program sent, as text too."""
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool) and len(str(value)) <= 40:
            return float(value)
    except ValueError:
        pass
    raise InputError(f"{what} is not a number: give a share between 0 and 1, such as 0.1")


def _flag(value: Any) -> Any:
    """True and false that a program sent as text; anything else as it is."""
    return {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value


def _whole(value: object, what: str) -> int:
    """A whole number that a program sent, as text too."""
    written = isinstance(value, str) and re.fullmatch(r"\s*\+?[0-9]{1,9}\s*", value)
    return whole_number(int(value) if written else value, what)  # type: ignore[call-overload]


def _followed(run: Run) -> Iterator[dict]:
    """What a run does, until it ends; leaving this generator stops it."""
    try:
        while not run.finished.wait(TICK):
            yield {"status": run.phase, "place": run.place}
    finally:
        run.cancel()


@errors_sent()
def _results(run: Run) -> list[dict]:
    return result(run)
