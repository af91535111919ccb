"""`judgeq train`: make soft tokens for a model."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from judgeq.commands.common import add_common, load_model, write_json


def add(parser: argparse.ArgumentParser) -> None:
    from judgeq.training.config import TrainConfig

    parser.set_defaults(run=run)
    add_common(parser)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the soft tokens; run again to resume"
    )
    parser.add_argument(
        "--store", metavar="DIR", help="folder of prompt rows and teacher attention (default: OUT/store)"
    )
    for field in dataclasses.fields(TrainConfig):
        if field.name == "seed":
            continue
        option = f"--{field.name.replace('_', '-')}"
        kind = type(field.default)
        parser.add_argument(
            option,
            type=kind,
            default=field.default,
            metavar=kind.__name__.upper(),
            help=f"{_doc(TrainConfig, field.name)} (default: %(default)s)",
        )


def _doc(cls: type, field: str) -> str:
    """The first line that the class's docstring has for a field."""
    lines = (line.strip() for line in (cls.__doc__ or "").splitlines())
    entries = (line.partition(":") for line in lines if ":" in line)
    return next(
        (text.strip().replace("%", "%%") for names, _, text in entries if field in names.split(", ")), ""
    )


def run(arguments: argparse.Namespace) -> None:
    from judgeq.training.config import TrainConfig
    from judgeq.training.loop import train
    from judgeq.training.progress import Bars

    names = {field.name for field in dataclasses.fields(TrainConfig)}
    config = TrainConfig(**{name: value for name, value in vars(arguments).items() if name in names})
    lm = load_model(arguments)
    store = Path(arguments.store) if arguments.store else None
    with Bars() as bars:
        tokens = train(lm, config, Path(arguments.out), store=store, progress=bars)
    if arguments.json != "-":
        print(f"Soft tokens of {lm.name} are in {arguments.out}: use them with --tokens {arguments.out}")
    write_json(arguments.json, tokens.config.to_dict())
