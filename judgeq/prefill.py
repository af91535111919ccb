"""One pass over the prompt that serves any number of methods and budgets.

Layer by layer: attention first, then every plan scores, selects and copies *its own* rows, and the layer's rows go. So
layer `l` has shrunk before layer `l + 1` runs, and the prompt's states are what they would be without eviction. The
pass may stand behind rows that were read before, or in earlier chunks. Knows nothing of text or decoding.
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
from judgeq.config import check_chunk
from judgeq.errors import InputError
from judgeq.held import HeldCache, LayerCallback, Progress, pass_sizes
from judgeq.language_model import LanguageModel
from judgeq.methods import LayerView, Method
from judgeq.profile import BudgetProfile
from judgeq.selection import Kept, allocate_rows, pyramid_rows, rank_rows
from judgeq.soft_tokens import Probe


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
        prompt = slice(view.keys.shape[2] - view.response_tokens - view.soft_tokens)
        keys, values = view.keys[:, :, prompt], view.values[:, :, prompt]
        self.cache.fill(view.layer, keys, values, kept, seen=view.prompt_tokens)
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
        peak_rows: most rows held at once, summed over layers: all plans' rows, the layer in work, and the complete rows
            that this pass stands behind.
        full_kv_bytes: bytes that the prompt's complete rows take, summed over layers as they passed.
        seconds: wall time of the pass, its chunks included.
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
        sizes: tuple[int, int, int],
        progress: Progress,
        offsets: Tensor | None,
        held: HeldCache | None,
    ) -> None:
        """`sizes`: tokens of the prompt, of a response and soft tokens; `held`: rows that this pass stands behind."""
        self.retained = [
            Retained(plan, RetainedCache(lm.model.config), plan.shares(lm, sizes[0])) for plan in plans
        ]
        self.sizes, self.progress, self.offsets, self.held = sizes, progress, offsets, held
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
        held = None if self.held is None else self.held.layers[layer]
        carried = getattr(held, "attention", None)
        view = LayerView(layer, queries, keys, values, *self.sizes, scaling, output_weight, added, carried)
        for retained in self.retained:
            retained.take(view, evictable=not sliding)
        rows = sum(retained.cache.rows for retained in self.retained) + keys.shape[2]
        if self.held is not None and held is not None:
            rows += self.held.rows - held.keys.shape[2]
            if not self.held.shared:
                held.reset()
        self.peak_rows = max(self.peak_rows, rows)
        row_bytes = sum(states[:, :, 0].numel() * states.element_size() for states in (keys, values))
        self.full_kv_bytes += row_bytes * self.sizes[0]
        self.progress.step()


@torch.inference_mode()
def prefill(
    lm: LanguageModel,
    input_ids: Tensor,
    plans: Sequence[Plan],
    *,
    soft_tokens: Probe | None = None,
    rows: HeldCache | None = None,
    chunk: int | None = None,
    on_layer: LayerCallback | None = None,
) -> Prefill:
    """Read a prompt once, for all plans.

    Args:
        input_ids: (B, T) int64.
        plans: methods and budgets; none of them may need a response (see `probe`).
        soft_tokens: appended behind the prompt; needed as soon as a method asks with them.
        rows: of tokens that were read before; leading tokens of the prompt that agree with them are not read again, as
            far as the methods can do without their queries. They stay as they are.
        chunk: most tokens of a pass; all but the last add rows to every layer, and the last evicts. None reads the
            prompt in one pass.
        on_layer: progress, and a place to cancel.

    Raises:
        InputError: a plan needs soft tokens and there are none, or needs a response; a chunk without a token.
    """
    check_chunk(chunk)
    for plan in plans:
        if plan.method.needs_response:
            raise InputError(f"The method {plan.method.name!r} needs a response: it takes a second pass")
    look = _Look(lm, plans, soft_tokens)
    batch, tokens = input_ids.shape
    queries = [plan.method.prompt_queries for plan in plans]
    last, summed = min(tokens, max([1, *filter(None, queries)])), None in queries
    held = None if rows is None else rows.before(input_ids, tokens - last, summed)
    first = 0 if held is None else held.seen
    *early, final = input_ids[:, first:].split(pass_sizes(tokens - first, chunk, last), dim=1)
    if early and held is None:
        held = HeldCache(lm.model.config, batch, room=tokens + look.n_soft)
    progress = Progress(on_layer, (len(early) + 1) * lm.geometry.layers)
    if held is not None:
        held.read(lm, early, progress, summed=summed)
    return look.at(final, (tokens, 0), held, progress)


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
    sizes = rows.get_seq_length(), response_ids.shape[1]
    progress = Progress(on_layer, lm.geometry.layers)
    return _Look(lm, plans, soft_tokens).at(response_ids, sizes, rows, progress)


class _Look:
    """A pass that evicts, over the end of a prompt or over a response, with soft tokens behind where a plan needs them.

    Attributes:
        n_soft: their number, `S`.
    """

    def __init__(self, lm: LanguageModel, plans: Sequence[Plan], soft_tokens: Probe | None) -> None:
        asking = [plan.method.name for plan in plans if plan.method.needs_soft_tokens]
        if asking and soft_tokens is None:
            raise InputError(f"The method {asking[0]!r} needs soft tokens: pass some, or train them")
        _check_attention(lm)
        self.started = time.perf_counter()
        self.lm, self.plans, self.soft_tokens = lm, plans, soft_tokens if asking else None
        self.n_soft = 0 if self.soft_tokens is None else self.soft_tokens.embeddings.shape[0]

    def at(
        self, ids: Tensor, sizes: tuple[int, int], rows: HeldCache | FrozenCache | None, progress: Progress
    ) -> Prefill:
        """Look.

        Args:
            ids: (B, N) int64, the tokens of this pass.
            sizes: tokens of the prompt, and of a response behind it.
            rows: of the tokens in front of `ids`; None if there are none. Held ones go layer by layer, unless they are
                shared.
        """
        lm, soft, count = self.lm, self.soft_tokens, ids.shape[1]
        embeds = lm.model.get_input_embeddings()(ids.to(lm.device))  # (B, N, hidden)
        offsets = None
        adapted: AbstractContextManager[None] = contextlib.nullcontext()
        if soft is not None:
            offsets = soft.offsets_at(lm, sum(sizes))
            behind = soft.embeddings.to(embeds).expand(embeds.shape[0], -1, -1)
            embeds = torch.cat([embeds, behind], dim=1)  # (B, N + S, hidden)
            adapted = soft.attached(lm)
        held = rows if isinstance(rows, HeldCache) else None
        eviction = _Eviction(lm, self.plans, (*sizes, self.n_soft), progress, offsets, held)
        with adapted:
            output = lm.model(
                inputs_embeds=embeds,
                cache=rows,
                use_cache=rows is not None,
                logits_to_keep=torch.tensor([count - 1], device=lm.device),
                observer=eviction,
            )
        return Prefill(
            logits=output.logits[:, -1].float(),
            retained=eviction.retained,
            peak_rows=eviction.peak_rows,
            full_kv_bytes=eviction.full_kv_bytes,
            seconds=time.perf_counter() - self.started,
        )


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
