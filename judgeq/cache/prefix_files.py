"""Held rows on disk: those of a document that was read completely, see `judgeq.cache.row_files`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from judgeq.cache.prefix import PrefixCache, PrefixLayer
from judgeq.cache.row_files import (
    ANOTHER_TEXT,
    RowsConfig,
    RowSpotCheck,
    TensorMismatch,
    layer_devices,
    taken,
)
from judgeq.models.language_model import LanguageModel

IDS_NAME = "ids"


@dataclass(frozen=True, kw_only=True)
class HeldConfig(RowsConfig):
    """What held rows belong to."""

    FORMAT: ClassVar[str] = "judgeq.documents.document/1"
    WRITER: ClassVar[str] = "judgeq.Document.save"


def save_rows(folder: str | Path, lm: LanguageModel, text: str, rows: PrefixCache, today: date) -> Path:
    """Write a document that was read into `folder`; returns it.

    Args:
        today: the date that the chat template was told.

    Raises:
        InputError: the folder cannot be written.
    """
    stored = {IDS_NAME: rows.ids}
    for at, layer in enumerate(rows.layers):
        if layer.is_initialized:
            stored |= {f"keys.{at}": layer.keys, f"values.{at}": layer.values}
        if isinstance(layer, PrefixLayer) and layer.attention is not None:
            stored[f"attention.{at}"] = layer.attention
    return HeldConfig.of(lm, text, today).write(folder, stored)


def saved_text(folder: str | Path) -> str:
    """The text of a saved document, which needs no model."""
    return HeldConfig.read(Path(folder)).text


def load_rows(folder: str | Path, lm: LanguageModel, ids: Tensor, expected: int) -> PrefixCache:
    """Rows that `save_rows` wrote, where the model's layers are.

    Args:
        ids: (1, N) int64, the document's tokens; the saved ones must be their beginning.
        expected: see `PrefixCache`.

    Raises:
        InputError: nothing there, not intact, or of another model or text.
    """
    folder = Path(folder)
    config = HeldConfig.read(folder)
    cache = config.filled(folder, lm, lambda stored: _filled(lm, stored, expected))
    if not torch.equal(cache.ids, ids[:, : cache.seen]):
        raise config.unreadable(folder, ANOTHER_TEXT)
    first, everything = RowSpotCheck(folder, lm, cache.ids), torch.arange(cache.seen)
    for at, layer in enumerate(cache.layers):
        if isinstance(layer, PrefixLayer) and cache.seen:
            for head, (keys, values) in enumerate(layer.heads()):
                first.check(at, head, keys, values, everything)
    return cache


@torch.inference_mode()
def _filled(lm: LanguageModel, stored: Mapping[str, Tensor], expected: int) -> PrefixCache:
    ids = stored[IDS_NAME]
    if ids.dtype != torch.int64 or ids.dim() != 2 or ids.shape[0] != 1:
        raise TensorMismatch("the token ids have another form")
    cache = PrefixCache(lm.model.config, expected=expected)
    cache.ids = ids
    if not cache.seen:
        return cache
    for at, (layer, device) in enumerate(zip(cache.layers, layer_devices(lm), strict=True)):
        length = min(cache.seen, layer.sliding_window - 1) if layer.is_sliding else cache.seen
        shape = (1, lm.geometry.kv_heads, length, lm.geometry.head_dim)
        keys, values = (taken(stored, f"{name}.{at}", shape, lm.dtype) for name in ("keys", "values"))
        layer.update(keys.to(device), values.to(device))
        if layer.is_sliding:
            layer.cumulative_length = cache.seen
        elif f"attention.{at}" in stored:
            # no view of a file that may change
            layer.attention = stored[f"attention.{at}"].to(device, copy=True)
            if layer.attention.shape[-1] != cache.seen:
                raise TensorMismatch("attention sums of another length")
    return cache
