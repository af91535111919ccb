"""Questions about documents: as typed, as lines of a file, and as sentences of a document that are begun.

Knows nothing of models.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgeq.config import check_at_least, check_text
from judgeq.data.jsonl import json_value, numbered, read_once
from judgeq.errors import InputError
from judgeq.evaluation.metrics import any_found, normalised
from judgeq.values import settle, several

COMPLETE = "Complete the sentence from the text."
"""The question of a sentence that is only begun."""
BEGUN = ("…", "...")
"""How a begun sentence ends."""
EXPECTED = "=>"
"""What stands before the expected answer."""
SHAPE = '{"document": …, "question": …}'

LEAST_WORDS = 4
"""Words that a begun sentence must have, so that it says what is asked for."""
_SENTENCE = re.compile(r"(?<=[\w)\]\"”’]{2}[.!?])\s+(?=[\"“‘(]?[^\W\da-z_])")
_TOLD = re.compile(r"\d(?:[\w.,:/-]*\w)?|(?<=[^\W\d_A-Z] )[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)*")


@dataclass(frozen=True)
class CalibrationQuestion:
    """A question, as one asks it.

    Attributes:
        question: its text.
        answer: what a right answer contains; empty where that is not known.
        answer_prefix: text that the answer continues.
    """

    question: str
    answer: str = ""
    answer_prefix: str = ""

    def __post_init__(self) -> None:
        settle(self)
        for name, value in (
            ("question", self.question),
            ("answer", self.answer),
            ("answer prefix", self.answer_prefix),
        ):
            check_text(name, value)
        if not self.question.strip():
            raise InputError("A question is empty: ask something about the document")

    @classmethod
    def from_line(cls, line: str) -> CalibrationQuestion:
        """A question as typed: `What is it?`, `The mast is 31 metres …` for a begun sentence, each with `=> answer`.

        Raises:
            InputError: nothing is asked.
        """
        asked, _, answer = line.rpartition(EXPECTED) if EXPECTED in line else (line, "", "")
        asked = asked.strip()
        for mark in BEGUN:
            if asked.endswith(mark) and (begun := asked.removesuffix(mark).rstrip()):
                return cls(COMPLETE, answer.strip(), begun)
        return cls(asked, answer.strip())

    def is_found(self, text: str) -> bool:
        """Whether the expected answer is found in a text, in any case of letters."""
        return bool(any_found(text, self.answer))

    def survives(self, full: str, text: str) -> bool:
        """Whether the full cache's answer survives in another: see `judgeq.calibrate`.

        With an expected answer that the full cache does not find, nothing survives, the full cache's own included.
        """
        if self.answer:
            return self.is_found(full) and self.is_found(text)
        plain = normalised(full)
        return plain == normalised(text) if plain else full.strip() == text.strip()

    @property
    def line(self) -> str:
        """As `from_line` reads it, on one line."""
        begun = self.question == COMPLETE and self.answer_prefix
        asked = f"{self.answer_prefix} …" if begun else self.question
        return " ".join(f"{asked} {EXPECTED} {self.answer}".split() if self.answer else asked.split())


def propose_questions(document: str, count: int = 24) -> list[CalibrationQuestion]:
    """Sentences of a document that are begun and end before a number or a name, with that as the answer.

    Spread over the document, each from another sentence, none with its answer in its beginning. No model is asked:
    small ones invent what the text does not say (see `docs/calibrate.md`), and answer begun sentences far better.

    Args:
        count: most of them; there are fewer where few sentences have a number or a name near their end.

    Raises:
        InputError: no text, or a count below 1.
    """
    check_at_least("propose_questions", "count", count, 1)
    sentences = (each for line in check_text("document", document).splitlines() for each in _SENTENCE.split(line))
    found = [question for each in sentences if (question := _begun(each.strip())) is not None]
    often = Counter(question.answer_prefix for question in found)
    found = [question for question in found if often[question.answer_prefix] == 1]
    wanted = min(int(count), len(found))
    return [found[at * len(found) // wanted] for at in range(wanted)]


def _begun(sentence: str) -> CalibrationQuestion | None:
    for told in reversed(list(_TOLD.finditer(sentence))):
        lead, answer = sentence[: told.start()].rstrip(), told.group()
        after_blank = told.start() > len(lead)
        if after_blank and len(lead.split()) >= LEAST_WORDS and answer.lower() not in lead.lower():
            return None if EXPECTED in sentence or lead.isupper() else CalibrationQuestion(COMPLETE, answer, lead)
    return None


def questions_from_text(text: str) -> list[CalibrationQuestion]:
    """Questions as typed, one a line; empty lines are left out."""
    return [CalibrationQuestion.from_line(line) for line in check_text("questions", text).splitlines() if line.strip()]


def questions_from_file(path: Path) -> tuple[list[str], list[CalibrationQuestion]]:
    """JSON lines with `document` or `document_file`, and `question`, `answer_prefix` or both, and optionally `answer`.

    `document_file` is a text, Markdown, HTML or PDF file, seen from the folder that the file lies in.

    Returns:
        The document of each line, the same text once in memory; and the questions.

    Raises:
        InputError: the file cannot be read, a line cannot be used, or there is none.
    """
    documents: list[str] = []
    questions: list[CalibrationQuestion] = []
    texts: dict[str, str] = {}
    for number, raw in numbered(path):
        try:
            value = json_value(raw)
            if not isinstance(value, dict):
                raise InputError(f"not a JSON object: give {SHAPE}")
            document = _document(value, path.parent, texts)
            questions.append(_question(value))
            documents.append(texts.setdefault(document, document))
        except InputError as error:
            raise InputError(f"{path} line {number}: {error}") from error
    if not questions:
        raise InputError(f"{path} has no lines: give {SHAPE} on each")
    return documents, questions


def pair(
    documents: str | Sequence[str], questions: str | CalibrationQuestion | Iterable[str | CalibrationQuestion]
) -> list[tuple[str, CalibrationQuestion]]:
    """Each question with its document: the only one, or as many as there are questions.

    Raises:
        InputError: nothing is asked, or the numbers differ.
    """
    asked = [
        each if isinstance(each, CalibrationQuestion) else CalibrationQuestion(check_text("question", each))
        for each in several(questions, CalibrationQuestion)
    ]
    if not asked:
        raise InputError("There are no questions: give at least one")
    texts = [check_text("document", each) for each in several(documents)]
    if isinstance(documents, str):
        texts *= len(asked)
    if len(texts) != len(asked):
        raise InputError(
            f"There are {len(texts):,} documents for {len(asked):,} questions: give one text for all questions, or a "
            "list with the text of each"
        )
    return list(zip(texts, asked, strict=True))


def _document(value: dict[str, Any], folder: Path, texts: dict[str, str]) -> str:
    if ("document" in value) == ("document_file" in value):
        raise InputError('give either "document" or "document_file"')
    if "document" in value:
        return _filled(value, "document")
    return read_once(folder / _filled(value, "document_file"), texts)


def _question(value: dict[str, Any]) -> CalibrationQuestion:
    prefix = _filled(value, "answer_prefix") if value.get("answer_prefix") else ""
    question = COMPLETE if prefix and "question" not in value else _filled(value, "question")
    return CalibrationQuestion(question, _filled(value, "answer") if value.get("answer") else "", prefix)


def _filled(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f'"{key}" is not a text with something in it: give it in quotes')
    return check_text(key, text)
