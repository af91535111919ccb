"""The command line: thin verbs over the library's functions.

Exit codes: 0 done, 2 bad input (one sentence on standard error), 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from judgeq._version import __version__
from judgeq.commands import (
    ablation,
    ask,
    bench,
    estimate,
    evaluate,
    lm_eval,
    report,
    tokens,
    train,
)
from judgeq.commands.common import check_paths
from judgeq.console import forget_output, never_fail_for_a_character, say
from judgeq.errors import JudgeqError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    return run(_parser(), argv)


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Run what a parser's `run` default names, with judgeq's exit codes; for commands outside the package too."""
    never_fail_for_a_character()
    try:
        return _run(parser, argv)
    except BrokenPipeError:  # the reader has stopped, as with `| head`
        return 0
    finally:
        forget_output()


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    arguments, rest = parser.parse_known_args(argv)
    if rest and getattr(arguments, "verb", None) != lm_eval.VERB:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest, arguments.words = rest, list(sys.argv[1:] if argv is None else argv)
    try:
        check_paths(arguments)
        arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except JudgeqError as error:
        say(f"judgeq: {error}\n")
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        say(f"judgeq: {error.filename or 'the system'} says: {error.strerror or error}\n")
        return 2
    except KeyboardInterrupt:
        say("judgeq: interrupted; what was finished is kept\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="judgeq", description="Keep the KV-cache rows that matter.")
    parser.add_argument("--version", action="version", version=f"judgeq {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    ask.add(verbs.add_parser("ask", help="answer a question about a document under a budget"))
    train.add(verbs.add_parser("train", help="train soft tokens for a model"))
    evaluate.add(verbs.add_parser("evaluate", help="measure methods against the oracle"))
    ablation.add(verbs.add_parser("ablation", help="compare training runs"))
    bench.add(verbs.add_parser("bench", help="measure how long things take"))
    estimate.add(verbs.add_parser("estimate", help="how much memory a model and its rows take"))
    report.add(verbs.add_parser("report", help="result files as one page and as tables"))
    tokens.add(verbs.add_parser("tokens", help="look at soft tokens, publish them, exchange them with PEFT"))
    lm_eval.add(
        verbs.add_parser(
            lm_eval.VERB, add_help=False, help="lm-eval's own command line, with the model judgeq"
        )
    )
    return parser
