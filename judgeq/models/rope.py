"""RoPE of a model's layers, reproduced from outside where its modules allow that.

Knows nothing of scores or caches.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.attention.call import AttentionCall
from judgeq.errors import InputError

PROBED_POSITION = 7
TOLERANCE = 0.02  # of a query's length; rounding in 16 bits is a fifth of it
MISSING_PARTS = (AttributeError, KeyError, TypeError, ValueError, RuntimeError)
"""What `rotate` runs into where a model has no such parts, or they take or give something else."""


def rotate(model: Any, queries: Tensor, first_position: int) -> Tensor:
    """Queries of every layer, rotated by its position embedding; differentiable.

    Layers may differ: Gemma 3 has an embedding for each kind of layer, some layers of SmolLM3 have none.

    Args:
        model: one that `shows_rotation`.
        queries: (L, H, S, D), before RoPE, at positions `first_position ... first_position + S - 1`.
    """
    decoder = model.get_decoder()
    apply = sys.modules[type(decoder).__module__].apply_rotary_pos_emb
    positions = torch.arange(first_position, first_position + queries.shape[2], device=queries.device)[None]
    kinds: Any = [()] * len(queries)
    if isinstance(decoder.rotary_emb.rope_type, dict):
        kinds = [(kind,) for kind in decoder.config.layer_types]
    rotated = []
    for layer, kind, queries_of in zip(decoder.layers, kinds, queries.split(1), strict=True):
        if getattr(layer.self_attn, "use_rope", True):
            cos, sin = decoder.rotary_emb(queries_of, positions, *kind)
            queries_of, _ = apply(queries_of, queries_of, cos, sin)
        rotated.append(queries_of)
    return torch.cat(rotated)


def rotate_ahead(model: Any, layer: int, queries: Tensor, future: int) -> Tensor:
    """Queries of consecutive tokens as they would be, on average, at the `future` positions after the last of them.

    RoPE is linear, and a later position is a further rotation by the distance: that of averaged cosines and sines.

    Args:
        model: one that `shows_rotation`, at lengths on which its rotation does not depend.
        queries: (B, H, Q, D), after RoPE.

    Returns:
        (B, H, Q, D) float32.
    """
    decoder, queries = model.get_decoder(), queries.float()
    if not getattr(decoder.layers[layer].self_attn, "use_rope", True):
        return queries
    kind = (decoder.config.layer_types[layer],) if isinstance(decoder.rotary_emb.rope_type, dict) else ()
    distances = torch.arange(1, queries.shape[2] + future, device=queries.device)[None]
    tables = torch.stack(decoder.rotary_emb(queries, distances, *kind)).double()  # (2, 1, Q + future - 1, D)
    tables = tables / tables.norm(dim=0)  # some embeddings also stretch, which the queries have been already
    sums = F.pad(tables.cumsum(2), (0, 0, 1, 0))
    cos, sin = ((sums[:, :, future:] - sums[:, :, :-future]) / future).flip(2).float()  # (1, Q, D) each
    rotated, _ = sys.modules[type(decoder).__module__].apply_rotary_pos_emb(queries, queries, cos, sin)
    return rotated


@torch.no_grad()
def shows_rotation(model: Any) -> bool:
    """Whether `rotate` does what the model does.

    Checked with a prompt of one token at two positions: it attends to itself alone, so all layers compute the same at
    both except for the rotation of its queries.

    Args:
        model: one that runs with `attention.judged_attention`.
    """
    try:
        start, there = _queries(model, 0), _queries(model, PROBED_POSITION)
        at_start, expected = rotate(model, start, 0), rotate(model, start, PROBED_POSITION)
    except MISSING_PARTS:
        return False
    length = start.norm(dim=-1, keepdim=True)
    # some embeddings (YaRN) also stretch, and `start` has been stretched already
    off = expected * length - there * at_start.norm(dim=-1, keepdim=True)
    return bool((off.norm(dim=-1, keepdim=True) < TOLERANCE * length**2).all())


def _queries(model: Any, position: int) -> Tensor:
    """(L, H, 1, D) float32 of one token, the same each time, alone at a position."""
    known = model.get_input_embeddings().weight
    drawn = torch.randn(1, 1, known.shape[1], generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    class Queries:
        def observe(self, call: AttentionCall) -> None:
            seen.append(call.queries.float().to(model.device))  # the layers may be spread over several

    positions = torch.full((1, 1), position, device=model.device)
    model(inputs_embeds=drawn.to(known), position_ids=positions, use_cache=False, observer=Queries())
    return torch.cat(seen)


def rope_depends_on_length(model: Any, tokens: int, more: int) -> str:
    """Why the keys of so many tokens differ when `more` follow in the same pass; empty where they do not.

    Two position embeddings depend on the length of a text: beyond the positions that the model knows, `dynamic` scales
    by the exact length and `longrope` (Phi-3) switches to a second table.
    """
    config = model.get_decoder().config
    kind = getattr(getattr(model.get_decoder(), "rotary_emb", None), "rope_type", None)
    if kind == "dynamic":
        known = config.max_position_embeddings
    elif kind == "longrope":
        known = config.rope_parameters["original_max_position_embeddings"]
    else:
        return ""
    if not more or tokens + more <= known or (kind == "longrope" and tokens > known):
        return ""
    return f"has {kind} positions, which rotate every row by the length of the text beyond {known:,} positions"


def check_appended(model: Any, name: str, tokens: int, appended: int) -> None:
    """Refuse soft tokens that would change the rotation of the prompt before them.

    Args:
        name: for the message.
        tokens: of the prompt, or of prompt and answer where soft tokens are appended again and again.
        appended: soft tokens after them.

    Raises:
        InputError: the prompt's keys would differ from those without soft tokens.
    """
    if why := rope_depends_on_length(model, tokens, appended):
        raise InputError(
            f"{name} {why}, and the prompt ({tokens:,} tokens) plus {appended} soft tokens exceeds that limit: "
            "choose a prompt of another length, or a method without soft tokens"
        )


def check_chunks(model: Any, name: str, first: int, tokens: int) -> None:
    """Refuse chunks whose keys would be rotated differently than in one pass.

    Args:
        name: for the message.
        first: tokens up to the end of the first chunk.
        tokens: all that are read.

    Raises:
        InputError: the text must be read in one pass.
    """
    if why := rope_depends_on_length(model, first, tokens - first):
        raise InputError(f"{name} {why}, and the text's {tokens:,} tokens are more: read it without chunks")
