"""The rows that kvpress keeps: runs under the Python that has kvpress, and knows nothing of judgeq.

    python -I kvpress_rows.py REQUEST.json FOLDER

kvpress needs an older transformers, so it lives in an environment of its own. A press throws away which rows it kept:
here its own hook and its own `compress` run with row numbers in place of the values, and what comes back is the answer.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

NO_KVPRESS = 3
"""Exit code where this Python has no kvpress."""


def main(request_file: str, folder: str) -> int:
    """Read a request and write `about.json` and one safetensors file a prompt.

    A request has `model` (a folder), `prompts` (token ids), `budgets` (rows) and `presses`, each with `name`, `press`,
    `options` and `attention`. A file has `keys.LAYER` (H_kv, T, D), and for each press and budget
    `NAME.BUDGET.rows.LAYER` (H_kv, rows) and `NAME.BUDGET.scores.LAYER` (H_kv, T).
    """
    if find_spec("kvpress") is None:
        return NO_KVPRESS
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    model = AutoModelForCausalLM.from_pretrained(
        request["model"], dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
    ).eval()
    for at, ids in enumerate(request["prompts"]):
        found: dict[str, Tensor] = {}
        for attention in dict.fromkeys(press["attention"] for press in request["presses"]):
            model.set_attn_implementation(attention)
            presses = [press for press in request["presses"] if press["attention"] == attention]
            with torch.inference_mode():
                # the keys of the first implementation stay: they are compared with ours
                found = read(model, torch.tensor([ids]), presses, request["budgets"]) | found
        save_file(found, Path(folder) / f"prompt{at}.safetensors")
    about = {name: version(name) for name in ("kvpress", "torch", "transformers")}
    about["python"] = platform.python_version()
    (Path(folder) / "about.json").write_text(json.dumps(about), encoding="utf-8")
    return 0


def read(model: Any, ids: Tensor, presses: list[dict[str, Any]], budgets: list[int]) -> dict[str, Tensor]:
    """One pass over a prompt, (1, T) int64; every press at every budget sees the same complete rows."""
    import kvpress
    from transformers import DynamicCache

    length = ids.shape[1]
    asked = {
        f"{press['name']}.{budget}": getattr(kvpress, press["press"])(
            compression_ratio=removed(length, budget), **press["options"]
        )
        for press in presses
        for budget in budgets
    }
    found: dict[str, Tensor] = {}
    watch = kvpress.BasePress()
    watch.compress = _recorder(asked, found)
    with watch(model):
        model.model(ids, past_key_values=DynamicCache(config=model.config))
    return found


def removed(length: int, budget: int) -> float:
    """kvpress' `compression_ratio` that keeps `budget` of `length` rows.

    A quarter of a row more: presses round down or to the nearest, and a float just below the budget would lose a row.
    """
    return 1 - (budget + 0.25) / length


def _recorder(asked: dict[str, Any], found: dict[str, Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """A `compress` that removes nothing and notes what each press would keep, (1, H_kv, ...) without the batch."""
    import torch

    def compress(
        module: Any, hidden_states: Tensor, keys: Tensor, values: Tensor, attentions: Any, kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        layer = module.layer_idx
        found[f"keys.{layer}"] = keys[0].clone(memory_format=torch.contiguous_format)
        numbers = torch.arange(keys.shape[2])[:, None].expand(keys.shape)
        for name, press in asked.items():
            scores = press.score(module, hidden_states, keys, values, attentions, kwargs)
            _, kept = press.compress(module, hidden_states, keys, numbers, attentions, kwargs)
            found[f"{name}.scores.{layer}"] = scores[0].contiguous()
            found[f"{name}.rows.{layer}"] = kept[0, ..., 0].contiguous()
        return keys, values

    return compress


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
