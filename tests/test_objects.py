"""What an object shows of itself is short, whatever it holds; comparing and hashing never trips over tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import judgeq
from judgeq.data.example import Example
from judgeq.evaluation.hit_rate import HitRate
from judgeq.evaluation.questions import Question, Task
from judgeq.export import Comparison, Settings
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import METHODS
from judgeq.methods.parsing import method_from_text
from judgeq.methods.selection import Forced
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.training.config import TrainConfig
from tests.fixtures import TEXT
from tests.test_profile import profile

LONG = 30 * TEXT
QUESTION = "Who names the captain? " * 30


@pytest.fixture(scope="module")
def tokens(lm: LanguageModel) -> SoftTokens:
    plain = SoftTokens.initialise(lm, torch.arange(10, 42))
    config = replace(plain.config, recipe=TrainConfig().to_dict(), metrics={f"m{at}": at for at in range(50)})
    weights = replace(plain.weights, query_offsets=torch.zeros(4, 4, 32, 16), adapters=LowRank.zero(lm, 2, 0))
    return SoftTokens(weights, config, profile(100, 200))


@pytest.fixture(scope="module")
def everything(lm: LanguageModel, tokens: SoftTokens) -> list[Any]:
    """One of each that a person may come to see, of a long document."""
    methods = ["full", "judgeq", method_from_text("snapkv:allocation=adakv"), method_from_text("h2o:bits=4")]
    decoding = judgeq.Decoding(max_new_tokens=200, evict_every=None, stop=tuple(f"stop {at}" for at in range(99)))
    reading = judgeq.read(
        lm, LONG, QUESTION, methods=methods, tokens=tokens, pinned=(0, 400), budget=400, decoding=decoding
    )
    answers = [writer.finish() for writer in reading.writers]
    document = judgeq.Document(lm, LONG).read()
    compressed = document.compress(method="snapkv", budget=64)
    example = Example.asking(LONG, QUESTION, "kind", answers=[QUESTION] * 30)
    question = Question(example)
    plan = Plan(METHODS["snapkv"](), 400, forced=Forced(tuple(range(300))))
    outcome = prefill(lm, reading.prompt.input_ids, [plan])
    answer = answers[1]
    return [
        lm,
        lm.geometry,
        tokens,
        tokens.config,
        tokens.weights,
        tokens.weights.adapters,
        tokens.profile,
        reading,
        reading.prompt,
        *reading.writers,
        *answers,
        answer.retention,
        answer.retention.explain(0, 3000),
        answer.timing,
        document,
        document.prefix,
        compressed,
        compressed.retained,
        compressed.retained.cache,
        document._rows,
        decoding,
        TrainConfig(),
        plan,
        plan.forced,
        outcome,
        *outcome.retained,
        example,
        *example.messages,
        question,
        Task("t", [question] * 50, notes=(LONG,)),
        HitRate("m", 3, ((0.1,) * 30,) * 90),
        Comparison(QUESTION, Settings("m", ("full",), 9), answers),
        *judgeq.sweep(lm, LONG, QUESTION, methods="snapkv", budgets=40, max_new_tokens=99),
        *(writer.steps[0] for writer in reading.writers),
        *(cls() for cls in METHODS.values()),
        *reading.writers[2].retained.cache.layers,
    ]


def test_nothing_shows_more_than_a_few_hundred_characters(everything: list[Any]) -> None:
    shown = {type(each).__name__: repr(each) for each in everything}
    assert {name: len(text) for name, text in shown.items() if len(text) > 400} == {}
    assert all("\n" not in text for text in shown.values())


def test_what_is_shown_names_the_object_and_its_sizes(lm: LanguageModel, tokens: SoftTokens) -> None:
    assert repr(tokens).startswith("SoftTokens(weights=SoftTokenTensors(embeddings=<Tensor 32 x 64 float32>, ")
    assert repr(lm).startswith("LanguageModel(name='tiny-llama', ")
    assert "name='tiny-llama'" in repr(lm)
    assert repr(SoftTokens.initialise(lm, torch.arange(3)).config).startswith(
        "SoftTokensConfig(base_model='tiny-llama', "
    )


def test_everything_can_be_compared_and_is_itself(everything: list[Any]) -> None:
    for each in everything:
        assert each == each
        assert (each != object()) is True
        if type(each).__hash__ is not None:
            assert hash(each) == hash(each)
            assert len({each, each}) == 1


def test_soft_tokens_are_equal_where_their_numbers_are(lm: LanguageModel, tokens: SoftTokens, tmp_path: Path) -> None:
    tokens.save_pretrained(tmp_path)
    again = SoftTokens.from_pretrained(tmp_path)
    assert again == SoftTokens.from_pretrained(tmp_path)
    assert hash(again) == hash(SoftTokens.from_pretrained(tmp_path))
    others = [
        replace(again, profile=None),
        replace(again, profile=profile(100, 201)),
        replace(again, weights=replace(again.weights, adapters=None)),
        replace(again, weights=replace(again.weights, embeddings=again.weights.embeddings + 1)),
        replace(again, config=replace(again.config, metrics={})),
    ]
    assert all(other != again for other in others)
    assert again != "soft tokens"


def test_two_readings_can_be_compared(lm: LanguageModel) -> None:
    first, second = (judgeq.read(lm, TEXT, "Who?", methods="snapkv") for _ in range(2))
    assert first != second
    assert first.prompt == second.prompt
    assert len({first.prompt, second.prompt}) == 1
    assert first.prompt != replace(first.prompt, input_ids=first.prompt.input_ids + 1)
    assert first.writers[0] != second.writers[0]
    assert len({first, second, first}) == 2
