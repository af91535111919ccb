"""Every question at every budget: a document is read once for its questions, a question once for all budgets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from judgeq.cache.prefix import LayerCallback
from judgeq.config import AUTO, CONFIDENCE, RISK, Budget, Decoding, budget_rows, check_budget
from judgeq.documents.document import Document
from judgeq.errors import InputError
from judgeq.evaluation.calibration.questions import CalibrationQuestion, pair
from judgeq.evaluation.calibration.result import Answered, Calibration, check_promise
from judgeq.evaluation.journal import Journal, Rated
from judgeq.evaluation.runner import Asked, asked_of
from judgeq.inference.answers import Reading
from judgeq.inference.decode_batch import PendingAnswer, decode_together, never_settled
from judgeq.inference.request import Request, make_plans, make_request, resolve_methods, resolve_soft_tokens
from judgeq.methods import Full, Method
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.values import several

BUDGETS: tuple[Budget, ...] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
FULL = Asked("full", Full(), 1.0)
TASK = "calibrate"

Reported = Callable[[int, int], None]
"""Called with the questions done and their number."""


def calibrate(
    lm: LanguageModel,
    documents: str | Sequence[str],
    questions: str | CalibrationQuestion | Iterable[str | CalibrationQuestion],
    *,
    risk: float = RISK,
    confidence: float = CONFIDENCE,
    budgets: Budget | Iterable[Budget] = BUDGETS,
    method: str | Method = AUTO,
    tokens: SoftTokens | str | Path | None = None,
    question_first: bool = False,
    max_new_tokens: int = 32,
    journal: Journal | None = None,
    progress: Reported = lambda done, total: None,
    on_layer: LayerCallback | None = None,
) -> Calibration:
    """The smallest budget at which the full cache's answer survives in at least `1 - risk` of such questions.

    An answer survives where the expected answer is found in it, or, where none is given, where it is the full cache's
    after normalisation (`judgeq.evaluation.metrics.normalised`). Questions whose expected answer the full cache itself
    does not find say nothing about a budget: they are set aside, and the promise is about the others.

    The statement is exact for any number of questions, and holds with the probability `confidence` over the choice of
    the questions: it is about questions of the same kind about documents of the same kind, each drawn independently.
    Budgets are tested from the largest down to the first that fails, which pays for choosing among them.

    Args:
        documents: one text for all questions, or the text of each; questions about one text should follow one another,
            since it is read once for them.
        questions: texts, or `CalibrationQuestion` where an answer is expected or begun.
        risk: largest share of questions whose answer may be lost, in (0, 1).
        confidence: how sure the statement is, in (0, 1).
        budgets: rows per KV head, or shares of the prompt, of one kind.
        method, tokens, question_first: as in `judgeq.ask`.
        max_new_tokens: longest answer in tokens.
        journal: what is known already, and where new answers go.
        progress: called with the questions done and their number.
        on_layer: progress of each reading, and a place to cancel; called on, with all layers done, for every token.

    Raises:
        InputError: bad input, in one sentence, before anything is read.
    """
    cases = pair(documents, questions)
    plan = CalibrationPlan.of(
        lm,
        cases,
        budgets=budgets,
        method=method,
        tokens=tokens,
        question_first=question_first,
        max_new_tokens=max_new_tokens,
        risk=risk,
        confidence=confidence,
    )
    answered = []
    for each in plan.answers(journal or Journal(None, {}), on_layer):
        answered.append(each)
        progress(len(answered), len(cases))
    return plan.conclude(answered)


@dataclass(frozen=True, eq=False)
class CalibrationPlan:
    """Everything that is asked, resolved and checked.

    Attributes:
        cases: each question with its document.
        asked: the method at each budget, the largest first.
        soft: soft tokens, where the method uses them.
    """

    lm: LanguageModel
    cases: Sequence[tuple[str, CalibrationQuestion]]
    asked: Sequence[Asked]
    soft: SoftTokens | None
    question_first: bool
    decoding: Decoding
    risk: float
    confidence: float

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        cases: Sequence[tuple[str, CalibrationQuestion]],
        *,
        budgets: Budget | Iterable[Budget] = BUDGETS,
        method: str | Method = AUTO,
        tokens: SoftTokens | str | Path | None = None,
        question_first: bool = False,
        max_new_tokens: int = 32,
        risk: float = RISK,
        confidence: float = CONFIDENCE,
    ) -> CalibrationPlan:
        """Arguments as in `calibrate`; refuses what cannot be asked, every prompt that is too long included."""
        check_promise(risk, confidence)
        wanted = _ordered(budgets)
        (chosen,) = resolve_methods(lm, [method], None, tokens)
        if isinstance(chosen, Full):
            raise InputError("The full cache loses nothing: name a method that evicts, such as judgeq")
        soft = resolve_soft_tokens(lm, [chosen], tokens)
        asked = asked_of({chosen.name: chosen}, wanted)
        plan = cls(lm, cases, asked, soft, question_first, Decoding(max_new_tokens=max_new_tokens), risk, confidence)
        for at, case in enumerate(cases, start=1):
            try:
                plan.request(*case)
            except InputError as error:
                raise InputError(f"Question {at:,}: {error}" if len(cases) > 1 else str(error)) from error
        return plan

    def request(self, document: str, question: CalibrationQuestion) -> Request:
        """A question, with a plan for the full cache and one for every budget."""
        method = self.asked[0].method
        request = make_request(
            self.lm,
            document,
            question.question,
            methods=[Full(), method],
            tokens=self.soft,
            question_first=self.question_first,
            answer_prefix=question.answer_prefix,
            truncate=None,
            decoding=self.decoding,
        )
        length = request.input_ids.shape[1]
        plans = [
            plan
            for each in self.asked
            for plan in make_plans([method], budget_rows(each.budget, length), length, self.soft)
        ]
        return replace(request, plans=[request.plans[0], *plans])

    def answers(self, journal: Journal, on_layer: LayerCallback | None = None) -> Iterator[Answered]:
        """The answers to one question after the other, those that the journal knows first of all from there.

        Raises:
            InputError: the journal has answers of this method with other options.
        """
        journal.check({each.name: each.made for each in self.asked})
        document: Document | None = None
        for text, question in self.cases:
            request, key = self.request(text, question), self.key(text, question)
            known = journal.answers(key)
            if not all(each.is_answered(known) for each in (FULL, *self.asked)):
                if document is None or document.text != text.strip():
                    document = Document(self.lm, text)
                reading = document.run(request, on_layer=on_layer)
                journal.add(key, TASK, self._write(reading, question, on_layer))
                known = journal.answers(key)
            tokens = request.input_ids.shape[1]
            yield Answered(
                question,
                tokens,
                known[FULL.name],
                tuple(known[each.name] for each in self.asked),
                tuple(plan.budget for plan in request.plans[1:]),
            )

    def conclude(self, answered: Sequence[Answered]) -> Calibration:
        """What the answers to all questions show.

        Raises:
            InputError: the full cache answers none of them as expected.
        """
        return Calibration.of(
            answered,
            [each.budget for each in self.asked],
            model=self.lm.name,
            method=self.asked[0].method.name,
            risk=self.risk,
            confidence=self.confidence,
        )

    def key(self, document: str, question: CalibrationQuestion) -> str:
        """Sixteen hex digits that change with everything that an answer depends on, but for model and method."""
        asked = [question.question, question.answer, question.answer_prefix]
        content = [document.strip(), *asked, self.question_first, self.decoding.max_new_tokens]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _write(
        self, reading: Reading, question: CalibrationQuestion, on_layer: LayerCallback | None
    ) -> dict[str, Rated]:
        """The answers from the rows of every budget, side by side; where all rows are kept, the full cache's."""
        layers, length = self.lm.geometry.layers, reading.prompt.tokens
        settled = question.is_found if question.answer else never_settled
        evicted = [kept for kept in reading.retained[1:] if kept.plan.budget < length]
        pending = [
            PendingAnswer(kept.cache, reading.logits, self.decoding, settled, until_circles=True)
            for kept in (reading.retained[0], *evicted)
        ]
        full, *written = decode_together(self.lm, pending, lambda: on_layer(layers, layers) if on_layer else None)
        texts = iter(each.text.strip() for each in written)
        answers = {}
        for each, kept in zip((FULL, *self.asked), reading.retained, strict=True):
            text = next(texts) if kept.plan.budget < length else full.text.strip()
            score = float(question.survives(full.text, text))
            answers[each.name] = Rated(text, score, kept.cache.kv_bytes, each.made)
        return answers


def _ordered(budgets: Budget | Iterable[Budget]) -> list[Budget]:
    """Each once, the largest first."""
    wanted = sorted({check_budget(budget) for budget in several(budgets)}, reverse=True)
    if not wanted:
        raise InputError("There are no budgets to test: name some, such as 0.1 and 0.2")
    if len({type(budget) for budget in wanted}) > 1:
        raise InputError(
            "Budgets are rows for some and shares for others, which have no order: give one kind, such as 0.1 and 0.2"
        )
    return wanted
