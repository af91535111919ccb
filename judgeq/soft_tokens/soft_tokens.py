"""The trained artefact: `n` embeddings that are appended to a prompt and score which of its rows will matter.

Memory tokens may follow them, whose own rows stay.

Owns the file format, the check that it fits a base model, and the ways to share it. Knows nothing of how it is trained
or used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from judgeq._assets import assets_path
from judgeq.errors import InputError
from judgeq.models.embedded import EMBEDDED, public_name, same_model
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.output import check_folder, has_mark, saved, saving
from judgeq.soft_tokens import hub
from judgeq.soft_tokens import peft as peft_files
from judgeq.soft_tokens.budget_profile import BudgetProfile
from judgeq.soft_tokens.config import CONFIG_FILE, LICENCE, SoftTokensConfig
from judgeq.soft_tokens.custom_generate import write_custom_generate
from judgeq.soft_tokens.model_card import LIBRARY, model_card
from judgeq.soft_tokens.tensors import SoftTokenTensors, embed

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

TENSOR_FILE = "soft_tokens.safetensors"
CARD_FILE = "README.md"
FILES = (CONFIG_FILE, TENSOR_FILE, CARD_FILE)
CARD_DIGEST = "card_sha256"
"""Under which the tensors' file knows the card that was written with it."""
MODEL_FILE = "config.json"
"""File of a transformers model, by which a folder that is named by mistake is recognised."""


