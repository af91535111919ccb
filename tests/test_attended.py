"""What an answer attends to: the weights of eager attention, over exactly the rows that are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import judgeq
from benchmarks import lights
from judgeq.config import Decoding, Selection
from judgeq.errors import InputError
from judgeq.evaluation.attended_cost import WARM_UP, attended_times
from judgeq.inference.answers import Writer
from judgeq.inference.plan import Plan
from judgeq.methods import Full, SnapKV
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from judgeq.retention import Attended
from judgeq.retention.glow import Lights
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.masked_reference import REFERENCE, attention, gone_rows
from tests.test_memory_rows import MEMORY, SOFT, weights_of
from tests.test_retention import BEFORE, everything

DOCUMENT = "The harbour lies in the north. Every ship names its captain. The lighthouse was built in 1874. " * 3
QUESTION = "When was it built?"
METHODS = {
    "full": Full(),
    "snapkv": SnapKV(),
    "ragged": SnapKV(selection=Selection(allocation="adakv")),
}


def written(lm: LanguageModel, method: Any, attended: Any = True, **options: Any) -> Writer:
    """A finished answer of seven tokens."""
    lm.__dict__["eos_ids"] = frozenset()  # random models stop anywhere
    decoding = Decoding(max_new_tokens=7, **options.pop("decoding", {}))
    reading = judgeq.read(
        lm, DOCUMENT, QUESTION, methods=[method], budget=20, decoding=decoding, attended=attended, **options
    )
    writer = reading.writers[0]
    writer.finish()
    return writer


def recorded(lm: LanguageModel, method: Any, attended: Any) -> Attended:
    """What that answer attends to."""
    found = written(lm, method, attended).answer().attended
    assert found is not None
    return found


def eager(lm: LanguageModel, writer: Writer, gone: list[Tensor]) -> list[dict[int, Tensor]]:
    """Weights (1, H, 1, K) by layer of the pass that chose each token."""
    cache, ids = DynamicCache(config=lm.model.config), writer.reading.request.input_ids
    found = []
    with attention(lm, REFERENCE), torch.inference_mode():
        for at, tokens in enumerate([ids, *(torch.tensor([[step.token]]) for step in writer.steps[:-1])]):
            recorded: dict[int, Tensor] = {}
            lm.model(tokens, cache=cache, gone=gone if at else None, recorded=recorded)
            found.append({layer: weights[:, :, -1:] for layer, weights in recorded.items()})
    return found


def to_prompt(weights: dict[int, Tensor], tokens: int, seen: int, layer: Any, head: Any) -> Tensor:
    """(T,) the mean over the layers and heads that count, of a pass after which `seen` tokens are known."""
    rows = []
    for own in (weights[at] for at in weights if layer in (None, at)):
        every = torch.zeros(own.shape[1], seen)
        every[:, seen - own.shape[-1] :] = own[0, :, 0]  # a layer with a window stores no more than that
        rows.append(every[slice(None) if head is None else [head], :tokens])
    return torch.cat(rows).mean(0)


def check_eager(lm: LanguageModel, method: Any, counted: Any) -> None:
    writer = written(lm, method, counted)
    tokens = writer.reading.prompt.tokens
    assert writer.reading.attended is not None
    assert writer._recorder is not None
    found = torch.stack([writer.reading.attended, *writer._recorder.vectors]).float()[:, :, :-1]
    passes = eager(lm, writer, gone_rows(writer.retained, tokens))
    layers, heads = range(lm.geometry.layers), range(lm.geometry.heads)
    pairs = {
        True: [(None, None)],
        "layers": [(layer, None) for layer in layers],
        "heads": [(layer, head) for layer in layers for head in heads],
    }
    expected = [
        torch.stack([to_prompt(weights, tokens, tokens + at, *pair) for pair in pairs.get(counted, [counted])])
        for at, weights in enumerate(passes)
    ]
    assert torch.allclose(found, torch.stack(expected), atol=1e-3 if counted in ("layers", "heads") else 1e-5)


@pytest.mark.parametrize("counted", [True, "layers", "heads", (2, None), (None, 3), (1, 2)], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_weights_are_those_of_eager_attention(lm: LanguageModel, name: str, counted: Any) -> None:
    check_eager(lm, METHODS[name], counted)


@pytest.mark.parametrize("counted", [True, "layers", "heads"], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_families_with_windows_and_caps(make_lm: Callable[..., LanguageModel], name: str, counted: Any) -> None:
    check_eager(make_lm("gemma2"), METHODS[name], counted)


def test_layers_apart_add_up_to_all_of_them(lm: LanguageModel) -> None:
    asked: Any = (True, "layers", (1, None))
    whole, apart, alone = (recorded(lm, SnapKV(), each) for each in asked)
    layers = [apart.of_layer(layer) for layer in range(lm.geometry.layers)]
    assert np.allclose(sum(each.weights for each in layers) / len(layers), whole.weights, atol=1e-4)
    assert np.allclose(layers[1].weights, alone.weights, atol=1e-3)
    assert np.allclose(sum(layers[1].shares().values()), 1, atol=1e-3)
    assert apart.nbytes > whole.nbytes
    assert "in layer 1" in layers[1].to_html()
    for layer in (-1, 4, "1", True):
        with pytest.raises(InputError, match="give one from 0 to 3"):
            apart.of_layer(layer)  # type: ignore[arg-type]
    with pytest.raises(InputError, match='ask with attended="layers"'):
        whole.of_layer(0)
    with pytest.raises(InputError, match='ask with attended="heads"'):
        apart.of_layer(0, 1)


@pytest.mark.parametrize("name", METHODS)
def test_a_head_is_chosen_afterwards(lm: LanguageModel, name: str) -> None:
    apart, alone = (recorded(lm, METHODS[name], each) for each in ("heads", (2, 1)))
    own = apart.of_layer(2, 1)
    assert np.allclose(own.weights, alone.weights, atol=1e-3)
    assert "query head 1 in layer 2" in own.to_html()
    heads = [apart.of_layer(2, head).weights for head in range(lm.geometry.heads)]
    assert np.allclose(np.mean(heads, 0), apart.of_layer(2).weights, atol=1e-3)
    assert apart.heads is not None
    dense = 2 * 7 * lm.geometry.layers * lm.geometry.heads * apart.found.tokens
    assert apart.heads.nbytes < (1.2 if name == "full" else 0.7) * dense, "without evicted rows"
    for head in (-1, 4, "1", True):
        with pytest.raises(InputError, match=r"The query head is .*: give one from 0 to 3"):
            apart.of_layer(0, head)  # type: ignore[arg-type]


def test_an_answer_of_which_nothing_is_written_yet(lm: LanguageModel) -> None:
    (writer,) = judgeq.read(lm, DOCUMENT, QUESTION, methods=["snapkv"], budget=20, attended="heads").writers
    assert writer.answer().attended is None


@pytest.mark.parametrize("name", ["full", "snapkv"])
def test_the_answer_is_the_same_and_nothing_is_recorded_unasked(lm: LanguageModel, name: str) -> None:
    plain, recorded = (written(lm, METHODS[name], attended).answer() for attended in (False, True))
    assert plain.attended is None
    assert plain.to_dict()["sources"] is None
    assert recorded.text == plain.text
    assert recorded.to_dict()["sources"]


def test_rows_that_are_evicted_meanwhile_get_nothing_from_then_on(lm: LanguageModel) -> None:
    writer = written(lm, SnapKV(), decoding={"evict_every": 3})
    answer = writer.answer()
    assert answer.attended is not None
    assert writer._eviction is not None
    assert writer._eviction.rounds
    left = {int(row) for layer in answer.rows_at_end or () for head in layer for row in head}
    gone = [row for row in range(answer.prompt_tokens) if row not in left]
    assert gone
    assert (answer.attended.weights[1, gone] > 0).any()
    assert (answer.attended.weights[-1, gone] == 0).all()
    assert (answer.attended.weights[-1, sorted(left & set(range(answer.prompt_tokens)))] > 0).all()


@pytest.mark.parametrize("method", [Full(), SnapKV()], ids=["all rows", "kept rows"])
def test_rows_in_few_bits_are_close_to_the_exact_ones(lm: LanguageModel, method: Any) -> None:
    exact, rounded = (written(lm, method, row_bits=bits).answer().attended for bits in (None, 8))
    assert exact is not None
    assert rounded is not None
    assert np.allclose(exact.weights[:2], rounded.weights[:2], atol=0.01)
    assert (rounded.weights[1] > 0).sum() == (exact.weights[1] > 0).sum()


def test_memory_tokens_have_a_share_of_their_own(lm: LanguageModel) -> None:
    made = SoftTokens.initialise(lm, torch.arange(40, 40 + SOFT))
    tokens = SoftTokens(weights_of(lm), replace(made.config, memory=MEMORY))
    answer = written(lm, method_from_text(f"judgeq:memory={MEMORY}"), tokens=tokens).answer()
    assert answer.attended is not None
    assert answer.retention.memory_rows
    assert answer.attended.memory[0] == 0, "the prompt itself is read without them"
    assert (answer.attended.memory[1:] > 0).all()
    assert np.isclose(sum(answer.attended.shares().values()), 1)


def test_a_document_that_was_evicted_before_the_question(lm: LanguageModel) -> None:
    lm.__dict__["eos_ids"] = frozenset()
    document = judgeq.Document(lm, DOCUMENT).compress(method="snapkv", budget=20)
    decoding = Decoding(max_new_tokens=4)
    answer = document.ask(QUESTION, decoding=decoding, attended=True)
    assert answer.text == document.ask(QUESTION, decoding=decoding).text
    assert answer.attended is not None
    kept = {int(row) for layer in answer.retention.kept for head in layer for row in head}
    for row in answer.attended.weights:
        assert set(np.flatnonzero(row)) == kept
    assert np.allclose(answer.attended.weights[0].sum(), 1, atol=1e-5), "no token of the answer is read yet"


@pytest.mark.parametrize("attended", [(9, None), (None, 4), (0, 0, 0), (-1, 0), "all", 7], ids=str)
def test_heads_that_do_not_exist_are_refused(lm: LanguageModel, attended: Any) -> None:
    with pytest.raises(InputError, match=r"attended is .*: give True, .* or a layer from 0 to 3"):
        judgeq.ask(lm, DOCUMENT, QUESTION, method="snapkv", attended=attended)


def test_answers_side_by_side_refuse_it(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="call ask for each question"):
        judgeq.ask_many(lm, [(DOCUMENT, QUESTION)], method="snapkv", attended=True)


HOSTILE = 'Ada wrote <script>alert("1")</script> & 😀 it. Bob read "</iframe>" and </p>.\n\nNobody else did.'


def made_up(document: str = HOSTILE) -> Attended:
    """Four tokens: all attend to the first token of the document alike, and each to one more."""
    found = everything(document)
    inside = found.document_tokens
    vectors = np.zeros((4, found.tokens + 1), dtype=np.float32)
    vectors[:, inside.start] = 0.4
    for at in range(4):
        vectors[at, inside.start + 2 + 9 * at] = 0.2
    vectors[1:, -1] = 0.1
    return Attended.of_steps(found, ["<b>Bo", "", "b😀", " <i>ran", ""], np.concatenate([vectors, vectors[:1]]))


def test_sources_are_ranked_by_what_not_every_token_attends_to() -> None:
    found = made_up()
    assert found.text == "<b>Bob😀 <i>ran"
    assert found.spans.tolist() == [[0, 5], [5, 7], [5, 7], [7, 14]], "an end token has no text"
    assert np.allclose(found.own, [0.4, 0.3, 0.3, 0.3])
    assert np.allclose(found.shares()["memory"], 0.075)
    _, sums = found.units("sentence")
    assert sums.argmax(1).tolist() == [0] * 4, "all rest on the first sentence"
    sources = found.sources(9)
    assert np.isclose(sum(each.share for each in sources), 1)
    assert [each.share for each in sources] == sorted((each.share for each in sources), reverse=True)
    assert all(each.text == HOSTILE[each.start : each.end] for each in sources)
    (one,) = found.sources(1, span=(7, 14))
    at = found.found.offsets[found.found.document_tokens.start + 29][0] - len(BEFORE)
    assert one.start <= at < one.end
    assert one.share == 1
    with pytest.raises(InputError, match="k is 0"):
        found.sources(0)
    with pytest.raises(InputError, match="The span is"):
        found.sources(span=(3, 99))


class Texts(HTMLParser):
    """The text of a page, and its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.values = "", list[str](), list[dict[str, str | None]]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_text_stays_text_in_the_frame() -> None:
    outer = Texts(made_up().to_html())
    assert outer.tags == ["iframe"]
    assert outer.values[0]["sandbox"] == "allow-scripts"
    page = Texts(outer.values[0]["srcdoc"] or "")
    assert page.tags.count("script") == 2, "the numbers and our own"
    assert HOSTILE in page.text
    assert "<b>Bob😀 <i>ran" in page.text


