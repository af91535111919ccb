"""Rows that were left of a document, on disk: see `judgeq.cache.row_files`.

They are stored as they are held: as many bits a number, heads of different length one behind the other. Kept tokens and
scores lie beside them, so that maps can be drawn later. How rows were chosen is not stored: nobody chooses again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from judgeq.cache.quantized import GROUP, QuantizedRows
from judgeq.cache.ragged import FrozenRows, RaggedLayer
from judgeq.cache.retained import RetainedCache
from judgeq.cache.row_files import (
    ANOTHER_TEXT,
    RowsConfig,
    RowSpotCheck,
    TensorMismatch,
    layer_devices,
    taken,
)
from judgeq.errors import InputError
from judgeq.inference.plan import Plan, Retained
from judgeq.methods import METHODS
from judgeq.methods.selection import Kept
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief

PARTS = ("codes", "low", "step")
"""Tensors of rows in few bits."""


@dataclass(frozen=True, kw_only=True)
class CompressedConfig(RowsConfig):
    """What rows that were left belong to, and who chose them.

    Attributes:
        method: its registered name.
        budget: rows per KV head.
        bits: in which rows are stored; None = as they came.
        full_kv_bytes: of the document's complete rows, as they passed.
    """

    __repr__ = brief

    FORMAT: ClassVar[str] = "judgeq.documents.compressed/1"
    WRITER: ClassVar[str] = "judgeq.CompressedDocument.save"

    method: str
    budget: int
    bits: int | None
    full_kv_bytes: int

    def retained(self, lm: LanguageModel) -> Retained:
        """An empty place for the rows.

        Raises:
            InputError: the method is not registered here.
            TensorMismatch: a field holds something else than it should.
        """
        if not isinstance(self.method, str) or not isinstance(self.budget, int):
            raise TensorMismatch(f"the method is {self.method!r} and the budget {self.budget!r}")
        if self.method not in METHODS:
            raise InputError(
                f"The saved document was evicted by {self.method!r}, which is not registered here: add its class to "
                "judgeq.METHODS first"
            )
        method = METHODS[self.method]()
        method = replace(method, selection=replace(method.selection, bits=self.bits))
        return Retained(Plan(method, self.budget), RetainedCache(lm.model.config, self.bits))


def save_retained(
    folder: str | Path,
    lm: LanguageModel,
    text: str,
    ids: Tensor,
    retained: Retained,
    full_kv_bytes: int,
    today: date,
) -> Path:
    """Write what is left of a document into `folder`; returns it.

    Args:
        ids: (1, T) int64, the document's tokens, with the template in front of it.
        today: the date that the chat template was told.

    Raises:
        InputError: the folder cannot be written, or the method cannot be found again by its name.
    """
    name = retained.plan.method.name
    if METHODS.get(name) is not type(retained.plan.method):
        raise InputError(
            f"The method {name!r} is not registered, so nothing could say later who chose these rows: add its class to "
            "judgeq.METHODS first"
        )
    stored = {"ids": ids}
    for at, layer in enumerate(retained.cache.layers):
        own = _layer_tensors(layer)
        kept, scores = retained.kept[at], retained.scores[at]
        if kept is not None:
            own["kept"] = torch.cat(kept) if isinstance(kept, tuple) else kept
        if scores is not None:
            own["scores"] = scores
        stored |= {f"{name}.{at}": tensor for name, tensor in own.items()}
    config = CompressedConfig.of(
        lm,
        text,
        today,
        method=name,
        budget=retained.plan.budget,
        bits=retained.cache.bits,
        full_kv_bytes=full_kv_bytes,
    )
    return config.write(folder, stored)


def load_retained(folder: str | Path, lm: LanguageModel, ids: Tensor) -> tuple[Retained, int]:
    """What `save_retained` wrote, where the model's layers are: the rows, and `full_kv_bytes`.

    Args:
        ids: (1, T) int64, the document's tokens, with the template in front of it.

    Raises:
        InputError: nothing there, not intact, or of another model or text.
    """
    folder = Path(folder)
    config = CompressedConfig.read(folder)
    retained = config.filled(folder, lm, lambda stored: _filled(lm, stored, config, ids))
    first, everything = RowSpotCheck(folder, lm, ids), torch.arange(ids.shape[1])
    off = 0.0 if config.bits is None else 1 / (2**config.bits - 1)
    for at in lm.geometry.global_layers:
        heads, kept = retained.cache.layers[at].heads(), retained.kept[at]
        tokens = [everything] * len(heads) if kept is None else kept if isinstance(kept, tuple) else kept[0]
        for head, ((keys, values), own) in enumerate(zip(heads, tokens, strict=True)):
            first.check(at, head, keys, values, own, off)
    return retained, config.full_kv_bytes


def _layer_tensors(layer: DynamicLayer) -> dict[str, Tensor]:
    """What one layer holds, by name."""
    if not isinstance(layer, RaggedLayer) or layer.frozen is None:
        return {"keys": layer.keys, "values": layer.values}
    stored = {"counts": torch.tensor(layer.frozen.counts)}
    for name, rows in (("keys", layer.frozen.keys), ("values", layer.frozen.values)):
        if isinstance(rows, Tensor):
            stored[name] = rows
        else:
            stored |= {f"{name}.{part}": getattr(rows, part) for part in PARTS}
    return stored


@torch.inference_mode()
def _filled(
    lm: LanguageModel, stored: Mapping[str, Tensor], config: CompressedConfig, ids: Tensor
) -> Retained:
    retained = config.retained(lm)
    if not torch.equal(stored["ids"], ids):
        raise TensorMismatch(ANOTHER_TEXT)
    for at, device in enumerate(layer_devices(lm)):
        end = f".{at}"
        # copied: no view of a file that may change
        own = {
            name.removesuffix(end): tensor.to(device, copy=True)
            for name, tensor in stored.items()
            if name.endswith(end)
        }
        place = _Layer(lm, own, ids.shape[1], config.bits)
        retained.cache.layers[at] = place.filled(retained.cache.layers[at])
        retained.kept.append(place.kept())
        retained.scores.append(place.scores())
    return retained


@dataclass(frozen=True)
class _Layer:
    """The stored tensors of one layer, which are refused if they do not fit.

    Attributes:
        own: by name.
        tokens: of the document.
        bits: in which rows are stored.
    """

    lm: LanguageModel
    own: Mapping[str, Tensor]
    tokens: int
    bits: int | None

    def filled(self, layer: DynamicLayer) -> DynamicLayer:
        """The layer that holds these rows."""
        if "counts" in self.own:
            keys, values = self._frozen("keys"), self._frozen("values")
            return RaggedLayer(FrozenRows(keys, values, self._counts()), self.tokens)
        length = self._length()
        if layer.is_sliding:
            length = min(self.tokens, layer.sliding_window - 1)
        elif self.bits is not None:
            raise TensorMismatch(f"rows that are not in {self.bits} bits")
        elif "kept" not in self.own:
            length = self.tokens
        heads, dim = self.lm.geometry.kv_heads, self.lm.geometry.head_dim
        keys, values = (self._taken(name, (1, heads, length, dim)) for name in ("keys", "values"))
        if layer.is_sliding:
            layer.update(keys, values)
            layer.cumulative_length = self.tokens
        else:
            layer.retain(keys, values, self.tokens)
        return layer

    def kept(self) -> Kept | None:
        """Tokens that rows stand for; flat where each head's number of them was its own."""
        if "kept" not in self.own:
            return None
        counts = self._counts() if "counts" in self.own else (self._length(),) * self.lm.geometry.kv_heads
        if self.own["kept"].dim() == 1:
            heads: Kept = self._taken("kept", (sum(counts),), torch.int64).cpu().split(counts)
        else:
            heads = self._taken("kept", (1, len(counts), counts[0]), torch.int64).cpu()
        for each in heads if isinstance(heads, tuple) else heads[0]:
            if each.numel() and (each[0] < 0 or each[-1] >= self.tokens or (each.diff() <= 0).any()):
                raise TensorMismatch("kept rows that the document does not have")
        return heads

    def scores(self) -> Tensor | None:
        """(1, H_kv, T) float32, or None."""
        if "scores" not in self.own:
            return None
        return self._taken("scores", (1, self.lm.geometry.kv_heads, self.tokens), torch.float32).cpu()

    def _length(self) -> int:
        """Rows in each head, where all have as many."""
        if self.own["keys"].dim() != 4:
            raise TensorMismatch(f"keys is of {tuple(self.own['keys'].shape)}, not of four sizes")
        return self.own["keys"].shape[2]

    def _counts(self) -> tuple[int, ...]:
        counts = self._taken("counts", (self.lm.geometry.kv_heads,), torch.int64)
        if counts.min() < 0 or counts.max() > self.tokens:
            raise TensorMismatch("heads with more rows than the document has tokens")
        return tuple(counts.tolist())

    def _frozen(self, name: str) -> Tensor | QuantizedRows:
        """Keys or values of all heads, one behind the other."""
        counts, dim = self._counts(), self.lm.geometry.head_dim
        rows = sum(counts)
        if self.bits is None:
            return self._taken(name, (rows, dim))
        shared = math.gcd(dim, GROUP)
        ranges = (
            (sum(-(-count // GROUP) for count in counts), dim) if name == "keys" else (rows, dim // shared)
        )
        codes = self._taken(f"{name}.codes", (rows, dim * self.bits // 8), torch.uint8)
        low, step = (self._taken(f"{name}.{part}", ranges, torch.float16) for part in PARTS[1:])
        return QuantizedRows(codes, low, step, counts if name == "keys" else None, self.bits, self.lm.dtype)

    def _taken(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        """A tensor of this shape and type, by default the model's."""
        return taken(self.own, name, shape, dtype or self.lm.dtype)
