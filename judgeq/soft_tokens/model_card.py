"""The README beside saved soft tokens: what they are for, how they were made, how to use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from judgeq.config import command_options
from judgeq.data import sharegpt
from judgeq.models.embedded import public_name
from judgeq.soft_tokens.config import LICENCE, SoftTokensConfig
from judgeq.soft_tokens.custom_generate import custom_generate_section

PAPER = "2509.10798"
ON_THE_HUB = {"sharegpt": (sharegpt.GENERAL, sharegpt.CODE)}
"""Sources of training prompts that are data sets of the Hub, by their name in `--data`."""
LIBRARY = "library_name: judgeq"
"""A line of every card."""
MEASURED = "held_out_"
"""How the names of figures begin that were measured on texts training never saw."""


def model_card(config: SoftTokensConfig, name: str, licence: str = LICENCE, *, custom_generate: bool = False) -> str:
    """Markdown with the front matter that the Hugging Face Hub reads.

    Args:
        name: what the soft tokens are loaded under: a Hub id, or `DIR`.
        licence: an identifier of the Hub, such as `apache-2.0`.
        custom_generate: what transformers runs lies beside them.
    """
    appended, needs = "a prompt", "the answer"
    code, options = "answer = judgeq.ask(lm, document, question, tokens=tokens, budget=128)", "--budget 128"
    if config.question == "unknown":
        appended, needs = "a document, before any question", "an answer"
        code = (
            "compressed = judgeq.Document(lm, document).compress(tokens=tokens, budget=256)\n"
            "answer = compressed.ask(question)"
        )
        options = "--budget 256 --query-agnostic"
    return f"""---
{_front_matter(config, licence, custom_generate)}
---

# Judge Q soft tokens for {public_name(config.base_model)}

{config.n} soft tokens of width {config.hidden_size}. Appended to {appended}, their attention says which rows of the
KV cache {needs} will need ([arXiv {PAPER}](https://arxiv.org/abs/{PAPER})). The base model is not changed.
{_memory(config)}
```python
import judgeq

lm = judgeq.load("{config.base_model}")
tokens = judgeq.SoftTokens.for_model(lm, "{name}")
{code}
```

```sh
python -m judgeq ask --model {config.base_model} --tokens {name} --document FILE --question TEXT {options}
```
{custom_generate_section(name) if custom_generate else ""}
## Recipe

{_recipe(config)}

## Measured

{_table("figure", config.metrics)}

Made for revision `{config.base_revision}` with tokenizer `{config.tokenizer_hash}`, judgeq {config.judgeq_version}.
"""


def _memory(config: SoftTokensConfig) -> str:
    """What memory tokens are for; empty where there are none."""
    if not config.memory:
        return ""
    return (
        f"{config.memory} memory tokens follow them and read the prompt in the same pass. Their own rows stay in the "
        "cache, inside the budget;\nthe method `judgeq:memory=0` does without.\n"
    )


def _front_matter(config: SoftTokensConfig, licence: str, custom_generate: bool) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name="judgeq",
        base_model=public_name(config.base_model),
        base_model_relation="adapter",
        license=licence,
        pipeline_tag="text-generation",
        datasets=_datasets([*config.earlier, config.recipe]) or None,
        tags=["kv-cache", "soft-prompt", *["custom_generate"] * custom_generate, f"arxiv:{PAPER}"],
        model_name="Judge Q soft tokens",
        eval_results=_results(config) or None,
    )
    return data.to_yaml()


def _datasets(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Hub ids of the data sets that prompts were taken from, each once."""
    sources = [part.partition(":")[0] for recipe in recipes for part in str(recipe.get("data", "")).split(",")]
    return list(dict.fromkeys(dataset for source in sources for dataset in ON_THE_HUB.get(source, ())))


def _results(config: SoftTokensConfig) -> list[Any]:
    """The figures as the Hub's `model-index` has them."""
    from huggingface_hub import EvalResult

    data = config.recipe.get("data", "texts")
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="held-out",
            dataset_name=f"Held-out part of {data}",
            metric_type=figure.removeprefix(MEASURED),
            metric_name=figure.removeprefix(MEASURED).replace("_", " "),
            metric_value=value,
        )
        for figure, value in sorted(config.metrics.items())
        if figure.startswith(MEASURED)
    ]


def _recipe(config: SoftTokensConfig) -> str:
    """The commands of all runs, the first one first, and the settings of the last."""
    recipes = [*config.earlier, config.recipe]
    if not config.recipe:
        return "No training is recorded: these soft tokens are a place to start from."
    names = [str(later.get("start")) for later in recipes[1:]] + ["DIR"]
    commands = "\n".join(
        training_command(config.base_model, dict(sorted(recipe.items())), out)
        for recipe, out in zip(recipes, names, strict=True)
    )
    return f"```sh\n{commands}\n```\n\n{_table('setting', config.recipe)}"


def training_command(model: str, recipe: Mapping[str, Any], out: str = "DIR") -> str:
    """What a person types to train with these settings."""
    return f"python -m judgeq train --model {model}{command_options(recipe)} --out {out}"


def _table(head: str, values: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {value} |" for name, value in sorted(values.items())] or ["| none recorded | |"]
    return "\n".join([f"| {head} | value |", "|---|---|", *rows])
