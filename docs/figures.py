"""The figures of the documents, from the results files: `./run python docs/figures.py` writes them into the pages.

`<!-- table: NAME ARGUMENTS -->` stands before a table, whose head is the page's and whose lines are those of the
function of that name. `<!-- value: NAME ARGUMENTS -->…<!-- -->` encloses a figure in a sentence. The site fills in both
when it is built (`repository.py`), so that its pages always have the figures of the files. Knows nothing of Sphinx.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "assets" / "results"
PAGES = ("README.md", "docs/*.md", "assets/experiments/*/README.md")

Lines = Iterable[list[str]]
TABLES: dict[str, Callable[..., Lines]] = {}
VALUES: dict[str, Callable[..., str]] = {}

TABLE = re.compile(r"(^<!-- table: (.+?) -->\n\|.*\n\|.*\n)((?:\|.*\n?)*)", re.MULTILINE)
VALUE = re.compile(r"(<!-- value: ([^>]+?) -->)(.*?)(<!-- -->)", re.DOTALL)

TITLES = {
    "full": "full cache",
    "judgeq+draft:draft=16": "Judge Q + draft of 16",
    "judgeq+draft": "Judge Q + draft",
    "judgeq": "Judge Q",
    "stockanswer": "stock answer",
    "laq": "LAQ",
    "snapkv": "SnapKV",
    "defensivekv": "DefensiveKV",
    "chunkkv": "ChunkKV",
    "expectedattention": "Expected Attention",
    "tova": "TOVA",
    "kvzip": "KVzip",
    "kvzip+": "KVzip+",
    "pyramidkv": "PyramidKV",
    "h2o": "H2O",
    "streamingllm": "StreamingLLM",
    "keynorm": "key norm",
    "random": "random rows",
    "judgeq:pool=7": "Judge Q, pooled over 7",
    "snapkv:pool=7": "SnapKV, pooled over 7",
    "oracle": "oracle",
}
"""Methods of the tables, in their order."""


def filled(text: str) -> str:
    """A page with the figures of the results files.

    Raises:
        KeyError: it names a table or value that there is not.
    """

    def table(match: re.Match[str]) -> str:
        name, *arguments = shlex.split(match[2])
        return match[1] + "".join(f"| {' | '.join(line)} |\n" for line in TABLES[name](*arguments))

    def value(match: re.Match[str]) -> str:
        name, *arguments = shlex.split(match[2])
        found = VALUES[name](*arguments)
        # a figure that is the same keeps the page's line breaks
        return match[0] if match[3].split() == found.split() else match[1] + found + match[4]

    return VALUE.sub(value, TABLE.sub(table, text))


def unmarked(text: str) -> str:
    """A page without the marks around the figures in its sentences."""
    return VALUE.sub(r"\3", text)


def pages() -> list[Path]:
    return sorted(path for pattern in PAGES for path in ROOT.glob(pattern))


# How figures are written


def results(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def scores(name: str, task: str = "") -> dict[tuple[str, Any], float]:
    """Scores by method and budget, of one task where there are several."""
    rows = results(name)["rows"]
    return {(row["method"], row["budget"]): row["score"] for row in rows if not task or row["task"] == task}


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def signed(number: float, unit: str = "") -> str:
    return f"{number:+.1f}{unit}".replace("-", "−")


def gib(size: int) -> str:
    return f"{size / 2**30:.2f}"


def listed(figures: Iterable[str]) -> str:
    """`41, 53, 62 and 71`."""
    *first, last = figures
    return f"{', '.join(first)} and {last}" if first else last


def line(method: str, cells: Iterable[str]) -> list[str]:
    """A line of a method; ours are in bold."""
    found = [TITLES[method], *cells]
    return [f"**{cell}**" for cell in found] if method.startswith("judgeq") and ":pool" not in method else found


def table(function: Callable[..., Lines]) -> Callable[..., Lines]:
    TABLES[function.__name__] = function
    return function


def value(function: Callable[..., str]) -> Callable[..., str]:
    VALUES[function.__name__] = function
    return function


# Hit rates and answers


@table
def hit_rates(name: str) -> Lines:
    found = scores(name)
    budgets = sorted({budget for _, budget in found})
    for method in TITLES:
        if (method, budgets[0]) in found:
            yield line(method, (percent(found[method, budget]) for budget in budgets))
    leads = (signed(100 * (found["judgeq", budget] - found["snapkv", budget])) for budget in budgets)
    yield ["*points of Judge Q above SnapKV*", *leads]


@table
def ruler() -> Lines:
    found = scores("ruler", "ruler")
    budgets = sorted({budget for method, budget in found if method != "full"})
    for method in TITLES:
        if (method, budgets[0]) in found:
            yield line(method, (percent(found[method, budget]) for budget in budgets))


@table
def ruler_moved() -> Lines:
    rows = [row for row in results("ruler_moved")["moved"] if "/" not in row["task"]]
    found = {(row["method"], row["budget"]): signed(100 * row["difference"]) for row in rows}
    budgets = sorted({budget for method, budget in found if method != "full"})
    yield [TITLES["full"], *[found["full", 1.0]] * len(budgets)]
    for method in TITLES:
        if (method, budgets[0]) in found:
            yield line(method, (found[method, budget] for budget in budgets))


@table
def variants(name: str, *tasks: str) -> Lines:
    """Methods with options, at every budget of each task in turn."""
    rows = results(name)["rows"]
    found = {(row["task"], row["method"], row["budget"]): row["score"] for row in rows}
    every = sorted({row["budget"] for row in rows} - {1.0})
    for method in dict.fromkeys(row["method"] for row in rows):
        budgets = every if method != "full" else [1.0] * len(every)
        base, *options = method.split(":")
        title = ", ".join([TITLES[base], *(_option(option) for option in options)])
        cells = (found.get((task, method, budget)) for task in tasks for budget in budgets)
        yield [title, *("–" if cell is None else percent(cell, 0) for cell in cells)]


def _option(option: str) -> str:
    name, _, value = option.partition("=")
    if name == "memory":
        return f"{value if value != '0' else 'no'} memory rows"
    if name == "unit":
        return {"word": "whole words", "row": "row by row"}[value]
    return value if name == "group" else f"{name} {value}"


@value
def score(name: str, task: str, method: str, *budgets: str) -> str:
    """Per cent of one method; of all budgets where none is named."""
    found = scores(name, "" if task == "-" else task)
    wanted = [float(each) for each in budgets] or sorted(at for other, at in found if other == method)
    return f"{listed(f'{100 * found[method, budget]:.1f}' for budget in wanted)} %"


@value
def asked(name: str, task: str) -> str:
    return str(next(row["n"] for row in results(name)["rows"] if row["task"] == task))


@value
def gap_closed(name: str, task: str, method: str, *budgets: str) -> str:
    """Of the gap between SnapKV and the full cache, per cent, at each budget."""
    found = scores(name, task)
    wanted = [float(each) for each in budgets] or sorted(at for other, at in found if other == method)
    shares = ((found[method, at] - found["snapkv", at]) / (found["full", 1.0] - found["snapkv", at]) for at in wanted)
    return f"{listed(f'{100 * share:.0f}' for share in shares)} %"


@value
def lit_update() -> str:
    update = results("lights")["update"]
    return f"{1000 * (update['lit_s'] - update['dark_s']):.1f} ms"


@value
def gain(name: str, task: str, method: str, against: str) -> str:
    """Points of one method above another, question by question, at each budget."""
    found = [
        row["difference"]
        for row in results(name)["differences"]
        if (row["task"], row["method"], row["against"]) == (task, method, against)
    ]
    return listed(f"{100 * difference:.1f}" for difference in found)


@value
def lead(name: str) -> str:
    """Points of Judge Q above SnapKV, at each budget."""
    found = scores(name)
    budgets = sorted({budget for _, budget in found})
    return listed(f"{100 * (found['judgeq', at] - found['snapkv', at]):.1f}" for at in budgets)


@value
def moved(method: str, *budgets: str) -> str:
    """Points lost by a question before the document."""
    rows = {(row["method"], row["budget"]): row for row in results("ruler_moved")["moved"] if "/" not in row["task"]}
    return listed(f"{-100 * rows[method, int(at)]['difference']:.1f}" for at in budgets)


@value
def needles(method: str) -> str:
    """Per cent found, over all lengths and depths, at each budget."""
    rows = [row for row in results("niah")["rows"] if row["method"] == method and "/depth-" in row["task"]]
    by_budget: dict[float, list[float]] = {}
    for row in rows:
        by_budget.setdefault(row["budget"], []).append(row["score"])
    return f"{listed(f'{100 * sum(each) / len(each):.1f}' for _, each in sorted(by_budget.items()))} %"


# Training


@table
def ablation() -> Lines:
    for row in sorted(results("ablation")["rows"], key=lambda row: -sum(row["hit_rate"].values())):
        yield [row["run"], *map(percent, row["hit_rate"].values()), f"{row['parameters'] / 1e6:.2f}"]


@table
def bench_step() -> Lines:
    for row in results("bench_step")["rows"]:
        times = (f"{row[f'{name}_s']:.2f} s" for name in ("recomputed", "alone", "stored"))
        faster, answer = f"{row['faster']:.1f}", f"{row['answer_s']:.1f} s"
        yield [f"{row['prompt_tokens']:,}", row["precision"], *times, faster, answer]


@table
def attended_cost(file: str) -> Lines:
    for row in results(file)["rows"]:
        low, middle, high = (f"{100 * (row[name] - 1):+.1f} %" for name in ("ratio_low", "ratio", "ratio_high"))
        yield [row["label"], f"{1000 * row['token_s']:.0f} ms", middle, f"{low} to {high}"]


@table
def predictions(file: str) -> Lines:
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for row in results(file)["rows"]:
        found.setdefault(row["method"], {})[row["budget"]] = row["kl"], row["equal_first"]
    for name, by_budget in found.items():
        budgets = sorted(by_budget)
        kl, equal = ([by_budget[budget][at] for budget in budgets] for at in (0, 1))
        yield [f"`{name}`", *(f"{each:.3f}" for each in kl), *(f"{each:.1%}" for each in equal)]


@table
def folding() -> Lines:
    found: dict[tuple[str | None, float | None], dict[int, float]] = {}
    for row in results("folding")["rows"]:
        found.setdefault((row["weights"], row["least_similarity"]), {})[row["budget"]] = row["kl"]
    for (weights, least), kl in found.items():
        name = f"{weights}, {f'cosine of at least {least}' if least else 'all of them'}" if weights else "not folded"
        yield [name, *(f"{kl[budget]:.3f}" for budget in sorted(kl))]


@table
def users() -> Lines:
    for row in results("users")["rows"]:
        minute = (f"{60 * row[name]:.1f}" for name in ("answers_per_s", "answers_per_s_read_before"))
        yield [row["label"], str(row["users"]), f"{row['tokens_per_s']:.0f}", *minute]


@value
def users_setting(name: str) -> str:
    return f"{results('users')['settings'][name]:,}"


@value
def users_of(label: str, name: str) -> str:
    """How many users `label` serves, or its answers a minute."""
    row = next(row for row in results("users")["rows"] if row["label"] == label)
    return str(row["users"]) if name == "users" else f"{60 * row[name]:.0f}"


@value
def users_precision() -> str:
    return str(results("users")["precision"])


@value
def step_ratios() -> str:
    ratios = [row["ratio"] for row in results("bench_step")["rows"]]
    return f"{min(ratios):.1f} to {max(ratios):.1f}"


@value
def quick_seconds() -> str:
    return f"{results('train_quick')['metrics']['seconds_of_last_run']:.0f} s"


@table
def memory_rows(figure: str) -> Lines:
    """Of an experiment's record, `assets/experiments/memory_rows/run.json`."""
    record = _experiment("run.json")
    for prefix, part in (("before: ", record["before"]), ("", record["held_out"])):
        for name in sorted(part, key=lambda name: (", pool" in name, "mean" not in name, _natural(name))):
            found = [each[figure] for each in part[name].values() if figure in each]
            if found and not (figure == "hits" and ", pool" in name):  # of scores before pooling
                yield [prefix + name, *(f"{each:.3f}" if figure == "kl" else percent(each) for each in found)]


