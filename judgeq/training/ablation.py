"""Training runs side by side: what each changed, what it reached, and the command that repeats it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from judgeq.errors import InputError
from judgeq.look.palette import LIGHT
from judgeq.soft_tokens.model_card import training_command
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.training.config import TrainConfig
from judgeq.values import several

PREFIX = "held_out_hit_rate_"
BAR_COLORS = {"64": LIGHT["level-3"], "128": LIGHT["level-5"], "256": LIGHT["line"]}


def compare_runs(folders: str | Path | Iterable[str | Path]) -> dict[str, Any]:
    """A results file's content from finished `train` folders; the first one is the base that others changed.

    Each row has the settings that differ, held-out hit rates by budget, the count of trained numbers, and the command
    that repeats the run.

    Raises:
        InputError: a folder without finished soft tokens or without held-out figures, or of another model.
    """
    wanted = several(folders)
    if not wanted:
        raise InputError("There is nothing to compare: give the folders of some finished runs")
    tokens = [SoftTokens.from_pretrained(folder) for folder in wanted]
    recipes = [TrainConfig.from_dict(each.config.recipe).to_dict() for each in tokens]
    model, base, usual = tokens[0].config.base_model, recipes[0], TrainConfig().to_dict()
    rows = []
    for folder, each, recipe in zip(wanted, tokens, recipes, strict=True):
        config = each.config
        found = {name.removeprefix(PREFIX): rate for name, rate in config.metrics.items() if PREFIX in name}
        rates = dict(sorted(found.items(), key=lambda entry: int(entry[0])))
        if not rates or config.base_model != model:
            raise InputError(f"{folder} has no held-out hit rates on {model}: train it with --held-out above 0")
        changed = {name: value for name, value in recipe.items() if base[name] != value}
        given = {name: value for name, value in recipe.items() if usual.get(name) != value}
        rows.append(
            {
                "run": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in changed.items()) or "base",
                "changed": changed,
                "hit_rate": rates,
                "parameters": sum(tensor.numel() for tensor in each.weights.tensors().values()),
                "command": training_command(model, given),
            }
        )
    held_out = {"prompts": base["held_out"], "document_tokens": [base["min_tokens"], base["max_tokens"]]}
    return {"model": model, "measured_on": held_out, "rows": rows}


def draw_runs(table: dict[str, Any]) -> bytes:
    """Bars of the hit rates, best run on top, as a PNG."""
    from matplotlib.figure import Figure

    rows = sorted(table["rows"], key=lambda row: sum(row["hit_rate"].values()))
    figure = Figure(figsize=(9, 0.45 * len(rows) + 1.4), layout="constrained")
    axes = figure.add_subplot(xlabel="hit rate on held-out prompts")
    for budget in sorted(rows[0]["hit_rate"], key=int, reverse=True):
        rates = [row["hit_rate"][budget] for row in rows]
        axes.barh(range(len(rows)), rates, color=BAR_COLORS.get(budget), label=f"{budget} rows", height=0.8)
    lowest = min(min(row["hit_rate"].values()) for row in rows)
    axes.set_xlim(left=max(0.0, lowest - 0.05))
    axes.set_yticks(range(len(rows)), [row["run"] for row in rows], fontsize="small")
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return picture.getvalue()
