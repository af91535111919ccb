"""Documents that are evicted by a replay: the model repeats them, part by part, after their complete rows.

What is scored then is in `judgeq.methods.kvzip`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from judgeq.cache.prefix import LayerCallback, PrefixCache
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import Prefill, prefill, second_pass
from judgeq.methods import Full
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Prompt, build_prompt

REPEAT = "Repeat the previous context exactly."
CONTINUE = "Repeat the part of the previous context exactly, starting with"
SHOWN_TOKENS = 8
"""Last tokens of the part before, by which the model knows where to go on."""


def prefill_with_replay(
    lm: LanguageModel,
    document: Prompt,
    plans: Sequence[Plan],
    *,
    prefix: PrefixCache | None = None,
    chunk: int | None = None,
    on_layer: LayerCallback | None = None,
) -> Prefill:
    """Read a document completely, replay it in parts, and evict by what the last and all earlier replays scored.

    Args:
        document: see `prompts.prompt.build_prefix`.
        plans: one method that replays, at one budget or several.
        prefix, chunk: of the first pass, see `prefill`.
        on_layer: progress of each pass, and a place to cancel.

    Raises:
        InputError: the model has too few positions for document and replay.
    """
    parts = list(_replays(lm, document, plans[0].method.replay_chunk))
    full = Plan(Full(), document.tokens)
    first = prefill(lm, document.input_ids, [full], prefix=prefix, chunk=chunk, on_layer=on_layer)
    outcome, rows = first, first.retained[0].cache.frozen()
    for at, (part, response) in enumerate(parts):
        scores = outcome.retained[0].scores if at else ()
        outcome = second_pass(
            lm,
            document.input_ids,
            rows,
            response,
            plans,
            replayed=part,
            previous_scores=scores,
            on_layer=on_layer,
        )
    return replace(outcome, full_kv_bytes=first.full_kv_bytes)


def _replays(lm: LanguageModel, document: Prompt, chunk: int) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """For each part of the document its first row and its end, and the tokens (1, R) that ask for it and repeat it."""
    text = document.text[slice(*document.document)]
    start = sum(last <= document.document[0] for _, last in document.offsets)
    for first in range(start, document.tokens, chunk):
        end, asked = min(first + chunk, document.tokens), REPEAT
        if first > start:
            shown = document.offsets[max(start, first - SHOWN_TOKENS)][0], document.offsets[first - 1][1]
            asked = CONTINUE + document.text[slice(*shown)]
        lower = "replay fewer tokens at once, as with kvzip:chunk=512"
        prompt = build_prompt(lm, text, asked, truncate=None, reserve=end - first, lower=lower)
        asking = prompt.input_ids[:, document.tokens :]
        yield (first, end), torch.cat([asking, document.input_ids[:, first:end]], dim=1)
