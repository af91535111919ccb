"""JSON lines of one's own become questions, or are named with their line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from judgeq.data.jsonl import read_json_lines
from judgeq.errors import InputError
from judgeq.evaluation.questions import questions_of
from judgeq.models.language_model import LanguageModel
from tests.conftest import TEXT

DOCUMENT, ASKED = (TEXT * 2).strip(), "How tall is the lighthouse?"


def test_lines_become_questions_or_are_named_with_their_number(lm: LanguageModel, tmp_path: Path) -> None:
    good = {"context": DOCUMENT, "question": ASKED, "answers": ["31"], "metric": "f1", "max_new_tokens": 5}
    lines = [
        good,
        {"context": DOCUMENT, "question": ASKED},
        {"context": "word " * 9000, "question": ASKED, "answers": ["31"]},
        {"context": DOCUMENT, "question": ASKED, "answers": ["31"]},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    read, _ = read_json_lines(path)
    found = questions_of(lm, path, read, 0, skip_bad=True, longest=7)
    assert [(each.metric, each.max_new_tokens) for each in found] == [("f1", 5), ("all", 7)]
    with pytest.raises(InputError, match=r"line 2: .*right answer.*skip-bad"):
        questions_of(lm, path, read, 0)
    with pytest.raises(InputError, match=r"line 3: .*shorten"):
        questions_of(lm, path, read[2:], 0)
    with pytest.raises(InputError, match="no line"):
        questions_of(lm, path, read[1:3], 0, skip_bad=True)
