"""One pass over the prompt that serves any number of methods and budgets.

Layer by layer: attention first, then every plan scores, selects and copies *its own* rows, and the layer's rows go. So
layer `l` has shrunk before layer `l + 1` runs, and the prompt's states are what they would be without eviction. Knows
nothing of text or decoding.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from judgeq.attention import ATTENTION
from judgeq.cache import FrozenCache, RetainedCache
from judgeq.errors import InputError
from judgeq.language_model import LanguageModel
from judgeq.methods import LayerView, Method
from judgeq.profile import BudgetProfile
from judgeq.selection import Kept, allocate_rows, pyramid_rows, rank_rows
from judgeq.soft_tokens import Probe

LayerCallback = Callable[[int, int], None]
"""Called as `(layers done, layers)`; raising from it abandons the pass and leaves the model untouched."""


@dataclass(frozen=True)
class Plan:
    """One method at one budget.

    Attributes:
        method: scores the rows.
        budget: rows per KV head and layer, at least 1; their mean where heads have budgets of their own.
        profile: learned budgets, for methods whose allocation needs them; None for all others.

    Raises:
        InputError: the method needs a profile and there is none.
    """

    method: Method
    budget: int
    profile: BudgetProfile | None = None

    def __post_init__(self) -> None:
        if not self.method.selection.needs_profile:
            object.__setattr__(self, "profile", None)
        elif self.profile is None:
            raise InputError(
                f"The allocation {self.method.selection.allocation!r} needs a learned profile and the soft tokens "
                "carry none: train soft tokens with one, or choose the allocation adakv or uniform"
            )

    def shares(self, lm: LanguageModel, tokens: int) -> Tensor | None:
        """(L, H_kv) int64 rows of each head of a prompt of `tokens` tokens; None where a layer's mean is the budget."""
        sizes = lm.geometry
        if self.method.selection.is_pyramid:
            rows = pyramid_rows(self.budget, tokens, sizes.layers, self.method.selection)
            return rows[:, None].expand(-1, sizes.kv_heads)
        if self.profile is None:
            return None
        self.profile.check(sizes.layers, sizes.kv_heads)
        return self.profile.rows(self.budget, tokens)


@dataclass
class Retained:
    """What one plan kept of a prompt.

    Attributes:
        plan: method and budget.
        cache: the retained rows, ready for decoding.
        shares: (L, H_kv) rows of each head, where a profile or pyramid gives them.
        kept: for each layer (B, H_kv, rows) int64 on the CPU, ascending, or (rows,) for each KV head where the
            allocation is not uniform; None where every row stays.
        scores: for each layer (B, H_kv, T) float32 on the CPU, before pooling and before values count; None where
            nothing was scored.
        extra_s: seconds behind the first pass, for the response that this plan looks at and for the look.
    """

    plan: Plan
    cache: RetainedCache
    shares: Tensor | None = None
    kept: list[Kept | None] = field(default_factory=list)
    scores: list[Tensor | None] = field(default_factory=list)
    extra_s: float = 0.0

    def take(self, view: LayerView, evictable: bool) -> None:
        """Score, select and store one layer's rows."""
        method = self.plan.method
        scores = view.once(method, lambda: method.score(view)) if evictable else None
        kept = None if scores is None else self._choose(scores, view)
        self.cache.fill(view.layer, view.keys, view.values, kept, seen=view.prompt_tokens)
        self.kept.append(_on_cpu(kept))
        self.scores.append(None if scores is None else scores.float().cpu())

    def _choose(self, scores: Tensor, view: LayerView) -> Kept:
        """The ranking serves every budget of the method."""
        selection = self.plan.method.selection
        ranked = view.once((self.plan.method, "ranked"), lambda: rank_rows(scores, selection))
        shares = None if self.shares is None else self.shares[view.layer]
        norms = view.value_norms() if selection.value_aware else None
        return allocate_rows(ranked, self.plan.budget, selection, shares, norms)


@dataclass
class Prefill:
    """Outcome of a pass.

    Attributes:
        logits: (B, V) of the last token that was not a soft token.
        retained: one entry a plan, in the order of the plans.
        peak_rows: most rows held at once, summed over layers: all plans' rows plus the layer in work.
        full_kv_bytes: bytes that the prompt's complete rows take, summed over layers as they passed.
        seconds: wall time of the pass.
        response: (1, R) int64, the full cache's greedy answer without its end, where a plan looked at it.
    """

    logits: Tensor
    retained: list[Retained]
    peak_rows: int
    full_kv_bytes: int
    seconds: float
    response: Tensor | None = None


