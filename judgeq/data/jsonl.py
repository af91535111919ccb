"""Examples from a person's own file: one JSON object a line, a conversation or a text with a question.

Every line is checked before it is used; what is wrong with one is said with its number.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from judgeq.config import check_text
from judgeq.data.example import Example, is_held_out
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Message
from judgeq.prompts.read_file import read_document

METRICS = ("all", "any", "exact", "f1")
SKIP_HINT = "--skip-bad leaves such lines out"
RESERVE = 256
"""Positions that a prompt leaves free for the answer."""

ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "system": "system",
}
"""Who spoke, in both forms of a conversation."""


@dataclass(frozen=True)
class JsonLine:
    """One line of a file, by its number from 1; what it does not say of the answer's length is None."""

    example: Example
    max_new_tokens: int | None
    metric: str
    line: int


@dataclass(frozen=True)
class JsonLinesSource:
    """The lines of a file in an order that the seed decides; see `read_json_lines` for what they look like.

    Attributes:
        skip_bad: leave out lines that cannot be used.
        held_out: only the tenth that is kept back from training, as many as there are (True), or only the rest (False).
            A line's first message decides. None takes every line.
        left_out: how many the last call of `examples` left out, by reason.
    """

    path: Path
    skip_bad: bool = False
    held_out: bool | None = None
    left_out: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        return str(self.path)

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        """See `Source`; `tokens` is ignored, the lines are as long as they are.

        Raises:
            InputError: also where a line has no place in the model's positions, and where lines are too few.
        """
        lines, bad = read_json_lines(self.path, self.skip_bad)
        self.left_out.clear()
        self.left_out["not readable"] = bad
        if self.held_out is not None:
            lines = [line for line in lines if is_held_out(line.example.messages[0].content) == self.held_out]
        random.Random(f"{seed}").shuffle(lines)
        found: list[Example] = []
        for line in lines:
            if len(found) == count:
                return found
            if self._fits(lm, line):
                found.append(line.example)
            else:
                self.left_out["too long"] += 1
        if len(found) < count and not self.held_out:
            raise InputError(
                f"{self.path} has {len(found):,} usable lines, and {count:,} examples are asked for: add lines or "
                "ask for fewer"
            )
        return found

    def report(self) -> str:
        """What the last call of `examples` left out, for a person; empty where that is nothing."""
        parts = [f"{number:,} {reason}" for reason, number in self.left_out.items() if number]
        return f"{self.path}: lines left out: {', '.join(parts)}" if parts else ""

    def _fits(self, lm: LanguageModel, line: JsonLine) -> bool:
        try:
            line.example.input_ids(lm, reserve=RESERVE)
        except InputError as error:
            if not self.skip_bad:
                raise InputError(f"{self.path} line {line.line}: {error}; {SKIP_HINT}") from error
            return False
        return True


def read_json_lines(path: Path, skip_bad: bool = False) -> tuple[list[JsonLine], int]:
    """Read and check a file.

    A line is `{"messages": [{"role", "content"}, …]}`, `{"conversations": [{"from", "value"}, …]}` or `{"context",
    "question"}`; with `"answers"`, `"answer_prefix"`, `"max_new_tokens"`, `"metric"` and, for a question,
    `"question_first"` where one likes. In the place of a context, `"context_file"` names a file that is read as
    documents are, seen from the folder that the lines lie in. The model answers a conversation's last user message: an
    assistant's after it is dropped. Empty lines and other keys are ignored.

    Returns:
        The lines, and how many `skip_bad` left out.

    Raises:
        InputError: the file cannot be read, a line is wrong, or there is none.
    """
    found: list[JsonLine] = []
    texts: dict[str, str] = {}
    skipped = 0
    for number, raw in numbered(path):
        try:
            found.append(_line(raw, number, path.parent, texts))
        except InputError as error:
            if not skip_bad:
                raise InputError(f"{path} line {number}: {error}; {SKIP_HINT}") from error
            skipped += 1
    if not found:
        raise InputError(f"{path} has no {'usable ' if skipped else ''}lines: give one JSON object a line")
    return found, skipped


