"""The folder `custom_generate` that transformers runs `model.generate` with, copied beside soft tokens on the Hub."""

from __future__ import annotations

from pathlib import Path

import judgeq

CUSTOM_GENERATE = Path(judgeq.__file__).parent / "integrations" / "custom_generate"
"""A folder that `model.generate(custom_generate=…)` takes as it is."""
PROGRAM, REQUIREMENTS = "custom_generate/generate.py", "custom_generate/requirements.txt"
"""The files that transformers looks for in a repository."""
OPEN = "SOFT_TOKENS = None"
"""The line of the program that names soft tokens."""


def write_custom_generate(folder: Path, repo_id: str) -> None:
    """Write the two files into `folder`, with the soft tokens of the repository `repo_id` as the default."""
    (folder / PROGRAM).parent.mkdir()
    for file in (PROGRAM, REQUIREMENTS):
        text = (CUSTOM_GENERATE / file).read_text(encoding="utf-8")
        (folder / file).write_text(text.replace(OPEN, f'SOFT_TOKENS = "{repo_id}"'), encoding="utf-8")


def custom_generate_section(repo_id: str) -> str:
    """What a model card says of it, Markdown."""
    return f"""
With plain transformers, where judgeq is installed too:

```python
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt").to(model.device)
out = model.generate(**ids, custom_generate="{repo_id}", trust_remote_code=True, budget=128, max_new_tokens=64)
```

`trust_remote_code=True` lets transformers run this repository's `{PROGRAM}`, ten lines that call judgeq.
"""
