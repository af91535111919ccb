"""Answers on disk while they are being measured: one line a question, so that a killed run can be resumed.

Knows nothing of models or methods; answers are found by names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from judgeq.errors import InputError
from judgeq.objects import brief
from judgeq.prompts.prompt import now

Answers = dict[str, "Rated"]
"""Answers to one question by name, such as `judgeq@64`."""


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
        self._answers: dict[str, Answers] = {}
        if path is None:
            return
        try:
            if path.exists():
                self._read(path, setup, granted)
            else:
                self._append({"setup": dict(setup), "today": now().isoformat()})
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
        """Keep the answers to a question, on disk before this returns."""
        self._answers.setdefault(key, {}).update(answers)
        by_text: dict[str, list[str]] = {}
        for name, rated in answers.items():
            by_text.setdefault(rated.text, []).append(name)
        written = [
            {"text": text, "score": round(answers[names[0]].score, 6), "by": names}
            for text, names in by_text.items()
        ]
        taken = {name: rated.kv_bytes for name, rated in answers.items() if rated.kv_bytes is not None}
        lost = {name: round(rated.lost, 6) for name, rated in answers.items() if rated.lost is not None}
        made = {_method_of(name): rated.made for name, rated in answers.items() if rated.made is not None}
        if self.path is not None:
            line = {"key": key, "task": task, "answers": written, "kv_bytes": taken}
            more = {"lost": lost, "made": made}
            self._append({**line, **{field: values for field, values in more.items() if values}})

    def _append(self, value: dict[str, Any]) -> None:
        assert self.path is not None
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self, path: Path, setup: Mapping[str, Any], granted: Mapping[str, Any]) -> None:
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
                        answers[name] = Rated(
                            each["text"], each["score"], taken.get(name), own, lost.get(name)
                        )
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path} is not a file of answers: give another --json, or delete it to start again"
            ) from None
        self.unsaid = [name for name in setup if name not in held and granted.get(name) is not None]
        held = {**granted, **held}
        for name, value in setup.items():
            if held.get(name) != value:
                raise InputError(
                    f"{path} holds answers with the {name} {held.get(name)!r} and this run has {value!r}: "
                    "give another --json, or delete that file to start again"
                )
        if whole < len(data):
            os.truncate(path, whole)
        if self.unsaid:
            self._append({"setup": dict(setup)})


def _method_of(name: str) -> str:
    """`judgeq` of `judgeq@64`."""
    return name.rpartition("@")[0]
