"""Methods as text: options reach the method or its selection, and mistakes are named with what exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from judgeq.cli import main
from judgeq.commands import ask
from judgeq.config import Selection
from judgeq.errors import InputError
from judgeq.inference import api
from judgeq.inference.request import resolve_methods
from judgeq.methods import H2O, LAQ, METHODS, JudgeQ, Method, PyramidKV, RandomRows, SnapKV
from judgeq.methods.parsing import method_from_text, methods_from_text
from judgeq.models.language_model import LanguageModel


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_name_alone_is_the_method_as_it_is(name: str) -> None:
    assert method_from_text(name) == METHODS[name]()


def test_options_reach_the_method_and_its_selection() -> None:
    assert method_from_text("judgeq:group=max:pool=5:allocation=profile+adakv:floor=0.1") == JudgeQ(
        group="max", selection=Selection(pool=5, unit="word", allocation="profile+adakv", floor=0.1)
    )
    assert method_from_text(" snapkv : window=8 ") == SnapKV(window=8)
    assert method_from_text("random:seed=3") == RandomRows(seed=3)
    assert method_from_text("judgeq:allocation=pyramid+adakv:value_aware=true:pool=5") == JudgeQ(
        selection=Selection(allocation="pyramid+adakv", value_aware=True, pool=5, unit="word")
    )
    assert method_from_text("pyramidkv:beta=14") == PyramidKV(
        selection=Selection(recent=32, pool=7, allocation="pyramid", beta=14)
    )
    assert method_from_text("laq:draft=4") == LAQ(draft=4)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((word, True) for word in ("true", "True", "yes", "1")),
        *((word, False) for word in ("false", "NO", "0")),
    ],
)
def test_a_switch_is_on_or_off(written: str, meant: bool) -> None:
    assert method_from_text(f"h2o:average={written}") == H2O(average=meant)


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
        ("judgeq:wings=2", "no option 'wings'; it has allocation, beta, bits, floor, group, memory"),
        ("judgeq:value_aware=maybe", "'value_aware=maybe' is no switch: give one of true, false"),
        ("judgeq:value_aware", "'value_aware' is no switch"),
        ("judgeq:beta=0", "beta is 0"),
        ("keynorm:value_aware=true", "no attention that values could weigh"),
        ("laq:draft=0", "LAQ.draft is 0"),
        ("chunkkv:chunk=0", "ChunkKV.chunk is 0"),
        ("pyramidkv:window=0", "PyramidKV.window is 0"),
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
        ("snapkv:window=0.5", "'window=0.5' gives no whole number"),
        ("laq:draft=8.0", "'draft=8.0' gives no whole number"),
        ("snapkv:window=4:window=8", "gives 'window' twice"),
        ("judgeq:floor=0.5", "'floor' does nothing"),
        ("snapkv:beta=7", "'beta' does nothing"),
        ("judgeq:allocation=pyramid:floor=0.5", "'floor' does nothing"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        methods_from_text(text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--method", "judgeq"], "judgeq"),
        (["--tokens", "DIR"], "judgeq"),
        ([], "stockanswer"),
        (["--method", "auto:pool=3", "--sinks", "2"], "stockanswer:pool=3:sinks=2"),
        (
            ["--tokens", "DIR", "--value-aware", "--allocation", "pyramid"],
            "judgeq:value_aware=true:allocation=pyramid",
        ),
        (
            ["--method", "h2o:average=yes", "--pool", "3", "--value-aware"],
            "h2o:average=1:pool=3:value_aware=1",
        ),
    ],
)
def test_the_options_of_ask_are_those_of_a_text(
    options: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lm: LanguageModel,
) -> None:
    asked: list[Method] = []

    def stream(lm: LanguageModel, document: str, question: str, *, method: Method, **rest: object) -> None:
        asked.append(method)
        raise InputError("seen")

    (tmp_path / "doc.txt").write_text("A quay.", encoding="utf-8")
    monkeypatch.setattr(api, "stream", stream)
    monkeypatch.setattr(ask, "load_model", lambda arguments: lm)
    assert main(["ask", "--document", str(tmp_path / "doc.txt"), "--question", "Where?", *options]) == 2
    assert asked == [method_from_text(text)]
    assert ("No soft tokens are known for tiny-llama" in capsys.readouterr().err) is (asked[0].name == "stockanswer")


@pytest.mark.parametrize("name", ["tova", "chunkkv"])
@pytest.mark.parametrize("option", ["value_aware=1", "allocation=adakv", "allocation=profile"])
def test_heads_that_keep_the_same_rows_do_not_choose(name: str, option: str) -> None:
    with pytest.raises(InputError, match=f"All heads of a layer keep the same rows with {name}"):
        method_from_text(f"{name}:{option}")


@pytest.mark.parametrize("name", ["full", "keynorm", "random", "streamingllm"])
@pytest.mark.parametrize(
    "option", ["value_aware=true", "allocation=adakv", "allocation=pyramid+adakv", "allocation=profile+adakv"]
)
def test_what_needs_attention_is_refused_where_scores_are_none(name: str, option: str) -> None:
    with pytest.raises(InputError, match=f"Selection.{option.partition('=')[0]} is .* {name}"):
        method_from_text(f"{name}:{option}")


@pytest.mark.parametrize(
    "text",
    [
        *(f"full:{option}" for option in ("sinks=4", "recent=8", "pool=7", "unit=word", "allocation=pyramid")),
        "streamingllm:recent=8",
        "streamingllm:pool=7",
        "chunkkv:pool=7",
        "chunkkv:unit=word",
        "pyramidkv:allocation=uniform",
        "pyramidkv:allocation=adakv",
    ],
)
def test_an_option_without_effect_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"does nothing for|is SnapKV with a pyramid"):
        method_from_text(text)


@pytest.mark.parametrize(
    "text",
    [
        *(f"{name}:bits=4" for name in METHODS),
        *(f"{name}:allocation=pyramid" for name in METHODS if name != "full"),
        *(
            f"{name}:value_aware=1:allocation=pyramid+adakv"
            for name, method in METHODS.items()
            if method.attention and not method.same_rows
        ),
        "random:pool=7:sinks=4",
        "keynorm:pool=7:recent=16",
        "streamingllm:sinks=8",
    ],
)
def test_options_that_make_sense_are_taken(text: str) -> None:
    assert isinstance(method_from_text(text), Method)


def test_defaults_pass_over_methods_that_have_no_use_for_them() -> None:
    assert methods_from_text("full,streamingllm,snapkv,random", pool=5) == {
        "full": METHODS["full"](),
        "streamingllm": METHODS["streamingllm"](),
        "snapkv": method_from_text("snapkv:pool=5"),
        "random": method_from_text("random:pool=5"),
    }


@pytest.mark.parametrize(
    ("method", "option"),
    [
        *(("snapkv", "window"), ("pyramidkv", "window"), ("chunkkv", "chunk")),
        *(("laq", "draft"), ("judgeq+draft", "draft"), ("random", "seed")),
    ],
)
@pytest.mark.parametrize("value", [0.5, 8.0, "8", True, None])
def test_whole_numbers_are_whole(method: str, option: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"\.{option} is "):
        METHODS[method](**{option: value})


def test_texts_and_instances_are_taken_from_python(lm: LanguageModel) -> None:
    chosen = resolve_methods(lm, ("snapkv:window=8:pool=5", LAQ(draft=4)), None)
    assert chosen == [method_from_text("snapkv:window=8:pool=5"), LAQ(draft=4)]


def test_a_method_in_a_list_of_texts() -> None:
    assert list(methods_from_text(["snapkv", "full,random"])) == ["snapkv", "full", "random"]
    with pytest.raises(InputError, match=r"JudgeQ\.group is 'min'; choose one of mean, max"):
        JudgeQ(group="min")  # type: ignore[arg-type]