@table
def memory_rows_alone(figure: str) -> Lines:
    """Of the records of the second and the third run, `run_alone.json` and `run_third.json`."""
    second, third = (_experiment(name)["held_out"] for name in ("run_alone.json", "run_third.json"))
    shown = {"no memory rows": second["mean"]}
    for count in (4, 8):
        shown[f"{count} memory rows, second run"] = second[f"mean+{count}"]
        shown[f"{count} memory rows, third run"] = third[f"mean+{count}"]
    for title, by_budget in shown.items():
        found = (each[figure] for each in by_budget.values())
        yield [title, *(f"{each:.3f}" if figure == "kl" else percent(each) for each in found)]


def _experiment(name: str) -> Any:
    return json.loads((ROOT / "assets/experiments/memory_rows" / name).read_text(encoding="utf-8"))


# Calibration


@table
def calibrate() -> Lines:
    found = results("calibrate")
    for point in found["points"]:
        yield [
            percent(point["budget"], 0),
            f"{point['rows']:.0f}",
            f"{point['kv_bytes'] / 1e6:.2f} MB",
            f"{point['survived']} of {found['questions']}",
            percent(point["low"]),
            percent(point["high"]),
            "yes" if point["safe"] else "no",
        ]


@value
def calibrated(*path: str) -> str:
    """A figure by its place in the results file, a share as per cent."""
    found: Any = results("calibrate")
    for name in path:
        found = found[name]
    return percent(found, 0) if isinstance(found, float) else str(len(found) if isinstance(found, list) else found)


