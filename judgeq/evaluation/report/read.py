"""Result files as data: what `evaluate … --json` and `bench --json` write, checked; every text is kept as it is.

Files of `evaluate` name the version of their form, `FORMAT`; the JSON Schema in the documents is generated from
`ResultFile`. Fields that older files lack are taken from the tasks' names. Knows nothing of models or of how results
are shown.
"""

from __future__ import annotations

import json
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from judgeq.config import Budget, check_budget
from judgeq.errors import InputError

FORMAT = 1
"""Version of what `evaluate` writes. Files before it say none and count as 0; a new field is no new version."""
AVERAGE = "average"
"""The metric of a row that spans several tasks."""
HIT_RATE = "hit_rate"
"""The metric of rows that compare kept rows, not answers."""
BASELINE = "snapkv"
"""What differences and closed gaps are measured from."""
SPEED = "speed"
"""The `benchmark` of a file that `judgeq bench` wrote."""

Interval = tuple[float, float]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("this should be text that is not empty")
    return value


_Text = Annotated[
    str, PlainValidator(_text, json_schema_input_type=str)
]  # pydantic's own check of text refuses lone surrogates
_Flag = Annotated[bool, BeforeValidator(lambda value: value is True)]
_Count = Annotated[int, Strict(), Field(ge=0)]
_Number = Annotated[_Count, AfterValidator(lambda count: count or 1)]
_Share = Annotated[float, Strict(), Field(ge=0, le=1)]
_Signed = Annotated[float, Strict(), Field(ge=-1, le=1)]
_Positive = Annotated[float, Strict(), Field(gt=0)]
_Figure = Annotated[float | None, Strict()]


def _known_format(version: int) -> int:
    if version > FORMAT:
        raise ValueError(f"it is of version {version}, and this judgeq reads up to {FORMAT}: update judgeq")
    return version


class _Read(BaseModel):
    """What comes from a file: unknown fields are ignored, null is the same as missing."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        given = isinstance(value, dict)
        return {name: each for name, each in value.items() if each is not None} if given else value


class Entry(_Read):
    """One figure of a result file.

    Attributes:
        method: as it was requested, options included.
        budget: rows, or a share; 1.0 for the full cache.
        task: label, unique in a file together with the metric: `"ruler/vt@1024/first"`.
        metric: what rated the answers; `AVERAGE` for several tasks at once.
        benchmark: what the task belongs to; for hit rates the task, since texts of different kinds are never averaged.
        length: tokens that the prompts were made for.
        depth: percent of the document before what the question asks for.
        question_first: the question comes before the document.
        n: questions.
        interval: 95 %, where it was computed.
    """

    method: _Text
    budget: Annotated[Budget, BeforeValidator(check_budget)]
    task: _Text
    metric: _Text
    benchmark: _Text
    length: _Count | None = None
    depth: _Count | None = None
    question_first: _Flag = False
    n: _Number = 1
    interval: Annotated[tuple[_Signed, _Signed] | None, BeforeValidator(lambda ends: ends or None)] = None

    @model_validator(mode="before")
    @classmethod
    def _from_the_name(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(task := value.get("task"), str):
            return value
        named: dict[str, Any] = {"benchmark": re.split("[/@]", task)[0]}
        if length := re.search(r"@(\d{1,9})(?:/|$)", task):
            named["length"] = int(length[1])
        return {**named, **value, **({"benchmark": task} if value.get("metric") == HIT_RATE else {})}


class Row(Entry):
    """A score.

    Attributes:
        score: from 0 to 1.
        tasks: how many it spans.
        kv_bytes: of the rows that answers were generated from, keys and values of all layers, the mean over prompts.
        lost: share of the right answers' tokens in the prompt that no head of any layer keeps.
        as_full: share of answers that are the full cache's to the letter.
        gap_closed: share of the way from SnapKV to the full cache; None where there is no such way.
        per_layer: hit rates from the first layer to the last; empty for answers.
        part: `"first"` or `"last"` where the row covers only those questions of its task that have this position.
    """

    score: _Share
    tasks: _Number = 1
    kv_bytes: _Count | None = None
    lost: _Share | None = None
    as_full: _Share | None = None
    gap_closed: _Figure = None
    per_layer: tuple[_Share, ...] = ()
    part: SkipJsonSchema[str] = ""


class Difference(Entry):
    """What one method gains over another, or over itself with the question elsewhere.

    Attributes:
        difference: from -1 to 1, in favour of `method`.
        against: the other method; empty where only the question moved.
    """

    difference: _Signed
    against: str = ""


class Lead(Difference):
    """What one method gains over another one, question by question."""

    against: _Text


class _File(_Read):
    """One file: its name, the model, what the run was asked to do, and what else it says about its making."""

    FACTS: ClassVar[tuple[str, ...]]

    name: SkipJsonSchema[_Text]
    model: _Text
    settings: dict[_Text, Any] = Field(default_factory=dict)
    facts: SkipJsonSchema[dict[_Text, Any]]

    @model_validator(mode="before")
    @classmethod
    def _gather_facts(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {**value, "facts": {key: value[key] for key in cls.FACTS if value.get(key) is not None}}

    @property
    def command(self) -> str:
        """What repeats the run, in one line; empty where the file does not say."""
        command = self.settings.get("command")
        return " ".join(command.split()) if isinstance(command, str) else ""


class ResultFile(_File):
    """One file of `evaluate`.

    Attributes:
        format: version of what is described here; 0 in older files, which say none.
        model: as `--model` named it.
        precision: what it computed in, such as `"float32"` or `"4bit, bfloat16"`; None in older files.
        setup: what must be the same for answers to be comparable, by names; digests of weights, tokenizer, soft tokens.
        settings: what the run was asked to do; `command` repeats it.
        tokens: how the soft tokens were trained; None without any.
        seed: in the oldest files, where it is no setting.
        versions: of Python and of packages.
        questions: for each task a digest that changes with its questions and right answers.
        complete: whether every question is answered.
        rows: at least one.
        differences: between methods, question by question.
        moved: what a method gains when the question comes first.
        notes: what a reader must know.
        skipped: prompts that were too long, by task.
        answered, asked: questions with answers, and all; None where the file does not say.
        facts: what a report shows of its making: settings, versions, soft tokens.
    """

    FACTS = ("precision", "settings", "tokens", "seed", "versions", "judgeq_version")

    format: Annotated[_Count, AfterValidator(_known_format)] = 0
    precision: _Text | None = None
    setup: dict[_Text, Any] = Field(default_factory=dict)
    tokens: dict[_Text, Any] | None = None
    seed: int | None = None
    versions: dict[_Text, _Text] = Field(default_factory=dict)
    questions: dict[_Text, _Text] = Field(default_factory=dict)
    complete: bool | None = None
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    differences: tuple[Lead, ...] = ()
    moved: tuple[Difference, ...] = ()
    notes: tuple[Annotated[str, PlainValidator(str, json_schema_input_type=str)], ...] = ()
    skipped: dict[_Text, _Count | None] = Field(default_factory=dict)
    answered: _Count | None = None
    asked: _Count | None = None

    @field_validator("rows")
    @classmethod
    def _mark_parts(cls, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """Marks rows that repeat a part of another row's questions: `keys@1000/first` of `keys@1000`."""
        wholes = {(row.task, row.metric) for row in rows}

        def marked(row: Row) -> Row:
            parent, _, last = row.task.rpartition("/")
            is_part = last in ("first", "last") and not row.question_first and (parent, row.metric) in wholes
            return row.model_copy(update={"part": last}) if is_part else row

        return tuple(map(marked, rows))