def conversation(turns: Any) -> tuple[Message, ...]:
    """The messages of either form, up to the last one of a user.

    Raises:
        InputError: it is not a list of messages with text, or none is the user's.
    """
    if not isinstance(turns, list) or not turns:
        raise InputError('a conversation is not a list of messages: give [{"role": …, "content": …}, …]')
    messages = [_message(turn) for turn in turns]
    while messages and messages[-1].role == "assistant":
        messages.pop()
    if not messages or messages[-1].role != "user":
        raise InputError("the conversation has no user message to answer: give one as the last or last but one")
    return tuple(messages)


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise InputError('a message is not an object: give {"role": …, "content": …}')
    key = "value" if "from" in turn else "content"
    role = turn.get("from", turn.get("role"))
    if not isinstance(role, str) or role not in ROLES:
        raise InputError(f"a message has the role {role!r}: give user, assistant or system")
    return Message(ROLES[role], _text(turn, key))


def numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, one at a time; raises `InputError` where the file cannot be read."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if number == 1:
                    raw = raw.removeprefix(b"\xef\xbb\xbf")  # some editors' mark for UTF-8
                if raw.strip():
                    yield number, raw
    except FileNotFoundError:
        raise InputError(f"There is no file {path}: check its name") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: give a file with one JSON object a line") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def json_value(raw: bytes, where: str = "") -> Any:
    """What a line holds; raises `InputError`, which begins with `where`, if it is not JSON."""
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{where}not UTF-8 text: save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}not JSON ({error}): give one object a line") from None


def _line(raw: bytes, number: int, folder: Path, texts: dict[str, str]) -> JsonLine:
    value = json_value(raw)
    if not isinstance(value, dict):
        raise InputError('not a JSON object: give {"messages": …} or {"context": …, "question": …}')
    if "context_file" in value:
        if "context" in value:
            raise InputError('give either "context" or "context_file"')
        value["context"] = read_once(folder / _text(value, "context_file"), texts)
    max_new_tokens = value.get("max_new_tokens")
    if max_new_tokens is not None and (type(max_new_tokens) is not int or max_new_tokens < 1):
        raise InputError(f'"max_new_tokens" is {max_new_tokens!r}: give a whole number of at least 1')
    metric = value.get("metric", METRICS[0])
    if metric not in METRICS:
        raise InputError(f'"metric" is {metric!r}: give one of {", ".join(METRICS)}')
    return JsonLine(_example(value), max_new_tokens, metric, number)


def read_once(path: Path, texts: dict[str, str]) -> str:
    """A file's text, once in memory however many lines name it: `texts` has those that were read before."""
    if str(path) not in texts:
        texts[str(path)] = read_document(path)
    return texts[str(path)]


def _example(value: Mapping[str, Any]) -> Example:
    answers = value.get("answers", [])
    if not isinstance(answers, list) or not all(isinstance(each, str) and each.strip() for each in answers):
        raise InputError('"answers" is not a list of texts: give ["…", …]')
    for answer in answers:
        check_text("answer", answer)
    prefix = _text(value, "answer_prefix") if value.get("answer_prefix") else ""
    for key in ("messages", "conversations"):
        if key in value:
            return Example(conversation(value[key]), "conversation", tuple(answers), prefix)
    first = value.get("question_first", False)
    if not isinstance(first, bool):
        raise InputError(f'"question_first" is {first!r}: give true or false')
    return Example.asking(
        _text(value, "context").strip(),
        _text(value, "question").strip(),
        "question",
        question_first=first,
        answers=answers,
        answer_prefix=prefix,
    )


def _text(value: Mapping[str, Any], key: str) -> str:
    if value.get(key) is None:
        raise InputError(f'no "{key}": give {{"messages": …}} or {{"context": …, "question": …}}, each with text')
    text = value[key]
    if not isinstance(text, str):
        raise InputError(f'"{key}" is not a text: give it in quotes')
    if not text.strip():
        raise InputError(f'"{key}" is empty: give some text')
    return check_text(key, text)
