"""Answers of many methods at many budgets: one prefill a question, the answers to a few questions side by side.

Questions are taken from every task in turn, so that a run that ends early has measured all tasks alike. What is done
is in the journal, from which a later run continues. Processes that share a run deal out the same batches that one
process would have: what is written does not depend on their number.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from torch import Tensor

from judgeq.config import Budget, Decoding, budget_rows, check_budget
from judgeq.documents.compressed import check_without_question, compress
from judgeq.errors import InputError
from judgeq.evaluation.journal import Answers, Journal, Rated
from judgeq.evaluation.questions import Question, Task
from judgeq.inference.appended import most_appended
from judgeq.inference.decode_batch import PendingAnswer, decode_together, settled_text
from judgeq.inference.lookahead import prefill_many
from judgeq.inference.maps import kept_of_heads
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.request import Request, check_question_known, reserved_positions
from judgeq.methods import Full, Method
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.prompts.prompt import build_prefix
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.training.workers import Workers
from judgeq.values import several

TOGETHER = 4
"""Questions whose answers are written side by side: a step for many costs little more than for a few."""
TOGETHER_BYTES = 2_000_000_000
"""Rows of so many bytes are not added to: large budgets of long prompts would fill the memory."""
WHOLE = 1.0
"""The budget of the full cache, regardless of the requested one."""


@dataclass(frozen=True)
class Asked:
    """One method at one budget.

    Attributes:
        label: what a person called the method, options included.
        budget: as asked for; `WHOLE` for the full cache.
    """

    label: str
    method: Method
    budget: Budget

    @property
    def name(self) -> str:
        """Unique in a run: `"judgeq@64"`."""
        return f"{self.label}@{self.budget}"

    @property
    def made(self) -> str:
        """Eight hex digits that identify the method with all its options, regardless of its name."""
        about = f"{type(self.method).version}:{self.method!r}".replace("unit='row', ", "")  # as before there was one
        return hashlib.sha256(about.encode()).hexdigest()[:8]

    def is_answered(self, known: Answers) -> bool:
        """Whether its answer is among them; one that says nothing of its method is of the first version of it."""
        rated = known.get(self.name)
        return rated is not None and (rated.made == self.made or (not rated.made and self.method.version == 1))


def asked_of(methods: Mapping[str, Method], budgets: Budget | Iterable[Budget]) -> list[Asked]:
    """Every method at every budget, or at the only one, and the full cache once."""
    wanted = [check_budget(budget) for budget in several(budgets)]
    return [
        Asked(label, method, budget)
        for label, method in methods.items()
        for budget in ([WHOLE] if isinstance(method, Full) else wanted)
    ]


@dataclass
class Measured:
    """Answers to the questions of one task, as far as they are written.

    Attributes:
        questions: those that the model can read, by their place in the task.
        answers: to those that were asked, by the same places.
    """

    __repr__ = brief

    task: Task
    questions: dict[int, Question] = field(default_factory=dict)
    answers: dict[int, Answers] = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        """Questions whose prompts are too long for the model."""
        return len(self.task.questions) - len(self.questions)


def run(
    lm: LanguageModel,
    tasks: Sequence[Task],
    asked: Sequence[Asked],
    *,
    tokens: SoftTokens | None,
    journal: Journal,
    workers: Workers | None = None,
    skip_long: bool = False,
    seconds: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Measured]:
    """Let every method answer every question at every budget.

    Args:
        tokens: soft tokens and their profile, where a method needs them.
        journal: what is known already, and where new answers go; of several processes see `shared.open_journal`.
        workers: the processes that share the questions, which all call this; the first one gets all answers.
        skip_long: leave out, and count, prompts that are too long, instead of refusing them.
        seconds: ask nothing new after this time; what the journal knows counts. None has no limit.
        progress: called with the questions done and their number, of this process.

    Returns:
        One entry a task. After an early stop some questions of it are not answered yet.

    Raises:
        InputError: a question that cannot be rated, a prompt that is too long, or a journal with answers of a method
            with other options.
    """
    started = time.monotonic()
    methods = [each.method for each in asked]
    unknown = {question.unknown is not None for task in tasks for question in task.questions}
    if True in unknown:
        check_without_question(methods)
    if False in unknown:
        check_question_known(methods)
    reserve = reserved_positions(methods, most_appended(lm, methods, tokens.positions if tokens else 0), 0)
    found = [_readable(lm, task, reserve, skip_long) for task in tasks]
    turns = sorted((at, number) for number, measured in enumerate(found) for at in measured.questions)
    journal.check({each.name: each.made for each in asked})
    batches = [turns[start : start + TOGETHER] for start in range(0, len(turns), TOGETHER)]
    if workers is not None:
        batches = [batch for number, batch in enumerate(batches) if workers.has(number)]
    asking, done, in_time = sum(map(len, batches)), 0, True
    for batch in batches:
        questions = [found[number].questions[at] for at, number in batch]
        missing = [
            [each for each in asked if not each.is_answered(journal.answers(question.key))] for question in questions
        ]
        in_time = in_time and (seconds is None or time.monotonic() - started <= seconds)
        if any(missing) and in_time:
            answers = answer_all(lm, questions, missing, tokens)
            for (_, number), question, new in zip(batch, questions, answers, strict=True):
                journal.add(question.key, found[number].task.label, new)
        done += sum(_is_done(question, asked, journal) for question in questions)
        progress(done, asking)
    if workers is not None:
        workers.wait()
        if workers.rank == 0:
            journal.merge(workers.count)
    for at, number in turns:
        question = found[number].questions[at]
        if _is_done(question, asked, journal):
            found[number].answers[at] = journal.answers(question.key)
    return found


def _is_done(question: Question, asked: Sequence[Asked], journal: Journal) -> bool:
    known = journal.answers(question.key)
    return all(each.is_answered(known) for each in asked)


def answer_all(
    lm: LanguageModel,
    questions: Sequence[Question],
    asked: Sequence[Sequence[Asked]],
    tokens: SoftTokens | None,
) -> list[Answers]:
    """The answers to some questions: one prefill each, all answers written side by side.

    Args:
        asked: of each question; a budget that exceeds the prompt keeps all of it.
        tokens: soft tokens and their profile, where a method needs them.
    """
    reading = [
        _to_read(lm, question, methods, tokens)
        for question, methods in zip(questions, asked, strict=True)
        if methods and question.unknown is None
    ]
    outcomes = iter(prefill_many(reading))
    rated: list[Answers] = [{} for _ in questions]
    waiting: list[tuple[PendingAnswer, Callable[[str], None]]] = []

    def write() -> None:
        written = decode_together(lm, [answer for answer, _ in waiting]) if waiting else []
        for (_, rate), done in zip(waiting, written, strict=True):
            rate(done.text)
        waiting.clear()

    for question, methods, answers in zip(questions, asked, rated, strict=True):
        if not methods:
            continue
        response = None
        if question.unknown is not None:
            found = _compressed(lm, question, question.unknown, methods, tokens)
        else:
            outcome = next(outcomes)
            response = outcome.response
            found = [(kept, outcome.logits) for kept in outcome.retained]
        length, words = question.input_ids(lm).shape[1], question.occurrences(lm)
        for each, (kept, logits) in zip(methods, found, strict=True):
            lost = words.lost(_kept_somewhere(kept, length)).share
            rate: Callable[[str], None] = partial(_rate, answers, question, each, kept.cache.kv_bytes, lost)
            answer = PendingAnswer(kept.cache, logits, _greedy(question), question.settled, until_circles=True)
            if response is not None and each.method == Full():  # the oracle had it written
                rate(settled_text(lm, response[0].tolist(), answer))
            else:
                waiting.append((answer, rate))
            if sum(answer.cache.kv_bytes for answer, _ in waiting) > TOGETHER_BYTES:
                write()
    write()
    return [{each.name: answers[each.name] for each in methods} for methods, answers in zip(asked, rated, strict=True)]


def _rate(answers: Answers, question: Question, asked: Asked, kv_bytes: int, lost: float | None, text: str) -> None:
    answers[asked.name] = Rated(text, question.score(text), kv_bytes, asked.made, lost)


def _compressed(
    lm: LanguageModel,
    question: Question,
    parts: tuple[str, str],
    asked: Sequence[Asked],
    tokens: SoftTokens | None,
) -> list[tuple[Retained, Tensor]]:
    """What each method keeps of a document without its question, and of the question; and the logits (1, V) after it.

    Budgets are shares of the document, or its rows.
    """
    document = build_prefix(lm, parts[0])
    plans = [Plan.without_question(each.method, budget_rows(each.budget, document.tokens), tokens) for each in asked]
    found = []
    for compressed in compress(lm, document, plans, tokens.weights if tokens else None):
        reading = compressed.read_for(
            parts[1], answer_prefix=question.example.answer_prefix, decoding=_greedy(question)
        )
        found.append((reading.retained[0], reading.logits))
    return found


def _kept_somewhere(retained: Retained, tokens: int) -> np.ndarray:
    """(T,) bool: the prompt's tokens that at least one head of a layer keeps."""
    kept = np.zeros(tokens, dtype=bool)
    for layer in kept_of_heads(retained, tokens):
        for rows in layer:
            kept[rows] = True
    return kept


def _to_read(lm: LanguageModel, question: Question, asked: Sequence[Asked], tokens: SoftTokens | None) -> Request:
    ids = question.input_ids(lm)
    plans = [Plan.with_tokens(each.method, budget_rows(each.budget, ids.shape[1]), tokens) for each in asked]
    return Request(lm, ids, plans, _greedy(question), tokens.weights if tokens else None)


def _greedy(question: Question) -> Decoding:
    return Decoding(max_new_tokens=question.max_new_tokens, stop=question.stop)


def _readable(lm: LanguageModel, task: Task, reserve: int, skip_long: bool) -> Measured:
    """The questions of a task that the model can read; checked before any work on the first of them."""
    measured = Measured(task)
    for at, question in enumerate(task.questions):
        question.score("")  # what cannot be rated is refused, however long it is
        try:
            question.input_ids(lm, reserve)
        except InputError:
            if not skip_long:
                raise
        else:
            measured.questions[at] = question
    return measured
