"""Several prompts of different length in one pass, padded on the left; each is evicted as if it stood alone.

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
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import (
    Eviction,
    Prefill,
    asked_with,
    check_attention,
    check_first_pass,
    prompt_numbers,
    with_soft_tokens,
)
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors

MAX_LENGTH_RATIO = 1.25
"""How many times the shortest prompt of a pass the longest may be: what is padded is computed in vain."""
SHORT_PROMPT = 64
"""Prompts of at most so many tokens share a pass on a CPU too; longer ones lose more to the mask than they gain."""
MOST_TOKENS = 16_384
"""Tokens of a pass, padding included, where it holds more than one prompt."""


def gains(lm: LanguageModel, lengths: Sequence[int]) -> bool:
    """Whether prompts of these lengths are read faster in passes of several; a GPU has cores to spare."""
    return lm.device.type == "cuda" or max(lengths, default=0) <= SHORT_PROMPT


def groups_alike(lengths: Sequence[int], alike: float | None = None) -> Iterator[list[int]]:
    """Places of prompts that are read in one pass, by their lengths; see `MOST_TOKENS`.

    `alike`: how many times the shortest the longest of a pass may be; `MAX_LENGTH_RATIO` by default.
    """
    group: list[int] = []
    for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        longest = lengths[at]
        fits = longest * (len(group) + 1) <= MOST_TOKENS
        if group and not (fits and longest <= (alike or MAX_LENGTH_RATIO) * lengths[group[0]]):
            yield group
            group = []
        group.append(at)
    if group:
        yield group


def pad_left(prompts: Sequence[Tensor], filler: int = 0) -> tuple[Tensor, list[int]]:
    """Token ids, (T_i,) each, side by side: (B, longest), and how many fillers stand before each."""
    longest = max(map(len, prompts))
    padding = [longest - len(ids) for ids in prompts]
    padded = [F.pad(ids, (count, 0), value=filler) for ids, count in zip(prompts, padding, strict=True)]
    return torch.stack(padded), padding


def padding_inputs(padding: Tensor, first: int, end: int) -> dict[str, Tensor]:
    """What a model must be told of a pass over places `first ... end - 1` of padded prompts, and behind them.

    Args:
        padding: (B,) int64, places before each prompt that belong to none.

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
    on_layer: LayerCallback | None = None,
) -> list[Prefill]:
    """`prefill` of several prompts in one pass, each with plans of its own.

    Padding is never attended to, scored or kept: every prompt's part of a layer is cut out before any plan sees it.

    Args:
        prompts: token ids, each (1, T).
        plans: those of each prompt.
        soft_tokens, on_layer: as in `prefill`.

    Returns:
        One outcome a prompt; `seconds` is that of the whole pass.

    Raises:
        InputError: a plan needs soft tokens and there are none, or needs a response.
    """
    everyone = [plan for own in plans for plan in own]
    check_first_pass(everyone)
    check_attention(lm)
    soft = asked_with(everyone, soft_tokens)
    told = Progress(on_layer, lm.geometry.layers)
    evictions = [
        Eviction(
            lm, own, (ids.shape[1], 0), soft, told if last else Progress(None, 0), None, prompt_numbers(ids)
        )
        for own, ids, last in zip(plans, prompts, _is_last(prompts), strict=True)
    ]
    ids, padding = pad_left([ids[0] for ids in prompts])
    embeds, adapted = with_soft_tokens(lm, ids, soft)  # (B, N + S, hidden)
    with adapted:
        output = lm.model(
            inputs_embeds=embeds,
            use_cache=False,
            logits_to_keep=torch.tensor([ids.shape[1] - 1], device=lm.device),
            observer=_Apart(evictions, padding),
            **padding_inputs(torch.tensor(padding, device=lm.device), 0, embeds.shape[1]),
        )
    return [
        eviction.outcome(logits) for logits, eviction in zip(output.logits.split(1), evictions, strict=True)
    ]


class _Apart:
    """The observer of a padded pass: shows each prompt's observer its own part, without the padding."""

    def __init__(self, evictions: Sequence[Eviction], padding: Sequence[int]) -> None:
        self.evictions, self.padding = evictions, padding

    def observe(self, call: AttentionCall) -> None:
        for at, (eviction, first) in enumerate(zip(self.evictions, self.padding, strict=True)):
            own = slice(at, at + 1), slice(None), slice(first, None)
            eviction.observe(
                replace(call, queries=call.queries[own], keys=call.keys[own], values=call.values[own])
            )


def _is_last(prompts: Sequence[Tensor]) -> Iterator[bool]:
    """Progress is told once a layer, when the last prompt has its rows."""
    return (at == len(prompts) - 1 for at in range(len(prompts)))
