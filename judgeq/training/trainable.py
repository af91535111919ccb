"""The tensors that are trained, their attention to stored prompts, and how often that finds the best rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from judgeq.config import Selection
from judgeq.errors import InputError
from judgeq.methods.scoring import merge_group
from judgeq.methods.selection import overlap, select_rows
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.training.config import TrainConfig
from judgeq.training.examples import PromptRows, TrainingExample, prompt_rows
from judgeq.training.prompt_attention import PromptLayer, prompt_cache
from judgeq.training.store import Store
from judgeq.training.workers import Workers
from judgeq.values import seed64

BUDGETS = (64, 128, 256)  # rows at which the hit rate is measured
TOP = Selection(pool=1)
FRESH_STARTS = ("responses", "vocabulary", "random")
FIRST_EXAMPLES = 256  # whose responses the first embeddings are drawn from


def let_gradients_through(lm: LanguageModel) -> None:
    """Keep 4-bit weights in the layout that gradients can pass.

    On a CPU bitsandbytes repacks them at the first pass without gradients, for good, into one that they cannot.

    Raises:
        InputError: that has happened already.
    """
    for module in lm.model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            if getattr(module.weight.quant_state, "packing_format_for_cpu", False):
                raise InputError(
                    f"The 4-bit weights of {lm.name} were repacked for answering and let no gradients through any "
                    "more: load the model anew and train before asking it anything"
                )
            module.support_avx512bf16_for_cpu = False


def check_one_device(lm: LanguageModel) -> None:
    """Refuse, with an `InputError`, a model whose layers are spread over several devices."""
    if len({parameter.device for parameter in lm.model.parameters()}) > 1:
        raise InputError(
            f"The layers of {lm.name} are spread over several devices, and training takes a model on one: load it with "
            "device cuda, in 4bit if it is large, and let `accelerate launch` use the other GPUs"
        )


def earlier_tokens(lm: LanguageModel, config: TrainConfig) -> SoftTokens | None:
    """The soft tokens that a run continues from; None where it starts afresh.

    Raises:
        InputError: they are not there, or do not fit the model or the recipe.
    """
    if config.start in FRESH_STARTS:
        return None
    tokens = SoftTokens.for_model(lm, config.start)
    rank = tokens.weights.adapters.rank if tokens.weights.adapters else config.rank
    if (tokens.n, rank) != (config.n, config.rank):
        raise InputError(
            f"{config.start} has {tokens.n} soft tokens and adapters of rank {rank}: give --n {tokens.n} "
            f"--rank {rank} to continue from there"
        )
    if tokens.config.memory and not config.memory:
        raise InputError(
            f"{config.start} has {tokens.config.memory} memory tokens, trained beside its soft tokens as they are: "
            f"give --memory {tokens.config.memory} to train both on"
        )
    return tokens


def initial_tokens(lm: LanguageModel, config: TrainConfig, train_set: Store) -> SoftTokens:
    """Where a run starts, see `TrainConfig.start`; raises as `earlier_tokens` does."""
    if earlier := earlier_tokens(lm, config):
        return earlier
    generator = torch.Generator().manual_seed(seed64(config.seed))
    weights = lm.model.get_input_embeddings().weight
    if config.start == "responses":
        pool = train_set.response_ids(range(min(len(train_set), FIRST_EXAMPLES)))
    else:
        pool = torch.arange(weights.shape[0])
    tokens = SoftTokens.initialise(lm, pool[torch.randint(len(pool), (config.n,), generator=generator)])
    if config.start != "random":
        return tokens
    noise = torch.randn(tokens.weights.embeddings.shape, generator=generator) * weights.float().std().item()
    return replace(tokens, weights=SoftTokenTensors(noise))


def trainable(weights: SoftTokenTensors, lm: LanguageModel, config: TrainConfig) -> SoftTokenTensors:
    """A copy whose tensors require gradients; offsets and adapters that are new start by adding nothing."""
    sizes, wanted = lm.geometry, trainable_copy(lm)
    offsets = adapters = None
    if "offsets" in config.capacity:
        shape = (sizes.layers, sizes.heads, config.n, sizes.head_dim)
        offsets = wanted(torch.zeros(shape) if weights.query_offsets is None else weights.query_offsets)
    if "adapters" in config.capacity:
        adapters = (weights.adapters or LowRank.zero(lm, config.rank, config.seed)).map(wanted)
    return SoftTokenTensors(wanted(weights.embeddings), offsets, adapters)


def trainable_copy(lm: LanguageModel) -> Callable[[Tensor], Tensor]:
    """Copies a tensor to the model's device, where it requires gradients."""
    return lambda tensor: tensor.to(lm.device, copy=True).requires_grad_()


