"""The trained artefact: `n` embeddings that stand after a prompt and ask which of its rows will matter.

Owns the tensor, its file format and the check that it fits a base model. Knows nothing of how it is trained or used.
"""

from __future__ import annotations

import contextlib
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from judgeq._assets import assets_path
from judgeq._version import __version__
from judgeq.adapters import LowRank
from judgeq.config import JsonConfig, check_at_least
from judgeq.errors import InputError
from judgeq.language_model import LanguageModel
from judgeq.model_card import model_card
from judgeq.profile import BudgetProfile

CONFIG_FILE = "judgeq_config.json"
TENSOR_FILE = "soft_tokens.safetensors"
CARD_FILE = "README.md"
TENSOR_NAME = "soft_tokens"
OFFSETS_NAME = "query_offsets"
DOWN_NAME, UP_NAME = "adapter_down.", "adapter_up."


@dataclass(frozen=True)
class SoftTokensConfig(JsonConfig):
    """What soft tokens were made for and with.

    Attributes:
        base_model: name of the model they were trained on.
        hidden_size: width of that model's embeddings.
        n: number of soft tokens.
        tokenizer_hash: fingerprint of the tokenizer and chat template seen in training.
        base_revision: revision of the base model, if it has one.
        recipe: the training configuration.
        earlier: recipes of the soft tokens that this training went on from, the first one first.
        metrics: figures measured after training.
        judgeq_version: library that wrote the file.
    """

    base_model: str
    hidden_size: int
    n: int
    tokenizer_hash: str
    base_revision: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    earlier: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    judgeq_version: str = __version__

    def __post_init__(self) -> None:
        check_at_least("SoftTokensConfig", "n", self.n, 1)
        check_at_least("SoftTokensConfig", "hidden_size", self.hidden_size, 1)