# Speed


@table
def bench(name: str = "bench") -> Lines:
    for row in results(name)["rows"]:
        yield [
            row["label"],
            f"{row['first_s']:.2f} s",
            signed(100 * (row["first_over_plain"] - 1), " %"),
            f"{1000 * row['token_s']:.1f} ms",
            f"{row['speedup']:.2f}",
            percent(row["of_roofline"], 0) if "of_roofline" in row else "–",
            *(f"{row[name] / 1e6:.1f} MB" if name in row else "–" for name in ("peak_bytes", "row_bytes")),
        ]


@value
def first_token_over_plain(label: str) -> str:
    row = next(row for row in results("bench")["rows"] if row["label"] == label)
    return percent(row["first_over_plain"] - 1, 0)


@value
def token_over(label: str, other: str) -> str:
    """How much longer a later token takes than another's."""
    took = {row["label"]: row["token_s"] for row in results("bench")["rows"]}
    return percent(took[label] / took[other] - 1, 0)


@table
def products() -> Lines:
    for row in results("products")["rows"]:
        yield [
            row["label"],
            f"{1000 * row['seconds']:.1f} ms",
            f"{row['over_float32']:.2f}",
            f"{row['gb_s']:.1f} GB/s",
            "–" if row["laid_out_s"] is None else f"{row['laid_out_s']:.1f} s",
        ]