@dataclass(frozen=True, eq=False)
class SoftTokens:
    """Soft tokens of one base model.

    Attributes:
        weights: the tensors, float32 on the CPU.
        config: origin and fit.
        profile: how many rows each layer and KV head deserves; None = none was learned.
    """

    __repr__ = brief

    weights: SoftTokenTensors
    config: SoftTokensConfig
    profile: BudgetProfile | None = None

    def __post_init__(self) -> None:
        memory, width = self.weights.memory, self.config.hidden_size
        for what, found, count in (
            ("soft", tuple(self.weights.embeddings.shape), self.config.n),
            ("memory", (0, width) if memory is None else tuple(memory.embeddings.shape), self.config.memory),
        ):
            if found != (count, width):
                raise InputError(
                    f"The {what} tokens have shape {found} and their config says {(count, width)}: the file was "
                    "changed by hand or belongs to another model"
                )
        if not all(torch.isfinite(tensor).all() for tensor in self.tensors().values()):
            raise InputError("The soft tokens contain NaN or infinite numbers: train them again")

    def __eq__(self, other: object) -> bool:
        """The same config, and the same numbers where they are stored."""
        if not isinstance(other, SoftTokens):
            return NotImplemented
        ours, theirs = self.tensors(), other.tensors()
        return (
            self.config == other.config
            and ours.keys() == theirs.keys()
            and all(torch.equal(ours[name], theirs[name]) for name in ours)
        )

    def __hash__(self) -> int:
        return hash(self.config)

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name."""
        return self.weights.tensors() | (self.profile.tensors() if self.profile else {})

    @property
    def n(self) -> int:
        """Number of soft tokens, `S`."""
        return self.config.n

    @property
    def positions(self) -> int:
        """Positions after a prompt that they and their memory tokens take."""
        return self.weights.positions

    @property
    def parts(self) -> list[str]:
        """What they consist of: `embeddings` alone is the paper's form."""
        weights = self.weights
        beside = {
            "query offsets": weights.query_offsets,
            "adapters": weights.adapters,
            "memory tokens": weights.memory,
            "profile": self.profile,
        }
        return ["embeddings", *(name for name, part in beside.items() if part is not None)]

    @classmethod
    def initialise(cls, lm: LanguageModel, token_ids: Tensor) -> SoftTokens:
        """Start from the embeddings of existing tokens, such as words of the model's own responses.

        Args:
            token_ids: (n,) int64.
        """
        return cls._untrained(lm, embed(lm, token_ids), lm.name)

    @classmethod
    def _untrained(cls, lm: LanguageModel, embeddings: Tensor, base_model: str) -> SoftTokens:
        config = SoftTokensConfig(
            base_model=base_model,
            base_revision=lm.revision,
            hidden_size=embeddings.shape[1],
            n=embeddings.shape[0],
            tokenizer_hash=lm.tokenizer_hash,
        )
        return cls(SoftTokenTensors(embeddings), config)

    def check(self, lm: LanguageModel) -> None:
        """Refuse a base model that these soft tokens were not trained for.

        The name counts as `same_model` says, wherever the files lie; number type and quantization do not count.

        Raises:
            InputError: another model, width or tokenizer.
        """
        if not same_model(self.config.base_model, lm.name):
            raise InputError(
                f"These soft tokens were trained for {self.config.base_model} and the base model here is {lm.name}: "
                f"choose soft tokens of {lm.name}, or, if it is the same model, give its folder the name of "
                f"{self.config.base_model} or say so with `tokens.adopt(lm)`"
            )
        self._check_sizes(lm)

    def adopt(self, lm: LanguageModel) -> SoftTokens:
        """The same soft tokens for `lm`, which is their base model, or a relative of it, under another name.

        Raises:
            InputError: another width or tokenizer: whatever it is called, they do not fit.
        """
        self._check_sizes(lm)
        config = dataclasses.replace(self.config, base_model=lm.name, base_revision=lm.revision)
        return dataclasses.replace(self, config=config)

    def _check_sizes(self, lm: LanguageModel) -> None:
        """Everything of `check` but the name."""
        config, sizes = self.config, lm.geometry
        for what, ours, theirs in (
            ("hidden size", config.hidden_size, sizes.hidden),
            ("tokenizer", config.tokenizer_hash, lm.tokenizer_hash),
        ):
            if ours != theirs:
                raise InputError(
                    f"These soft tokens were trained for {config.base_model} and do not fit {lm.name} "
                    f"({what} {ours} there, {theirs} here): choose soft tokens of {lm.name}, or train some with "
                    f"`python -m judgeq train --model {lm.name}`"
                )
        offsets, expected = self.weights.query_offsets, (sizes.layers, sizes.heads, self.n, sizes.head_dim)
        if offsets is not None and tuple(offsets.shape) != expected:
            raise InputError(
                f"The query offsets have shape {tuple(offsets.shape)} and {lm.name} needs {expected}: "
                "the file was changed by hand or belongs to another model"
            )
        for adapters in (self.weights.adapters, self.weights.memory_adapters):
            if adapters is not None:
                adapters.check(lm)
        if self.profile is not None:
            self.profile.check(len(sizes.global_layers), sizes.kv_heads)

    def save_pretrained(self, folder: str | Path, *, name: str = "DIR", licence: str = LICENCE) -> Path:
        """Write `judgeq_config.json`, `soft_tokens.safetensors` and a model card into `folder`; returns it.

        They take the place of soft tokens that were saved there before; until then these can be read.

        Args:
            name: what others will find them under, for the card.
            licence: of the soft tokens, for the card.

        Raises:
            InputError: the folder cannot be written, or holds files that judgeq has not written.
        """
        with saving(folder, FILES, saved_before(folder)) as part:
            self.write_files(part, name=name, licence=licence)
        return Path(folder)

    def write_files(
        self, part: Path, *, name: str = "DIR", licence: str = LICENCE, custom_generate: bool = False
    ) -> None:
        """Write the files of `save_pretrained` into an empty folder, such as `judgeq.output.saving` gives.

        Args:
            custom_generate: with what `model.generate(custom_generate=name)` of transformers runs.
        """
        if custom_generate:
            write_custom_generate(part, name)
        card = model_card(self.config, name, licence, custom_generate=custom_generate)
        save_file(self.tensors(), part / TENSOR_FILE, {CARD_DIGEST: _digest(card)})
        (part / CARD_FILE).write_text(card, encoding="utf-8")
        self.config.save(part / CONFIG_FILE)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        base_model: str | None = None,
        licence: str = LICENCE,
        private: bool = False,
        branch: str | None = None,
        token: str | None = None,
        commit_message: str = "Judge Q soft tokens",
        custom_generate: bool = False,
    ) -> CommitInfo:
        """Publish them on the Hugging Face Hub, with a model card; what lies here is not touched.

        Args:
            repo_id: `owner/name`; created where there is none.
            base_model: Hub id of the base model, where the soft tokens were trained on a folder or file of it.
            licence: of the soft tokens.
            private, branch, token: see `hub.push_folder`.
            custom_generate: with what `model.generate(custom_generate=repo_id)` of transformers runs.

        Raises:
            InputError: the base model has no public name, or the Hub does not take it.
        """
        given = self.config.base_model if base_model is None else base_model
        public = public_name(given)
        if not hub.is_hub_id(public) or (base_model is None and Path(public).exists()):
            raise InputError(
                f"The base model {given} is not an id of the Hub, so nobody else could tell which model these soft "
                "tokens belong to: give its id as base_model (--base-model)"
            )
        named = dataclasses.replace(self, config=dataclasses.replace(self.config, base_model=given))
        hub.check_hub_id(repo_id)
        with TemporaryDirectory() as folder:
            named.write_files(Path(folder), name=repo_id, licence=licence, custom_generate=custom_generate)
            return hub.push_folder(
                Path(folder),
                repo_id,
                mark=CONFIG_FILE,
                private=private,
                branch=branch,
                token=token,
                message=commit_message,
            )

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> SoftTokens:
        """Read from a folder, or from a repository of the Hugging Face Hub.

        Args:
            revision: branch, tag or commit on the Hub.

        Raises:
            InputError: nothing there, or not readable as soft tokens.
        """
        files = (CONFIG_FILE, TENSOR_FILE, MODEL_FILE, peft_files.CONFIG_FILE)
        folder = hub.local_folder(name, revision, files)
        if not saved(folder, CONFIG_FILE).is_file():
            raise InputError(_something_else(folder, name))
        try:
            config = SoftTokensConfig.load(saved(folder, CONFIG_FILE))
            stored = load_file(saved(folder, TENSOR_FILE))
            return cls(SoftTokenTensors.from_tensors(stored), config, BudgetProfile.from_tensors(stored))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        except (OSError, UnicodeError, json.JSONDecodeError, SafetensorError) as error:
            raise InputError(
                f"{name} does not hold readable soft tokens ({error}): it needs an intact {CONFIG_FILE} and "
                f"{TENSOR_FILE}, as `python -m judgeq train` writes them"
            ) from None

    @classmethod
    def for_model(
        cls,
        lm: LanguageModel,
        name: str | Path | None = None,
        *,
        revision: str | None = None,
        question: str = "known",
    ) -> SoftTokens:
        """Soft tokens that fit `lm`: from `name` (folder or Hub id), else those shipped for it.

        Of those shipped, the ones that were trained for prompts whose question is `known`, or for documents that are
        evicted while it is `unknown`; where one of the two is missing, the other.

        What others have published for this model is only named in the error, never taken unasked: soft tokens decide
        what the model forgets, so whose they are is for the user to say.

        Raises:
            InputError: none are shipped for this model, or `name` does not fit.
        """
        tokens = cls.from_pretrained(shipped_for(lm, question) if name is None else name, revision=revision)
        tokens.check(lm)
        return tokens

    def export_peft(self, folder: str | Path, *, embeddings_only: bool = False) -> Path:
        """Write the embeddings as PEFT's prompt tuning; returns the folder. PEFT puts them *before* a prompt.

        Args:
            embeddings_only: leave out what PEFT has no place for, memory tokens among it. Soft tokens that were trained
                with offsets or adapters score worse without them.

        Raises:
            InputError: something would be left out, the folder cannot be written, or it holds files that judgeq has not
                written.
        """
        lost = self.parts[1:]
        if lost and not embeddings_only:
            raise InputError(
                f"PEFT's prompt tuning has no place for the {', '.join(lost)} of these soft tokens: export the "
                "embeddings alone with embeddings_only (--embeddings-only), which loses the profile and nothing else "
                "after `train --capacity embeddings`"
            )
        base = public_name(self.config.base_model)
        revision = None if self.config.base_model in EMBEDDED else self.config.base_revision
        peft_files.write(folder, self.weights.embeddings, base, revision)
        return Path(folder)

    @classmethod
    def from_peft(cls, name: str | Path, lm: LanguageModel, *, revision: str | None = None) -> SoftTokens:
        """Read a prompt that PEFT has tuned, from a folder or the Hub; nothing but its numbers is taken over.

        It was trained to stand before a prompt and to change answers, so it is a place to start training from
        (`train --start`), not a judge.

        Raises:
            InputError: not readable as PEFT's prompt tuning, or of another base model.
        """
        folder = hub.local_folder(name, revision, (peft_files.CONFIG_FILE, peft_files.TENSOR_FILE))
        embeddings, base = peft_files.read(folder)
        tokens = cls._untrained(lm, embeddings, base or lm.name)
        tokens.check(lm)
        return tokens.adopt(lm)


