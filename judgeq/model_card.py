"""The README beside saved soft tokens: what they are for, how they were made, how to use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from judgeq.config import command_options
from judgeq.embedded import EMBEDDED

if TYPE_CHECKING:
    from judgeq.soft_tokens import SoftTokensConfig


def model_card(config: SoftTokensConfig) -> str:
    """Markdown with the front matter that the Hugging Face Hub reads."""
    embedded = EMBEDDED.get(config.base_model)
    base = embedded.hub_id if embedded else config.base_model
    recipe = "\n".join(f"| {name} | {value} |" for name, value in sorted(config.recipe.items()))
    metrics = "\n".join(f"| {name} | {value} |" for name, value in sorted(config.metrics.items()))
    recipes = [*config.earlier, config.recipe]
    names = [str(later.get("start")) for later in recipes[1:]] + ["DIR"]
    commands = "\n".join(
        _command(config.base_model, each, out) for each, out in zip(recipes, names, strict=True)
    )
    return f"""---
library_name: judgeq
base_model: {base}
base_model_relation: adapter
license: apache-2.0
tags:
  - kv-cache
  - soft-prompt
---

# Judge Q soft tokens for {base}

{config.n} soft tokens of width {config.hidden_size}. Appended behind a prompt, their attention says which rows of the
KV cache the answer will need ([arXiv 2509.10798](https://arxiv.org/abs/2509.10798)). The base model is not changed.

```python
import judgeq

lm = judgeq.load("{config.base_model}")
tokens = judgeq.SoftTokens.for_model(lm, "PATH_OR_HUB_ID")  # this folder
answer = judgeq.ask(lm, document, question, tokens=tokens, budget=128)
```

## Recipe

```sh
{commands}
```

| setting | value |
|---|---|
{recipe or "| none recorded | |"}

## Measured

| figure | value |
|---|---|
{metrics or "| none recorded | |"}

Trained on revision `{config.base_revision}` with tokenizer `{config.tokenizer_hash}`, judgeq {config.judgeq_version}.
"""


def _command(model: str, recipe: dict[str, Any], out: str) -> str:
    return (
        f"python -m judgeq train --model {model}{command_options(dict(sorted(recipe.items())))} --out {out}"
    )
