"""Several prompts of different length in one pass, padded on the left; each is evicted as if it were alone.

Knows nothing of text or decoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.attention.call import AttentionCall
from judgeq.cache.prefix import LayerCallback, Progress
from judgeq.inference.appended import shared_passes, with_soft_tokens
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import Eviction, Prefill, check_first_pass
from judgeq.inference.request import Request
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors

MAX_LENGTH_RATIO = 1.25
"""Longest prompt of a pass over the shortest: padding is computed for nothing."""
SHORT_PROMPT = 64
"""Prompts of at most so many tokens share a pass on a CPU too; for longer ones the mask costs more than it saves."""
MOST_TOKENS = 16_384
"""Tokens of a pass, padding included, where it holds more than one prompt."""


def gains(lm: LanguageModel, lengths: Sequence[int]) -> bool:
    """Whether prompts of these lengths are read faster in passes of several: on a GPU, or short ones on a CPU."""
    return lm.device.type == "cuda" or max(lengths, default=0) <= SHORT_PROMPT


def group_by_length(lengths: Sequence[int], max_ratio: float | None = None) -> Iterator[list[int]]:
    """Indices of the prompts that share a pass, by their lengths; see `MOST_TOKENS`.

    `max_ratio`: `MAX_LENGTH_RATIO` by default.
    """
    group: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        longest = lengths[at]
        fits = longest * (len(group) + 1) <= MOST_TOKENS
        if group and not (fits and longest <= (max_ratio or MAX_LENGTH_RATIO) * lengths[group[0]]):
            yield group
            group = []
        group.append(at)
    if group:
        yield group


def pad_left(prompts: Sequence[Tensor], filler: int = 0) -> tuple[Tensor, list[int]]:
    """Token ids, (T_i,) each, stacked: (B, longest), and how many fillers precede each."""
    longest = max(map(len, prompts))
    padding = [longest - len(ids) for ids in prompts]
    padded = [F.pad(ids, (count, 0), value=filler) for ids, count in zip(prompts, padding, strict=True)]
    return torch.stack(padded), padding


def padding_inputs(padding: Tensor, first: int, end: int) -> dict[str, Tensor]:
    """Attention mask and position ids of left-padded prompts, for a pass over places `first ... end - 1`.

    Args:
        padding: (B,) int64, padded places before each prompt.

    Returns:
        `attention_mask`, (B, end), and `position_ids`, (B, end - first).
    """
    places = torch.arange(end, device=padding.device) - padding[:, None]
    return {"attention_mask": (places >= 0).long(), "position_ids": places[:, first:].clamp_min(0)}


@torch.inference_mode()
def prefill_padded(
    lm: LanguageModel,
    prompts: Sequence[Tensor],
    plans: Sequence[Sequence[Plan]],
    *,
    soft_tokens: SoftTokenTensors | None = None,
    memory: int = 0,
    on_layer: LayerCallback | None = None,
) -> list[Prefill]:
    """`prefill` of several prompts in one pass, each with plans of its own.

    Padding is never attended to, scored or kept: every prompt's part of a layer is cut out before its plans score it.

    Args:
        prompts: token ids, each (1, T).
        plans: those of each prompt; all that score with soft tokens score with the same.
        soft_tokens, memory, on_layer: as in `prefill`.

    Returns:
        One outcome a prompt.

    Raises:
        InputError: a plan needs soft tokens and there are none, or needs a response.
    """
    all_plans = [plan for own in plans for plan in own]
    check_first_pass(all_plans)
    own_memory = [plan.memory_rows(ids.shape[1]) for ids, own in zip(prompts, plans, strict=True) for plan in own]
    (shared,) = shared_passes(lm, all_plans, soft_tokens, own_memory, memory)
    soft = shared.soft_tokens
    silent = [Progress(None, 0)] * (len(prompts) - 1)  # a layer is done when the last prompt has its rows
    evictions = [
        Eviction(Request(lm, ids, own), ids, soft, progress)
        for ids, own, progress in zip(prompts, plans, [*silent, Progress(on_layer, lm.geometry.layers)], strict=True)
    ]
    ids, padding = pad_left([ids[0] for ids in prompts])
    embeds, adapted = with_soft_tokens(lm, ids, soft)  # (B, N + S + M, hidden)
    inputs = padding_inputs(torch.tensor(padding, device=lm.device), 0, embeds.shape[1])
    if soft is not None:
        inputs["position_ids"] = soft.place(inputs["position_ids"])
    with adapted:
        output = lm.model(
            inputs_embeds=embeds,
            use_cache=False,
            logits_to_keep=torch.tensor([ids.shape[1] - 1], device=lm.device),
            observer=_Unpadded(evictions, padding),
            **inputs,
        )
    return [eviction.outcome(logits) for logits, eviction in zip(output.logits.split(1), evictions, strict=True)]


class _Unpadded:
    """The observer of a padded pass: shows each prompt's observer its own part, without the padding."""

    def __init__(self, evictions: Sequence[Eviction], padding: Sequence[int]) -> None:
        self.evictions, self.padding = evictions, padding

    def observe(self, call: AttentionCall) -> None:
        for at, (eviction, first) in enumerate(zip(self.evictions, self.padding, strict=True)):
            own = slice(at, at + 1), slice(None), slice(first, None)
            eviction.observe(replace(call, queries=call.queries[own], keys=call.keys[own], values=call.values[own]))
