"""Budgets from small to whole for one question: what each point says, and that all come from one reading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import judgeq
from judgeq.cache.prefix import PrefixCache
from judgeq.config import Decoding, Selection
from judgeq.errors import InputError
from judgeq.methods import JudgeQ, question_methods
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.sweeping import BUDGETS, SweepPoint, sweep
from tests.fixtures import TEXT, four_tokens, without_end

DOCUMENT = f"{TEXT}The keeper is called Aldous. {TEXT}"
QUESTION = "How tall is the lighthouse?"
NAME = DOCUMENT.index("Aldous"), DOCUMENT.index("Aldous") + len("Aldous")
ANSWER = 8


@pytest.fixture
def soft(lm: LanguageModel) -> SoftTokens:
    return four_tokens(lm)


def points(lm: LanguageModel, **options: Any) -> list[SweepPoint]:
    options = {"tokens": four_tokens(lm), "max_new_tokens": ANSWER, **options}
    return list(sweep(lm, DOCUMENT, QUESTION, **options))


def forced_answer(lm: LanguageModel, answer: list[int], **options: Any) -> list[int]:
    """What an evicted cache would write behind each token of an answer, one token at a time."""
    (writer,) = judgeq.read(lm, DOCUMENT, QUESTION, **options).writers
    written = []
    for token in answer[:-1]:
        with torch.inference_mode():
            ids = torch.tensor([[token]])
            logits = lm.model(input_ids=ids, cache=writer.retained.cache, use_cache=True).logits
        written.append(int(logits[0, -1].argmax()))
    return written


@pytest.fixture
def endless(some_lm: LanguageModel) -> Iterator[LanguageModel]:
    with without_end(some_lm):
        yield some_lm


def test_all_rows_agree_entirely_and_one_row_does_not(endless: LanguageModel) -> None:
    methods = ("full", "judgeq", "snapkv", "h2o")
    found = points(endless, methods=methods, budgets=(1, 1.0), span=NAME)
    smallest, whole = found[: len(methods)], found[len(methods) :]
    layers = endless.geometry
    survival = len(layers.global_layers) / layers.layers  # the other layers' window is elsewhere
    assert [point.method for point in whole] == list(methods)
    assert {(point.agreement, point.survival, point.share) for point in whole} == {(1.0, survival, 1.0)}
    assert smallest[0].agreement == 1.0
    for point in smallest[1:]:
        assert point.agreement < 1.0, point.method
        assert point.rows == 1


def test_a_point_is_what_asking_at_that_budget_gives(lm: LanguageModel, soft: SoftTokens) -> None:
    reading = judgeq.read(lm, DOCUMENT, QUESTION, methods=["full"], decoding=Decoding(max_new_tokens=ANSWER))
    full = reading.writers[0].finish()
    tokens = [step.token for step in reading.writers[0].steps]
    assert len(tokens) > 3, "else there is nothing to agree with"
    names = [name for name in question_methods() if name != "full"]
    found = points(lm, methods=names, budgets=(0.1, 0.5), span=NAME)
    assert len(found) == 2 * len(names)
    for point in found:
        options = {
            "methods": [point.method],
            "budget": point.budget,
            "tokens": soft,
            "decoding": Decoding(max_new_tokens=ANSWER),
        }
        (writer,) = judgeq.read(lm, DOCUMENT, QUESTION, **options).writers
        shares = writer.retention.share_kept()[list(writer.retention.tokens_at(*NAME))]
        assert point.survival == pytest.approx(shares.mean())
        assert point.rows == writer.retention.budget
        assert point.share == pytest.approx(point.rows / full.prompt_tokens)
        assert point.answer == full.text.strip()
        assert point.prompt_tokens == full.prompt_tokens
        same = [a == b for a, b in zip(forced_answer(lm, tokens, **options), tokens[1:], strict=True)]
        assert point.agreement == pytest.approx(sum(same) / len(same)), point.method
    assert len({point.agreement for point in found}) > 1, "else nothing is shown"


def test_all_points_come_from_one_reading(lm: LanguageModel, soft: SoftTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    forward = lm.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        ids: Tensor | None = kwargs.get("input_ids")
        read.append((ids if ids is not None else kwargs["inputs_embeds"]).shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(lm.model, "forward", counted)
    found = points(lm, methods=("judgeq", "snapkv"), budgets=(0.1, 0.2, 0.4))
    tokens = found[0].prompt_tokens
    written = read[2:-9].count(1)  # the answer, written once
    assert read[0] == tokens - 32, "all but the window that SnapKV looks at"
    assert read[1] == 32, "the full cache"
    assert read[-3:].count(32 + soft.n) == 1, "a budget reads the window and the soft tokens, for both methods"
    assert sum(read) == tokens + 3 * (32 + soft.n) + written + 7 * written


def test_points_come_one_by_one_and_the_rows_of_one_budget_are_held_at_a_time(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import judgeq.sweeping as module

    held: list[int] = []
    real = module.prefill_with_lookahead

    def retain(*args: Any, **kwargs: Any) -> Any:
        outcome = real(*args, **kwargs)
        held.append(outcome.peak_rows)
        return outcome

    monkeypatch.setattr(module, "prefill_with_lookahead", retain)
    running = sweep(lm, DOCUMENT, QUESTION, methods=["snapkv"], budgets=(0.1, 0.2), max_new_tokens=4)
    first = next(running)
    assert len(held) == 2, "the full cache, and this budget alone"
    assert held[1] <= 4 * (first.prompt_tokens + first.rows) + first.prompt_tokens
    assert next(running).budget == 0.2
    assert next(running, None) is None


def test_a_sliding_window_and_a_ragged_layer_are_swept_too(make_lm: Any) -> None:
    gemma = make_lm("gemma3_text")
    method = JudgeQ(Selection(allocation="adakv"))
    found = points(gemma, methods=[method], budgets=(8, 1.0), span=NAME)
    assert found[1].agreement == 1.0
    assert 0 < found[0].survival < 1


@pytest.mark.parametrize("document", ["The sea.", DOCUMENT])
def test_a_prompt_shorter_than_the_window_is_swept(lm: LanguageModel, document: str) -> None:
    (point,) = sweep(lm, document, "?", methods=["snapkv"], budgets=[1.0], max_new_tokens=3)
    assert point.agreement == 1.0
    assert point.survival is None


def test_an_answer_of_one_token_has_nothing_to_disagree_about(lm: LanguageModel) -> None:
    (point,) = points(lm, methods=["streamingllm"], budgets=[1], max_new_tokens=1)
    assert point.agreement == 1.0


def test_it_can_be_stopped_in_every_part(lm: LanguageModel) -> None:
    layers = lm.geometry.layers
    calls: list[tuple[int, int]] = []
    list(
        sweep(
            lm, DOCUMENT, QUESTION, methods=["snapkv"], budgets=[0.2, 0.4], max_new_tokens=3,
            on_layer=lambda *done: calls.append(done),
        )
    )  # fmt: skip
    assert calls[:layers] == [(done, layers) for done in range(1, layers + 1)]
    assert set(calls[layers:]) == {(layers, layers)}
    assert len(calls) >= layers * 4 + 1  # the reading, the full cache, two budgets, and the answer

    for at in (1, layers + 1, len(calls)):
        seen: list[int] = []

        def stop(done: int, layers: int, at: int = at, seen: list[int] = seen) -> None:
            seen.append(done)
            if len(seen) == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(
                sweep(
                    lm,
                    DOCUMENT,
                    QUESTION,
                    methods=["snapkv"],
                    budgets=[0.2, 0.4],
                    max_new_tokens=3,
                    on_layer=stop,
                )
            )
        assert len(seen) == at, "not one step more"
    assert points(lm, methods=["snapkv"], budgets=[1.0])[0].agreement == 1.0, "the model is unharmed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": [0.1, 0.0]}, "budget is a share of 0.0"),
        ({"budgets": []}, "at least one method and one budget"),
        ({"methods": []}, "at least one method and one budget"),
        ({"methods": ["magic"]}, "no method 'magic'"),
        ({"span": (3, 3)}, r"span is \(3, 3\)"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ],
)
def test_bad_input_is_refused_before_anything_is_read(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(PrefixCache, "read", lambda *_, **__: pytest.fail("something was read"))
    with pytest.raises(InputError, match=message):
        points(lm, **options)


def test_the_page_about_it_runs_as_it_stands_there(
    lm: LanguageModel, soft: SoftTokens, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "sweep.md").read_text(encoding="utf-8")
    monkeypatch.setattr(judgeq, "load", lambda name: lm, raising=False)
    monkeypatch.setattr(SoftTokens, "for_model", lambda lm, name=None, **how: soft)
    names: dict[str, Any] = {"text": DOCUMENT}
    for code in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(code, names)
    shown = capsys.readouterr().out
    assert shown.count("judgeq  ") == shown.count("snapkv  ") == len(BUDGETS)
    assert 0 < names["point"].survival < 1


def test_the_front_of_the_package_has_it() -> None:
    assert judgeq.sweep is sweep
    assert judgeq.SweepPoint is SweepPoint
