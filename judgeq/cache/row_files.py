"""A folder with the rows of one document, bound to the model that read it: what every kind of rows shares on disk.

`rows.safetensors` has the tensors, `document.json` the text and what they belong to.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from judgeq._version import __version__
from judgeq.cache.prefix import PrefixCache, Progress
from judgeq.config import JsonConfig
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.output import check_folder, has_mark, saved, saving

CONFIG_FILE = "document.json"
ROWS_FILE = "rows.safetensors"
CHECKED_TOKENS = 8
"""Tokens that are read again when rows are loaded, to see whether the model gives the rows that lie there."""
TOLERANCE = 0.02
"""How much those may differ, as a share of the largest: other devices and kernels round otherwise."""
Filled = TypeVar("Filled")


ANOTHER_TEXT = "the rows belong to another text, or to another day that the chat template names"


class TensorMismatch(Exception):
    """Tensors that do not have the sizes that belong to the model."""


@dataclass(frozen=True, kw_only=True)
class RowsConfig(JsonConfig):
    """What rows belong to.

    Attributes:
        text: the document.
        model, revision: of the model that read it.
        dtype: of the rows.
        geometry: the model's sizes.
        tokenizer_hash: fingerprint of its tokenizer and chat template.
        today: the date, in ISO 8601, that a chat template was told; None in folders of earlier versions.
        format, judgeq_version: of these files, and of the library that wrote them.
    """

    __repr__ = brief

    FORMAT: ClassVar[str]
    WRITER: ClassVar[str]
    """What writes such a folder, as a sentence names it."""

    text: str
    model: str
    revision: str | None
    dtype: str
    geometry: dict[str, Any]
    tokenizer_hash: str
    today: str | None = None
    format: str
    judgeq_version: str = __version__

    @classmethod
    def of(cls, lm: LanguageModel, text: str, today: date, **more: Any) -> Self:
        """For a text that this model has read; `more` are a subclass' own fields."""
        return cls(text=text, today=today.isoformat(), format=cls.FORMAT, **_reader(lm), **more)

    @property
    def read_on(self) -> datetime | None:
        """The date that a chat template was told, where it is known."""
        return None if self.today is None else datetime.fromisoformat(self.today)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From a folder.

        Raises:
            InputError: nothing readable there, or rows of another kind.
        """
        try:
            config = cls.load(saved(folder, CONFIG_FILE))
            _ = config.read_on
        except (
            OSError,
            ValueError,
            TypeError,
            InputError,
        ) as error:  # not UTF-8, not JSON, other fields, no date
            raise cls.unreadable(folder, error) from None
        if config.format != cls.FORMAT or not isinstance(config.text, str):
            raise cls.unreadable(folder, f"its format is {config.format!r}, not {cls.FORMAT!r}")
        return config

    @classmethod
    def unreadable(cls, folder: Path, reason: object) -> InputError:
        """The error for a folder that is not what it should be."""
        return InputError(
            f"{folder} does not hold a readable document ({reason}): it needs an intact {CONFIG_FILE} and {ROWS_FILE}, "
            f"as {cls.WRITER} writes them"
        )

    def check(self, lm: LanguageModel) -> None:
        """Refuse a model that has not read these rows.

        Raises:
            InputError: another model, revision, type or tokenizer.
        """
        for what, theirs in _reader(lm).items():
            ours = getattr(self, what)
            if ours != theirs:
                raise InputError(
                    f"The saved document was read by {self.model} and does not fit {lm.name} ({what} {ours} there, "
                    f"{theirs} here): load that model, or read the document again"
                )

    def write(self, folder: str | Path, stored: Mapping[str, Tensor]) -> Path:
        """Write tensors and config into `folder`, where they take the place of an earlier document; returns it.

        Raises:
            InputError: the folder cannot be written, or holds files that judgeq has not written.
        """
        with saving(folder, (CONFIG_FILE, ROWS_FILE), _saved_before(folder)) as part:
            save_file({name: tensor.contiguous() for name, tensor in stored.items()}, part / ROWS_FILE)
            self.save(part / CONFIG_FILE)
        return Path(folder)

    def filled(
        self, folder: Path, lm: LanguageModel, fill: Callable[[Mapping[str, Tensor]], Filled]
    ) -> Filled:
        """What `fill` makes of the tensors that lie in `folder`.

        Args:
            fill: raises `TensorMismatch`, `KeyError` or `ValueError` for tensors that do not fit.

        Raises:
            InputError: nothing there, not intact, or of another model.
        """
        self.check(lm)
        try:
            return fill(load_file(saved(folder, ROWS_FILE)))
        except (OSError, SafetensorError, KeyError, ValueError, TensorMismatch) as error:
            raise self.unreadable(folder, error) from None


def check_document_folder(folder: str | Path) -> None:
    """Refuse a folder that a document cannot be saved into, before it is read.

    Raises:
        InputError: it cannot be written, or holds files that judgeq has not written.
    """
    check_folder(folder, (CONFIG_FILE, ROWS_FILE), _saved_before(folder))


def _saved_before(folder: str | Path) -> tuple[str, ...]:
    """Files of a document that was saved there."""
    return (CONFIG_FILE, ROWS_FILE) if has_mark(saved(Path(folder), CONFIG_FILE)) else ()


def _reader(lm: LanguageModel) -> dict[str, Any]:
    """The fields of a config that say who has read the rows."""
    return {
        "model": lm.name,
        "revision": lm.revision,
        "dtype": str(lm.dtype),
        "geometry": json.loads(json.dumps(dataclasses.asdict(lm.geometry))),  # as a file gives it back
        "tokenizer_hash": lm.tokenizer_hash,
    }


def taken(stored: Mapping[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A stored tensor, which has to be of this shape and type.

    Raises:
        KeyError: there is none of this name.
        TensorMismatch: it is another.
    """
    tensor = stored[name]
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise TensorMismatch(f"{name} is {tensor.dtype} of {tuple(tensor.shape)}, not {dtype} of {shape}")
    return tensor


