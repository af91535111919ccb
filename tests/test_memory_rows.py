"""Memory rows: what trained tokens leave that read the prompt after the soft tokens, kept inside the budget."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import judgeq
from judgeq.cache.prefix import PrefixCache, Progress
from judgeq.config import Decoding
from judgeq.documents.compressed import CompressedDocument
from judgeq.documents.document import Document
from judgeq.errors import InputError
from judgeq.inference.decode import decode
from judgeq.inference.decode_eviction import DecodingEviction
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.prefill import Prefill, prefill
from judgeq.inference.prefill_batch import prefill_padded
from judgeq.inference.request import Request
from judgeq.methods import METHODS, Method
from judgeq.methods.parsing import method_from_text
from judgeq.methods.selection import Forced
from judgeq.models.language_model import LanguageModel
from judgeq.retention import RetentionMap
from judgeq.retention.text import sentences
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.soft_tokens import CONFIG_FILE, SoftTokens
from judgeq.soft_tokens.tensors import MemoryTokens, SoftTokenTensors
from tests.fixtures import TEXT, MakeLM, without_end
from tests.masked_reference import REFERENCE, attention, gone_rows
from tests.rounding import moved_rows
from tests.test_profile import profile

TOKENS, SOFT, MEMORY = 90, 5, 4
SHORT = Decoding(max_new_tokens=6)
ALLOCATIONS = ("uniform", "pyramid", "profile", "adakv", "profile+adakv")


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights_of(lm: LanguageModel) -> SoftTokenTensors:
    """Random soft and memory tokens, with offsets and adapters that do something."""

    def adapters(seed: int) -> LowRank:
        return LowRank.zero(lm, 2, seed).map(lambda tensor: tensor + 0.1 * drawn(seed, *tensor.shape))

    memory = MemoryTokens(drawn(3, MEMORY, 64), adapters(4))
    return SoftTokenTensors(drawn(1, SOFT, 64), drawn(2, 4, 4, SOFT, 16), adapters(5), memory)


@pytest.fixture(scope="module")
def tokens(lm: LanguageModel) -> SoftTokens:
    made = SoftTokens.initialise(lm, torch.arange(40, 40 + SOFT))
    return SoftTokens(weights_of(lm), replace(made.config, memory=MEMORY), profile(8, 64))


def rows_of(retained: Retained, layer: int) -> list[tuple[Tensor, Tensor]]:
    return retained.cache.layers[layer].heads()


@contextmanager
def adapted(lm: LanguageModel, weights: SoftTokenTensors) -> Iterator[None]:
    """Both groups of adapters, written out for a pass that ends with soft and memory tokens."""
    parts = [
        (weights.adapters, slice(-SOFT - MEMORY, -MEMORY)),
        (weights.memory_adapters, slice(-MEMORY, None)),
    ]
    with ExitStack() as stack:
        for adapters, own in parts:
            for name, down in adapters.down.items():

                def add(
                    linear: object,
                    inputs: tuple[Tensor, ...],
                    output: Tensor,
                    own: slice = own,
                    term: Tensor = down @ adapters.up[name],
                ) -> Tensor:
                    added = torch.zeros_like(output)
                    added[..., own, :] = inputs[0][..., own, :] @ term
                    return output + added

                linear = lm.model.get_decoder().layers.get_submodule(name)
                stack.callback(linear.register_forward_hook(add).remove)
        yield


def plain_rows(lm: LanguageModel, ids: Tensor, weights: SoftTokenTensors) -> DynamicCache:
    """Rows of prompt, soft and memory tokens, from transformers' own eager attention."""
    assert weights.memory
    embeds = lm.model.get_input_embeddings()(ids)
    appended = torch.cat([weights.embeddings, weights.memory.embeddings])[None]
    last = ids.shape[1]
    positions = torch.tensor([[*range(last + SOFT), *range(last, last + MEMORY)]])
    cache = DynamicCache()  # which stores every row of layers with a sliding window too
    with attention(lm, "eager"), adapted(lm, weights):
        lm.model(
            inputs_embeds=torch.cat([embeds, appended], 1),
            position_ids=positions,
            attention_mask=torch.ones(1, positions.shape[1], dtype=torch.int64),
            cache=cache,
            use_cache=True,
        )
    return cache


