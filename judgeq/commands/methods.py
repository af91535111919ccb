"""`judgeq methods`: what `--method` can name."""

from __future__ import annotations

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from judgeq.methods import METHODS, title_of

    width = max(map(len, METHODS))
    for name, method in METHODS.items():
        print(f"{name:{width}}  {title_of(name)}. {method.summary}".rstrip())
