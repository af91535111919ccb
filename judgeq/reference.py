"""The full cache's own answer as a reference: plans that need it look at the prompt again with that answer.

One place for every oracle, whether it answers or is measured against. Knows nothing of text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from judgeq.cache import RetainedCache
from judgeq.config import Decoding
from judgeq.decode import decode
from judgeq.language_model import LanguageModel
from judgeq.methods import Full
from judgeq.prefill import LayerCallback, Plan, Prefill, prefill, probe
from judgeq.soft_tokens import Probe


def retain(
    lm: LanguageModel,
    input_ids: Tensor,
    plans: Sequence[Plan],
    *,
    soft_tokens: Probe | None = None,
    longest: Decoding = Decoding(),
    on_layer: LayerCallback | None = None,
) -> Prefill:
    """One pass for all plans, and a second look with the full cache's answer for those that need a response.

    Args:
        input_ids: (1, T) int64.
        plans: methods and budgets of any kind.
        soft_tokens: needed as soon as a method probes with them.
        longest: length and stop texts of the answer that is looked at; it is always greedy.
        on_layer: progress of the passes, and a place to cancel.

    Returns:
        The first pass, its `retained` in the order of `plans`.
    """
    late = [plan for plan in plans if plan.method.probe == "response"]
    early = [plan for plan in plans if plan.method.probe != "response"]
    extra = [Plan(Full(), input_ids.shape[1])] if late else []
    outcome = prefill(lm, input_ids, [*early, *extra], soft_tokens=soft_tokens, on_layer=on_layer)
    if not late:
        return outcome
    started = time.perf_counter()
    full = outcome.retained[-1].cache
    response = greedy_response(lm, full, outcome.logits, longest)
    second = probe(lm, full.frozen(), response, late, on_layer=on_layer).retained
    for kept in second:
        kept.extra_s = time.perf_counter() - started
    of_early, of_late = iter(outcome.retained), iter(second)
    in_order = [next(of_late if plan.method.probe == "response" else of_early) for plan in plans]
    return replace(outcome, retained=in_order)


def greedy_response(lm: LanguageModel, rows: RetainedCache, logits: Tensor, longest: Decoding) -> Tensor:
    """What the model answers with these rows, which stay as they are: (1, R) int64.

    The end token is left out, since no oracle averages over it; an answer that is nothing else keeps it.
    """
    greedy = Decoding(max_new_tokens=longest.max_new_tokens, stop=longest.stop)
    written = [step.token for step in decode(lm, rows.fork(), logits, greedy)]
    return torch.tensor([[token for token in written if token not in lm.eos_ids] or written])
