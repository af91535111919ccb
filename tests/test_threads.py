"""Threads that share one model get what they would get alone; nothing that a call needs is state of the process."""

from __future__ import annotations

import ast
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import judgeq
from judgeq.cache.layers import PreallocatedRows
from judgeq.config import Decoding
from judgeq.data import standard_library
from judgeq.data.lengths import count_tokens
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Message, build_chat, build_prefix, build_prompt
from judgeq.soft_tokens.adapters import LowRank
from judgeq.training.responses import generate_responses
from tests.fixtures import MakeLM

DOCUMENT = "The rent is 350 euros.<|end|> Mara signs<|start|> on 4 May. " * 12
SHORT = Decoding(max_new_tokens=4)


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Threads take turns as often as Python lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """What each call gives, all begun together."""
    ready = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        ready.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


# Prompts


def test_prompts_and_counts_of_threads_are_those_of_one(make_lm: MakeLM) -> None:
    lm = make_lm()
    made: list[Callable[[], Any]] = [
        lambda: build_prompt(lm, DOCUMENT, "Who signs? <|start|>").input_ids.tolist(),
        lambda: build_prefix(lm, DOCUMENT).input_ids.tolist(),
        lambda: build_chat(lm, [Message("user", DOCUMENT)]).tolist(),
        lambda: count_tokens(lm, DOCUMENT),
    ]
    alone = [make() for make in made]
    found = at_once([lambda make=make: [make() for _ in range(40)] for make in made])
    assert found == [[one] * 40 for one in alone]


def test_what_someone_sets_on_the_tokenizer_changes_no_prompt(make_lm: MakeLM) -> None:
    lm = make_lm()
    alone, over = build_prompt(lm, DOCUMENT, "Who signs?").input_ids.tolist(), threading.Event()

    def pad() -> None:
        while not over.is_set():
            lm.tokenizer(DOCUMENT, padding="max_length", max_length=2000)
            lm.tokenizer(DOCUMENT, truncation=True, max_length=5)
            lm.tokenizer(DOCUMENT, split_special_tokens=True)

    def build() -> list[Any]:
        try:
            return [build_prompt(lm, DOCUMENT, "Who signs?").input_ids.tolist() for _ in range(40)]
        finally:
            over.set()

    _, found = at_once([pad, build])
    assert found == [alone] * 40


def test_answers_of_threads_are_those_of_one(make_lm: MakeLM) -> None:
    lm = make_lm()
    pairs = [(f"Room {at}. {DOCUMENT}", f"Who signs {at}?") for at in range(2)]
    compressed = judgeq.Document(lm, DOCUMENT).compress(method="snapkv", budget=24)
    options: dict[str, Any] = {"method": "snapkv", "budget": 24, "decoding": SHORT}

    def told(answers: list[judgeq.Answer]) -> list[Any]:
        return [(answer.text, answer.prompt_tokens, answer.kept_rows) for answer in answers]

    asking: list[Callable[[], Any]] = [
        lambda: told([judgeq.ask(lm, *pair, **options) for pair in pairs]),
        lambda: told(judgeq.ask_many(lm, pairs, **options)),
        lambda: told([judgeq.Document(lm, pair[0]).ask(pair[1], **options) for pair in pairs]),
        lambda: told([compressed.ask(question, decoding=SHORT) for _, question in pairs]),
    ]
    alone = [ask() for ask in asking]
    assert at_once([*asking, *asking]) == alone * 2


# State that PyTorch, Python and caches share


def test_of_two_forks_that_go_on_at_once_one_takes_the_room() -> None:
    rows, first, second = (torch.full((1, 1, count, 2), float(count)) for count in (3, 1, 2))
    room = PreallocatedRows(rows, rows, 8)
    behind = room.keys, room.values  # what both forks hold
    keys, _ = room.append(behind, first, first) or (None, None)
    assert room.append(behind, second, second) is None
    assert keys is not None
    assert keys[0, 0, :, 0].tolist() == [3, 3, 3, 1]


def test_forks_in_threads_never_write_over_one_another() -> None:
    rows = torch.zeros(1, 1, 3, 2)
    rooms = [PreallocatedRows(rows, rows, 8) for _ in range(50)]
    held = [(room.keys, room.values) for room in rooms]

    def go_on(number: int) -> list[bool]:
        new = torch.full((1, 1, 1, 2), float(number))
        return [room.append(own, new, new) is not None for room, own in zip(rooms, held, strict=True)]

    taken = at_once([lambda number=number: go_on(number) for number in range(4)])
    assert [sum(each) for each in zip(*taken, strict=True)] == [1] * 50


def test_sampled_responses_are_those_of_torch_and_leave_its_generator_alone(lm: LanguageModel) -> None:
    prompt = torch.arange(20, 60)
    torch.manual_seed(5)
    expected = lm.model.generate(
        input_ids=prompt[None],
        attention_mask=torch.ones(1, 40, dtype=torch.int64),
        max_new_tokens=9,
        do_sample=True,
        temperature=0.9,
        top_k=0,
        top_p=1.0,
        eos_token_id=sorted(lm.eos_ids),
        pad_token_id=0,
    )[0, 40:]
    before = torch.get_rng_state()
    (found,) = generate_responses(lm, [prompt], 8, temperature=0.9, seed=5)
    assert torch.equal(found.ids, expected[: len(found.ids)])
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_sample_what_each_would_alone(lm: LanguageModel) -> None:
    def sample(seed: int) -> list[list[int]]:
        prompts = [torch.arange(20, 60), torch.arange(30, 90)]
        return [each.ids.tolist() for each in generate_responses(lm, prompts, 8, temperature=0.9, seed=seed)]

    assert at_once([lambda: sample(1), lambda: sample(2)]) == [sample(1), sample(2)]


def test_threads_that_attach_adapters_take_no_hook_from_one_another(lm: LanguageModel) -> None:
    adapters = LowRank.zero(lm, 1, seed=0)
    linear = lm.model.get_decoder().layers[0].self_attn.q_proj
    threads = 4
    attached, seen = threading.Barrier(threads), []

    def attach() -> None:
        for _ in range(20):
            with adapters.attached(lm, 1):
                attached.wait()
                seen.append(len(linear._forward_hooks))
                attached.wait()
            attached.wait()

    at_once([attach] * threads)
    assert set(seen) == {threads}
    assert not linear._forward_hooks


def test_warnings_are_as_before_when_threads_have_read_old_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = [tmp_path / f"{at}.py" for at in range(2)]
    for at, file in enumerate(files):
        file.write_text(f"x = {at}\n")
    monkeypatch.setattr(standard_library.sysconfig, "get_path", lambda _: str(tmp_path))
    parse = ast.parse
    second_in = threading.Event()

    def slow(text: str) -> ast.Module:
        if "x = 0" in text:
            second_in.wait(0.3)  # the first to come in is the first to go
        else:
            second_in.set()
            time.sleep(0.3)
        return parse(text)

    monkeypatch.setattr(standard_library.ast, "parse", slow)
    before = list(warnings.filters)

    def later() -> Any:
        time.sleep(0.1)
        return standard_library.definitions(files[1])

    at_once([lambda: standard_library.definitions(files[0]), later])
    assert list(warnings.filters) == before