def saved_format(folder: str | Path) -> str | None:
    """What a folder says it holds; None if it says nothing."""
    try:
        return json.loads(saved(Path(folder), CONFIG_FILE).read_text(encoding="utf-8")).get("format")
    except (OSError, ValueError, AttributeError):
        return None


class RowSpotCheck:
    """The first tokens, read again: other weights, or another quantization, give other rows."""

    def __init__(self, folder: Path, lm: LanguageModel, ids: Tensor) -> None:
        """`ids`: (1, N) int64, the tokens that the stored rows stand for."""
        self.folder, self.lm = folder, lm
        self.tokens = min(CHECKED_TOKENS, ids.shape[1])
        self.cache = PrefixCache(lm.model.config)
        self.cache.read(lm, [ids[:, :CHECKED_TOKENS]] if self.tokens else [], Progress(None, 0))

    @torch.inference_mode()
    def check(
        self, layer: int, head: int, keys: Tensor, values: Tensor, kept: Tensor, off: float = 0.0
    ) -> None:
        """Compare with those of one KV head.

        Args:
            keys, values: (rows, D).
            kept: (rows,) int64 ascending, the tokens that they stand for.
            off: how much rounding may add to their difference, as a share of the largest number.

        Raises:
            InputError: they are not what the model gives.
        """
        early = kept[kept < self.tokens].to(keys.device)
        again = self.cache.layers[layer]
        for mine, other in ((keys, again.keys), (values, again.values)):
            if not len(early):
                continue
            apart = (mine[: len(early)] - other[0, head, early]).abs().max()
            if not apart <= TOLERANCE * other.abs().max() + off * mine.abs().max():
                raise InputError(
                    f"{self.folder} was written with other weights than {self.lm.name} has now: load the model that "
                    "read the document, or read it again"
                )


def layer_devices(lm: LanguageModel) -> list[torch.device]:
    """Where each layer is: they may be spread over several devices."""
    return [next(block.parameters()).device for block in lm.model.get_decoder().layers]