@pytest.mark.parametrize("name", ["judgeq", "snapkv"])
def test_rows_are_those_of_a_plain_pass_and_scores_are_untouched(
    some_lm: LanguageModel, ids: Tensor, name: str
) -> None:
    """The memory tokens stand right after the prompt and see it, the soft tokens and those of them before."""
    weights, expected = weights_of(some_lm), plain_rows(some_lm, ids, weights_of(some_lm))
    method = method_from_text(f"{name}:pool=1:memory=3")
    outcome = prefill(some_lm, ids, [Plan(method, 20)], soft_tokens=weights)
    without = prefill(some_lm, ids, [Plan(method_from_text(f"{name}:pool=1"), 17)], soft_tokens=weights)
    assert torch.allclose(outcome.logits, without.logits, atol=1e-4)
    ours, theirs = outcome.retained[0], without.retained[0]
    moved_rows([kept for kept in ours.kept if kept is not None], [kept for kept in theirs.kept if kept is not None])
    for layer in range(some_lm.geometry.layers):
        if layer not in some_lm.geometry.global_layers:
            assert ours.cache.layers[layer].keys.shape == theirs.cache.layers[layer].keys.shape
            continue
        assert torch.allclose(ours.scores[layer], theirs.scores[layer], atol=1e-5)
        keys, values = (
            getattr(expected.layers[layer], part)[0, :, TOKENS + SOFT :][:, :3] for part in ("keys", "values")
        )
        for head, (mine, its) in enumerate(rows_of(ours, layer)):
            assert len(mine) == len(its) == 20
            assert torch.allclose(mine[:3], keys[head], atol=1e-4)
            assert torch.allclose(its[:3], values[head], atol=1e-4)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_answers_are_those_of_dense_attention_to_kept_and_memory_rows(
    some_lm: LanguageModel, ids: Tensor, allocation: str
) -> None:
    weights, answer = (
        weights_of(some_lm),
        torch.randint(3, 300, (1, 7), generator=torch.Generator().manual_seed(9)),
    )
    method = method_from_text(f"judgeq:memory={MEMORY}:allocation={allocation}")
    plan = Plan(method, 20, profile(8, 64, layers=len(some_lm.geometry.global_layers)))
    retained = prefill(some_lm, ids, [plan], soft_tokens=weights).retained[0]
    layers = some_lm.geometry.global_layers
    stored = sum(len(keys) for layer in layers for keys, _ in rows_of(retained, layer))
    assert stored == len(layers) * 2 * 20

    complete = plain_rows(some_lm, ids, weights)
    for layer in complete.layers:  # the memory rows first, where no window reaches them
        order = [*range(TOKENS + SOFT, TOKENS + SOFT + MEMORY), *range(TOKENS)]
        layer.keys, layer.values = layer.keys[:, :, order], layer.values[:, :, order]
    stay = torch.zeros(2, MEMORY, dtype=torch.bool)
    gone = [torch.cat([stay, layer], 1) for layer in gone_rows(retained, TOKENS)]
    positions = torch.arange(TOKENS, TOKENS + 7)[None]
    with attention(some_lm, REFERENCE):
        expected = some_lm.model(answer, cache=complete, position_ids=positions, gone=gone).logits
    found = some_lm.model(answer, cache=retained.cache, use_cache=True).logits
    assert torch.allclose(found, expected, atol=2e-4)


def same(lm: LanguageModel, found: Prefill, expected: Prefill) -> None:
    """The same rows of the prompt, and the same memory rows."""
    layers = lm.geometry.global_layers
    for ours, theirs in zip(found.retained, expected.retained, strict=True):
        assert ours.memory == theirs.memory == MEMORY
        assert ours.cache.row_bytes == theirs.cache.row_bytes
        kept = [[own.kept[layer] for layer in layers] for own in (ours, theirs)]
        moved_rows(*kept, [theirs.scores[layer] for layer in layers])
        for layer in layers:
            for mine, its in zip(rows_of(ours, layer), rows_of(theirs, layer), strict=True):
                assert torch.allclose(mine[0][:MEMORY], its[0][:MEMORY], atol=1e-4)
                assert torch.allclose(mine[1][:MEMORY], its[1][:MEMORY], atol=1e-4)


