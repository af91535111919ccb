"""The time that kvpress takes, and answers of its own pipeline: runs under the Python that has kvpress.

    python -I kvpress_server.py MODEL THREADS

One request a line on standard input, one answer a line on standard output, so that both sides can take turns. Knows of
judgeq its press alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import sys
import time
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

NO_KVPRESS = 3
"""Exit code where this Python has no kvpress."""
NO_FAKE_KEYS = "Could not find fake keys"
"""How kvpress' AdaKVPress fails: it hides rows behind keys that no query may attend to, and may find none."""
PRESS = Path(__file__).resolve().parents[1] / "judgeq" / "integrations" / "kvpress.py"


def main(folder: str, threads: str) -> int:
    """Serve requests until standard input ends; the first line of output says which versions answer.

    A request is what `take` or, with a `context`, what `answer` needs beside the model.
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
        logging.set_verbosity_error()
        torch.set_num_threads(int(threads))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if device == "cpu" else "auto"
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
        )
        model = model.eval().to(device)
        about = {name: version(name) for name in ("kvpress", "torch", "transformers")}
        about["python"] = platform.python_version()
        print(json.dumps(about), file=answers, flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            with torch.inference_mode():
                found = (answer if "context" in request else take)(model, **request)
            print(json.dumps(found), file=answers, flush=True)
    return 0


def take(model: Any, ids: list[int], budget: int, tokens: int) -> dict[str, float]:
    """Read a prompt with kvpress' SnapKV, or without a press, and generate `tokens` tokens after the first.

    Args:
        ids: of the prompt's tokens.
        budget: rows; 0 is transformers alone.

    Returns:
        `first_s`, the seconds until the first token is chosen, and `token_s`, the median of the later ones.
    """
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


def answer(model: Any, context: str, press: dict[str, Any] | None, **asked: Any) -> dict[str, str]:
    """What the pipeline answers to a question, as `text`, or why kvpress has `failed`.

    Args:
        press: None for the full cache, or what `press_of` takes.
        asked: `question`, `answer_prefix` and `max_new_tokens` as the pipeline takes them; the question is empty where
            it is a part of the context.
    """
    pipeline = _pipeline(model)
    asked["press"] = press_of(pipeline.tokenizer, **press) if press else None
    try:
        return {"text": pipeline(context, **asked)["answer"]}
    except ValueError as error:
        if NO_FAKE_KEYS not in str(error):
            raise
        return {"failed": str(error)}


@cache
def _pipeline(model: Any) -> Any:
    import kvpress
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, trust_remote_code=False)
    return kvpress.KVPressTextGenerationPipeline(model=model, tokenizer=tokenizer, device=model.device)


def press_of(tokenizer: Any, name: str, ratio: float, options: dict[str, Any], heads_compete: bool) -> Any:
    """A press that removes this share of the rows.

    Args:
        tokenizer: for `JudgeQPress`, which keeps whole words.
        name: class of kvpress, or `JudgeQPress`.
        options: its own arguments.
        heads_compete: within kvpress' AdaKVPress.
    """
    import kvpress

    kind = _ours().JudgeQPress if name == "JudgeQPress" else getattr(kvpress, name)
    if name == "JudgeQPress":
        options = options | {"tokenizer": tokenizer}
    if not heads_compete:
        return kind(compression_ratio=ratio, **options)
    if name == "JudgeQPress":
        return _competing(kind)(compression_ratio=ratio, **options)
    return kvpress.AdaKVPress(kind(compression_ratio=ratio, **options))


@cache
def _ours() -> ModuleType:
    """Our press, from its file; what it needs of our package beside that imports no transformers."""
    sys.path.append(str(PRESS.parents[2]))
    spec = spec_from_file_location("judgeq_press", PRESS)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _competing(judge: Any) -> Any:
    """Judge Q whose rows AdaKVPress selects: it gets the prompt's pooled scores, and the soft tokens' rows are cut."""
    import kvpress

    class Competing(judge):
        def score(self, *args: Any) -> Any:
            return self.pooled(super().score(*args))

        def compress(self, *args: Any) -> Any:
            return tuple(rows[:, :, : -self.n] for rows in kvpress.AdaKVPress(self).compress(*args))

    return Competing


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
