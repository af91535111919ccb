"""`judgeq evaluate`: measure methods."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from judgeq._version import __version__
from judgeq.commands.common import add_common, load_model, write_json
from judgeq.config import parse_budget

if TYPE_CHECKING:
    from judgeq.soft_tokens import SoftTokens


def add(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    hit_rate = kinds.add_parser("hit-rate", help="share of the oracle's top rows that a method keeps")
    hit_rate.set_defaults(run=_hit_rate)
    add_common(hit_rate)
    hit_rate.add_argument("--methods", default="judgeq,snapkv", metavar="A,B", help="(default: %(default)s)")
    hit_rate.add_argument("--budgets", default="64,128,256", metavar="N,M", help="(default: %(default)s)")
    hit_rate.add_argument("--tokens", metavar="NAME|DIR", help="soft tokens; those shipped by default")
    hit_rate.add_argument(
        "--examples",
        type=int,
        default=32,
        metavar="N",
        help="prompts from held-out articles (default: %(default)s)",
    )
    hit_rate.add_argument("--min-tokens", type=int, default=512, metavar="N", help="(default: %(default)s)")
    hit_rate.add_argument("--max-tokens", type=int, default=1024, metavar="N", help="(default: %(default)s)")
    hit_rate.add_argument(
        "--pool",
        type=int,
        default=1,
        metavar="N",
        help="max-pooling of the methods' scores (default: %(default)s)",
    )


def _hit_rate(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.hit_rate import hit_rates
    from judgeq.methods import method_named
    from judgeq.soft_tokens import SoftTokens
    from judgeq.training.corpus import wiki_articles
    from judgeq.training.examples import build_examples
    from judgeq.training.progress import Bars

    methods = [method_named(name.strip()) for name in arguments.methods.split(",")]
    budgets = [parse_budget(text) for text in arguments.budgets.split(",")]
    lm = load_model(arguments)
    tokens: SoftTokens | None = None
    if any(method.probe == "soft" for method in methods):
        tokens = SoftTokens.for_model(lm, arguments.tokens)
    size = (arguments.min_tokens, arguments.max_tokens)
    examples = build_examples(
        lm, wiki_articles(held_out=True), arguments.examples, tokens=size, seed=arguments.seed
    )
    with Bars() as bars:
        rates = hit_rates(
            lm,
            examples,
            methods,
            budgets,
            tokens=tokens,
            pool=arguments.pool,
            progress=lambda done, total: bars("prompts", done, total, None),
        )
    rows = [
        {
            "method": rate.method,
            "budget": rate.budget,
            "task": "hit-rate/wiki",
            "metric": "hit_rate",
            "score": round(rate.mean, 4),
            "n": len(rate.rates),
        }
        for rate in rates
    ]
    if arguments.json != "-":
        for row in rows:
            print(f"{row['method']:14} {row['budget']!s:>6} rows  {row['score']:.3f}")
    write_json(
        arguments.json,
        {
            "model": lm.name,
            "tokens": tokens.config.recipe if tokens else None,
            "settings": {"document_tokens": size, "pool": arguments.pool, "seed": arguments.seed},
            "judgeq_version": __version__,
            "rows": rows,
        },
    )