METHODS_WITH_ROWS = tuple(
    f"{name}:memory={MEMORY}"
    for name, cls in METHODS.items()
    if not (cls.needs_response or cls.replays) and name not in ("full", "stockanswer")
)


def plans(budget: int = 20) -> list[Plan]:
    return [Plan(method_from_text(text), budget) for text in METHODS_WITH_ROWS]


def test_chunks_prefixes_and_padding_change_nothing(some_lm: LanguageModel, ids: Tensor) -> None:
    weights, shorter = weights_of(some_lm), ids[:, :71]
    expected = prefill(some_lm, ids, plans(), soft_tokens=weights)
    same(some_lm, prefill(some_lm, ids, plans(), soft_tokens=weights, chunk=31), expected)
    prefix = PrefixCache(some_lm.model.config)
    prefix.read(some_lm, [ids[:, :40]], Progress(None, 0), attention_sums=True)
    for _ in range(2):  # the prefix is left as it was
        same(some_lm, prefill(some_lm, ids, plans(), soft_tokens=weights, prefix=prefix), expected)
    padded = prefill_padded(some_lm, [shorter, ids], [plans(), plans()], soft_tokens=weights)
    same(some_lm, padded[1], expected)
    same(some_lm, padded[0], prefill(some_lm, shorter, plans(), soft_tokens=weights))


def test_a_batch_of_prompts_gets_rows_of_its_own(lm: LanguageModel, ids: Tensor) -> None:
    weights, both, plan = weights_of(lm), torch.cat([ids, ids.flip(1)]), plans()[:1]
    found = prefill(lm, both, plan, soft_tokens=weights).retained[0].cache.layers
    for at in range(2):
        alone = prefill(lm, both[at : at + 1], plan, soft_tokens=weights).retained[0].cache.layers
        for ours, theirs in zip(found, alone, strict=True):
            assert torch.allclose(ours.keys[at, :, :MEMORY], theirs.keys[0, :, :MEMORY], atol=1e-4)


def test_plans_share_one_pass(lm: LanguageModel, ids: Tensor) -> None:
    """The first ones are a set of their own, whatever the others of the pass keep; the stock answer has a pass of its
    own, whose words see no soft tokens."""
    weights = weights_of(lm)
    texts = ("full", "judgeq", "judgeq:memory=2", "h2o:memory=4", "stockanswer")
    several = [Plan(method_from_text(text), 20) for text in texts]
    several[0] = Plan(several[0].method, TOKENS)
    together = prefill(lm, ids, several, soft_tokens=weights).retained
    assert [kept.memory for kept in together] == [0, 0, 2, 4, 0]
    for plan, kept in zip(several, together, strict=True):
        alone = prefill(lm, ids, [plan], soft_tokens=weights).retained[0]
        assert kept.cache.row_bytes == alone.cache.row_bytes
        moved_rows(kept.kept, alone.kept, alone.scores)
        for layer in range(4):
            for ours, theirs in zip(rows_of(kept, layer), rows_of(alone, layer), strict=True):
                assert torch.allclose(ours[0][: kept.memory], theirs[0][: kept.memory], atol=1e-4)


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if cls.needs_response])
def test_second_passes_keep_the_rows_of_the_first(lm: LanguageModel, ids: Tensor, name: str) -> None:
    weights = weights_of(lm)
    found = prefill_with_lookahead(
        Request(lm, ids, [Plan(method_from_text(f"{name}:memory=3"), 20)], SHORT, weights)
    ).retained[0]
    without = prefill_with_lookahead(Request(lm, ids, [Plan(method_from_text(name), 17)], SHORT, weights)).retained[0]
    memory = prefill(lm, ids, [], soft_tokens=weights, memory=3).memory
    if name != "laq" and name != "judgeq+draft":  # their drafts were written at another budget
        moved_rows(found.kept, without.kept)
    for layer, (keys, values) in enumerate(memory):
        for head, (mine, its) in enumerate(rows_of(found, layer)):
            assert len(mine) == 20
            assert torch.allclose(mine[:3], keys[0, head], atol=1e-4)
            assert torch.allclose(its[:3], values[0, head], atol=1e-4)


