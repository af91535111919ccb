"""The embedded model on real text: a planted fact survives eviction, on the shipped soft tokens."""

from __future__ import annotations

import json

import pytest

import judgeq
from judgeq._assets import assets_path
from judgeq.config import Decoding
from judgeq.inference.answers import Answer
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.training.config import TrainConfig

pytestmark = pytest.mark.embedded

SAMPLE = json.loads(assets_path("samples", "index.json").read_text(encoding="utf-8"))[0]
DOCUMENT = assets_path("samples", f"{SAMPLE['name']}.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def answered(smol: LanguageModel) -> dict[str, Answer]:
    """Full cache, Judge Q and its learned profile at 25 %, from one reading of a sample of about 1,000 tokens."""
    methods = ["full", "judgeq", method_from_text("judgeq:allocation=profile+adakv")]
    decoding = Decoding(max_new_tokens=24)
    reading = judgeq.read(smol, DOCUMENT, SAMPLE["question"], methods=methods, budget=0.25, decoding=decoding)
    answers = [writer.finish() for writer in reading.writers]
    return dict(zip(("full", "judgeq", "profile"), answers, strict=True))


def test_the_full_cache_and_judge_q_at_a_quarter_answer_a_planted_fact(answered: dict[str, Answer]) -> None:
    assert 900 < answered["full"].prompt_tokens < 1400
    for answer in answered.values():
        assert SAMPLE["answer"] in answer.text


def test_a_quarter_of_the_rows_is_a_quarter_of_the_bytes(answered: dict[str, Answer]) -> None:
    full, few = answered["full"], answered["judgeq"]
    rows = round(full.prompt_tokens * 0.25)
    assert few.kept_rows == [[rows - few.retention.memory_rows] * 3] * 30
    assert few.kv_bytes == 30 * 3 * rows * 64 * 2 * 4
    assert full.kv_bytes == few.full_kv_bytes == 30 * 3 * full.prompt_tokens * 64 * 2 * 4


def test_shipped_soft_tokens_fit_the_embedded_model(smol: LanguageModel) -> None:
    tokens = SoftTokens.for_model(smol)
    assert tokens.n == 32
    assert tokens.weights.adapters is not None
    assert tokens.profile is not None
    stages = [*tokens.config.earlier, tokens.config.recipe]
    assert [stage["start"] for stage in stages] == ["responses", "stage1", "stage2", "merged"]
    for stage in stages:
        TrainConfig.from_dict(stage)


def test_a_learned_profile_keeps_as_many_rows_in_all(answered: dict[str, Answer]) -> None:
    answer = answered["profile"]
    budget = round(answer.prompt_tokens * 0.25)
    rows = [rows + answer.retention.memory_rows for layer in answer.kept_rows for rows in layer]
    assert 0.98 * budget * 90 < sum(rows) <= budget * 90
    assert len(set(rows)) > 20
    assert answer.kv_bytes == sum(rows) * 64 * 2 * 4


def test_on_a_cpu_in_4_bit_a_planted_fact_is_answered_from_a_quarter_of_the_rows() -> None:
    """Soft tokens trained on the model in float32 look for the rows of its 4-bit version."""
    pytest.importorskip("bitsandbytes")
    lm = judgeq.load("smollm2-135m", quantization="4bit", device="cpu")
    answer = judgeq.ask(lm, DOCUMENT, SAMPLE["question"], budget=0.25, decoding=Decoding(max_new_tokens=24))
    assert SAMPLE["answer"] in answer.text
    assert 3.9 * answer.kv_bytes < answer.full_kv_bytes