def find_shipped(lm: LanguageModel, question: str = "known") -> Path | None:
    """The folder of soft tokens that come with this library, see `for_model`; None where this model has none."""
    paths = sorted(assets_path("soft_tokens").glob(f"*/{CONFIG_FILE}"))
    configs = {path.parent: SoftTokensConfig.load(path) for path in paths}
    fitting = [path for path, config in configs.items() if same_model(config.base_model, lm.name)]
    return min(fitting, key=lambda path: configs[path].question != question, default=None)


def shipped_for(lm: LanguageModel, question: str = "known") -> Path:
    """`find_shipped`, or an `InputError` that says what to do."""
    if (shipped := find_shipped(lm, question)) is not None:
        return shipped
    others = hub.published("judgeq", public_name(lm.name)) if lm.revision is not None else []
    found = f" (others have published {', '.join(others)} on the Hub)" if others else ""
    raise InputError(
        f"No soft tokens are shipped for {lm.name}{found}: name a folder or a Hub repository of some, train "
        f"them with `python -m judgeq train --model {lm.name}`, or choose the method stockanswer, which needs none"
    )


def check_tokens_folder(folder: str | Path) -> None:
    """Refuse, with an `InputError`, a folder that cannot be written or holds files that judgeq has not written."""
    check_folder(folder, FILES, saved_before(folder))


