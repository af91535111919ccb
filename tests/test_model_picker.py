"""The model changes for all or not at all; soft tokens belong to whoever brings them."""

from __future__ import annotations

import html
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch

import judgeq
from app import text
from app.sections.ask import callbacks as do
from app.sections.ask.callbacks import Callbacks
from app.sections.models import view
from app.sections.take_away import callbacks as takeaway
from app.server import models, own_tokens
from app.server.host import ModelHost
from app.server.run import Run
from app.server.task import Task
from app.ui import build
from judgeq.errors import InputError, JudgeqError
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.waiting import PATIENCE_S, until

DOCUMENT = "The lighthouse was built in 1874 and is 31 metres tall. Its keeper is called Aldous. " * 4
QUESTION = "How tall is the lighthouse?"
GB = 10**9


@pytest.fixture(scope="module")
def folder(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Soft tokens of the first model."""
    return SoftTokens.initialise(lm, torch.arange(10, 18)).save_pretrained(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def other(make_lm: Any) -> LanguageModel:
    return replace(make_lm("qwen3"), name="smollm2-135m")


@pytest.fixture
def host(lm: LanguageModel, other: LanguageModel, folder: Path) -> ModelHost:
    """Two models by name, and one that breaks."""

    def load(name: str, quantization: str | None = None, progress: Any = None) -> LanguageModel:
        progress(f"fetching {name}", 0.5)
        if name == "broken/one":
            raise RuntimeError("secret path /root")
        if name not in known:
            raise JudgeqError(f"There is no public model {name}: check the spelling")
        return known[name]

    known = {lm.name: lm, other.name: other}
    made = ModelHost(lm.name, folder, load=load)
    made.model()
    return made


def task(*methods: str, **changes: Any) -> Task:
    return replace(Task(DOCUMENT, QUESTION, methods or ("full", "snapkv"), 24, max_new_tokens=4), **changes)


def finished(run: Run) -> Run:
    run.start()
    assert run.finished.wait(PATIENCE_S)
    return run


def uploaded(folder: Path, tmp_path: Path, *names: str) -> list[str]:
    """Copies in folders of their own, as Gradio lays them down."""
    paths = []
    for place, name in enumerate(names):
        path = tmp_path / f"upload{place}" / name
        path.parent.mkdir()
        path.write_bytes((folder / name).read_bytes())
        paths.append(str(path))
    return paths


# The model that all share


def test_a_switch_changes_model_tokenizer_and_soft_tokens(host: ModelHost, lm: LanguageModel) -> None:
    assert host.count_tokens(DOCUMENT, QUESTION, False) > 0
    assert host.soft_tokens(("judgeq",)) is not None
    lines = list(view.change_model(host, "smollm2-135m", "4bit"))
    assert "Loading smollm2-135m" in lines[0]
    assert "smollm2-135m is ready" in lines[-1]
    assert (host.name, host.quantization, host.tokens_name) == ("smollm2-135m", "4bit", None)
    assert host.model().name == "smollm2-135m"
    with pytest.raises(InputError, match="trained for smollm2-135m and do not fit"):
        host.soft_tokens(("judgeq",))  # the shipped ones are asked for; this model only has their name
    run = finished(Run(task(), host))
    assert {lane.answer.model for lane in run.lanes if lane.answer} == {"smollm2-135m"}
    assert takeaway.settings_of(run).quantization == "4bit"
    list(view.change_model(host, lm.name, ""))
    assert host.soft_tokens(("judgeq",)) is not None, "the first model keeps the operator's soft tokens"
    assert host.quantization is None


def test_the_stock_answer_stands_in_for_judge_q_where_no_soft_tokens_are_known(
    host: ModelHost, lm: LanguageModel
) -> None:
    pickers = ["full", "judgeq", "stockanswer"], ["judgeq", "snapkv"], "judgeq"
    assert [update["value"] for update in Callbacks(host).stand_in(*pickers)] == list(pickers)
    without = ModelHost(lm.name, load=lambda name, **options: lm)
    assert not without.lacks_soft_tokens, "not known before the model is loaded"
    without.model()
    first, second, only = Callbacks(without).stand_in(*pickers)
    assert first["value"] == ["full", "stockanswer"]
    assert second["value"] == ["stockanswer", "snapkv"]
    assert only["value"] == "stockanswer"
    assert f"No soft tokens are known for {lm.name}: the stock answer" in first["info"]
    back = Callbacks(host).stand_in(second["value"], only["value"])
    assert [update["value"] for update in back] == [["judgeq", "snapkv"], "judgeq"]
    assert back[0]["info"] is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody/nothing", "no public model nobody/nothing: check the spelling. {old} is still in use."),
        ("broken/one", "broken/one could not be loaded (RuntimeError): see the log. {old} is still in use."),
        ("/etc/passwd", "neither a model that comes with this page nor an id on the Hub"),
        ("../x", "neither a model"),
        ("assets/samples", "neither a model"),
        ("a/b/c", "neither a model"),
        ("<script>", "neither a model"),
        ("", "neither a model"),
        (None, "neither a model"),
    ],
)
def test_whatever_cannot_be_loaded_leaves_the_old_model_in_place(host: ModelHost, name: Any, said: str) -> None:
    before = host.model()
    last = list(view.change_model(host, name, ""))[-1]
    assert 'class="status failed"' in last
    assert said.format(old=host.name) in html.unescape(last)
    assert "<script>" not in last
    assert "secret" not in last
    assert host.model() is before
    assert finished(Run(task(), host)).phase == "done"


def test_too_little_memory_says_what_to_do(host: ModelHost) -> None:
    def load(*_: Any, **__: Any) -> LanguageModel:
        raise torch.OutOfMemoryError("full")

    host._load = load
    assert "memory is not enough for org/large" in list(view.change_model(host, "org/large", ""))[-1]
    assert finished(Run(task(), host)).phase == "done"


def test_a_switch_waits_for_the_run_that_is_under_way_and_waiting_runs_get_the_new_model(
    host: ModelHost, lm: LanguageModel
) -> None:
    with host.turn():
        waiting = Run(task(), host).start()
        switch = models.Switch(host, "smollm2-135m", None)
        assert not switch.finished.wait(0.4)
        assert host.model() is lm
    assert switch.finished.wait(PATIENCE_S)
    assert waiting.finished.wait(PATIENCE_S)
    assert waiting.phase == "done"
    late = finished(Run(task(), host))
    assert late.lanes[0].answer is not None
    assert late.lanes[0].answer.model == "smollm2-135m"


def test_a_run_that_waited_through_a_switch_answers_with_the_new_model(host: ModelHost) -> None:
    gate, inside = threading.Event(), threading.Event()
    real = host._load

    def load(*given: Any, **options: Any) -> LanguageModel:
        inside.set()
        gate.wait(PATIENCE_S)
        return real(*given, **options)

    host._load = load
    switch = models.Switch(host, "smollm2-135m", None)
    assert inside.wait(PATIENCE_S)
    run = Run(task(), host).start()
    until(lambda: run.phase == "waiting")
    gate.set()
    assert switch.finished.wait(PATIENCE_S)
    assert run.finished.wait(PATIENCE_S)
    assert {lane.answer.model for lane in run.lanes if lane.answer} == {"smollm2-135m"}


def test_a_page_that_is_closed_gives_up_its_place(host: ModelHost, lm: LanguageModel) -> None:
    with host.turn():
        lines = view.change_model(host, "smollm2-135m", "")
        next(lines)
        lines.close()
        time.sleep(0.4)
    assert finished(Run(task(), host)).phase == "done"
    assert host.model() is lm


def test_only_what_fits_is_offered_with_its_size() -> None:
    small = models.choices(models.Machine(None, 6 * GB, 2), ["smollm2-135m"])
    assert [value for _, value in small] == [
        "smollm2-135m",
        "meta-llama/Llama-3.2-1B-Instruct",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        "Qwen/Qwen3-1.7B",
        "Qwen/Qwen3-4B",
    ], "with a prompt, a model of 7B does not fit"
    assert small[1][0].endswith("(4.94 GB not quantized, 2.03 GB in 8 bits, 1.55 GB in 4 bits)")
    assert small[4][0].endswith("(3.43 GB in 4 bits)")
    offered = models.choices(models.Machine("X", 80 * GB, 2), ["my/own"])
    gpu = {value: title for title, value in offered}
    assert "16.4 GB not quantized" in gpu["Qwen/Qwen3-8B"], "16 bits on a GPU"
    assert list(gpu)[:2] == ["my/own", "smollm2-135m"]


def test_a_chosen_model_says_what_works_and_how_to_train_a_judge_for_it() -> None:
    assert models.at_once("smollm2-135m", False) == (text.MODELS_JUDGED, "")
    said, command = models.at_once("Qwen/Qwen3-4B", False)
    assert "Stock answer, SnapKV" in said
    assert "Judge Q + draft" not in said
    assert command == "python -m judgeq train --model Qwen/Qwen3-4B --out judges/Qwen3-4B"
    assert "'a/<b>; rm'" in html.unescape(view._hint("a/<b>; rm", True))
    assert "<b>" not in view._hint("a/<b>; rm", True)
    assert view._hint(["x"], False) == view._hint("x" * 201, False) == ""


def test_this_machine_is_described() -> None:
    here = models.Machine.here()
    assert here.memory > 0
    assert str(here).startswith("This machine has")
    assert "2 cores and 6.00 GB" in str(models.Machine(None, 6 * GB, 2))
    assert "a GPU, H100, with 80.0 GB free" in str(models.Machine("H100", 80 * GB, 2))


def test_the_choice_is_on_the_page_only_where_the_operator_allows_it(host: ModelHost) -> None:
    def ids(demo: gr.Blocks) -> set[str]:
        return {part.elem_id for part in demo.blocks.values() if getattr(part, "elem_id", None)}

    changing = {"model-name", "model-precision", "model-load", "token-hub", "token-take"}
    assert not changing & ids(build(host))
    assert "token-files" in ids(build(host))
    assert changing <= ids(build(host, models_allowed=True))


# Soft tokens of one visitor


def test_brought_soft_tokens_answer_for_one_visitor_and_leave_no_file(
    host: ModelHost, lm: LanguageModel, folder: Path, tmp_path: Path
) -> None:
    mine = SoftTokens.initialise(lm, torch.arange(100, 112)).save_pretrained(tmp_path / "mine")
    paths = uploaded(mine, tmp_path, *own_tokens.FILES)
    own = own_tokens.from_upload(paths, host.model())
    assert own.tokens.n == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
    key = host.shelf.put(own)
    page = do.Callbacks(host)
    arguments = (DOCUMENT, QUESTION, 24, ["judgeq"], False, 4, False)
    ours, theirs = (finished(page.begin(*arguments, own=found)[0]) for found in (key, None))
    expected = SoftTokens.from_pretrained(mine)
    answer = judgeq.ask(lm, DOCUMENT, QUESTION, budget=24, tokens=expected, decoding=judgeq.Decoding(max_new_tokens=4))
    rows = [[head.tolist() for head in layer] for layer in answer.retention.kept]
    kept = [[[head.tolist() for head in layer] for layer in run.retention["judgeq"].kept] for run in (ours, theirs)]
    assert kept[0] == rows
    assert kept[1] != rows
    assert takeaway.settings_of(ours).tokens == "soft-tokens"
    assert takeaway.settings_of(theirs).tokens == str(folder)


def test_soft_tokens_of_another_model_are_refused_at_once(host: ModelHost, make_lm: Any, tmp_path: Path) -> None:
    foreign = SoftTokens.initialise(make_lm("mistral"), torch.arange(4)).save_pretrained(tmp_path / "foreign")
    paths = uploaded(foreign, tmp_path, *own_tokens.FILES)
    with pytest.raises(InputError, match="were trained for tiny-mistral and the base model here is tiny-llama"):
        own_tokens.from_upload(paths, host.model())
    assert not any(Path(path).exists() for path in paths)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda path: path.with_name("judgeq_config.json").write_text("{"),
            "The upload does not hold readable",
        ),
        (lambda path: path.write_bytes(b"\x80\x04pickle"), "The upload does not hold readable"),
        (lambda path: path.write_bytes(b""), "The upload does not hold readable"),
    ],
)
def test_files_that_are_no_soft_tokens_are_refused_without_a_path(
    host: ModelHost, folder: Path, tmp_path: Path, change: Any, message: str
) -> None:
    paths = uploaded(folder, tmp_path, *own_tokens.FILES)
    config, tensors = map(Path, paths)
    together = tensors.with_name(config.name)
    together.write_bytes(config.read_bytes())
    change(tensors)
    paths[0] = str(together)
    with pytest.raises(InputError, match=message) as raised:
        own_tokens.from_upload(paths, host.model())
    assert "/tmp" not in str(raised.value)
    assert not tensors.exists()


def test_both_files_are_needed_and_neither_may_be_huge(
    host: ModelHost, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config,) = uploaded(folder, tmp_path, "judgeq_config.json")
    with pytest.raises(InputError, match=r"soft_tokens.safetensors is not among yours"):
        own_tokens.from_upload([config], host.model())
    with pytest.raises(InputError, match=r"judgeq_config.json is not among yours"):
        own_tokens.from_upload([], host.model())
    paths = uploaded(folder, tmp_path, *own_tokens.FILES)
    monkeypatch.setattr(own_tokens, "LARGEST_FILE", 100)
    with pytest.raises(InputError, match="larger than"):
        own_tokens.from_upload(paths, host.model())


def test_very_many_soft_tokens_are_refused(host: ModelHost, lm: LanguageModel, tmp_path: Path) -> None:
    many = SoftTokens.initialise(lm, torch.arange(257) % 300).save_pretrained(tmp_path / "many")
    with pytest.raises(InputError, match="257 soft tokens and at most 256"):
        own_tokens.from_upload(uploaded(many, tmp_path, *own_tokens.FILES), host.model())


@pytest.mark.parametrize("name", ["", "/etc", "assets/samples", "a b/c", "x" * 200])
def test_soft_tokens_from_the_hub_need_an_id_of_the_hub(host: ModelHost, name: str) -> None:
    with pytest.raises(InputError, match="not an id on the Hub"):
        own_tokens.from_hub(name, host.model())


def test_soft_tokens_from_the_hub_are_read_by_their_id(
    host: ModelHost, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        SoftTokens,
        "from_pretrained",
        lambda name, real=SoftTokens.from_pretrained: real({"a/b": folder}[name]),
    )
    assert own_tokens.from_hub(" a/b ", host.model()).name == "a/b"


def test_a_shelf_holds_few_and_says_when_something_had_to_go(lm: LanguageModel) -> None:
    own = own_tokens.OwnTokens("x", SoftTokens.initialise(lm, torch.arange(4)))
    shelf = own_tokens.Shelf(most_bytes=2 * own.nbytes)
    first, second = shelf.put(own), shelf.put(own)
    assert shelf.find(first) is own
    third = shelf.put(own)
    with pytest.raises(InputError, match="make room"):
        shelf.find(second)
    assert shelf.find(first) is shelf.find(third) is own
    shelf.drop(first)
    shelf.drop(None)
    with pytest.raises(InputError, match="make room"):
        shelf.find(first)
    assert shelf.find(None) is None
    assert len({first, second, third}) == 3


def test_soft_tokens_that_are_gone_are_a_sentence_on_the_page(host: ModelHost) -> None:
    with pytest.raises(gr.Error, match="upload them again"):
        do.Callbacks(host).begin(DOCUMENT, QUESTION, 24, ["judgeq"], False, 4, False, own="gone")


def test_what_a_visitor_reads_about_soft_tokens(host: ModelHost, folder: Path, tmp_path: Path) -> None:
    before = host.shelf.put(own_tokens.OwnTokens("x", SoftTokens.from_pretrained(folder)))
    paths = uploaded(folder, tmp_path, *own_tokens.FILES)
    key, told, button = view._taken(host, before, lambda: own_tokens.from_upload(paths, host.model()))
    assert text.TOKENS_OWN.format(n=8, model="tiny-llama") in told
    assert button["visible"] is True
    assert host.shelf.find(key) is not None
    with pytest.raises(InputError):
        host.shelf.find(before)
    kept, told, button = view._taken(host, key, lambda: own_tokens.from_upload([], host.model()))
    assert (kept, button) == (gr.skip(), gr.skip())
    assert "are two files" in told
    assert host.shelf.find(key) is not None, "a mistake costs nothing"
    assert json.dumps(told)
