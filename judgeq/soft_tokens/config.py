"""The model and recipe of soft tokens: the JSON file next to their tensors. Knows nothing of tensors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

from judgeq._version import __version__
from judgeq.config import JsonConfig, check_at_least
from judgeq.errors import InputError
from judgeq.objects import brief

CONFIG_FILE = "judgeq_config.json"
LICENCE = "apache-2.0"
"""Of soft tokens, unless their maker says otherwise."""


@dataclass(frozen=True)
class SoftTokensConfig(JsonConfig):
    """What soft tokens were made for and with.

    Attributes:
        base_model: name of the model they were trained on.
        hidden_size: width of that model's embeddings.
        n: number of soft tokens.
        memory: number of memory tokens after them. Not in the file where it is 0, which earlier versions read too.
        tokenizer_hash: fingerprint of the tokenizer and chat template seen in training.
        base_revision: revision of the base model, if it has one.
        recipe: the training configuration.
        earlier: recipes of the soft tokens that this training went on from, the first one first.
        metrics: figures measured after training.
        judgeq_version: library that wrote the file.
    """

    __repr__ = brief

    base_model: str
    hidden_size: int
    n: int
    tokenizer_hash: str
    base_revision: str | None = None
    memory: int = 0
    recipe: dict[str, Any] = field(default_factory=dict, hash=False)
    earlier: list[dict[str, Any]] = field(default_factory=list, hash=False)
    metrics: dict[str, Any] = field(default_factory=dict, hash=False)
    judgeq_version: str = __version__

    def __post_init__(self) -> None:
        check_at_least("SoftTokensConfig", "n", self.n, 1)
        check_at_least("SoftTokensConfig", "hidden_size", self.hidden_size, 1)
        check_at_least("SoftTokensConfig", "memory", self.memory, 0)
        kinds = {"base_model": str, "tokenizer_hash": str, "recipe": dict, "earlier": list, "metrics": dict}
        for name, kind in kinds.items():
            if not isinstance(value := getattr(self, name), kind):
                wanted = "text" if kind is str else kind.__name__
                raise InputError(f"SoftTokensConfig.{name} is {value!r}; give a {wanted}")

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        if not self.memory:
            del values["memory"]
        return values

    @property
    def question(self) -> str:
        """`known` where they were trained on prompts with their question, `unknown` where on what comes before it."""
        return str(self.recipe.get("question", "known"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from `to_dict()`'s output.

        Raises:
            InputError: no object, a field that is missing, or one that a later version has added.
        """
        if not isinstance(values, dict):
            raise InputError(f"{CONFIG_FILE} is not a JSON object")
        fields = dataclasses.fields(cls)
        if later := sorted(set(values) - {field.name for field in fields}):
            raise InputError(
                f"{CONFIG_FILE} of judgeq {values.get('judgeq_version', 'unknown')} has the field {', '.join(later)}, "
                f"which this judgeq {__version__} does not know: update judgeq"
            )
        if missing := [name for name in REQUIRED if name not in values]:
            raise InputError(f"{CONFIG_FILE} lacks the field {', '.join(missing)}")
        return super().from_dict(values)


REQUIRED = tuple(
    field.name
    for field in dataclasses.fields(SoftTokensConfig)
    if field.default is field.default_factory is dataclasses.MISSING
)
"""What every config says."""
