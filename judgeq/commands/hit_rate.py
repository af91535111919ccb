"""`judgeq evaluate hit-rate`: which of the oracle's top rows does a method keep?"""

from __future__ import annotations

import argparse
from functools import partial

from judgeq.commands.common import load_model
from judgeq.commands.measuring import (
    add_measured,
    add_number,
    add_skip_bad,
    read_budgets,
    report,
    soft_tokens,
)
from judgeq.config import check_at_least
from judgeq.console import say


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run)
    add_measured(parser, methods="judgeq,snapkv")
    parser.add_argument(
        "--data",
        default="wiki",
        metavar="NAME",
        help="what is held out of wiki, code, manuals, mixture, a FILE.jsonl or a FOLDER (default: %(default)s)",
    )
    add_number(parser, "--examples", 32, "prompts")
    add_number(parser, "--min-tokens", 512, "shortest document")
    add_number(parser, "--max-tokens", 1024, "longest document")
    add_number(parser, "--pool", 1, "max-pooling of the scores of methods that name none")
    add_skip_bad(parser)


def _run(arguments: argparse.Namespace) -> None:
    from judgeq.data.mixture import parse_sources
    from judgeq.data.mixture import report as left_out_of
    from judgeq.evaluation.hit_rate import hit_rates
    from judgeq.methods.parsing import methods_from_text
    from judgeq.training.progress import Bars

    check_at_least("evaluate", "examples", arguments.examples, 1)
    methods = methods_from_text(arguments.methods, pool=arguments.pool)
    budgets = read_budgets(arguments.budgets)
    source = parse_sources(arguments.data, part="unseen", skip_bad=arguments.skip_bad)
    lm = load_model(arguments)
    tokens = soft_tokens(lm, methods.values(), arguments.tokens)
    size = (arguments.min_tokens, arguments.max_tokens)
    examples = source.examples(lm, arguments.examples, tokens=size, seed=arguments.seed)
    if left_out := left_out_of(source):
        say(f"judgeq: {left_out}\n")
    with Bars() as bars:
        rates = hit_rates(
            lm,
            examples,
            list(methods.values()),
            budgets,
            tokens=tokens,
            names=list(methods),
            progress=partial(bars.advance, "prompts"),
        )
    settings = {"document_tokens": size, "pool": arguments.pool, "seed": arguments.seed}
    report(arguments, lm, tokens, settings, [rate.to_row(source.name) for rate in rates])
