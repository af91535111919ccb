"""`judgeq lm-eval`: lm-eval's own command line, which knows the model `judgeq` then."""

from __future__ import annotations

import argparse

VERB = "lm-eval"


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.lm_eval_model import main

    main(arguments.rest)
