"""What a training step needs, computed once and kept on disk: prompt rows and teacher attention, in half precision.

One safetensors file an example, written atomically, read memory-mapped. A step then costs `n` tokens, not `T + n`.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from judgeq.cache import FrozenCache
from judgeq.data.example import Source
from judgeq.errors import InputError
from judgeq.language_model import Geometry, LanguageModel
from judgeq.scoring import mean_attention
from judgeq.training.config import TrainConfig
from judgeq.training.progress import Progress
from judgeq.training.responses import Response, generate_responses
from judgeq.training.workers import Workers

SHORTEST_RESPONSE = 4  # tokens that must remain to teach from
BATCHES_SORTED = 12  # so many batches are filled from one stretch of the data
GIGABYTE = 1e9
LABEL = "origin.json"


@dataclass(frozen=True)
class Lesson:
    """One stored example; `L` counts the layers that see the whole prompt, the only ones with anything to learn.

    Attributes:
        prompt: (T,) int64, the tokens that the rows stand for.
        keys, values: (L, H_kv, T, D) half precision.
        teacher: (L, H_kv, G, T) half precision: attention of the response to the prompt, averaged over the response.
        response: (R,) int64, the tokens that taught.
        window_keys, window_values: (layers with a sliding window, H_kv, rows, D) half precision, the last rows of the
            prompt, which those layers still see; None = there are no such layers.
    """

    prompt: Tensor
    keys: Tensor
    values: Tensor
    teacher: Tensor
    response: Tensor
    window_keys: Tensor | None = None
    window_values: Tensor | None = None

    def with_rows(self, keys: Tensor, values: Tensor, sizes: Geometry) -> Lesson:
        """The same with the prompt's rows taken from (all layers, H_kv, T, D)."""
        rows = {"keys": keys[sizes.global_layers], "values": values[sizes.global_layers]}
        if sizes.window:
            near = slice(1 - sizes.window, None)
            rows["window_keys"] = keys[list(sizes.sliding), :, near]
            rows["window_values"] = values[list(sizes.sliding), :, near]
        return replace(self, **rows)

    @classmethod
    def read(cls, path: Path) -> Lesson:
        """Read one file, memory-mapped."""
        return cls(**load_file(path))

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        part = path.with_suffix(".part")
        try:
            tensors = {name: getattr(self, name) for name in self.__dataclass_fields__}
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}, part
            )
            part.replace(path)
        except (OSError, SafetensorError) as error:
            part.unlink(missing_ok=True)
            raise InputError(
                f"{path.parent} cannot take more training rows ({error}): make room or choose another --store; what "
                "is finished is kept, run the same command again to go on"
            ) from None

    def cache(self, lm: LanguageModel) -> FrozenCache:
        """The prompt rows as a cache to look at, batch of one."""
        sizes = lm.geometry
        rows = dict(zip(sizes.global_layers, zip(self.keys, self.values, strict=True), strict=True))
        if self.window_keys is not None and self.window_values is not None:
            near = zip(self.window_keys, self.window_values, strict=True)
            rows |= dict(zip(sizes.sliding, near, strict=True))
        moved = ([states[None].to(lm.device, lm.dtype) for states in rows[layer]] for layer in sorted(rows))
        return FrozenCache(((keys, values) for keys, values in moved), len(self.prompt), sizes.sliding)


class AttentionRecorder:
    """Observer that records, per layer, the mean attention of this pass's tokens to the prompt rows before them.

    Attributes:
        layers: for each layer that sees the whole prompt (B, H_kv, G, T); carries gradients if the forward pass or the
            offsets do.
        offsets: (L, H, S, D), added to the queries; None = none.
    """

    def __init__(self, offsets: Tensor | None = None) -> None:
        self.layers: list[Tensor] = []
        self.offsets = offsets

    def observe(
        self,
        layer: int,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        softcap: float | None,
        window: int | None,
        *_: object,
    ) -> None:
        if window is not None:
            return
        prompt = keys.shape[2] - queries.shape[2]
        if self.offsets is not None:
            queries = queries + self.offsets[layer].to(queries)
        self.layers.append(mean_attention(queries, keys, scaling, prompt, prompt, softcap))


