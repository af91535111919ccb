"""The model's own responses, generated in batches, together with the prompt rows that this computed anyway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from judgeq.cache.layers import GrowingLayer
from judgeq.inference.prefill_batch import pad_left, padding_inputs
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.values import seed64


@dataclass(frozen=True, eq=False)
class Response:
    """One response and the cache rows it was generated from.

    Attributes:
        ids: (R,) int64, without the end token.
        keys, values: (L, H_kv, T + R, D); rows of the prompt, then of the response, in layers with a window too.
    """

    __repr__ = brief

    ids: Tensor
    keys: Tensor
    values: Tensor


def generate_responses(
    lm: LanguageModel,
    prompts: Sequence[Tensor],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[Response]:
    """Answer several prompts in one left-padded batch; each response gets its rows when its turn comes.

    Args:
        prompts: (T_i,) int64 each.
        max_new_tokens: longest response.
        temperature: 0 = greedy; above 0 = sampled.
        seed: of the sampling; the same batch gives the same responses.
    """
    filler = lm.tokenizer.pad_token_id if lm.tokenizer.pad_token_id is not None else min(lm.eos_ids)
    ids, padding = pad_left(prompts, filler)
    longest = ids.shape[1]
    mask = padding_inputs(torch.tensor(padding), 0, longest)["attention_mask"]
    cache = complete_cache(lm, longest + max_new_tokens)
    with torch.inference_mode():
        written = lm.model.generate(
            input_ids=ids.to(lm.device),
            attention_mask=mask.to(lm.device),
            cache=cache,
            max_new_tokens=max_new_tokens + 1,  # the last token's rows are never computed
            do_sample=False,
            logits_processor=[_Sampler(lm.device, temperature, seed)] if temperature else None,
            eos_token_id=sorted(lm.eos_ids),
            pad_token_id=filler,
        )[:, longest:].cpu()
    for row, first in enumerate(padding):
        yield _cut(cache, row, first, longest, written[row], lm.eos_ids)


class _Sampler:
    """Leaves one token, drawn by its chance: `do_sample` would draw from the generator that all threads share."""

    def __init__(self, device: torch.device, temperature: float, seed: int) -> None:
        self.temperature, self.generator = temperature, torch.Generator(device).manual_seed(seed64(seed))

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """(B, V) scores after (B, T) tokens: -inf except for the drawn token."""
        chances = (scores / self.temperature).softmax(-1)
        drawn = torch.multinomial(chances, num_samples=1, generator=self.generator)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


def complete_cache(lm: LanguageModel, expected: int = 0) -> DynamicCache:
    """An empty cache that keeps every row, those outside a sliding window included; `expected` rows, if known."""
    cache = DynamicCache(config=lm.model.config)
    for at, layer in enumerate(cache.layers):
        if layer.is_sliding:
            layer.activate_past_recording()
        else:
            cache.layers[at] = GrowingLayer(expected)
    return cache


@torch.inference_mode()
def _cut(cache: DynamicCache, row: int, start: int, prompt_end: int, written: Tensor, eos: frozenset[int]) -> Response:
    """Take one prompt's rows and response out of the batch."""
    tokens = written.tolist()[:-1]
    length = next((at for at, token in enumerate(tokens) if token in eos), len(tokens))
    rows = slice(start, prompt_end + length)
    return Response(
        ids=written[:length],
        keys=torch.stack([layer.keys[row, :, rows] for layer in cache.layers]),
        values=torch.stack([layer.values[row, :, rows] for layer in cache.layers]),
    )
