"""What a training run is made of; saved with the soft tokens that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from judgeq.config import JsonConfig, check_at_least
from judgeq.errors import InputError

Objective = Literal["tempered", "kl", "mse"]
Capacity = Literal["offsets", "embeddings"]


@dataclass(frozen=True)
class TrainConfig(JsonConfig):
    """A recipe. The same recipe on the same model gives the same soft tokens.

    Attributes:
        data: where prompts come from; `wiki` = offline encyclopaedia texts.
        examples: number of training prompts.
        min_tokens, max_tokens: length of their documents.
        response_tokens: longest self-generated response.
        prefix_tokens: up to so many response tokens already belong to the prompt, in half of the examples.
        batch: prompts whose responses are generated together.
        n: soft tokens; 32 in the paper.
        capacity: what is learned: `embeddings` alone as in the paper, or also `offsets` to their queries in each layer.
        objective: `tempered` KL between group means, `kl` between query heads, or the paper's `mse`.
        temper: power that `tempered` raises attention to, in (0, 1].
        learning_rate: of Adam, at its peak; linear warm-up over 5 % of the steps, then a cosine down to 0.
        offset_learning_rate: the same for the offsets.
        epochs: passes over the examples.
        accumulate: examples a step.
        seed: of data, initialisation and order.
    """

    data: str = "wiki"
    examples: int = 416
    min_tokens: int = 256
    max_tokens: int = 1024
    response_tokens: int = 48
    prefix_tokens: int = 8
    batch: int = 8
    n: int = 32
    capacity: Capacity = "offsets"
    objective: Objective = "tempered"
    temper: float = 0.35
    learning_rate: float = 0.01
    offset_learning_rate: float = 0.05
    epochs: int = 3
    accumulate: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.data != "wiki":
            raise InputError(f"TrainConfig.data is {self.data!r}; give wiki")
        for field, choices in (("objective", get_args(Objective)), ("capacity", get_args(Capacity))):
            if getattr(self, field) not in choices:
                raise InputError(
                    f"TrainConfig.{field} is {getattr(self, field)!r}; give one of {', '.join(choices)}"
                )
        for field in ("examples", "min_tokens", "response_tokens", "batch", "n", "epochs", "accumulate"):
            check_at_least("TrainConfig", field, getattr(self, field), 1)
        check_at_least("TrainConfig", "prefix_tokens", self.prefix_tokens, 0)
        check_at_least("TrainConfig", "max_tokens", self.max_tokens, self.min_tokens)
        if not 0 < self.temper <= 1:
            raise InputError(f"TrainConfig.temper is {self.temper}; give a power above 0 and up to 1")
        for field in ("learning_rate", "offset_learning_rate"):
            if not getattr(self, field) > 0:
                raise InputError(f"TrainConfig.{field} is {getattr(self, field)}; give a number above 0")

    @property
    def data_fields(self) -> dict[str, object]:
        """What decides an example: a store of the same values can be reused, and extended by more examples."""
        names = ("data", "min_tokens", "max_tokens", "response_tokens", "prefix_tokens", "seed")
        return {name: getattr(self, name) for name in names}
