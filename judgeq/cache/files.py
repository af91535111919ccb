"""Caches on disk: the rows of one document in a folder, bound to the model that read it.

`rows.safetensors` has every layer's tensors as the cache stores them, evicted, ragged or quantized; `document.json`
has the text, and the model and settings that the rows belong to. Knows nothing of how rows were chosen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from judgeq._version import __version__
from judgeq.cache.prefix import PrefixCache, PrefixLayer, Progress
from judgeq.cache.quantized import GROUP, QuantizedRows
from judgeq.cache.ragged import FrozenRows, RaggedLayer
from judgeq.cache.retained import RetainedCache
from judgeq.errors import InputError
from judgeq.methods.selection import Kept
from judgeq.models.language_model import LanguageModel
from judgeq.output import check_folder, has_mark, read_object, saved, saving, write_file

HEADER_FILE, ROWS_FILE = FILES = ("document.json", "rows.safetensors")
CHECKED_TOKENS = 8
"""Tokens that are read again when rows are loaded, to see whether the model still gives the stored rows."""
TOLERANCE = 0.02
"""How much those may differ, as a share of the largest: other devices and kernels round differently."""
PARTS = ("codes", "low", "step")
"""Tensors of quantized rows."""
ANOTHER_TEXT = "the rows belong to another text, or to another day that the chat template names"


class TensorMismatch(Exception):
    """A stored tensor does not have the shape or type that belongs to the model."""


class SavedDocument(BaseModel):
    """`document.json` of complete rows: model, settings and text.

    Attributes:
        text: the document.
        model, revision: of the model that read it.
        dtype: of the rows.
        geometry: the model's sizes.
        tokenizer_hash: fingerprint of its tokenizer and chat template.
        today: the date that chat templates were given; None in folders of earlier versions.
        format, judgeq_version: of these files, and of the library that wrote them.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    WRITER: ClassVar[str] = "judgeq.Document.save"

    text: str = Field(repr=False)
    model: str
    revision: str | None
    dtype: str
    geometry: dict[str, Any]
    tokenizer_hash: str
    today: datetime | None = None
    format: Literal["judgeq.documents.document/1"] = "judgeq.documents.document/1"
    judgeq_version: str = __version__

    @classmethod
    def of(cls, lm: LanguageModel, text: str, today: date, **fields: Any) -> Self:
        """For a text that this model has read; `fields` are a subclass' own."""
        on = datetime.fromisoformat(today.isoformat())
        return cls(text=text, today=on, **_identity(lm), **fields)

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """From a folder; needs no model.

        Raises:
            InputError: nothing readable there, or rows of another kind.
        """
        try:
            return cls.model_validate_json(saved(Path(folder), HEADER_FILE).read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            reason: object = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except OSError as error:
            reason = error
        raise cls.unreadable(folder, reason)

    @classmethod
    def unreadable(cls, folder: str | Path, reason: object) -> InputError:
        """The error for a folder that does not hold what it should."""
        return InputError(
            f"{folder} does not hold a readable document ({reason}): it needs an intact {HEADER_FILE} and {ROWS_FILE}, "
            f"as {cls.WRITER} writes them"
        )


class SavedCompressedDocument(SavedDocument):
    """`document.json` of the rows that eviction left.

    Attributes:
        method: registered name of the method that chose them.
        budget: rows per KV head.
        bits: in which rows are stored; None = unquantized.
        memory: memory rows of the budget.
        full_kv_bytes: of the document's complete rows, measured before eviction.
    """

    WRITER: ClassVar[str] = "judgeq.CompressedDocument.save"

    method: str
    budget: PositiveInt
    bits: Literal[8, 4] | None
    memory: NonNegativeInt = 0
    full_kv_bytes: int
    format: Literal["judgeq.documents.compressed/1"] = "judgeq.documents.compressed/1"  # type: ignore[assignment]


def is_compressed(folder: str | Path) -> bool:
    """Whether a folder says that it holds a compressed document."""
    found = read_object(saved(Path(folder), HEADER_FILE)).get("format")
    return found == SavedCompressedDocument.model_fields["format"].default


def check_document_folder(folder: str | Path) -> None:
    """Refuse, with an `InputError`, a folder that cannot be written or holds files that judgeq has not written."""
    check_folder(folder, FILES, _earlier_save(folder))


def save_cache(
    folder: str | Path,
    header: SavedDocument,
    ids: Tensor,
    cache: PrefixCache | RetainedCache,
    kept: Sequence[Kept | None] = (),
    scores: Sequence[Tensor | None] = (),
) -> Path:
    """Write a cache of either kind into `folder`, replacing an earlier document; returns the folder.

    Args:
        ids: (1, T) int64, the tokens that the rows belong to.
        kept, scores: for each layer what `Retained` has, to draw maps later.

    Raises:
        InputError: the folder cannot be written, or holds files that judgeq has not written.
    """
    stored = {"ids": ids}
    for at, layer in enumerate(cache.layers):
        stored |= {f"{name}.{at}": tensor for name, tensor in _layer_state(layer).items()}
    for at, rows in enumerate(kept):
        if rows is not None:
            stored[f"kept.{at}"] = torch.cat(rows) if isinstance(rows, tuple) else rows
    stored |= {f"scores.{at}": score for at, score in enumerate(scores) if score is not None}
    with saving(folder, FILES, _earlier_save(folder)) as part:
        save_file({name: tensor.contiguous() for name, tensor in stored.items()}, part / ROWS_FILE)
        text = json.dumps(header.model_dump(mode="json"), indent=2, sort_keys=True)
        write_file(part / HEADER_FILE, text + "\n")
    return Path(folder)


@torch.inference_mode()
def load_cache(
    folder: str | Path,
    header: SavedDocument,
    lm: LanguageModel,
    ids: Tensor,
    cache: PrefixCache | RetainedCache,
) -> tuple[list[Kept | None], list[Tensor | None]]:
    """Fill an empty cache with the rows that `save_cache` wrote, on the devices of the model's layers.

    Args:
        ids: (1, T) int64, the document's tokens; those of complete rows may be only their beginning.

    Returns:
        `kept` and `scores`, as `save_cache` takes them.

    Raises:
        InputError: nothing there, not intact, or of another model or text.
    """
    for what, here in _identity(lm).items():
        if (there := getattr(header, what)) != here:
            raise InputError(
                f"The saved document was read by {header.model} and does not fit {lm.name} ({what} {there} there, "
                f"{here} here): load that model, or read the document again"
            )
    try:
        stored = load_file(saved(Path(folder), ROWS_FILE))
        found = stored["ids"]
        if found.dtype != torch.int64 or found.dim() != 2:
            raise TensorMismatch("the token ids have another form")
        if not torch.equal(found, ids[:, : found.shape[1]] if isinstance(cache, PrefixCache) else ids):
            raise TensorMismatch(ANOTHER_TEXT)
        if isinstance(cache, PrefixCache):
            cache.ids = found
        layers = []
        bits, memory = getattr(header, "bits", None), getattr(header, "memory", 0)
        for at, block in enumerate(lm.model.get_decoder().layers if found.shape[1] else ()):
            device = next(block.parameters()).device  # layers may be spread over several
            layers.append(_LayerState(lm, stored, at, device, found.shape[1], bits, memory))
            cache.layers[at] = layers[-1].restored(cache.layers[at])
        kept, scores = [layer.kept() for layer in layers], [layer.scores() for layer in layers]
    except (OSError, SafetensorError, KeyError, TensorMismatch) as error:
        raise header.unreadable(folder, error) from None
    if layers:
        _check_weights(folder, lm, found, cache, kept, bits, memory)
    return kept, scores


def _earlier_save(folder: str | Path) -> tuple[str, ...]:
    """Files of a document that was saved there before."""
    return FILES if has_mark(saved(Path(folder), HEADER_FILE)) else ()


def _identity(lm: LanguageModel) -> dict[str, Any]:
    """The fields of a header that must be the same when rows are loaded."""
    return {
        "model": lm.name,
        "revision": lm.revision,
        "dtype": str(lm.dtype),
        "geometry": json.loads(json.dumps(asdict(lm.geometry))),  # as a file gives it back
        "tokenizer_hash": lm.tokenizer_hash,
    }


def _layer_state(layer: DynamicLayer) -> dict[str, Tensor]:
    """Everything that one layer of any kind stores, by name."""
    if not layer.is_initialized:
        return {}
    state = {}
    frozen = layer.frozen if isinstance(layer, RaggedLayer) else None
    if frozen is not None:
        state["counts"] = torch.tensor(frozen.counts)
    for name in ("keys", "values"):
        rows = getattr(frozen or layer, name)
        if isinstance(rows, QuantizedRows):
            state |= {f"{name}.{part}": getattr(rows, part) for part in PARTS}
        else:
            state[name] = rows
    if isinstance(layer, PrefixLayer) and layer.attention is not None:
        state["attention"] = layer.attention
    return state


@dataclass(frozen=True)
class _LayerState:
    """The stored tensors of one layer, which are refused if they do not fit.

    Attributes:
        stored: all tensors of the file, by name.
        tokens: of the document.
        bits: in which rows are stored.
        memory: rows of memory tokens before those that were kept.
    """

    lm: LanguageModel
    stored: Mapping[str, Tensor]
    at: int
    device: torch.device
    tokens: int
    bits: int | None
    memory: int = 0

    def restored(self, layer: DynamicLayer) -> DynamicLayer:
        """The empty `layer` with its rows, or a ragged one in its place."""
        evicted = not layer.is_sliding and not isinstance(layer, PrefixLayer)
        if evicted and self._has("counts"):
            frozen = FrozenRows(self._frozen("keys"), self._frozen("values"), self._counts())
            return RaggedLayer(frozen, self.tokens)
        if evicted and self.bits is not None:
            raise TensorMismatch(f"rows that are not in {self.bits} bits")
        length = self.tokens
        if layer.is_sliding:
            length = min(length, layer.sliding_window - 1)
        elif evicted and self._has("kept"):
            length = self._length()
        shape = (1, self.lm.geometry.kv_heads, length, self.lm.geometry.head_dim)
        keys, values = (self._take(name, shape) for name in ("keys", "values"))
        if evicted:
            layer.retain(keys, values, self.tokens)
            return layer
        layer.update(keys, values)
        if layer.is_sliding:
            layer.cumulative_length = self.tokens
        elif self._has("attention"):
            heads, groups = self.lm.geometry.kv_heads, self.lm.geometry.heads // self.lm.geometry.kv_heads
            layer.attention = self._take("attention", (1, heads, groups, self.tokens), torch.float32)
        return layer

    def kept(self) -> Kept | None:
        """Tokens that the rows belong to; flat in the file where heads keep different numbers."""
        if not self._has("kept"):
            return None
        heads = self.lm.geometry.kv_heads
        stored = self._counts() if self._has("counts") else (self._length(),) * heads
        counts = tuple(rows - self.memory for rows in stored)
        if self.stored[f"kept.{self.at}"].dim() == 1:
            kept: Kept = self._take("kept", (sum(counts),), torch.int64).cpu().split(counts)
        else:
            kept = self._take("kept", (1, heads, counts[0]), torch.int64).cpu()
        for rows in kept if isinstance(kept, tuple) else kept[0]:
            if rows.numel() and (rows[0] < 0 or rows[-1] >= self.tokens or (rows.diff() <= 0).any()):
                raise TensorMismatch("kept rows that the document does not have")
        return kept

    def scores(self) -> Tensor | None:
        """(1, H_kv, T) float32 on the CPU, or None."""
        if not self._has("scores"):
            return None
        return self._take("scores", (1, self.lm.geometry.kv_heads, self.tokens), torch.float32).cpu()

    def _has(self, name: str) -> bool:
        return f"{name}.{self.at}" in self.stored

    def _length(self) -> int:
        """Rows in each head, where all have as many."""
        keys = self.stored[f"keys.{self.at}"]
        if keys.dim() != 4:
            raise TensorMismatch(f"keys is of {tuple(keys.shape)}, not of four sizes")
        return keys.shape[2]

    def _counts(self) -> tuple[int, ...]:
        counts = self._take("counts", (self.lm.geometry.kv_heads,), torch.int64)
        if counts.min() < self.memory or counts.max() > self.tokens + self.memory:
            raise TensorMismatch("heads with more rows than the document has tokens")
        return tuple(counts.tolist())

    def _frozen(self, name: str) -> Tensor | QuantizedRows:
        """(R, D) keys or values of all heads, one head after the other."""
        counts, dim = self._counts(), self.lm.geometry.head_dim
        rows = sum(counts)
        if self.bits is None:
            return self._take(name, (rows, dim))
        by_channel = name == "keys"
        ranges = (rows, dim // math.gcd(dim, GROUP))
        if by_channel:
            ranges = (sum(-(-count // GROUP) for count in counts), dim)
        codes = self._take(f"{name}.codes", (rows, dim * self.bits // 8), torch.uint8)
        low, step = (self._take(f"{name}.{part}", ranges, torch.float16) for part in PARTS[1:])
        return QuantizedRows(codes, low, step, counts if by_channel else None, self.bits, self.lm.dtype)

    def _take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        """A copy on the layer's device, and no view of a file that may change; `dtype` is by default the model's."""
        tensor, dtype = self.stored[f"{name}.{self.at}"], dtype or self.lm.dtype
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise TensorMismatch(f"{name} is {tensor.dtype} of {tuple(tensor.shape)}, not {dtype} of {shape}")
        return tensor.to(self.device, copy=True)


def _check_weights(
    folder: str | Path,
    lm: LanguageModel,
    ids: Tensor,
    cache: PrefixCache | RetainedCache,
    kept: Sequence[Kept | None],
    bits: int | None,
    memory: int,
) -> None:
    """Read the first tokens again: other weights, or another quantization, give other rows.

    Raises:
        InputError: they are not what the model gives.
    """
    tokens = min(CHECKED_TOKENS, ids.shape[1])
    again = PrefixCache(lm.model.config)
    again.read(lm, [ids[:, :tokens]], Progress(None, 0))
    rounding = 0.0 if bits is None else 1 / (2**bits - 1)
    everything = torch.arange(ids.shape[1])
    for at in lm.geometry.global_layers:
        heads, rows = cache.layers[at].heads(), kept[at]
        first = 0 if rows is None else memory
        owners = [everything] * len(heads) if rows is None else rows if isinstance(rows, tuple) else rows[0]
        for head, (stored, own) in enumerate(zip(heads, owners, strict=True)):
            early = own[own < tokens]
            for mine, other in zip(stored, (again.layers[at].keys, again.layers[at].values), strict=True):
                if not len(early):
                    continue
                here = mine[first : first + len(early)]
                apart = (here - other[0, head, early.to(other.device)]).abs().max()
                if not apart <= TOLERANCE * other.abs().max() + rounding * mine.abs().max():
                    raise InputError(
                        f"{folder} was written with other weights than {lm.name} has now: load the model that read the "
                        "document, or read it again"
                    )
