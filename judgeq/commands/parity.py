"""`judgeq parity`: the rows that kvpress keeps and ours, on the same weights and tokens."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgeq.commands.common import DEFAULT_MODEL, model_folder, versions, write_json
from judgeq.config import parse_budget
from judgeq.errors import InputError

if TYPE_CHECKING:
    from judgeq.data.example import Example


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument(
        "--python", required=True, metavar="FILE", help="Python of an environment with kvpress 0.5.5"
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="embedded name or folder with safetensors (default: %(default)s)",
    )
    parser.add_argument(
        "--data", metavar="FILE.jsonl", help="prompts; the sample documents with their questions by default"
    )
    parser.add_argument(
        "--budgets", default="32,64,128", metavar="N,M", help="rows per KV head (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON; - for standard output")


def run(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.parity.compare import TOLERANCE, compare
    from judgeq.models.loading import load
    from judgeq.training.progress import Bars

    budgets = _budgets(arguments.budgets)
    examples = _examples(arguments.data)
    folder = model_folder(arguments.model)
    lm = load(arguments.model, dtype="float32", device="cpu")
    prompts = [example.input_ids(lm) for example in examples]
    with Bars() as bars:
        bars.note(f"kvpress reads {len(prompts):,} prompts …")
        outcome = compare(
            lm, folder, prompts, budgets, arguments.python, progress=partial(bars.advance, "prompts")
        )
    rows = [agreement.to_row(len(prompts)) for agreement in outcome.agreements]
    result = {
        "model": lm.name,
        "settings": {
            "data": arguments.data or "samples",
            "prompt_tokens": [ids.shape[1] for ids in prompts],
            "tolerance": TOLERANCE,
        },
        "versions": versions(("torch", "transformers")),
        "kvpress": outcome.about,
        "key_gap": float(f"{outcome.key_gap:.1e}"),
        "rows": rows,
    }
    write_json(arguments.json, result)
    if arguments.json != "-":
        _print_table(rows)


def _budgets(text: str) -> list[int]:
    budgets = [parse_budget(part) for part in text.split(",")]
    if any(isinstance(budget, float) for budget in budgets):
        raise InputError("Parity counts rows: give whole numbers such as 64 as --budgets")
    return [int(budget) for budget in budgets]


def _examples(data: str | None) -> list[Example]:
    from judgeq._assets import assets_path
    from judgeq.data.example import Example
    from judgeq.data.jsonl import read_json_lines

    if data is not None:
        return [line.example for line in read_json_lines(Path(data))[0]]
    index = json.loads(assets_path("samples", "index.json").read_text(encoding="utf-8"))
    texts = [assets_path("samples", f"{entry['name']}.txt").read_text(encoding="utf-8") for entry in index]
    return [
        Example.asking(text.strip(), entry["question"], "sample")
        for text, entry in zip(texts, index, strict=True)
    ]


def _print_table(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        name = f"{row['task'].removeprefix('parity/'):15} {row['budget']:>5}"
        if row["score"] is None:
            sizes = row["layer_rows"]
            print(f"{name}  rows by layer {sizes['ours']}, kvpress {sizes['kvpress']}")
        else:
            print(f"{name}  {row['score']:.4f}  {row['ties']:,} ties, {row['different']:,} different")
