"""A document read once: questions cost their own tokens and give what `judgeq.ask` gives; evicted once; on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import judgeq
from judgeq.cache.prefix import Progress
from judgeq.config import Decoding, Selection
from judgeq.documents.document import REREAD_TOKENS, Document
from judgeq.errors import InputError
from judgeq.inference.answers import Reading
from judgeq.methods import H2O, METHODS, JudgeQ, PyramidKV, SnapKV, question_methods
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.fixtures import WINDOW
from tests.generators import to_the_end
from tests.rounding import moved_rows
from tests.test_chunks import every_method

TEXT = "The harbour lies in the north. Every ship pays 3 crowns at the gate. " * 12
QUESTIONS = ("What does a ship pay?", "42?", "¿Dónde está el puerto? " * 3)
SHORT = Decoding(max_new_tokens=6)
SLIDING = [
    ("mistral", {"sliding_window": 24}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 2}),
]


@pytest.fixture
def tokens(lm: LanguageModel) -> SoftTokens:
    return soft(lm)


def soft(lm: LanguageModel) -> SoftTokens:
    return SoftTokens.initialise(lm, torch.arange(40, 44))


def assert_same(found: Reading, expected: Reading) -> None:
    """The same prompt, logits, rows and scores, and the same answers."""
    assert torch.equal(found.prompt.input_ids, expected.prompt.input_ids)
    assert found.prompt == replace(expected.prompt, input_ids=found.prompt.input_ids)
    assert torch.allclose(found.logits, expected.logits, atol=1e-3)
    assert found.full_kv_bytes == expected.full_kv_bytes
    for ours, theirs in zip(found.writers, expected.writers, strict=True):
        mine, other = ours.finish(), theirs.finish()
        moved = moved_rows(mine.retention.kept, other.retention.kept, other.retention.scores)
        assert mine.method == other.method
        assert moved or (mine.text, mine.finish) == (other.text, other.finish)
        assert (mine.kv_bytes, mine.budget, mine.notices) == (other.kv_bytes, other.budget, other.notices)
        if other.retention.scores is not None:
            assert np.allclose(mine.retention.scores, other.retention.scores, rtol=1e-4, atol=1e-4, equal_nan=True)


class Counted:
    """How many tokens the model has read."""

    def __init__(self, lm: LanguageModel) -> None:
        self.tokens = 0
        embedding = lm.model.get_input_embeddings()
        self.handle = embedding.register_forward_hook(self._count)

    def _count(self, module: object, inputs: tuple[torch.Tensor], output: object) -> None:
        self.tokens += inputs[0].shape[1]

    def take(self) -> int:
        found, self.tokens = self.tokens, 0
        return found


def assert_as_read(document: Document, text: str, questions: Sequence[str], **options: Any) -> Reading:
    """Questions to the document are read as by `judgeq.read`; returns the last reading."""
    for question in questions:
        found = document.read_for(question, **options)
        assert_same(found, judgeq.read(document.lm, text, question, **options))
    return found


# With the question in view


def test_every_question_is_answered_as_if_it_were_the_first(some_lm: LanguageModel) -> None:
    document, methods = Document(some_lm, TEXT), every_method(some_lm)
    if some_lm.name != "tiny-llama":
        methods = ["full", "judgeq", "snapkv", "h2o", "laq", "expectedattention"]
    options = {"methods": methods, "budget": 40, "tokens": soft(some_lm), "decoding": SHORT}
    assert_as_read(document, TEXT, QUESTIONS, **options)


@pytest.mark.parametrize(("family", "changes"), SLIDING)
def test_sliding_windows_are_read_on_from(make_lm: Callable[..., LanguageModel], family: str, changes: dict) -> None:
    lm = make_lm(family, **changes)
    document = Document(lm, TEXT, chunk=50)
    methods = ["full", "judgeq", "snapkv", "h2o", SnapKV(window=200)]
    options = {"methods": methods, "budget": 40, "tokens": soft(lm), "decoding": SHORT}
    assert_as_read(document, TEXT, QUESTIONS, **options)
    if family == "mistral":
        assert Document(lm, TEXT).read().kv_bytes == 4 * 23 * 256, "layers with a window hold no more than it"


@pytest.mark.parametrize(
    "options",
    [
        {"question_first": True},
        {"answer_prefix": "It pays"},
        {"budget": 0.1},
        {"chunk": 20},
        {"row_bits": 4},
        {"methods": [SnapKV(window=150), JudgeQ(selection=Selection(sinks=2, recent=3, pool=5))]},
        {"methods": [H2O(), SnapKV(window=150)]},
        {"methods": [PyramidKV(selection=Selection(recent=8, allocation="pyramid+adakv", value_aware=True))]},
    ],
)
def test_options_mean_the_same_with_a_document(lm: LanguageModel, tokens: SoftTokens, options: dict) -> None:
    document = Document(lm, TEXT).read()
    options = {"methods": ["judgeq", "h2o"], "budget": 40, "tokens": tokens, "decoding": SHORT, **options}
    assert_as_read(document, TEXT, QUESTIONS, **options)


@pytest.mark.parametrize(
    ("family", "chunk"),
    [*product(["llama"], [None, 50]), *product(["gemma2", "gemma3_text", "granite", "smollm3"], [50])],
)
def test_rows_are_judged_again(
    make_lm: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch, family: str, chunk: int | None
) -> None:
    lm = make_lm(family)
    monkeypatch.setitem(lm.__dict__, "eos_ids", frozenset())  # random models stop anywhere
    document = Document(lm, TEXT, chunk=chunk)
    options = {"budget": 40, "tokens": soft(lm), "decoding": Decoding(30, evict_every=8)}
    for method, question in zip(("judgeq", "snapkv", "h2o"), QUESTIONS, strict=True):
        found = document.ask(question, method=method, **options)
        expected = judgeq.ask(lm, TEXT, question, method=method, **options)
        assert found.text == expected.text
        for ours, theirs in zip(found.rows_at_end, expected.rows_at_end, strict=True):
            assert all(map(np.array_equal, ours, theirs))
        assert (found.kv_bytes, found.kv_bytes_at_end) == (expected.kv_bytes, expected.kv_bytes_at_end)


def test_a_document_that_must_be_cut_is_read_anew_each_time(lm: LanguageModel, tokens: SoftTokens) -> None:
    document = Document(lm, TEXT * 20)
    options = {"methods": ["judgeq"], "budget": 40, "tokens": tokens, "decoding": SHORT, "truncate": True}
    found = assert_as_read(document, TEXT * 20, QUESTIONS[:1], **options)
    assert "cut out of its middle" in found.notices[0]
    for refused in (document.read, document.compress, lambda: document.ask(QUESTIONS[0], tokens=tokens)):
        with pytest.raises(InputError, match="reads at most"):
            refused()


def test_a_document_shorter_than_what_is_read_again_is_answered_and_saved(lm: LanguageModel, tmp_path: Path) -> None:
    document = Document(lm, "A ship pays.")
    assert document.tokens < REREAD_TOKENS
    options = {"methods": ["full", "snapkv", "h2o"], "budget": 10, "decoding": SHORT}
    assert_as_read(document, "A ship pays.", QUESTIONS, **options)
    assert document.kv_bytes == 0
    assert_as_read(Document.load(lm, document.save(tmp_path)), "A ship pays.", QUESTIONS[:1], **options)


def test_a_question_costs_its_own_tokens(make_lm: Callable[..., LanguageModel]) -> None:
    lm = make_lm()
    tokens, document, counted = soft(lm), Document(lm, TEXT), Counted(lm)
    decoding = Decoding(max_new_tokens=1)
    prompt = document.ask(QUESTIONS[0], method="snapkv", decoding=decoding).prompt_tokens
    assert counted.take() == prompt
    again = document.ask(QUESTIONS[1], method="snapkv", decoding=decoding).prompt_tokens
    assert counted.take() == again - (document.tokens - REREAD_TOKENS)
    document.ask(QUESTIONS[1], method="h2o", decoding=decoding)
    assert counted.take() == again, "what rows got from the document's queries is not known yet"
    document.ask(QUESTIONS[1], method="h2o", decoding=decoding)
    document.ask(QUESTIONS[1], method="judgeq", tokens=tokens, decoding=decoding)
    assert counted.take() == 2 * (again - (document.tokens - REREAD_TOKENS))
    document.forget()
    assert document.kv_bytes == 0
    document.ask(QUESTIONS[1], method="snapkv", decoding=decoding)
    assert counted.take() == again


@pytest.mark.parametrize("method", [name for name in question_methods() if name != "h2o"])
def test_only_h2o_needs_all_queries_attention(lm: LanguageModel, tokens: SoftTokens, method: str) -> None:
    document = Document(lm, TEXT).read()
    rows = document._rows
    document.ask(QUESTIONS[0], method=method, tokens=tokens, decoding=SHORT)
    assert document._rows is rows


def test_questions_leave_the_documents_rows_as_they_are(lm: LanguageModel, tokens: SoftTokens) -> None:
    document = Document(lm, TEXT).read()
    rows = document._rows
    stored = [layer.keys.untyped_storage().data_ptr() for layer in rows.layers]
    before, size = [tensor.clone() for tensor in rows.tensors()], document.kv_bytes
    for question in QUESTIONS:
        document.ask(question, tokens=tokens, decoding=SHORT)
        document.ask(question, question_first=True, tokens=tokens, decoding=SHORT)
        document.ask(question, method=SnapKV(window=150), decoding=SHORT)
    assert all(torch.equal(now, then) for now, then in zip(rows.tensors(), before, strict=True))
    assert [layer.keys.untyped_storage().data_ptr() for layer in rows.layers] == stored
    assert document.kv_bytes == size
    seen = document.tokens - REREAD_TOKENS
    assert size == 4 * 256 * rows.layers[0].buffer.rows
    assert rows.rows == 4 * seen


def test_forks_read_on_in_the_room_behind_the_rows_one_after_the_other(lm: LanguageModel) -> None:
    rows = Document(lm, TEXT).read()._rows
    for ids in torch.randint(3, 300, (2, 1, 20)):
        fork = rows.fork()
        fork.read(lm, [ids], Progress(None, 0))
        for ours, theirs in zip(rows.layers, fork.layers, strict=True):
            assert theirs.keys.shape[2] == ours.keys.shape[2] + 20
            assert theirs.keys.untyped_storage().data_ptr() == ours.keys.untyped_storage().data_ptr()


def test_a_longer_question_makes_room_once(lm: LanguageModel) -> None:
    document = Document(lm, TEXT).read()
    size = document.kv_bytes
    options = {"methods": ["full"], "decoding": SHORT}
    question = "Why? " * 400
    assert_as_read(document, TEXT, [question], **options)
    grown = document.kv_bytes
    assert grown > size
    document.ask(question, method="full", decoding=SHORT)
    assert document.kv_bytes == grown


def test_the_rows_of_the_document_count_among_those_held(lm: LanguageModel, tokens: SoftTokens) -> None:
    document = Document(lm, TEXT)
    answer = document.ask(QUESTIONS[0], budget=16, tokens=tokens, decoding=SHORT)
    assert answer.peak_rows == 4 * 16 + 4 * (answer.prompt_tokens + 4)
    assert answer.kv_bytes == 4 * 16 * 256


def test_answers_are_written_side_by_side_and_in_pieces(lm: LanguageModel, tokens: SoftTokens) -> None:
    document = Document(lm, TEXT)
    options = {"budget": 40, "tokens": tokens, "decoding": SHORT}
    first = document.read_for(QUESTIONS[0], methods=["judgeq"], **options).writers[0]
    second = document.read_for(QUESTIONS[1], methods=["judgeq"], **options).writers[0]
    texts = [writer.finish().text for writer in (first, second)]
    assert texts == [document.ask(question, **options).text for question in QUESTIONS[:2]]
    steps, answer = to_the_end(document.stream(QUESTIONS[0], **options))
    assert answer.text == "".join(step.text for step in steps) == texts[0]
    turns, answers = to_the_end(document.compare(QUESTIONS[0], methods=["full", "judgeq"], **options))
    assert [answer.method for answer in answers] == ["full", "judgeq"]
    assert answers[1].text == "".join(step.text for at, step in turns if at == 1) == texts[0]


def test_threads_take_turns(lm: LanguageModel) -> None:
    document, found = Document(lm, TEXT), {}

    def ask(question: str) -> None:
        found[question] = document.ask(question, method="snapkv", budget=40, decoding=SHORT).text

    with ThreadPoolExecutor(len(QUESTIONS)) as threads:
        list(threads.map(ask, QUESTIONS))
    for question in QUESTIONS:
        expected = judgeq.ask(lm, TEXT, question, method="snapkv", budget=40, decoding=SHORT).text
        assert found[question] == expected


def test_a_reading_that_was_cancelled_leaves_the_document_usable(lm: LanguageModel) -> None:
    def stop(done: int, layers: int) -> None:
        raise KeyboardInterrupt

    document = Document(lm, TEXT)
    expected = judgeq.ask(lm, TEXT, QUESTIONS[0], method="snapkv", decoding=SHORT).text
    for _ in range(2):  # while the document is read, and while a question is
        with pytest.raises(KeyboardInterrupt):
            document.ask(QUESTIONS[0], method="snapkv", on_layer=stop)
        assert document.ask(QUESTIONS[0], method="snapkv", decoding=SHORT).text == expected


@pytest.mark.parametrize(("text", "options"), [("  ", {}), (TEXT, {"chunk": 0})])
def test_bad_documents_are_refused(lm: LanguageModel, text: str, options: dict) -> None:
    with pytest.raises(InputError):
        Document(lm, text, **options)


# Evicted once


def test_what_is_left_is_chosen_without_a_question_and_the_rest_is_freed(some_lm: LanguageModel) -> None:
    document, slide = Document(some_lm, TEXT), len(some_lm.geometry.sliding)
    for method in ("judgeq", "snapkv", "h2o", "pyramidkv", "streamingllm"):
        compressed = document.compress(method=method, budget=40, tokens=soft(some_lm))
        assert compressed.kv_bytes == ((4 - slide) * 40 + slide * (WINDOW - 1)) * 256
        assert compressed.full_kv_bytes == ((4 - slide) * document.tokens + slide * (WINDOW - 1)) * 256
    assert document.kv_bytes == 0, "rows that nobody holds are not held for this"
    held = document.read().compress(budget=40, tokens=soft(some_lm))
    fresh = Document(some_lm, TEXT, chunk=60).compress(budget=40, tokens=soft(some_lm))
    moved_rows(held.retained.kept, fresh.retained.kept)


@pytest.mark.parametrize(
    ("family", "method"),
    [
        *product(["llama"], ["judgeq", "judgeq:profile-free", "judgeq:bits", "pyramidkv", "adakv"]),
        *product(["llama", "gemma2", "gemma3_text", "granite", "smollm3"], ["full", "adakv:bits"]),
    ],
)
def test_a_question_is_read_on_top_of_the_rows_that_are_left(
    make_lm: Callable[..., LanguageModel], family: str, method: str
) -> None:
    """Several tokens at once give what one token at a time gives, however many rows each layer and head has."""
    lm = make_lm(family)
    chosen = {
        "adakv": SnapKV(selection=Selection(recent=4, allocation="adakv")),
        "adakv:bits": SnapKV(selection=Selection(recent=4, allocation="adakv", bits=4)),
        "judgeq:bits": JudgeQ(selection=Selection(bits=8)),
        "judgeq:profile-free": JudgeQ(selection=Selection(sinks=2, pool=1)),
    }.get(method, method)
    compressed = Document(lm, TEXT).compress(method=chosen, budget=40, tokens=soft(lm))
    for question in QUESTIONS:
        reading = compressed.read_for(question, decoding=SHORT)
        assert reading.full_kv_bytes == 256 * lm.geometry.complete_rows(reading.prompt.tokens)
        cache = compressed.retained.cache.fork()
        for token in reading.prompt.input_ids[0, compressed.prefix.tokens :]:
            with torch.inference_mode():
                logits = lm.model(token[None, None], cache=cache).logits[:, -1]
        assert torch.allclose(reading.logits, logits, atol=1e-3)
        if method == "full":
            expected = judgeq.ask(lm, TEXT, question, method="full", decoding=SHORT)
            assert reading.writers[0].finish().text == expected.text
            assert torch.allclose(reading.logits, judgeq.read(lm, TEXT, question, methods=["full"]).logits, atol=1e-3)


@pytest.mark.parametrize(("family", "changes"), SLIDING)
def test_a_compressed_document_may_have_layers_with_a_sliding_window(
    make_lm: Callable[..., LanguageModel], family: str, changes: dict
) -> None:
    lm = make_lm(family, **changes)
    compressed = Document(lm, TEXT).compress(method="full")
    for question in QUESTIONS:
        expected = judgeq.ask(lm, TEXT, question, method="full", decoding=SHORT).text
        assert compressed.ask(question, decoding=SHORT).text == expected


def test_it_is_said_everywhere_that_the_question_was_not_known(lm: LanguageModel, tokens: SoftTokens) -> None:
    aware = judgeq.ask(lm, TEXT, QUESTIONS[0], budget=40, tokens=tokens, decoding=SHORT)
    answer = Document(lm, TEXT).compress(budget=40, tokens=tokens).ask(QUESTIONS[0], decoding=SHORT)
    question = answer.prompt_tokens - Document(lm, TEXT).tokens
    assert (aware.query_aware, aware.retention.query_aware) == (True, True)
    assert (answer.query_aware, answer.retention.query_aware) == (False, False)
    assert answer.to_dict()["query_aware"] is False
    assert "query-agnostic" in answer.notices[0]
    assert "query-agnostic" in answer.retention.to_html()
    assert "query-agnostic" not in aware.retention.to_html()
    again = judgeq.RetentionMap.from_json(json.loads(json.dumps(answer.retention.to_json(scores=True))))
    assert not again.query_aware
    assert answer.kept_rows == [[40 + question] * 2] * 4
    assert answer.kv_bytes == 4 * (40 + question) * 256
    assert answer.full_kv_bytes == aware.full_kv_bytes
    assert answer.peak_rows == 4 * (40 + question)
    assert np.isnan(answer.retention.scores).any(axis=(0, 1)).sum() == question
    assert np.isfinite(np.array(answer.retention.to_figure("score").data[0].z, dtype=float)).any()


def test_questions_to_a_compressed_document_do_not_meet(lm: LanguageModel, tokens: SoftTokens) -> None:
    compressed = Document(lm, TEXT).compress(budget=40, tokens=tokens)
    size = compressed.kv_bytes
    first = [compressed.ask(question, decoding=SHORT).text for question in QUESTIONS]
    assert first == [compressed.ask(question, decoding=SHORT).text for question in QUESTIONS]
    assert compressed.kv_bytes == size
    steps = list(compressed.stream(QUESTIONS[0], decoding=SHORT))
    assert "".join(step.text for step in steps) == first[0]


def test_what_is_left_can_be_stored_in_few_bits(lm: LanguageModel, tokens: SoftTokens) -> None:
    document = Document(lm, TEXT).read()
    plain, small = (document.compress(budget=40, tokens=tokens, row_bits=bits) for bits in (None, 8))
    assert small.kv_bytes < plain.kv_bytes / 2
    assert small.read_for(QUESTIONS[0]).writers[0].kv_bytes < plain.read_for(QUESTIONS[0]).writers[0].kv_bytes
    assert small.full_kv_bytes == plain.full_kv_bytes


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.needs_response])
def test_methods_that_need_an_answer_are_refused(lm: LanguageModel, tokens: SoftTokens, method: str) -> None:
    with pytest.raises(InputError, match="no question yet"):
        Document(lm, TEXT).compress(method=method, tokens=tokens)


# On disk


@pytest.fixture
def folder(tmp_path: Path, make_lm: Callable[..., LanguageModel]) -> Path:
    document = Document(make_lm(), TEXT)
    document.ask(QUESTIONS[0], method="h2o", decoding=SHORT)
    return document.save(tmp_path / "document")


def test_a_saved_document_is_not_read_again(make_lm: Callable[..., LanguageModel], folder: Path) -> None:
    lm = make_lm()
    tokens, document, counted = soft(lm), Document.load(lm, folder), Counted(lm)
    assert document.text == TEXT.strip()
    assert sorted(path.name for path in folder.iterdir()) == ["document.json", "rows.safetensors"]
    options = {"methods": ["judgeq", "h2o"], "budget": 40, "tokens": tokens, "decoding": SHORT}
    found = document.read_for(QUESTIONS[1], **options)
    assert counted.take() == found.prompt.tokens - (document.tokens - REREAD_TOKENS)
    assert_same(found, judgeq.read(lm, TEXT, QUESTIONS[1], **options))


@pytest.mark.parametrize(("family", "changes"), SLIDING)
def test_windows_are_saved(make_lm: Callable[..., LanguageModel], tmp_path: Path, family: str, changes: dict) -> None:
    lm = make_lm(family, **changes)
    folder = Document(lm, TEXT, chunk=70).save(tmp_path / "document")
    options = {"methods": ["full", "snapkv"], "budget": 40, "decoding": SHORT}
    assert_as_read(Document.load(lm, folder), TEXT, QUESTIONS[:1], **options)


def test_a_document_is_saved_where_it_came_from(make_lm: Callable[..., LanguageModel], folder: Path) -> None:
    lm = make_lm()
    document = Document.load(lm, folder)
    before = [tensor.clone() for tensor in document._rows.tensors()]
    again = Document.load(lm, document.save(folder))
    for now in (document, again):
        assert all(torch.equal(a, b) for a, b in zip(now._rows.tensors(), before, strict=True))


def changed(folder: Path, **fields: object) -> None:
    path = folder / "document.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def with_tensor(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    path = folder / "rows.safetensors"
    stored = {**load_file(path), name: tensor}
    save_file({each: kept for each, kept in stored.items() if kept is not None}, path)


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda folder: (folder / "document.json").unlink(), "readable document"),
        (lambda folder: (folder / "rows.safetensors").unlink(), "readable document"),
        (lambda folder: cut(folder / "document.json", 0.5), "readable document"),
        (lambda folder: (folder / "document.json").write_text("[]"), "readable document"),
        (lambda folder: (folder / "document.json").write_bytes(b"\xff\xfe\x00"), "readable document"),
        (lambda folder: cut(folder / "rows.safetensors", 0.9), "readable document"),
        (lambda folder: cut(folder / "rows.safetensors", 0.001), "readable document"),
        (lambda folder: changed(folder, format="other/1"), "readable document"),
        (lambda folder: changed(folder, text=3), "readable document"),
        (lambda folder: changed(folder, text="Another text. " * 40), "another text"),
        (lambda folder: with_tensor(folder, "ids", None), "readable document"),
        (lambda folder: with_tensor(folder, "ids", torch.ones(3)), "readable document"),
        (lambda folder: with_tensor(folder, "ids", torch.ones(1, 5, dtype=torch.int64)), "readable document"),
        (lambda folder: with_tensor(folder, "keys.2", None), "readable document"),
        (lambda folder: with_tensor(folder, "values.3", torch.ones(1, 2, 7, 16)), "readable document"),
        (lambda folder: with_tensor(folder, "attention.3", torch.ones(1, 2, 2, 7)), "readable document"),
        (lambda folder: changed(folder, model="another"), "read by another"),
        (lambda folder: changed(folder, revision="abc"), "revision"),
        (lambda folder: changed(folder, dtype="torch.bfloat16"), "dtype"),
        (lambda folder: changed(folder, geometry={}), "geometry"),
        (lambda folder: changed(folder, tokenizer_hash="0"), "tokenizer_hash"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    lm: LanguageModel, folder: Path, spoil: Callable[[Path], object], match: str
) -> None:
    spoil(folder)
    with pytest.raises(InputError, match=match):
        Document.load(lm, folder)


def test_other_weights_of_this_name_are_noticed(make_lm: Callable[..., LanguageModel], folder: Path) -> None:
    with pytest.raises(InputError, match="other weights"):
        Document.load(make_lm(seed=1), folder)


def test_a_place_that_cannot_be_written_is_named(lm: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Document(lm, TEXT).save(tmp_path / "file")


def test_a_model_cast_since_has_to_read_again(make_lm: Callable[..., LanguageModel], tmp_path: Path) -> None:
    lm, short = make_lm(), Decoding(max_new_tokens=3)
    document = Document(lm, TEXT).read()
    compressed = document.compress(method="snapkv", budget=16)
    in_bits = document.compress(method="snapkv", budget=16, row_bits=8)
    steps = document.stream("Who keeps it?", method="snapkv", decoding=short)
    next(steps)
    for changed, back in ((torch.float16, torch.float32), (torch.bfloat16, torch.float32)):
        lm.model.to(changed)
        said = f"read in torch.float32 on cpu and .* become {changed} .* since"
        for asked in (
            lambda: document.ask("Who keeps it?", method="snapkv"),
            lambda: document.compress(method="snapkv"),
            lambda: document.save(tmp_path / "saved"),
            lambda: compressed.ask("Who keeps it?"),
            lambda: in_bits.ask("Who keeps it?"),
        ):
            with pytest.raises(InputError, match=said):
                asked()
        lm.model.to(back)
    assert compressed.ask("Who keeps it?", decoding=short).finish == "length"
    lm.model.half()
    with pytest.raises(InputError, match=r"The prompt was read in .* ask again"):
        next(steps)
    document.forget()
    assert document.ask("Who keeps it?", method="snapkv", decoding=short).finish == "length"


def test_a_document_that_was_read_is_told_nothing_that_it_cannot_do(lm: LanguageModel) -> None:
    compressed = Document(lm, TEXT).compress(method="snapkv", budget=16)
    with pytest.raises(InputError, match=r"shorten the question$"):
        compressed.ask("Who keeps it? " * 2000)
    with pytest.raises(InputError, match=r"ask for a shorter answer \(max_new_tokens\)$"):
        compressed.ask("Who keeps it?", decoding=Decoding(max_new_tokens=4096))
    with pytest.raises(InputError, match=r"leave Decoding\.evict_every out"):
        compressed.ask("Who keeps it?", decoding=Decoding(evict_every=8))
