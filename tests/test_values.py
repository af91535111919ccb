"""Every kind of number is taken for what it is, one text is one text, and seeds have up to 64 bits, everywhere."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

import judgeq
from judgeq.cli import main
from judgeq.config import Decoding, Selection, budget_rows, check_budget, check_chunk
from judgeq.data.example import Example
from judgeq.errors import InputError
from judgeq.evaluation.harness.lm_eval_tasks import check_names
from judgeq.evaluation.metrics import METRICS, score
from judgeq.evaluation.questions import Question
from judgeq.evaluation.random_weights import random_model
from judgeq.evaluation.runner import asked_of
from judgeq.evaluation.statistics import bootstrap_interval
from judgeq.export import Settings
from judgeq.inference.plan import Plan
from judgeq.methods import METHODS, Full, RandomRows, SnapKV
from judgeq.models.language_model import LanguageModel
from judgeq.training.config import TrainConfig
from tests.fixtures import TEXT

WHOLE = [64, np.int64(64), np.uint8(64), np.array(64), torch.tensor(64)]
SHARES = [0.25, np.float64(0.25), np.float32(0.25), torch.tensor(0.25), Fraction(1, 4), Decimal("0.25")]
SEEDS = [-1, -(2**63), 2**63, 2**64 - 1]
SHORT = Decoding(max_new_tokens=3)


@pytest.mark.parametrize("value", WHOLE, ids=lambda value: type(value).__name__)
def test_every_whole_number_is_one(value: Any) -> None:
    found = (
        check_budget(value),
        budget_rows(value, 1000),
        check_chunk(value),
        Selection(sinks=value).sinks,
        Decoding(max_new_tokens=value).max_new_tokens,
        SnapKV(window=value).window,
        TrainConfig(examples=value).examples,
        Plan(Full(), value).budget,
        Question(Example.asking("a", "b", "c"), max_new_tokens=value).max_new_tokens,
        Settings("m", ("full",), value).budget,
    )
    assert all(type(each) is int and each == 64 for each in found)
    assert Decoding(max_new_tokens=value) == Decoding(max_new_tokens=64)


@pytest.mark.parametrize("value", SHARES, ids=lambda value: type(value).__name__)
def test_every_number_is_one(value: Any) -> None:
    found = (
        check_budget(value),
        Selection(floor=value).floor,
        Decoding(top_p=value).top_p,
        TrainConfig(temper=value).temper,
    )
    assert all(type(each) is float and each == 0.25 for each in found)


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), torch.tensor(True), "1", b"1", None, [1], np.array([1, 2]), 1j]
)
def test_what_is_no_number_is_refused(value: Any) -> None:
    for refuses in (
        check_budget,
        lambda value: Selection(recent=value),
        lambda value: Decoding(temperature=value),
        lambda value: SnapKV(window=value),
        lambda value: Plan(Full(), value),
    ):
        with pytest.raises(InputError):
            refuses(value)


def test_switches_of_numpy_are_switches() -> None:
    assert Selection(value_aware=np.bool_(True)).value_aware is True  # type: ignore[arg-type]


def test_one_text_is_one_text() -> None:
    assert Decoding(stop="END").stop == ("END",)  # type: ignore[arg-type]
    assert Decoding(stop=["a", "b"]).stop == Decoding(stop=(text for text in "ab")).stop == ("a", "b")  # type: ignore[arg-type]
    assert Decoding(stop=None).stop == ()  # type: ignore[arg-type]
    example = Example.asking("Paris is here.", "Where?", "kind", answers="Paris")
    assert example.answers == Example(example.messages, "kind", "Paris").answers == ("Paris",)  # type: ignore[arg-type]
    assert Question(example, stop="END").stop == ("END",)  # type: ignore[arg-type]
    assert score("all", "P a r i s", "Paris") == 0.0
    assert [metric("It is Paris", "Paris") > 0 for metric in METRICS.values()] == [True, True, False, True]
    assert check_names("vt", ["vt", "cwe"]) == ("vt",)
    assert [each.name for each in asked_of({"snapkv": SnapKV()}, np.int64(64))] == ["snapkv@64"]
    assert Settings("m", "full", 64).methods == ("full",)  # type: ignore[arg-type]


@pytest.mark.parametrize("stop", [3, ["a", 3], b"END", [None]])
def test_what_is_no_text_is_refused(stop: Any) -> None:
    with pytest.raises(InputError, match=r"Decoding\.stop is .*; give a text"):
        Decoding(stop=stop)


def test_one_method_and_one_span_are_taken_for_what_they_are(lm: LanguageModel) -> None:
    found = judgeq.read(lm, TEXT, "Who?", methods="snapkv", budget=np.int64(40), pinned=(4, 11), decoding=SHORT)
    listed = judgeq.read(lm, TEXT, "Who?", methods=["snapkv"], budget=40, pinned=[(4, 11)], decoding=SHORT)
    ours, theirs = (reading.writers[0].retention for reading in (found, listed))
    assert all(np.array_equal(*rows) for rows in zip(ours.rows_of(), theirs.rows_of(), strict=True))
    with pytest.raises(InputError, match="no method"):
        judgeq.read(lm, TEXT, "Who?", methods=[None])  # type: ignore[list-item]


def test_a_sweep_takes_one_method_and_one_budget(lm: LanguageModel) -> None:
    (point,) = judgeq.sweep(lm, TEXT, "Who?", methods=SnapKV(), budgets=np.float32(0.5), max_new_tokens=np.int64(2))
    assert (point.method, point.budget, type(point.budget)) == ("snapkv", 0.5, float)


def test_what_the_library_gives_it_takes_back(lm: LanguageModel) -> None:
    answer = judgeq.ask(lm, TEXT, "Who?", method="snapkv", budget=64, decoding=SHORT)
    units, _ = answer.retention.units()
    for pinned in (units[2], [units[2]], [tuple(units[2])], units[2:3], torch.tensor(units[2])):
        again = judgeq.ask(lm, TEXT, "Who?", method="snapkv", budget=np.int64(64), pinned=pinned, decoding=SHORT)
        assert again.retention.survival(*units[2]).mean() == 1.0
    (point,) = judgeq.sweep(lm, TEXT, "Who?", methods="snapkv", budgets=answer.budget, span=units[2], max_new_tokens=2)
    assert point.survival is not None
    rows = answer.retention.kept_rows
    assert judgeq.ask(lm, TEXT, "Who?", method="snapkv", budget=rows.max(), decoding=SHORT).budget == rows.max()
    assert judgeq.RetentionMap.from_json(answer.retention.to_json()).budget == 64


@pytest.mark.parametrize("span", [(1,), 3, "ab", (1, 2, 3), (1.0, 2.0), (True, 4), None, [(5, 3)]])
def test_what_is_no_span_is_refused(lm: LanguageModel, span: Any) -> None:
    with pytest.raises(InputError, match="span is"):
        judgeq.read(lm, TEXT, "Who?", methods="snapkv", pinned=span if isinstance(span, list) else [span])


def test_questions_come_as_pairs(lm: LanguageModel) -> None:
    pair = (TEXT, "Who?")
    listed = judgeq.ask_many(lm, [pair], method="snapkv", budget=[40], decoding=SHORT)
    for questions, budget in ((pair, np.int64(40)), ((each for each in [pair]), (40 for _ in range(1)))):
        (found,) = judgeq.ask_many(lm, questions, method="snapkv", budget=budget, decoding=SHORT)
        assert found.text == listed[0].text
    for questions in ("text", ["ab"], [("a", "b", "c")], [3]):
        with pytest.raises(InputError, match="Question 1 of ask_many"):
            judgeq.ask_many(lm, questions)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="budget is '64'"):
        judgeq.ask_many(lm, [pair], method="snapkv", budget="64")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_of_64_bits_and_negative_ones_are_seeds(lm: LanguageModel, seed: int) -> None:
    warm = Decoding(max_new_tokens=3, temperature=1.0, seed=seed)
    first, second = (
        judgeq.ask(lm, TEXT, "Who?", method=RandomRows(seed=seed), budget=40, decoding=warm).text for _ in range(2)
    )
    assert first == second
    assert bootstrap_interval([[0.0, 1.0]], seed) == bootstrap_interval([[0.0, 1.0]], seed)
    assert TrainConfig(seed=seed).seed == seed
    assert torch.equal(*(random_model("tiny", seed=seed).model.lm_head.weight for _ in range(2)))


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 0.5, "1", None, True])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    for refuses in (
        lambda: Decoding(seed=seed),
        lambda: RandomRows(seed=seed),
        lambda: TrainConfig(seed=seed),
    ):
        with pytest.raises(InputError, match=r"\.seed is "):
            refuses()


@pytest.mark.parametrize("seed", ["18446744073709551616", "1.5", "many", ""])
@pytest.mark.parametrize("verb", [["ask"], ["evaluate", "answers"], ["train"], ["bench"], ["estimate"]])
def test_a_command_refuses_other_seeds_in_a_sentence(
    verb: list[str], seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--seed", seed])
    assert ended.value.code == 2
    assert "is not a seed: give a whole number of at most 64 bits" in capsys.readouterr().err


def test_registered_methods_are_built_without_arguments() -> None:
    assert all(cls().selection == cls.selection for cls in METHODS.values())
