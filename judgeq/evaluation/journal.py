"""Answers on disk while they are being measured: one line a question, so that a killed run can be resumed.

Processes that share a run write a file each, which `merge` takes over into one. Knows nothing of models or methods;
answers are found by names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from judgeq.errors import InputError
from judgeq.objects import brief
from judgeq.prompts.prompt import now

Answers = dict[str, "Rated"]
"""Answers to one question by name, such as `judgeq@64`."""
DIGITS = 6
"""Of scores and shares."""


@dataclass(frozen=True)
class Rated:
    """One answer.

    Attributes:
        text: what was generated, up to where nothing after it could change the score.
        score: from 0 to 1.
        kv_bytes: of the keys and values it was generated from, measured after prefill; None where unknown.
        made: identifies the method and its options; None in files of judgeq 0.1.0.
        lost: share of the right answers' tokens in the prompt that no head of any layer keeps, see
            `RetentionMap.lost_everywhere`; None where no word of them stands there, and where unknown.
    """

    __repr__ = brief

    text: str
    score: float
    kv_bytes: int | None = None
    made: str | None = field(default=None, compare=False)
    lost: float | None = field(default=None, compare=False)


class Journal:
    """A growing file of JSON lines: first the setup, then one line per question with its answers.

    Opening it again reads every complete line; half a line at its end, from a process that was killed, is cut off.
    Lines about the same question complete one another.

    Attributes:
        unsaid: fields of the setup that the file lacks and whose values were taken from `granted`.
    """

    def __init__(
        self, path: Path | None, setup: Mapping[str, Any], granted: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Open or start a file.

        Args:
            path: None keeps the answers in memory alone.
            setup: what must be the same for answers to be comparable: model, soft tokens, precision.
            granted: values of fields that an older file lacks; None for those that are not here either.

        Raises:
            InputError: the file holds answers of another setup, is not such a file, or cannot be written.
        """
        self.path = path
        self.unsaid: list[str] = []
        self._setup = dict(setup)
        self._answers: dict[str, Answers] = {}
        if path is None:
            return
        try:
            if path.exists():
                self._read(path, granted)
            else:
                self._begin()
        except OSError as error:
            raise InputError(f"{path} cannot be used ({error.strerror}): give another path") from None

    @staticmethod
    def begun(path: Path | None) -> datetime | None:
        """When a file was begun: the date in all its prompts whose chat template asks for one.

        None where there is no file yet, or the file does not say.
        """
        if path is None:
            return None
        try:
            with path.open(encoding="utf-8") as file:
                return datetime.fromisoformat(json.loads(file.readline())["today"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def go_on_in(self, part: Path) -> None:
        """Write what is added from now on to a new file, one of `part_of`'s, which `merge` takes over."""
        self.path = part
        self._begin()

    def merge(self, parts: int = 1) -> None:
        """Take over what other processes wrote to files of their own, of a run that was killed too, and delete them.

        Args:
            parts: the processes of this run, this one included, whose files must be there.

        Raises:
            InputError: a file is missing, or holds answers of another setup.
        """
        if (path := self.path) is None:
            return
        expected = {part_of(path, rank, parts) for rank in range(1, parts)}
        named = re.compile(rf"{re.escape(path.stem)}\.\d+-of-\d+{re.escape(path.suffix)}")
        left_over = {each for each in path.parent.iterdir() if named.fullmatch(each.name)}
        for part in sorted(expected | left_over):
            try:
                data = part.read_bytes()
                if b"\n" in data:  # else it was killed before its first line was written
                    for key, answers in Journal(part, self._setup)._answers.items():
                        self._answers.setdefault(key, {}).update(answers)
                    self._write(data[data.index(b"\n") + 1 : data.rindex(b"\n") + 1])
                part.unlink()
            except OSError as error:
                raise InputError(
                    f"{part} of another process cannot be read ({error.strerror}): give --json a folder that all "
                    "machines share, and the same one to all"
                ) from None

    def answers(self, key: str) -> Answers:
        """The answers to a question by its key; empty for a new one."""
        return self._answers.get(key, {})

    def check(self, made: Mapping[str, str]) -> None:
        """Refuse to mix answers of one method with different options, which `made` identifies by the answers' names.

        Raises:
            InputError: the file holds answers of one of them with other options.
        """
        for answers in self._answers.values():
            for name, rated in answers.items():
                if name in made and rated.made not in (None, made[name]):
                    raise InputError(
                        f"{self.path} holds answers of {name} that were made with other options of the method: give "
                        "another --json, or call the method otherwise"
                    )

    def add(self, key: str, task: str, answers: Answers) -> None:
        """Keep the answers to a question, on disk before this returns; read again, they are the same."""
        answers = {
            name: replace(
                rated,
                score=round(rated.score, DIGITS),
                lost=None if rated.lost is None else round(rated.lost, DIGITS),
            )
            for name, rated in answers.items()
        }
        self._answers.setdefault(key, {}).update(answers)
        by_text: dict[str, list[str]] = {}
        for name, rated in answers.items():
            by_text.setdefault(rated.text, []).append(name)
        written = [{"text": text, "score": answers[names[0]].score, "by": names} for text, names in by_text.items()]
        taken = {name: rated.kv_bytes for name, rated in answers.items() if rated.kv_bytes is not None}
        lost = {name: rated.lost for name, rated in answers.items() if rated.lost is not None}
        made = {_method_of(name): rated.made for name, rated in answers.items() if rated.made is not None}
        if self.path is not None:
            line = {"key": key, "task": task, "answers": written, "kv_bytes": taken}
            more = {"lost": lost, "made": made}
            self._append({**line, **{field: values for field, values in more.items() if values}})

    def _begin(self) -> None:
        self._append({"setup": self._setup, "today": now().isoformat()})

    def _append(self, value: dict[str, Any]) -> None:
        self._write((json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8"))

    def _write(self, data: bytes) -> None:
        assert self.path is not None
        with self.path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _read(self, path: Path, granted: Mapping[str, Any]) -> None:
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        try:
            first, *lines = (json.loads(line) for line in data[:whole].decode("utf-8").splitlines())
            held = first["setup"]
            for line in lines:
                if "setup" in line:  # completes the setup of an older file
                    held = {**held, **line["setup"]}
                    continue
                answers = self._answers.setdefault(line["key"], {})
                taken, made, lost = (line.get(name, {}) for name in ("kv_bytes", "made", "lost"))
                for each in line["answers"]:
                    for name in each["by"]:
                        own = made.get(_method_of(name))
                        answers[name] = Rated(each["text"], each["score"], taken.get(name), own, lost.get(name))
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path} is not a file of answers: give another --json, or delete it to start again"
            ) from None
        self.unsaid = [name for name in self._setup if name not in held and granted.get(name) is not None]
        held = {**granted, **held}
        for name, value in self._setup.items():
            if held.get(name) != value:
                raise InputError(
                    f"{path} holds answers with the {name} {held.get(name)!r} and this run has {value!r}: "
                    "give another --json, or delete that file to start again"
                )
        if whole < len(data):
            os.truncate(path, whole)
        if self.unsaid:
            self._append({"setup": self._setup})


def part_of(path: Path, rank: int, count: int) -> Path:
    """The file of one of several processes: `ruler.items.1-of-3.jsonl`, next to `ruler.items.jsonl`."""
    return path.with_name(f"{path.stem}.{rank}-of-{count}{path.suffix}")


def _method_of(name: str) -> str:
    """`judgeq` of `judgeq@64`."""
    return name.rpartition("@")[0]