class Store:
    """A folder of lessons, tied to the recipe and model that made them.

    Args:
        source: prompts to read.
        examples: how many of them, or as many as the source has.
    """

    def __init__(
        self, folder: Path, lm: LanguageModel, config: TrainConfig, source: Source, examples: int
    ) -> None:
        self.folder, self.lm, self.config, self.source, self.examples = folder, lm, config, source, examples
        self.origin: dict[str, Any] = {
            "model": lm.name,
            "tokenizer_hash": lm.tokenizer_hash,
            "source": source.name,
            **config.data_fields,
        }

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> Lesson:
        return Lesson.read(self._path(index))

    @cached_property
    def prompts(self) -> list[Tensor]:
        """The tokens of every prompt, (T_i,) int64 each."""
        config = self.config
        reserve = config.response_tokens + config.n
        examples = self.source.examples(
            self.lm, self.examples, tokens=(config.min_tokens, config.max_tokens), seed=config.seed
        )
        try:
            return [example.input_ids(self.lm, reserve=reserve)[0] for example in examples]
        except InputError as error:
            raise InputError(f"{self.source.name}: {error}, or lower --max-tokens") from None

    @property
    def expected_bytes(self) -> int:
        """Size of the complete store, a little too high: as if every response were as long as allowed."""
        sizes, total = self.lm.geometry, 0
        row = sizes.row_bytes(2)
        for prompt in self.prompts:
            tokens = len(prompt) + self.config.prefix_tokens
            total += len(sizes.global_layers) * tokens * (row + 2 * sizes.heads)
            total += len(sizes.sliding) * min(tokens, sizes.window or 0) * row
        return total

    def fill(self, progress: Progress, workers: Workers, limit_gb: float, phase: str = "responses") -> None:
        """Compute what is missing; finished lessons are kept, so an interrupted run goes on where it stopped.

        Args:
            progress: told about every batch.
            workers: batches are shared among them.
            limit_gb: largest size of the store in gigabytes.

        Raises:
            InputError: the folder holds lessons of another recipe or model, or the store would be too large.
        """
        self._claim(workers)
        missing = [index for index in range(len(self)) if not self._is_finished(index)]
        needed = self.expected_bytes / GIGABYTE
        if missing:
            progress.note(f"The rows of {len(self):,} prompts take up to {needed:.1f} GB in {self.folder}.")
        if needed > limit_gb:
            fitting = int(len(self) * limit_gb / needed)
            raise InputError(
                f"The rows of {len(self):,} prompts need {needed:.1f} GB and --store-gb allows {limit_gb:g}: raise it, "
                f"take fewer --examples (about {fitting:,} fit), or shorter ones with --max-tokens"
            )
        done = len(self) - len(missing)
        progress.advance(phase, done, len(self))
        batches = self._batches(missing)
        for turn in range(0, len(batches), workers.count):
            for batch in batches[turn + workers.rank : turn + workers.rank + 1]:
                self._teach(batch)
            done += sum(map(len, batches[turn : turn + workers.count]))
            progress.advance(phase, done, len(self))
        workers.wait()

    def response_ids(self, indices: Sequence[int]) -> Tensor:
        """All response tokens of some lessons, one after the other: (sum of R,) int64."""
        return torch.cat([self._tensor(index, "response") for index in indices])

    def remove(self) -> None:
        """Delete all rows, and the folder if nothing else lies there."""
        for path in (*self.folder.glob("[0-9]*.safetensors"), self.folder / LABEL):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.safetensors"

    def _tensor(self, index: int, name: str) -> Tensor:
        with safe_open(self._path(index), framework="pt") as file:
            return file.get_tensor(name)

    def _is_finished(self, index: int) -> bool:
        """There is a lesson, and it was made from the prompt that stands at this place now."""
        if not self._path(index).exists():
            return False
        prompt = self._tensor(index, "prompt")[: len(self.prompts[index])]
        if not torch.equal(prompt, self.prompts[index]):
            raise InputError(
                f"{self._path(index)} was made from another prompt than {self.source.name} gives now: use another "
                "--store, or delete that folder"
            )
        return True

    def _claim(self, workers: Workers) -> None:
        label = self.folder / LABEL
        if workers.rank == 0 and not label.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            label.write_text(json.dumps(self.origin, indent=2), encoding="utf-8")
        workers.wait()
        if json.loads(label.read_text(encoding="utf-8")) != self.origin:
            raise InputError(
                f"{self.folder} holds training rows of another model or other data settings: use another --store, or "
                "delete that folder"
            )

    def _batches(self, missing: Sequence[int]) -> list[list[int]]:
        """Indices that are answered together: from one stretch of the data, and of similar length."""
        size = self.config.batch
        stretch = size * BATCHES_SORTED
        batches = []
        for start in range(0, len(missing), stretch):
            order = sorted(missing[start : start + stretch], key=lambda index: len(self.prompts[index]))
            batches += [order[at : at + size] for at in range(0, len(order), size)]
        return batches

    def _teach(self, batch: Sequence[int]) -> None:
        """Let the model answer some prompts and store what it looked at."""
        config = self.config
        responses = generate_responses(
            self.lm,
            [self.prompts[index] for index in batch],
            config.response_tokens,
            temperature=config.temperature,
            seed=config.seed * 1_000_003 + min(batch),
        )
        for index, response in zip(batch, responses, strict=True):
            self._lesson(index, response).write(self._path(index))

    @torch.inference_mode()
    def _lesson(self, index: int, response: Response) -> Lesson:
        rng = random.Random(self.config.seed * 1_000_003 + index)
        longest = min(self.config.prefix_tokens, len(response.ids) - SHORTEST_RESPONSE)
        prefix = rng.randint(1, longest) if longest >= 1 and rng.random() < 0.5 else 0
        prompt = torch.cat([self.prompts[index], response.ids[:prefix]])
        ids = response.ids[prefix:] if len(response.ids) else torch.tensor([min(self.lm.eos_ids)])
        keys, values = response.keys[:, :, : len(prompt)], response.values[:, :, : len(prompt)]
        rows = ((ours[None], theirs[None]) for ours, theirs in zip(keys, values, strict=True))
        cache = FrozenCache(rows, len(prompt), self.lm.geometry.sliding)
        recorder = AttentionRecorder()
        self.lm.model(
            input_ids=ids[None].to(self.lm.device), cache=cache, logits_to_keep=1, observer=recorder
        )
        teacher = torch.cat(recorder.layers).half().cpu()
        keys, values = keys.half().cpu(), values.half().cpu()
        return Lesson(prompt, keys, values, teacher, ids.clone()).with_rows(keys, values, self.lm.geometry)
