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
from judgeq.probe import Probe
from judgeq.profile import BudgetProfile
from judgeq.rotation import check_appended
from judgeq.selection import Kept, allocate_rows, pyramid_rows, rank_rows

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
        """(L, H_kv) int64 rows of each head of a prompt of `tokens` tokens; None where a layer's mean is the budget.

        Layers with a sliding window take no part in it: their entries are 0 and nobody looks at them.
        """
        sizes = lm.geometry
        evicted = sizes.global_layers
        if self.method.selection.is_pyramid:
            rows = pyramid_rows(self.budget, tokens, len(evicted), self.method.selection)[:, None]
        elif self.profile is not None:
            self.profile.check(len(evicted), sizes.kv_heads)
            rows = self.profile.rows(self.budget, tokens)
        else:
            return None
        shares = torch.zeros(sizes.layers, sizes.kv_heads, dtype=torch.int64)
        shares[evicted] = rows.expand(-1, sizes.kv_heads)
        return shares


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
        self.cache.fill(view.layer, *view.prompt_rows, kept, seen=view.prompt_tokens)
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
        full_kv_bytes: bytes that the prompt's complete rows take, summed over layers as they passed; of layers with a
            sliding window the window's.
        seconds: wall time of the pass.
        response: (1, R) int64, the full cache's greedy answer without its end, where a plan looked at it.
    """

    logits: Tensor
    retained: list[Retained]
    peak_rows: int
    full_kv_bytes: int
    seconds: float
    response: Tensor | None = None


class Eviction:
    """The observer of a pass: lets every plan take its rows, layer by layer."""

    def __init__(
        self,
        lm: LanguageModel,
        plans: Sequence[Plan],
        prompt_tokens: int,
        response_tokens: int,
        soft_tokens: Probe | None,
        on_layer: LayerCallback | None,
    ) -> None:
        """`soft_tokens`: those at the end of the pass."""
        self.retained = [
            Retained(
                plan,
                RetainedCache(lm.model.config, plan.method.selection.bits),
                plan.shares(lm, prompt_tokens),
            )
            for plan in plans
        ]
        self.sizes = prompt_tokens, response_tokens, 0 if soft_tokens is None else len(soft_tokens.embeddings)
        self.offsets: Tensor | None = None
        if soft_tokens is not None:
            if not response_tokens:
                check_appended(lm.model, lm.name, prompt_tokens, len(soft_tokens.embeddings))
            self.offsets = soft_tokens.offsets_at(lm, prompt_tokens + response_tokens)
        self.layers, self.on_layer = lm.geometry.layers, on_layer
        self.peak_rows = self.full_kv_bytes = 0

    def observe(
        self,
        layer: int,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        softcap: float | None,
        window: int | None,
        output_weight: Callable[[], Tensor],
    ) -> None:
        added = None if self.offsets is None else self.offsets[layer]
        view = LayerView(layer, queries, keys, values, *self.sizes, scaling, output_weight, added, softcap)
        for retained in self.retained:
            retained.take(view, evictable=window is None)
        rows = sum(retained.cache.rows for retained in self.retained)
        self.peak_rows = max(self.peak_rows, rows + keys.shape[2])
        ever_read = slice(None if window is None else 1 - window, None)  # by later tokens
        for states in view.prompt_rows:
            self.full_kv_bytes += states[:, :, ever_read].numel() * states.element_size()
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
    check_first_pass(plans)
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
    check_attention(lm)
    started = time.perf_counter()
    ids = input_ids.to(lm.device)
    count = ids.shape[1]
    prompt_tokens, response_tokens = (count, 0) if rows is None else (rows.get_seq_length(), count)
    embeds, probe, adapted = with_soft_tokens(lm, ids, plans, soft_tokens)
    eviction = Eviction(lm, plans, prompt_tokens, response_tokens, probe, on_layer)
    with adapted:
        output = lm.model(
            inputs_embeds=embeds,
            cache=rows,
            use_cache=rows is not None,
            logits_to_keep=torch.tensor([count - 1], device=lm.device),
            observer=eviction,
        )
    return outcome_of(output.logits, eviction, started)


def with_soft_tokens(
    lm: LanguageModel, input_ids: Tensor, plans: Sequence[Plan], soft_tokens: Probe | None
) -> tuple[Tensor, Probe | None, AbstractContextManager[None]]:
    """What a pass reads, (B, N + S, hidden), the soft tokens at its end if a plan asks with them, and their adapters.

    Raises:
        InputError: a plan needs soft tokens and there are none.
    """
    embeds = lm.model.get_input_embeddings()(input_ids)  # (B, N, hidden)
    asking = [plan.method.name for plan in plans if plan.method.needs_soft_tokens]
    if not asking:
        return embeds, None, contextlib.nullcontext()
    if soft_tokens is None:
        raise InputError(f"The method {asking[0]!r} needs soft tokens: pass some, or train them")
    soft = soft_tokens.embeddings.to(embeds).expand(embeds.shape[0], -1, -1)
    return torch.cat([embeds, soft], dim=1), soft_tokens, soft_tokens.attached(lm)


def _on_cpu(kept: Kept | None) -> Kept | None:
    if isinstance(kept, tuple):
        return tuple(rows.cpu() for rows in kept)
    return None if kept is None else kept.cpu()


def check_first_pass(plans: Sequence[Plan]) -> None:
    """Refuse plans that need a response, with an `InputError`."""
    for plan in plans:
        if plan.method.needs_response:
            raise InputError(f"The method {plan.method.name!r} needs a response: it takes a second pass")


def check_attention(lm: LanguageModel) -> None:
    """Refuse a model whose attention cannot be observed, with an `InputError`."""
    used = lm.model.config._attn_implementation
    if used != ATTENTION:
        raise InputError(
            f"{lm.name} runs with attention {used!r}, which shows no queries: load it with judgeq.load, or wrap it "
            "with judgeq.LanguageModel.wrap"
        )


def outcome_of(logits: Tensor, eviction: Eviction, started: float) -> Prefill:
    """What a pass has found that began at `started`, as `time.perf_counter` tells it."""
    return Prefill(
        logits=logits[:, -1].float(),
        retained=eviction.retained,
        peak_rows=eviction.peak_rows,
        full_kv_bytes=eviction.full_kv_bytes,
        seconds=time.perf_counter() - started,
    )
