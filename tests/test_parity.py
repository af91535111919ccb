"""Parity with kvpress: agreement, ties and differences are told apart, and the document says what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks import kvpress_rows, parity
from benchmarks.parity import PAIRINGS, Comparison, Counts, Pairing, compare, count_rows
from judgeq.data.jsonl import read_json_lines
from judgeq.errors import InputError
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.inference.replay import prefill_with_replay
from judgeq.methods import Full
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Prompt, build_prefix
from tests.fixtures import TEXT

OTHER_PYTHON = os.environ.get("JUDGEQ_KVPRESS_PYTHON", "")
SNAPKV = Pairing("snapkv", "SnapKVPress", {"window_size": 4, "kernel_size": 1}, "snapkv:window=4:recent=4:pool=1")
KVZIP = Pairing("kvzip", "KVzipPress", {}, "kvzip", replay=True)
PYRAMID = Pairing("pyramidkv", "PyramidKVPress", {"window_size": 4}, "pyramidkv:window=4:recent=4:pool=1", equal=False)


def prompt(tokens: int = 60) -> Tensor:
    return torch.randint(3, 300, (1, tokens), generator=torch.Generator().manual_seed(1))


def copy(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def heads_as_one(lm: LanguageModel, document: Prompt, pairings: list[Pairing], budget: int) -> dict[str, Tensor]:
    """What the other side would write of a replay if it agreed."""
    written = {}
    for pairing in pairings:
        ours = prefill_with_replay(lm, document, [Plan(pairing.method, budget)]).retained[0]
        for layer, (heads, scores) in enumerate(zip(ours.kept, ours.scores, strict=True)):
            rows = [rows + head * document.tokens for head, rows in enumerate(heads)]
            written[f"{pairing.name}.{budget}.rows.{layer}"] = torch.cat(rows)[None]
            written[f"{pairing.name}.{budget}.scores.{layer}"] = copy(scores[0])
    return written


def rows_as_ours(lm: LanguageModel, ids: Tensor, pairings: list[Pairing], budget: int) -> dict[str, Tensor]:
    """What the other side would write if it agreed, free to be changed."""
    plans = [Plan(Full(), 1), *(Plan(pairing.method, budget) for pairing in pairings)]
    full, *retained = prefill(lm, ids, plans).retained
    written = {f"keys.{at}": copy(layer.keys[0]) for at, layer in enumerate(full.cache.layers)}
    for pairing, ours in zip(pairings, retained, strict=True):
        for layer, (kept, scores) in enumerate(zip(ours.kept, ours.scores, strict=True)):
            rows = torch.stack(kept) if isinstance(kept, tuple) else kept[0]
            written[f"{pairing.name}.{budget}.rows.{layer}"] = copy(rows)
            written[f"{pairing.name}.{budget}.scores.{layer}"] = copy(scores[0])
    return written


def compared(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, written: dict[str, Tensor], *pairings: Pairing
) -> Comparison:
    """The outcome where the other side has written these tensors."""

    def ask(python: str, request: dict[str, Any], folder: Path) -> dict[str, str]:
        assert request["prompts"] == [prompt()[0].tolist()]
        assert [press["press"] for press in request["presses"]] == [each.press for each in pairings]
        save_file(written, folder / "prompt0.safetensors")
        return {"kvpress": "0.5.5"}

    monkeypatch.setattr(parity, "ask_kvpress", ask)
    return compare(lm, Path("model"), [prompt()], [12], "python", pairings=pairings)


# Counting


def test_rows_in_any_order_agree() -> None:
    scores = torch.arange(10.0).expand(2, -1)
    ours, theirs = torch.tensor([[7, 8, 9], [7, 8, 9]]), torch.tensor([[9, 8, 7], [8, 9, 7]])
    assert count_rows(ours, theirs, scores) == Counts(kept=6, same=6)


def test_a_row_that_scores_as_the_last_one_kept_is_a_tie() -> None:
    scores = torch.tensor([[0.5, 0.25, 0.25 * (1 + 5e-6), 0.1], [0.5, 0.25, 0.25 * (1 - 1e-3), 0.1]])
    ours, theirs = torch.tensor([[0, 1], [0, 2]]), torch.tensor([[0, 2], [0, 1]])
    assert count_rows(ours, theirs, scores) == Counts(kept=4, same=2, ties=1)


def test_a_high_score_is_no_tie_and_a_window_larger_than_the_budget_ties() -> None:
    scores = torch.tensor([[0.9, 0.25, 0.25, 0.1]])
    assert count_rows(torch.tensor([[1, 2]]), torch.tensor([[0, 1]]), scores) == Counts(kept=2, same=1)
    scores = torch.tensor([[0.1, 2.0, 2.0, 2.0, 2.0]])
    assert count_rows(torch.tensor([[3, 4]]), torch.tensor([[1, 2]]), scores) == Counts(kept=2, ties=2)


# Comparing


def test_equal_rows_scores_and_keys(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = compared(lm, monkeypatch, rows_as_ours(lm, prompt(), [SNAPKV], 12), SNAPKV)
    (row,) = (agreement.to_row(1) for agreement in outcome.agreements)
    assert (row["score"], row["ties"], row["different"], row["kept"]) == (1.0, 0, 0, 4 * 2 * 12)
    assert (row["task"], row["budget"], row["score_gap"]) == ("parity/snapkv", 12, 0.0)
    assert row["per_layer"] == [1.0] * 4
    assert outcome.key_gap == 0.0


def test_other_rows_scores_and_keys_are_found(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    written = rows_as_ours(lm, prompt(), [SNAPKV], 12)
    rows, scores = written["snapkv.12.rows.2"], written["snapkv.12.scores.2"]
    rest = scores[0].clone()
    rest[rows[0]] = torch.inf
    rows[0, 0] = rest.argmin()  # the least of all
    scores[1, 5] *= 1.5
    written["keys.1"][0, 0, 0] += 0.25
    outcome = compared(lm, monkeypatch, written, SNAPKV)
    (row,) = (agreement.to_row(1) for agreement in outcome.agreements)
    assert (row["same"], row["ties"], row["different"]) == (95, 0, 1)
    assert row["per_layer"] == [1.0, 1.0, round(23 / 24, 3), 1.0]
    assert row["score_gap"] == pytest.approx(1 / 3, abs=0.01)
    assert outcome.key_gap == pytest.approx(0.25)


def test_heads_that_compete_are_compared_as_one(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    document = build_prefix(lm, TEXT)
    replayed = heads_as_one(lm, document, [KVZIP], 12)
    rows = replayed["kvzip.12.rows.1"]
    rows[0, -1] = next(row for row in range(rows.max()) if row not in rows)
    written = rows_as_ours(lm, prompt(), [SNAPKV], 12)

    def ask(python: str, request: dict[str, Any], folder: Path) -> dict[str, str]:
        assert request["documents"] == [document.input_ids[0].tolist()]
        save_file(written, folder / "prompt0.safetensors")
        save_file(replayed, folder / "document0.safetensors")
        return {}

    monkeypatch.setattr(parity, "ask_kvpress", ask)
    pairings = [KVZIP, SNAPKV]
    outcome = compare(lm, Path("m"), [prompt()], [12], "python", documents=[document], pairings=pairings)
    kvzip, snapkv = (agreement.to_row(1) for agreement in outcome.agreements)
    assert (kvzip["kept"], kvzip["same"], kvzip["different"]) == (4 * 2 * 12, 4 * 2 * 12 - 1, 1)
    assert (snapkv["same"], kvzip["score_gap"]) == (4 * 2 * 12, 0.0)


def test_other_numbers_of_rows_stand_side_by_side(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    written = rows_as_ours(lm, prompt(), [PYRAMID], 12)
    ours = [written[f"pyramidkv.12.rows.{layer}"].shape[1] for layer in range(4)]
    for layer in range(4):
        written[f"pyramidkv.12.rows.{layer}"] = torch.arange(12).expand(2, -1).contiguous()
    (agreement,) = compared(lm, monkeypatch, written, PYRAMID).agreements
    row = agreement.to_row(1)
    assert row["score"] is None
    assert row["layer_rows"] == {"ours": ours, "kvpress": [12] * 4}
    assert ours[0] > ours[3]
    assert set(agreement.layers) == {layer for layer, rows in enumerate(ours) if rows == 12}


def test_layers_left_alone_do_not_count(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    written = rows_as_ours(lm, prompt(), [SNAPKV], 12)
    only = {name: tensor for name, tensor in written.items() if name.endswith(".3")}
    (agreement,) = compared(lm, monkeypatch, only, SNAPKV).agreements
    assert agreement.total == Counts(kept=24, same=24)
    with pytest.raises(InputError, match="no layer that both sides evict from"):
        compared(lm, monkeypatch, {"keys.0": written["keys.0"]}, SNAPKV)


def test_a_prompt_must_be_longer_than_budgets_and_windows(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="no more than 64 tokens: give longer prompts"):
        compare(lm, Path("model"), [prompt(60)], [12], "python")


def test_every_pairing_names_a_method_of_ours() -> None:
    assert len({pairing.name for pairing in PAIRINGS}) == len(PAIRINGS)
    names = "snapkv streamingllm keynorm h2o pyramidkv tova chunkkv expectedattention kvzip kvzip+"
    assert {pairing.method.name for pairing in PAIRINGS} == set(names.split())


# The other Python


def test_why_kvpress_cannot_be_run_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho one >&2\necho 'ImportError: no torch' >&2\nexit 1\n")
    python.chmod(0o755)
    for place, said in (
        (str(tmp_path / "nowhere"), "nowhere is not a working Python"),
        (sys.executable, r"has no kvpress: install it there with .* kvpress==0\.5\.5"),
        (str(python), r"failed \(ImportError: no torch\)"),
    ):
        with pytest.raises(InputError, match=said):
            parity.ask_kvpress(place, {}, tmp_path)


def test_the_script_needs_nothing_of_ours(tmp_path: Path) -> None:
    code = f"import runpy, sys; runpy.run_path({str(kvpress_rows.__file__)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {module.split(".")[0] for module in done.stdout.split()}
    assert not loaded & {"judgeq", "torch", "transformers", "kvpress"}


def test_the_share_to_remove_keeps_the_budget_however_a_press_rounds() -> None:
    for length in range(130, 1200, 7):
        for budget in (1, 32, 64, 128):
            kept = length * (1 - kvpress_rows.removed(length, budget))
            assert int(kept) == round(kept) == budget


def test_row_numbers_travel_through_a_press_and_nothing_is_removed() -> None:
    def top_rows(
        module: object, hidden: object, keys: Tensor, values: Tensor, attentions: object, kwargs: object
    ) -> tuple[Tensor, Tensor]:
        rows = keys[..., :1].topk(2, dim=2).indices.expand(-1, -1, -1, keys.shape[3])
        return keys.gather(2, rows), values.gather(2, rows)

    press = SimpleNamespace(score=lambda *given: given[2][..., 0], compress=top_rows)
    found: dict[str, Tensor] = {}
    keys = torch.tensor([3.0, 9.0, 5.0])[:, None].expand(1, 2, 3, 4)
    passed = kvpress_rows._recorder({"top.2": press}, found)(SimpleNamespace(layer_idx=7), None, keys, keys, None, {})
    assert passed[0] is keys
    assert found["top.2.rows.7"].tolist() == [[1, 2], [1, 2]]
    assert found["top.2.scores.7"].tolist() == [[3.0, 9.0, 5.0]] * 2
    assert torch.equal(found["keys.7"], keys[0])


@pytest.mark.skipif(
    not OTHER_PYTHON, reason="JUDGEQ_KVPRESS_PYTHON names no Python of an environment with kvpress 0.5.5"
)
def test_kvpress_keeps_the_same_rows(lm: LanguageModel, tmp_path: Path) -> None:
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    documents = [build_prefix(lm, TEXT * 2)]
    outcome = compare(lm, tmp_path, [prompt(160), prompt(208)], [32, 48], OTHER_PYTHON, documents=documents)
    rows = [agreement.to_row(2) for agreement in outcome.agreements]
    assert {row["different"] for row in rows if row["equal_settings"]} == {0}
    assert any(row["different"] for row in rows if row["score"] is not None and not row["equal_settings"])
    assert outcome.key_gap < 1e-4


# The command


def test_shares_and_models_that_are_no_folder_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["--python", "python", "--budgets", "64,0.5"]) == 2
    assert "whole numbers such as 64" in capsys.readouterr().err
    assert parity.main(["--python", "python", "--model", "org/name"]) == 2
    assert "org/name is not a folder" in capsys.readouterr().err


def test_the_command_writes_what_was_compared(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    line = {"context": "The harbour lies in the north. " * 20, "question": "Where is it?"}
    (tmp_path / "data.jsonl").write_text(json.dumps(line), encoding="utf-8")

    def ask(python: str, request: dict[str, Any], folder: Path) -> dict[str, str]:
        ids = torch.tensor(request["prompts"])
        reading = [pairing for pairing in PAIRINGS if not pairing.replay]
        save_file(rows_as_ours(lm, ids, reading, 8), folder / "prompt0.safetensors")
        (line,) = read_json_lines(tmp_path / "data.jsonl")[0]
        document = build_prefix(lm, line.example.messages[-1].content)
        assert request["documents"] == [document.input_ids[0].tolist()]
        replaying = [pairing for pairing in PAIRINGS if pairing.replay]
        replayed = heads_as_one(lm, document, replaying, 8)
        save_file(replayed, folder / "document0.safetensors")
        return {"kvpress": "0.5.5"}

    monkeypatch.setattr(parity, "ask_kvpress", ask)
    words = ["--model", str(tmp_path / "model"), "--data", str(tmp_path / "data.jsonl"), "--budgets", "8"]
    assert parity.main(["--python", "python", *words, "--json", str(tmp_path / "out.json")]) == 0
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["task"] for row in result["rows"]] == [f"parity/{pairing.name}" for pairing in PAIRINGS]
    assert {row["score"] for row in result["rows"]} == {1.0}
    assert result["kvpress"] == {"kvpress": "0.5.5"}
    assert result["settings"]["prompt_tokens"][0] > 64
    assert "snapkv-default      8  1.0000  0 ties, 0 different" in capsys.readouterr().out
