"""Held rows on disk: a folder with the rows of one document, bound to the model that read it.

`rows.safetensors` has the token ids and the rows of every layer, `document.json` the text and what the rows belong to.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from judgeq._version import __version__
from judgeq.config import JsonConfig
from judgeq.errors import InputError
from judgeq.held import HeldCache, HeldLayer, Progress
from judgeq.language_model import LanguageModel

CONFIG_FILE = "document.json"
ROWS_FILE = "rows.safetensors"
FORMAT = "judgeq.document/1"
IDS_NAME = "ids"
TRIED = 8
"""Tokens that are read again when rows are loaded, to see whether the model gives the rows that lie there."""
TOLERANCE = 0.02
"""How much those may differ, as a share of the largest: other devices and kernels round otherwise."""


@dataclass(frozen=True)
class HeldConfig(JsonConfig):
    """What held rows belong to.

    Attributes:
        text: the document.
        model, revision: of the model that read it.
        dtype: of the rows.
        geometry: the model's sizes.
        tokenizer_hash: fingerprint of its tokenizer and chat template.
        format, judgeq_version: of these files, and of the library that wrote them.
    """

    text: str
    model: str
    revision: str | None
    dtype: str
    geometry: dict[str, Any]
    tokenizer_hash: str
    format: str = FORMAT
    judgeq_version: str = __version__

    @classmethod
    def of(cls, lm: LanguageModel, text: str) -> HeldConfig:
        """For a text that this model has read."""
        sizes = json.loads(json.dumps(dataclasses.asdict(lm.geometry)))  # as a file gives it back
        return cls(text, lm.name, lm.revision, str(lm.dtype), sizes, lm.tokenizer_hash)

    def check(self, lm: LanguageModel) -> None:
        """Refuse a model that has not read these rows.

        Raises:
            InputError: another model, revision, type or tokenizer.
        """
        here = HeldConfig.of(lm, self.text)
        for what in ("model", "revision", "dtype", "geometry", "tokenizer_hash"):
            ours, theirs = getattr(self, what), getattr(here, what)
            if ours != theirs:
                raise InputError(
                    f"The saved document was read by {self.model} and does not fit {lm.name} ({what} {ours} there, "
                    f"{theirs} here): load that model, or read the document again"
                )


def save_rows(folder: str | Path, lm: LanguageModel, text: str, rows: HeldCache) -> Path:
    """Write a document that was read into `folder`; returns it.

    The config is written last, so that a folder with a config is complete.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(folder)
    stored = {IDS_NAME: rows.ids}
    for at, layer in enumerate(rows.layers):
        if layer.is_initialized:
            stored |= {f"keys.{at}": layer.keys, f"values.{at}": layer.values}
        if isinstance(layer, HeldLayer) and layer.attention is not None:
            stored[f"attention.{at}"] = layer.attention
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).unlink(missing_ok=True)
        part = folder / f"{ROWS_FILE}.part"
        save_file({name: tensor.contiguous() for name, tensor in stored.items()}, part)
        part.replace(folder / ROWS_FILE)
        HeldConfig.of(lm, text).save(folder / CONFIG_FILE)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder} cannot be written ({error}): make room, or give another path") from None
    return folder


def saved_text(folder: str | Path) -> str:
    """The text of a saved document, which needs no model."""
    return _config(Path(folder)).text


def load_rows(folder: str | Path, lm: LanguageModel, ids: Tensor, expected: int) -> HeldCache:
    """Rows that `save_rows` wrote, where the model's layers are.

    Args:
        ids: (1, N) int64, the document's tokens; the saved ones must be their beginning.
        expected: see `HeldCache`.

    Raises:
        InputError: nothing there, not intact, or of another model or text.
    """
    folder = Path(folder)
    _config(folder).check(lm)
    try:
        stored = load_file(folder / ROWS_FILE)
        cache = _filled(lm, stored, expected)
    except (OSError, SafetensorError, KeyError, _Misfit) as error:
        raise _unreadable(folder, error) from None
    if not torch.equal(cache.ids, ids[:, : cache.seen]):
        raise _unreadable(folder, "the rows belong to another text")
    _check_first_rows(folder, lm, cache)
    return cache


class _Misfit(Exception):
    """Tensors that do not have the sizes that belong to the model."""


def _config(folder: Path) -> HeldConfig:
    try:
        config = HeldConfig.load(folder / CONFIG_FILE)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError, InputError) as error:
        raise _unreadable(folder, error) from None
    if config.format != FORMAT or not isinstance(config.text, str):
        raise _unreadable(folder, f"its format is {config.format!r}, not {FORMAT!r}")
    return config


def _unreadable(folder: Path, reason: object) -> InputError:
    return InputError(
        f"{folder} does not hold a readable document ({reason}): it needs an intact {CONFIG_FILE} and {ROWS_FILE}, as "
        "judgeq.Document.save writes them"
    )


@torch.inference_mode()
def _filled(lm: LanguageModel, stored: Mapping[str, Tensor], expected: int) -> HeldCache:
    ids = stored[IDS_NAME]
    if ids.dtype != torch.int64 or ids.dim() != 2 or ids.shape[0] != 1:
        raise _Misfit("the token ids have another form")
    cache = HeldCache(lm.model.config, expected=expected)
    cache.ids = ids
    if not cache.seen:
        return cache
    for at, (layer, block) in enumerate(zip(cache.layers, lm.model.get_decoder().layers, strict=True)):
        device = next(block.parameters()).device  # the layers may be spread over several
        length = min(cache.seen, layer.sliding_window - 1) if layer.is_sliding else cache.seen
        keys, values = (_rows(stored, f"{name}.{at}", lm, length) for name in ("keys", "values"))
        layer.update(keys.to(device), values.to(device))
        if layer.is_sliding:
            layer.cumulative_length = cache.seen
        elif f"attention.{at}" in stored:
            # no view of a file that may change
            layer.attention = stored[f"attention.{at}"].to(device, copy=True)
            if layer.attention.shape[-1] != cache.seen:
                raise _Misfit("attention sums of another length")
    return cache


def _rows(stored: Mapping[str, Tensor], name: str, lm: LanguageModel, length: int) -> Tensor:
    rows, expected = stored[name], (1, lm.geometry.kv_heads, length, lm.geometry.head_dim)
    if tuple(rows.shape) != expected or rows.dtype != lm.dtype:
        raise _Misfit(f"{name} is {rows.dtype} of {tuple(rows.shape)}, not {lm.dtype} of {expected}")
    return rows


def _check_first_rows(folder: Path, lm: LanguageModel, cache: HeldCache) -> None:
    """Read the first tokens again: other weights, or another quantization, give other rows."""
    first = cache.ids[:, :TRIED]
    again = HeldCache(lm.model.config)
    again.read(lm, [first] if cache.seen else [], Progress(None, 0))
    for ours, theirs in zip(cache.layers, again.layers, strict=True):
        if isinstance(ours, HeldLayer) and cache.seen:
            pairs = ((ours.keys, theirs.keys), (ours.values, theirs.values))
            for mine, other in pairs:
                off = (mine[:, :, : first.shape[1]] - other).abs().max()
                if not off <= TOLERANCE * other.abs().max():
                    raise InputError(
                        f"{folder} was written with other weights than {lm.name} has now: load the model that read the "
                        "document, or read it again"
                    )
