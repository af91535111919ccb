"""Do the same methods keep the same rows in kvpress, on the same weights, tokens and settings?

    python -m benchmarks.parity --python kvpress-env/bin/python --json parity.json

kvpress runs in another environment, as `kvpress_rows.py`. Of rows that differ two kinds are counted: ties, where both
rows score the same but for rounding, and real differences.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks import kvpress_rows
from benchmarks.peers import KVPRESS, model_folder
from judgeq._assets import assets_path
from judgeq._version import versions
from judgeq.cli import run
from judgeq.commands.common import add_json, add_option, finish
from judgeq.config import parse_budget
from judgeq.data.example import Example
from judgeq.data.jsonl import read_json_lines
from judgeq.errors import InputError
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.prefill import prefill
from judgeq.inference.replay import prefill_with_replay
from judgeq.methods import Full, Method
from judgeq.methods.parsing import method_from_text
from judgeq.models import DEFAULT_MODEL
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load
from judgeq.prompts.prompt import Prompt, build_prefix
from judgeq.training.progress import Bars

TOLERANCE = 1e-5
"""Scores that differ by no more than this share of themselves are equal but for rounding."""


@dataclass(frozen=True)
class Pairing:
    """A press and the method that should keep the same rows, or is shown beside it.

    Attributes:
        press: class of kvpress, with `options`.
        ours: method as `method_from_text` reads it.
        equal: the settings mean the same, so every row that differs is a tie or a finding.
        scored: both give a row the same score, not only the same rank.
        attention: transformers' implementation that the press needs.
        inside: options of the SnapKVPress that the press wraps; None where it wraps none.
        replay: both read documents and evict by a replay of them; heads compete, and are compared as one.
    """

    name: str
    press: str
    options: dict[str, int]
    ours: str
    equal: bool = True
    scored: bool = True
    attention: str = "sdpa"
    inside: dict[str, int] | None = None
    replay: bool = False

    @property
    def method(self) -> Method:
        """Our side."""
        return method_from_text(self.ours)


WHOLE = 16
"""Rows of a window and of a chunk; prompts are cut to a multiple, so that all chunks are whole."""

WINDOW = {"window_size": WHOLE, "kernel_size": 1}
OURS = f"window={WHOLE}:recent={WHOLE}"
PAIRINGS = (
    Pairing("snapkv", "SnapKVPress", WINDOW, f"snapkv:{OURS}:pool=1"),
    Pairing("streamingllm", "StreamingLLMPress", {"n_sink": 4}, "streamingllm:sinks=4:pool=1", scored=False),
    Pairing("keynorm", "KnormPress", {}, "keynorm:pool=1"),
    # the press is given the attention, which only the eager implementation keeps
    Pairing("h2o", "ObservedAttentionPress", {}, "h2o:average=true:recent=0:pool=1", attention="eager"),
    Pairing("tova", "TOVAPress", {}, "tova"),
    Pairing(
        *("chunkkv", "ChunkKVPress", {"chunk_length": WHOLE}, f"chunkkv:{OURS}:chunk={WHOLE}"),
        scored=False,
        inside=WINDOW,
    ),
    Pairing("expectedattention", "ExpectedAttentionPress", {}, "expectedattention"),
    Pairing("kvzip", "KVzipPress", {"layerwise": True}, "kvzip", replay=True),
    Pairing("kvzip+", "KVzipPress", {"layerwise": True, "kvzip_plus_normalization": True}, "kvzip+", replay=True),
    Pairing("snapkv-pooled", "SnapKVPress", {**WINDOW, "kernel_size": 5}, f"snapkv:{OURS}:pool=5", equal=False),
    Pairing("snapkv-default", "SnapKVPress", {"window_size": 64, "kernel_size": 5}, "snapkv", equal=False),
    Pairing("pyramidkv", "PyramidKVPress", WINDOW, f"pyramidkv:{OURS}:pool=1", equal=False),
)
"""What is compared. A window of 16 leaves the smallest budgets rows to choose; pooling is compared on its own."""


@dataclass(frozen=True)
class Counts:
    """Kept rows, of one layer or of many: on each side, on both, and `ties` that differ while their scores do not."""

    kept: int = 0
    same: int = 0
    ties: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.kept + other.kept, self.same + other.same, self.ties + other.ties)


@dataclass
class Agreement:
    """One pairing at one budget, over all prompts.

    Attributes:
        layers: counts by layer, where both sides keep equally many rows.
        sizes: rows per KV head by layer, (ours, theirs); of the last prompt.
        score_gap: largest difference between two scores of a row, as a share of theirs.
    """

    pairing: Pairing
    budget: int
    layers: dict[int, Counts] = field(default_factory=dict)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    score_gap: float = 0.0

    @property
    def total(self) -> Counts:
        """Over all layers."""
        return sum(self.layers.values(), Counts())

    def add(self, retained: Retained, theirs: dict[str, Tensor]) -> None:
        """Count one prompt's rows; layers that one side leaves alone do not count."""
        prefix, selection = f"{self.pairing.name}.{self.budget}", retained.plan.method.selection
        for layer, (kept, scores) in enumerate(zip(retained.kept, retained.scores, strict=True)):
            rows = theirs.get(f"{prefix}.rows.{layer}")
            if kept is None or scores is None or rows is None:
                continue
            by_press = theirs[f"{prefix}.scores.{layer}"]
            length = scores.shape[-1]
            if self.pairing.replay:  # (1, H_kv * rows)
                ours = torch.cat([rows + head * length for head, rows in enumerate(kept)])[None]
            else:
                ours = torch.stack(kept) if isinstance(kept, tuple) else kept[0]  # (H_kv, rows)
            self.sizes[layer] = ours.shape[1], rows.shape[1]
            if ours.shape != rows.shape:
                continue
            counted = by_press.flatten()[None] if self.pairing.replay else by_press
            self.layers[layer] = self.layers.get(layer, Counts()) + count_rows(ours, rows, counted)
            if self.pairing.equal and self.pairing.scored:
                # kvpress gives sinks and window a score of their own
                own = slice(selection.sinks, length - selection.recent)
                self.score_gap = max(self.score_gap, score_gap(scores[0, :, own], by_press[:, own]))

    def to_row(self, prompts: int) -> dict[str, Any]:
        """One row of a results file; `score` is None where the two sides keep different numbers of rows."""
        total, pairing = self.total, self.pairing
        row: dict[str, Any] = {
            "method": pairing.ours,
            "press": pairing.press,
            "options": pairing.options,
            "attention": pairing.attention,
            "budget": self.budget,
            "task": f"parity/{pairing.name}",
            "metric": "agreement",
            "n": prompts,
            "equal_settings": pairing.equal,
        }
        ours, theirs = (list(sizes) for sizes in zip(*self.sizes.values(), strict=True))
        if ours != theirs:
            return {**row, "score": None, "layer_rows": {"ours": ours, "kvpress": theirs}}
        if pairing.equal and pairing.scored:
            row["score_gap"] = float(f"{self.score_gap:.1e}")
        return {
            **row,
            "score": round(total.same / total.kept, 4),
            **asdict(total),
            "different": total.kept - total.same - total.ties,
            "per_layer": [round(layer.same / layer.kept, 3) for layer in self.layers.values()],
        }


