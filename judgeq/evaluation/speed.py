"""Seconds of the first token and of each later one, and bytes of rows: all contenders in turn, in one run.

Ratios are taken within a round, so that a machine that slows down slows all of them. Knows nothing of files.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from judgeq.attention.registry import ATTENTION
from judgeq.cache.prefix import PrefixCache, Progress
from judgeq.cache.retained import storage_bytes
from judgeq.config import Budget, Decoding, budget_rows
from judgeq.documents.document import REREAD_TOKENS
from judgeq.inference.decode import next_logits
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.plan import Plan
from judgeq.inference.request import Request
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors

PLAIN, FULL = "transformers", "full"
"""What is compared against: transformers without this library, and this library's full cache."""
TOGETHER = "all in one prefill"
"""All methods at once; the first of them decodes."""
AGAIN = "next question"
"""Another question about a document whose rows are held; the first method at the first budget."""
QUESTION = 32
"""Tokens of that question, the template's end included."""
WARM_UP = 64
"""Tokens of a prompt that every contender reads before anything is measured."""


@dataclass(frozen=True)
class StepTiming:
    """What one contender took in one round.

    Attributes:
        first_s: until the first token is chosen.
        token_s: for each later token, the median.
        peak_bytes: most bytes of rows held at once while the prompt was read; None where it was not counted.
        kv_bytes: storage of keys and values after the last token, spare rows included.
        row_bytes: bytes of the rows a step reads, halfway through the answer.
        device_bytes: most memory of the GPU beyond what was used before; None without a GPU.
    """

    first_s: float
    token_s: float
    peak_bytes: int | None = None
    kv_bytes: int | None = None
    row_bytes: int | None = None
    device_bytes: int | None = None


class Contender(Protocol):
    """Anything that can be benchmarked on a prompt.

    Attributes:
        label: unique in a run.
        method, budget: as in results; a budget of 1.0 keeps every row.
    """

    label: str
    method: str
    budget: Budget

    def take(self, ids: Tensor, tokens: int) -> StepTiming:
        """Read a prompt (1, T) and write `tokens` tokens after the first."""


