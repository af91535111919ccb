"""Judge Q as a press of kvpress keeps the rows that Judge Q keeps here, and writes the same answer from them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kvpress_rows import removed
from judgeq._assets import assets_path
from judgeq.config import Decoding, Selection
from judgeq.inference.decode import decode
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import JudgeQ
from judgeq.models.embedded import embedded_model_path
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import build_prompt
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import MakeLM

ROOT = Path(__file__).resolve().parents[1]
OTHER_PYTHON = os.environ.get("JUDGEQ_KVPRESS_PYTHON", "")
TOKENS, BUDGET, LENGTH = 120, 24, 6
in_kvpress = pytest.mark.skipif(
    not OTHER_PYTHON, reason="JUDGEQ_KVPRESS_PYTHON names no Python of an environment with kvpress 0.5.5"
)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(3, 300, (1, TOKENS), generator=torch.Generator().manual_seed(1))


def soft_tokens(lm: LanguageModel, parts: str) -> SoftTokens:
    """Random ones with the parts asked for, of a size that changes what is kept."""
    tokens = SoftTokens.initialise(lm, torch.arange(10, 16))
    sizes, draw = lm.geometry, torch.Generator().manual_seed(2)
    offsets = torch.randn(sizes.layers, sizes.heads, 6, sizes.head_dim, generator=draw) if "offsets" in parts else None
    adapters = LowRank.zero(lm, 2, 0) if "adapters" in parts else None
    if adapters:
        up = {name: torch.randn(part.shape, generator=draw) * 0.3 for name, part in adapters.up.items()}
        adapters = LowRank(adapters.down, up)
    stored = SoftTokenTensors(tokens.weights.embeddings, offsets, adapters).tensors()
    return dataclasses.replace(tokens, weights=SoftTokenTensors.from_tensors(stored))


def saved(lm: LanguageModel, tokens: SoftTokens, folder: Path) -> tuple[Path, Path]:
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    return folder / "model", tokens.save_pretrained(folder / "judge")


def pressed(places: tuple[Path, Path], ids: torch.Tensor, folder: Path, pool: int | None) -> dict[str, Any]:
    """What kvpress' side says about a model and soft tokens, read from their folders."""
    request = {
        "model": str(places[0]),
        "tokens": str(places[1]),
        "ids": ids[0].tolist(),
        "ratio": removed(ids.shape[1], BUDGET),
        "pool": pool,
        "length": LENGTH,
    }
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    result = folder / "result.json"
    done = subprocess.run(
        [OTHER_PYTHON, str(ROOT / "tests" / "press_rows.py"), str(folder / "request.json"), str(result)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(result.read_text(encoding="utf-8"))


@in_kvpress
@pytest.mark.parametrize(
    ("family", "parts", "pool"),
    [
        ("llama", "embeddings", 1),
        ("llama", "embeddings", None),
        ("llama", "embeddings+offsets", 7),
        ("llama", "embeddings+offsets+adapters", 7),
        ("qwen3", "embeddings+offsets+adapters", None),
        ("phi3", "embeddings+adapters", 1),
    ],
)
def test_the_press_keeps_and_answers_as_we_do(
    make_lm: MakeLM, ids: torch.Tensor, tmp_path: Path, family: str, parts: str, pool: int | None
) -> None:
    lm = make_lm(family)
    tokens = soft_tokens(lm, parts)
    theirs = pressed(saved(lm, tokens, tmp_path), ids, tmp_path, pool)
    method = JudgeQ(selection=Selection(pool=pool)) if pool else JudgeQ()
    outcome = prefill(lm, ids, [Plan(method, BUDGET)], soft_tokens=tokens.weights)
    (ours,) = outcome.retained
    assert theirs["rows"] == [layer[0].tolist() for layer in ours.kept if layer is not None]
    steps = list(decode(lm, ours.cache, outcome.logits, Decoding(LENGTH)))
    assert theirs["written"][: len(steps)] == [step.token for step in steps]
    assert theirs["held"] == [BUDGET + LENGTH - 1] * 4
    assert theirs["gap"] < 1e-4
    assert theirs["hooks"] == []


@in_kvpress
@pytest.mark.embedded
def test_shipped_soft_tokens_keep_the_same_rows_there(smol: LanguageModel, tmp_path: Path) -> None:
    document = assets_path("samples", "hut.txt").read_text(encoding="utf-8")
    ids = build_prompt(smol, document, "What is the number of the mountain rescue?").input_ids
    theirs = pressed((embedded_model_path(), assets_path("soft_tokens", "smollm2-135m")), ids, tmp_path, None)
    weights = SoftTokens.for_model(smol).weights
    (ours,) = prefill(smol, ids, [Plan(JudgeQ(), BUDGET)], soft_tokens=weights).retained
    assert theirs["rows"] == [layer[0].tolist() for layer in ours.kept if layer is not None]


@in_kvpress
@pytest.mark.parametrize(
    ("parts", "changes", "said"),
    [
        ("embeddings", {"hidden_size": 32}, "width"),
        ("embeddings+offsets", {"num_hidden_layers": 2}, "query offsets"),
        ("embeddings+adapters", {"num_hidden_layers": 2}, "adapters"),
    ],
)
def test_soft_tokens_of_another_model_are_refused(
    make_lm: MakeLM,
    lm: LanguageModel,
    ids: torch.Tensor,
    tmp_path: Path,
    parts: str,
    changes: dict[str, int],
    said: str,
) -> None:
    places = saved(make_lm("llama", **changes), soft_tokens(lm, parts), tmp_path)
    theirs = pressed(places, ids, tmp_path, 1)
    assert f"soft tokens of tiny-llama, which do not fit this model ({said})" in theirs["refused"]


@in_kvpress
def test_layers_with_a_sliding_window_are_refused(make_lm: MakeLM, ids: torch.Tensor, tmp_path: Path) -> None:
    lm = make_lm("mistral", sliding_window=32)
    places = saved(lm, soft_tokens(lm, "embeddings"), tmp_path)
    assert "a sliding window" in pressed(places, ids, tmp_path, 1)["refused"]


def test_without_kvpress_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['kvpress'] = None; import judgeq.integrations.kvpress"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ImportError: A press needs kvpress: `pip install kvpress==0.5.5`" in done.stderr


def test_it_needs_nothing_of_ours_that_kvpress_environment_lacks() -> None:
    code = (
        "import sys, types; from unittest.mock import MagicMock\n"
        "sys.modules['kvpress'] = types.SimpleNamespace(ScorerPress=object)\n"
        "sys.modules['kvpress.utils'] = MagicMock()\n"
        "import judgeq.integrations.kvpress; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.split(".")[0] == "judgeq"} == {
        "judgeq",
        "judgeq._version",
        "judgeq.integrations",
        "judgeq.integrations.kvpress",
    }
    assert "transformers" not in loaded
