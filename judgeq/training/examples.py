"""One training example in half precision: its prompt, the response's attention to it, and rows of the prompt.

One safetensors file per example, written atomically, read memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from judgeq.attention.call import AttentionCall
from judgeq.cache.retained import FrozenCache
from judgeq.errors import InputError
from judgeq.inference.prefill_batch import pad_left, padding_inputs
from judgeq.methods.scoring import attention_to_prompt
from judgeq.models.language_model import Geometry, LanguageModel
from judgeq.objects import brief
from judgeq.output import replacing
from judgeq.training.responses import complete_cache


@dataclass(frozen=True, eq=False)
class TrainingExample:
    """One example; `L` counts the layers that see the whole prompt, the only ones with anything to learn.

    Attributes:
        prompt: (T,) int64, the tokens that are attended to.
        teacher: (L, H_kv, G, T) half precision: attention of the response to the prompt, averaged over the response.
        response: (R,) int64, the tokens of the answer.
        keys, values: (L, H_kv, T, D) half precision, rows of the prompt; None = recomputed when needed.
        window_keys, window_values: (layers with a sliding window, H_kv, rows, D) half precision, the last rows of the
            prompt, which those layers still see; None = there are no such layers, or no rows.
    """

    __repr__ = brief

    prompt: Tensor
    teacher: Tensor
    response: Tensor
    keys: Tensor | None = None
    values: Tensor | None = None
    window_keys: Tensor | None = None
    window_values: Tensor | None = None

    def with_rows(self, keys: Tensor, values: Tensor, sizes: Geometry) -> TrainingExample:
        """The same with the prompt's rows taken from (all layers, H_kv, T, D); 16 bits stay as they are."""
        keys, values = ((each if each.itemsize == 2 else each.half()).cpu() for each in (keys, values))
        rows = {"keys": keys[sizes.global_layers], "values": values[sizes.global_layers]}
        if sizes.window:
            near = slice(1 - sizes.window, None)
            rows["window_keys"] = keys[list(sizes.sliding), :, near]
            rows["window_values"] = values[list(sizes.sliding), :, near]
        return replace(self, **rows)

    @classmethod
    def read(cls, path: Path) -> TrainingExample:
        """Read one file, memory-mapped."""
        return cls(**load_file(path))

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        tensors = {name: getattr(self, name) for name in self.__dataclass_fields__}
        given = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
        try:
            with replacing(path) as part:
                save_file(given, part)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path.parent} cannot take more examples ({error}): free space or choose another --store; what is "
                "finished is kept, run the same command again to resume"
            ) from None


class AttentionRecorder:
    """Observer that records, per layer, the mean attention of this pass's tokens to the prompt rows before them.

    Attributes:
        layers: for each layer that sees the whole prompt (B, H_kv, G, T).
    """

    def __init__(self) -> None:
        self.layers: list[Tensor] = []

    def observe(self, call: AttentionCall) -> None:
        if call.window is not None:
            return
        prompt = call.keys.shape[2] - call.queries.shape[2]
        paid = attention_to_prompt(call.queries, call.keys, call.scaling, prompt, prompt, call.softcap)
        self.layers.append(paid.mean(-2))


class PromptRows:
    """The prompts of some examples side by side, padded on the left: their rows, and the positions after them.

    Attributes:
        cache: (B, H_kv, longest, D) in each layer; stored rows, or recomputed ones if some are not stored.
        padding: (B,) int64, rows before each prompt that belong to none; None = all prompts are equally long.
    """

    def __init__(self, lm: LanguageModel, examples: Sequence[TrainingExample]) -> None:
        self._lm, self._examples = lm, examples
        self._ids, self._first = pad_left([example.prompt for example in examples])
        self.padding = torch.tensor(self._first, device=lm.device) if any(self._first) else None
        stored = all(example.keys is not None for example in examples)
        rows = self._stored_rows() if stored else self._recomputed_rows()
        self.cache = FrozenCache(rows, self._longest, lm.geometry.sliding)

    @property
    def values(self) -> list[Tensor]:
        """Of each prompt, (L, H_kv, T_i, D); copied from the cache."""
        stacked = torch.stack([self.cache.layers[at].values for at in self._lm.geometry.global_layers])
        return self.unpadded(stacked, dim=-2)

    def unpadded(self, tensor: Tensor, dim: int) -> list[Tensor]:
        """(L, B, …) of padded prompts as one tensor per prompt, without the padding in dimension `dim`."""
        each = zip(tensor.unbind(1), self._first, strict=True)
        return [one.narrow(dim, first, self._longest - first) for one, first in each]

    @property
    def _longest(self) -> int:
        return self._ids.shape[1]

    def _stored_rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        sizes = self._lm.geometry
        for layer in range(sizes.layers):
            near = layer in sizes.sliding
            at = (sizes.sliding if near else sizes.global_layers).index(layer)
            names = ("window_keys", "window_values") if near else ("keys", "values")
            keys, values = (self._stacked([getattr(example, name)[at] for example in self._examples]) for name in names)
            yield keys, values

    def _stacked(self, rows: Sequence[Tensor]) -> Tensor:
        longest = max(each.shape[1] for each in rows)
        moved = [each.to(self._lm.device, self._lm.dtype) for each in rows]
        if len(moved) == 1:
            return moved[0][None]
        return torch.stack([F.pad(each, (0, 0, longest - each.shape[1], 0)) for each in moved])

    @torch.no_grad()
    def _recomputed_rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        cache, ids = complete_cache(self._lm), self._ids.to(self._lm.device)
        padding = {} if self.padding is None else padding_inputs(self.padding, 0, self._longest)
        self._lm.model(input_ids=ids, cache=cache, use_cache=True, logits_to_keep=1, **padding)
        window = self._lm.geometry.window or 0
        for layer in cache.layers:
            near = slice(1 - window if layer.is_sliding else None, None)
            yield layer.keys[:, :, near], layer.values[:, :, near]


def prompt_rows(lm: LanguageModel, examples: Sequence[TrainingExample]) -> list[PromptRows]:
    """The prompts of a pass: padded side by side on a GPU, each alone on a CPU, where padding costs more than calls."""
    apart = lm.device.type == "cpu"
    return [PromptRows(lm, group) for group in ([[each] for each in examples] if apart else [examples])]