def saved_before(folder: str | Path) -> tuple[str, ...]:
    """Files of soft tokens that were saved there, without a card that was written or changed by hand since."""
    folder = Path(folder)
    if not has_mark(saved(folder, CONFIG_FILE)):
        return ()
    try:
        card = saved(folder, CARD_FILE).read_text(encoding="utf-8")
        with safe_open(saved(folder, TENSOR_FILE), framework="pt") as file:
            digest = (file.metadata() or {}).get(CARD_DIGEST)  # older judgeqs wrote none
    except (OSError, UnicodeError, SafetensorError):
        card, digest = "", None
    own = LIBRARY in card and digest in (None, _digest(card))
    return FILES if own else (CONFIG_FILE, TENSOR_FILE)


def _digest(card: str) -> str:
    return hashlib.sha256(card.encode("utf-8")).hexdigest()


def _something_else(folder: Path, name: str | Path) -> str:
    """What a folder without soft tokens seems to be, and what to do with it."""
    if (folder / peft_files.CONFIG_FILE).is_file():
        return (
            f"{name} is an adapter of PEFT: if it is a tuned prompt, read it with `SoftTokens.from_peft` or "
            f"`python -m judgeq tokens import-peft {name} --out DIR`"
        )
    if (folder / MODEL_FILE).is_file():
        return f"{name} is a model and not soft tokens: name soft tokens that were trained for it"
    return f"{name} has no {CONFIG_FILE}: name a folder where `python -m judgeq train` has finished"
