"""`judgeq estimate`: the memory that a model will take, calculated, and measured where the model can be run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from judgeq._version import versions
from judgeq.commands.common import (
    add_common,
    add_flag,
    add_number,
    add_option,
    finish,
    load_model,
    load_random,
)
from judgeq.config import ROW_BITS, budget_rows, check_at_least, parse_budget

if TYPE_CHECKING:
    from judgeq.estimate import Memory

NAMES = {
    "weights": "weights",
    "second_layout": "second layout, on some CPUs",
    "full_rows": "rows, full cache",
    "kept_rows": "rows, kept",
    "reading": "reading, evicting on the way",
    "reading_full": "reading, all rows kept",
}


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run)
    add_common(parser)
    add_number(parser, "--prompt-tokens", "length of the prompt", 8192)
    add_option(parser, "--budget", "N", "rows or a share", "512")
    add_number(parser, "--chunk", "read at most so many tokens in a pass")
    meaning = "quantize kept rows to so many bits (default: not quantized)"
    parser.add_argument("--row-bits", type=int, choices=ROW_BITS, help=meaning)
    meaning = "load the model, read that many random tokens, and compare; a shape gets random weights"
    add_flag(parser, "--measure", meaning)


def _run(arguments: argparse.Namespace) -> None:
    from judgeq.estimate import estimate, measure
    from judgeq.models.embedded import EMBEDDED
    from judgeq.models.loading import load_config
    from judgeq.models.shapes import SHAPES, config_of_shape

    check_at_least("estimate", "prompt_tokens", arguments.prompt_tokens, 1)
    tokens = arguments.prompt_tokens
    budget = budget_rows(parse_budget(arguments.budget), tokens)
    sizes = {"prompt_tokens": tokens, "budget": budget}
    sizes |= {"row_bits": arguments.row_bits, "chunk": arguments.chunk}
    measured, dtype, known = None, arguments.dtype, arguments.model in SHAPES
    if arguments.measure:
        random = known and arguments.model not in EMBEDDED  # nothing but the shape is there
        lm = load_random(arguments, arguments.model) if random else load_model(arguments)
        config, dtype = lm.model.config, str(lm.dtype).removeprefix("torch.")
        measured = measure(lm, **sizes, seed=arguments.seed)
    else:
        config = config_of_shape(arguments.model) if known else load_config(arguments.model)
        dtype = "bfloat16" if dtype in (None, "auto") else dtype
    calculated = estimate(config, **sizes, dtype=dtype, quantization=arguments.quantization)
    result = {
        "model": arguments.model,
        **sizes,
        "dtype": dtype,
        "quantization": arguments.quantization,
        "calculated": calculated.to_dict(),
        "measured": None if measured is None else measured.to_dict(),
        "versions": versions(("torch", "transformers", "bitsandbytes")),
    }
    finish(arguments, result, *_lines(calculated, measured))


def _lines(calculated: Memory, measured: Memory | None) -> Iterator[str]:
    for field, name in NAMES.items():
        if field == "second_layout" and not calculated.second_layout:
            continue
        line = f"{name:30} {_size(getattr(calculated, field))}"
        yield line if measured is None else f"{line}   measured {_size(getattr(measured, field))}"


def _size(count: Any) -> str:
    return "         –" if count is None else f"{count / 2**30:7.3f} GiB"
