"""The time that kvpress takes: runs under the Python that has kvpress, and knows nothing of judgeq.

    python -I kvpress_speed.py MODEL THREADS

One request a line on standard input, one answer a line on standard output, so that both sides can take turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

NO_KVPRESS = 3
"""Exit code where this Python has no kvpress."""


def main(folder: str, threads: str) -> int:
    """Serve requests until standard input ends; the first line of output says which versions answer.

    A request has `ids` (token ids), `budget` (rows; 0 is transformers alone) and `tokens`. An answer has `first_s`,
    the seconds until the first token is chosen, and `token_s`, the median of the later ones.
    """
    if find_spec("kvpress") is None:
        return NO_KVPRESS
    os.environ["HF_HUB_OFFLINE"] = "1"
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(int(threads))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if device == "cpu" else "auto"
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
        )
        model = model.eval().to(device)
        about = {name: version(name) for name in ("kvpress", "torch", "transformers")}
        print(json.dumps(about), file=answers, flush=True)
        for line in sys.stdin:
            with torch.inference_mode():
                print(json.dumps(take(model, **json.loads(line))), file=answers, flush=True)
    return 0


def take(model: Any, ids: list[int], budget: int, tokens: int) -> dict[str, float]:
    """Read a prompt with kvpress' SnapKV, or without a press, and generate `tokens` tokens after the first."""
    import kvpress
    import torch
    from transformers import DynamicCache

    prompt, cache = torch.tensor([ids], device=model.device), DynamicCache(config=model.config)
    press: Any = contextlib.nullcontext()
    if budget:
        press = kvpress.SnapKVPress(compression_ratio=1 - (budget + 0.25) / len(ids))(model)
    started = time.perf_counter()
    with press:
        logits = model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    token = int(logits[0, -1].argmax())
    first_s = time.perf_counter() - started
    seconds = []
    for place in range(len(ids), len(ids) + tokens):
        started = time.perf_counter()
        at = torch.tensor([[place]], device=model.device)
        step = torch.tensor([[token]], device=model.device)
        logits = model(step, past_key_values=cache, use_cache=True, position_ids=at).logits
        token = int(logits[0, -1].argmax())
        seconds.append(time.perf_counter() - started)
    return {"first_s": first_s, "token_s": statistics.median(seconds)}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
