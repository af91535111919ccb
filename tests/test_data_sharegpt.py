"""Streamed conversations, from local files on the same path as from the Hub: people's turns of the asked lengths."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from judgeq.data import sharegpt
from judgeq.data.sharegpt import ShareGptSource
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel

TOKENS = (40, 600)


def turns(*values: str, first: str = "human") -> list[dict[str, str]]:
    speakers = ("human", "gpt") if first == "human" else ("gpt", "human")
    return [{"from": speakers[at % 2], "value": value} for at, value in enumerate(values)]


def chat(name: str, at: int) -> dict[str, Any]:
    said = [f"{name} {at} asks {turn}, at some length." for turn in range(1 + at % 5)]
    return {"id": f"{name}_{at}", "conversations": turns(*said)}


@pytest.fixture
def general(tmp_path: Path) -> Path:
    """A JSON array, as the Hub's own files are."""
    path = tmp_path / "general.json"
    path.write_text(json.dumps([chat("general", at) for at in range(60)], indent=2), encoding="utf-8")
    return path


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """JSON lines, in a folder."""
    folder = tmp_path / "code"
    folder.mkdir()
    lines = [json.dumps(chat("code", at)) for at in range(60)]
    (folder / "a.jsonl").write_text("\n".join(lines[:30]), encoding="utf-8")
    (folder / "b.jsonl").write_text("\n".join(lines[30:]), encoding="utf-8")
    (folder / "README.md").write_text("nothing", encoding="utf-8")
    return folder


@pytest.fixture
def source(general: Path, code: Path) -> ShareGptSource:
    return ShareGptSource(0.4, str(general), str(code))


def write(path: Path, *conversations: Any) -> str:
    lines = (json.dumps({"conversations": each}) for each in conversations)
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def test_the_share_of_code_and_the_turns(source: ShareGptSource, lm: LanguageModel) -> None:
    found = source.examples(lm, 50, tokens=TOKENS, seed=0)
    kinds = Counter(example.kind for example in found)
    assert set(kinds) == {"sharegpt/general", "sharegpt/code"}
    assert 0.25 < kinds["sharegpt/code"] / 50 < 0.55
    for example in found:
        assert {message.role for message in example.messages[::2]} == {"user"}
        assert example.messages[-1].role == "user"
        assert TOKENS[0] <= example.input_ids(lm).shape[1] <= TOKENS[1]
        assert example.kind.removeprefix("sharegpt/") == example.messages[0].content.split()[0]
        for at, message in enumerate(example.messages):
            assert f"asks {at}," in message.content  # none is left out
    assert len({example.messages[0].content for example in found}) == 50
    assert {len(example.messages) for example in found} >= {1, 3}


def test_the_first_examples_stay_the_same_for_a_seed(source: ShareGptSource, lm: LanguageModel) -> None:
    found = source.examples(lm, 30, tokens=TOKENS, seed=5)
    assert source.examples(lm, 9, tokens=TOKENS, seed=5) == found[:9]
    assert source.examples(lm, 9, tokens=TOKENS, seed=6) != found[:9]
    numbers = [int(each.messages[0].content.split()[1]) for each in found if each.kind == "sharegpt/general"]
    assert numbers != sorted(numbers)


def test_what_is_no_conversation_of_two_is_passed_over(tmp_path: Path, lm: LanguageModel) -> None:
    good = "good, and long enough to be asked about something"
    origin = write(
        tmp_path / "x.jsonl",
        [],
        turns("said by nobody else", first="gpt"),
        turns("the end of an answer", good, first="gpt"),
        [{"from": "human", "value": "twice, which is one too many"}] * 2,
        [{"from": "pope", "value": "an unknown speaker who speaks long enough"}],
        turns("short"),
        turns("long " * 500),
        [{"from": "human", "value": None}],
    )
    with pytest.raises(InputError, match="too few conversations of 40 to 600 tokens for 2 examples"):
        ShareGptSource(0, origin).examples(lm, 2, tokens=TOKENS, seed=0)
    [example] = ShareGptSource(0, origin).examples(lm, 1, tokens=TOKENS, seed=0)
    assert [message.content for message in example.messages] == [good]


def test_a_turn_is_chosen_that_fits(tmp_path: Path, lm: LanguageModel) -> None:
    said = ("a", "b", "the middle, which is long enough for it", "c", "d " * 400)
    origin = write(tmp_path / "x.jsonl", turns(*said))
    for seed in range(4):
        [example] = ShareGptSource(0, origin).examples(lm, 1, tokens=TOKENS, seed=seed)
        assert len(example.messages) == 3


def test_all_that_was_said_before_stays(tmp_path: Path, lm: LanguageModel) -> None:
    said = ("a", "b", "c", "d", "the only turn that makes the prompt long enough to be asked")
    origin = write(tmp_path / "x.jsonl", turns(*said, "dropped"))
    [example] = ShareGptSource(0, origin).examples(lm, 1, tokens=(80, 600), seed=0)
    assert tuple(message.content for message in example.messages) == said


def test_the_hub_is_streamed(general: Path, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, dict[str, Any]]] = []
    load: Callable[..., Any] = datasets.load_dataset

    def fake(*args: Any, **options: Any) -> Any:
        asked.append((args, options))
        return load("json", data_files=str(general), split="train", streaming=True)

    monkeypatch.setattr(sharegpt, "check_answers", lambda origin: None)
    monkeypatch.setattr(datasets, "load_dataset", fake)
    ShareGptSource(0).examples(lm, 3, tokens=TOKENS, seed=0)
    options = {"revision": sharegpt.HUB_REVISION, "split": "train", "streaming": True}
    assert asked == [((sharegpt.GENERAL,), options)]


@pytest.mark.parametrize("error", [ConnectionError("no route\nto host"), datasets.exceptions.DatasetNotFoundError("x")])
def test_a_hub_out_of_reach(error: Exception, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(sharegpt, "check_answers", lambda origin: None)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match=r"Hugging Face Hub.*--data FILE\.jsonl or --data wiki$") as caught:
        ShareGptSource().examples(lm, 1, tokens=TOKENS, seed=0)
    assert "\n" not in str(caught.value)


def test_local_data_that_is_none(tmp_path: Path, lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="is not data of one kind"):
        ShareGptSource(0, str(tmp_path)).examples(lm, 1, tokens=TOKENS, seed=0)
    broken = tmp_path / "x.jsonl"
    broken.write_text('{"conversations": [', encoding="utf-8")
    with pytest.raises(InputError, match="is not data that can be read"):
        ShareGptSource(0, str(broken)).examples(lm, 1, tokens=TOKENS, seed=0)
    with pytest.raises(InputError, match="code_share is 2"):
        ShareGptSource(2)
