"""Questions over Python's own library: documents of the asked length, and answers that the code really gives."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

import pytest

from judgeq.data.code import CodeSource
from judgeq.data.example import Example
from judgeq.data.lengths import count_tokens
from judgeq.data.standard_library import Definition, definitions, library_files
from judgeq.models.language_model import LanguageModel

TOKENS = (300, 2500)
SLACK = 12  # tokens of a question are counted apart from the document's


@pytest.fixture(scope="module")
def drawn(lm: LanguageModel) -> list[Example]:
    return CodeSource().examples(lm, 150, tokens=TOKENS, seed=3)


@pytest.fixture(scope="module")
def by_kind(drawn: list[Example]) -> dict[str, list[Example]]:
    found = defaultdict(list)
    for example in drawn:
        found[example.kind].append(example)
    return found


def text(example: Example) -> str:
    return example.messages[0].content


def definition(source: str) -> Definition:
    return Definition("f", "made_up.py", source)


def test_documents_have_the_asked_length_half_of_them_short(lm: LanguageModel, drawn: list[Example]) -> None:
    longest_question = 300
    lengths = [count_tokens(lm, text(example)) for example in drawn if example.kind != "code/complete"]
    assert min(lengths) >= TOKENS[0] - SLACK
    assert max(lengths) <= TOKENS[1] + longest_question
    assert max(lengths) > 1500
    geometric_mean = (TOKENS[0] * TOKENS[1]) ** 0.5
    assert 0.3 < sum(length < geometric_mean + 60 for length in lengths) / len(lengths) < 0.7


def test_all_shapes_come_up_and_a_third_of_the_questions_stand_first(drawn: list[Example]) -> None:
    kinds = {example.kind.removeprefix("code/") for example in drawn}
    asked = {"explain", "arguments", "which", "repeat", "following", "complete"}
    assert kinds == asked | {"all", "callers", "list", "raises", "returns"}
    first = [re.match(r"(def |class |async |#|@)", text(example)) is None for example in drawn]
    assert 0.18 < sum(first) / len(first) < 0.42


def test_the_held_out_modules_are_a_tenth_and_nobody_else_sees_them(lm: LanguageModel) -> None:
    kept = {module for module, *_ in library_files(False)}
    held_out = {module for module, *_ in library_files(True)}
    assert not kept & held_out
    assert 0.05 < len(held_out) / len(kept | held_out) < 0.16
    assert {"json.decoder", "argparse"} <= kept | held_out
    assert not any(re.match(r"(test|idlelib|lib2to3|pydoc_data)\b", module) for module in kept | held_out)
    shown = "".join(text(each) for each in CodeSource(held_out=True).examples(lm, 20, tokens=TOKENS, seed=0))
    files = set(re.findall(r"^#+ (?:From )?([\w/]+)\.py", shown, re.MULTILINE))
    assert files
    assert {file.replace("/", ".").removesuffix(".__init__") for file in files} <= held_out


def test_what_is_shown_is_the_code_itself(drawn: list[Example]) -> None:
    files = (*library_files(False), *library_files(True))
    [path] = [path for module, path, _ in files if module == "textwrap"]
    names = {each.name: each for each in definitions(path)}
    assert {"dedent", "indent", "wrap"} <= set(names)
    assert names["dedent"].source.startswith("def dedent(text):")
    assert names["dedent"].source in path.read_text(encoding="utf-8")


def test_answers_stand_in_the_document(by_kind: dict[str, list[Example]]) -> None:
    for kind in ("which", "arguments", "callers", "list", "raises", "repeat", "following"):
        for example in by_kind[f"code/{kind}"]:
            assert example.answers, kind
            for answer in example.answers:
                assert answer in text(example), kind


def test_the_line_after_one_is_the_line_after_it(by_kind: dict[str, list[Example]]) -> None:
    for example in by_kind["code/following"]:
        line = re.search(r"right after this one in `\w+`\?\n(.*)", text(example))
        assert re.search(re.escape(line[1]) + r"\s*\n\s*" + re.escape(example.answers[0]), text(example))


def test_a_repetition_that_has_begun_goes_on_with_its_answer(by_kind: dict[str, list[Example]]) -> None:
    begun = [example for example in by_kind["code/repeat"] if example.answer_prefix]
    assert begun
    for example in begun:
        after = text(example).partition(example.answer_prefix)[2]
        assert after.strip().startswith(example.answers[0])


def test_callers_are_all_the_functions_that_call(by_kind: dict[str, list[Example]]) -> None:
    for example in by_kind["code/callers"]:
        name = re.search(r"(?:call|is) `(\w+)`", text(example))
        assert len(re.findall(rf"\b{name[1]}\(", text(example))) >= len(example.answers)


def test_a_function_to_complete_stands_last_and_does_not_end(by_kind: dict[str, list[Example]]) -> None:
    assert by_kind["code/complete"]
    for example in by_kind["code/complete"]:
        name = re.search(r"the function `(\w+)`", text(example))
        shown = text(example)[text(example).rindex(f"def {name[1]}(") :]
        shown = re.split(r"\n\n(?:The code breaks off|Complete the function)", shown)[0]
        assert not re.search(r"^(def|class|#) ", shown[1:], re.MULTILINE)
        assert any(
            shown in each.source and not each.source.endswith(shown)
            for _, path, _ in library_files(False)
            for each in definitions(path)
            if each.name == name[1]
        )


def test_the_first_lines_of_a_definition() -> None:
    found = definition("@cache\ndef f(\n    a: int,  # one\n    b=2,\n):\n    return a\n")
    assert found.signature == ["def f(", "    a: int,  # one", "    b=2,", "):"]
    assert definition("def f(a): return a").signature == []


def test_the_defaults_of_arguments() -> None:
    found = definition("def f(self, a, b=2, /, c='x y', *d, e, g=None, h=-1, i='\\n', **k): pass")
    assert found.defaults == {
        "a": "", "b": "2", "c": "x y", "d": "", "k": "", "e": "", "g": "None", "h": "", "i": "",
    }  # fmt: skip


def test_what_is_raised_called_and_returned() -> None:
    found = definition(
        "def f(a):\n    if a:\n        raise ValueError('x') from None\n    raise os.error.Bad\n    a.go(len(a))"
    )
    assert found.raised == ["ValueError", "Bad"]
    assert definition("def f(e):\n    raise e").raised == [""]
    assert found.called == {"ValueError", "go", "len"}
    assert not found.returns_value
    assert definition("def f():\n    return 1").returns_value
    assert definition("def f():\n    return lambda: 1").nested
    assert not found.nested


def test_every_definition_parses() -> None:
    for _, path, _ in library_files(True):
        for each in definitions(path):
            assert isinstance(each.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
