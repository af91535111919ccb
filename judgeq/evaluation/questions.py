"""Questions and how their answers are scored: the data types shared by benchmarks, the runner and the results.

Knows nothing of methods, budgets or how answers are written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from judgeq.data.example import Example
from judgeq.data.jsonl import SKIP_HINT, JsonLine
from judgeq.errors import InputError
from judgeq.evaluation.metrics import score
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.prompts.prompt import chat_characters
from judgeq.retention.lost import Occurrences
from judgeq.values import settle

LONGEST = 24
"""Longest answer in tokens, by default."""
FOUND_ONCE = frozenset({"all", "any", "ruler", "ruler_part"})
"""Metrics that only look for texts: a longer answer never scores less."""


@dataclass(frozen=True)
class Question:
    """An example and how its answer is rated.

    Attributes:
        example: the prompt and its right answers.
        max_new_tokens: longest answer.
        metric: a name of `METRICS`, or of a benchmark's own metric together with `rate`.
        rate: from the answer's text to a score from 0 to 1, where a benchmark brings its own; None takes `metric`.
        stop: text or texts that end the answer.
        unknown: a document and the question about it, where rows of the document are chosen before the question is
            known; the example is both as one prompt.
    """

    __repr__ = brief

    example: Example
    max_new_tokens: int = LONGEST
    metric: str = "all"
    rate: Callable[[str], float] | None = field(default=None, compare=False)
    stop: tuple[str, ...] = ()
    unknown: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        settle(self)

    def after_document(self) -> Question:
        """The same, asked of a document whose rows are chosen before the question is known.

        Raises:
            InputError: the example is a conversation, which has no document of its own.
        """
        example = self.example.question_last()
        if not example.document:
            raise InputError(
                "A conversation has no document that could be evicted before its question: give lines of "
                '{"context": …, "question": …}, or leave --question unknown out'
            )
        return replace(self, example=example, unknown=(example.document, example.question))

    def input_ids(self, lm: LanguageModel, reserve: int = 0) -> Tensor:
        """The prompt, (1, T) int64, with positions left for the answer, and at least `reserve`.

        Raises:
            InputError: nothing to compare an answer with, an unknown metric, or a prompt that is too long.
        """
        self.score("")  # refuses what cannot be rated
        return self.example.input_ids(lm, reserve=max(self.max_new_tokens, reserve))

    def occurrences(self, lm: LanguageModel) -> Occurrences:
        """Where the words of the right answers, of all of them together, stand in what the messages say."""
        example = self.example
        text, offsets = chat_characters(lm, example.messages, example.answer_prefix)
        return Occurrences(text, np.array(offsets).reshape(-1, 2), " ".join(example.answers))

    def score(self, text: str) -> float:
        """How right an answer is, from 0 to 1."""
        return score(self.metric, text, self.example.answers) if self.rate is None else self.rate(text)

    def settled(self, text: str) -> bool:
        """Whether nothing after `text` can change its score: all that a metric looks for has been found."""
        return self.metric in FOUND_ONCE and self.score(text) == 1.0

    @property
    def key(self) -> str:
        """Sixteen hex digits that change with the prompt, the right answers and how they are rated."""
        example = self.example
        content = [
            [(message.role, message.content) for message in example.messages],
            [example.answer_prefix, *example.answers],
            [self.max_new_tokens, self.metric, *self.stop],
            *([self.unknown] if self.unknown else ()),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Task:
    """Questions of one kind that are averaged.

    Attributes:
        name: such as `"ruler/niah_single_1"`; the part before the slash is the benchmark.
        questions: in a fixed order; asking for more later gives the same ones first.
        length: tokens that the prompts were made for, where the benchmark says.
        depth: percent of the document before the text that the question is about, where the benchmark says.
        question_first: the question is before the document, where the benchmark has it last.
        notes: what a reader of the results must know, such as a text that replaces another.
    """

    __repr__ = brief

    name: str
    questions: Sequence[Question] = field(hash=False)
    length: int | None = None
    depth: int | None = None
    question_first: bool = False
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Unique in a run: `"ruler/niah_single_1@1024"`, then `/depth-25` and `/first` where they apply."""
        length = "" if self.length is None else f"@{self.length}"
        depth = "" if self.depth is None else f"/depth-{self.depth}"
        return f"{self.name}{length}{depth}{'/first' if self.question_first else ''}"


def questions_of(
    lm: LanguageModel,
    path: Path,
    lines: Sequence[JsonLine],
    reserve: int,
    *,
    skip_bad: bool = False,
    longest: int = LONGEST,
) -> list[Question]:
    """The lines of a file as questions.

    Args:
        path: for messages.
        lines: as `read_json_lines` gives them.
        reserve: positions that must be free after a prompt in addition to its answer.
        skip_bad: leave out lines without right answers and prompts that are too long.
        longest: tokens of an answer, where a line does not say.

    Raises:
        InputError: a line that cannot be used, or none that can.
    """
    questions = []
    for line in lines:
        question = Question(line.example, line.max_new_tokens or longest, line.metric)
        try:
            question.input_ids(lm, reserve)
        except InputError as error:
            if not skip_bad:
                raise InputError(f"{path} line {line.line}: {error}; {SKIP_HINT}") from error
        else:
            questions.append(question)
    if not questions:
        raise InputError(f"{path} has no line with right answers that {lm.name} can read")
    return questions
