"""One pass over the prompt that serves any number of methods and budgets.

Layer by layer: attention first, then every plan scores, selects and copies *its own* rows, and the layer's rows go. So
layer `l` has shrunk before layer `l + 1` runs, and the prompt's states are what they would be without eviction. The
pass may stand behind rows that were read before, or in earlier chunks. Knows nothing of text or decoding.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.attention.call import AttentionCall
from judgeq.attention.registry import ATTENTION
from judgeq.cache.prefix import LayerCallback, PrefixCache, Progress, pass_sizes
from judgeq.cache.retained import FrozenCache, RetainedCache
from judgeq.config import check_chunk
from judgeq.errors import InputError
from judgeq.inference.plan import Plan, Retained
from judgeq.methods import LayerView
from judgeq.models.language_model import LanguageModel
from judgeq.models.rope import check_appended, check_chunks, rope_depends_on_length
from judgeq.objects import brief
from judgeq.soft_tokens.tensors import SoftTokenTensors


@dataclass(eq=False)
class Prefill:
    """Outcome of a pass.

    Attributes:
        logits: (B, V) of the last token that was not a soft token.
        retained: one entry a plan, in the order of the plans.
        peak_rows: most rows held at once, summed over layers: all plans' rows, the layer in work, and the complete rows
            that this pass stands behind.
        full_kv_bytes: bytes that the prompt's complete rows take, summed over layers as they passed; of layers with a
            sliding window the window's.
        seconds: wall time of the pass, its chunks included.
        response: (1, R) int64, the full cache's greedy answer without its end, where a plan looked at it.
    """

    __repr__ = brief

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
        sizes: tuple[int, int],
        soft_tokens: SoftTokenTensors | None,
        progress: Progress,
        held: PrefixCache | None = None,
        prompts: tuple[int, ...] = (),
    ) -> None:
        """Before the pass, and before the chunks in front of it.

        Args:
            sizes: tokens of the prompt, and of a response behind it.
            soft_tokens: those at the end of the pass.
            held: rows that the pass stands behind; they go layer by layer, unless they are shared.
            prompts: see `LayerView`.
        """
        self.started = time.perf_counter()
        prompt_tokens, response_tokens = sizes
        n_soft = 0 if soft_tokens is None else len(soft_tokens.embeddings)
        self.retained = [
            Retained(
                plan,
                RetainedCache(lm.model.config, plan.method.selection.bits),
                plan.shares(lm, prompt_tokens),
                prompts=prompts,
            )
            for plan in plans
        ]
        self.sizes, self.progress, self.held = (*sizes, n_soft), progress, held
        self.prompts = prompts
        self.offsets: Tensor | None = None
        if soft_tokens is not None:
            if not response_tokens:
                check_appended(lm.model, lm.name, prompt_tokens, n_soft)
            self.offsets = soft_tokens.offsets_at(lm, sum(sizes))
        self.peak_rows = self.full_kv_bytes = 0

    def observe(self, call: AttentionCall) -> None:
        view = LayerView(
            call.layer,
            call.queries,
            call.keys,
            call.values,
            *self.sizes,
            call.scaling,
            call.output_weight,
            offsets=None if self.offsets is None else self.offsets[call.layer],
            softcap=call.softcap,
            carried=None if self.held is None else self.held.attention_of(call.layer),
            prompts=self.prompts,
        )
        for retained in self.retained:
            retained.take(view, evictable=call.window is None)
        rows = call.keys.shape[2] + sum(retained.cache.rows for retained in self.retained)
        if self.held is not None:
            rows += self.held.drop_layer(call.layer)
        self.peak_rows = max(self.peak_rows, rows)
        ever_read = slice(None if call.window is None else 1 - call.window, None)  # by later tokens
        for states in view.prompt_rows:
            self.full_kv_bytes += states[:, :, ever_read].numel() * states.element_size()
        self.progress.step()

    def outcome(self, logits: Tensor) -> Prefill:
        """What the pass has found, when it is over.

        Args:
            logits: (B, 1, V), the model's.
        """
        return Prefill(
            logits=logits[:, -1].float(),
            retained=self.retained,
            peak_rows=self.peak_rows,
            full_kv_bytes=self.full_kv_bytes,
            seconds=time.perf_counter() - self.started,
        )


@torch.inference_mode()
def prefill(
    lm: LanguageModel,
    input_ids: Tensor,
    plans: Sequence[Plan],
    *,
    soft_tokens: SoftTokenTensors | None = None,
    rows: PrefixCache | None = None,
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
        InputError: a plan needs soft tokens and there are none, or needs a response; a chunk without a token, or
            chunks that the model's positions do not allow.
    """
    chunk = check_chunk(chunk)
    check_first_pass(plans)
    check_attention(lm)
    soft = asked_with(plans, soft_tokens)
    batch, tokens = input_ids.shape
    queries = [plan.method.queries_needed for plan in plans]
    last, summed = min(tokens, max([1, *filter(None, queries)])), None in queries
    held = None if rows is None else _leading(lm, rows, input_ids, tokens - last, summed)
    first = 0 if held is None else held.seen
    sizes = pass_sizes(tokens - first, chunk, last)
    check_chunks(lm.model, lm.name, first + sizes[0], tokens)
    *early, final = input_ids[:, first:].split(sizes, dim=1)
    if early and held is None:
        held = PrefixCache(lm.model.config, batch, tokens + (0 if soft is None else len(soft.embeddings)))
    progress = Progress(on_layer, (len(early) + 1) * lm.geometry.layers)
    eviction = Eviction(lm, plans, (tokens, 0), soft, progress, held, prompt_numbers(input_ids))
    if held is not None:
        held.read(lm, early, progress, summed=summed)
    return _look(lm, final, soft, held, eviction)