class _Eviction:
    """The observer of a pass: lets every plan take its rows, layer by layer."""

    def __init__(
        self,
        lm: LanguageModel,
        plans: Sequence[Plan],
        prompt_tokens: int,
        response_tokens: int,
        soft_tokens: int,
        on_layer: LayerCallback | None,
        offsets: Tensor | None = None,
    ) -> None:
        self.retained = [
            Retained(
                plan,
                RetainedCache(lm.model.config, plan.method.selection.bits),
                plan.shares(lm, prompt_tokens),
            )
            for plan in plans
        ]
        self.sizes = prompt_tokens, response_tokens, soft_tokens
        self.layers, self.on_layer, self.offsets = lm.geometry.layers, on_layer, offsets
        self.peak_rows = self.full_kv_bytes = 0

    def observe(
        self,
        layer: int,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        sliding: bool,
        output_weight: Callable[[], Tensor],
    ) -> None:
        added = None if self.offsets is None else self.offsets[layer]
        view = LayerView(layer, queries, keys, values, *self.sizes, scaling, output_weight, added)
        for retained in self.retained:
            retained.take(view, evictable=not sliding)
        rows = sum(retained.cache.rows for retained in self.retained)
        self.peak_rows = max(self.peak_rows, rows + keys.shape[2])
        prompt = keys[:, :, : self.sizes[0]], values[:, :, : self.sizes[0]]
        self.full_kv_bytes += sum(rows.numel() * rows.element_size() for rows in prompt)
        if self.on_layer is not None:
            self.on_layer(layer + 1, self.layers)


@torch.inference_mode()
def prefill(
    lm: LanguageModel,
    input_ids: Tensor,
    plans: Sequence[Plan],
    *,
    soft_tokens: Probe | None = None,
    on_layer: LayerCallback | None = None,
) -> Prefill:
    """Read a prompt once, for all plans.

    Args:
        input_ids: (B, T) int64.
        plans: methods and budgets; none of them may need a response (see `probe`).
        soft_tokens: appended behind the prompt; needed as soon as a method asks with them.
        on_layer: progress, and a place to cancel.

    Raises:
        InputError: a plan needs soft tokens and there are none, or needs a response.
    """
    for plan in plans:
        if plan.method.needs_response:
            raise InputError(f"The method {plan.method.name!r} needs a response: it takes a second pass")
    return _look(lm, input_ids, plans, soft_tokens, on_layer)


@torch.inference_mode()
def probe(
    lm: LanguageModel,
    rows: FrozenCache,
    response_ids: Tensor,
    plans: Sequence[Plan],
    *,
    soft_tokens: Probe | None = None,
    on_layer: LayerCallback | None = None,
) -> Prefill:
    """Evict from complete rows by the attention of a response: a second pass, over the response alone.

    Args:
        rows: the prompt's complete rows.
        response_ids: (B, R) int64, what the methods' writer answered, or how that begins.
        plans: methods that need a response.
        soft_tokens: appended behind the response; needed as soon as a method asks with them.

    Raises:
        InputError: a plan needs soft tokens and there are none.
    """
    return _look(lm, response_ids, plans, soft_tokens, on_layer, rows)


def _look(
    lm: LanguageModel,
    input_ids: Tensor,
    plans: Sequence[Plan],
    soft_tokens: Probe | None,
    on_layer: LayerCallback | None,
    rows: FrozenCache | None = None,
) -> Prefill:
    """A pass over a prompt, or over a response behind `rows`, with soft tokens at the end where a plan needs them."""
    asking = [plan.method.name for plan in plans if plan.method.needs_soft_tokens]
    if asking and soft_tokens is None:
        raise InputError(f"The method {asking[0]!r} needs soft tokens: pass some, or train them")
    _check_attention(lm)
    started = time.perf_counter()
    ids = input_ids.to(lm.device)
    count = ids.shape[1]
    prompt_tokens, response_tokens = (count, 0) if rows is None else (rows.get_seq_length(), count)
    embeds = lm.model.get_input_embeddings()(ids)  # (B, N, hidden)
    n_soft, offsets = 0, None
    adapted: AbstractContextManager[None] = contextlib.nullcontext()
    if asking and soft_tokens is not None:
        n_soft = soft_tokens.embeddings.shape[0]
        offsets = soft_tokens.offsets_at(lm, prompt_tokens + response_tokens)
        soft = soft_tokens.embeddings.to(embeds).expand(embeds.shape[0], -1, -1)
        embeds = torch.cat([embeds, soft], dim=1)  # (B, N + S, hidden)
        adapted = soft_tokens.attached(lm)
    eviction = _Eviction(lm, plans, prompt_tokens, response_tokens, n_soft, on_layer, offsets)
    with adapted:
        output = lm.model(
            inputs_embeds=embeds,
            cache=rows,
            use_cache=rows is not None,
            logits_to_keep=torch.tensor([count - 1], device=lm.device),
            observer=eviction,
        )
    return _outcome(output.logits, eviction, started)


def _on_cpu(kept: Kept | None) -> Kept | None:
    if isinstance(kept, tuple):
        return tuple(rows.cpu() for rows in kept)
    return None if kept is None else kept.cpu()


def _check_attention(lm: LanguageModel) -> None:
    used = lm.model.config._attn_implementation
    if used != ATTENTION:
        raise InputError(
            f"{lm.name} runs with attention {used!r}, which shows no queries: load it with judgeq.load, or wrap it "
            "with judgeq.LanguageModel.wrap"
        )


def _outcome(logits: Tensor, eviction: _Eviction, started: float) -> Prefill:
    return Prefill(
        logits=logits[:, -1].float(),
        retained=eviction.retained,
        peak_rows=eviction.peak_rows,
        full_kv_bytes=eviction.full_kv_bytes,
        seconds=time.perf_counter() - started,
    )