@pytest.mark.parametrize("text", ["judgeq", "snapkv", "h2o"])
def test_memory_rows_are_never_evicted_while_an_answer_is_written(lm: LanguageModel, ids: Tensor, text: str) -> None:
    plan = Plan(method_from_text(f"{text}:memory={MEMORY}"), 40)
    outcome = prefill(lm, ids, [plan], soft_tokens=weights_of(lm))
    retained = outcome.retained[0]
    before = [[keys[:MEMORY].clone() for keys, _ in rows_of(retained, layer)] for layer in range(4)]
    eviction = DecodingEviction(lm, retained, 40, 4, weights_of(lm))
    with without_end(lm):
        list(decode(lm, retained.cache, outcome.logits, Decoding(14), eviction.next_logits))
    assert eviction.rounds == 3
    eviction.evict()
    layers = [rows_of(retained, layer) for layer in range(4)]
    assert sum(len(keys) for heads in layers for keys, _ in heads) == 4 * 2 * 40
    for heads, first, known in zip(layers, before, eviction.stored_tokens(), strict=True):
        for (keys, _), own, stored in zip(heads, first, known, strict=True):
            assert torch.equal(keys[:MEMORY], own)
            assert len(stored) == len(keys) - MEMORY


@pytest.mark.parametrize(("bits", "near"), [(8, 0.05), (4, 0.6)])
def test_they_are_stored_in_few_bits_like_all_others(lm: LanguageModel, ids: Tensor, bits: int, near: float) -> None:
    exact, rounded = (
        prefill(lm, ids, [Plan(method_from_text(f"judgeq:memory=4{more}"), 20)], soft_tokens=weights_of(lm)).retained[0]
        for more in ("", f":bits={bits}")
    )
    for layer in range(4):
        for ours, theirs in zip(rows_of(rounded, layer), rows_of(exact, layer), strict=True):
            assert len(ours[0]) == 20
            assert (ours[0] - theirs[0]).abs().max() < near


def test_documents_and_batches_answer_as_one_question_does(lm: LanguageModel, tokens: SoftTokens) -> None:
    options = {"method": f"judgeq:memory={MEMORY}", "budget": 20, "tokens": tokens, "decoding": SHORT}
    options["method"] = method_from_text(options["method"])
    questions = [(TEXT, "How tall is it?"), (TEXT, "Who names it?")]
    alone = [judgeq.ask(lm, *pair, **options) for pair in questions]
    document = Document(lm, TEXT)
    for padded in (True, False):
        many = judgeq.ask_many(lm, questions, padded=padded, **options)
        asked = [document.ask(question, **options) for _, question in questions]
        for ours in (many, asked):
            for mine, expected in zip(ours, alone, strict=True):
                moved = moved_rows(mine.retention.kept, expected.retention.kept, expected.retention.scores)
                assert moved or mine.text == expected.text
                assert mine.kv_bytes == expected.kv_bytes == 4 * 2 * 20 * 16 * 2 * 4
                assert mine.retention.memory_rows == MEMORY
                assert not mine.notices


@pytest.mark.parametrize("more", ["", ":allocation=adakv", ":bits=8"])
def test_a_compressed_document_keeps_them_on_disk(
    lm: LanguageModel, tokens: SoftTokens, tmp_path: Path, more: str
) -> None:
    method = method_from_text(f"judgeq:memory={MEMORY}{more}")
    compressed = Document(lm, TEXT).compress(method=method, budget=20, tokens=tokens)
    assert compressed.retained.memory == MEMORY
    expected = compressed.ask("How tall is it?", decoding=SHORT)
    again = CompressedDocument.load(lm, compressed.save(tmp_path / "document"))
    found = again.ask("How tall is it?", decoding=SHORT)
    assert (found.text, found.kv_bytes) == (expected.text, expected.kv_bytes)
    assert found.retention.memory_rows == MEMORY
    assert all(
        (mine == theirs).all()
        for ours, others in zip(found.retention.kept, expected.retention.kept, strict=True)
        for mine, theirs in zip(ours, others, strict=True)
    )
    header = tmp_path / "document" / "document.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"memory": 30}))
    with pytest.raises(InputError, match="does not hold a readable document"):
        CompressedDocument.load(lm, tmp_path / "document")


