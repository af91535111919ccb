"""One method at one budget, and the rows that it keeps of a prompt. Knows nothing of passes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from judgeq.cache.layers import MemoryRows
from judgeq.cache.retained import RetainedCache, stored_rows
from judgeq.errors import InputError
from judgeq.methods import LayerView, Method
from judgeq.methods.selection import Forced, Kept, Unsplit, allocate_rows, pyramid_rows, rank_rows
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.soft_tokens.budget_profile import BudgetProfile
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.values import whole

ALL_MEMORY_ROWS, HALF_OF_MEMORY_ROWS = 24, 48
"""How many rows a budget may have for each trained memory token, so that by default all of their rows are kept, and
half of them. At larger budgets they take more attention away from selected rows than they are worth
(docs/measured.md)."""
LEAST_PER_MEMORY_ROW = 8
"""How many rows a budget must have for each memory row that it gets by default."""


@dataclass(frozen=True)
class Plan:
    """One method at one budget.

    Attributes:
        method: scores the rows.
        budget: rows per KV head and layer, at least 1; their mean where heads have budgets of their own.
        profile: learned budgets, for methods whose allocation needs them; None for all others.
        forced: rows that are kept or evicted regardless of their scores. Methods without scores, such as `full`, and
            layers with a sliding window ignore it.
        memory: memory rows that are asked for; None = those of the method's selection, 0 where it leaves them open.

    Raises:
        InputError: the method needs a profile and there is none, or more rows are pinned than the budget has.
    """

    __repr__ = brief

    method: Method
    budget: int
    profile: BudgetProfile | None = None
    forced: Forced = Forced()
    memory: int | None = None

    def __post_init__(self) -> None:
        budget = whole(self.budget)
        if budget is None or budget < 1:
            raise InputError(f"Plan.budget is {self.budget!r}: give rows per KV head, at least 1")
        object.__setattr__(self, "budget", budget)
        if self.memory is None:
            object.__setattr__(self, "memory", self.method.selection.memory or 0)
        pinned = len(self.forced.pinned)
        if pinned > self.budget:
            raise InputError(
                f"What is pinned takes {pinned:,} rows of every KV head and the budget is {self.budget:,}: give at "
                f"least {pinned:,} rows, or pin less"
            )
        if not self.method.selection.needs_profile:
            object.__setattr__(self, "profile", None)
        elif self.profile is None:
            raise InputError(
                f"The allocation {self.method.selection.allocation!r} needs a learned profile and the soft tokens "
                "carry none: train soft tokens with one, or choose the allocation adakv or uniform"
            )

    @classmethod
    def with_tokens(cls, method: Method, budget: int, tokens: SoftTokens | None, forced: Forced = Forced()) -> Plan:
        """A plan that takes from soft tokens what the method leaves open: the profile and the number of memory rows."""
        memory = method.selection.memory
        if memory is None and tokens is not None and method.needs_soft_tokens:
            trained = tokens.config.memory
            memory = trained if budget <= ALL_MEMORY_ROWS * trained else trained // 2
            memory = min(memory, budget // LEAST_PER_MEMORY_ROW) if budget <= HALF_OF_MEMORY_ROWS * trained else 0
        return cls(method, budget, tokens.profile if tokens else None, forced, memory)

    @classmethod
    def without_question(cls, method: Method, budget: int, tokens: SoftTokens | None) -> Plan:
        """A plan for a document whose question is unknown.

        Soft tokens that were trained for this have all their memory rows kept, at any budget with room for them.
        """
        memory = method.selection.memory
        if memory is None and tokens is not None and method.needs_soft_tokens and tokens.config.question == "unknown":
            memory = min(tokens.config.memory, budget // LEAST_PER_MEMORY_ROW)
        return cls(method, budget, tokens.profile if tokens else None, memory=memory)

    def evicts(self, tokens: int) -> bool:
        """Whether rows must go that are not dropped, where a prompt has `tokens` tokens."""
        return self.budget < tokens - len(self.forced.dropped)

    def memory_rows(self, tokens: int) -> int:
        """How many of the budget's rows are memory rows where a prompt has `tokens` tokens.

        At most half of the budget and what is not pinned; none where the budget covers the prompt, since nothing goes.
        """
        if not self.evicts(tokens):
            return 0
        return min(self.memory or 0, self.budget // 2, self.budget - len(self.forced.pinned))

    def shares(self, lm: LanguageModel, tokens: int, memory: int = 0) -> Tensor | None:
        """(L, H_kv) int64 rows of each head of a prompt of `tokens` tokens; None where a layer's mean is the budget.

        `memory` rows of the budget are not the prompt's. For layers with a sliding window the entries are 0 and unused.
        """
        if not self.method.selection.is_pyramid and self.profile is None:
            return None
        sizes = lm.geometry
        evicted = sizes.global_layers
        pinned = len(self.forced.pinned)  # in every head; the rest of the budget is split
        free = tokens - pinned - len(self.forced.dropped)
        spare = min(self.budget - memory - pinned, free)
        if not spare:
            rows = torch.zeros(len(evicted), 1, dtype=torch.int64)
        elif self.profile is None:
            rows = pyramid_rows(spare, free, len(evicted), self.method.selection)[:, None]
        else:
            self.profile.check(len(evicted), sizes.kv_heads)
            rows = self.profile.rows(spare, free)
        shares = torch.zeros(sizes.layers, sizes.kv_heads, dtype=torch.int64)
        shares[evicted] = rows.expand(-1, sizes.kv_heads) + pinned
        return shares


@dataclass(eq=False)
class Retained:
    """The rows that one plan kept of a prompt.

    Attributes:
        plan: method and budget.
        cache: the retained rows, ready for decoding.
        shares: (L, H_kv) rows of each head, where a profile or pyramid gives them.
        kept: for each layer (B, H_kv, rows) int64, ascending, or (rows,) for each KV head where the allocation is not
            uniform; None where every row is kept. They stay on the layer's device, as scores do.
        scores: for each layer (B, H_kv, T) float32, before pooling and weighting by values; None where nothing was
            scored.
        memory: memory rows of the budget, the first ones that each head stores; layers that keep every row of the
            prompt, such as those with a sliding window, have none.
        words: (B, T) int64, see `prompts.token_words`, on the layers' device; None where rows are chosen one by one.
        extra_s: seconds after the first pass: writing the response that the method scores with, and the second pass.
        prompt_hashes: see `LayerView`.
    """

    __repr__ = brief

    plan: Plan
    cache: RetainedCache
    shares: Tensor | None = None
    kept: list[Kept | None] = field(default_factory=list)
    scores: list[Tensor | None] = field(default_factory=list)
    memory: int = 0
    words: Tensor | None = None
    extra_s: float = 0.0
    prompt_hashes: tuple[int, ...] = ()
    _unsplit: dict[int, tuple[Unsplit, Tensor, Tensor, MemoryRows | None]] = field(default_factory=dict, init=False)

    @classmethod
    def of_prompt(
        cls, lm: LanguageModel, plan: Plan, tokens: int, hashes: tuple[int, ...], words: Tensor | None
    ) -> Retained:
        """Before anything is kept of a prompt of `tokens` tokens; `words` are used where they are the plan's unit."""
        selection, memory = plan.method.selection, plan.memory_rows(tokens)
        cache, shares = RetainedCache(lm.model.config, selection.bits), plan.shares(lm, tokens, memory)
        own = words if selection.unit == "word" else None
        return cls(plan, cache, shares, memory=memory, words=own, prompt_hashes=hashes)

    def take(self, view: LayerView, evictable: bool, memory: MemoryRows | None = None) -> int:
        """Score, select and store one layer's rows, and the first `self.memory` of the layer's memory rows.

        Nothing waits for the device: what it alone knows is asked for by `settle`.

        Returns:
            The rows that are stored now of this layer, of all KV heads together.
        """
        method = self.plan.method
        scores = view.cached(method, lambda: method.score(view)) if evictable else None
        kept = None if scores is None else self._choose(scores, view)
        first = None
        if self.memory and kept is not None and memory is not None:
            first = memory[0][:, :, : self.memory], memory[1][:, :, : self.memory]
        self.scores.append(None if scores is None else scores.float())
        if isinstance(kept, Unsplit):
            keys, values = (states[0, kept.heads, kept.rows] for states in view.prompt_rows)
            self._unsplit[view.layer] = kept, keys, values, first
            self.kept.append(None)
            return len(keys) + (self.memory if first else 0) * len(kept.counts)
        self.cache.fill(view.layer, *view.prompt_rows, kept, seen=view.prompt_tokens, memory=first)
        self.kept.append(kept)
        return stored_rows(self.cache.layers[view.layer])

    def settle(self, seen: int) -> None:
        """After the pass over a prompt of `seen` tokens: store by head what only the device knew until now."""
        for layer, (kept, keys, values, memory) in self._unsplit.items():
            counts = kept.counts.tolist()
            self.kept[layer] = kept.rows.split(counts)
            heads = list(zip(keys.split(counts), values.split(counts), strict=True))
            self.cache.fill_heads(layer, heads, seen, memory)
        self._unsplit.clear()

    def _choose(self, scores: Tensor, view: LayerView) -> Kept | Unsplit:
        selection, forced = self.plan.method.selection, self.plan.forced
        if self.words is not None:
            self.words = self.words.to(scores.device)  # layers may be spread over several
        key = self.plan.method, forced, "ranked"  # one ranking serves every budget of the method
        ranked = view.cached(key, lambda: rank_rows(scores, selection, forced, self.words))
        shares = None if self.shares is None else self.shares[view.layer]
        norms = view.value_norms() if selection.value_aware else None
        return allocate_rows(ranked, self.plan.budget - self.memory, selection, shares, norms)