def parameter_groups(weights: SoftTokenTensors, config: TrainConfig) -> list[dict[str, object]]:
    """The tensors of `trainable` for an optimizer, each group with its peak learning rate."""
    groups: list[dict[str, object]] = [{"params": [weights.embeddings], "peak": config.learning_rate}]
    if weights.query_offsets is not None:
        groups.append({"params": [weights.query_offsets], "peak": config.offset_learning_rate})
    if weights.adapters is not None:
        tensors = [*weights.adapters.down.values(), *weights.adapters.up.values()]
        groups.append({"params": tensors, "peak": config.adapter_learning_rate})
    return groups


def finished(weights: SoftTokenTensors) -> SoftTokenTensors:
    """The tensors as they are now and as a file would give them back, on the CPU, apart from the optimization."""
    stored = {name: tensor.detach().cpu().clone() for name, tensor in weights.tensors().items()}
    return SoftTokenTensors.from_tensors(stored)


def attention_to_examples(
    lm: LanguageModel,
    weights: SoftTokenTensors,
    examples: Sequence[TrainingExample],
    rows: Sequence[PromptRows],
) -> list[Tensor]:
    """Attention of the soft tokens to each prompt, (L, H_kv, G, T_i), differentiable in `weights`.

    One pass for all examples; `L` counts the layers that see the whole prompt.

    Args:
        rows: those of the examples, see `prompt_rows`.
    """
    ends = [len(example.prompt) for example in examples]
    offsets = [weights.offsets_at(lm, end) for end in ends]
    together = None if weights.query_offsets is None else torch.stack(offsets, dim=1)  # type: ignore[arg-type]
    cache = prompt_cache(rows, together)
    embeddings = weights.embeddings.to(lm.dtype)
    with weights.attached(lm):
        lm.model.get_decoder()(
            inputs_embeds=embeddings.expand(len(examples), -1, -1),
            position_ids=torch.tensor(ends, device=lm.device)[:, None]
            + torch.arange(len(embeddings), device=lm.device),
            cache=cache,
        )
    layers = [layer.paid for layer in cache.layers if isinstance(layer, PromptLayer)]
    parts = zip(rows, zip(*layers, strict=True), strict=True)
    return [each for part, paid in parts for each in part.unpadded(torch.stack(paid), dim=-1)]


def attention_to_example(lm: LanguageModel, weights: SoftTokenTensors, example: TrainingExample) -> Tensor:
    """`attention_to_examples` of one."""
    return attention_to_examples(lm, weights, [example], prompt_rows(lm, [example]))[0]


@torch.no_grad()
def held_out_hit_rates(
    lm: LanguageModel,
    weights: SoftTokenTensors,
    train_set: Store,
    workers: Workers,
    budgets: Sequence[int] = BUDGETS,
) -> dict[str, float]:
    """Share of the teacher's top rows that the soft tokens find, by budget, averaged over examples, layers and heads.

    The examples are shared among the workers; each gets the complete figures.
    """
    sums = dict.fromkeys(budgets, 0.0)
    for index in range(workers.rank, len(train_set), workers.count):
        example = train_set[index]
        ours = merge_group(attention_to_example(lm, weights, example).cpu())
        teacher = merge_group(example.teacher.float())
        for budget in budgets:
            found, wanted = (select_rows(scores, budget, TOP) for scores in (ours, teacher))
            sums[budget] += float(overlap(found, wanted))
    return {f"hit_rate_{budget}": round(workers.total(sums[budget]) / len(train_set), 4) for budget in budgets}