def test_they_are_shown_as_what_they_are(lm: LanguageModel, tokens: SoftTokens) -> None:
    answer = judgeq.ask(
        lm,
        TEXT,
        "Who?",
        method=method_from_text("snapkv:recent=0:memory=3"),
        budget=20,
        tokens=tokens,
        decoding=SHORT,
    )
    found = answer.to_dict()
    assert found["memory_rows"] == 3
    assert {rows for layer in found["kept_rows"] for rows in layer} == {17}
    assert answer.peak_rows >= 4 * 20
    again = RetentionMap.from_json(json.loads(json.dumps(answer.retention.to_json())))
    assert again.memory_rows == 3
    for shown in (" ".join(sentences(again)), answer.retention.to_html()):
        assert "3 more of the budget’s 20 rows are memory rows" in shown
    old = answer.retention.to_json()
    del old["memory_rows"]
    assert RetentionMap.from_json(old).memory_rows == 0
    assert "memory row" not in " ".join(sentences(RetentionMap.from_json(old)))


@pytest.mark.parametrize(
    ("budget", "forced", "kept"),
    [
        (20, Forced(), 4),
        (6, Forced(), 3),
        (1, Forced(), 0),
        (20, Forced(tuple(range(18))), 2),
        (90, Forced(), 0),
    ],
)
def test_never_more_than_half_of_a_budget_nor_what_is_pinned(
    lm: LanguageModel, ids: Tensor, budget: int, forced: Forced, kept: int
) -> None:
    plan = Plan(method_from_text("judgeq:memory=4"), budget, forced=forced)
    retained = prefill(lm, ids, [plan], soft_tokens=weights_of(lm)).retained[0]
    assert retained.memory == kept
    assert all(len(keys) == budget for layer in range(4) for keys, _ in rows_of(retained, layer))
    assert all(set(forced.pinned) <= set(head.tolist()) for head in retained.kept[0][0])


def test_a_budget_that_is_too_small_says_so(lm: LanguageModel, tokens: SoftTokens) -> None:
    options = {"method": method_from_text("judgeq:memory=4"), "tokens": tokens, "decoding": SHORT}
    (said,) = judgeq.ask(lm, TEXT, "Who?", budget=5, **options).notices
    assert said.startswith("A budget of 5 rows has room for 2 memory rows and not for 4")
    assert said in Document(lm, TEXT).compress(method=options["method"], tokens=tokens, budget=5).ask("Who?").notices
    (said,) = judgeq.ask(lm, TEXT, "Who?", budget=1.0, **options).notices
    assert said == "The budget covers the whole prompt: this is the full cache."


@pytest.mark.parametrize(
    ("memory", "count", "said"),
    [(True, 5, "have 4 memory tokens and 5 memory rows are asked for"), (False, 1, "have no memory tokens")],
)
def test_more_than_there_are_is_refused(
    lm: LanguageModel, ids: Tensor, tokens: SoftTokens, memory: bool, count: int, said: str
) -> None:
    if not memory:
        tokens = SoftTokens(replace(tokens.weights, memory=None), replace(tokens.config, memory=0))
    method = method_from_text(f"snapkv:memory={count}")
    for budget in (20, 1.0):
        with pytest.raises(InputError, match=said):
            judgeq.ask(lm, TEXT, "Who?", method=method, budget=budget, tokens=tokens)
    with pytest.raises(InputError, match=said):
        prefill(lm, ids, [Plan(method, 20)], soft_tokens=tokens.weights)


def test_what_makes_no_sense_is_refused(lm: LanguageModel, ids: Tensor, tokens: SoftTokens) -> None:
    with pytest.raises(InputError, match=r"Selection\.memory is 4 and does nothing for full"):
        method_from_text("full:memory=4")
    with pytest.raises(InputError, match=r"Selection\.memory is 4 and stockanswer has no memory tokens"):
        method_from_text("stockanswer:memory=4")
    with pytest.raises(InputError, match=r"Selection\.memory is -1"):
        method_from_text("judgeq:memory=-1")
    with pytest.raises(InputError, match="need soft tokens with memory tokens"):
        prefill(lm, ids, [Plan(method_from_text("snapkv:memory=4"), 20)])
    with pytest.raises(InputError, match="memory tokens have shape"):
        SoftTokens(tokens.weights, replace(tokens.config, memory=0))


