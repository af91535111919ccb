"""How much memory a model and its rows will take, calculated from a config: nothing is loaded or measured.

Bytes of a row are `Geometry.row_bytes` of `judgeq.models.language_model`, in 8 or 4 bits `stored_bytes` of
`judgeq.cache.quantized`.
`measure` runs the same on a loaded model, so that the calculation can be compared with a measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from judgeq.attention.cpu_linear_decode import second_layout_bytes
from judgeq.cache.prefix import pass_sizes
from judgeq.cache.quantized import stored_bytes
from judgeq.config import check_chunk
from judgeq.inference.decode import next_logits
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.look.figures import hover_text, styled
from judgeq.look.palette import BLUE, GREY, GRID, ORANGE
from judgeq.methods import Full, JudgeQ, Method
from judgeq.models.language_model import Geometry, LanguageModel
from judgeq.models.memory import peak_memory, weight_bytes
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.values import seed64, whole_numbers

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
BLOCK, SCALES = 64, 256
"""NF4 with double quantization: weights that share a scale, and scales that share one of theirs."""
PARTS = {"weights": BLUE, "rows of the prompt": ORANGE, "on top while reading": "#9a9a9a"}
"""What memory goes to, with the colours of `memory_figure`."""


@dataclass(frozen=True)
class Memory:
    """Bytes, calculated or measured.

    Attributes:
        weights: of the model, with the scales of quantized ones.
        full_rows: keys and values of the complete prompt.
        kept_rows: those within the budget.
        reading: on top of the weights at most, while the prompt is read and evicted layer by layer; in chunks, the last
            one evicts. Calculated, it is a lower bound: kernels and allocators take more.
        reading_full: the same where every row is kept.
        second_layout: of weights that are stored twice, next to the others: those in bfloat16 on a CPU that multiplies
            one row faster so and has twice the memory free, see `judgeq.attention.cpu_linear_decode`. Calculated for
            such a CPU.
    """

    weights: int
    full_rows: int
    kept_rows: int
    reading: int | None
    reading_full: int | None
    second_layout: int = 0

    def prompts_within(self, capacity: int, *, kept: bool) -> int:
        """How many prompts of this length fit next to the weights, with what reading one more takes.

        Args:
            capacity: bytes in all.
            kept: each holds what the budget keeps of it, else all of its rows.
        """
        held, peak = (self.kept_rows, self.reading) if kept else (self.full_rows, self.reading_full)
        working = 0 if peak is None else max(0, peak - held)
        return max(0, capacity - self.weights - working) // held

    def to_dict(self) -> dict[str, int | None]:
        return asdict(self)


def estimate(
    config: Any,
    *,
    prompt_tokens: int,
    budget: int,
    dtype: str = "bfloat16",
    quantization: str | None = None,
    row_bits: int | None = None,
    soft_tokens: int = 32,
    chunk: int | None = None,
) -> Memory:
    """Calculate from a transformers config.

    Args:
        prompt_tokens: T.
        budget: rows per KV head.
        dtype: of rows, activations and weights that are not quantized.
        quantization: `"4bit"`, `"8bit"` or None.
        row_bits: kept rows are stored in 8 or 4 bits; None = in `dtype`.
        soft_tokens: S.
        chunk: most tokens of a pass; None reads the prompt in one.
    """
    chunk = check_chunk(chunk)
    prompt_tokens, budget, soft_tokens = whole_numbers("estimate", (prompt_tokens, budget, soft_tokens))
    sizes, width = Geometry.of(config), BYTES[dtype]
    text = config.get_text_config(decoder=True)
    tokens = prompt_tokens + soft_tokens
    wide = pass_sizes(prompt_tokens, chunk, 1)[-1] + soft_tokens  # tokens of the last pass
    row = sizes.row_bytes(width)
    full = sizes.complete_rows(prompt_tokens) * row
    rows, judged = min(prompt_tokens, budget), len(sizes.global_layers)
    held = rows * row if row_bits is None else sizes.kv_heads * stored_bytes(rows, sizes.head_dim, row_bits)
    kept = full - judged * (prompt_tokens * row - held)
    # The widest moment of a layer: the embeddings with and without soft tokens, what came in, its sum with the
    # attention, its normed copy, the two halves of the feed-forward and their product. Or else the soft tokens'
    # attention, in float32 as logits and as weights. What kernels take for themselves is left out.
    activations = wide * (5 * sizes.hidden + 3 * text.intermediate_size) * width
    scoring = 2 * soft_tokens * sizes.heads * tokens * 4 + 2 * sizes.heads * sizes.head_dim * wide * width
    layer = tokens * row + max(activations, scoring)
    model = _without_weights(config)
    return Memory(
        weights=_weights(model, width, quantization),
        full_rows=full,
        kept_rows=kept,
        # chunks fill every layer before the last one evicts
        reading=(kept if wide == tokens else full) + layer,
        reading_full=full + layer,
        second_layout=_second_layout(model, quantization) if dtype == "bfloat16" else 0,
    )


def _without_weights(config: Any) -> Any:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    with torch.device("meta"):
        # the class itself: `from_config` would set the number type of the whole process
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)


def _second_layout(model: Any, quantization: str | None) -> int:
    """What `judgeq.attention.cpu_linear_decode.lay_out` takes: 16 bits a weight of each layer that is not quantized."""
    linear = [module for module in model.modules() if type(module) is nn.Linear]
    if quantization:
        linear = [module for module in linear if module is model.get_output_embeddings()]
    return sum(2 * module.weight.numel() for module in linear)


def _weights(model: Any, width: int, quantization: str | None) -> int:
    head = model.get_output_embeddings()
    tied = model.config.get_text_config(decoder=True).tie_word_embeddings
    total, counted = 0, set()
    for module in model.modules():
        if module is head and tied:  # said here, since nothing is tied while another thread loads a model
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in counted:
                continue
            counted.add(id(parameter))
            quantized = isinstance(module, nn.Linear) and module is not head and name == "weight"
            total += _matrix(parameter.shape, quantization) if quantized and quantization else parameter.numel() * width
    return total


def _matrix(shape: torch.Size, quantization: str | None) -> int:
    """A quantized matrix (out, in) with its scales, as bitsandbytes stores it."""
    count = shape.numel()
    if quantization == "8bit":
        return count + 4 * shape[0]
    scales = -(-count // BLOCK)
    codes = 4 * (16 + SCALES)  # the tables that both levels look up
    return count // 2 + scales + 4 * -(-scales // SCALES) + codes


def memory_figure(found: Mapping[str, Memory], capacity: int | None = None) -> Figure:
    """Where the memory goes at its peak, as stacked bars: for each prompt with every row kept, and evicting.

    Args:
        found: by label, such as the length of the prompt.
        capacity: bytes of the device, drawn as a line.
    """
    from plotly.graph_objects import Bar, Figure

    lines = {}
    for label, memory in found.items():
        for how, rows, peak in (
            ("all rows kept", memory.full_rows, memory.reading_full),
            ("evicting", memory.kept_rows, memory.reading),
        ):
            lines[f"{hover_text(label)}, {how}"] = (memory.weights, rows, max(0, (peak or rows) - rows))
    figure = Figure()
    for (part, color), counts in zip(PARTS.items(), zip(*lines.values(), strict=True), strict=True):
        figure.add_trace(
            Bar(
                y=list(lines),
                x=[round(count / 2**30, 3) for count in counts],
                name=part,
                orientation="h",
                marker={"color": color},
                hovertemplate=f"%{{y}}<br>{part}: %{{x:.2f}} GiB<extra></extra>",
            )
        )
    if capacity is not None:
        size = capacity / 2**30
        figure.add_vline(x=size, line={"dash": "dash", "color": GREY}, annotation={"text": f"{size:g} GiB"})
    styled(figure, barmode="stack", height=120 + 34 * len(lines), margin={"l": 10, "r": 20, "t": 50, "b": 50})
    figure.update_xaxes(title="GiB", showgrid=True, gridcolor=GRID, rangemode="tozero")
    return figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)


@torch.inference_mode()
def measure(
    lm: LanguageModel,
    *,
    prompt_tokens: int,
    budget: int,
    row_bits: int | None = None,
    soft_tokens: int = 32,
    chunk: int | None = None,
    seed: int = 0,
) -> Memory:
    """Read random tokens with a loaded model, with soft tokens and with every row kept; what it really took.

    Peaks are None where the system does not tell them, see `judgeq.models.memory.peak_memory`.
    """
    generator = torch.Generator().manual_seed(seed64(seed))
    words = lm.model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(0, words, (1, prompt_tokens), generator=generator)
    weights = SoftTokenTensors(torch.randn(soft_tokens, lm.geometry.hidden, generator=generator) * 0.02)
    held: list[int] = []
    peaks: list[int | None] = []
    judge = JudgeQ()
    judge = replace(judge, selection=replace(judge.selection, bits=row_bits))
    _read(lm, ids[:, :64], judge, 8, weights, chunk)  # libraries take their own memory the first time
    for method, rows in ((judge, budget), (Full(), prompt_tokens)):
        with peak_memory(lm.device) as peak:
            cache_bytes = _read(lm, ids, method, rows, weights, chunk)
        held.append(cache_bytes)
        peaks.append(peak.bytes)
    kept, full = held
    reading, reading_full = peaks
    laid_out = second_layout_bytes(lm.model)
    return Memory(weight_bytes(lm.model), full, kept, reading, reading_full, laid_out)


def _read(
    lm: LanguageModel,
    ids: torch.Tensor,
    method: Method,
    rows: int,
    weights: SoftTokenTensors,
    chunk: int | None,
) -> int:
    """Bytes of the rows that were kept, before a token of the answer."""
    outcome = prefill(lm, ids, [Plan(method, min(rows, ids.shape[1]))], soft_tokens=weights, chunk=chunk)
    cache = outcome.retained[0].cache
    kept = cache.kv_bytes
    next_logits(lm, cache, int(outcome.logits.argmax(-1)))
    return kept
