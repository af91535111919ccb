"""float32, bfloat16 and llama.cpp on this CPU: one model, one prompt, all in turn; and the layouts for one row.

python -m benchmarks.cpu --python llama-env/bin/python --json cpu.json
python -m benchmarks.cpu --products --json products.json
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import llama_speed
from benchmarks.peers import LLAMA, Server, serving
from judgeq._version import versions
from judgeq.attention.cpu_linear_decode import LAYOUTS, OneRowLinear, lay_out
from judgeq.cli import run
from judgeq.commands.common import (
    add_flag,
    add_json,
    add_number,
    add_option,
    command_of,
    finish,
)
from judgeq.config import Budget, budget_rows, check_at_least
from judgeq.errors import InputError
from judgeq.evaluation.speed import Contender, StepTiming, Times, run_rounds
from judgeq.inference.decode import next_logits
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import Full, Method, SnapKV
from judgeq.models import DEFAULT_MODEL, loading
from judgeq.models.embedded import EMBEDDED
from judgeq.models.language_model import LanguageModel
from judgeq.models.wheels import packaged_file

FLOAT32, BFLOAT16 = "float32", "bfloat16"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the result; returns the exit code."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cpu",
        description="float32, bfloat16 and llama.cpp on this CPU, in turn.",
    )
    parser.set_defaults(run=measure)
    add_option(parser, "--model", "NAME", "embedded name or GGUF file", DEFAULT_MODEL)
    add_option(parser, "--python", "FILE", "Python of an environment with llama-cpp-python")
    add_number(parser, "--prompt-tokens", "length of the prompt", 1024)
    add_number(parser, "--decode-tokens", "tokens that are written after the first", 32)
    add_number(parser, "--budget", "rows per KV head that SnapKV keeps", 256)
    add_number(parser, "--rounds", "how often everything is measured, in turn", 5)
    add_flag(parser, "--products", "the model's products of one row instead, in all layouts that were tried")
    add_json(parser)
    return parser


def measure(arguments: argparse.Namespace) -> None:
    """What the command does."""
    for name, least in (("prompt_tokens", 2), ("decode_tokens", 1), ("budget", 1), ("rounds", 1)):
        check_at_least("cpu", name, getattr(arguments, name), least)
    rows = _products(arguments) if arguments.products else _models(arguments)
    result = {
        "model": arguments.model,
        "command": command_of(arguments.words, ("--json", "--python"), "benchmarks.cpu"),
        "threads": torch.get_num_threads(),
        "versions": versions(("torch", "transformers")),
        "rows": rows,
    }
    finish(arguments, result, *(", ".join(f"{name} {value}" for name, value in row.items()) for row in rows))


# Models


def _models(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        theirs: list[Contender] = []
        if arguments.python:
            script, path = llama_speed.__file__, str(gguf_of(arguments.model))
            theirs = [Llama(stack.enter_context(serving(LLAMA, arguments.python, script, path)))]
        ours = _ours(arguments.model, arguments.budget)
        vocabulary, generator = ours[0].lm.tokenizer.vocab_size, torch.Generator().manual_seed(0)
        ids = torch.randint(vocabulary, (1, arguments.prompt_tokens), generator=generator)
        times = run_rounds([*ours, *theirs], ids, arguments.decode_tokens, arguments.rounds)
    return list(_rows(times))


def clock() -> float:
    """Seconds; with one thread its own, without those in which other programs had the CPU."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


@dataclass
class Judgeq:
    """One of our models as a contender, with one method."""

    lm: LanguageModel
    label: str
    method: str
    budget: Budget
    plan: Callable[[int], Plan]

    def take(self, ids: Tensor, tokens: int) -> StepTiming:
        stamps = [clock()]
        found = prefill(self.lm, ids, [self.plan(ids.shape[1])])
        logits, cache = found.logits, found.retained[0].cache
        for _ in range(tokens):
            token = int(logits.argmax(-1))
            stamps.append(clock())
            logits = next_logits(self.lm, cache, token)
        first_s, *later = (after - before for before, after in pairwise([*stamps, clock()]))
        return StepTiming(first_s, median(later))


def _ours(model: str, budget: int) -> list[Judgeq]:
    """float32, then bfloat16 with the weights as PyTorch stores them and in every layout that this CPU has."""

    def load(dtype: str) -> LanguageModel:
        loaded = loading.load(model, dtype=dtype, device="cpu")
        for name, module in [*loaded.model.named_modules()]:  # as PyTorch stores them, whatever is fastest here
            if type(module) is OneRowLinear:
                sizes = module.in_features, module.out_features, module.bias is not None
                plain = nn.Linear(*sizes, device="meta")
                plain.weight, plain.bias = module.weight, module.bias
                loaded.model.set_submodule(name, plain)
        return loaded

    found = [(FLOAT32, load(FLOAT32)), (BFLOAT16, load(BFLOAT16))]
    for name, layout in LAYOUTS.items():
        lm = load(BFLOAT16)
        with contextlib.suppress(RuntimeError, AttributeError):  # this CPU or this PyTorch does not have it
            lay_out(lm.model, layout)
            found.append((f"{BFLOAT16}, {name} layout", lm))
    methods: list[tuple[Method, Budget]] = [(Full(), 1.0), (SnapKV(), budget)]
    return [
        Judgeq(lm, f"{label}, {method.name}", method.name, kept, partial(_plan, method, kept))
        for label, lm in found
        for method, kept in methods
    ]


