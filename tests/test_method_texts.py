"""Methods as text: options reach the method or its selection, and mistakes are named with what exists."""

from __future__ import annotations

import pytest

from judgeq.config import Selection
from judgeq.errors import InputError
from judgeq.methods import METHODS, JudgeQ, RandomRows, SnapKV
from judgeq.methods.parsing import method_from_text, methods_from_text


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_name_alone_is_the_method_as_it_is(name: str) -> None:
    assert method_from_text(name) == METHODS[name]()


def test_options_reach_the_method_and_its_selection() -> None:
    assert method_from_text("judgeq:group=max:pool=5:allocation=profile+adakv:floor=0.1") == JudgeQ(
        group="max", selection=Selection(pool=5, allocation="profile+adakv", floor=0.1)
    )
    assert method_from_text(" snapkv : window=8 ") == SnapKV(window=8)
    assert method_from_text("random:seed=3") == RandomRows(seed=3)


def test_defaults_give_way_to_the_text() -> None:
    assert method_from_text("judgeq", pool=1).selection.pool == 1
    assert method_from_text("judgeq:pool=7", pool=1).selection.pool == 7
    assert method_from_text("snapkv", pool=1).selection == Selection(recent=32, pool=1)


def test_several_keep_their_texts_and_their_order() -> None:
    found = methods_from_text("snapkv, judgeq:group=max,full")
    assert list(found) == ["snapkv", "judgeq:group=max", "full"]
    assert found["judgeq:group=max"] == JudgeQ(group="max")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("magic", "no method 'magic'"),
        ("judgeq:wings=2", "no option 'wings'; it has allocation, floor, group, pool"),
        ("judgeq:", "no option ''"),
        ("judgeq:selection=1", "no option 'selection'"),
        ("random:group=max", "no option 'group'"),
        ("judgeq:group=median", "'group=median' is not a choice: give one of mean, max"),
        ("judgeq:allocation=fair", "not a choice"),
        ("judgeq:pool=wide", "'pool=wide' gives no number"),
        ("judgeq:pool", "gives no number"),
        ("judgeq:pool=4", "pool is 4"),
        ("snapkv:window=0", "window is 0"),
        ("judgeq:floor=2", "floor is 2"),
        ("judgeq,", "no method ''"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        methods_from_text(text)
