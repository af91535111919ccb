"""The folder of training examples: prompts, the model's own answers, their attention and, if wanted, prompt rows.

With rows a step costs `n` tokens, not `T + n`; without them the folder is small, and each step reads its prompts again.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Container, Sequence
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from judgeq.cache.retained import FrozenCache
from judgeq.data.example import Example, Source
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.output import PART, check_folder, read_object, write_file
from judgeq.prompts.prompt import dated, now
from judgeq.training.config import TrainConfig
from judgeq.training.examples import AttentionRecorder, TrainingExample
from judgeq.training.progress import Progress
from judgeq.training.responses import Response, generate_responses
from judgeq.training.workers import Workers

SHORTEST_RESPONSE = 4  # tokens that must remain to teach from
BATCHES_SORTED = 12  # so many batches are filled from one stretch of the data
GIGABYTE = 1e9
LABEL, DATE = "origin.json", "today"
DIGITS = 6  # in the name of an example's file
EXAMPLES = f"{'[0-9]' * DIGITS}.safetensors"


def is_store(folder: Path) -> bool:
    """Whether the folder has examples, according to its label file."""
    return {"tokenizer_hash", "source"} <= read_object(folder / LABEL).keys()


def check_store(folder: str | Path) -> None:
    """Refuse, with an `InputError`, a folder that cannot be written or where another file has an example's name."""
    names = (LABEL, *(path.name for path in Path(folder).glob(EXAMPLES)))
    check_folder(folder, names, names if is_store(Path(folder)) else (), shared=True)


