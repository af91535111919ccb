"""Questions of one's own: JSON lines with right answers, checked before a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from judgeq.data.jsonl import SKIP_HINT, JsonLine
from judgeq.errors import InputError
from judgeq.evaluation.questions import LONGEST, Question
from judgeq.models.language_model import LanguageModel


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
        reserve: positions that must be free after a prompt beside its answer.
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
