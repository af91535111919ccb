"""From a name to a ready language model: embedded, Hub id, local folder or GGUF file; 8 and 4 bits.

Runs no code from a model's repository and opens no pickle file. Knows nothing of eviction.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from judgeq.errors import ModelError
from judgeq.models import DEFAULT_MODEL
from judgeq.models.cpu_trial import use_layout
from judgeq.models.embedded import (
    EMBEDDED,
    IGNORED_FILES,
    SMALL_FILES,
    WEIGHT_FILES,
    check_gguf,
    embedded_model_path,
    embedded_name,
    gguf_tokenizer,
    quiet_transformers,
)
from judgeq.models.hub_download import HubError, snapshot
from judgeq.models.language_model import Geometry, LanguageModel
from judgeq.models.supported import (
    BALANCED,
    check_chat_template,
    check_model,
    check_quantization,
    check_tokenizer,
    choose_device,
    choose_dtype,
    clear_errors,
)
from judgeq.models.wheels import Progress, sealed_source

CONFIG_FILE = "config.json"
ADAPTER_FILE = "adapter_config.json"
NEEDED_FILES = (CONFIG_FILE, "tokenizer*.json", "*.safetensors", "*.safetensors.index.json")
LFS_POINTER = b"version https://git-lfs."
"""How a file begins that Git LFS has not fetched yet."""


@dataclass(frozen=True)
class _Place:
    """Where a model's files are, or will be once `fetch` has run."""

    name: str
    folder: Path
    gguf: str | None = None
    revision: str | None = None
    fetch: Callable[[], Path] | None = field(default=None, repr=False)

    @property
    def files(self) -> dict[str, Any]:
        """What `from_pretrained` finds the files by."""
        where = {"pretrained_model_name_or_path": self.folder}
        return {**where, "gguf_file": self.gguf} if self.gguf else where


