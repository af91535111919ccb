"""Settings refuse bad values with a sentence and survive a JSON round trip."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest

from judgeq.config import Allocation, Decoding, Selection, budget_rows, check_budget, parse_budget
from judgeq.errors import InputError
from judgeq.training.config import TrainConfig


@pytest.mark.parametrize(("text", "budget"), [("128", 128), ("0.25", 0.25), ("25%", 0.25), ("1.0", 1.0), (" 1 ", 1)])
def test_a_typed_budget_is_rows_or_a_share(text: str, budget: float) -> None:
    parsed = parse_budget(text)
    assert parsed == budget
    assert type(parsed) is type(budget)


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "-0.1", "0.0", "nan", "inf", "many", "", "101%"])
def test_a_budget_without_meaning_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="budget"):
        parse_budget(text)


@pytest.mark.parametrize("budget", [True, None, "64", math.nan])
def test_a_budget_of_another_type_is_refused(budget: Any) -> None:
    with pytest.raises(InputError, match="budget"):
        check_budget(budget)


def test_a_budget_becomes_rows_of_this_prompt() -> None:
    assert budget_rows(64, 1000) == 64
    assert budget_rows(5000, 1000) == 1000
    assert budget_rows(0.25, 1000) == 250
    assert budget_rows(0.0001, 1000) == 1


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (Selection, {"sinks": -1}),
        (Selection, {"pool": 4}),
        (Selection, {"pool": 0}),
        (Selection, {"recent": 1.5}),
        (Selection, {"allocation": "magic"}),
        (Selection, {"floor": -0.1}),
        (Selection, {"floor": 1.2}),
        (Selection, {"beta": 0}),
        (Selection, {"beta": 2.5}),
        (Selection, {"value_aware": "yes"}),
        (Selection, {"bits": 2}),
        (Selection, {"bits": 8.0}),
        (Selection, {"bits": True}),
        (Decoding, {"evict_every": 0}),
        (Decoding, {"evict_every": 2.5}),
        (Decoding, {"max_new_tokens": 0}),
        (Decoding, {"max_new_tokens": 2.5}),
        (Decoding, {"temperature": math.nan}),
        (Decoding, {"top_p": 0}),
        (Decoding, {"top_p": 1.2}),
        (TrainConfig, {"objective": "guess"}),
        (TrainConfig, {"learning_rate": 0}),
        (TrainConfig, {"temper": 0}),
        (TrainConfig, {"temper": 1.5}),
        (TrainConfig, {"max_tokens": 10}),
        (TrainConfig, {"capacity": "all"}),
        (TrainConfig, {"temperature": -1}),
    ],
)
def test_a_bad_value_is_named_in_the_error(cls: type, values: dict[str, Any]) -> None:
    (field, value) = next(iter(values.items()))
    with pytest.raises(InputError) as caught:
        cls(**values)
    assert f"{cls.__name__}.{field}" in str(caught.value)
    assert str(value) in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(examples=7, learning_rate=0.003),
        Selection(allocation="pyramid+adakv", beta=7, value_aware=True),
    ],
)
def test_settings_survive_a_json_round_trip(config: TrainConfig | Selection, tmp_path: Path) -> None:
    config.save(tmp_path / "c.json")
    assert type(config).load(tmp_path / "c.json") == config


def test_an_allocation_says_what_it_needs() -> None:
    told = {
        name: (selection.is_pyramid, selection.needs_profile, selection.adapts)
        for name in get_args(Allocation)
        if (selection := Selection(allocation=name))
    }
    assert told == {
        "uniform": (False, False, False),
        "pyramid": (True, False, False),
        "profile": (False, True, False),
        "adakv": (False, False, True),
        "pyramid+adakv": (True, False, True),
        "profile+adakv": (False, True, True),
    }


def test_an_unknown_key_is_refused_not_dropped() -> None:
    with pytest.raises(InputError, match="exmaples"):
        TrainConfig.from_dict({"exmaples": 3})
