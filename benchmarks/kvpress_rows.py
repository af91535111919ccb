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
from unittest.mock import patch

if TYPE_CHECKING:
    from torch import Tensor

NO_KVPRESS = 3
"""Exit code where this Python has no kvpress."""


def main(request_file: str, folder: str) -> int:
    """Read a request and write `about.json` and one safetensors file a prompt.

    A request has `model` (a folder), `prompts` and `documents` (token ids), `budgets` (rows) and `presses`, each with
    `name`, `press`, `options`, `attention`, `inside` (options of the SnapKVPress that it wraps, or None) and `replay`.
    A file has `keys.LAYER` (H_kv, T, D), and for each press and budget `NAME.BUDGET.rows.LAYER` (H_kv, rows) and
    `NAME.BUDGET.scores.LAYER` (H_kv, T). Presses that replay read the documents, the others the prompts; their heads
    compete, so that their rows are (1, H_kv * rows), counted through the heads.
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
    replaying = [press for press in request["presses"] if press["replay"]]
    for at, ids in enumerate(request["documents"] if replaying else ()):
        replayed = read_replayed(model, torch.tensor([ids]), replaying, request["budgets"])
        save_file(replayed, Path(folder) / f"document{at}.safetensors")
    reading = [press for press in request["presses"] if not press["replay"]]
    for at, ids in enumerate(request["prompts"]):
        found: dict[str, Tensor] = {}
        for attention in dict.fromkeys(press["attention"] for press in reading):
            model.set_attn_implementation(attention)
            presses = [press for press in reading if press["attention"] == attention]
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
        f"{press['name']}.{budget}": _press(press, removed(length, budget)) for press in presses for budget in budgets
    }
    found: dict[str, Tensor] = {}
    watch = kvpress.BasePress()
    watch.compress = _recorder(asked, found)
    with watch(model):
        model.model(ids, past_key_values=DynamicCache(config=model.config))
    return found


def _press(asked: dict[str, Any], ratio: float) -> Any:
    """A press that removes this share of the rows, or one around a SnapKVPress that does."""
    import kvpress

    kind = getattr(kvpress, asked["press"])
    if asked["inside"] is None:
        return kind(compression_ratio=ratio, **asked["options"])
    return kind(press=kvpress.SnapKVPress(compression_ratio=ratio, **asked["inside"]), **asked["options"])


def read_replayed(model: Any, ids: Tensor, presses: list[dict[str, Any]], budgets: list[int]) -> dict[str, Tensor]:
    """A pass over a document, (1, T) int64, and a replay of it, for each press."""
    import torch
    from transformers import DynamicCache

    found: dict[str, Tensor] = {}
    heads = model.config.num_key_value_heads
    # the number of rows to remove is rounded down
    ratios = {budget: 1 - (budget - 0.25 / heads) / ids.shape[1] for budget in budgets}
    for asked in presses:
        press = _press(asked, ratios[budgets[0]])
        press.compress_post = _noting(press, asked["name"], ratios, found)
        with torch.inference_mode(), press(model):
            model.model(input_ids=ids, past_key_values=DynamicCache(config=model.config))
    return found


def _noting(press: Any, name: str, ratios: dict[int, float], found: dict[str, Tensor]) -> Callable[[Any], None]:
    """A press' `compress_post` for each budget; notes its scores, which it forgets, and the rows that it leaves."""
    import torch

    compress = press.compress_post

    def compress_post(model: Any) -> None:
        for budget, press.compression_ratio in ratios.items():
            compress(model)
            for layer, scores in enumerate(press.score_val[:, 0]):
                module = model.model.layers[layer].self_attn
                _, heads, rows = module.masked_key_indices
                kept = torch.ones(scores.shape, dtype=torch.bool)
                kept[heads, rows] = False
                found[f"{name}.{budget}.scores.{layer}"] = scores.clone()
                found[f"{name}.{budget}.rows.{layer}"] = kept.flatten().nonzero().T.contiguous()
                module.masked_key_indices = None

    return compress_post


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
            scorer = getattr(press, "press", press)
            scores = scorer.score(module, hidden_states, keys, values, attentions, kwargs)
            with patch.object(scorer, "score", return_value=scores):  # row numbers are no values to score by
                _, kept = press.compress(module, hidden_states, keys, numbers, attentions, kwargs)
            found[f"{name}.scores.{layer}"] = scores[0].contiguous()
            found[f"{name}.rows.{layer}"] = kept[0, ..., 0].contiguous()
        return keys, values

    return compress


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
