"""`model.generate(custom_generate=FOLDER)` continues as `judgeq.ask` does, with all that transformers' loop can do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, set_seed
from transformers.generation import GenerationMixin

import judgeq
from judgeq.cli import main
from judgeq.errors import InputError
from judgeq.inference.decode import decode
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.request import make_token_request
from judgeq.inference.spans import rows_of
from judgeq.integrations.generate import FOLDER, generate
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Message, build_chat, build_prompt
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.fixtures import TEXT, build_model, build_tokenizer
from tests.hub import Hub

QUESTION = "How tall is the lighthouse?"
DOCUMENTS = [TEXT * 3, TEXT * 2 + "It is white.", TEXT * 4]
BY_NAME: dict[str, Any] = {"custom_generate": FOLDER, "trust_remote_code": True}
"""transformers asks the caller for this consent for a folder of this machine too."""
NEW = 10


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies the code that it runs; not into the user's folder."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture(scope="module")
def tiny() -> LanguageModel:
    """A tiny Llama whose name transformers knows, as that of a model from a folder or the Hub."""
    return named(LanguageModel.wrap(build_model(), build_tokenizer(), name="tiny-llama"))


@pytest.fixture(scope="module")
def soft(tiny: LanguageModel) -> SoftTokens:
    return SoftTokens.initialise(tiny, torch.arange(10, 18))


def named(lm: LanguageModel) -> LanguageModel:
    lm.model.config.name_or_path = lm.name
    return lm


def ids_of(lm: LanguageModel, document: str = DOCUMENTS[0]) -> torch.Tensor:
    return build_prompt(lm, document, QUESTION).input_ids


def asked(lm: LanguageModel, document: str = DOCUMENTS[0], **options: Any) -> list[int]:
    """The tokens that `judgeq.ask` writes."""
    decoding = judgeq.Decoding(max_new_tokens=NEW)
    (writer,) = judgeq.read(lm, document, QUESTION, **{"decoding": decoding, "budget": 24, **options}).writers
    return [step.token for step in writer]


def generated(lm: LanguageModel, ids: torch.Tensor, **options: Any) -> Any:
    """The new tokens, or what else was asked for."""
    options = {"tokenizer": lm.tokenizer, "max_new_tokens": NEW, "do_sample": False, "budget": 24, **options}
    found = lm.model.generate(ids, **BY_NAME, **options)
    return found[:, ids.shape[1] :] if isinstance(found, torch.Tensor) else found


@pytest.mark.parametrize(
    "method", ["judgeq", "judgeq:allocation=adakv", "judgeq+draft", "snapkv", "oracle", "stockanswer", "full"]
)
def test_every_method_continues_as_ask_does(tiny: LanguageModel, soft: SoftTokens, method: str) -> None:
    ours = generated(tiny, ids_of(tiny), method=method, soft_tokens=soft)
    assert ours[0].tolist() == asked(tiny, methods=method_from_text(method), tokens=soft)


def test_a_batch_of_every_family_is_padded_on_the_left(some_lm: LanguageModel) -> None:
    lm = named(some_lm)
    soft = SoftTokens.initialise(lm, torch.arange(10, 18))
    prompts = [ids_of(lm, document)[0] for document in DOCUMENTS]
    batch = {"input_ids": [ids.tolist() for ids in prompts]}
    padded = lm.tokenizer.pad(batch, padding_side="left", return_tensors="pt")
    ours = generated(lm, padded.input_ids, attention_mask=padded.attention_mask, soft_tokens=soft)
    for row, document in zip(ours.tolist(), DOCUMENTS, strict=True):
        alone = asked(lm, document, methods="judgeq", tokens=soft)
        assert row == alone + [lm.tokenizer.pad_token_id] * (len(row) - len(alone))


def test_a_conversation_continues_too(tiny: LanguageModel, soft: SoftTokens) -> None:
    turns = [("user", TEXT * 2), ("assistant", "What about it?"), ("user", QUESTION)]
    ids = build_chat(tiny, [Message(*turn) for turn in turns])
    request = make_token_request(tiny, ids, method_from_text("judgeq"), 24, soft)
    read = prefill_with_lookahead(request)
    steps = decode(tiny, read.retained[0].cache, read.logits, judgeq.Decoding(max_new_tokens=NEW))
    assert generated(tiny, ids, soft_tokens=soft)[0].tolist() == [step.token for step in steps]


def test_a_span_of_the_prompt_is_kept(tiny: LanguageModel, soft: SoftTokens) -> None:
    prompt, span = build_prompt(tiny, DOCUMENTS[0], QUESTION), (40, 75)
    rows = rows_of(prompt, DOCUMENTS[0], [span])
    pinned = asked(tiny, pinned=span, methods="judgeq", tokens=soft)
    assert pinned != asked(tiny, methods="judgeq", tokens=soft)
    for question_span in ((rows[0], rows[-1] + 1), [(rows[0] - prompt.tokens, rows[-1] + 1 - prompt.tokens)]):
        ours = generated(tiny, prompt.input_ids, question_span=question_span, soft_tokens=soft)
        assert ours[0].tolist() == pinned


def test_samples_are_those_of_plain_generate_where_nothing_is_evicted(tiny: LanguageModel) -> None:
    ids, options = ids_of(tiny), {"do_sample": True, "temperature": 0.7, "max_new_tokens": NEW}
    set_seed(1)
    plain = GenerationMixin.generate(tiny.model, ids, attention_mask=torch.ones_like(ids), **options)
    set_seed(1)
    assert torch.equal(generated(tiny, ids, method="full", **options), plain[:, ids.shape[1] :])


def test_several_continuations_of_one_prompt_differ_and_it_is_read_once(
    tiny: LanguageModel, soft: SoftTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    monkeypatch.setattr(
        "judgeq.integrations.generate.prefill_many",
        lambda requests, **options: read.append(len(requests)) or [prefill_with_lookahead(*requests)],
    )
    options = {"num_return_sequences": 3, "do_sample": True, "soft_tokens": soft}
    ours = generated(tiny, ids_of(tiny), **options)
    assert read == [1]
    assert len({tuple(row) for row in ours.tolist()}) == 3


def test_stopping_streaming_and_scores_are_those_of_transformers(tiny: LanguageModel, soft: SoftTokens) -> None:
    ids, given = ids_of(tiny), list[list[int]]()
    streamer = SimpleNamespace(put=lambda new: given.append(new.flatten().tolist()), end=lambda: given.append([]))
    whole = generated(tiny, ids, soft_tokens=soft, streamer=streamer)[0].tolist()
    assert given == [ids[0].tolist(), *([token] for token in whole), []]

    texts = [tiny.tokenizer.decode(token) for token in whole]
    stop = next(text for text in texts[1:] if text.isascii() and text.strip())
    first = next(at for at, token in enumerate(whole) if stop in tiny.tokenizer.decode(token))
    assert generated(tiny, ids, soft_tokens=soft, stop_strings=[stop])[0].tolist() == whole[: first + 1]

    def four(seen: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        return torch.full((1,), seen.shape[1] - ids.shape[1] >= 4)

    assert generated(tiny, ids, soft_tokens=soft, stopping_criteria=[four])[0].tolist() == whole[:4]
    scored = generated(tiny, ids, soft_tokens=soft, return_dict_in_generate=True, output_scores=True)
    assert [int(scores.argmax()) for scores in scored.scores] == whole


def test_the_model_is_given_back_as_it_was(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder).train()
    lm = judgeq.load(folder)
    ours = model.generate(ids_of(lm), **BY_NAME, method="snapkv", budget=24, max_new_tokens=NEW)
    assert ours[0, ids_of(lm).shape[1] :].tolist() == asked(lm, methods="snapkv")  # the tokenizer lies beside it
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_beams": 2}, "leave num_beams"),
        ({"past_key_values": object()}, "leave past_key_values out"),
        ({"budget": 0}, "at least 1 row"),
        ({"method": "kvzip"}, "before any question is known"),
        ({"question_span": (5, 5)}, "give \\(first, last\\)"),
        ({"question_span": [(0, 4), (4, 8)]}, "2 question spans and 1 prompts"),
        ({"attention_mask": torch.tensor([[1] * 8 + [0]])}, "pad prompts on the left"),
        ({"max_new_tokens": 5000}, "reads at most"),
        ({"method": "judgeq", "soft_tokens": "/nowhere"}, "neither a folder"),
    ],
)
def test_what_does_not_go_together_is_said(tiny: LanguageModel, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        generate(
            tiny.model,
            inputs=torch.arange(3, 12)[None],
            **{"tokenizer": tiny.tokenizer, "method": "snapkv", **options},
        )


def test_nothing_of_it_runs_without_consent(tiny: LanguageModel) -> None:
    with pytest.raises(ValueError, match="trust_remote_code"):
        tiny.model.generate(ids_of(tiny), custom_generate=FOLDER, trust_remote_code=False)


def test_a_repository_brings_its_own_soft_tokens(
    hub: Hub, tiny: LanguageModel, soft: SoftTokens, tmp_path: Path
) -> None:
    judge = str(soft.save_pretrained(tmp_path / "judge"))
    push = ["tokens", "push", judge, "me/judge", "--base-model", "somebody/tiny-llama", "--custom-generate"]
    assert main(push) == 0
    card = hub.files("me/judge")["README.md"].decode()
    assert "- custom_generate" in card
    assert 'custom_generate="me/judge"' in card
    options = {"tokenizer": tiny.tokenizer, "max_new_tokens": NEW, "budget": 24, "do_sample": False}
    by_hub = {**BY_NAME, "custom_generate": "me/judge"}
    ours = tiny.model.generate(ids_of(tiny), **by_hub, **options)
    assert ours[0, ids_of(tiny).shape[1] :].tolist() == asked(tiny, methods="judgeq", tokens=soft)


@pytest.mark.embedded
def test_the_embedded_model_finds_its_shipped_soft_tokens(smol: LanguageModel) -> None:
    ids = build_prompt(smol, TEXT * 6, QUESTION).input_ids
    ours = smol.model.generate(ids, **BY_NAME, budget=64, max_new_tokens=NEW, do_sample=False)
    text = smol.tokenizer.decode(ours[0, ids.shape[1] :], skip_special_tokens=True)
    decoding = judgeq.Decoding(max_new_tokens=NEW)
    assert text == judgeq.ask(smol, TEXT * 6, QUESTION, budget=64, decoding=decoding).text
