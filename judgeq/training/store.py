"""What a training step needs, computed once and kept on disk: prompt rows and teacher attention, in half precision.

One safetensors file an example, written atomically, read memory-mapped. A step then costs `n` tokens, not `T + n`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from judgeq.cache import FrozenCache
from judgeq.errors import InputError
from judgeq.language_model import LanguageModel
from judgeq.prompts import build_prompt
from judgeq.scoring import mean_attention
from judgeq.training.config import TrainConfig
from judgeq.training.corpus import wiki_articles
from judgeq.training.examples import Example, build_examples
from judgeq.training.responses import Response, generate_responses

SHORTEST_RESPONSE = 4  # tokens that must remain to teach from


@dataclass(frozen=True)
class Lesson:
    """One stored example.

    Attributes:
        keys, values: (L, H_kv, T, D) half precision.
        teacher: (L, H_kv, G, T) half precision: attention of the response to the prompt, averaged over the response.
    """

    keys: Tensor
    values: Tensor
    teacher: Tensor

    def cache(self, dtype: torch.dtype, device: torch.device) -> FrozenCache:
        """The prompt rows as a cache to look at, batch of one."""
        rows = zip(self.keys.to(device, dtype), self.values.to(device, dtype), strict=True)
        return FrozenCache((keys[None], values[None]) for keys, values in rows)


class AttentionRecorder:
    """Observer that records, per layer, the mean attention of this pass's tokens to the prompt rows before them.

    Attributes:
        layers: for each layer (B, H_kv, G, T); carries gradients if the forward pass or the offsets do.
        offsets: (L, H, S, D), added to the queries; None = none.
    """

    def __init__(self, offsets: Tensor | None = None) -> None:
        self.layers: list[Tensor] = []
        self.offsets = offsets

    def observe(
        self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scaling: float, sliding: bool
    ) -> None:
        prompt = keys.shape[2] - queries.shape[2]
        if self.offsets is not None:
            queries = queries + self.offsets[layer]
        self.layers.append(mean_attention(queries, keys, scaling, prompt, prompt))


class Store:
    """A folder of lessons, tied to the recipe and model that made them."""

    def __init__(self, folder: Path, lm: LanguageModel, config: TrainConfig) -> None:
        self.folder, self.lm, self.config = folder, lm, config
        self.origin: dict[str, Any] = {
            "model": lm.name,
            "tokenizer_hash": lm.tokenizer_hash,
            **config.data_fields,
        }

    def __len__(self) -> int:
        return self.config.examples

    def __getitem__(self, index: int) -> Lesson:
        tensors = load_file(self._path(index))
        return Lesson(tensors["keys"], tensors["values"], tensors["teacher"])

    def fill(self, progress: Callable[[int, int], None]) -> None:
        """Compute what is missing; finished lessons are kept, so an interrupted run goes on where it stopped.

        Args:
            progress: called with (lessons done, lessons).

        Raises:
            InputError: the folder holds lessons of another recipe or model.
        """
        self._claim()
        missing = [index for index in range(len(self)) if not self._path(index).exists()]
        progress(len(self) - len(missing), len(self))
        if not missing:
            return
        config = self.config
        examples = build_examples(
            self.lm,
            wiki_articles(held_out=False),
            config.examples,
            tokens=(config.min_tokens, config.max_tokens),
            seed=config.seed,
        )
        prompts = {index: self._tokenize(examples[index]) for index in missing}
        order = sorted(missing, key=lambda index: len(prompts[index]))  # little padding in a batch
        batches = [order[at : at + config.batch] for at in range(0, len(order), config.batch)]
        done = len(self) - len(missing)
        for batch in batches:
            responses = generate_responses(
                self.lm, [prompts[index] for index in batch], config.response_tokens
            )
            for index, response in zip(batch, responses, strict=True):
                self._write(index, len(prompts[index]), response)
            done += len(batch)
            progress(done, len(self))

    def response_ids(self, indices: Sequence[int]) -> Tensor:
        """All response tokens of some lessons, one after the other: (sum of R,) int64."""
        return torch.cat([load_file(self._path(index))["response"] for index in indices])

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.safetensors"

    def _claim(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        label = self.folder / "origin.json"
        if not label.exists():
            label.write_text(json.dumps(self.origin, indent=2), encoding="utf-8")
        elif json.loads(label.read_text(encoding="utf-8")) != self.origin:
            raise InputError(
                f"{self.folder} holds training rows of another model or other data settings: use another --out, or "
                "delete that folder"
            )

    def _tokenize(self, example: Example) -> Tensor:
        prompt = build_prompt(
            self.lm,
            example.document,
            example.question,
            question_first=example.question_first,
            truncate=True,
            reserve=self.config.response_tokens + self.config.n,
        )
        return prompt.input_ids[0]

    @torch.inference_mode()
    def _write(self, index: int, prompt_tokens: int, response: Response) -> None:
        rng = random.Random(self.config.seed * 1_000_003 + index)
        longest = min(self.config.prefix_tokens, len(response.ids) - SHORTEST_RESPONSE)
        prefix = rng.randint(1, longest) if longest >= 1 and rng.random() < 0.5 else 0
        rows = prompt_tokens + prefix
        ids = response.ids[prefix:] if len(response.ids) else torch.tensor([min(self.lm.eos_ids)])
        lesson_rows = response.keys[:, :, :rows], response.values[:, :, :rows]
        cache = FrozenCache((keys[None], values[None]) for keys, values in zip(*lesson_rows, strict=True))
        recorder = AttentionRecorder()
        self.lm.model(
            input_ids=ids[None].to(self.lm.device), past_key_values=cache, logits_to_keep=1, observer=recorder
        )
        tensors = {
            "keys": lesson_rows[0].half().contiguous().cpu(),
            "values": lesson_rows[1].half().contiguous().cpu(),
            "teacher": torch.cat(recorder.layers).half().cpu(),
            "response": ids.clone(),
        }
        part = self._path(index).with_suffix(".part")
        save_file(tensors, part)
        part.replace(self._path(index))
