"""From what a prefill kept to the map that shows it."""

from __future__ import annotations

import numpy as np

from judgeq.errors import InputError
from judgeq.inference.plan import Retained
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Prompt
from judgeq.retention import RetentionMap
from judgeq.retention.arrays import stacked_scores


def retention_map(lm: LanguageModel, prompt: Prompt, retained: Retained, *, query_aware: bool = True) -> RetentionMap:
    """Tie what a prefill kept to the prompt's characters.

    A layer with a sliding window of its own holds the rows of that window, which is what the map says of it.

    Raises:
        InputError: more than one prompt in the batch.
    """
    layers = retained.cache.layers
    batch = max(layer.keys.shape[0] for layer in layers)
    if batch > 1:
        raise InputError(f"A retention map shows one prompt and this batch has {batch}: prefill them one by one")
    method = retained.plan.method
    return RetentionMap(
        method=method.name,
        model=lm.name,
        budget=retained.plan.budget,
        text=prompt.text,
        offsets=tuple((int(first), int(last)) for first, last in prompt.offsets),
        document=prompt.document,
        kept=kept_of_heads(retained, prompt.tokens),
        scores=stacked_scores([None if score is None else score[0].cpu().numpy() for score in retained.scores]),
        query_aware=query_aware,
        title=method.phrase or method.title,
        memory_rows=retained.memory if any(rows is not None for rows in retained.kept) else 0,
    )


def kept_of_heads(retained: Retained, tokens: int) -> tuple[tuple[np.ndarray, ...], ...]:
    """`[layer][head]`, ascending int32 indices of the rows kept of one prompt of `tokens` tokens."""
    kept = []
    for rows, layer in zip(retained.kept, retained.cache.layers, strict=True):
        if rows is None:
            window = layer.sliding_window - 1 if layer.is_sliding else tokens
            every = np.arange(max(0, tokens - window), tokens, dtype=np.int32)
            kept.append((every,) * layer.keys.shape[1])
        else:
            heads = rows if isinstance(rows, tuple) else rows[0]
            kept.append(tuple(head.cpu().numpy().astype(np.int32) for head in heads))
    return tuple(kept)