@dataclass
class Plain:
    """transformers' own SDPA attention and cache, on the same weights.

    Its products go the way that is fastest for their size, as ours do: see `judgeq.attention.cpu_linear_prefill`.
    """

    lm: LanguageModel
    label: str = PLAIN
    method: str = PLAIN
    budget: Budget = 1.0

    def take(self, ids: Tensor, tokens: int) -> StepTiming:
        model, cache = self.lm.model, DynamicCache(config=self.lm.model.config)
        model.set_attn_implementation("sdpa")
        try:
            watch = _Watch(self.lm)
            with torch.inference_mode():
                logits = model(ids, cache=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
            token = int(logits.argmax(-1))
            watch.first()
            early = _bytes(cache)
            seconds = list(_steps(self.lm, cache, token, tokens, watch))
        finally:
            model.set_attn_implementation(ATTENTION)
        late = _bytes(cache)
        return watch.taken(seconds, early, late, (early + late) // 2)


@dataclass
class Ours:
    """Plans that share one prefill; the first of them decodes.

    Attributes:
        plans: for a prompt of this many tokens.
    """

    lm: LanguageModel
    label: str
    method: str
    budget: Budget
    plans: Callable[[int], Sequence[Plan]]
    soft_tokens: SoftTokenTensors | None = None

    def take(self, ids: Tensor, tokens: int) -> StepTiming:
        length = ids.shape[1]
        longest = Decoding(max_new_tokens=tokens + 1)
        rows = self.held(ids)
        watch = _Watch(self.lm)
        request = Request(self.lm, ids, self.plans(length), longest, self.soft_tokens)
        found = prefill_with_lookahead(request, prefix=rows)
        token = int(found.logits.argmax(-1))
        watch.first()
        cache = found.retained[0].cache
        early = cache.row_bytes
        seconds = list(_steps(self.lm, cache, token, tokens, watch))
        a_row = found.full_kv_bytes / (self.lm.geometry.layers * length)
        read = (early + cache.row_bytes) // 2
        return watch.taken(seconds, round(found.peak_rows * a_row), cache.kv_bytes, read)

    def held(self, ids: Tensor) -> PrefixCache | None:
        """Rows of the prompt's beginning that were read before, outside the time."""
        return None


@dataclass
class Again(Ours):
    """The next question about a document: what `judgeq.Document` reads for it is measured, and nothing else."""

    def held(self, ids: Tensor) -> PrefixCache | None:
        length = ids.shape[1]
        read = length - QUESTION - REREAD_TOKENS
        if read < 1:  # the warm-up
            return None
        soft = 0 if self.soft_tokens is None else self.soft_tokens.appended
        rows = PrefixCache(self.lm.model.config, expected=length + soft)
        rows.read(self.lm, [ids[:, :read]], Progress(None, 0))
        return rows


@dataclass
class Times:
    """One contender over all rounds."""

    contender: Contender
    rounds: list[StepTiming] = field(default_factory=list)

    def median(self, name: str) -> float | None:
        """Of one attribute of `StepTiming`; None where it was not counted."""
        values = [getattr(taken, name) for taken in self.rounds]
        return None if None in values else statistics.median(values)

    def ratio(self, name: str, against: Times) -> float:
        """The median over rounds of what this took, as a multiple of what the other took in the same round."""
        pairs = zip(self.rounds, against.rounds, strict=True)
        return statistics.median(getattr(ours, name) / getattr(theirs, name) for ours, theirs in pairs)


def run_rounds(
    contenders: Sequence[Contender],
    ids: Tensor,
    tokens: int,
    rounds: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Times]:
    """Let every contender answer in turn; each round is begun by another one.

    Args:
        ids: (1, T) int64.
        tokens: written after the first, at least 1.
        rounds: at least 1.
        progress: called with the answers done and their number.
    """
    times = [Times(each) for each in contenders]
    for each in contenders:
        each.take(ids[:, :WARM_UP], 1)
    for number in range(rounds):
        for place in range(len(times)):
            own = times[(place + number) % len(times)]
            own.rounds.append(own.contender.take(ids, tokens))
            progress(number * len(times) + place + 1, rounds * len(times))
    return times


def weight_bytes(model: Any) -> int:
    """Bytes of weights that a token reads: all but the embeddings, of which it takes one row, unless they are tied."""
    embeddings = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    parameters = {id(each): each for each in model.parameters()}
    if head is None or head.weight is not embeddings:
        parameters.pop(id(embeddings), None)
    return sum(each.numel() * each.element_size() for each in parameters.values())


def roofline(weights: int, full: float, kept: float) -> float:
    """How many times faster a token is if reading weights and rows, in bytes, is all that takes time."""
    return (weights + full) / (weights + kept)


def rows_of(times: Sequence[Times], weights: int, bounds: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row of results a contender.

    Args:
        times: among them `PLAIN` and `FULL`.
        weights: see `weight_bytes`.
        bounds: by label, bytes that a prefill should hold at most; see `peak_bound`.
    """
    named = {each.contender.label: each for each in times}
    plain, full = named[PLAIN], named[FULL]
    full_bytes = full.median("row_bytes") or 0.0
    rows = []
    for each in times:
        contender, kept = each.contender, each.median("row_bytes")
        row: dict[str, Any] = {
            "label": contender.label,
            "method": contender.method,
            "budget": contender.budget,
            **{name: each.median(name) for name in ("first_s", "token_s")},
            **{name: each.median(name) for name in ("peak_bytes", "kv_bytes", "row_bytes", "device_bytes")},
            "first_over_plain": each.ratio("first_s", plain),
            "token_over_plain": each.ratio("token_s", plain),
            "speedup": 1 / each.ratio("token_s", full),
        }
        if kept is not None:
            row["roofline"] = roofline(weights, full_bytes, kept)
            row["of_roofline"] = row["speedup"] / row["roofline"]
        if contender.label in bounds:
            row["peak_over_bound"] = row["peak_bytes"] / bounds[contender.label]
        rows.append({name: _rounded(name, value) for name, value in row.items() if value is not None})
    return rows


def peak_bound(lm: LanguageModel, tokens: int, soft_tokens: int, budget: Budget) -> float:
    """Bytes of the most rows that eviction layer by layer needs to hold at once: `L * budget + T + n`."""
    sizes = lm.geometry
    a_row = sizes.row_bytes(lm.dtype.itemsize)
    return float(a_row * (sizes.layers * budget_rows(budget, tokens) + tokens + soft_tokens))


def _rounded(name: str, value: Any) -> Any:
    if name.endswith("_bytes"):
        return round(value)
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _steps(lm: LanguageModel, cache: Cache, token: int, count: int, watch: _Watch) -> Iterator[float]:
    """Seconds of each of `count` greedy tokens."""
    for _ in range(count):
        started = watch.now()
        token = int(next_logits(lm, cache, token).argmax(-1))
        yield watch.now() - started


def _bytes(cache: Cache) -> int:
    held = [layer for layer in cache.layers if layer.is_initialized]
    return storage_bytes(states for layer in held for states in (layer.keys, layer.values))


def now(lm: LanguageModel) -> float:
    """Seconds on a clock that waits for the model's GPU, where it has one."""
    if lm.device.type == "cuda":
        torch.cuda.synchronize(lm.device)
    return time.perf_counter()


class _Watch:
    """A clock that waits for the GPU, where there is one, and measures its memory."""

    def __init__(self, lm: LanguageModel) -> None:
        """Starts it."""
        self.lm = lm
        self.device = lm.device if lm.device.type == "cuda" else None
        self.before = 0
        if self.device is not None:
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        self.first_s, self.started = 0.0, self.now()

    def now(self) -> float:
        return now(self.lm)

    def first(self) -> None:
        """The first token is chosen."""
        self.first_s = self.now() - self.started

    def taken(self, seconds: Sequence[float], peak_bytes: int, kv_bytes: int, row_bytes: int) -> StepTiming:
        device_bytes = None
        if self.device is not None:
            device_bytes = torch.cuda.max_memory_allocated(self.device) - self.before
        return StepTiming(self.first_s, statistics.median(seconds), peak_bytes, kv_bytes, row_bytes, device_bytes)
