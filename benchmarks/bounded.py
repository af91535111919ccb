"""Bounded decoding: how close predictions stay to the full cache's while rows are evicted again and again.

    python -m benchmarks.bounded --examples 8 --prompt-tokens 1000 --continuation 400 --json bounded.json

Texts are sections of Python's language reference. The beginning of one is the document of a prompt that asks to
continue it, and what follows there is read as the answer, while each method keeps its budget of all rows. The full
cache reads the same tokens. Per token: KL divergence from its prediction, in nats, and the share of equal first
choices. Differences are those between other methods and the first one named. The bound is equal: every head stores at
most its budget and `--evict-every` rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from judgeq._version import versions
from judgeq.cli import run
from judgeq.commands.common import (
    add_common,
    add_methods,
    add_number,
    command_of,
    finish,
    load_model,
)
from judgeq.commands.measuring import read_budgets, soft_tokens
from judgeq.config import check_at_least
from judgeq.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from judgeq.evaluation.runner import Asked
    from judgeq.models.language_model import LanguageModel
    from judgeq.soft_tokens.soft_tokens import SoftTokens

CONTINUE = "Continue this text where it ends."
METHODS = ",".join(
    (
        *("judgeq:memory=0", "snapkv", "h2o", "tova", "streamingllm"),
        *("keynorm", "random", "random:protect=true"),
    )
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the result; returns the exit code."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bounded",
        description="Predictions under bounded decoding beside the full cache's, over the continuation of real texts.",
    )
    parser.set_defaults(run=measure)
    add_common(parser)
    add_methods(parser, METHODS, "128,256")
    add_number(parser, "--examples", "texts", 8)
    add_number(parser, "--prompt-tokens", "tokens of each document", 1000)
    add_number(parser, "--continuation", "tokens that are read as the answer", 400)
    add_number(parser, "--evict-every", "tokens between two evictions", 64)
    return parser


def measure(arguments: argparse.Namespace) -> None:
    """What the command does."""
    import torch

    from judgeq.evaluation.runner import asked_of
    from judgeq.evaluation.statistics import bootstrap_interval
    from judgeq.methods.parsing import methods_from_text
    from judgeq.training.progress import Bars

    for name in ("examples", "prompt_tokens", "continuation", "evict_every"):
        check_at_least("bounded", name, getattr(arguments, name), 1)
    methods = methods_from_text(arguments.methods)
    asked = asked_of(methods, read_budgets(arguments.budgets))
    lm = load_model(arguments)
    tokens = soft_tokens(lm, methods.values(), arguments.tokens)
    found: dict[Asked, list[tuple[float, float]]] = {each: [] for each in asked}
    texts = list(_texts(lm, arguments.examples, arguments.prompt_tokens, arguments.continuation))
    with Bars() as bars, torch.inference_mode():
        advance = partial(bars.advance, "texts")
        for done, (ids, later) in enumerate(texts, 1):
            whole = lm.model(input_ids=torch.cat([ids, later], 1).to(lm.device), use_cache=False)
            reference = whole.logits[0, ids.shape[1] - 1 : -1].float().log_softmax(-1).cpu()
            for each, logits in _bounded(lm, ids, later, asked, tokens, arguments.evict_every):
                found[each].append(agreement(reference, logits.float().log_softmax(-1).cpu()))
            advance(done, len(texts))
    rows = []
    for each, figures in found.items():
        row: dict[str, Any] = {"method": each.label, "budget": each.budget, "n": len(figures)}
        for name, values in zip(("kl", "equal_first"), zip(*figures, strict=True), strict=True):
            low, high = bootstrap_interval([list(values)], arguments.seed)
            row |= {name: round(fmean(values), 4), f"{name}_interval": [round(low, 4), round(high, 4)]}
            row[f"{name}_of_texts"] = [round(value, 4) for value in values]
        rows.append(row)
    settings = ("examples", "prompt_tokens", "continuation", "evict_every", "seed")
    result = {
        "model": lm.name,
        "settings": {name: getattr(arguments, name) for name in settings},
        "command": command_of(arguments.words, module="benchmarks.bounded"),
        "versions": versions(("torch", "transformers")),
        "rows": rows,
        "differences": differences(rows, arguments.seed),
    }
    lines = (
        f"{row['method']:32} {row['budget']!s:>6}  KL {row['kl']:.3f}  equal {row['equal_first']:.1%}" for row in rows
    )
    finish(arguments, result, *lines)


def differences(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """How much further from the full cache, text by text, the other methods are than the first, with 95 % intervals."""
    from judgeq.evaluation.statistics import bootstrap_interval

    first = {row["budget"]: row for row in rows if row["method"] == rows[0]["method"]}
    found = []
    for row in rows:
        ours = first[row["budget"]]
        if row is not ours:
            gaps = [theirs - own for theirs, own in zip(row["kl_of_texts"], ours["kl_of_texts"], strict=True)]
            interval = [round(bound, 4) for bound in bootstrap_interval([gaps], seed)]
            place = {"method": row["method"], "against": ours["method"], "budget": row["budget"]}
            found.append({**place, "kl": round(fmean(gaps), 4), "interval": interval})
    return found


def agreement(reference: Tensor, predicted: Tensor) -> tuple[float, float]:
    """KL divergence per token, in nats, and the share of equal first choices; both (N, V) log probabilities."""
    kl = (reference.exp() * (reference - predicted)).sum(-1).mean()
    return float(kl), float((reference.argmax(-1) == predicted.argmax(-1)).float().mean())


def _texts(lm: LanguageModel, count: int, prompt: int, continuation: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Prompts (1, T) with a document of `prompt` tokens, and the tokens (1, N) with which the text goes on."""
    import torch

    from judgeq.data.passages import manual_texts
    from judgeq.prompts.prompt import build_prompt

    for text in manual_texts():
        ids = lm.tokenizer(text.body, verbose=False)["input_ids"][: prompt + continuation]
        if len(ids) < prompt + continuation:
            continue
        document = lm.tokenizer.decode(ids[:prompt])
        asked = build_prompt(lm, document, CONTINUE, reserve=continuation)
        yield asked.input_ids, torch.tensor([ids[prompt:]])
        count -= 1
        if not count:
            return
    raise InputError(
        f"{count:,} texts are missing of {prompt + continuation:,} tokens: give fewer --examples or tokens"
    )


def _bounded(
    lm: LanguageModel,
    ids: Tensor,
    later: Tensor,
    asked: Sequence[Asked],
    tokens: SoftTokens | None,
    every: int,
) -> Iterator[tuple[Asked, Tensor]]:
    """Each method at each budget, with logits (N, V) for the later tokens; rows are evicted every few of them."""
    import torch

    from judgeq.config import budget_rows
    from judgeq.inference.decode_eviction import DecodingEviction
    from judgeq.inference.plan import Plan
    from judgeq.inference.prefill import prefill

    soft, rows = (
        tokens.weights if tokens else None,
        [budget_rows(each.budget, ids.shape[1]) for each in asked],
    )
    plans = [Plan.with_tokens(each.method, count, tokens) for each, count in zip(asked, rows, strict=True)]
    outcome = prefill(lm, ids, plans, soft_tokens=soft)
    for each, count, retained in zip(asked, rows, outcome.retained, strict=True):
        bound = each.budget if isinstance(each.budget, int) else count  # in rows it may exceed the prompt
        eviction = DecodingEviction(lm, retained, bound, every, soft)
        yield each, torch.cat([outcome.logits, eviction.read(later[:, :-1])[0]])


if __name__ == "__main__":
    sys.exit(main())
