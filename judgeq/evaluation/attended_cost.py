"""What recording an answer's attention costs: tokens with it and without it in turn, from the same rows.

Knows nothing of files.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from judgeq.evaluation.speed import now
from judgeq.inference.attending import CountedHeads, Recorder
from judgeq.inference.decode import next_logits
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.request import Request
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors

WARM_UP = 3
"""First tokens of a round that are not counted."""


@dataclass
class AttendedTimes:
    """Seconds of the tokens of one method, in pairs of the same token.

    Attributes:
        with_s, without_s: with the attention recorded, and without.
    """

    label: str
    with_s: list[float] = field(default_factory=list)
    without_s: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """The medians, and the median over pairs of their ratio with its quartiles."""
        ratios = [one / other for one, other in zip(self.with_s, self.without_s, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        values = {
            "token_s": statistics.median(self.without_s),
            "attended_s": statistics.median(self.with_s),
            "ratio": middle,
            "ratio_low": low,
            "ratio_high": high,
        }
        rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
        return {"label": self.label, "pairs": len(ratios), **rounded}


def attended_times(
    lm: LanguageModel,
    ids: Tensor,
    plans: Sequence[tuple[str, Plan]],
    soft_tokens: SoftTokenTensors | None,
    tokens: int,
    rounds: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[AttendedTimes]:
    """Write the same tokens with and without, one of each in turn; each pair is begun by the other one.

    Args:
        ids: (1, T) int64, read once.
        plans: with their labels.
        tokens: in each of `rounds`, at least one more than `WARM_UP`.
    """
    request = Request(lm, ids, [plan for _, plan in plans], soft_tokens=soft_tokens)
    found = prefill_with_lookahead(request)
    times = [AttendedTimes(label) for label, _ in plans]
    for number in range(rounds):
        for at, (own, kept) in enumerate(zip(times, found.retained, strict=True)):
            _round(lm, kept, ids.shape[1], int(found.logits.argmax(-1)), tokens, own)
            progress(number * len(times) + at + 1, rounds * len(times))
    return times


def _round(lm: LanguageModel, kept: Retained, length: int, token: int, tokens: int, times: AttendedTimes) -> None:
    plain, recorded = kept.cache.fork(), kept.cache.fork()
    copy = Retained(kept.plan, recorded, kept.shares, kept.kept, kept.scores, kept.memory)
    recorder = Recorder(lm, copy, length, CountedHeads())
    passes = {
        False: partial(next_logits, lm, plain),
        True: partial(recorder.next_logits, forward=partial(next_logits, lm, recorded)),
    }
    for at in range(tokens):
        seconds, logits = dict[bool, float](), token
        for way in (at % 2 == 0, at % 2 == 1):
            started = now(lm)
            logits = int(passes[way](token).argmax(-1))
            seconds[way] = now(lm) - started
        token = logits
        if at >= WARM_UP:
            times.with_s.append(seconds[True])
            times.without_s.append(seconds[False])