def test_lights_are_where_a_script_finds_the_words() -> None:
    found = made_up("Ada 😀 wrote it.\r\n" * 3)
    lights = Lights(found.found)
    shown = found.found.document_text.replace("\r\n", "\n").encode("utf-16-le")
    words, text = found.units("word", specific=True)[0], found.found.document_text
    for row, step in zip(found.specific, lights.steps(found), strict=True):
        lit = [shown[2 * step[at] : 2 * (step[at] + step[at + 1])].decode("utf-16-le") for at in range(1, len(step), 3)]
        best = words[lights.words.sums(row[None])[0].argmax()]
        assert lit[:1] in ([text[slice(*best)]], [])
    assert any(len(step) > 1 for step in lights.steps(found))


def test_an_answer_without_text_attends_to_nothing() -> None:
    found = everything(DOCUMENT)
    empty = Attended.of_steps(found, [""], np.full((1, found.tokens + 1), 0.001, dtype=np.float32))
    assert empty.sources() == []
    assert set(empty.shares().values()) == {0.0}
    assert "iframe" in empty.to_html()


def test_a_terminal_gets_the_sources(capsys: pytest.CaptureFixture[str]) -> None:
    made_up().show()
    said = capsys.readouterr().out
    assert "of this answer’s tokens" in said
    assert "Ada wrote <script>" in said


def test_its_cost_is_measured_on_equal_tokens(lm: LanguageModel) -> None:
    ids = torch.randint(3, 300, (1, 60), generator=torch.Generator().manual_seed(1))
    plans = [("full", Plan(Full(), 60)), ("ragged", Plan(METHODS["ragged"], 9))]
    for times in attended_times(lm, ids, plans, None, tokens=WARM_UP + 4, rounds=2):
        row = times.row()
        assert row["pairs"] == 8
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]


def test_the_demos_own_cost_is_measured_on_equal_tokens(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(lm.__dict__, "eos_ids", frozenset())
    monkeypatch.setattr(lights, "load_model", lambda arguments: lm)
    monkeypatch.setattr("app.server.samples.samples", lambda: [SimpleNamespace(document=DOCUMENT)])
    options = ["--methods=full,snapkv", "--max-new-tokens=8", "--rounds=1"]
    assert not lights.main([*options, f"--json={tmp_path / 'lights.json'}"])
    found = json.loads((tmp_path / "lights.json").read_text())
    assert {row["label"]: row["pairs"] for row in found["rows"]} == dict.fromkeys(("full", "snapkv"), 8 - WARM_UP)
    assert found["update"].keys() == {"every_s", "lit_s", "dark_s"}