@torch.inference_mode()
def probe(
    lm: LanguageModel,
    rows: FrozenCache,
    response_ids: Tensor,
    plans: Sequence[Plan],
    *,
    soft_tokens: SoftTokenTensors | None = None,
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
    check_attention(lm)
    soft = asked_with(plans, soft_tokens)
    sizes = rows.get_seq_length(), response_ids.shape[1]
    eviction = Eviction(lm, plans, sizes, soft, Progress(on_layer, lm.geometry.layers))
    return _look(lm, response_ids, soft, rows, eviction)


def _leading(
    lm: LanguageModel, rows: PrefixCache, input_ids: Tensor, most: int, summed: bool
) -> PrefixCache | None:
    """Rows of a prompt's leading tokens, see `PrefixCache.before`, where one pass would turn them in the same way."""
    shorter, longer = sorted((rows.seen, input_ids.shape[1]))
    if rope_depends_on_length(lm.model, shorter, longer - shorter):
        return None
    return rows.before(input_ids, most, summed)


def _look(
    lm: LanguageModel,
    ids: Tensor,
    soft_tokens: SoftTokenTensors | None,
    rows: PrefixCache | FrozenCache | None,
    eviction: Eviction,
) -> Prefill:
    """A pass over the end of a prompt, or over a response, behind `rows`, with soft tokens at its own end."""
    embeds, adapted = with_soft_tokens(lm, ids, soft_tokens)
    with adapted:
        output = lm.model(
            inputs_embeds=embeds,
            cache=rows,
            use_cache=rows is not None,
            logits_to_keep=torch.tensor([ids.shape[1] - 1], device=lm.device),
            observer=eviction,
        )
    return eviction.outcome(output.logits)


def with_soft_tokens(
    lm: LanguageModel, ids: Tensor, soft_tokens: SoftTokenTensors | None
) -> tuple[Tensor, AbstractContextManager[None]]:
    """What a pass reads, (B, N + S, hidden), and the adapters of the soft tokens at its end."""
    embeds = lm.model.get_input_embeddings()(ids.to(lm.device))  # (B, N, hidden)
    if soft_tokens is None:
        return embeds, contextlib.nullcontext()
    behind = soft_tokens.embeddings.to(embeds).expand(embeds.shape[0], -1, -1)
    return torch.cat([embeds, behind], dim=1), soft_tokens.attached(lm)


def asked_with(plans: Sequence[Plan], soft_tokens: SoftTokenTensors | None) -> SoftTokenTensors | None:
    """The soft tokens that a pass ends with: None where no plan asks with them.

    Raises:
        InputError: a plan needs soft tokens and there are none.
    """
    asking = [plan.method.name for plan in plans if plan.method.needs_soft_tokens]
    if asking and soft_tokens is None:
        raise InputError(f"The method {asking[0]!r} needs soft tokens: pass some, or train them")
    return soft_tokens if asking else None


def prompt_numbers(input_ids: Tensor) -> tuple[int, ...]:
    """A number of 64 bits for each prompt (B, T), made of its tokens: the same on every run and machine."""
    rows = input_ids.cpu().numpy().astype("<i8")
    return tuple(int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "big") for row in rows)


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
