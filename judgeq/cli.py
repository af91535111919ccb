"""The command line: thin subcommands over the library's functions.

Exit codes: 0 done, 2 bad input (one sentence on standard error), 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from judgeq._version import __version__
from judgeq.commands import ask, bench, calibrate, errors, estimate, evaluate, methods, report, tokens, train
from judgeq.commands.common import check_paths
from judgeq.console import forget_output, never_fail_for_a_character, say
from judgeq.errors import JudgeqError, is_out_of_memory

LM_EVAL = "lm-eval"
VERBS = (
    (ask.add, "ask", "answer a question about a document under a budget"),
    (methods.add, "methods", "list the methods that can be named"),
    (train.add, "train", "train soft tokens for a model"),
    (evaluate.add, "evaluate", "measure methods against the oracle"),
    (calibrate.add, "calibrate", "find the smallest budget that is safe for your questions"),
    (train.add_ablation, "ablation", "compare training runs"),
    (bench.add, "bench", "measure how long things take"),
    (estimate.add, "estimate", "how much memory a model and its rows take"),
    (report.add, "report", "result files as one page and as tables"),
    (tokens.add, "tokens", "show soft tokens, publish them, exchange them with PEFT"),
    (errors.add, "errors", "what a message means, by its code"),
)


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
    if rest and getattr(arguments, "verb", None) != LM_EVAL:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.rest, arguments.words = rest, list(sys.argv[1:] if argv is None else argv)
    try:
        check_paths(arguments)
        arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except JudgeqError as error:
        say(f"judgeq: {error.with_code}\n")
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        say(f"judgeq: {error.filename or 'the system'} says: {error.strerror or error}\n")
        return 2
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        say("judgeq: the memory is not enough: take a shorter document, fewer methods, or --quantization 4bit\n")
        return 2
    except KeyboardInterrupt:
        say("judgeq: interrupted; what was finished is kept\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="judgeq", description="Keep the KV-cache rows that matter.")
    parser.add_argument("--version", action="version", version=f"judgeq {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add, verb, meaning in VERBS:
        add(verbs.add_parser(verb, help=meaning))
    meaning = "lm-eval's own command line, with the model judgeq"
    verbs.add_parser(LM_EVAL, add_help=False, help=meaning).set_defaults(run=_lm_eval)
    return parser


def _lm_eval(arguments: argparse.Namespace) -> None:
    from judgeq.integrations.lm_eval import main

    main(arguments.rest)
