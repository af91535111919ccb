"""Predictions from kept rows beside the full cache's, and with the values of evicted rows folded into kept ones.

    python -m benchmarks.predictions --examples 40 --methods judgeq,snapkv --budgets 64,128,256 --json predictions.json

Prompts are held-out ones, and the model's own greedy answers are read again: KL divergence from the full cache's
prediction per token, in nats, and the share of equal first choices.

`--fold`: does an evicted row's value help, added to the value of its most similar kept row? Meta-Soft (arXiv
2605.22337) folds the values of evicted rows into kept ones. Here, without training, each evicted row goes to the kept
row of its head whose key has the highest cosine similarity to its own, or nowhere if that is below a threshold. `mean`
averages the values that meet; `score` weights each by its attention from the soft tokens, which is what the answer is
expected to pay to it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from benchmarks.bounded import agreement
from judgeq._version import versions
from judgeq.cli import run
from judgeq.commands.common import (
    add_common,
    add_methods,
    add_number,
    add_option,
    command_of,
    finish,
    load_model,
)
from judgeq.commands.measuring import read_budgets, soft_tokens
from judgeq.config import Decoding, check_at_least

if TYPE_CHECKING:
    from torch import Tensor

    from judgeq.cache.retained import RetainedCache
    from judgeq.inference.plan import Retained

WAYS = (None, ("mean", 0.0), ("mean", 0.9), ("score", 0.0), ("score", 0.9))
"""Weights, and the least cosine similarity; None does not fold."""
LEAST_ANSWER = 4
"""Shorter answers, in tokens, are left out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the result; returns the exit code."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.predictions",
        description="Predictions from kept rows beside those of the full cache.",
    )
    parser.set_defaults(run=measure)
    add_common(parser)
    add_methods(parser, "judgeq,snapkv", "64,128,256")
    add_option(parser, "--data", "SOURCES", "held-out prompts, as in train", "wiki:3,code:1,records:3,chains:3")
    add_number(parser, "--examples", "prompts", 40)
    add_number(parser, "--max-new-tokens", "tokens of each answer", 64)
    parser.add_argument("--fold", action="store_true", help="fold evicted values into kept rows, too")
    return parser


def measure(arguments: argparse.Namespace) -> None:
    """What the command does."""
    import torch

    from judgeq.config import budget_rows
    from judgeq.data.mixture import parse_sources
    from judgeq.inference.decode import decode
    from judgeq.inference.plan import Plan
    from judgeq.inference.prefill import prefill
    from judgeq.methods import Full
    from judgeq.methods.parsing import methods_from_text
    from judgeq.training.progress import Bars

    for name in ("examples", "max_new_tokens"):
        check_at_least("predictions", name, getattr(arguments, name), 1)
    methods, budgets = methods_from_text(arguments.methods), read_budgets(arguments.budgets)
    lm = load_model(arguments)
    tokens = soft_tokens(lm, methods.values(), arguments.tokens)
    source = parse_sources(arguments.data, part="held_out")
    examples = source.examples(lm, arguments.examples, tokens=(256, 1100), seed=arguments.seed)
    found: dict[tuple[str, Any, Any], list[tuple[float, float]]] = {}
    with Bars() as bars, torch.inference_mode():
        advance = partial(bars.advance, "prompts")
        for done, example in enumerate(examples, 1):
            ids = example.input_ids(lm, reserve=arguments.max_new_tokens + 64)
            asked = [(name, budget) for name in methods for budget in budgets]
            plans = [
                Plan.with_tokens(methods[name], budget_rows(budget, ids.shape[1]), tokens) for name, budget in asked
            ]
            outcome = prefill(
                lm, ids, [Plan(Full(), ids.shape[1]), *plans], soft_tokens=tokens.weights if tokens else None
            )
            full, *others = outcome.retained
            steps = decode(lm, full.cache.fork(), outcome.logits, Decoding(arguments.max_new_tokens))
            answer = torch.tensor([[step.token for step in steps]], device=lm.device)
            if answer.shape[1] >= LEAST_ANSWER:
                reference = _predictions(lm, full.cache.fork(), answer)
                for (name, budget), kept in zip(asked, others, strict=True):
                    for way in WAYS if arguments.fold else (None,):
                        cache = kept.cache.fork()
                        if way is not None:
                            _fold(cache, full.cache, kept, *way)
                        agreed = agreement(reference, _predictions(lm, cache, answer))
                        found.setdefault((name, budget, way), []).append(agreed)
            advance(done, len(examples))
    rows = []
    for (name, budget, way), figures in found.items():
        kl, equal = (fmean(values) for values in zip(*figures, strict=True))
        weights, least = way or (None, None)
        folded: dict[str, Any] = {"weights": weights, "least_similarity": least}
        shown = {"kl": round(kl, 4), "equal_first": round(equal, 4), "n": len(figures)}
        rows.append({"method": name, "budget": budget, **folded, **shown})
    result = {
        "model": lm.name,
        "precision": lm.precision,
        "settings": {name: getattr(arguments, name) for name in ("data", "examples", "max_new_tokens", "seed")},
        "command": command_of(arguments.words, module="benchmarks.predictions"),
        "versions": versions(("torch", "transformers")),
        "rows": rows,
    }
    lines = (
        f"{row['method']:24} {row['budget']!s:>6}  {row['weights'] or 'not folded':>10} "
        f"{row['least_similarity'] or 0:.1f}  KL {row['kl']:.3f}  equal {row['equal_first']:.1%}"
        for row in rows
    )
    finish(arguments, result, *lines)


def _predictions(lm: Any, cache: RetainedCache, answer: Tensor) -> Tensor:
    """Log probabilities (N - 1, V) of an answer's tokens after its first."""
    from judgeq.inference.decode import logits_after

    return logits_after(lm, cache, answer[:, :-1])[0].float().log_softmax(-1)


def _fold(cache: RetainedCache, full: RetainedCache, kept: Retained, weights: str, least: float) -> None:
    """Change the values of kept rows in a fork of their cache; each head keeps as many."""
    import torch
    import torch.nn.functional as F

    for at, (layer, whole) in enumerate(zip(cache.layers, full.layers, strict=True)):
        rows, scores = kept.kept[at], kept.scores[at]
        if not isinstance(rows, torch.Tensor) or scores is None:
            continue
        wide = rows[..., None].expand(-1, -1, -1, whole.keys.shape[-1])
        keys = F.normalize(whole.keys, dim=-1)
        similar = keys @ keys.gather(2, wide).transpose(-1, -2)  # (1, H_kv, T, K)
        best, nearest = similar.max(-1)
        weight = (scores if weights == "score" else torch.ones_like(best)).where(best >= least, 0.0)
        # kept rows count in full, wherever the most similar one is
        place = torch.arange(rows.shape[-1], device=rows.device).expand_as(rows)
        nearest = nearest.scatter(2, rows, place)
        own = scores.gather(2, rows) if weights == "score" else torch.ones_like(best).gather(2, rows)
        weight = weight.scatter(2, rows, own)[..., None]
        total = torch.zeros_like(wide, dtype=weight.dtype)
        target = nearest[..., None].expand_as(whole.values)
        values = total.scatter_add(2, target, weight * whole.values)
        sums = torch.zeros_like(own[..., None]).scatter_add(2, nearest[..., None], weight)
        folded = (values / sums.clamp_min(1e-20)).to(whole.values.dtype)
        layer.values = torch.cat([layer.values[:, :, : kept.memory], folded], 2)


if __name__ == "__main__":
    sys.exit(main())
