"""What all subcommands share: the options that mean the same everywhere, loading the model, writing results."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from judgeq.console import takes_everything
from judgeq.errors import InputError
from judgeq.models import DEFAULT_MODEL
from judgeq.models.supported import DTYPES
from judgeq.output import check_file, lies_on_disk, means_stdout, write_file
from judgeq.values import checked_seed

if TYPE_CHECKING:
    from judgeq.models.language_model import LanguageModel

WRITTEN = ("json", "html", "markdown", "figure")
"""Options that name a file for a result."""
READ = (
    *("document", "data", "files", "runs", "tokens", "prompt", "model", "start"),
    *("python", "ruler_files", "longbench_files"),
)
"""Options that name files and folders to read."""


def add_option(
    parser: argparse.ArgumentParser, option: str, metavar: str, meaning: str, default: Any = None, **more: Any
) -> None:
    """An option with a value; the help names a default."""
    shown = "" if default is None else " (default: %(default)s)"
    parser.add_argument(option, metavar=metavar, default=default, help=meaning + shown, **more)


def add_number(
    parser: argparse.ArgumentParser, option: str, meaning: str, default: int | None = None, **more: Any
) -> None:
    """An option that takes a whole number."""
    add_option(parser, option, "N", meaning, default, type=int, **more)


def add_flag(parser: argparse.ArgumentParser, option: str, meaning: str) -> None:
    """A switch that is off by default."""
    parser.add_argument(option, action="store_true", help=meaning)


def add_json(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--json", "FILE", "write the result as JSON; - for standard output")


def add_tokens(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--tokens", "NAME|DIR", "soft tokens; those shipped for the model by default")


def add_methods(parser: argparse.ArgumentParser, methods: str, budgets: str) -> None:
    """What is compared: methods, budgets and soft tokens."""
    meaning = "with options if you like, such as judgeq:allocation=adakv:pool=5; `judgeq methods` lists them"
    add_option(parser, "--methods", "A,B", meaning, methods)
    add_option(parser, "--budgets", "N,M", "rows per KV head, or shares such as 0.1", budgets)
    add_tokens(parser)


def add_common(parser: argparse.ArgumentParser) -> None:
    """The model, how it is loaded, the seed and the file for the result."""
    add_option(parser, "--model", "NAME", "embedded name, Hub id, folder or GGUF file", DEFAULT_MODEL)
    parser.add_argument("--quantization", choices=("4bit", "8bit"), help="load the model with bitsandbytes")
    parser.add_argument(
        "--dtype",
        choices=("auto", *DTYPES),
        help="of weights and rows, or of what quantized weights are computed in (default: float32 on a CPU, the "
        "model's own 16 bits elsewhere); auto: bfloat16 on a CPU too, where it is faster",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="of everything drawn at random, a whole number of at most 64 bits (default: 0)",
    )
    add_json(parser)


def seed(text: str) -> int:
    """A seed as typed."""
    try:
        return checked_seed("--seed", int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a seed: give a whole number of at most 64 bits, such as 0"
        ) from None


def load_model(arguments: argparse.Namespace, device: Any = "auto") -> LanguageModel:
    from judgeq.models.loading import load

    return load(arguments.model, quantization=arguments.quantization, dtype=arguments.dtype, device=device)


def load_random(arguments: argparse.Namespace, shape: str) -> LanguageModel:
    """Random weights of a shape, in the precision that was asked for."""
    from judgeq.evaluation.random_weights import random_model

    return random_model(shape, seed=arguments.seed, dtype=arguments.dtype, quantization=arguments.quantization)


def command_of(words: Sequence[str], without: Sequence[str] = ("--json", "--minutes"), module: str = "judgeq") -> str:
    """A command as one types it, without the options that say where its result goes or when it stops."""
    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        option = word.partition("=")[0]
        if option not in without and before not in without:
            kept.append(word)
    return shlex.join(["python", "-m", module, *kept])


def check_paths(arguments: argparse.Namespace) -> None:
    """Put the home folder in place of `~` in all paths, and refuse files that could not be written in the end.

    Raises:
        InputError: an empty path, or a result that cannot be written, or would replace another one or what is read.
    """
    for name in (*READ, *WRITTEN, "out", "store", "save_document"):
        match getattr(arguments, name, None):
            case "":
                raise InputError(f"--{name.replace('_', '-')} is empty: give a path, or leave it out")
            case str(text):
                setattr(arguments, name, ",".join(map(os.path.expanduser, text.split(","))))
            case [*texts]:
                setattr(arguments, name, [os.path.expanduser(text) for text in texts])  # noqa: PTH111 - keeps ./
    used: dict[str, str] = {}
    for name in WRITTEN:
        if (target := getattr(arguments, name, None)) is None:
            continue
        if target == "-" or means_stdout(target):
            setattr(arguments, name, target := "-")
        else:
            check_file(target)
        place = target if target == "-" or not lies_on_disk(target) else os.path.realpath(target)
        if place in used:
            raise InputError(f"--{used[place]} and --{name} both write {target}: give another path to one")
        used[place] = name
    for name in READ:
        given = getattr(arguments, name, None)
        for path in given if isinstance(given, list) else [given]:
            if path not in (None, "-") and os.path.realpath(path) in used:
                raise InputError(f"{path} is read and would be replaced by the result: give another path")


def write_json(target: str | None, value: dict[str, Any]) -> None:
    """Write a result; standard output takes it in ASCII where it is not Unicode, since JSON has no other encoding."""
    if target == "-":
        print(json.dumps(value, indent=2, ensure_ascii=not takes_everything(sys.stdout)))
    elif target is not None:
        write_file(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def finish(arguments: argparse.Namespace, result: dict[str, Any], *lines: str) -> None:
    """Write the result where `--json` says, and print the lines unless that is standard output."""
    write_json(arguments.json, result)
    if arguments.json != "-":
        print(*lines, sep="\n")


def write(target: str, data: str | bytes) -> None:
    """Write a page or picture; `-` is standard output."""
    if target != "-":
        write_file(target, data)
    elif sys.stdout is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace"))
