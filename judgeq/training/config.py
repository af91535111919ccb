"""The settings of a training run; saved with the soft tokens that it produces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from judgeq.config import JsonConfig, check_at_least
from judgeq.errors import InputError
from judgeq.objects import brief
from judgeq.values import checked_seed, settle

Objective = Literal["tempered", "kl", "mse", "pooled", "values", "ranking", "tempered+ranking"]
Capacity = Literal["embeddings", "offsets", "adapters", "adapters+offsets"]
STORE_GB = 40.0
"""Largest size of the folder of prompt rows and teacher attention."""


@dataclass(frozen=True)
class TrainConfig(JsonConfig):
    """A recipe. The same recipe on the same model gives the same soft tokens.

    Attributes:
        data: where prompts come from: `wiki`, `records`, `exact`, `chains`, `code`, `sharegpt`, a `FILE.jsonl`, or
            a mixture such as `wiki:4,code:1`.
        examples: number of training prompts.
        min_tokens, max_tokens: length of their documents.
        question: `known`: soft tokens read the question, too, and learn what the answer looks at; `unknown`: they read
            the document alone, and learn what a question and its answer look at, for documents that are evicted before
            any question (`Document.compress`).
        response_tokens: longest self-generated response.
        temperature: of the responses; 0 = greedy.
        prefix_tokens: up to so many response tokens already belong to the prompt, in half of the examples; none where
            the question is unknown.
        batch: prompts whose responses are generated together.
        n: soft tokens; 32 in the paper.
        start: the first embeddings: of tokens drawn from the `responses` or from the whole `vocabulary`, `random`
            numbers, or a folder or Hub id of soft tokens to continue from.
        capacity: what is learned: `embeddings` alone as in the paper, also `offsets` to their queries in each layer, or
            low-rank `adapters` of every linear map at the soft tokens' positions, or `adapters+offsets`.
        rank: of the adapters.
        objective: a function of `judgeq.training.objectives`, such as `tempered`, `kl`, or the paper's `mse`.
        temper: power that `tempered` raises attention to, in (0, 1].
        learning_rate: of Adam, at its peak; linear warm-up, then a cosine down to 0, see
            `judgeq.training.optimization`.
        offset_learning_rate: the same for the offsets.
        adapter_learning_rate: the same for the adapters.
        epochs: passes over the examples; 0 = the soft tokens of `start` stay as they are, and memory tokens alone are
            trained.
        memory: memory tokens, trained after the soft tokens; 0 = none.
        memory_rank: of their adapters; their learning rates are those of the soft tokens.
        memory_epochs: passes over the examples for them.
        accumulate: examples a step, shared among all processes.
        held_out: prompts of the held-out part that the hit rate is measured on while training; 0 = none.
        seed: of data, initialisation and order.
    """

    __repr__ = brief

    data: str = "wiki:3,code:1,records:3"
    examples: int = 480
    min_tokens: int = 256
    max_tokens: int = 2048
    question: Literal["known", "unknown"] = "known"
    response_tokens: int = 48
    temperature: float = 0.0
    prefix_tokens: int = 16
    batch: int = 8
    n: int = 32
    start: str = "responses"
    capacity: Capacity = "adapters+offsets"
    rank: int = 16
    objective: Objective = "tempered"
    temper: float = 0.35
    learning_rate: float = 0.01
    offset_learning_rate: float = 0.05
    adapter_learning_rate: float = 0.003
    epochs: int = 3
    memory: int = 0
    memory_rank: int = 8
    memory_epochs: int = 2
    accumulate: int = 2
    held_out: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        settle(self)
        checked_seed("TrainConfig.seed", self.seed)
        positive = "examples min_tokens response_tokens batch n rank memory_rank memory_epochs accumulate"
        for field in positive.split():
            check_at_least("TrainConfig", field, getattr(self, field), 1)
        for field in ("prefix_tokens", "temperature", "held_out", "epochs", "memory"):
            check_at_least("TrainConfig", field, getattr(self, field), 0)
        check_at_least("TrainConfig", "max_tokens", self.max_tokens, self.min_tokens)
        if not self.epochs and not self.memory:
            raise InputError("TrainConfig.epochs is 0 and there are no memory tokens to train: give one of them")
        if not 0 < self.temper <= 1:
            raise InputError(f"TrainConfig.temper is {self.temper}; give a power above 0 and up to 1")
        for field in ("learning_rate", "offset_learning_rate", "adapter_learning_rate"):
            if not getattr(self, field) > 0:
                raise InputError(f"TrainConfig.{field} is {getattr(self, field)}; give a number above 0")

    @property
    def data_fields(self) -> dict[str, object]:
        """What decides an example: a store of the same values can be reused, and extended by more examples."""
        names = "data min_tokens max_tokens question response_tokens temperature prefix_tokens seed".split()
        return {name: getattr(self, name) for name in names}