@dataclass(frozen=True)
class Comparison:
    """Outcome of `compare`, pairing by pairing and budget by budget.

    `key_gap` is the largest difference between two numbers of the keys; `about` has the versions over there.
    """

    agreements: tuple[Agreement, ...]
    key_gap: float
    about: dict[str, str]


def count_rows(ours: Tensor, theirs: Tensor, scores: Tensor) -> Counts:
    """Compare the rows of one layer.

    A tie swaps a row of theirs for one of ours, and both score as the last row that they keep.

    Args:
        ours, theirs: (H_kv, rows) row indices, distinct in each head.
        scores: (H_kv, T) by which theirs were chosen.
    """
    kept, wanted = (
        torch.zeros(scores.shape, dtype=torch.bool).scatter(1, rows.long(), True) for rows in (ours, theirs)
    )
    cut = scores.gather(1, theirs.long()).amin(-1, keepdim=True)
    close = (scores - cut).abs() <= TOLERANCE * cut.abs()
    swapped = torch.minimum((kept & ~wanted & close).sum(-1), (wanted & ~kept & close).sum(-1))
    return Counts(theirs.numel(), int((kept & wanted).sum()), int(swapped.sum()))


def score_gap(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two scores as a share of theirs; two zeros do not differ."""
    smallest = torch.finfo(torch.float32).tiny
    return float(((ours - theirs).abs() / theirs.abs().clamp_min(smallest)).max())


def compare(
    lm: LanguageModel,
    folder: Path,
    prompts: Sequence[Tensor],
    budgets: Sequence[int],
    python: str,
    *,
    documents: Sequence[Prompt] = (),
    pairings: Sequence[Pairing] = PAIRINGS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Let both sides read the prompts and count.

    Args:
        lm: the model in float32 on the CPU.
        folder: the same model as transformers reads it.
        prompts: token ids, each (1, T).
        budgets: rows per KV head.
        python: interpreter of the environment with kvpress.
        documents: what pairings that replay read, see `build_prefix`.

    Raises:
        InputError: a prompt is too short for a budget or a press, kvpress cannot be run, or there is no layer that
            both sides evict from.
    """
    longest = max([*budgets, *(value for pairing in pairings for value in pairing.options.values())])
    if any(ids.shape[1] <= longest for ids in prompts):
        raise InputError(f"A prompt has no more than {longest} tokens: give longer prompts, or smaller budgets")
    found = [Agreement(pairing, budget) for pairing in pairings for budget in budgets]
    reading, replaying = ([each for each in found if each.pairing.replay is replay] for replay in (False, True))
    plans = [Plan(Full(), 1), *(Plan(each.pairing.method, each.budget) for each in reading)]
    gap = 0.0
    with TemporaryDirectory() as place:
        request = {
            "model": str(folder.resolve()),
            "prompts": [ids[0].tolist() for ids in prompts],
            "documents": [document.input_ids[0].tolist() for document in documents],
            "budgets": list(budgets),
            "presses": [asdict(pairing) for pairing in pairings],
        }
        about = ask_kvpress(python, request, Path(place))
        for at, ids in enumerate(prompts):
            theirs = load_file(Path(place) / f"prompt{at}.safetensors")
            full, *retained = prefill(lm, ids, plans).retained
            for agreement, ours in zip(reading, retained, strict=True):
                agreement.add(ours, theirs)
            gap = max(gap, _key_gap(full, theirs))
            progress(at + 1, len(prompts) + len(documents))
        for at, document in enumerate(documents if replaying else ()):
            theirs = load_file(Path(place) / f"document{at}.safetensors")
            for _, group in itertools.groupby(replaying, key=lambda each: each.pairing.name):
                own = list(group)
                same = [Plan(each.pairing.method, each.budget) for each in own]
                retained = prefill_with_replay(lm, document, same).retained
                for agreement, ours in zip(own, retained, strict=True):
                    agreement.add(ours, theirs)
            progress(len(prompts) + at + 1, len(prompts) + len(documents))
    if not all(each.sizes for each in found):
        raise InputError(f"{lm.name} has no layer that both sides evict from: give a model without windows")
    return Comparison(tuple(found), gap, about)


def ask_kvpress(python: str, request: dict[str, Any], folder: Path) -> dict[str, str]:
    """Run `kvpress_rows.py` under another Python; its files are in `folder` afterwards. Gives the versions there.

    Raises:
        InputError: there is no such Python, it has no kvpress, or kvpress fails.
    """
    question = folder / "request.json"
    question.write_text(json.dumps(request), encoding="utf-8")
    try:
        done = subprocess.run(
            [python, "-I", str(Path(kvpress_rows.__file__)), str(question), str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise KVPRESS.not_a_python(python, error) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise KVPRESS.failed(python, done.returncode, last)
    about: dict[str, str] = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return about


def _key_gap(full: Retained, theirs: dict[str, Tensor]) -> float:
    """Largest difference between two numbers of the keys, over the layers that hold all of them on both sides."""
    layers = [(layer, f"keys.{at}") for at, layer in enumerate(full.cache.layers) if not layer.is_sliding]
    gaps = [float((layer.keys[0] - theirs[name]).abs().max()) for layer, name in layers if name in theirs]
    return max(gaps, default=0.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and write the result; returns the exit code."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parity",
        description="The rows that kvpress keeps and ours, on the same weights and tokens.",
    )
    parser.set_defaults(run=measure)
    add_option(parser, "--python", "FILE", f"Python of an environment with {KVPRESS.requirement}", required=True)
    add_option(parser, "--model", "NAME", "embedded name or folder with safetensors", DEFAULT_MODEL)
    add_option(parser, "--data", "FILE.jsonl", "prompts; the sample documents with their questions by default")
    add_option(parser, "--budgets", "N,M", "rows per KV head", "32,64,128")
    add_json(parser)
    return parser


def measure(arguments: argparse.Namespace) -> None:
    """What the command does."""
    budgets = _budgets(arguments.budgets)
    examples = _examples(arguments.data)
    folder = model_folder(arguments.model)
    lm = load(arguments.model, dtype="float32", device="cpu")
    prompts = [ids[:, : ids.shape[1] // WHOLE * WHOLE] for ids in (each.input_ids(lm) for each in examples)]
    documents = [build_prefix(lm, example.messages[-1].content) for example in examples]
    with Bars() as bars:
        bars.note(f"kvpress reads {len(prompts):,} prompts …")
        advance = partial(bars.advance, "prompts")
        outcome = compare(lm, folder, prompts, budgets, arguments.python, documents=documents, progress=advance)
    rows = [agreement.to_row(len(prompts)) for agreement in outcome.agreements]
    result = {
        "model": lm.name,
        "settings": {
            "data": arguments.data or "samples",
            "prompt_tokens": [ids.shape[1] for ids in prompts],
            "tolerance": TOLERANCE,
        },
        "versions": versions(("torch", "transformers")),
        "kvpress": outcome.about,
        "key_gap": float(f"{outcome.key_gap:.1e}"),
        "rows": rows,
    }
    finish(arguments, result, *_table(rows))


def _budgets(text: str) -> list[int]:
    budgets = [parse_budget(part) for part in text.split(",")]
    if any(isinstance(budget, float) for budget in budgets):
        raise InputError("Parity counts rows: give whole numbers such as 64 as --budgets")
    return [int(budget) for budget in budgets]


def _examples(data: str | None) -> list[Example]:
    if data is not None:
        return [line.example for line in read_json_lines(Path(data))[0]]
    index = json.loads(assets_path("samples", "index.json").read_text(encoding="utf-8"))
    texts = [assets_path("samples", f"{entry['name']}.txt").read_text(encoding="utf-8") for entry in index]
    return [Example.asking(text.strip(), entry["question"], "sample") for text, entry in zip(texts, index, strict=True)]


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        name = f"{row['task'].removeprefix('parity/'):15} {row['budget']:>5}"
        if row["score"] is None:
            sizes = row["layer_rows"]
            yield f"{name}  rows by layer {sizes['ours']}, kvpress {sizes['kvpress']}"
        else:
            yield f"{name}  {row['score']:.4f}  {row['ties']:,} ties, {row['different']:,} different"


if __name__ == "__main__":
    sys.exit(main())
