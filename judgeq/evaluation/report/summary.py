"""What the figures say, in sentences: which method is best, by how much, and how sure that is. Plain text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from judgeq.config import Budget
from judgeq.evaluation.report.blocks import Block, Part, deployable
from judgeq.evaluation.report.read import BASELINE, Interval
from judgeq.evaluation.report.words import (
    between,
    budget_title,
    counted,
    join,
    length_title,
    method_title,
    percent,
    points,
)


@dataclass(frozen=True)
class Summary:
    """Of one block: one sentence for all of it, and one for each budget."""

    lead: str
    budgets: tuple[str, ...]


def summary_of(block: Block) -> Summary | None:
    """Which method is best on average; None where no deployable method was measured."""
    winners = {budget: tuple(block.best(budget, block.scopes[0])) for budget in block.budgets}
    winners = {budget: names for budget, names in winners.items() if names}
    if not winners:
        return None
    lines = tuple(_budget_line(block, budget, names[0]) for budget, names in winners.items())
    return Summary(f"{block.title}: {_best(block, winners)}{_over(block)}.", lines)


def warnings_of(part: Part) -> list[str]:
    """What a reader must know before trusting the figures: unfinished runs, skipped prompts, the files' own notes."""
    found = []
    for file in part.files:
        own = []
        if file.answered is not None and file.asked is not None and file.answered < file.asked:
            own.append(
                f"The run is not finished: {file.answered:,} of {file.asked:,} questions are answered, from all tasks "
                "alike."
            )
        skipped = {task: count for task, count in file.skipped.items() if count}
        if skipped:
            tasks = join([f"{count:,} of {task}" for task, count in skipped.items()])
            count = counted(sum(skipped.values()), "prompt")
            own.append(f"Left out because they are too long for the model: {count} ({tasks}).")
        prefix = f"{file.name}: " if len(part.files) > 1 else ""
        found += [prefix + text for text in (*own, *file.notes)]
    return found


def _best(block: Block, winners: Mapping[Budget, tuple[str, ...]]) -> str:
    candidates = [method for method in block.methods if deployable(method)]
    if len(candidates) == 1:
        return f"{method_title(candidates[0])} is the only deployable method here"
    by_names: dict[tuple[str, ...], list[str]] = {}
    for budget, names in winners.items():
        by_names.setdefault(names, []).append(budget_title(budget, block.per))
    said = []
    for names, budgets in by_names.items():
        where = "at every budget" if len(by_names) == 1 and len(winners) > 1 else f"at {join(budgets)}"
        what = "is the best deployable method" if len(names) == 1 else "are equally good and the best"
        said.append(f"{join([method_title(name) for name in names])} {what} {where}")
    return "; ".join(said)


def _over(block: Block) -> str:
    """What the averages span, where they span anything."""
    tasks = len(block.tasks(block.lengths[0] if block.lengths else None))
    parts = []
    if block.depths:
        parts.append(counted(len(block.depths), "depth"))
    elif tasks > 1:
        parts.append(counted(tasks, "task"))
    if len(block.lengths) > 1:
        parts.append(counted(len(block.lengths), "length"))
    at = f", at {length_title(block.lengths[0])}" if len(block.lengths) == 1 else ""
    return (f", on average over {join(parts)}" if parts else "") + at


def _budget_line(block: Block, budget: Budget, method: str) -> str:
    """`64 rows: Judge Q reaches 61.5 %, 31.0 points above SnapKV (…), and closes 72 % of the gap …`."""
    scope = block.scopes[0]
    row, full = block.average(method, budget, scope), block.full_average(scope)
    lead, closed = block.lead(method, budget, scope), block.gap_closed(method, budget, scope)
    verb, what = ("keeps", " of the oracle’s top rows") if block.is_hit_rate else ("reaches", "")
    line = f"{budget_title(budget, block.per)}: {method_title(method)} {verb} {percent(row.score if row else 0)}{what}"
    if lead is not None:
        side = "above" if lead.difference >= 0 else "below"
        line += f", {points(abs(lead.difference)).lstrip('+')} points {side} {method_title(BASELINE)}"
        line += f" ({_sureness(lead.interval)})" if lead.interval else ""
    if closed is not None and full is not None and method != BASELINE:
        line += f", and closes {100 * closed:.0f} % of the gap to the full cache’s {percent(full.score)}"
    elif full is not None:
        line += f"; the full cache reaches {percent(full.score)}"
    return line + "."


def _sureness(interval: Interval) -> str:
    text = f"95 % interval {between(interval, signed=True)}"
    return text + ("; zero is inside, so this may be chance" if interval[0] <= 0 <= interval[1] else "")