def load(
    name: str | Path = DEFAULT_MODEL,
    *,
    quantization: str | None = None,
    dtype: Any = None,
    device: Any = "auto",
    revision: str | None = None,
    progress: Progress | None = None,
) -> LanguageModel:
    """A model ready for `judgeq.ask`.

    Args:
        name: an embedded model (`smollm2-135m`, the default), a Hub id (`org/name`), a folder, or a `.gguf` file.
        quantization: `"8bit"` or `"4bit"` (NF4, double quantization) with bitsandbytes; on a GPU or the CPU.
        dtype: a name or a `torch.dtype`; by default float32 on a CPU, the model's own 16-bit type elsewhere; `"auto"`
            is bfloat16 also on a CPU that multiplies it faster, after a trial that is remembered for the machine.
        device: anything `torch.device` takes; `"auto"` is CUDA where there is one, `"balanced"` spreads the layers over
            all GPUs.
        revision: branch, tag or commit on the Hub.
        progress: called while an embedded model is prepared for the first time, and while the Hub is waited for;
            standard error by default.

    Raises:
        ModelError: there is no such model, or it or an argument is not supported.
        DownloadError: its files could not be fetched or stored.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if not isinstance(name, (str, PathLike)):
        raise ModelError(
            f"The name of a model is an object of the class {type(name).__name__}: give a text or a path, or call "
            "`LanguageModel.wrap` for a model that is in memory."
        )
    spread = device == BALANCED
    device = choose_device(device)
    check_quantization(quantization)
    place = _locate(str(name), revision, progress)
    if place.gguf:
        if quantization:
            raise ModelError(f"{place.name} is a GGUF file, which cannot be loaded in {quantization}: leave it out.")
        check_chat_template(check_gguf(place.folder / place.gguf).get("tokenizer.chat_template"), place.name)
    with clear_errors(place.name, device), quiet_transformers():
        config = _config(place)
        mapped = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        check_model(config, MODEL_FOR_CAUSAL_LM_MAPPING[type(config)] if mapped else None, place.name)
        dtype = choose_dtype(dtype, device, config, quantized=bool(quantization))
        tokenizer = _tokenizer(place)
        check_tokenizer(tokenizer, place.name, config.get_text_config(decoder=True).vocab_size)
    if place.fetch is not None:
        place = replace(place, folder=place.fetch())
    if place.gguf is None and not any(place.folder.glob("*.safetensors")):
        raise ModelError(
            f"{place.name} has no safetensors weights, and pickle files are never opened: load it once with "
            "transformers, save it with `save_pretrained(FOLDER)`, and name that folder."
        )
    with clear_errors(place.name, device), quiet_transformers():
        model = _model(place, config, quantization, dtype, BALANCED if spread else {"": device})
    use_layout(model)
    lm = LanguageModel(model, tokenizer, place.name, place.revision, Geometry.of(model.config))
    return lm.tried_out()


def load_config(name: str | Path) -> Any:
    """The transformers config of a model, whose weights are not fetched; raises `ModelError` with what to do."""
    place = _locate(str(name), None, None)
    if place.gguf:
        check_gguf(place.folder / place.gguf)
    with clear_errors(place.name, None), quiet_transformers():
        return _config(place)


def load_tokenizer(name: str | Path) -> Any:
    """The tokenizer of a model, whose weights are not fetched; raises `ModelError` with what to do."""
    with quiet_transformers():
        return _tokenizer(_locate(str(name), None, None))


def _config(place: _Place) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(**place.files, trust_remote_code=False)


def _locate(name: str, revision: str | None, progress: Progress | None) -> _Place:
    path = Path(name).expanduser()
    on_hub = not path.exists() and re.fullmatch(r"\w[\w.-]*/[\w.-]+(?<!\.gguf)", name)
    if revision is not None and (name in EMBEDDED or not on_hub):
        raise ModelError(f"A revision ({revision!r}) belongs to a model on the Hub; leave it out for {name}.")
    if name in EMBEDDED:
        folder = embedded_model_path(name, progress)
        return _Place(name, folder, revision=sealed_source(folder))
    if embedded := embedded_name(path):
        return _Place(embedded, path, revision=sealed_source(path))
    if path.is_file() and path.suffix.lower() == ".gguf":
        return _Place(name, path.parent, gguf=path.name)
    if path.is_dir():
        _check_folder(path, name)
        if not (path / CONFIG_FILE).is_file():
            inside = [*path.glob("*.gguf"), *(each.parent for each in path.glob(f"*/{CONFIG_FILE}"))]
            instead = f"what lies in it, such as {min(inside)}" if inside else "one written by `save_pretrained`"
            raise ModelError(f"The folder {name} has no {CONFIG_FILE}: name {instead}.")
        return _Place(name, path)
    if on_hub:
        return _locate_on_hub(name, revision, progress)
    if path.is_file():
        raise ModelError(
            f"{name} is a file and no GGUF file: name the folder that it lies in, {path.resolve().parent}."
        )
    raise ModelError(
        f"There is no model {name!r}: use {', '.join(EMBEDDED)}, a Hub id such as org/name, or an existing "
        "folder or .gguf file."
    )


def _locate_on_hub(name: str, revision: str | None, progress: Progress | None) -> _Place:
    folder = _snapshot(name, revision, SMALL_FILES, progress)
    _check_folder(folder, name)
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(
            f"{name} has no {CONFIG_FILE} on the Hub, so it is not a transformers model: choose the repository of "
            "the full model, or download a .gguf file and name its path."
        )
    commit = folder.name
    return _Place(
        name,
        folder,
        revision=commit,
        fetch=lambda: _snapshot(name, commit, SMALL_FILES + WEIGHT_FILES, progress),
    )


def _check_folder(folder: Path, name: str) -> None:
    """Refuses adapters, which transformers would put on top of another model, and files that are not there yet."""
    if (folder / ADAPTER_FILE).is_file():
        try:
            adapter = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
            base, learned_prompt = adapter.get("base_model_name_or_path"), "num_virtual_tokens" in adapter
        except (OSError, ValueError, AttributeError):
            base, learned_prompt = None, False
        kind = "a model with" if (folder / CONFIG_FILE).is_file() else "only"
        what = (
            "name that model, and read the prompt with `python -m judgeq tokens import-peft` as a start for training"
            if learned_prompt
            else "join the two with PEFT's `merge_and_unload()`, and name a folder that its `save_pretrained` wrote"
        )
        raise ModelError(
            f"{name} holds {kind} an adapter of PEFT, which is for {base or 'a model that it does not name'}: {what}."
        )
    for path in (path for pattern in NEEDED_FILES for path in folder.glob(pattern)):
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            raise ModelError(f"{path} is only a pointer of Git LFS to the real file: run `git lfs pull` in its folder.")
        if not start:
            raise ModelError(f"{path} is empty: fetch it again.")


def _snapshot(name: str, revision: str | None, patterns: tuple[str, ...], progress: Progress | None) -> Path:
    try:
        return snapshot(name, revision=revision, patterns=patterns, ignored=IGNORED_FILES, progress=progress)
    except HubError as error:
        why = f" ({error.text})" if error.kind == "Silence" else ""
        unreachable = (
            f"{name} could not be fetched from the Hub{why} and is not in its local cache: check the network "
            f"connection, or use an embedded model ({', '.join(EMBEDDED)}), which needs no Hub"
        )
        raise ModelError(f"{error.sentence(name, unreachable)}.") from error


def _tokenizer(place: _Place) -> Any:
    from transformers import AutoTokenizer

    try:
        if place.gguf:
            return gguf_tokenizer(place.folder / place.gguf)
        return AutoTokenizer.from_pretrained(place.folder, trust_remote_code=False)
    except Exception as error:  # `tokenizers` raises nothing more special
        if not place.gguf and not any(place.folder.glob("tokenizer*")):
            raise ModelError(
                f"{place.name} comes without a tokenizer: put tokenizer.json and tokenizer_config.json next to its "
                "weights, as the tokenizer's `save_pretrained` writes them."
            ) from error
        raise ModelError(
            f"{place.name} cannot be loaded, for its tokenizer cannot be read: fetch it again, or choose another model."
        ) from error


def _model(place: _Place, config: Any, quantization: str | None, dtype: Any, device_map: Any) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GgufConfig

    from judgeq.attention.registry import ATTENTION

    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": ATTENTION}
    if place.gguf:
        options["quantization_config"] = GgufConfig(dequantize=True)
    else:
        options["config"] = config
    if quantization == "4bit":
        # else a line about kernels that are not installed
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    elif quantization == "8bit":
        # else a line for every layer and every token
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    placed = quantization or getattr(config, "quantization_config", None) or device_map == BALANCED
    if placed:
        options["device_map"] = device_map
    model, report = AutoModelForCausalLM.from_pretrained(
        **place.files, **options, trust_remote_code=False, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{place.name} lacks {len(missing)} weights, the first being {missing[0]}: fetch it again.")
    model.config.name_or_path = place.name
    model.eval().requires_grad_(False)
    return model if placed else model.to(device_map[""])
