"""Answers of kvpress' own pipeline: runs under the Python that has kvpress, and knows of judgeq its press alone.

    python -I kvpress_pipeline.py MODEL THREADS

One question a line on standard input, one answer a line on standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
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
    """Serve questions until standard input ends; the first line of output says which versions answer.

    A question has `context`, `question`, `answer_prefix` and `max_new_tokens` as the pipeline takes them, and `press`:
    None for the full cache, or what `press_of` takes. The question is empty where it is a part of the context. An
    answer has its `text`, or says why kvpress has `failed`.
    """
    if find_spec("kvpress") is None:
        return NO_KVPRESS
    os.environ["HF_HUB_OFFLINE"] = "1"
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        import kvpress
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        torch.set_num_threads(int(threads))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if device == "cpu" else "auto"
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        pipeline = kvpress.KVPressTextGenerationPipeline(
            model=model.eval(), tokenizer=tokenizer, device=device
        )
        about = {name: version(name) for name in ("kvpress", "torch", "transformers")}
        about["python"] = platform.python_version()
        print(json.dumps(about), file=answers, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            asked["press"] = press_of(tokenizer, **asked["press"]) if asked["press"] else None
            with torch.inference_mode():
                try:
                    answer = {"text": pipeline(asked.pop("context"), **asked)["answer"]}
                except ValueError as error:
                    if NO_FAKE_KEYS not in str(error):
                        raise
                    answer = {"failed": str(error)}
            print(json.dumps(answer), file=answers, flush=True)
    return 0


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
