"""Naming sources and mixing them: what a text means, and that the seed and the place alone decide."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from judgeq.data.chains import ChainsSource
from judgeq.data.code import CodeSource
from judgeq.data.example import Example
from judgeq.data.jsonl import JsonLinesSource
from judgeq.data.manuals import FolderSource, ManualSource
from judgeq.data.mixture import Mixture, Part, parse_sources, report
from judgeq.data.sharegpt import ShareGptSource
from judgeq.data.wiki import WikiSource
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel

TOKENS = (10, 20)


@dataclass(frozen=True)
class Numbers:
    """Counts what it gives."""

    name: str

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        assert count > 0
        assert tokens == TOKENS
        return [Example.asking(self.name, f"{at} of {seed}?", self.name) for at in range(count)]


MIXTURE = Mixture(((Numbers("a"), 3.0), (Numbers("b"), 1.0)))


def write(path: Path, count: int = 2) -> Path:
    lines = [json.dumps({"context": f"Text {at}.", "question": "What?"}) for at in range(count)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_weights_decide_how_often(lm: LanguageModel) -> None:
    kinds = Counter(each.kind for each in MIXTURE.examples(lm, 400, tokens=TOKENS, seed=0))
    assert 270 < kinds["a"] < 330
    assert MIXTURE.name == "a:3,b:1"


def test_every_part_numbers_its_own(lm: LanguageModel) -> None:
    found = MIXTURE.examples(lm, 50, tokens=TOKENS, seed=7)
    for name in ("a", "b"):
        texts = [each.messages[0].content for each in found if each.kind == name]
        assert texts == [f"{name}\n\n{at} of 7?" for at in range(len(texts))]


def test_the_first_examples_stay_the_same_and_the_seed_orders_them(lm: LanguageModel) -> None:
    found = MIXTURE.examples(lm, 50, tokens=TOKENS, seed=0)
    for count in (1, 2, 17):
        assert MIXTURE.examples(lm, count, tokens=TOKENS, seed=0) == found[:count]
    other = MIXTURE.examples(lm, 50, tokens=TOKENS, seed=1)
    assert [each.kind for each in other] != [each.kind for each in found]
    assert MIXTURE.examples(lm, 0, tokens=TOKENS, seed=0) == []


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "chats.jsonl")
    (tmp_path / "notes.txt").write_text("text", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert parse_sources("wiki") == WikiSource()
    assert parse_sources("wiki:2", part="unseen") == WikiSource(held_out=True)
    assert parse_sources("code", part="held_out") == CodeSource(held_out=True)
    assert parse_sources("chains", part="held_out") == ChainsSource(held_out=True)
    assert parse_sources("sharegpt") == ShareGptSource()
    assert parse_sources("manuals", part="unseen") == ManualSource()
    file = Path("chats.jsonl")
    assert parse_sources("chats.jsonl", skip_bad=True) == JsonLinesSource(file, skip_bad=True, held_out=False)
    assert parse_sources("chats.jsonl", part="held_out") == JsonLinesSource(file, held_out=True)
    assert parse_sources("chats.jsonl", part="unseen") == JsonLinesSource(file)
    assert parse_sources("notes.txt", part="unseen") == FolderSource(Path("notes.txt"))
    assert parse_sources(str(tmp_path), part="unseen") == FolderSource(tmp_path)


def test_mixtures_are_named_alike() -> None:
    mixed = parse_sources(" wiki:3 , code:1.50,manuals", part="unseen")
    assert mixed == Mixture(((WikiSource(True), 3.0), (CodeSource(True), 1.5), (ManualSource(), 1.0)))
    assert mixed.name == "wiki:3,code:1.5,manuals:1"
    assert parse_sources(mixed.name, part="unseen") == mixed
    with pytest.raises(InputError, match="twice"):
        parse_sources("wiki:1,wiki:2")


@pytest.mark.parametrize("text", ["", "  ", ",", "wiki,", ":2", "wikipedia", "missing.jsonl", "wiki:2,none/here:1"])
def test_what_is_no_source_says_what_is_one(text: str) -> None:
    said = r"give wiki, records, exact, chains, code, sharegpt, manuals, a FILE\.jsonl"
    with pytest.raises(InputError, match=said):
        parse_sources(text)


@pytest.mark.parametrize("weight", ["", "0", "-1", "nan", "inf", "two", "1:2"])
def test_a_weight_is_a_positive_number(weight: str) -> None:
    with pytest.raises(InputError, match="is not a positive number"):
        parse_sources(f"wiki:{weight},code:1")


def test_what_was_left_out_is_reported(tmp_path: Path, lm: LanguageModel) -> None:
    path = write(tmp_path / "chats.jsonl", 30)
    path.write_text(path.read_text(encoding="utf-8") + "\n{", encoding="utf-8")
    source = parse_sources(str(path), skip_bad=True)
    mixed = Mixture(((Numbers("a"), 1.0), (source, 1.0)))
    mixed.examples(lm, 20, tokens=TOKENS, seed=0)
    assert report(source) == report(mixed) == f"{path}: lines left out: 1 not readable"
    assert report(MIXTURE) == ""


@pytest.mark.parametrize("part", ["train", "held_out"])
def test_what_is_for_measuring_is_not_trained_on(tmp_path: Path, part: Part) -> None:
    for name in ("manuals", str(tmp_path)):
        with pytest.raises(InputError, match="only for measuring"):
            parse_sources(name, part=part)


def test_a_file_is_split_for_training_and_measuring(lm: LanguageModel, tmp_path: Path) -> None:
    path = write(tmp_path / "chats.jsonl", 200)
    parts = {
        part: set(parse_sources(str(path), part=part).examples(lm, count, tokens=(1, 99), seed=0))
        for part, count in (("train", 150), ("held_out", 150), ("unseen", 200))
    }
    assert len(parts["unseen"]) == 200
    assert 8 <= len(parts["held_out"]) <= 35
    assert not parts["train"] & parts["held_out"]
