"""A run that goes on mixes no answers: what they were made with is compared, down to tensors and options."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from judgeq.config import Selection
from judgeq.data.example import Example
from judgeq.errors import InputError
from judgeq.evaluation import setup as setups
from judgeq.evaluation.journal import Answers, Journal, Rated
from judgeq.evaluation.questions import Question, Task
from judgeq.evaluation.runner import Asked, asked_of, run
from judgeq.evaluation.setup import setup_of, taken_for_granted
from judgeq.methods import Method, RandomRows, SnapKV
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.fixtures import TEXT
from tests.test_profile import profile


def with_weights(tokens: SoftTokens, **changes: object) -> SoftTokens:
    return replace(tokens, weights=replace(tokens.weights, **changes))


def tokens_of(lm: LanguageModel, factor: float = 1.0) -> SoftTokens:
    """Soft tokens with adapters, whose terms are `factor` times as large."""
    plain = SoftTokens.initialise(lm, torch.arange(10, 18))
    adapters = LowRank.zero(lm, 2, 0)
    adapters = LowRank(adapters.down, {name: torch.full_like(up, factor) for name, up in adapters.up.items()})
    return with_weights(plain, adapters=adapters)


def opened(path: Path, lm: LanguageModel, tokens: SoftTokens | None, precision: str = "float32") -> Journal:
    setup = setup_of(lm, tokens, precision)
    return Journal(path, setup, taken_for_granted(lm, setup))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("soft tokens", lambda tokens: with_weights(tokens, embeddings=tokens.weights.embeddings * 2)),
        ("adapters and profile", lambda tokens: with_weights(tokens, adapters=None)),
        ("adapters and profile", lambda tokens: replace(tokens, profile=profile(100))),
        ("soft tokens", lambda tokens: None),
    ],
    ids=["embeddings", "no adapters", "a profile", "none"],
)
def test_other_soft_tokens_are_noticed(
    lm: LanguageModel, tmp_path: Path, field: str, change: Callable[[SoftTokens], SoftTokens | None]
) -> None:
    path, tokens = tmp_path / "items.jsonl", tokens_of(lm)
    opened(path, lm, tokens)
    opened(path, lm, tokens_of(lm))
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"holds answers with the {field} "):
        opened(path, lm, change(tokens))
    assert path.read_bytes() == before


def test_other_numbers_in_the_adapters_are_noticed(lm: LanguageModel, tmp_path: Path) -> None:
    opened(tmp_path / "items.jsonl", lm, tokens_of(lm))
    with pytest.raises(InputError, match="the adapters and profile "):
        opened(tmp_path / "items.jsonl", lm, tokens_of(lm, 1.01))


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_other_libraries(lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    opened(tmp_path / "items.jsonl", lm, None)
    known = setups.metadata.version
    monkeypatch.setattr(setups.metadata, "version", lambda name: "9.9" if name == package else known(name))
    with pytest.raises(InputError, match=f"the {package} '.*' and this run has '9.9'"):
        opened(tmp_path / "items.jsonl", lm, None)


def test_another_model_of_this_name_is_noticed(make_lm: Callable[..., LanguageModel], tmp_path: Path) -> None:
    opened(tmp_path / "items.jsonl", make_lm(seed=1), None)
    opened(tmp_path / "items.jsonl", make_lm(seed=1), None)
    with pytest.raises(InputError, match="the weights "):
        opened(tmp_path / "items.jsonl", make_lm(seed=2), None)
    with pytest.raises(InputError, match="the precision "):
        opened(tmp_path / "items.jsonl", make_lm(seed=1), None, "8bit")
    cast = make_lm(seed=1)
    cast.model.to(torch.bfloat16)
    with pytest.raises(InputError, match=r"the (weights|number type) "):
        opened(tmp_path / "items.jsonl", cast, None)


def asked(label: str, method: Method) -> list[Asked]:
    return asked_of({label: method}, [20])


def answered(lm: LanguageModel, path: Path, label: str, method: Method) -> Answers:
    task = Task("t", [Question(Example.asking(TEXT, "Who?", "k", answers="x"), max_new_tokens=3)])
    return run(lm, [task], asked(label, method), tokens=None, journal=opened(path, lm, None))[0].answers[0]


@pytest.mark.parametrize("other", [SnapKV(window=8), SnapKV(selection=Selection(pool=7)), RandomRows()], ids=str)
def test_a_method_with_other_options_is_refused(lm: LanguageModel, tmp_path: Path, other: Method) -> None:
    path = tmp_path / "items.jsonl"
    assert answered(lm, path, "mine", SnapKV()) == answered(lm, path, "mine", SnapKV())
    with pytest.raises(InputError, match="mine@20 that were made with other options"):
        answered(lm, path, "mine", other)
    assert set(answered(lm, path, "other", other)) == {"mine@20", "other@20"}


def older(path: Path, lm: LanguageModel, tokens: SoftTokens | None, *names: str) -> None:
    """A file as judgeq 0.1.0 wrote it."""
    setup = setup_of(lm, tokens, "float32")
    first = {name: setup[name] for name in ("model", "revision", "precision", "soft tokens")}
    task = Question(Example.asking(TEXT, "Who?", "k", answers="x"), max_new_tokens=3)
    line = {"key": task.key, "task": "t", "answers": [{"text": "old", "score": 0.0, "by": names}]}
    path.write_text("\n".join(map(json.dumps, ({"setup": first}, line))) + "\n")


def test_an_older_file_says_from_then_on_what_it_did_not(lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    older(path, lm, None, "snapkv@20")
    journal = opened(path, lm, None)
    assert journal.unsaid == ["weights", "number type", "tokenizer", "torch", "transformers"]
    assert answered(lm, path, "snapkv", SnapKV())["snapkv@20"] == Rated("old", 0.0)
    assert opened(path, lm, None).unsaid == []


def test_random_rows_of_an_older_file_are_drawn_again(lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    older(path, lm, None, "random@20")
    found = answered(lm, path, "random", RandomRows())["random@20"]
    assert found.text != "old"
    assert answered(lm, path, "random", RandomRows())["random@20"] == found


def test_an_older_file_of_soft_tokens_that_are_not_shipped_is_refused(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tokens = tmp_path / "items.jsonl", tokens_of(lm)
    older(path, lm, tokens, "judgeq@20")
    with pytest.raises(InputError, match="the adapters and profile None"):
        opened(path, lm, tokens)
    tokens.save_pretrained(tmp_path / "shipped")
    monkeypatch.setattr("judgeq.soft_tokens.soft_tokens.shipped_for", lambda lm, question: tmp_path / "shipped")
    with pytest.raises(InputError, match="the adapters and profile "):
        opened(path, lm, tokens_of(lm, 1.01))
    assert opened(path, lm, tokens).unsaid[-1] == "adapters and profile"


@pytest.mark.embedded
def test_a_published_run_can_be_gone_on_with_by_the_judge_that_made_it(smol: LanguageModel, tmp_path: Path) -> None:
    path, tokens = tmp_path / "items.jsonl", SoftTokens.for_model(smol)
    path.write_bytes(Path("assets/results/ruler_words.items.jsonl").read_bytes())
    assert not opened(path, smol, tokens).unsaid
    path.write_bytes(Path("assets/results/ruler.items.jsonl").read_bytes())
    with pytest.raises(InputError, match="answers with the soft tokens"):
        opened(path, smol, tokens)
