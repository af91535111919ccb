"""`judgeq bench`: how long things take, compared within one run: first token, later tokens and memory of methods."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from judgeq._version import __version__, versions
from judgeq.commands.common import (
    add_common,
    add_methods,
    add_number,
    add_option,
    command_of,
    finish,
    load_model,
    load_random,
    write_json,
)
from judgeq.commands.measuring import read_budgets, soft_tokens
from judgeq.config import Budget, budget_rows, check_at_least, parse_budget
from judgeq.errors import InputError
from judgeq.values import seed64

if TYPE_CHECKING:
    import torch

    from judgeq.evaluation.speed import Contender
    from judgeq.inference.plan import Plan
    from judgeq.methods import Method
    from judgeq.models.language_model import LanguageModel
    from judgeq.soft_tokens.soft_tokens import SoftTokens

RANDOM_SOFT_TOKENS = 32
"""Soft tokens of a model with random weights, as many as the paper's."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_common(parser)
    meaning_of_weights = (
        "a model of this shape instead, such as llama-3.1-8b, with random weights and nothing to download"
    )
    add_option(parser, "--random-weights", "SHAPE", meaning_of_weights)
    add_speed(parser)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", title="instead of answers")
    attended = kinds.add_parser("attended", help="what recording an answer's attention costs a token")
    attended.set_defaults(run=_attended)
    add_common(attended)
    add_methods(attended, "full,judgeq,judgeq:allocation=adakv", "128")
    add_number(attended, "--prompt-tokens", "length of the prompt", 1024)
    add_number(attended, "--decode-tokens", "tokens of a round, each with and without", 64)
    add_number(attended, "--rounds", "how often they are written", 3)
    users = kinds.add_parser("users", help="how many answers at once one memory serves, and how fast")
    users.set_defaults(run=_users)
    add_common(users)
    add_option(users, "--random-weights", "SHAPE", meaning_of_weights)
    add_methods(users, "full,judgeq", "512")
    add_number(users, "--full-users", "users whose full cache the memory holds", 4)
    add_number(users, "--prompt-tokens", "length of each user's prompt", 4096)
    add_number(users, "--decode-tokens", "tokens of each answer", 64)
    add_number(users, "--rounds", "how often everything is measured, in turn", 3)
    step = kinds.add_parser("step", help="what a training step costs a prompt, with and without stored rows")
    step.set_defaults(run=_step)
    add_common(step)
    add_number(step, "--rounds", "how often everything is measured, in turn", 5)
    add_option(step, "--lengths", "N,M", "tokens of the documents", "512,1024,2048")
    add_number(step, "--accumulate", "prompts a step", 2)


def add_speed(parser: argparse.ArgumentParser) -> None:
    """What is measured, and how often."""
    add_methods(parser, "judgeq,snapkv,streamingllm,judgeq:allocation=adakv", "256")
    add_number(parser, "--prompt-tokens", "length of the prompt", 4096)
    add_number(parser, "--decode-tokens", "tokens that are written after the first", 32)
    add_number(parser, "--rounds", "how often everything is measured, in turn", 5)


def run(arguments: argparse.Namespace, peers: Sequence[Contender] = (), module: str = "judgeq", **more: Any) -> None:
    """Measure in turn with `peers`; `module` is the command's, and `more` stands in the result."""
    from judgeq.evaluation.speed import peak_bound, rows_of, run_rounds, weight_bytes
    from judgeq.inference.appended import most_appended
    from judgeq.methods.parsing import methods_from_text
    from judgeq.training.progress import Bars

    for name, least in (("prompt_tokens", 2), ("decode_tokens", 1), ("rounds", 1)):
        check_at_least("bench", name, getattr(arguments, name), least)
    methods, budgets = methods_from_text(arguments.methods), read_budgets(arguments.budgets)
    lm, tokens = _model(arguments, methods)
    n_soft = most_appended(lm, methods.values(), 0 if tokens is None else tokens.n)
    ids = _prompt(arguments, lm, n_soft)
    length = arguments.prompt_tokens
    contenders = _contenders(lm, methods, budgets, tokens)
    with Bars() as bars:
        advance = partial(bars.advance, "answers")
        times = run_rounds([*contenders, *peers], ids, arguments.decode_tokens, arguments.rounds, advance)
    memory = 0 if tokens is None else tokens.config.memory
    bounds = {
        each.label: peak_bound(lm, length, n_soft + memory, each.budget)
        for each in contenders
        if each.method in methods
    }
    weights = weight_bytes(lm.model)
    rows = rows_of(times, weights, bounds)
    result = {
        "benchmark": "speed",
        "model": lm.name,
        "precision": lm.precision,
        "settings": _settings(arguments, "prompt_tokens", "decode_tokens", "rounds", module=module),
        "machine": _machine(lm),
        "weight_bytes": weights,
        "versions": versions(("torch", "transformers")),
        **more,
        "rows": rows,
    }
    finish(arguments, result, *_table(rows))


