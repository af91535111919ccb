"""Which files cannot be compared, and why. Their figures are never mixed: the sentences warn a reader who would."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from judgeq.evaluation.report.read import ResultFile
from judgeq.evaluation.report.words import benchmark_title
from judgeq.look.format import one_line

PROTOCOL = {
    "data": "data",
    "tasks": "tasks",
    "lengths": "lengths",
    "depths": "depths",
    "document_tokens": "lengths of documents",
    "examples": "questions of each task",
    "max_new_tokens": "longest answer",
    "pool": "pooling",
    "seed": "seed",
}
"""Settings that must be the same, and what people call them."""
SETUP = ("weights", "tokenizer", "torch", "transformers", "bitsandbytes")
"""What else changes the answers of one model, by its names in `evaluation.setup`."""
BRIEF = 40
"""Characters of a value that a sentence quotes."""
UNKNOWN = "unknown"


def incomparable(files: Sequence[ResultFile]) -> list[str]:
    """A sentence for each benchmark and file whose figures cannot be compared with those of a file before it."""
    found = []
    for benchmark in dict.fromkeys(row.benchmark for file in files for row in file.rows):
        comparable: list[ResultFile] = []  # one of each kind
        for file in (each for each in files if any(row.benchmark == benchmark for row in each.rows)):
            reasons = [differences(file, first, benchmark) for first in comparable]
            if not reasons or all(reasons):
                comparable.append(file)
            if reasons and all(reasons):
                names = f"{file.name} cannot be compared with {comparable[0].name}"
                found.append(f"{benchmark_title(benchmark)}: {names}: {'; '.join(reasons[0])}.")
    return found


def differences(ours: ResultFile, theirs: ResultFile, benchmark: str) -> list[str]:
    """What `ours` has otherwise, such as `seed 1, not 0`; empty where the two can be compared.

    What one of them does not say counts for nothing, except for the precision.
    """
    own, other = _facts(ours, benchmark), _facts(theirs, benchmark)
    found = [_reason(name, own[name], other[name]) for name in own if name in other and own[name] != other[name]]
    tasks = ours.questions.keys() & theirs.questions.keys()
    if not found and any(ours.questions[task] != theirs.questions[task] for task in tasks):
        found.append("other questions")
    return found


def precision_of(file: ResultFile) -> str:
    """As the file says, or as its command asked for; `UNKNOWN` where neither says."""
    options = _options(file)
    asked = [options[name] for name in ("--quantization", "--dtype") if name in options]
    return file.precision or ", ".join(asked) or UNKNOWN


def _facts(file: ResultFile, benchmark: str) -> dict[str, Any]:
    """What is known of how a benchmark was measured, by what people call it."""
    first = {row.question_first for row in file.rows if row.benchmark == benchmark}
    place = {} if len(first) > 1 else {"question": "before the document" if True in first else "at the end"}
    memory = {"memory rows": _options(file).get("--memory", "by default")} if file.command else {}
    seed = {} if file.seed is None else {"seed": file.seed}
    return {
        "model": file.model,
        "precision": precision_of(file),
        **{name: file.setup[name] for name in SETUP if name in file.setup},
        **seed,
        **{title: file.settings[name] for name, title in PROTOCOL.items() if name in file.settings},
        **memory,
        **place,
    }


def _reason(name: str, ours: Any, theirs: Any) -> str:
    values = [", ".join(map(str, each)) if isinstance(each, list) else str(each) for each in (ours, theirs)]
    brief = all(len(value) <= BRIEF for value in values) and name not in ("weights", "tokenizer")
    return one_line(f"{name} {values[0]}, not {values[1]}" if brief else f"other {name}")


def _options(file: ResultFile) -> dict[str, str]:
    try:
        words = shlex.split(file.command)
    except ValueError:
        return {}
    return dict(pairwise(words)) | dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