def test_a_method_that_keeps_everything_keeps_none(lm: LanguageModel, ids: Tensor) -> None:
    @dataclasses.dataclass(frozen=True)
    class Sparing(Method):
        """Evicts nothing."""

        name = "sparing"

        def score(self, view: object) -> None:
            return None

    method = Sparing(replace(Sparing.selection, memory=4, bits=8))
    retained = prefill(lm, ids, [Plan(method, 20)], soft_tokens=weights_of(lm)).retained[0]
    assert all(len(keys) == TOKENS for layer in range(4) for keys, _ in rows_of(retained, layer))


def test_files_keep_them(lm: LanguageModel, tokens: SoftTokens, tmp_path: Path) -> None:
    assert tokens.parts == ["embeddings", "query offsets", "adapters", "memory tokens", "profile"]
    folder = tokens.save_pretrained(tmp_path / "judge")
    again = SoftTokens.for_model(lm, folder)
    assert again.weights.memory is not None
    assert torch.equal(again.weights.memory.embeddings, tokens.weights.memory.embeddings)
    assert again.tensors().keys() == tokens.tensors().keys()
    assert (again.config, again.config.memory) == (tokens.config, MEMORY)
    assert "4 memory tokens follow them" in (folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="no place for the query offsets, adapters, memory tokens"):
        tokens.export_peft(tmp_path / "peft")
    without = SoftTokens(replace(tokens.weights, memory=None), replace(tokens.config, memory=0))
    without.save_pretrained(folder)
    assert "memory" not in json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    assert "memory" not in (folder / "README.md").read_text(encoding="utf-8")
    assert SoftTokens.from_pretrained(folder).weights.memory is None


def test_adapters_of_another_model_are_refused(make_lm: MakeLM, tokens: SoftTokens) -> None:
    memory = MemoryTokens(tokens.weights.memory.embeddings, LowRank.zero(make_lm(intermediate_size=32), 2, 0))
    other = SoftTokens(replace(tokens.weights, memory=memory), tokens.config)
    with pytest.raises(InputError, match="adapters do not fit"):
        other.check(make_lm())


@pytest.mark.parametrize(
    ("name", "budget", "kept"),
    [
        ("judgeq", 96, MEMORY),
        ("judgeq", 97, MEMORY // 2),
        ("judgeq", 192, MEMORY // 2),
        ("judgeq", 193, 0),
        ("judgeq", 24, 3),
        ("judgeq", 7, 0),
        ("judgeq+draft", 64, MEMORY),
        ("judgeq:memory=0", 64, 0),
        ("judgeq:memory=2", 8, 2),
        ("snapkv", 64, 0),
        ("snapkv:memory=3", 64, 3),
    ],
)
def test_who_scores_with_soft_tokens_keeps_their_memory_rows_unless_told_otherwise(
    lm: LanguageModel, tokens: SoftTokens, name: str, budget: int, kept: int
) -> None:
    (answer,) = [judgeq.ask(lm, TEXT * 2, "Where?", method=method_from_text(name), budget=budget, tokens=tokens)]
    assert answer.retention.memory_rows == kept
    assert not answer.notices
    assert {len(head) for layer in answer.retention.kept for head in layer} == {budget - kept}
    document = judgeq.Document(lm, TEXT * 2)
    if not method_from_text(name).needs_response:
        asked = method_from_text(name).selection.memory or 0
        assert document.compress(method=method_from_text(name), budget=budget, tokens=tokens).retained.memory == asked


@pytest.mark.parametrize(
    ("name", "budget", "kept"),
    [
        ("judgeq", 193, MEMORY),
        ("judgeq", 24, 3),
        ("judgeq:memory=0", 64, 0),
        ("judgeq:memory=2", 8, 2),
        ("keynorm", 64, 0),
    ],
)
def test_those_of_tokens_for_documents_are_kept_at_any_budget_with_room(
    lm: LanguageModel, tokens: SoftTokens, name: str, budget: int, kept: int
) -> None:
    made_for = replace(tokens, config=replace(tokens.config, recipe={"question": "unknown"}))
    compressed = Document(lm, TEXT * 2).compress(method=name, budget=budget, tokens=made_for)
    assert compressed.retained.memory == kept
