"""`judgeq bench`: the first token, later tokens and memory of methods side by side."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from judgeq.commands.common import (
    add_common,
    command_of,
    load_model,
    load_random,
    model_folder,
    versions,
    write_json,
)
from judgeq.commands.measuring import add_number, read_budgets
from judgeq.config import Budget, check_at_least
from judgeq.errors import InputError
from judgeq.values import seed64

if TYPE_CHECKING:
    import torch

    from judgeq.evaluation.speed import Contender
    from judgeq.methods import Method
    from judgeq.models.language_model import LanguageModel
    from judgeq.soft_tokens.soft_tokens import SoftTokens

RANDOM_SOFT_TOKENS = 32
"""Soft tokens of a model with random weights, as many as the paper's."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_common(parser)
    parser.add_argument(
        "--random-weights",
        metavar="SHAPE",
        help="a model of this shape instead, such as llama-3.1-8b, with random weights and nothing to download",
    )
    parser.add_argument(
        "--methods",
        default="judgeq,snapkv,streamingllm,judgeq:allocation=adakv",
        metavar="A,B",
        help="with options if you like, such as judgeq:allocation=adakv:pool=5 (default: %(default)s)",
    )
    parser.add_argument(
        "--budgets",
        default="256",
        metavar="N,M",
        help="rows per KV head, or shares such as 0.1 (default: %(default)s)",
    )
    parser.add_argument("--tokens", metavar="NAME|DIR", help="soft tokens; those shipped by default")
    add_number(parser, "--prompt-tokens", 4096, "length of the prompt")
    add_number(parser, "--decode-tokens", 32, "tokens that are written behind the first")
    add_number(parser, "--rounds", 5, "how often everything is measured, in turn")
    parser.add_argument(
        "--peer-python",
        metavar="FILE",
        help="Python of an environment with kvpress, to measure its SnapKV too",
    )


