"""How many people one memory serves: as many answers side by side as its rows allow, and how fast they come.

Knows nothing of files.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from judgeq.cache.retained import RetainedCache
from judgeq.evaluation.speed import now
from judgeq.inference.decode_batch import PaddedCache, next_tokens
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.plan import Plan
from judgeq.inference.request import Request
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors


@dataclass
class UserTimes:
    """What one method did with the memory.

    Attributes:
        plan: of each user's prompt.
        users: that fit into the memory.
        rows_bytes: of all users' rows at the end of their answers.
        read_s, step_s: of each round, for all users: until all prompts are read, and a step, which writes a token of
            every answer, the median.
    """

    label: str
    plan: Plan
    users: int
    rows_bytes: int
    read_s: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)

    def row(self, tokens: int) -> dict[str, Any]:
        """Medians; answers per second are of `tokens` tokens, with their prompts and with prompts read before."""
        read, step = statistics.median(self.read_s), statistics.median(self.step_s)
        values = {
            "read_s": read,
            "step_s": step,
            "tokens_per_s": self.users / step,
            "answers_per_s": self.users / (read + tokens * step),
            "answers_per_s_read_before": self.users / (tokens * step),
        }
        rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
        return {"label": self.label, "users": self.users, "rows_bytes": self.rows_bytes, **rounded}


def bytes_of(lm: LanguageModel, rows: int) -> int:
    """Bytes of so many rows per KV head in every layer."""
    return lm.geometry.layers * rows * lm.geometry.row_bytes(lm.dtype.itemsize)


def fitting(lm: LanguageModel, memory: int, prompt: int, kept: int, tokens: int) -> int:
    """Users whose rows fit at once, at least one: each the kept rows and those of `tokens` tokens in every layer.

    Reading the last prompt holds one layer of it whole, which must fit beside them where rows are evicted.

    Args:
        memory: bytes for rows.
        prompt, kept: rows per KV head.
    """
    reading = bytes_of(lm, prompt - kept) // lm.geometry.layers
    return max(1, (memory - reading) // bytes_of(lm, kept + tokens))


def serve(
    lm: LanguageModel,
    plans: Sequence[tuple[str, Plan]],
    soft_tokens: SoftTokenTensors | None,
    *,
    memory: int,
    prompt_tokens: int,
    tokens: int,
    rounds: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[UserTimes]:
    """Let each method serve as many users as `memory` bytes of rows allow, in turn.

    Each user has a prompt of random tokens and gets `tokens` tokens; all answers are written side by side, as
    `judgeq.ask_many` writes them.
    """
    times = []
    for label, plan in plans:
        kept = min(plan.budget, prompt_tokens)
        users = fitting(lm, memory, prompt_tokens, kept, tokens)
        times.append(UserTimes(label, plan, users, users * bytes_of(lm, kept + tokens)))
    for number in range(rounds):
        generator = torch.Generator().manual_seed(seed + number)
        for at, own in enumerate(times):
            _round(lm, own, soft_tokens, prompt_tokens, tokens, generator)
            progress(number * len(times) + at + 1, rounds * len(times))
    return times


def _round(
    lm: LanguageModel,
    own: UserTimes,
    soft_tokens: SoftTokenTensors | None,
    length: int,
    tokens: int,
    generator: torch.Generator,
) -> None:
    vocabulary = lm.model.config.get_text_config(decoder=True).vocab_size
    prompts: Tensor = torch.randint(vocabulary, (own.users, length), generator=generator).to(lm.device)
    caches, chosen = list[RetainedCache](), list[int]()
    started = now(lm)
    for ids in prompts[:, None]:
        found = prefill_with_lookahead(Request(lm, ids, [own.plan], soft_tokens=soft_tokens))
        caches.append(found.retained[0].cache)
        chosen.append(int(found.logits.argmax(-1)))
    own.read_s.append(now(lm) - started)
    cache, seconds = PaddedCache(caches, tokens, move=True), list[float]()
    for _ in range(tokens):
        before = now(lm)
        chosen = next_tokens(lm, cache, chosen)
        seconds.append(now(lm) - before)
    own.step_s.append(statistics.median(seconds))
