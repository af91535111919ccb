"""`judgeq ask`: answer one question about a document."""

from __future__ import annotations

import argparse
import sys
from typing import get_args

from judgeq.commands.common import add_common, load_model, write, write_json
from judgeq.config import Allocation, parse_budget

METHOD_OPTIONS = ("sinks", "recent", "pool", "allocation", "value_aware", "group", "bits")


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_common(parser)
    parser.add_argument("--document", required=True, metavar="FILE", help="a text file in UTF-8")
    parser.add_argument("--question", required=True, metavar="TEXT")
    parser.add_argument(
        "--method",
        default="judgeq",
        metavar="NAME",
        help="full, judgeq, snapkv, pyramidkv, h2o, laq, keynorm, streamingllm, random or oracle, with options if you "
        "like, such as laq:draft=4 (default: %(default)s)",
    )
    parser.add_argument(
        "--budget",
        default="128",
        metavar="ROWS|SHARE",
        help="128 = rows per KV head, 0.25 = share of the prompt (default: %(default)s)",
    )
    parser.add_argument(
        "--tokens", metavar="NAME|DIR", help="soft tokens; those shipped for the model by default"
    )
    parser.add_argument("--question-first", action="store_true", help="put the question before the document")
    parser.add_argument("--answer-prefix", default="", metavar="TEXT", help="text that the answer continues")
    parser.add_argument(
        "--truncate", action="store_true", help="cut the middle of a document that is too long"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=64, metavar="N", help="longest answer (default: %(default)s)"
    )
    parser.add_argument(
        "--rejudge-every",
        type=int,
        metavar="N",
        help="judge all rows again after every N tokens of the answer: no more than the budget and N are ever held",
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="0 = greedy (default: %(default)s)")
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="nucleus of the sampling (default: %(default)s)"
    )
    for option, what in (
        ("sinks", "first rows always kept"),
        ("recent", "last rows always kept"),
        ("pool", "width of the max-pooling over scores, odd; 1 = none"),
    ):
        parser.add_argument(f"--{option}", type=int, metavar="N", help=f"{what} (default: the method's)")
    parser.add_argument(
        "--allocation",
        metavar="NAME",
        help=f"budget of each layer and head: {', '.join(get_args(Allocation))} (default: the method's)",
    )
    parser.add_argument(
        "--value-aware",
        action="store_true",
        default=None,
        help="let what a row's value weighs count in the second half of the choice",
    )
    parser.add_argument(
        "--group",
        metavar="mean|max",
        help="how the scores of a KV head's query heads are merged (default: the method's)",
    )
    parser.add_argument(
        "--row-bits",
        dest="bits",
        type=int,
        metavar="8|4",
        help="store kept rows in so many bits a number (default: the method's)",
    )
    parser.add_argument("--html", metavar="FILE", help="write the document with what was kept")


def run(arguments: argparse.Namespace) -> None:
    from judgeq.api import stream
    from judgeq.config import Decoding
    from judgeq.documents import read_document
    from judgeq.methods.parsing import method_from_text

    document = read_document(arguments.document)
    budget = parse_budget(arguments.budget)
    decoding = Decoding(
        arguments.max_new_tokens,
        arguments.temperature,
        arguments.top_p,
        seed=arguments.seed,
        rejudge_every=arguments.rejudge_every,
    )
    options = [
        f":{name}={value}" for name in METHOD_OPTIONS if (value := getattr(arguments, name)) is not None
    ]
    method = method_from_text(arguments.method + "".join(options))
    quiet = arguments.json == "-"
    steps = stream(
        load_model(arguments),
        document,
        arguments.question,
        method=method,
        budget=budget,
        tokens=arguments.tokens,
        question_first=arguments.question_first,
        answer_prefix=arguments.answer_prefix,
        truncate=arguments.truncate,
        decoding=decoding,
    )
    while True:
        try:
            step = next(steps)
        except StopIteration as done:
            answer = done.value
            break
        if not quiet:
            print(step.text, end="", flush=True)
    for notice in answer.notices:
        print(f"judgeq: {notice}", file=sys.stderr)
    if not quiet:
        print()
        print(
            f"[{answer.method}: {answer.budget:,} of {answer.prompt_tokens:,} rows per KV head, "
            f"{answer.kv_bytes / 1e6:.1f} of {answer.full_kv_bytes / 1e6:.1f} MB, first token after "
            f"{answer.timing.ttft_s:.1f} s, {answer.timing.decode_tokens_per_s:.1f} tokens/s]",
            file=sys.stderr,
        )
    if arguments.html:
        write(arguments.html, answer.retention.to_html())
    write_json(arguments.json, answer.to_dict())