def run(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.speed import peak_bound, rows_of, run_rounds, weight_bytes
    from judgeq.methods.parsing import methods_from_text
    from judgeq.training.progress import Bars

    for name, least in (("prompt_tokens", 2), ("decode_tokens", 1), ("rounds", 1)):
        check_at_least("bench", name, getattr(arguments, name), least)
    methods, budgets = methods_from_text(arguments.methods), read_budgets(arguments.budgets)
    if arguments.peer_python and arguments.random_weights:
        raise InputError("kvpress reads a model from its files: leave --random-weights out, or --peer-python")
    lm, tokens = _model(arguments, methods)
    ids = _prompt(arguments, lm, 0 if tokens is None else tokens.n)
    length = arguments.prompt_tokens
    with ExitStack() as stack, Bars() as bars:
        contenders = _contenders(lm, methods, budgets, tokens)
        peers, about = _peers(arguments, stack, budgets, length)
        times = run_rounds(
            [*contenders, *peers],
            ids,
            arguments.decode_tokens,
            arguments.rounds,
            lambda done, total: bars.advance("answers", done, total),
        )
    n_soft = 0 if tokens is None else tokens.n
    bounds = {
        each.label: peak_bound(lm, length, n_soft, each.budget)
        for each in contenders
        if each.method in methods
    }
    weights = weight_bytes(lm.model)
    rows = rows_of(times, weights, bounds)
    write_json(
        arguments.json,
        {
            "benchmark": "speed",
            "model": lm.name,
            "settings": {
                "prompt_tokens": length,
                "decode_tokens": arguments.decode_tokens,
                "rounds": arguments.rounds,
                "seed": arguments.seed,
                "command": command_of(arguments.words, ("--json", "--peer-python")),
            },
            "machine": _machine(lm),
            "weight_bytes": weights,
            "versions": versions(("torch", "transformers")),
            **({"kvpress": about} if about else {}),
            "rows": rows,
        },
    )
    if arguments.json != "-":
        _print_table(rows)


def _prompt(arguments: argparse.Namespace, lm: LanguageModel, soft_tokens: int) -> torch.Tensor:
    """(1, T) random tokens; what they say takes no time."""
    import torch

    behind = max(soft_tokens, arguments.decode_tokens + 1)
    limit = lm.geometry.max_positions - behind
    if arguments.prompt_tokens > limit:
        raise InputError(
            f"{lm.name} reads at most {limit:,} tokens before its answer: give fewer --prompt-tokens"
        )
    generator = torch.Generator().manual_seed(seed64(arguments.seed))
    vocabulary = lm.model.config.get_text_config(decoder=True).vocab_size
    return torch.randint(vocabulary, (1, arguments.prompt_tokens), generator=generator).to(lm.device)


def _model(
    arguments: argparse.Namespace, methods: dict[str, Method]
) -> tuple[LanguageModel, SoftTokens | None]:
    from judgeq.commands.measuring import soft_tokens
    from judgeq.evaluation.random_weights import random_soft_tokens

    if arguments.random_weights is None:
        lm = load_model(arguments)
        return lm, soft_tokens(lm, methods.values(), arguments.tokens)
    if writing := [name for name, method in methods.items() if method.needs_response]:
        raise InputError(
            f"The method {writing[0]!r} looks at an answer and random weights write none: name a --model"
        )
    lm = load_random(arguments, arguments.random_weights)
    asked = any(method.uses_soft_tokens for method in methods.values())
    return lm, random_soft_tokens(lm, RANDOM_SOFT_TOKENS, arguments.seed) if asked else None


def _contenders(
    lm: LanguageModel, methods: dict[str, Method], budgets: list[Budget], tokens: SoftTokens | None
) -> list[Contender]:
    """transformers alone, the full cache, every method at every budget, all methods in one prefill, and a document's
    next question."""
    from judgeq.config import budget_rows
    from judgeq.evaluation.speed import AGAIN, FULL, TOGETHER, Again, Ours, Plain
    from judgeq.inference.plan import Plan
    from judgeq.methods import Full

    probe, profile = (tokens.probe, tokens.profile) if tokens else (None, None)

    def plans(budget: Budget, *chosen: Method) -> Any:
        return lambda length: [Plan(method, budget_rows(budget, length), profile) for method in chosen]

    evicting = {name: method for name, method in methods.items() if not isinstance(method, Full)}
    found: list[Contender] = [
        Plain(lm),
        Ours(lm, FULL, FULL, 1.0, lambda length: [Plan(Full(), length)]),
        *(
            Ours(lm, f"{name}@{budget}", name, budget, plans(budget, method), probe)
            for name, method in evicting.items()
            for budget in budgets
        ),
    ]
    if len(evicting) > 1:
        together = plans(budgets[0], *evicting.values())
        found.append(Ours(lm, TOGETHER, TOGETHER, budgets[0], together, probe))
    if evicting:
        first = next(iter(evicting.values()))
        found.append(Again(lm, AGAIN, AGAIN, budgets[0], plans(budgets[0], first), probe))
    return found


def _peers(
    arguments: argparse.Namespace, stack: ExitStack, budgets: list[Budget], length: int
) -> tuple[list[Contender], dict[str, str]]:
    if not arguments.peer_python:
        return [], {}
    from judgeq.config import budget_rows
    from judgeq.evaluation.kvpress_peer import ALONE, SNAPKV, Peer, serving

    server = stack.enter_context(serving(arguments.peer_python, model_folder(arguments.model)))
    peers: list[Contender] = [Peer(server, ALONE, ALONE, 1.0, 0)]
    peers += [
        Peer(server, f"{SNAPKV}@{budget}", SNAPKV, budget, budget_rows(budget, length)) for budget in budgets
    ]
    return peers, server.about


def _machine(lm: LanguageModel) -> dict[str, Any]:
    import torch

    if lm.device.type == "cuda":
        return {"device": torch.cuda.get_device_name(lm.device)}
    return {"device": "cpu", "threads": torch.get_num_threads()}


def _print_table(rows: list[dict[str, Any]]) -> None:
    width = max(len(row["label"]) for row in rows)
    print(f"{'':{width}}  first token   over plain   a token  speed-up  of roofline   peak rows   rows kept")
    for row in rows:
        share, peak, kept = (row.get(name) for name in ("of_roofline", "peak_bytes", "row_bytes"))
        print(
            f"{row['label']:{width}}  {row['first_s']:9.3f} s   {row['first_over_plain'] - 1:+9.1%}"
            f"  {1000 * row['token_s']:6.2f} ms  {row['speedup']:7.2f}x  {_share(share):>11}"
            f"  {_megabytes(peak):>10}  {_megabytes(kept):>10}"
        )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _megabytes(count: float | None) -> str:
    return "" if count is None else f"{count / 1e6:,.1f} MB"
