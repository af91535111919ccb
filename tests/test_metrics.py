"""Metrics: rated as published, and refused where nothing can be rated."""

from __future__ import annotations

import pytest

from judgeq.data import jsonl
from judgeq.errors import InputError
from judgeq.evaluation.metrics import METRICS, normalised, score


@pytest.mark.parametrize(
    ("metric", "text", "answers", "expected"),
    [
        ("all", "It is 31 METRES tall.", ["31 metres"], 1.0),
        ("all", "Bees and WASPS.", ["bees", "wasps", "ants", "flies"], 0.5),
        ("all", "", ["bees"], 0.0),
        ("any", "Bees only.", ["wasps", "bees"], 1.0),
        ("any", "Neither.", ["wasps", "bees"], 0.0),
        ("exact", " The  Harbour. ", ["harbour"], 1.0),
        ("exact", "In the harbour", ["harbour"], 0.0),
        ("exact", "an answer", ["other", "Answer!"], 1.0),
        ("f1", "the red harbour wall", ["red harbour"], 0.8),
        ("f1", "no no yes", ["no"], 0.5),
        ("f1", "grey quay", ["red", "a grey quay"], 1.0),
        ("f1", "grey", ["red"], 0.0),
        ("f1", "", ["red"], 0.0),
        ("f1", "The.", ["a"], 1.0),
    ],
)
def test_cases_counted_by_hand(metric: str, text: str, answers: list[str], expected: float) -> None:
    assert score(metric, text, answers) == pytest.approx(expected)


def test_text_is_normalised_as_for_squad() -> None:
    assert normalised("  The cat's, an   Apple-pie! ") == "cats applepie"
    assert normalised("Theatre banana") == "theatre banana"


def test_a_file_may_name_every_metric() -> None:
    assert set(jsonl.METRICS) == set(METRICS)


def test_what_cannot_be_rated_is_refused() -> None:
    with pytest.raises(InputError, match="at least one right answer"):
        score("all", "text", [])
    with pytest.raises(InputError, match="no metric 'bleu': choose one of all, any, exact, f1"):
        score("bleu", "text", ["a"])
