"""Tokens of an answer from rows in tensors of a fixed size, so that a GPU can replay one step as a CUDA graph.

Kept rows and room for some tokens have a size that is known, which a full cache that grows has not. Everything that
changes from token to token is a tensor and is changed in place. Knows nothing of methods, or of how tokens are chosen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

from judgeq.cache.layers import RetainedLayer
from judgeq.cache.retained import RetainedCache
from judgeq.inference.decode_batch import PaddedCache, PaddedRows
from judgeq.inference.plan import Retained
from judgeq.models.language_model import LanguageModel

ROOM = 256
"""Tokens that are written before the rows move to larger tensors, and a graph is captured anew."""


class StaticRows(PaddedRows):
    """Padded rows whose room for later tokens is hidden until they come; attention always reads all of it."""

    def __init__(self, layers: Sequence[RetainedLayer], new: int) -> None:
        super().__init__(layers, new)
        self.first = self.length
        self.visible[..., self.first :] = False
        self.place = torch.full((1,), self.first, dtype=torch.int64, device=self.keys.device)
        self.length += new

    def append(self, keys: Tensor, values: Tensor) -> None:
        for rows, states in ((self.keys, keys), (self.values, values)):
            rows.index_copy_(2, self.place, states)
        self.visible.index_fill_(3, self.place, True)
        self.place += 1


class StaticStep:
    """Gives `decode` the logits after one more token: its argument `forward`.

    The first token of each room is computed as usual, the second captured on a GPU, later ones replayed. A model that
    cannot be captured, such as one that asks the device for values, goes on as usual.

    Attributes:
        graph: the captured step; None on a CPU, before the capture, and where it has failed.
    """

    def __init__(self, lm: LanguageModel, cache: RetainedCache) -> None:
        """`cache`: of one prompt; gets the answer's rows when `store` is called."""
        self.graph: torch.cuda.CUDAGraph | None = None
        self._lm, self._kept = lm, cache
        self._ids = torch.zeros(1, 1, dtype=torch.int64, device=lm.device)
        self._static: PaddedCache | None = None
        self._rows: list[StaticRows] = []
        self._written = self._stored = 0

    @staticmethod
    def suits(lm: LanguageModel, retained: Retained) -> bool:
        """Whether graphs are asked for and one GPU holds the model, rows were evicted, and no layer has a window."""
        spread = len(set((getattr(lm.model, "hf_device_map", None) or {}).values())) > 1
        evicted = all(rows is not None for rows in retained.kept)  # layers with a window keep every row
        return lm.cuda_graphs and lm.device.type == "cuda" and evicted and not spread

    @torch.inference_mode()
    def __call__(self, token: int) -> Tensor:
        """(1, V)."""
        if self._static is None or self._written == ROOM:
            self.store()
            self._static = self._open()
        self._written += 1
        self._ids.fill_(token)
        if self._written == 2 and self._ids.is_cuda:
            self._capture(self._static)
        if self.graph is None:
            return self._step(self._static)
        self.graph.replay()
        return self._logits.clone()

    @torch.inference_mode()
    def store(self) -> None:
        """Append the rows of the tokens so far to the cache that was given."""
        if self._written == self._stored:
            return
        for layer, rows in zip(self._kept.layers, self._rows, strict=True):
            own = slice(rows.first + self._stored, rows.first + self._written)
            layer.update(rows.keys[:, :, own].clone(), rows.values[:, :, own].clone())
        self._stored = self._written

    def _open(self) -> PaddedCache:
        """Copy the rows to tensors with room."""
        self.graph, self._written, self._stored, self._rows = None, 0, 0, []

        def rows(layers: Sequence[RetainedLayer], new: int) -> StaticRows:
            self._rows.append(StaticRows(layers, new))
            return self._rows[-1]

        return PaddedCache([self._kept], ROOM, rows=rows)

    def _step(self, cache: PaddedCache) -> Tensor:
        output = self._lm.model(
            input_ids=self._ids, position_ids=cache.positions, cache=cache, use_cache=True, logits_to_keep=1
        )
        cache.positions += 1
        return output.logits[:, -1]

    def _capture(self, cache: PaddedCache) -> None:
        graph = torch.cuda.CUDAGraph()
        with contextlib.suppress(RuntimeError):
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._logits = self._step(cache)
            self.graph = graph
