"""What answers were made with, so that a run that continues mixes them with no others. Knows nothing of questions.

Tensors are known by digests: sixteen hex digits that change with the numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from torch import Tensor

from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import OFFSETS_NAME, TENSOR_NAME

SAMPLED = 4096
"""Numbers of each of the model's tensors that its digest reads; to read all would take as long as to load it."""


def setup_of(lm: LanguageModel, tokens: SoftTokens | None, precision: str) -> dict[str, Any]:
    """All that must be the same for answers to be comparable, by names that a message can carry.

    `precision` is that of the weights, as it was asked for.
    """
    return {
        "model": lm.name,
        "revision": lm.revision,
        "precision": precision,
        "soft tokens": None if tokens is None else _asking(tokens),
        **_later(lm),
        "adapters and profile": None if tokens is None else _beside(tokens),
    }


def taken_for_granted(lm: LanguageModel, setup: Mapping[str, Any]) -> dict[str, Any]:
    """What a file holds that says nothing of it, as those of judgeq 0.1.0 do.

    Model, libraries and tokenizer are taken to be those of now. Of adapters and profile those that are shipped are: a
    file of other soft tokens could have been made with any.
    """
    granted = {name: setup[name] for name in _later(lm)}
    if setup["soft tokens"] is None:
        return {**granted, "adapters and profile": None}
    try:
        shipped = SoftTokens.for_model(lm)
    except InputError:
        return granted
    return {**granted, "adapters and profile": _beside(shipped)}


def _later(lm: LanguageModel) -> dict[str, Any]:
    """What files of judgeq 0.1.0 do not say, except for soft tokens."""
    floats = (tensor for tensor in lm.model.state_dict().values() if tensor.is_floating_point())
    quantized = getattr(lm.model, "quantization_method", None) is not None
    return {
        "weights": _digest(_sample(tensor) for tensor in floats),
        "number type": str(lm.dtype).removeprefix("torch."),
        "tokenizer": lm.tokenizer_hash,
        "torch": metadata.version("torch").partition("+")[0],
        "transformers": metadata.version("transformers"),
        "bitsandbytes": metadata.version("bitsandbytes") if quantized else None,
    }


def _asking(tokens: SoftTokens) -> str:
    """Of embeddings and query offsets."""
    offsets = tokens.weights.query_offsets
    return _digest([tokens.weights.embeddings] if offsets is None else [tokens.weights.embeddings, offsets])


def _beside(tokens: SoftTokens) -> str | None:
    """Of adapters and profile; None where there is neither."""
    held, asking = tokens.tensors(), {TENSOR_NAME, OFFSETS_NAME}
    beside = [held[name] for name in sorted(held.keys() - asking)]
    return _digest(beside) if beside else None


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.detach().flatten()
    return flat[:: max(1, len(flat) // SAMPLED)]


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