def _plan(method: Method, budget: Budget, length: int) -> Plan:
    return Plan(method, budget_rows(budget, length))


def _rows(times: Sequence[Times]) -> Iterator[dict[str, Any]]:
    for each in times:
        yield {
            "label": each.contender.label,
            "first_s": round(each.median("first_s") or 0, 4),
            "token_s": round(each.median("token_s") or 0, 5),
            "first_over_float32": round(each.ratio("first_s", times[0]), 3),
            "token_over_float32": round(each.ratio("token_s", times[0]), 3),
        }


def gguf_of(model: str) -> Path:
    """The GGUF file of an embedded model, or the file itself.

    Raises:
        InputError: something else was named.
    """
    path = packaged_file(EMBEDDED[model].source) if model in EMBEDDED else Path(model).expanduser()
    if path.suffix.lower() != ".gguf" or not path.is_file():
        raise InputError(f"llama.cpp reads GGUF files and {model} is none: name one, or leave --python out")
    return path


@dataclass
class Llama:
    """llama.cpp as a contender."""

    server: Server
    label = method = LLAMA.name
    budget: Budget = 1.0

    def take(self, ids: Tensor, tokens: int) -> StepTiming:
        return StepTiming(**self.server.ask(ids=ids[0].tolist(), tokens=tokens))


# Products of one row


def _products(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All linear layers of the model once, in every layout: seconds, and bytes of weights a second."""
    lm = loading.load(arguments.model, dtype=BFLOAT16, device="cpu")
    weights = [module.weight for module in lm.model.modules() if isinstance(module, nn.Linear)]
    numbers = sum(each.numel() for each in weights)
    whole = torch.cat([each.float().flatten() for each in weights])
    target = torch.empty_like(whole)
    calls: dict[str, tuple[int, Callable[[], Any]]] = {"plain copy": (8, lambda: target.copy_(whole))}
    laid_out_s: dict[str, float] = {}
    for name, (size, dtype, prepare, multiply) in _tried().items():
        rows = {wide: torch.randn(1, wide).to(dtype) for wide in {each.shape[1] for each in weights}}
        with contextlib.suppress(RuntimeError, AttributeError):
            started = clock()
            products = [partial(multiply, rows[each.shape[1]], prepare(each)) for each in weights]
            laid_out_s[name] = round(clock() - started, 3)
            products[0]()
            calls[name] = size, partial(_each, products)
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for _, call in calls.values():
            call()
        for _ in range(arguments.rounds):
            for name, (_, call) in calls.items():
                started = clock()
                call()
                times[name].append(clock() - started)
    return [
        {
            "label": name,
            "seconds": round(median(times[name]), 5),
            "laid_out_s": laid_out_s.get(name),
            "gb_s": round(median(size * numbers / each for each in times[name]) / 1e9, 2),
            "over_float32": round(
                median(ours / usual for ours, usual in zip(times[name], times[FLOAT32], strict=True)), 3
            ),
        }
        for name, (size, _) in calls.items()
    ]


def _each(products: Sequence[Callable[[], Any]]) -> None:
    for product in products:
        product()


def _tried() -> dict[str, tuple[int, torch.dtype, Callable[[Tensor], Any], Callable[[Tensor, Any], Tensor]]]:
    """Layouts by name: bytes a weight, type of the row, how weights are stored, and how a row is multiplied by them."""
    quantized: Any = torch.ops.quantized

    def eight_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
        scales = weight.float().abs().amax(1) / 127
        return (weight / scales[:, None]).round().to(torch.int8), scales.bfloat16()

    def dynamic(weight: Tensor) -> Any:
        scales = (weight.float().abs().amax(1) / 127).double()
        zeros = torch.zeros(len(scales), dtype=torch.long)
        return quantized.linear_prepack(torch.quantize_per_channel(weight.float(), scales, zeros, 0, torch.qint8), None)

    ours = {
        f"{BFLOAT16}, {name} layout": (
            2,
            torch.bfloat16,
            layout.lay_out,
            partial(_ours_product, layout.multiply),
        )
        for name, layout in LAYOUTS.items()
    }
    return {
        FLOAT32: (4, torch.float32, Tensor.float, F.linear),
        "float32, transposed": (4, torch.float32, lambda each: each.float().T.contiguous(), torch.mm),
        BFLOAT16: (2, torch.bfloat16, lambda each: each, F.linear),
        **ours,
        "float32 times float16, FBGEMM": (
            2,
            torch.float32,
            lambda each: quantized.linear_prepack_fp16(each.float(), None),
            quantized.linear_dynamic_fp16,
        ),
        "bfloat16 times 8 bits": (
            1,
            torch.bfloat16,
            eight_bits,
            lambda row, stored: torch._weight_int8pack_mm(row, *stored),
        ),
        "8 bits times 8 bits, FBGEMM": (1, torch.float32, dynamic, quantized.linear_dynamic),
    }


def _ours_product(multiply: Callable[..., Tensor], row: Tensor, stored: Tensor) -> Tensor:
    return multiply(row, stored, None)


if __name__ == "__main__":
    sys.exit(main())
