"""Bounded decoding: the bound, what stays, what is left alone, and what is refused."""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import judgeq
from judgeq.attention.call import AttentionCall
from judgeq.cache.layers import SHARE, STEP
from judgeq.config import Decoding, Selection
from judgeq.errors import InputError
from judgeq.inference.decode import Step, decode
from judgeq.inference.decode_eviction import DecodingEviction
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.prefill import prefill
from judgeq.methods import (
    H2O,
    METHODS,
    JudgeQ,
    KeyNorm,
    LayerView,
    Method,
    SnapKV,
    StreamingLLM,
    question_methods,
)
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import TEXT, MakeLM
from tests.masked_reference import REFERENCE, attention, gone_rows
from tests.test_rope import longrope

TOKENS = 90
EXACT = Selection(pool=1)
MIXED = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 2}
DECODABLE = [
    name for name in question_methods() if not METHODS[name].needs_response and name not in ("full", "pyramidkv")
]


@pytest.fixture
def soft(soft_with_offsets: SoftTokenTensors) -> SoftTokenTensors:
    return soft_with_offsets


ROW = 16 * 2 * 4  # numbers, keys and values, bytes


Start = Callable[..., tuple[DecodingEviction, Tensor]]


@pytest.fixture
def start(endless: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> Start:
    """Reads the prompt and starts evicting; returns the logits of the first token too."""

    def begin(
        method: Method, budget: int, every: int, lm: LanguageModel = endless, prompt: Tensor = ids
    ) -> tuple[DecodingEviction, Tensor]:
        plan = Plan(method, min(budget, prompt.shape[1]))
        outcome = prefill(lm, prompt, [plan], soft_tokens=soft)
        return DecodingEviction(lm, outcome.retained[0], budget, every, soft), outcome.logits

    return begin


def steps(eviction: DecodingEviction, logits: Tensor, length: int) -> Iterator[Step]:
    return decode(eviction.lm, eviction.cache, logits, Decoding(length), eviction.next_logits)


def counts(eviction: DecodingEviction) -> Tensor:
    """(L, H_kv) rows that are stored now, of the layers without a sliding window."""
    layers = [eviction.cache.layers[at] for at in eviction.lm.geometry.global_layers]
    return torch.tensor([[len(keys) for keys, _ in layer.heads()] for layer in layers])


def most_bytes(budget: int, every: int) -> int:
    """What rows and the room behind them may take, in 4 layers of 2 heads."""
    rows = budget + every
    return 4 * 2 * (rows + max(STEP, rows // SHARE)) * ROW


def test_over_2000_tokens_no_head_ever_holds_more_than_the_budget_and_the_interval(start: Start) -> None:
    eviction, logits = start(JudgeQ(), 24, 32)
    most = 0
    written = 0
    for step in steps(eviction, logits, 2000):
        written = step.index + 1
        held = counts(eviction)
        assert int(held.max()) <= 24 + 32
        assert eviction.cache.row_bytes == int(held.sum()) * ROW
        assert eviction.cache.kv_bytes <= most_bytes(24, 32)
        most = max(most, int(held.max()))
    assert written == 2000
    assert most == 24 + 32
    assert eviction.rounds == 1999 // 32
    assert eviction.cache.get_seq_length() == TOKENS + 1999
    assert eviction.stored_tokens()[0][0][-1] == TOKENS + 1998


@pytest.mark.parametrize("name", DECODABLE)
def test_every_method_stays_within_the_bound(start: Start, name: str) -> None:
    eviction, logits = start(METHODS[name](), 40, 16)
    for _ in steps(eviction, logits, 70):
        held = counts(eviction)
        assert int(held.max()) <= 40 + 16
        assert eviction.cache.row_bytes == int(held.sum()) * ROW
        assert eviction.cache.kv_bytes <= most_bytes(40, 16)
    assert eviction.rounds == 4
    assert [[len(rows) for rows in layer] for layer in eviction.stored_tokens()] == held.tolist()


@pytest.mark.parametrize("name", DECODABLE)
def test_a_budget_above_the_length_changes_nothing(
    start: Start, endless: LanguageModel, ids: Tensor, soft: SoftTokenTensors, name: str
) -> None:
    method = METHODS[name]()
    plain = prefill(endless, ids, [Plan(method, TOKENS, None)], soft_tokens=soft)
    expected = [s.token for s in decode(endless, plain.retained[0].cache, plain.logits, Decoding(60))]
    assert len(set(expected)) > 2
    eviction, logits = start(method, TOKENS + 60, 8)
    assert [s.token for s in steps(eviction, logits, 60)] == expected
    assert eviction.cache.kv_bytes == plain.retained[0].cache.kv_bytes


class Masked:
    """Bounded decoding with complete rows and masks, Judge Q without pooling: what `DecodingEviction` must come to."""

    def __init__(self, lm: LanguageModel, ids: Tensor, retained: Retained, soft: SoftTokenTensors) -> None:
        self.lm, self.soft, self.cache = lm, soft, DynamicCache(config=lm.model.config)
        self.gone = gone_rows(retained, TOKENS)
        with attention(lm, REFERENCE):
            lm.model(ids, cache=self.cache, gone=None)

    def next_logits(self, token: int) -> Tensor:
        with attention(self.lm, REFERENCE):
            logits = self.lm.model(torch.tensor([[token]]), cache=self.cache, gone=self.gone).logits
        self.gone = [torch.nn.functional.pad(gone, (0, 1)) for gone in self.gone]
        return logits[:, -1]

    def judge(self, sizes: dict[int, list[int]]) -> None:
        """Keep the best rows by the attention of the soft tokens, in these layers so many of each head."""
        recorded: dict[int, Tensor] = {}
        rows = self.cache.get_seq_length()
        embeds, looked_at = self.soft.embeddings[None], copy.deepcopy(self.cache)
        with attention(self.lm, REFERENCE):
            self.lm.model(inputs_embeds=embeds, cache=looked_at, gone=self.gone, recorded=recorded)
        for layer, of_heads in sizes.items():
            scores = recorded[layer][0, :, :, :rows].mean(1).reshape(2, 2, rows).mean(1)
            for head, size in enumerate(of_heads):
                best = scores[head].masked_fill(self.gone[layer][head], -1).topk(size).indices
                self.gone[layer][head] = True
                self.gone[layer][head, best] = False


def test_rows_and_logits_are_those_of_complete_rows_with_masks(
    some_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    soft = replace(soft, query_offsets=None)
    outcome = prefill(some_lm, ids, [Plan(JudgeQ(selection=Selection(pool=1)), 12)], soft_tokens=soft)
    (retained,), logits, evicted_from = outcome.retained, outcome.logits, some_lm.geometry.global_layers
    eviction = DecodingEviction(some_lm, retained, 12, 5, soft)
    reference = Masked(some_lm, ids, retained, soft)
    for at in range(23):
        token = int(logits.argmax(-1))
        before = eviction.rounds
        logits = eviction.next_logits(token)
        if eviction.rounds > before:
            kept = counts(eviction) - 1  # without the new token
            reference.judge(dict(zip(evicted_from, kept.tolist(), strict=True)))
        assert torch.allclose(logits, reference.next_logits(token), atol=1e-3), at
        for layer in evicted_from:
            for rows, evicted in zip(eviction.stored_tokens()[layer], reference.gone[layer], strict=True):
                assert torch.equal(rows, (~evicted).nonzero()[:, 0])
    assert eviction.rounds == 4


def test_a_judgement_gives_back_what_was_set_aside(start: Start) -> None:
    eviction, _ = start(JudgeQ(), 12, 100)
    for token in range(3, 43):
        eviction.next_logits(token)
    assert eviction.cache.kv_bytes > eviction.cache.row_bytes == 4 * 2 * (12 + 40) * ROW
    rooms = [weakref.ref(layer.buffer) for layer in eviction.cache.layers]
    eviction.evict()
    assert eviction.cache.kv_bytes == eviction.cache.row_bytes == 4 * 2 * 12 * ROW
    assert [room() for room in rooms] == [None] * 4


def test_a_row_stays_what_it_was_at_the_place_that_is_told(start: Start, endless: LanguageModel, ids: Tensor) -> None:
    eviction, logits = start(JudgeQ(), 12, 7)
    written = [step.token for step in steps(eviction, logits, 40)]
    whole = DynamicCache(config=endless.model.config)
    endless.model(torch.cat([ids, torch.tensor([written])], 1), cache=whole)
    kept = eviction.stored_tokens()[0]
    assert any(int(rows[0]) < TOKENS <= int(rows[3]) for rows in kept)
    for head, (keys, values) in enumerate(eviction.cache.layers[0].heads()):  # it has seen no eviction
        assert torch.allclose(keys, whole.layers[0].keys[0, head, kept[head]], atol=1e-5)
        assert torch.allclose(values, whole.layers[0].values[0, head, kept[head]], atol=1e-5)


@pytest.mark.parametrize("length", [10, 40])
def test_layers_with_a_sliding_window_are_left_alone(start: Start, make_lm: MakeLM, ids: Tensor, length: int) -> None:
    lm = make_lm("qwen2", **MIXED)
    eviction, _ = start(JudgeQ(), 6, 100, lm, ids[:, :length])
    for token in (5, 6, 7):
        eviction.next_logits(token)
    before = [(layer.keys.clone(), layer.values.clone()) for layer in eviction.cache.layers]
    expected = eviction.cache.fork()
    eviction.evict()
    assert [layer.keys.shape[2] for layer in eviction.cache.layers[:2]] == [6, 6]
    for layer, (keys, values) in zip(eviction.cache.layers[2:], before[2:], strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)
        assert not layer.record_past
        assert layer.get_seq_length() == length + 3
    last = range(max(0, length + 3 - 23), length + 3)
    assert eviction.stored_tokens()[2][0].tolist() == list(last)
    for cache in (expected, eviction.cache):  # both go on
        assert lm.model(torch.tensor([[8]]), cache=cache).logits.isfinite().all()


@dataclass(frozen=True)
class Failing(JudgeQ):
    """Fails once, in the second layer, at its first judgement behind the prompt."""

    failures: ClassVar[list[int]] = []

    def score(self, view: LayerView) -> Tensor | None:
        if view.layer == 1 and view.draw_id and not self.failures:
            self.failures.append(view.layer)
            raise RuntimeError("out of patience")
        return super().score(view)


@pytest.mark.parametrize(("length", "family"), [(90, "llama"), (10, "qwen2"), (40, "qwen2")])
def test_a_judgement_that_fails_loses_no_row_and_may_be_tried_again(
    start: Start,
    make_lm: MakeLM,
    ids: Tensor,
    length: int,
    family: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = make_lm(family, **(MIXED if family == "qwen2" else {}))
    monkeypatch.setattr(Failing, "failures", [])
    runs = [start(method(), 6, 5, lm, ids[:, :length])[0] for method in (Failing, JudgeQ)]
    for eviction in runs:
        for token in (5, 6, 7, 8, 9):
            eviction.next_logits(token)
    failing, sound = runs
    before = failing.stored_tokens()
    with pytest.raises(RuntimeError, match="out of patience"):
        failing.next_logits(10)
    assert failing.cache.get_seq_length() == length + 5
    assert str(failing.stored_tokens()) == str(before)
    for mine, other in zip(failing.cache.layers, sound.cache.layers, strict=True):
        rows = [layer.heads() if hasattr(layer, "heads") else [(layer.keys, layer.values)] for layer in (mine, other)]
        assert all(torch.equal(a, b) for one, two in zip(*rows, strict=True) for a, b in zip(one, two, strict=True))
    assert torch.equal(failing.next_logits(10), sound.next_logits(10))
    assert (failing.rounds, sound.rounds) == (1, 1)
    assert str(failing.stored_tokens()) == str(sound.stored_tokens())


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_judgement_that_evicts_nothing_leaves_the_state_as_it_was(start: Start, make_lm: MakeLM, family: str) -> None:
    lm = make_lm(family, **(MIXED if family == "qwen2" else {}))
    eviction, _ = start(JudgeQ(), 500, 4, lm)
    eviction.next_logits(5)
    untouched = eviction.cache.fork()
    eviction.evict()
    logits = [lm.model(torch.tensor([[8]]), cache=cache).logits for cache in (untouched, eviction.cache)]
    assert torch.equal(*logits)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *(("llama", name) for name in sorted(set(DECODABLE) - {"random", "expectedattention"})),
        *itertools.product(["gemma2", "gemma3_text", "granite", "smollm3"], ["judgeq", "snapkv", "h2o"]),
        *((family, "expectedattention:queries=20") for family in ("llama", "gemma3_text", "granite")),
    ],
)
def test_with_all_rows_held_the_scores_are_those_of_a_prompt_that_holds_the_answer(
    start: Start, make_lm: MakeLM, ids: Tensor, soft: SoftTokenTensors, family: str, name: str
) -> None:
    lm, method = make_lm(family), method_from_text(name)
    eviction, _ = start(method, 500, 500, lm)
    written = torch.randint(3, 300, (40,), generator=torch.Generator().manual_seed(5))
    for token in written.tolist():
        eviction.next_logits(token)
    eviction.evict()
    whole = torch.cat([ids, written[None]], 1)
    expected = prefill(lm, whole, [Plan(method, 500)], soft_tokens=soft).retained[0].scores
    for layer, heads in eviction._rows.items():
        scores = torch.stack([head.scores for head in heads])
        assert torch.allclose(scores, expected[layer][0], atol=1e-4)


def view_of(queries: Tensor, keys: Tensor, first: int, **more: Tensor) -> LayerView:
    """What is seen of the rows up to the last query when the queries from `first` on ask."""
    call = AttentionCall(0, queries[:, :, first:], keys, keys, 0.25, None, None, torch.Tensor)
    return LayerView(**vars(call), prompt_tokens=keys.shape[2], **more)


@pytest.mark.parametrize("average", [False, True])
def test_h2o_goes_on_accumulating(average: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn((1, heads, 20, 8), generator=generator) for heads in (4, 2))
    method = H2O(average=average)
    early = method.score(view_of(queries[:, :, :12], keys[:, :, :12], 0))
    again = method.score(
        view_of(
            queries,
            keys,
            12,
            row_ages=torch.arange(20, 0, -1),
            previous_scores=torch.nn.functional.pad(early, (0, 8)),
        )
    )
    assert torch.allclose(again, method.score(view_of(queries, keys, 0)), atol=1e-6)


def test_snapkv_asks_with_the_tokens_that_were_written_last() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn((1, heads, 20, 8), generator=generator) for heads in (4, 2))
    expected = SnapKV(window=6).score(view_of(queries, keys, 0))
    again = view_of(queries, keys, 14, row_ages=torch.arange(20, 0, -1))
    assert torch.allclose(SnapKV(window=6).score(again), expected)
    assert torch.allclose(SnapKV(window=32).score(again), expected)


def test_streaming_keeps_the_sinks_and_the_last_tokens(start: Start) -> None:
    eviction, logits = start(StreamingLLM(), 12, 10)
    list(steps(eviction, logits, 32))
    assert eviction.stored_tokens()[3][1].tolist() == [0, 1, 2, 3, *range(TOKENS + 30 - 8, TOKENS + 31)]


def test_random_rows_are_drawn_anew_each_time_and_in_each_head(start: Start) -> None:
    eviction, _ = start(method_from_text("random"), 30, 100)
    draws = []
    for token in (5, 6):
        eviction.next_logits(token)
        eviction.evict()
        draws += [rows.tolist() for rows in eviction.stored_tokens()[0]]
    assert len(set(map(tuple, draws))) == 4


def test_values_count_for_the_rows_of_an_answer_too(start: Start) -> None:
    held = []
    for aware in (False, True):
        method = JudgeQ(selection=replace(EXACT, value_aware=aware))
        eviction, logits = start(method, 12, 10)
        list(steps(eviction, logits, 12))
        held.append(torch.stack(eviction.stored_tokens()[1]))
    assert not torch.equal(*held)


# Through the public functions


def ask(lm: LanguageModel, tokens: SoftTokens, **options: object) -> judgeq.Answer:
    return judgeq.ask(lm, TEXT * 2, "Who pays?", tokens=tokens, **{"budget": 20, **options})


def test_an_answer_tells_what_was_held_at_its_end(endless: LanguageModel, tokens: SoftTokens) -> None:
    answer = ask(endless, tokens, decoding=Decoding(50, evict_every=8))
    assert answer.rows_at_end is not None
    assert answer.kv_bytes == 4 * 2 * 20 * ROW
    rows = sum(len(rows) for layer in answer.rows_at_end for rows in layer)
    assert rows <= 4 * 2 * (20 + 8)
    assert rows * ROW <= answer.kv_bytes_at_end <= most_bytes(20, 8)
    assert answer.retention.kept_rows.tolist() == [[20, 20]] * 4
    left = answer.retention_at_end
    for layer, heads in enumerate(answer.rows_at_end):
        for head, rows in enumerate(heads):
            prompt = [row for row in rows.tolist() if row < answer.prompt_tokens]
            assert left.kept[layer][head].tolist() == prompt
    assert left.to_html()
    plain = ask(endless, tokens, decoding=Decoding(50))
    assert plain.rows_at_end is None
    assert plain.retention_at_end is plain.retention
    assert plain.kv_bytes_at_end >= 4 * 2 * (20 + 49) * ROW > most_bytes(20, 8)


def test_a_budget_above_prompt_and_answer_is_not_cut_to_the_prompt(endless: LanguageModel, tokens: SoftTokens) -> None:
    free = ask(endless, tokens, budget=1000, decoding=Decoding(50))
    bounded = ask(endless, tokens, budget=1000, decoding=Decoding(50, evict_every=8))
    assert bounded.text == free.text
    assert all(len(rows) == free.prompt_tokens + 49 for layer in bounded.rows_at_end for rows in layer)
    share = ask(endless, tokens, budget=1.0, decoding=Decoding(50, evict_every=8))
    assert share.kv_bytes_at_end <= most_bytes(share.prompt_tokens, 8)


def test_the_full_cache_beside_a_bounded_method_keeps_everything(endless: LanguageModel, tokens: SoftTokens) -> None:
    reading = judgeq.read(
        endless, TEXT * 2, "Who pays?", methods=["full", "snapkv"], budget=40, tokens=tokens,
        decoding=Decoding(30, evict_every=8),
    )  # fmt: skip
    for writer in reading.writers:
        assert len(list(writer)) == 30
    full, snapkv = (writer.answer() for writer in reading.writers)
    assert full.rows_at_end is None
    assert full.kv_bytes_at_end >= full.full_kv_bytes + 4 * 2 * 29 * ROW
    assert snapkv.rows_at_end is not None


def test_an_answer_still_ends_where_it_ends(start: Start, endless: LanguageModel) -> None:
    written = [step.token for step in steps(*start(KeyNorm(), 12, 4), 40)]
    end = next(token for at, token in enumerate(written) if at > 12 and token not in written[:at])
    endless.__dict__["eos_ids"] = frozenset([end])
    found = list(steps(*start(KeyNorm(), 12, 4), 40))
    assert [step.token for step in found] == written[: written.index(end) + 1]
    assert found[-1].finish == "end"


def test_a_stop_text_ends_it_and_a_reader_may_leave(endless: LanguageModel, tokens: SoftTokens) -> None:
    free = ask(endless, tokens, decoding=Decoding(60, evict_every=8)).text
    stop = free[40:43]
    stopped = ask(endless, tokens, decoding=Decoding(60, evict_every=8, stop=(stop,)))
    assert stopped.text == free[: free.index(stop)]
    assert stopped.finish == "stop"
    (writer,) = judgeq.read(
        endless, TEXT * 2, "Who pays?", methods=["judgeq"], budget=20, tokens=tokens,
        decoding=Decoding(60, evict_every=8),
    ).writers  # fmt: skip
    for step in writer:
        if step.index == 30:
            break
    answer = writer.answer()
    assert answer.finish == "cancelled"
    assert free.startswith(answer.text)
    assert answer.rows_at_end is not None
    assert answer.rows_at_end[0][0][-1] == answer.prompt_tokens + 29


@pytest.mark.parametrize("method", ["oracle", "laq", "judgeq+draft"])
def test_methods_that_look_at_an_answer_are_refused(lm: LanguageModel, tokens: SoftTokens, method: str) -> None:
    with pytest.raises(InputError, match=r"cannot evict again .* leave evict_every out"):
        ask(lm, tokens, method=method, decoding=Decoding(8, evict_every=4))


@pytest.mark.parametrize("method", ["judgeq:allocation=adakv", "judgeq:allocation=profile", "pyramidkv"])
def test_budgets_that_are_split_are_refused(lm: LanguageModel, tokens: SoftTokens, method: str) -> None:
    with pytest.raises(InputError, match=r"only where all heads keep equally many.* leave evict_every out"):
        ask(lm, tokens, method=method_from_text(method), decoding=Decoding(8, evict_every=4))


def test_rounded_rows_are_refused(lm: LanguageModel, tokens: SoftTokens) -> None:
    with pytest.raises(InputError, match="not both"):
        ask(lm, tokens, row_bits=8, decoding=Decoding(8, evict_every=4))


def test_soft_tokens_that_would_stand_where_other_factors_begin_are_refused(make_lm: MakeLM) -> None:
    lm = longrope(make_lm, known=300)
    tokens = SoftTokens.initialise(lm, torch.arange(40, 44))
    room = 300 - ask(lm, tokens, decoding=Decoding(1)).prompt_tokens - tokens.n
    ask(lm, tokens, decoding=Decoding(room, evict_every=8))
    ask(lm, tokens, decoding=Decoding(room + 1))
    ask(lm, tokens, decoding=Decoding(room + 1, evict_every=8), method="snapkv")
    with pytest.raises(InputError, match=r"longrope.*300 positions, and the prompt \(297 tokens\)"):
        ask(lm, tokens, decoding=Decoding(room + 1, evict_every=8))


def test_the_soft_tokens_behind_the_answer_need_positions_too(lm: LanguageModel, tokens: SoftTokens) -> None:
    room = 4096 - ask(lm, tokens, decoding=Decoding(1)).prompt_tokens
    options = {"methods": ["judgeq"], "tokens": tokens, "budget": 20}
    judgeq.read(lm, TEXT * 2, "Who pays?", decoding=Decoding(room - 2), **options)
    judgeq.read(lm, TEXT * 2, "Who pays?", decoding=Decoding(room - tokens.n, evict_every=4), **options)
    with pytest.raises(InputError, match="left free for the answer"):
        judgeq.read(lm, TEXT * 2, "Who pays?", decoding=Decoding(room - 2, evict_every=4), **options)


@pytest.mark.parametrize("name", DECODABLE)
def test_reading_tokens_together_is_as_one_by_one(lm: LanguageModel, soft: SoftTokenTensors, name: str) -> None:
    ids = lm.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    together, alone = (
        DecodingEviction(
            lm,
            prefill(lm, ids, [Plan(METHODS[name](), 24)], soft_tokens=soft).retained[0],
            24,
            8,
            soft,
        )
        for _ in range(2)
    )
    later = torch.arange(30, 51)[None]
    each = torch.cat([alone.next_logits(int(token)) for token in later[0]])
    assert torch.allclose(together.read(later)[0], each, atol=1e-4)
    assert together.rounds == alone.rounds == 2
    for ours, theirs in zip(together.stored_tokens(), alone.stored_tokens(), strict=True):
        assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