class Store:
    """A folder of examples, tied to the recipe and model that made them.

    Args:
        source: prompts to read.
        examples: how many of them, or as many as the source has.
        rows: keep the prompts' rows, too.
    """

    def __init__(
        self,
        folder: Path,
        lm: LanguageModel,
        config: TrainConfig,
        source: Source,
        examples: int,
        rows: bool = True,
    ) -> None:
        self.folder, self.lm, self.config, self.source, self.examples = folder, lm, config, source, examples
        self.rows = rows
        self.origin: dict[str, Any] = {
            "model": lm.name,
            "tokenizer_hash": lm.tokenizer_hash,
            "source": source.name,
            **config.data_fields,
        }

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> TrainingExample:
        return TrainingExample.read(self._path(index))

    @cached_property
    def prompts(self) -> list[Tensor]:
        """The tokens of every prompt, (T_i,) int64 each."""
        return [ids for ids, _ in self._prompts]

    @cached_property
    def _prompts(self) -> list[tuple[Tensor, int]]:
        """Every prompt, and how many of its tokens the soft tokens read."""
        config = self.config
        reserve, positions = config.response_tokens + config.n, self.lm.geometry.max_positions
        if reserve >= positions:
            raise InputError(
                f"{self.lm.name} has {positions:,} positions, and responses and soft tokens take {reserve:,} of them: "
                "lower --response-tokens"
            )
        with dated(self._begun):
            examples = self.source.examples(
                self.lm, self.examples, tokens=(config.min_tokens, config.max_tokens), seed=config.seed
            )
            if config.question == "unknown":
                examples = [example.question_last() for example in examples]
            try:
                return [self._prompt(example, reserve) for example in examples]
            except InputError as error:
                raise InputError(f"{self.source.name}: {error}, or lower --max-tokens") from None

    def _prompt(self, example: Example, reserve: int) -> tuple[Tensor, int]:
        ids = example.input_ids(self.lm, reserve=reserve)[0]
        unknown = self.config.question == "unknown"
        return ids, example.tokens_before_question(self.lm) if unknown else len(ids)

    @cached_property
    def _begun(self) -> date | None:
        """The date in prompts whose chat template has one; None where an old folder does not say."""
        label = self.folder / LABEL
        if not label.exists():
            return now()
        said = json.loads(label.read_text(encoding="utf-8")).get(DATE)
        return said and datetime.fromisoformat(said)

    @property
    def expected_bytes(self) -> int:
        """Size of the complete store, a little too high: as if every response were as long as allowed."""
        sizes, total = self.lm.geometry, 0
        row = sizes.row_bytes(2) if self.rows else 0
        for prompt in self.prompts:
            tokens = len(prompt) + self.config.prefix_tokens
            total += len(sizes.global_layers) * tokens * (row + 2 * sizes.heads)
            total += len(sizes.sliding) * min(tokens, sizes.window or 0) * row
        return total

    def fill(self, progress: Progress, workers: Workers, limit_gb: float, phase: str = "responses") -> None:
        """Compute what is missing; finished examples are kept, so an interrupted run resumes where it stopped.

        Batches are those of a run without a break, so that what is left comes out as it would have: a batch that was
        interrupted is answered again, and only its missing examples are stored.

        Args:
            progress: gets every batch.
            workers: batches are shared among them.
            limit_gb: largest size of the store in gigabytes; by default `training.config.STORE_GB`.

        Raises:
            InputError: the folder holds examples of another recipe or model, or something else, or the store would be
                too large.
        """
        self._claim(workers)
        missing = {index for index in range(len(self)) if not self._is_finished(index)}
        workers.wait()  # all have checked before one continues
        needed = self.expected_bytes / GIGABYTE
        if missing:
            progress.note(f"{self._contents} {len(self):,} prompts take up to {needed:.1f} GB in {self.folder}.")
        if needed > limit_gb:
            fitting = int(len(self) * limit_gb / needed)
            raise InputError(
                f"{self._contents} {len(self):,} prompts need {needed:.1f} GB and --store-gb allows {limit_gb:g}: "
                f"raise it, take fewer --examples (about {fitting:,} fit), or shorter ones with --max-tokens"
            )
        done = len(self) - len(missing)
        progress.advance(phase, done, len(self))
        batches = [batch for batch in self._batches() if not missing.isdisjoint(batch)]
        for turn in range(0, len(batches), workers.count):
            for batch in batches[turn + workers.rank : turn + workers.rank + 1]:
                self._make_examples(batch, missing)
            done += sum(len(missing.intersection(batch)) for batch in batches[turn : turn + workers.count])
            progress.advance(phase, done, len(self))
        workers.wait()

    def response_ids(self, indices: Sequence[int]) -> Tensor:
        """All response tokens of some examples, one after the other: (sum of R,) int64."""
        return torch.cat([self._tensor(index, "response") for index in indices])

    def remove(self) -> None:
        """Delete all rows, and the folder if nothing else is in it."""
        for path in (*self.folder.glob(EXAMPLES), *self.folder.glob(f"{PART}*"), self.folder / LABEL):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    @property
    def _contents(self) -> str:
        return f"The {'rows' if self.rows else 'answers and their attention'} of"

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:0{DIGITS}d}.safetensors"

    def _tensor(self, index: int, name: str) -> Tensor:
        with safe_open(self._path(index), framework="pt") as file:
            return file.get_tensor(name)

    def _is_finished(self, index: int) -> bool:
        """There is an example, and it was made from the prompt that is at this index now."""
        if not self._path(index).exists():
            return False
        ids = self.prompts[index]
        stored = torch.cat([self._tensor(index, name) for name in ("prompt", "response")])
        if not torch.equal(stored[: len(ids)], ids):
            raise InputError(
                f"{self._path(index)} was made from another prompt than {self.source.name} gives now: use another "
                "--store, or delete that folder"
            )
        return True

    def _claim(self, workers: Workers) -> None:
        check_store(self.folder)
        label = self.folder / LABEL
        workers.wait()  # all have checked before one of them writes
        if workers.rank == 0 and not label.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            begun = {DATE: (self._begun or now()).isoformat()}
            write_file(label, json.dumps(self.origin | begun, indent=2))
        workers.wait()
        found = {"question": "known"} | read_object(label)  # older labels do not say
        if {name: value for name, value in found.items() if name != DATE} != self.origin:
            raise InputError(
                f"{self.folder} holds training rows of another model or other data settings: use another --store, or "
                "delete that folder"
            )

    def _batches(self) -> list[list[int]]:
        """Indices that are answered together: from one stretch of the data, and of similar length."""
        size = self.config.batch
        stretch = size * BATCHES_SORTED
        batches = []
        for start in range(0, len(self), stretch):
            places = range(start, min(start + stretch, len(self)))
            order = sorted(places, key=lambda index: len(self.prompts[index]))
            batches += [order[at : at + size] for at in range(0, len(order), size)]
        return batches

    def _make_examples(self, batch: Sequence[int], missing: Container[int]) -> None:
        """Let the model answer the prompts of a batch, and store the examples that are missing."""
        config = self.config
        responses = generate_responses(
            self.lm,
            [self.prompts[index] for index in batch],
            config.response_tokens,
            temperature=config.temperature,
            seed=config.seed * 1_000_003 + min(batch),
        )
        for index, response in zip(batch, responses, strict=True):
            if index in missing:
                self._make_example(index, response).write(self._path(index))

    @torch.inference_mode()
    def _make_example(self, index: int, response: Response) -> TrainingExample:
        rng = random.Random(self.config.seed * 1_000_003 + index)
        whole, read = self._prompts[index]
        longest = min(self.config.prefix_tokens, len(response.ids) - SHORTEST_RESPONSE)
        prefixed = self.config.question == "known" and longest >= 1 and rng.random() < 0.5
        read += rng.randint(1, longest) if prefixed else 0
        answer = response.ids if len(response.ids) else torch.tensor([min(self.lm.eos_ids)])
        prompt, ids = (part.clone() for part in torch.cat([whole, answer]).tensor_split([read]))
        keys, values = response.keys[:, :, : len(prompt)], response.values[:, :, : len(prompt)]
        rows = ((ours[None], theirs[None]) for ours, theirs in zip(keys, values, strict=True))
        cache = FrozenCache(rows, len(prompt), self.lm.geometry.sliding)
        recorder = AttentionRecorder()
        self.lm.model(input_ids=ids[None].to(self.lm.device), cache=cache, logits_to_keep=1, observer=recorder)
        example = TrainingExample(prompt, torch.cat(recorder.layers).half().cpu(), ids)
        return example.with_rows(keys, values, self.lm.geometry) if self.rows else example
