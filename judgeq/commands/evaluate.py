"""`judgeq evaluate`: measure methods side by side, on the rows they keep or on the answers they leave possible."""

from __future__ import annotations

import argparse

from judgeq.commands import answers, benchmarks, hit_rate


def add(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    hit_rate.add(kinds.add_parser("hit-rate", help="share of the oracle's top rows that a method keeps"))
    answers.add(kinds.add_parser("answers", help="right answers about facts planted in held-out articles"))
    answers.add_jsonl(kinds.add_parser("jsonl", help="right answers to questions of your own"))
    benchmarks.add_ruler(kinds.add_parser("ruler", help="RULER's 13 tasks at any length, through lm-eval"))
    benchmarks.add_niah(kinds.add_parser("niah", help="a needle in a haystack, depth by length"))
    benchmarks.add_longbench(
        kinds.add_parser("longbench", help="LongBench's 16 English tasks, through lm-eval")
    )
