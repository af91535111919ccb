"""Sharing on the Hub: what is pushed comes back, what cannot be pushed says why, nothing is taken unasked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard

import judgeq
from judgeq.cli import main
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import CONFIG_FILE, TENSOR_FILE, SoftTokens
from tests.fixtures import TEXT, build_model, build_tokenizer
from tests.hub import Hub, Repository

BASE = "somebody/Tiny-Llama"


@pytest.fixture
def base() -> LanguageModel:
    """A tiny model as if it came from the Hub."""
    return LanguageModel.wrap(build_model(), build_tokenizer(), name=BASE, revision="0" * 40)


@pytest.fixture
def tokens(base: LanguageModel) -> SoftTokens:
    begun = SoftTokens.initialise(base, torch.arange(10, 14))
    recipe = {"data": "wiki:2,sharegpt:1", "epochs": 3, "start": "responses"}
    figures = {"held_out_hit_rate_64": 0.8125, "seconds_of_last_run": 12.5}
    return dataclasses.replace(begun, config=dataclasses.replace(begun.config, recipe=recipe, metrics=figures))


def test_what_is_pushed_is_loaded_and_asks_as_before(hub: Hub, base: LanguageModel, tokens: SoftTokens) -> None:
    done = tokens.push_to_hub("me/judge")
    again = SoftTokens.for_model(base, "me/judge")
    assert torch.equal(again.weights.embeddings, tokens.weights.embeddings)
    assert again.config == tokens.config
    assert hub.repositories["me/judge"].branches["main"] == done.oid
    assert set(hub.files("me/judge")) == {".gitattributes", "README.md", CONFIG_FILE, TENSOR_FILE}
    options = {"budget": 24, "decoding": judgeq.Decoding(max_new_tokens=4)}
    asked = [
        judgeq.ask(base, TEXT * 3, "How tall is the lighthouse?", tokens=which, **options)
        for which in (tokens, "me/judge")
    ]
    assert asked[0].text == asked[1].text
    ours, theirs = (answer.retention.rows_of() for answer in asked)
    assert [rows.tolist() for rows in ours] == [rows.tolist() for rows in theirs]


def test_the_command_line_pushes_and_asks(
    hub: Hub, tokens: SoftTokens, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, document = tmp_path / "Tiny-Llama", tmp_path / "doc.txt"
    build_model().save_pretrained(model)
    build_tokenizer().save_pretrained(model)
    document.write_text(TEXT * 3, encoding="utf-8")
    judge = str(tokens.save_pretrained(tmp_path / "judge"))
    assert main(["tokens", "push", judge, "me/judge", "--message", "first", "--json", "-"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["repository"], said["commit"]) == ("me/judge", hub.repositories["me/judge"].branches["main"])
    asked = ["--document", str(document), "--question", "How tall is it?", "--max-new-tokens", "4"]
    assert main(["ask", "--model", str(model), "--tokens", "me/judge", *asked, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "judgeq"


def test_a_second_push_is_a_second_commit_and_both_stay(hub: Hub, tokens: SoftTokens) -> None:
    first = tokens.push_to_hub("me/judge")
    doubled = dataclasses.replace(
        tokens, weights=dataclasses.replace(tokens.weights, embeddings=2 * tokens.weights.embeddings)
    )
    doubled.push_to_hub("me/judge", commit_message="twice as loud")
    old, new = (SoftTokens.from_pretrained("me/judge", revision=which) for which in (first.oid, "main"))
    assert torch.equal(2 * old.weights.embeddings, new.weights.embeddings)


def test_a_branch_of_its_own_leaves_the_main_one_alone(hub: Hub, tokens: SoftTokens) -> None:
    tokens.push_to_hub("me/judge", branch="v2")
    assert set(hub.files("me/judge")) == {".gitattributes"}
    assert CONFIG_FILE in hub.files("me/judge", "v2")
    assert SoftTokens.from_pretrained("me/judge", revision="v2").config == tokens.config


def test_a_private_repository_is_private(hub: Hub, tokens: SoftTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens.push_to_hub("me/judge", private=True)
    assert hub.repositories["me/judge"].private
    monkeypatch.setenv("HF_TOKEN", "you-token")
    with pytest.raises(InputError, match="no public repository"):
        SoftTokens.from_pretrained("me/judge")


def test_the_card_is_what_the_hub_reads(hub: Hub, tokens: SoftTokens) -> None:
    tokens.push_to_hub("me/judge", licence="cc-by-4.0")
    card = ModelCard(hub.files("me/judge")["README.md"].decode())
    data = card.data
    assert (data.library_name, data.pipeline_tag, data.license) == ("judgeq", "text-generation", "cc-by-4.0")
    assert (data.base_model, data.base_model_relation) == (BASE, "adapter")
    assert data.datasets == ["Aeala/ShareGPT_Vicuna_unfiltered", "ajibawa-2023/Code-290k-ShareGPT"]
    assert "arxiv:2509.10798" in data.tags
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value) == ("hit_rate_64", 0.8125)
    assert "https://arxiv.org/abs/2509.10798" in card.text
    assert 'SoftTokens.for_model(lm, "me/judge")' in card.text
    assert f"judgeq ask --model {BASE} --tokens me/judge" in card.text
    assert "--data wiki:2,sharegpt:1 --epochs 3" in card.text


def test_published_soft_tokens_are_named_and_not_taken(hub: Hub, base: LanguageModel, tokens: SoftTokens) -> None:
    tokens.push_to_hub("me/judge")
    hub.requests.clear()
    with pytest.raises(InputError, match=r"others have published me/judge on the Hub.*judgeq train"):
        SoftTokens.for_model(base)
    assert hub.requests == ["GET /api/models"]
    hub.broken = 500
    with pytest.raises(InputError, match=rf"No soft tokens are shipped for {BASE}: name a folder"):
        SoftTokens.for_model(base)


def test_a_model_of_ones_own_disk_is_nobody_elses_business(hub: Hub, lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="No soft tokens are shipped"):
        SoftTokens.for_model(lm)
    assert not hub.requests


def test_a_base_model_on_ones_own_disk_needs_a_public_name(hub: Hub, tokens: SoftTokens, base: LanguageModel) -> None:
    config = dataclasses.replace(tokens.config, base_model="/home/me/tiny-llama")
    local = dataclasses.replace(tokens, config=config)
    with pytest.raises(InputError, match="/home/me/tiny-llama is not an id of the Hub"):
        local.push_to_hub("me/judge")
    assert not hub.requests
    local.push_to_hub("me/judge", base_model=BASE)
    assert b"/home/me" not in b"".join(hub.files("me/judge").values())
    SoftTokens.for_model(base, "me/judge")


def test_nothing_goes_where_it_does_not_belong(hub: Hub, tokens: SoftTokens) -> None:
    for name in ("judge", "me/judge/v2", "me/ju dge", "me/ju--dge"):
        with pytest.raises(InputError, match="not a valid id"):
            tokens.push_to_hub(name)
    hub.repositories["me/llama"] = Repository()
    hub.repositories["me/llama"].commit("main", {"model.safetensors": b"weights"}, "a model")
    with pytest.raises(InputError, match=r"holds something else \(model.safetensors\)"):
        tokens.push_to_hub("me/llama")
    hub.repositories["me/seen"] = Repository()
    with pytest.raises(InputError, match="is public"):
        tokens.push_to_hub("me/seen", private=True)
    assert set(hub.files("me/llama")) == {".gitattributes", "model.safetensors"}
    assert set(hub.files("me/seen")) == {".gitattributes"}
    with pytest.raises(InputError, match=r"asked about you/judge.* no right"):
        tokens.push_to_hub("you/judge")


def test_a_missing_or_wrong_token_is_said(hub: Hub, tokens: SoftTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="does not accept the token: sign in again"):
        tokens.push_to_hub("me/judge", token="hf_expired")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    hub.requests.clear()
    with pytest.raises(InputError, match="there is no token: sign in with `hf auth login`"):
        tokens.push_to_hub("me/judge")
    assert not hub.requests
    assert not hub.repositories


@pytest.mark.parametrize(("status", "said"), [(500, "error 500: try again later"), (429, "too many requests")])
def test_a_hub_that_is_out_of_order_is_said(
    hub: Hub, tokens: SoftTokens, status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client tries again for a while
    hub.broken = status
    with pytest.raises(InputError, match=said):
        tokens.push_to_hub("me/judge")


def test_no_network_is_said(hub: Hub, tokens: SoftTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="reachable on the Hugging Face Hub"):
        tokens.push_to_hub("me/judge")
    with pytest.raises(InputError, match="reachable on the Hugging Face Hub"):
        SoftTokens.from_pretrained("me/judge")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_not_on_the_hub_is_told_apart(hub: Hub, tokens: SoftTokens) -> None:
    tokens.push_to_hub("me/judge")
    with pytest.raises(InputError, match="no public repository of that name"):
        SoftTokens.from_pretrained("nobody/nothing")
    with pytest.raises(InputError, match="no such revision"):
        SoftTokens.from_pretrained("me/judge", revision="v9")
    hub.repositories["you/model"] = Repository()
    hub.repositories["you/model"].commit("main", {"config.json": json.dumps({}).encode()}, "a model")
    with pytest.raises(InputError, match="is a model and not soft tokens"):
        SoftTokens.from_pretrained("you/model")
    hub.repositories["you/empty"] = Repository()
    with pytest.raises(InputError, match=f"has no {CONFIG_FILE}"):
        SoftTokens.from_pretrained("you/empty")
    hub.repositories["you/gated"] = Repository(gated=True)
    hub.repositories["you/gated"].commit("main", {CONFIG_FILE: b"{}"}, "soft tokens")
    with pytest.raises(InputError, match="is gated: accept its terms"):
        SoftTokens.from_pretrained("you/gated")


def test_the_stand_in_knows_what_the_hub_knows(hub: Hub, tokens: SoftTokens) -> None:
    tokens.push_to_hub("me/judge")
    info = HfApi().model_info("me/judge")
    assert {"judgeq", f"base_model:adapter:{BASE}"} <= set(info.tags or [])