def _prompt(arguments: argparse.Namespace, lm: LanguageModel, n_soft: int) -> torch.Tensor:
    """(1, T) random tokens; what they say takes no time."""
    import torch

    _check_length(arguments, lm, n_soft)
    generator = torch.Generator().manual_seed(seed64(arguments.seed))
    vocabulary = lm.model.config.get_text_config(decoder=True).vocab_size
    return torch.randint(vocabulary, (1, arguments.prompt_tokens), generator=generator).to(lm.device)


def _check_length(arguments: argparse.Namespace, lm: LanguageModel, n_soft: int) -> None:
    limit = lm.geometry.max_positions - max(n_soft, arguments.decode_tokens + 1)
    if arguments.prompt_tokens > limit:
        raise InputError(f"{lm.name} reads at most {limit:,} tokens before its answer: give fewer --prompt-tokens")


def _model(arguments: argparse.Namespace, methods: dict[str, Method]) -> tuple[LanguageModel, SoftTokens | None]:
    from judgeq.evaluation.random_weights import random_soft_tokens

    if arguments.random_weights is None:
        lm = load_model(arguments)
        return lm, soft_tokens(lm, methods.values(), arguments.tokens)
    if writing := [name for name, method in methods.items() if method.needs_response]:
        raise InputError(f"The method {writing[0]!r} needs an answer and random weights write none: name a --model")
    lm = load_random(arguments, arguments.random_weights)
    asked = any(method.uses_soft_tokens for method in methods.values())
    return lm, random_soft_tokens(lm, RANDOM_SOFT_TOKENS, arguments.seed) if asked else None


def _contenders(
    lm: LanguageModel, methods: dict[str, Method], budgets: list[Budget], tokens: SoftTokens | None
) -> list[Contender]:
    """transformers alone, the full cache, every method at every budget, all methods in one prefill, and a document's
    next question."""
    from judgeq.evaluation.speed import AGAIN, FULL, TOGETHER, Again, Ours, Plain
    from judgeq.inference.plan import Plan
    from judgeq.methods import Full

    weights = tokens.weights if tokens else None

    def plans(budget: Budget, *chosen: Method) -> Any:
        return lambda length: [Plan.with_tokens(method, budget_rows(budget, length), tokens) for method in chosen]

    evicting = {name: method for name, method in methods.items() if not isinstance(method, Full)}
    found: list[Contender] = [
        Plain(lm),
        Ours(lm, FULL, FULL, 1.0, lambda length: [Plan(Full(), length)]),
        *(
            Ours(lm, f"{name}@{budget}", name, budget, plans(budget, method), weights)
            for name, method in evicting.items()
            for budget in budgets
        ),
    ]
    if len(evicting) > 1:
        together = plans(budgets[0], *evicting.values())
        found.append(Ours(lm, TOGETHER, TOGETHER, budgets[0], together, weights))
    if evicting:
        first = next(iter(evicting.values()))
        found.append(Again(lm, AGAIN, AGAIN, budgets[0], plans(budgets[0], first), weights))
    return found


def _settings(arguments: argparse.Namespace, *names: str, module: str = "judgeq") -> dict[str, Any]:
    """These options, the seed, and the command that measures the same."""
    asked = {name: getattr(arguments, name) for name in (*names, "seed")}
    return {**asked, "command": command_of(arguments.words, ("--json", "--python"), module)}


def _machine(lm: LanguageModel) -> dict[str, Any]:
    import torch

    if lm.device.type == "cuda":
        return {"device": torch.cuda.get_device_name(lm.device)}
    return {"device": "cpu", "threads": torch.get_num_threads()}


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    width = max(len(row["label"]) for row in rows)
    yield f"{'':{width}}  first token   over plain   a token  speed-up  of roofline   peak rows   rows kept"
    for row in rows:
        share = "" if row.get("of_roofline") is None else f"{row['of_roofline']:.0%}"
        peak, kept = (
            "" if row.get(name) is None else f"{row[name] / 1e6:,.1f} MB" for name in ("peak_bytes", "row_bytes")
        )
        yield (
            f"{row['label']:{width}}  {row['first_s']:9.3f} s   {row['first_over_plain'] - 1:+9.1%}"
            f"  {1000 * row['token_s']:6.2f} ms  {row['speedup']:7.2f}x  {share:>11}  {peak:>10}  {kept:>10}"
        )