class SpeedRow(_Read):
    """One contender of `bench`: its label and what `evaluation.speed.rows_of` gives; None was not measured."""

    label: _Text
    first_s: _Positive
    token_s: _Positive
    first_over_plain: _Positive
    speedup: _Positive
    roofline: _Figure = None
    of_roofline: _Figure = None
    peak_bytes: _Figure = None
    peak_over_bound: _Figure = None
    row_bytes: _Figure = None
    kv_bytes: _Figure = None
    device_bytes: _Figure = None


class SpeedFile(_File):
    """One file of `bench`, with a row for each contender."""

    FACTS = ("precision", "settings", "machine", "versions", "kvpress")

    rows: Annotated[tuple[SpeedRow, ...], Field(min_length=1)]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Speed and memory: {self.model}"


def read_file(path: Path) -> ResultFile | SpeedFile:
    """Read one file of `evaluate` or `bench`.

    Raises:
        InputError: it cannot be read, or is not a results file; the message names the file and what is wrong.
    """
    value = _read_json(path)
    is_speed = isinstance(value, dict) and value.get("benchmark") == SPEED
    return (speed_from if is_speed else results_from)(value, path.name, str(path))


def read_results(path: Path) -> ResultFile:
    """Read one file of `evaluate`; raises what `read_file` does."""
    return results_from(_read_json(path), path.name, str(path))


def results_from(value: Any, name: str, where: str) -> ResultFile:
    """The content of a file of `evaluate` as JSON gives it, checked; `where` is what errors call it.

    Raises:
        InputError: it is not a results file.
    """
    return _checked(ResultFile, value, name, where, "judgeq evaluate … --json FILE")


def speed_from(value: Any, name: str, where: str) -> SpeedFile:
    """The content of a file of `bench`, checked; as `results_from`."""
    return _checked(SpeedFile, value, name, where, "judgeq bench --json FILE")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give files that `evaluate` wrote") from None
    except (ValueError, RecursionError):
        what = f"{path} is not JSON: give files that `judgeq evaluate … --json FILE` wrote"
        raise InputError(what) from None


_Kind = TypeVar("_Kind", bound=_File)


def _checked(kind: type[_Kind], value: Any, name: str, where: str, command: str) -> _Kind:
    try:
        return kind.model_validate({**value, "name": name} if isinstance(value, dict) else value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    place = where
    for part in first["loc"]:
        if isinstance(part, int):
            place = f"{place.removesuffix('s')} {part + 1}"
        else:
            place += f"{':' if place == where else ','} {part}"
    what = first["msg"].removeprefix("Value error, ")
    given = "" if first["type"] in ("missing", "value_error") else f" ({reprlib.repr(first['input'])})"
    hint = "" if first["loc"] == ("format",) else f"; give files that `{command}` wrote"
    raise InputError(f"{place}: {what[0].lower()}{what[1:]}{given}{hint}")
