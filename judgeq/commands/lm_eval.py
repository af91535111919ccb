"""`judgeq lm-eval`: lm-eval's own command line, which knows the model `judgeq` then."""

from __future__ import annotations

import argparse

VERB = "lm-eval"


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from judgeq.integrations.lm_eval import main

    main(arguments.rest)
