"""The JSON Schema of results files, from the classes that read them: `./run python -m docs.schema` writes it."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from judgeq.evaluation.report import read

FILE = Path(__file__).parent / "_static" / "results.schema.json"
ENTRY = re.compile(r"^    ([\w, ]+): (.*?)(?=^    \S|\Z)", re.MULTILINE | re.DOTALL)
"""Names and meaning in the attributes of a docstring."""


def schema() -> str:
    """Of the newest version, with what the docstrings say of every field."""
    found = read.ResultFile.model_json_schema()
    for part in (found, *found["$defs"].values()):
        cls = getattr(read, part["title"])
        part["description"] = inspect.getdoc(cls).partition("\n")[0]
        meanings = _meanings(cls)
        for name, field in part["properties"].items():
            del field["title"]
            field.setdefault("description", meanings[name])
    found["title"] = "A results file of judgeq evaluate"
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _meanings(cls: type) -> dict[str, Any]:
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        attributes = inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")[2]
        for names, text in ENTRY.findall(attributes):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


if __name__ == "__main__":
    FILE.write_text(schema(), encoding="utf-8")