def _attended(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.attended_cost import WARM_UP, attended_times
    from judgeq.methods.parsing import methods_from_text
    from judgeq.training.progress import Bars

    for name, least in (("prompt_tokens", 2), ("decode_tokens", WARM_UP + 2), ("rounds", 1)):
        check_at_least("bench", name, getattr(arguments, name), least)
    methods, budgets = methods_from_text(arguments.methods), read_budgets(arguments.budgets)
    lm = load_model(arguments)
    tokens = soft_tokens(lm, methods.values(), arguments.tokens)
    length = arguments.prompt_tokens
    plans = _plans(methods, budgets, length, tokens)
    ids = _prompt(arguments, lm, 0 if tokens is None else tokens.n)
    with Bars() as bars:
        times = attended_times(
            lm,
            ids,
            plans,
            tokens.weights if tokens else None,
            arguments.decode_tokens,
            arguments.rounds,
            lambda done, total: bars.advance("rounds", done, total),
        )
    rows = [each.row() for each in times]
    result = {
        "benchmark": "attended",
        "model": lm.name,
        "settings": _settings(arguments, "prompt_tokens", "decode_tokens", "rounds"),
        "machine": _machine(lm),
        "versions": versions(("torch", "transformers")),
        "rows": rows,
    }
    width = max(len(row["label"]) for row in rows)
    lines = (
        f"{row['label']:{width}}  {1000 * row['token_s']:7.2f} ms a token, {row['ratio'] - 1:+.1%} with attention "
        f"recorded (half of {row['pairs']} pairs from {row['ratio_low'] - 1:+.1%} to {row['ratio_high'] - 1:+.1%})"
        for row in rows
    )
    finish(arguments, result, *lines)


def _plans(
    methods: dict[str, Method], budgets: list[Budget], length: int, tokens: SoftTokens | None
) -> list[tuple[str, Plan]]:
    """Every method at every budget, the full cache once, with labels."""
    from judgeq.inference.plan import Plan
    from judgeq.methods import Full

    return [
        (name if full else f"{name}@{budget}", Plan.with_tokens(method, budget_rows(budget, length), tokens))
        for name, method in methods.items()
        for full in (isinstance(method, Full),)
        for budget in ([1.0] if full else budgets)
    ]


def _users(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.users import bytes_of, serve
    from judgeq.methods.parsing import methods_from_text
    from judgeq.training.progress import Bars

    counts = ("full_users", "prompt_tokens", "decode_tokens", "rounds")
    for name in counts:
        check_at_least("bench", name, getattr(arguments, name), 1)
    methods, budgets = methods_from_text(arguments.methods), read_budgets(arguments.budgets)
    lm, tokens = _model(arguments, methods)
    if lm.geometry.sliding:
        raise InputError(f"{lm.name} has layers with a sliding window, which write one answer at a time")
    length, written = arguments.prompt_tokens, arguments.decode_tokens
    _check_length(arguments, lm, 0 if tokens is None else tokens.n)
    memory = arguments.full_users * bytes_of(lm, length + written)
    with Bars() as bars:
        times = serve(
            lm,
            _plans(methods, budgets, length, tokens),
            tokens.weights if tokens else None,
            memory=memory,
            prompt_tokens=length,
            tokens=written,
            rounds=arguments.rounds,
            seed=seed64(arguments.seed),
            progress=lambda done, total: bars.advance("rounds", done, total),
        )
    rows = [each.row(written) for each in times]
    result = {
        "benchmark": "users",
        "model": lm.name,
        "precision": lm.precision,
        "settings": _settings(arguments, *counts),
        "machine": _machine(lm),
        "memory_bytes": memory,
        "versions": versions(("torch", "transformers")),
        "rows": rows,
    }
    width = max(len(row["label"]) for row in rows)
    lines = (
        f"{row['label']:{width}}  {row['users']:>5} users in {memory / 1e6:,.0f} MB, {row['tokens_per_s']:,.1f} tokens "
        f"a second, {60 * row['answers_per_s']:,.1f} answers a minute, "
        f"{60 * row['answers_per_s_read_before']:,.1f} with prompts read before"
        for row in rows
    )
    finish(arguments, result, *lines)


def _step(arguments: argparse.Namespace) -> None:
    import time

    from judgeq.training.bench import step_times
    from judgeq.training.config import TrainConfig

    check_at_least("bench", "rounds", arguments.rounds, 1)
    config = TrainConfig(accumulate=arguments.accumulate, seed=arguments.seed)
    lengths = [int(parse_budget(text)) for text in arguments.lengths.split(",")]
    lms = [load_model(arguments)]
    here = lms[0].device.type == "cpu"
    if here and arguments.dtype is None and arguments.quantization is None:
        arguments.dtype = "bfloat16"
        lms.append(load_model(arguments))
    clock = time.process_time if here else time.perf_counter
    rows = []
    for length in lengths:
        measured = step_times(lms, config, length, arguments.rounds, clock)
        for lm, times in zip(lms, measured, strict=True):
            faster = measured[0].recomputed / times.stored
            row = {"prompt_tokens": times.prompt_tokens, "precision": lm.precision}
            for name in ("stored", "alone", "recomputed", "answer"):
                row[f"{name}_s"] = round(getattr(times, name), 4)
            rows.append(row | {"ratio": round(times.ratio, 2), "faster": round(faster, 2)})
            if arguments.json != "-":
                print(
                    f"{times.prompt_tokens:>6,} tokens, {lm.precision}: {times.stored:.2f} s a prompt on stored rows, "
                    f"{times.alone:.2f} s one by one, {times.recomputed:.2f} s read again, {faster:.1f} times as "
                    f"fast; {times.answer:.2f} s for its answer"
                )
    write_json(
        arguments.json,
        {
            "model": lms[0].name,
            "settings": _settings(arguments, "lengths", "accumulate", "rounds"),
            "machine": _machine(lms[0]),
            "clock": "CPU time" if here else "wall time",
            "judgeq_version": __version__,
            "rows": rows,
        },
    )
