"""What the press does, in kvpress' own environment: `python press_rows.py REQUEST.json RESULT.json`.

A request has `model` and `tokens` (folders), `ids` (of a prompt), `ratio`, `pool` (null: whole words) and `length`
(tokens to write).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from judgeq.integrations.kvpress import JudgeQPress

request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
model = AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32, trust_remote_code=False).eval()
ids = torch.tensor([request["ids"]])
rows = []


class Watched(JudgeQPress):
    """Notes which rows it keeps."""

    def kept(self, scores):
        rows.append(super().kept(scores))
        return rows[-1]


try:
    tokenizer = None if request["pool"] else AutoTokenizer.from_pretrained(request["model"])
    press = Watched(request["ratio"], folder=request["tokens"], tokenizer=tokenizer, pool=request["pool"])
    with torch.inference_mode(), press(model):
        pressed = model(ids, past_key_values=DynamicCache(config=model.config)).logits
except ValueError as error:
    Path(sys.argv[2]).write_text(json.dumps({"refused": str(error)}), encoding="utf-8")
    sys.exit()
with torch.inference_mode():
    plain = model(ids).logits
    kept = [layer[0].tolist() for layer in rows]
    with press(model):
        cache = DynamicCache(config=model.config)
        options = {"max_new_tokens": request["length"], "do_sample": False, "eos_token_id": None}
        written = model.generate(ids, attention_mask=torch.ones_like(ids), past_key_values=cache, **options)
    hooks = [name for name, part in model.named_modules() if part._forward_hooks or part._forward_pre_hooks]
    result = {
        "rows": kept,
        "gap": float((pressed - plain).abs().max()),
        "written": written[0, ids.shape[1] :].tolist(),
        "held": [layer.keys.shape[2] for layer in cache.layers],
        "hooks": hooks,
    }
Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")
