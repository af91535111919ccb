"""`judgeq train`: make soft tokens for a model. `judgeq ablation`: training runs side by side."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from pathlib import Path

from judgeq._version import __version__
from judgeq.commands.common import add_common, add_flag, add_option, finish, load_model, write, write_json
from judgeq.config import command_options

QUICK = {"data": "wiki:4,code:1", "examples": 160, "max_tokens": 768, "epochs": 2}
"""What `--quick` sets: soft tokens in at most twenty minutes on two cores."""


def add(parser: argparse.ArgumentParser) -> None:
    from judgeq.training.config import STORE_GB, TrainConfig

    parser.set_defaults(run=run)
    add_common(parser)
    add_option(parser, "--out", "DIR", "folder for the soft tokens", required=True)
    add_flag(parser, "--resume", "resume an interrupted run; without it, a DIR with an unfinished run is rejected")
    add_flag(parser, "--quick", f"soft tokens in minutes:{command_options(QUICK)}")
    add_option(parser, "--store", "DIR", "folder of teacher attention and prompt rows, reused if it fits (OUT/store)")
    parser.add_argument(
        "--keep-rows",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep the prompts' rows there; otherwise each step reads its prompts again (default: on a CPU)",
    )
    add_option(parser, "--store-gb", "GB", "largest size of that folder", STORE_GB, type=float)
    add_flag(parser, "--remove-store", "delete that folder at the end")
    add_flag(parser, "--skip-bad", "leave out lines of --data that are not valid")
    for field in dataclasses.fields(TrainConfig):
        if field.name == "seed":
            continue
        kind = type(field.default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            metavar=kind.__name__.upper(),
            help=f"{_doc(TrainConfig, field.name)} (default: {field.default})",
        )


def add_ablation(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_ablation)
    parser.add_argument("runs", nargs="+", metavar="DIR", help="folders that `train` wrote; the first is the base")
    add_option(parser, "--figure", "FILE.png", "draw the hit rates; - for standard output")
    add_option(parser, "--json", "FILE", "write the table as JSON; - for standard output")


def _doc(cls: type, field: str) -> str:
    """What the class's docstring says about a field."""
    attributes = inspect.getdoc(cls).partition("Attributes:\n")[2]  # type: ignore[union-attr]
    entries = re.findall(r"^    ([\w, ]+): (.*?)(?=^    \S|\Z)", attributes, re.MULTILINE | re.DOTALL)
    text = next((text for names, text in entries if field in names.split(", ")), "")
    return " ".join(text.split()).rstrip(".").replace("%", "%%")


def run(arguments: argparse.Namespace) -> None:
    from judgeq.data.mixture import parse_sources
    from judgeq.training.config import TrainConfig
    from judgeq.training.progress import Bars, Progress
    from judgeq.training.train import STORE, check_folders, train
    from judgeq.training.workers import Workers

    names = {field.name for field in dataclasses.fields(TrainConfig)}
    given = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    config = TrainConfig.from_dict((QUICK if arguments.quick else {}) | given)
    out = Path(arguments.out)
    store = Path(arguments.store) if arguments.store else out / STORE
    check_folders(out, store)
    workers = Workers()
    lm = load_model(arguments, device=workers.device if workers.count > 1 else "auto")
    with Bars() as bars:
        tokens = train(
            lm,
            config,
            out,
            store=store,
            store_gb=arguments.store_gb,
            source=parse_sources(config.data, skip_bad=arguments.skip_bad),
            held_out=parse_sources(config.data, part="held_out", skip_bad=arguments.skip_bad),
            resume=arguments.resume,
            keep_rows=arguments.keep_rows,
            remove_store=arguments.remove_store,
            progress=bars if workers.rank == 0 else Progress(),
        )
    if workers.rank > 0:
        return
    said = f"Soft tokens of {lm.name} are in {out}: use them with --tokens {out}"
    metrics = (f"  {name.replace('_', ' ')}: {value}" for name, value in tokens.config.metrics.items())
    finish(arguments, tokens.config.to_dict(), said, *metrics)


def run_ablation(arguments: argparse.Namespace) -> None:
    from judgeq.training.ablation import compare_runs, draw_runs

    table = {"judgeq_version": __version__} | compare_runs([Path(folder) for folder in arguments.runs])
    if arguments.figure:
        write(arguments.figure, draw_runs(table))
    write_json(arguments.json, table)
    if "-" not in (arguments.json, arguments.figure):
        for row in table["rows"]:
            rates = "  ".join(f"{rate:.3f}" for rate in row["hit_rate"].values())
            print(f"{rates}  {row['parameters']:>10,}  {row['run']}")
