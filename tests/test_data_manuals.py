"""Prose of other kinds: passages as they stand in the texts, and questions that they answer."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest

from judgeq.data import manuals
from judgeq.data.example import Example, Source
from judgeq.data.lengths import count_tokens, draw_length, fit
from judgeq.data.manuals import FolderSource, ManualSource, TitledPage
from judgeq.data.passages import folder_texts, manual_texts
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel

TOKENS = (300, 2500)
LONGEST_QUESTION = 500


def flat(text: str) -> str:
    return " ".join(text.split())


def text(example: Example) -> str:
    return example.messages[0].content


def paragraph(at: int) -> str:
    return f"Paragraph {at} tells about the Harbour.\nIts number is {at * 17}, and that is all it says."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "one.txt").write_text("\n\n".join(map(paragraph, range(100))), encoding="utf-8")
    (tmp_path / "inner" / "two.txt").write_text("\n \n\n".join(map(paragraph, range(100, 160))), encoding="utf-8")
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    return tmp_path


@pytest.fixture(params=["manuals", "folder"])
def source(request: pytest.FixtureRequest, folder: Path) -> Source:
    return ManualSource() if request.param == "manuals" else FolderSource(folder)


def test_the_first_examples_stay_the_same_for_a_seed(source: Source, lm: LanguageModel) -> None:
    found = source.examples(lm, 12, tokens=TOKENS, seed=1)
    assert source.examples(lm, 5, tokens=TOKENS, seed=1) == found[:5]
    assert source.examples(lm, 5, tokens=TOKENS, seed=2) != found[:5]


@pytest.mark.parametrize("tokens", [TOKENS, (700, 700)])
def test_documents_have_the_asked_length(source: Source, lm: LanguageModel, tokens: tuple[int, int]) -> None:
    lengths = [count_tokens(lm, text(each)) for each in source.examples(lm, 40, tokens=tokens, seed=0)]
    assert min(lengths) >= tokens[0]
    assert max(lengths) <= tokens[1] + LONGEST_QUESTION
    if tokens == TOKENS:
        assert max(lengths) > 1500
        assert sum(length < 1100 for length in lengths) > 10


def test_the_manual_is_asked_in_many_shapes(lm: LanguageModel) -> None:
    found = ManualSource().examples(lm, 120, tokens=TOKENS, seed=0)
    kinds = {each.kind for each in found}
    assert kinds == {f"manuals/{shape}" for shape in ("title", "all", "term", "next", "repeat", "syntax")}
    everything = [flat(section.body) for section in manual_texts()]
    for example in found:
        paragraphs = [flat(each) for each in text(example).split("\n\n") if len(each) > 100]
        known = [any(each in body for body in everything) for each in paragraphs]
        assert sum(known) >= len(known) - 2  # the question, and a passage cut in a paragraph
        for answer in example.answers:
            assert flat(answer) in flat(text(example))


def test_a_third_of_the_questions_stand_first(folder: Path, lm: LanguageModel) -> None:
    found = FolderSource(folder).examples(lm, 100, tokens=TOKENS, seed=0)
    first = sum(not text(each).startswith("Paragraph") for each in found)
    assert 18 < first < 42
    assert {each.kind for each in found} == {"texts/all", "texts/term", "texts/next", "texts/repeat"}


def test_a_folder_gives_consecutive_paragraphs_of_one_file(folder: Path, lm: LanguageModel) -> None:
    starts = set()
    for example in FolderSource(folder).examples(lm, 30, tokens=(300, 600), seed=0):
        numbers = [int(at) for at in re.findall(r"^Paragraph (\d+) tells", text(example), re.MULTILINE)]
        ends = [before for before, after in pairwise(numbers) if after != before + 1]
        assert set(ends) <= {99, 159}  # on in the other file
        starts.add(numbers[0])
    assert len(starts) > 10


def test_a_cut_stands_at_the_end_of_a_paragraph(folder: Path, lm: LanguageModel) -> None:
    found = map(text, FolderSource(folder).examples(lm, 60, tokens=(300, 900), seed=0))
    documents = [each.rpartition("\n\n")[0] for each in found if each.startswith("Paragraph")]
    ends = [document.endswith("that is all it says.") for document in documents]
    assert len(ends) > 30
    assert sum(ends) / len(ends) > 0.8


def test_every_section_of_the_manual_begins_with_its_title() -> None:
    sections = manual_texts()
    assert len(sections) > 100
    assert len({section.body for section in sections}) == len(sections)
    for section in sections:
        assert section.body.startswith(section.title.strip("“”"))


def test_questions_about_sentences_and_rules() -> None:
    page = TitledPage(
        "x",
        "The first sentence of this text is a plain one. The second sentence comes\nright after the first one.\n\n"
        "   stmt ::= name value\n   long ::= one\n            two\n   last ::= end\n",
        (),
    )
    rng = random.Random(0)
    example = manuals._next(page, rng)
    assert example.answers == ("The second sentence comes right after the first one.",)
    assert "“The first sentence of this text is a plain one.”" in text(example)
    rules = {example.answers for example in (manuals._syntax(page, rng) for _ in range(20)) if example}
    assert rules == {("name value",), ("end",)}
    assert manuals._titled(page, rng) is None


def test_what_cannot_be_read(tmp_path: Path, lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="There is no file or folder"):
        folder_texts(tmp_path / "missing")
    with pytest.raises(InputError, match="has no text"):
        folder_texts(tmp_path)
    file = tmp_path / "a.txt"
    file.write_text("Only a few words.", encoding="utf-8")
    with pytest.raises(InputError, match="no document of 300 tokens"):
        FolderSource(file).examples(lm, 1, tokens=TOKENS, seed=0)
    file.write_bytes(b"\xe9t\xe9")
    with pytest.raises(InputError, match=r"a\.txt is not UTF-8"):
        folder_texts(tmp_path)


def test_a_text_just_long_enough_is_used_whole(tmp_path: Path, lm: LanguageModel) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n\n".join(map(paragraph, range(12))), encoding="utf-8")
    for example in FolderSource(file).examples(lm, 5, tokens=(400, 2000), seed=0):
        assert count_tokens(lm, text(example)) >= 400


def test_lengths_are_drawn_log_uniformly() -> None:
    lengths = [draw_length((100, 10_000), random.Random(at)) for at in range(1000)]
    assert min(lengths) >= 100
    assert max(lengths) <= 10_000
    assert 0.45 < sum(length < 1000 for length in lengths) / 1000 < 0.55


def test_a_text_is_cut_at_the_best_border_in_reach(lm: LanguageModel) -> None:
    words = "one two\nthree four\n\nfive six\nseven eight"
    length = count_tokens(lm, words)
    assert fit(lm, words, length) == words
    assert fit(lm, words, length - 2, borders=("\n\n", "\n")) == "one two\nthree four"
    assert (
        fit(lm, words, length - 2, shortest=length - 8, borders=("\n\n", " "))
        == "one two\nthree four\n\nfive six\nseven"
    )
    assert count_tokens(lm, fit(lm, "x" * 50, 7)) == 7
