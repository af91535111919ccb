"""Which soft tokens a pass ends with: trained ones, or those that a method brings along as a text.

Methods that ask with different ones cannot share a pass, since later soft tokens would see earlier ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from judgeq.attention.registry import ATTENTION
from judgeq.errors import InputError
from judgeq.inference.plan import Plan
from judgeq.methods import Method
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.soft_tokens.tensors import SoftTokenTensors, embedded_text, text_ids


@dataclass(eq=False)
class SharedPass:
    """Plans that one pass serves.

    Attributes:
        soft_tokens: those that the pass ends with; None = none.
        places: of the plans, among those that were asked for.
    """

    __repr__ = brief

    soft_tokens: SoftTokenTensors | None
    places: list[int] = field(default_factory=list)


def shared_passes(
    lm: LanguageModel,
    plans: Sequence[Plan],
    trained: SoftTokenTensors | None,
    memory: Sequence[int] = (),
    least_memory: int = 0,
) -> list[SharedPass]:
    """The passes that plans need, at least one. Plans without soft tokens go along with the first.

    Args:
        memory: memory rows that each plan keeps of its pass; empty = none.
        least_memory: so many memory tokens read along even where no plan keeps their rows.

    Raises:
        InputError: see `appended`.
    """
    most = max([least_memory, *memory])
    if trained is not None:
        trained = trained.with_memory(most)
    elif most:
        raise InputError("Memory rows need soft tokens with memory tokens: pass some, or leave memory out")
    passes: dict[str | None, SharedPass] = {None: SharedPass(trained)} if least_memory else {}
    along = []
    for place, plan in enumerate(plans):
        soft = appended(lm, plan.method, trained, most)
        if soft is None and memory and memory[place]:
            soft = trained
        if soft is None:
            along.append(place)
        else:
            key = plan.method.appended_text or None
            passes.setdefault(key, SharedPass(soft)).places.append(place)
    found = list(passes.values()) or [SharedPass(None)]
    found[0].places += along
    return found


def appended(
    lm: LanguageModel, method: Method, trained: SoftTokenTensors | None, memory: int = 0
) -> SoftTokenTensors | None:
    """The soft tokens that a method scores with, trained ones with `memory` memory tokens; None where it uses none.

    Raises:
        InputError: it needs trained ones and there are none, or these have fewer memory tokens; or the model's
            attention cannot be observed.
    """
    used = lm.model.config._attn_implementation
    if used != ATTENTION:
        raise InputError(
            f"{lm.name} runs with attention {used!r}, which shows no queries: load it with judgeq.load, or wrap it "
            "with judgeq.LanguageModel.wrap"
        )
    if method.appended_text:
        return embedded_text(lm, method.appended_text)
    if method.needs_soft_tokens and trained is None:
        raise InputError(f"The method {method.name!r} needs soft tokens: pass some, or train them")
    return trained.with_memory(memory) if trained is not None and method.needs_soft_tokens else None


def most_appended(lm: LanguageModel, methods: Iterable[Method], trained: int) -> int:
    """Most soft tokens that a pass of these methods ends with; `trained` is the number of trained ones."""
    texts = {method.appended_text for method in methods} - {""}
    return max([trained, *(len(text_ids(lm, text)) for text in texts)])


def with_soft_tokens(
    lm: LanguageModel, ids: Tensor, soft_tokens: SoftTokenTensors | None
) -> tuple[Tensor, AbstractContextManager[None]]:
    """Input embeddings of tokens and of soft and memory tokens, (B, N + S + M, hidden), and the adapters of these."""
    embeds = lm.model.get_input_embeddings()(ids.to(lm.device))  # (B, N, hidden)
    if soft_tokens is None:
        return embeds, contextlib.nullcontext()
    appended = soft_tokens.appended_embeddings().to(embeds).expand(embeds.shape[0], -1, -1)
    return torch.cat([embeds, appended], dim=1), soft_tokens.attached(lm)


def placed(embeds: Tensor, seen: int, soft_tokens: SoftTokenTensors | None) -> dict[str, Tensor]:
    """Positions for a pass that ends with memory tokens; none where each token follows the one before.

    The pass has a cache: without one transformers takes positions that begin again for another text.

    Args:
        embeds: (B, N, hidden), the whole pass.
        seen: tokens before it.
    """
    if soft_tokens is None or not soft_tokens.memory_tokens:
        return {}
    batch, count = embeds.shape[:2]
    places = torch.arange(seen, seen + count, device=embeds.device).expand(batch, -1)
    return {"position_ids": soft_tokens.place(places)}
