"""`judgeq train`: make soft tokens for a model."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from pathlib import Path

from judgeq.commands.common import add_common, load_model, write_json
from judgeq.config import command_options

QUICK = {"data": "wiki:4,code:1", "examples": 160, "max_tokens": 768, "epochs": 2}
"""What `--quick` sets: a judge in at most twenty minutes on two cores."""


def add(parser: argparse.ArgumentParser) -> None:
    from judgeq.training.config import STORE_GB, TrainConfig

    parser.set_defaults(run=run)
    add_common(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the soft tokens")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an interrupted run; without it, a begun DIR is refused",
    )
    parser.add_argument("--quick", action="store_true", help=f"a judge in minutes:{command_options(QUICK)}")
    parser.add_argument(
        "--store",
        metavar="DIR",
        help="folder of teacher attention and prompt rows, reused if it fits (OUT/store)",
    )
    parser.add_argument(
        "--keep-rows",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep the prompts' rows there; otherwise each step reads its prompts again (default: on a CPU)",
    )
    parser.add_argument(
        "--store-gb",
        type=float,
        default=STORE_GB,
        metavar="GB",
        help="largest size of that folder (default: %(default)s)",
    )
    parser.add_argument("--remove-store", action="store_true", help="delete that folder at the end")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out lines of --data that are not valid"
    )
    for field in dataclasses.fields(TrainConfig):
        if field.name == "seed":
            continue
        option = f"--{field.name.replace('_', '-')}"
        kind = type(field.default)
        parser.add_argument(
            option,
            type=kind,
            metavar=kind.__name__.upper(),
            help=f"{_doc(TrainConfig, field.name)} (default: {field.default})",
        )


def _doc(cls: type, field: str) -> str:
    """What the class's docstring says about a field."""
    attributes = inspect.getdoc(cls).partition("Attributes:\n")[2]  # type: ignore[union-attr]
    entries = re.findall(r"^    ([\w, ]+): (.*?)(?=^    \S|\Z)", attributes, re.MULTILINE | re.DOTALL)
    text = next((text for names, text in entries if field in names.split(", ")), "")
    return " ".join(text.split()).rstrip(".").replace("%", "%%")


def run(arguments: argparse.Namespace) -> None:
    from judgeq.data.mixture import parse_sources
    from judgeq.training.config import TrainConfig
    from judgeq.training.loop import STORE, check_folders, train
    from judgeq.training.progress import Bars, Progress
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
    write_json(arguments.json, tokens.config.to_dict())
    if arguments.json != "-":
        print(f"Soft tokens of {lm.name} are in {out}: use them with --tokens {out}")
        for name, value in tokens.config.metrics.items():
            print(f"  {name.replace('_', ' ')}: {value}")
