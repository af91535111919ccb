"""What the figures say, in sentences: who is best, by how much, and how sure that is. Plain text, to be escaped."""

from __future__ import annotations

from dataclasses import dataclass

from judgeq.config import Budget
from judgeq.evaluation.report.blocks import Block, deployable
from judgeq.evaluation.report.read import ResultFile
from judgeq.evaluation.report.words import (
    BASELINE,
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
    """Of one block.

    Attributes:
        lead: one sentence.
        budgets: one sentence for each budget.
    """

    lead: str
    budgets: tuple[str, ...]


def summary_of(block: Block) -> Summary | None:
    """Who is best on average; None where no deployable method was measured."""
    winners = {budget: tuple(block.best(budget, _scope(block))) for budget in block.budgets}
    winners = {budget: names for budget, names in winners.items() if names}
    if not winners:
        return None
    lines = tuple(_budget_line(block, budget, names[0]) for budget, names in winners.items())
    return Summary(f"{block.title}: {_who(block, winners)}", lines)


def _scope(block: Block) -> int | None:
    return block.scopes[0]


def _who(block: Block, winners: dict[Budget, tuple[str, ...]]) -> str:
    candidates = [method for method in block.methods if deployable(method)]
    over = _over(block)
    if len(candidates) == 1:
        return f"{method_title(candidates[0])} is the only deployable method here{over}."
    by_names: dict[tuple[str, ...], list[str]] = {}
    for budget, names in winners.items():
        by_names.setdefault(names, []).append(budget_title(budget, block.per))
    said = []
    for names, budgets in by_names.items():
        where = "at every budget" if len(by_names) == 1 and len(winners) > 1 else f"at {join(budgets)}"
        what = "the best deployable method" if len(names) == 1 else "equally good and the best"
        verb = "is" if len(names) == 1 else "are"
        said.append(f"{join([method_title(name) for name in names])} {verb} {what} {where}")
    return f"{'; '.join(said)}{over}."


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
    scope = _scope(block)
    row = block.average(method, budget, scope)
    lead, closed = block.lead(method, budget, scope), block.gap_closed(method, budget, scope)
    full = block.full_average(scope)
    verb = "keeps" if block.is_hit_rate else "reaches"
    what = " of the oracle’s top rows" if block.is_hit_rate else ""
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


def _sureness(interval: tuple[float, float]) -> str:
    text = f"95 % interval {between(interval, signed=True)}"
    return text + ("; zero is inside, so this may be chance" if interval[0] <= 0 <= interval[1] else "")


def warnings_of(file: ResultFile) -> list[str]:
    """What a reader must know before trusting the figures: unfinished runs, skipped prompts, the file's own notes."""
    found = []
    if file.answered is not None and file.answered[0] < file.answered[1]:
        done, asked = file.answered
        found.append(
            f"The run is not finished: {done:,} of {asked:,} questions are answered, from all tasks alike."
        )
    if file.skipped:
        tasks = join([f"{count:,} of {task}" for task, count in file.skipped.items()])
        count = counted(sum(file.skipped.values()), "prompt")
        found.append(f"Left out because they are too long for the model: {count} ({tasks}).")
    return [*found, *file.notes]
