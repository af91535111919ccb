"""A person's own lines: both forms are read as meant, and what is wrong is said with the line's number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from judgeq.data.jsonl import RESERVE, JsonLinesSource, read_json_lines
from judgeq.errors import InputError
from judgeq.evaluation.questions import questions_of
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Message

GOOD = {"context": "The quay is green.", "question": "What is green?"}
TOKENS = (10, 100)


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "chats.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def questions(count: int) -> list[dict[str, str]]:
    return [{"context": f"Text {at}.", "question": f"What is {at}?"} for at in range(count)]


def test_a_question_with_everything(tmp_path: Path) -> None:
    line = {
        **GOOD,
        "answers": ["the quay", "quay"],
        "answer_prefix": "It is",
        "question_first": True,
        "id": 3,
    }
    line |= {"max_new_tokens": 7, "metric": "f1"}
    [found], skipped = read_json_lines(write(tmp_path, line))
    assert found.example.messages == (Message("user", "What is green?\n\nThe quay is green."),)
    assert found.example.answers == ("the quay", "quay")
    assert found.example.answer_prefix == "It is"
    assert (found.max_new_tokens, found.metric, found.line, skipped) == (7, "f1", 1, 0)


def test_a_question_with_nothing_else(tmp_path: Path) -> None:
    [found], _ = read_json_lines(write(tmp_path, GOOD))
    assert found.example.messages == (Message("user", "The quay is green.\n\nWhat is green?"),)
    assert (found.example.answers, found.max_new_tokens, found.metric) == ((), None, "all")


@pytest.mark.parametrize(
    ("key", "role", "text", "names"),
    [
        ("messages", "role", "content", {}),
        ("conversations", "from", "value", {"user": "human", "assistant": "gpt"}),
    ],
)
def test_a_conversation_ends_with_the_user(
    tmp_path: Path, key: str, role: str, text: str, names: dict[str, str]
) -> None:
    said = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")]
    turns = [{role: names.get(who, who), text: words} for who, words in [*said, ("assistant", "dropped")]]
    [found], _ = read_json_lines(write(tmp_path, {"id": "x_0", key: turns}))
    assert found.example.messages == tuple(Message(who, words) for who, words in said)


def test_a_context_may_lie_in_a_file_beside_the_lines(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("The ferry leaves at dawn.\n", encoding="utf-8")
    asked = [{"context_file": "log.txt", "question": f"When? {at}", "answers": ["dawn"]} for at in range(2)]
    found, _ = read_json_lines(write(tmp_path, *asked))
    assert [each.example.document for each in found] == ["The ferry leaves at dawn."] * 2


def test_empty_lines_and_a_byte_order_mark_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\r\n  \r\n" + json.dumps(GOOD).encode() + b"\r\n\n")
    [found], _ = read_json_lines(path)
    assert found.line == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"context": "a"}, 'no "question"'),
        ({**GOOD, "context_file": "a.txt"}, 'give either "context" or "context_file"'),
        ({"context_file": "nowhere.txt", "question": "a"}, "nowhere.txt"),
        ({"context_file": 3, "question": "a"}, '"context_file" is not a text'),
        ({"question": "a"}, 'no "context"'),
        ({}, 'no "context"'),
        ({**GOOD, "context": 3}, '"context" is not a text'),
        ({**GOOD, "question": "  "}, '"question" is empty'),
        ({**GOOD, "context": "\ud83d"}, "half a character"),
        ({**GOOD, "answers": "quay"}, '"answers" is not a list'),
        ({**GOOD, "answers": ["quay", 3]}, '"answers" is not a list'),
        ({**GOOD, "answers": [""]}, '"answers" is not a list'),
        ({**GOOD, "answer_prefix": 3}, '"answer_prefix" is not a text'),
        ({**GOOD, "max_new_tokens": 0}, '"max_new_tokens" is 0'),
        ({**GOOD, "max_new_tokens": True}, '"max_new_tokens" is True'),
        ({**GOOD, "max_new_tokens": 1.5}, '"max_new_tokens" is 1.5'),
        ({**GOOD, "question_first": 1}, '"question_first" is 1'),
        ({**GOOD, "metric": "rouge"}, "\"metric\" is 'rouge': give one of all, any, exact, f1"),
        ({**GOOD, "metric": ["f1"]}, '"metric" is'),
        ({"messages": []}, "not a list of messages"),
        ({"messages": "hi"}, "not a list of messages"),
        ({"messages": ["hi"]}, "a message is not an object"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "the role 'tool'"),
        ({"messages": [{"content": "a"}]}, "the role None"),
        ({"messages": [{"role": "user"}]}, 'no "content"'),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, '"content" is not a text'),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "no user message"),
        ({"conversations": [{"from": "human", "value": ""}]}, '"value" is empty'),
        ([GOOD], "not a JSON object"),
        ('{"context": ', "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_wrong_is_said_with_the_line(tmp_path: Path, line: Any, reason: str) -> None:
    path = write(tmp_path, GOOD, "", line)
    with pytest.raises(InputError) as caught:
        read_json_lines(path)
    message = str(caught.value)
    assert message.startswith(f"{path} line 3: ")
    assert reason in message
    assert message.endswith("--skip-bad leaves such lines out")
    assert "\n" not in message
    lines, skipped = read_json_lines(path, skip_bad=True)
    assert ([each.line for each in lines], skipped) == ([1], 1)


def test_what_is_not_utf8_is_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"context": "\xe9t\xe9", "question": "?"}\n')
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        read_json_lines(path)
    assert read_json_lines(path, skip_bad=True)[1] == 1
    path.write_text(json.dumps(GOOD), encoding="utf-16")
    with pytest.raises(InputError, match="line 1: not UTF-8"):
        read_json_lines(path)
    with pytest.raises(InputError, match="no usable lines"):
        read_json_lines(path, skip_bad=True)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        read_json_lines(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        read_json_lines(tmp_path)
    with pytest.raises(InputError, match="has no lines"):
        read_json_lines(write(tmp_path, "", "  "))


def test_the_seed_shuffles_and_the_first_examples_stay(tmp_path: Path, lm: LanguageModel) -> None:
    source = JsonLinesSource(write(tmp_path, *questions(20)))
    assert source.name == str(tmp_path / "chats.jsonl")
    whole = source.examples(lm, 20, tokens=TOKENS, seed=0)
    assert source.examples(lm, 7, tokens=TOKENS, seed=0) == whole[:7]
    assert len(set(whole)) == 20
    in_order = [each.example for each in read_json_lines(source.path)[0]]
    assert whole != in_order
    assert source.examples(lm, 20, tokens=TOKENS, seed=1) not in (whole, in_order)
    assert source.report() == ""


def test_more_than_there_is(tmp_path: Path, lm: LanguageModel) -> None:
    source = JsonLinesSource(write(tmp_path, *questions(3)))
    with pytest.raises(InputError, match="has 3 usable lines, and 4 examples are asked for"):
        source.examples(lm, 4, tokens=TOKENS, seed=0)


def test_a_line_that_is_too_long(tmp_path: Path, lm: LanguageModel) -> None:
    long = {"context": "é" * lm.geometry.max_positions, "question": "What?"}
    path = write(tmp_path, *questions(2), long, "{")
    with pytest.raises(InputError, match=r"line 4: not JSON"):
        JsonLinesSource(path).examples(lm, 1, tokens=TOKENS, seed=0)
    path = write(tmp_path, *questions(2), long)
    with pytest.raises(InputError, match=r"line 3: The conversation has .* reads at most 3,840.*--skip-bad"):
        JsonLinesSource(path).examples(lm, 3, tokens=TOKENS, seed=0)
    path = write(tmp_path, *questions(2), long, "{")
    source = JsonLinesSource(path, skip_bad=True)
    assert len(source.examples(lm, 2, tokens=TOKENS, seed=0)) == 2
    with pytest.raises(InputError, match="has 2 usable lines"):
        source.examples(lm, 3, tokens=TOKENS, seed=0)
    assert source.report() == f"{path}: lines left out: 1 not readable, 1 too long"


def test_a_prompt_leaves_room_for_the_answer(tmp_path: Path, lm: LanguageModel) -> None:
    path = write(tmp_path, {"context": "é" * 1900, "question": "What?"})
    [example] = JsonLinesSource(path).examples(lm, 1, tokens=TOKENS, seed=0)
    length = example.input_ids(lm).shape[1]
    assert lm.geometry.max_positions - RESERVE - 60 < length <= lm.geometry.max_positions - RESERVE
    path = write(tmp_path, {"context": "é" * 1960, "question": "What?"})
    with pytest.raises(InputError, match="line 1"):
        JsonLinesSource(path).examples(lm, 1, tokens=TOKENS, seed=0)


def test_lines_become_questions_or_are_named_with_their_number(lm: LanguageModel, tmp_path: Path) -> None:
    good = {
        "context": "A text.",
        "question": "How tall?",
        "answers": ["31"],
        "metric": "f1",
        "max_new_tokens": 5,
    }
    lines = [
        good,
        {"context": "A text.", "question": "How tall?"},
        {"context": "word " * 9000, "question": "How tall?", "answers": ["31"]},
        {"context": "A text.", "question": "How tall?", "answers": ["31"]},
    ]
    path = write(tmp_path, *lines)
    read, _ = read_json_lines(path)
    found = questions_of(lm, path, read, 0, skip_bad=True, longest=7)
    assert [(each.metric, each.max_new_tokens) for each in found] == [("f1", 5), ("all", 7)]
    with pytest.raises(InputError, match=r"line 2: .*right answer.*skip-bad"):
        questions_of(lm, path, read, 0)
    with pytest.raises(InputError, match=r"line 3: .*shorten"):
        questions_of(lm, path, read[2:], 0)
    with pytest.raises(InputError, match="no line"):
        questions_of(lm, path, read[1:3], 0, skip_bad=True)
