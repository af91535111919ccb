"""PEFT's files of prompt tuning: `adapter_config.json` and `adapter_model.safetensors`, written and read without PEFT.

PEFT puts its virtual tokens before a prompt, soft tokens come after it: the numbers are carried over, what they were
trained for is not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from judgeq.errors import InputError
from judgeq.output import read_object, saved, saving

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
TENSOR_NAME = "prompt_embeddings"
KIND = "PROMPT_TUNING"


def write(folder: str | Path, embeddings: Tensor, base_model: str, revision: str | None) -> None:
    """Write a prompt of `embeddings`, (n, hidden), as PEFT reads it; what PEFT takes from the model is left to it.

    Raises:
        InputError: the folder cannot be written, or holds files that judgeq has not written, such as PEFT's own.
    """
    config = {
        "peft_type": KIND,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "revision": revision,
        "inference_mode": True,
        "num_virtual_tokens": embeddings.shape[0],
        "token_dim": embeddings.shape[1],
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
    }
    names = (CONFIG_FILE, TENSOR_FILE)
    # PEFT itself says more in its config
    ours = names if read_object(saved(Path(folder), CONFIG_FILE)).keys() == config.keys() else ()
    with saving(folder, names, ours) as part:
        save_file({TENSOR_NAME: embeddings.contiguous()}, part / TENSOR_FILE)
        (part / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[Tensor, str | None]:
    """The embeddings, (n, hidden) float32, and the base model that the folder names, if it does.

    Raises:
        InputError: no PEFT folder, another kind of PEFT adapter, pickled or damaged weights, or sizes that disagree.
    """
    config: dict[str, Any] = read_object(saved(folder, CONFIG_FILE))
    if not config:
        raise InputError(f"{folder} has no readable {CONFIG_FILE}: name a folder that PEFT's `save_pretrained` wrote")
    kind = config.get("peft_type")
    if kind != KIND:
        raise InputError(
            f"{folder} is a PEFT adapter of the kind {kind}, and only {KIND} is a prompt of plain embeddings: choose "
            "another"
        )
    if config.get("num_transformer_submodules") not in (None, 1):
        raise InputError(f"{folder} is a prompt for an encoder and a decoder: choose one of a causal language model")
    if not saved(folder, TENSOR_FILE).is_file():
        raise InputError(
            f"{folder} has no {TENSOR_FILE}, and pickle files are never opened: save the adapter again with a current "
            "PEFT"
        )
    try:
        stored = load_file(saved(folder, TENSOR_FILE))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder / TENSOR_FILE} cannot be read ({error}): copy or save it again") from None
    embeddings = stored.get(TENSOR_NAME)
    expected = config.get("num_virtual_tokens"), config.get("token_dim")
    if embeddings is None or embeddings.dim() != 2 or tuple(embeddings.shape) != expected:
        shape = "nothing" if embeddings is None else f"shape {tuple(embeddings.shape)}"
        raise InputError(
            f"{folder / TENSOR_FILE} holds {shape} as {TENSOR_NAME} and {CONFIG_FILE} says {expected}: save it again"
        )
    return embeddings.float(), config.get("base_model_name_or_path") or None