@table
def cpu() -> Lines:
    for row in results("cpu")["rows"]:
        yield [
            row["label"],
            f"{row['first_s']:.2f} s",
            f"{row['first_over_float32']:.2f}",
            f"{1000 * row['token_s']:.1f} ms",
            f"{row['token_over_float32']:.2f}",
        ]


@table
def ruler_types() -> Lines:
    for name in ("float32", "bfloat16"):
        rows = [row for row in results(f"quantized/ruler_{name}")["rows"] if row["metric"] == "average"]
        yield [name, *(percent(row["score"]) for row in rows)]


@value
def start(part: str) -> str:
    found = results("start")
    rounds = found["rounds"] if part in found["rounds"][0] else found["demo_rounds"]
    return f"{median(each[part] for each in rounds):.2f} s"


# Memory


def _files(folder: str, pattern: str = "*") -> list[tuple[str, dict[str, Any]]]:
    """Name and content of the results files in a folder; numbers in names count as such."""
    paths = sorted((RESULTS / folder).glob(f"{pattern}.json"), key=lambda path: _natural(path.stem))
    return [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def _natural(text: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


SIZES = ("weights", "full_rows", "kept_rows", "reading", "reading_full")


def _weights_in(found: dict[str, Any]) -> str:
    return found["quantization"] or found["dtype"]


def _beside(found: dict[str, Any]) -> list[str]:
    """Calculated and measured."""
    return [f"{gib(found['calculated'][size])} / {gib(found['measured'][size])}" for size in SIZES]


@table
def memory_calculated() -> Lines:
    for _, found in _files("memory"):
        if found["measured"] is None:
            sizes = (gib(found["calculated"][size]) for size in SIZES)
            yield [found["model"], _weights_in(found), f"{found['prompt_tokens']:,}", *sizes]


@table
def memory_measured() -> Lines:
    measured = [found for _, found in _files("memory") if found["measured"]]
    for found in sorted(measured, key=lambda found: -found["measured"]["weights"]):
        yield [_weights_in(found), *_beside(found)]


@table
def gpu_memory() -> Lines:
    for _, found in _files("gpu", "llama*"):
        yield [_weights_in(found), f"{found['prompt_tokens']:,}", *_beside(found)]


@table
def gpu_times() -> Lines:
    for name, found in _files("gpu", "bench*"):
        _, bits, tokens = name.split("_")
        for row in found["rows"]:
            yield [
                bits,
                f"{int(tokens):,}",
                row["label"],
                f"{row['first_s']:.2f} s",
                signed(100 * (row["first_over_plain"] - 1), " %"),
                f"{1000 * row['token_s']:.1f} ms",
                f"{row['row_bytes'] / 1e6:,.0f} MB",
            ]


@table
def long_prompt() -> Lines:
    for label, name in (("in one pass", "one_pass"), ("in chunks of 1,024", "chunks")):
        measured = results(f"long/{name}")["measured"]
        yield [label, gib(measured["reading"]), gib(measured["reading_full"])]


@table
def bounded() -> Lines:
    for name in ("full", "judgeq", "judgeq_64", "judgeq_128", "snapkv_64", "h2o_64"):
        method, _, interval = name.partition("_")
        found = results(f"bounded/{name}")
        sizes = (f"{found[size] / 1e6:.1f}" for size in ("kv_bytes", "kv_bytes_at_end"))
        yield [f"`{method}`", interval or "–", *sizes]


@table
def continuations(name: str) -> Lines:
    rows = results(f"bounded/{name}")["rows"]
    found = {(row["method"], row["budget"]): row for row in rows}
    budgets = sorted({row["budget"] for row in rows})
    for method in dict.fromkeys(row["method"] for row in rows):
        figures = [found[method, budget] for budget in budgets]
        kl = [f"{row['kl']:.2f} ({row['kl_interval'][0]:.2f} to {row['kl_interval'][1]:.2f})" for row in figures]
        yield [f"`{method}`", *kl, *(percent(row["equal_first"]) for row in figures)]


@value
def closer(name: str, method: str, *budgets: str) -> str:
    """Nats a token that Judge Q is closer to the full cache than another method, with intervals over texts."""
    rows = {(row["method"], row["budget"]): row for row in results(f"bounded/{name}")["differences"]}
    found = [rows[method, int(budget)] for budget in budgets]
    return listed(f"{row['kl']:.3f} ({row['interval'][0]:.3f} to {row['interval'][1]:.3f})" for row in found)


BITS = {
    "Judge Q, not quantized": ["judgeq"],
    "Judge Q, in 8 bits": ["judgeq:bits=8"],
    "Judge Q, in 4 bits": ["judgeq:bits=4"],
    "SnapKV, not quantized": ["snapkv"],
    "SnapKV, in 4 bits": ["snapkv:bits=4"],
    "all, in 8 or 4 bits": ["full:bits=4", "full:bits=8"],
}
SHARES = (0.025, 0.05, 0.1, 0.18, 0.32)


@table
def bits(task: str) -> Lines:
    """Scores at equal bytes: of the most rows that fit, and none where they leave a fifth of the share unused."""
    rows = [row for row in results("bits")["rows"] if row["task"] == f"{task}@1000"]
    full = next(row for row in rows if row["method"] == "full")
    for label, methods in BITS.items():
        parts = [(row["kv_bytes"] / full["kv_bytes"], row["score"]) for row in rows if row["method"] in methods]
        fitting = [max((each for each in parts if each[0] < share + 0.001), default=(0.0, 0.0)) for share in SHARES]
        cells = (
            percent(score) if part > 0.8 * share else "–" for (part, score), share in zip(fitting, SHARES, strict=True)
        )
        yield [label, *cells]
    yield ["all, not quantized: 100 % of the bytes", percent(full["score"]), *[""] * (len(SHARES) - 1)]


# Measured by others


@table
def others() -> Lines:
    """What files that others sent say on average, or of each task where they have no average."""
    files = _files("others")
    for name, found in files:
        rows = [row for row in found["rows"] if row["metric"] == "average"] or found["rows"]
        cells = {(row["task"], row["method"], row["budget"]): percent(row["score"]) for row in rows}
        evicted = (row for row in rows if not row["method"].startswith("full"))
        for task, budget in dict.fromkeys((row["task"], row["budget"]) for row in evicted):
            asked = ("full", 1.0), ("judgeq", budget), ("snapkv", budget)
            scores = (cells.get((task, *each), "–") for each in asked)
            yield [name, found["model"], found["precision"], task, str(budget), *scores]
    if not files:
        yield ["none yet", *["–"] * 7]


# Precisions of the base model

PRECISIONS = {"float32": "float32", "bfloat16": "bfloat16", "8 bits": "8bit", "4 bits": "4bit"}
WENT_ON = {
    "as shipped": "4bit",
    "in 4 bits": "4bit_trained_4bit",
    "in float32": "4bit_trained_float32",
    "in 4 bits, a tenth of the learning rates": "4bit_gentle_4bit",
    "in float32, a tenth of the learning rates": "4bit_gentle_float32",
}
ROWS = (64, 128, 256)
"""Budgets; of answers per 1,000 tokens."""


def _answers(name: str, task: str, *methods: str) -> list[str]:
    found = scores(f"quantized/answers_{name}", f"{task}@1000")
    return [percent(found[method, rows / 1000]) for method in methods for rows in ROWS]


def _hit_rates(name: str, method: str, *budgets: int) -> list[str]:
    found = scores(f"quantized/hit_rate_{name}")
    return [percent(found[method, budget]) for budget in budgets]


@table
def precision_hit_rates() -> Lines:
    for label, name in PRECISIONS.items():
        yield [label, *_hit_rates(name, "judgeq", *ROWS), *_hit_rates(name, "snapkv", 64)]


@table
def precision_answers(task: str) -> Lines:
    for label, name in PRECISIONS.items():
        full = percent(scores(f"quantized/answers_{name}", f"{task}@1000")["full", 1.0])
        yield [label, full, *_answers(name, task, "judgeq", "judgeq+draft")]


@table
def precision_training() -> Lines:
    for label, name in WENT_ON.items():
        yield [label, *_hit_rates(name, "judgeq", *ROWS), *_answers(name, "keys", "judgeq")]


# kvpress


def _parity(*, equal: bool) -> list[list[dict[str, Any]]]:
    """Rows of each task, those with equal settings or the others; without different numbers of rows."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in results("parity_kvpress")["rows"]:
        if row["equal_settings"] == equal and row["score"] is not None:
            found.setdefault(row["task"], []).append(row)
    return list(found.values())


def _sum(rows: list[dict[str, Any]], name: str) -> str:
    return f"{sum(row[name] for row in rows):,}"


@table
def parity_equal() -> Lines:
    for rows in _parity(equal=True):
        sums = (_sum(rows, name) for name in ("kept", "ties", "different"))
        shares = (percent(row["score"], 2) for row in rows)
        yield [f"`{rows[0]['press']}`", f"`{rows[0]['method']}`", *shares, *sums]


@table
def parity_own() -> Lines:
    for rows in _parity(equal=False):
        settings = "window {window_size}, kernel {kernel_size}".format(**rows[0]["options"])
        sums = (_sum(rows, name) for name in ("ties", "different"))
        shares = (percent(row["score"]) for row in rows)
        yield [f"`{rows[0]['press']}`, {settings}", f"`{rows[0]['method']}`", *shares, *sums]


@table
def parity_pyramid() -> Lines:
    for row in results("parity_kvpress")["rows"]:
        if row["score"] is None:
            ours, theirs = row["layer_rows"].values()
            yield [str(row["budget"]), *(f"{rows[0]} to {rows[-1]}" for rows in (theirs, ours))]


@value
def parity_score_gap(method: str) -> str:
    rows = [row for each in _parity(equal=True) for row in each]
    return f"{max(row['score_gap'] for row in rows if row['method'].split(':')[0] == method):.1e}"


@value
def parity_key_gap() -> str:
    return f"{results('parity_kvpress')['key_gap']:.0e}"


@value
def parity_agreement(task: str, budget: str) -> str:
    rows = (row for row in results("parity_kvpress")["rows"] if row["task"] == f"parity/{task}")
    return percent(next(row["score"] for row in rows if str(row["budget"]) == budget))


@value
def parity_transformers() -> str:
    found = results("parity_kvpress")
    return f"{found['kvpress']['transformers']} and {found['versions']['transformers']}"


def main() -> None:
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            path.write_text(new, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