@dataclass(frozen=True)
class Probe:
    """What stands behind a prompt and asks: the tensors of soft tokens.

    Attributes:
        embeddings: (S, hidden), appended to the prompt's embeddings.
        query_offsets: (L, H, S, D), added to the soft tokens' queries, before RoPE, where rows are scored; None = no
            offsets. The model's own forward pass never sees them.
        adapters: low-rank terms of the linear maps at the soft tokens' positions; None = none.

    With neither offsets nor adapters this is the paper's form.
    """

    embeddings: Tensor
    query_offsets: Tensor | None = None
    adapters: LowRank | None = None

    def offsets_at(self, lm: LanguageModel, first_position: int) -> Tensor | None:
        """The offsets as they are added after RoPE when the first soft token stands at `first_position`."""
        if self.query_offsets is None:
            return None
        return lm.rotate(self.query_offsets.to(lm.device), first_position)

    def attached(self, lm: LanguageModel) -> AbstractContextManager[None]:
        """Within this block, passes of this thread that end with the soft tokens run through the adapters."""
        if self.adapters is None:
            return contextlib.nullcontext()
        adapters = self.adapters.map(lambda tensor: tensor.to(lm.device))
        return adapters.attached(lm, positions=self.embeddings.shape[0])

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name: embeddings in float32, all else, which is much more, in float16."""
        stored = {TENSOR_NAME: self.embeddings.contiguous()}
        if self.query_offsets is not None:
            stored[OFFSETS_NAME] = self.query_offsets.half().contiguous()
        if self.adapters is not None:
            for prefix, maps in ((DOWN_NAME, self.adapters.down), (UP_NAME, self.adapters.up)):
                stored |= {prefix + name: tensor.half().contiguous() for name, tensor in maps.items()}
        return stored

    @classmethod
    def from_tensors(cls, stored: dict[str, Tensor]) -> Probe:
        """Read what `tensors` gives; float32 throughout.

        Raises:
            KeyError: no embeddings, or half an adapter.
        """
        down = {name.removeprefix(DOWN_NAME) for name in stored if name.startswith(DOWN_NAME)}
        adapters = LowRank(
            {name: stored[DOWN_NAME + name].float() for name in sorted(down)},
            {name: stored[UP_NAME + name].float() for name in sorted(down)},
        )
        offsets = stored.get(OFFSETS_NAME)
        return cls(
            stored[TENSOR_NAME].float(),
            None if offsets is None else offsets.float(),
            adapters if down else None,
        )


@dataclass(frozen=True)
class SoftTokens:
    """Soft tokens of one base model.

    Attributes:
        probe: the tensors, float32 on the CPU.
        config: origin and fit.
        profile: how many rows each layer and KV head deserves; None = none was learned.
    """

    probe: Probe
    config: SoftTokensConfig
    profile: BudgetProfile | None = None

    def __post_init__(self) -> None:
        expected = (self.config.n, self.config.hidden_size)
        if tuple(self.probe.embeddings.shape) != expected:
            raise InputError(
                f"The soft tokens have shape {tuple(self.probe.embeddings.shape)} and their config says {expected}: "
                "the file was changed by hand or belongs to another model"
            )
        if not all(torch.isfinite(tensor).all() for tensor in self.tensors().values()):
            raise InputError("The soft tokens contain NaN or infinite numbers: train them again")

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name."""
        return self.probe.tensors() | (self.profile.tensors() if self.profile else {})

    @property
    def n(self) -> int:
        """Number of soft tokens, `S`."""
        return self.config.n

    @classmethod
    def initialise(cls, lm: LanguageModel, token_ids: Tensor) -> SoftTokens:
        """Start from the embeddings of existing tokens, such as words of the model's own responses.

        Args:
            token_ids: (n,) int64.
        """
        embed = lm.model.get_input_embeddings()  # called, since some families scale what it looks up
        with torch.no_grad():
            embeddings = embed(token_ids.to(embed.weight.device)).float().cpu()
        config = SoftTokensConfig(
            base_model=lm.name,
            base_revision=lm.revision,
            hidden_size=embeddings.shape[1],
            n=embeddings.shape[0],
            tokenizer_hash=lm.tokenizer_hash,
        )
        return cls(Probe(embeddings), config)

    def check(self, lm: LanguageModel) -> None:
        """Refuse a base model that these soft tokens were not trained for.

        Raises:
            InputError: another model, width or tokenizer.
        """
        config = self.config
        for what, ours, theirs in (
            ("base model", config.base_model, lm.name),
            ("hidden size", config.hidden_size, lm.geometry.hidden),
            ("tokenizer", config.tokenizer_hash, lm.tokenizer_hash),
        ):
            if ours != theirs:
                raise InputError(
                    f"These soft tokens were trained for {config.base_model} and do not fit {lm.name} "
                    f"({what} {ours} there, {theirs} here): choose soft tokens of {lm.name}, or train some with "
                    f"`python -m judgeq train --model {lm.name}`"
                )
        sizes = lm.geometry
        offsets, expected = self.probe.query_offsets, (sizes.layers, sizes.heads, self.n, sizes.head_dim)
        if offsets is not None and tuple(offsets.shape) != expected:
            raise InputError(
                f"The query offsets have shape {tuple(offsets.shape)} and {lm.name} needs {expected}: "
                "the file was changed by hand or belongs to another model"
            )
        if self.probe.adapters is not None:
            self.probe.adapters.check(lm)
        if self.profile is not None:
            self.profile.check(len(sizes.global_layers), sizes.kv_heads)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write `judgeq_config.json`, `soft_tokens.safetensors` and a model card into `folder`; returns it.

        The config is written last, so that a folder with a config is complete.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).unlink(missing_ok=True)
        save_file(self.tensors(), folder / TENSOR_FILE)
        (folder / CARD_FILE).write_text(model_card(self.config), encoding="utf-8")
        self.config.save(folder / CONFIG_FILE)
        return folder

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> SoftTokens:
        """Read from a folder, or from a repository of the Hugging Face Hub.

        Raises:
            InputError: nothing there, or not readable as soft tokens.
        """
        folder = Path(name)
        if not folder.is_dir():
            folder = _fetch(str(name), revision)
        try:
            config = SoftTokensConfig.load(folder / CONFIG_FILE)
            stored = load_file(folder / TENSOR_FILE)
            probe, profile = Probe.from_tensors(stored), BudgetProfile.from_tensors(stored)
        except (OSError, json.JSONDecodeError, SafetensorError, TypeError, KeyError, InputError) as error:
            raise InputError(
                f"{name} does not hold readable soft tokens ({error}): it needs an intact {CONFIG_FILE} and "
                f"{TENSOR_FILE}, as `python -m judgeq train` writes them"
            ) from None
        return cls(probe, config, profile)

    @classmethod
    def for_model(cls, lm: LanguageModel, name: str | Path | None = None) -> SoftTokens:
        """Soft tokens that fit `lm`: from `name` (folder or Hub id), else those shipped for it.

        Raises:
            InputError: none are shipped for this model, or `name` does not fit.
        """
        if name is None:
            name = assets_path("soft_tokens", lm.name.rsplit("/", 1)[-1].lower())
            if not (name / CONFIG_FILE).is_file():
                raise InputError(
                    f"No soft tokens are shipped for {lm.name}: name a folder or a Hub repository of some, or train "
                    f"them with `python -m judgeq train --model {lm.name}`"
                )
        tokens = cls.from_pretrained(name)
        tokens.check(lm)
        return tokens


def _fetch(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG_FILE, TENSOR_FILE]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"Soft tokens {name!r} are neither a folder here nor reachable on the Hugging Face Hub "
            f"({type(error).__name__}): check the name and the connection"
        ) from None
