"""The calculator says what `judgeq.estimate` says, calls it a calculation, and explains input that means nothing."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from app import text
from app.sections.ask.cards import size
from app.sections.calculator import callbacks as calculator
from app.sections.calculator.view import FIRST, calculate
from judgeq.errors import InputError
from judgeq.estimate import estimate
from judgeq.models.shapes import SHAPES, config_of_shape

VALUES: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "tokens": 32768,
    "rows": 512,
    "row_bits": 16,
    "weight_bits": 16,
    "memory": 24,
}


def shown(**changes: Any) -> str:
    """The words of the result, without tags."""
    found = calculate(*{**VALUES, **changes}.values())
    return " ".join(re.sub("<[^>]+>", " ", found).split())


def test_rows_of_an_8b_model_are_those_of_its_geometry() -> None:
    found = shown()
    full = 32 * 32768 * 8 * 128 * 2 * 2
    assert text.CALCULATED in found, "never dressed up as a measurement"
    assert f"Rows of one document {size(full)} {size(full // 64)} 1.6 % of full" in found
    assert "The model itself 16.1 GB 16.1 GB" in found


def test_what_fits_is_what_the_library_says() -> None:
    memory = estimate(config_of_shape("llama-3.1-8b"), prompt_tokens=16384, budget=1024)
    full, kept = (memory.prompts_within(24 * 10**9, kept=kept) for kept in (False, True))
    assert 0 < full < kept
    assert f"can hold {full} documents of 16,384 tokens with all rows, and {kept} documents" in shown(
        tokens=16384, rows=1024
    )
    assert shown(tokens=16384, rows=1024).endswith(f"Documents in 24 GB {full} {kept}")


@pytest.mark.parametrize("bits", [8, 4])
def test_fewer_bits_make_kept_notes_and_weights_smaller(bits: int) -> None:
    dense = calculator.setting(**VALUES).calculated
    rows = calculator.setting(**{**VALUES, "row_bits": bits}).calculated
    weights = calculator.setting(**{**VALUES, "weight_bits": bits}).calculated
    assert 1.7 < dense.kept_rows / rows.kept_rows < 4
    assert rows.full_rows == dense.full_rows
    assert weights.weights < dense.weights * (bits + 2) / 16
    assert weights.kept_rows == dense.kept_rows


def test_sentences_say_what_does_not_fit() -> None:
    assert "alone needs more than 24 GB" in shown(model="llama-3.1-70b")
    assert "with all rows or with those kept" in shown(tokens=100, rows=512)
    assert "no document of 131,072 tokens" in shown(tokens=131072)


def test_every_shape_that_is_offered_is_known_and_the_first_result_is_there_at_once() -> None:
    assert set(calculator.MODELS) == set(SHAPES) - {"tiny"}
    assert "2 documents of 16,384 tokens" in calculator.table(FIRST)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": None}, "length is empty"),
        ({"tokens": float("nan")}, "length is empty"),
        ({"tokens": "<b>"}, "length is empty"),
        ({"tokens": 0}, "reads 1 to 131,072 tokens"),
        ({"tokens": 10**9}, "reads 1 to 131,072 tokens"),
        ({"rows": None}, "rows are empty"),
        ({"rows": float("inf")}, "rows are empty"),
        ({"rows": -1}, "At least one row"),
        ({"memory": None}, "memory is empty"),
        ({"memory": 0}, "between 0 and 10,000 GB"),
        ({"memory": 1e300}, "between 0 and 10,000 GB"),
        ({"model": "<script>"}, "There is no model '<script>'"),
        ({"model": ["llama-3.1-8b"]}, "There is no model"),
        ({"row_bits": 3}, "16, 8 or 4 bits"),
        ({"weight_bits": None}, "16, 8 or 4 bits"),
    ],
)
def test_what_means_nothing_is_explained(changes: dict[str, Any], message: str) -> None:
    found = calculate(*{**VALUES, **changes}.values())
    assert message in html.unescape(found)
    assert "<script" not in found
    with pytest.raises(InputError):
        calculator.setting(**{**VALUES, **changes})
