"""Chat templates that name the date: documents keep the one they were read with, and so do runs that are resumed."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import judgeq
from judgeq.cli import main
from judgeq.config import Decoding
from judgeq.data.example import Example
from judgeq.documents.document import REREAD_TOKENS
from judgeq.errors import InputError
from judgeq.evaluation import runner
from judgeq.evaluation.journal import Journal
from judgeq.models.language_model import LanguageModel
from judgeq.prompts import prompt as prompts
from judgeq.prompts.prompt import build_prompt, dated
from judgeq.training.config import TrainConfig
from judgeq.training.progress import Progress
from judgeq.training.store import LABEL, Store
from judgeq.training.workers import Workers
from tests.fixtures import CHAT_TEMPLATE, MakeLM, build_model, build_tokenizer

TEXT = "Mara Voss signs the lease on 4 May. The rent is 350 euros a month. " * 5
SHORT = Decoding(max_new_tokens=2)
DAY = datetime(2024, 7, 26)
# a clock's microseconds stand for days: no two readings are alike
CLOCK = "{{ strftime_now('%d %B %Y %H:%M:%S.%f') }}\n" + CHAT_TEMPLATE
LLAMA = (  # as Llama 3.2's and Mistral Small's
    "{% if strftime_now is defined %}{% set day = strftime_now('%Y-%m-%d %f') %}{% else %}{% set day = 'none' %}"
    "{% endif %}{% for message in messages %}<|start|>{{ message['role'] }} {{ day }}\n"
    "{{ message['content'] }}<|end|>\n{% endfor %}<|start|>assistant\n"
)


@pytest.fixture(params=[CLOCK, LLAMA])
def clock(request: pytest.FixtureRequest) -> LanguageModel:
    lm = LanguageModel.wrap(build_model(), build_tokenizer(), "tiny")
    lm.tokenizer.chat_template = request.param
    return lm


def test_prompts_name_the_date_that_is_given(clock: LanguageModel) -> None:
    document = judgeq.Document(clock, TEXT, today=DAY)
    assert "2024" in document.prefix.text
    with dated(DAY):
        assert build_prompt(clock, TEXT, "Who?").text.startswith(document.prefix.text)
    assert "2024" not in build_prompt(clock, TEXT, "Who?").text
    with pytest.raises(InputError, match=r"date is 'today': give a datetime\.datetime"):
        judgeq.Document(clock, TEXT, today="today")  # type: ignore[arg-type]


def test_a_document_is_read_once_however_long_it_stays_open(clock: LanguageModel) -> None:
    document = judgeq.Document(clock, TEXT)
    passes: list[int] = []
    hook = clock.model.get_input_embeddings().register_forward_hook(lambda _, ids, __: passes.append(ids[0].shape[1]))
    for question in ("Who signs?", "What is the rent?"):
        reading = document.read_for(question, methods=["snapkv"], budget=16, decoding=SHORT)
        assert reading.prompt.text.startswith(document.prefix.text)
    hook.remove()
    first, *later = passes
    assert first == document.tokens - REREAD_TOKENS
    assert max(later) < first


def test_a_saved_document_is_asked_on_another_day(clock: LanguageModel, tmp_path: Path) -> None:
    document = judgeq.Document(clock, TEXT)
    options: dict[str, Any] = {"method": "snapkv", "budget": 16, "decoding": SHORT}
    expected = document.ask("Who?", **options)
    again = judgeq.Document.load(clock, document.save(tmp_path / "whole"))
    assert again.today == document.today
    assert again.ask("Who?", **options).kept_rows == expected.kept_rows


def test_what_is_left_of_a_document_is_asked_on_another_day(clock: LanguageModel, tmp_path: Path) -> None:
    compressed = judgeq.Document(clock, TEXT).compress(method="snapkv", budget=16)
    expected = [compressed.ask("Who?", decoding=SHORT).text for _ in range(2)]
    again = judgeq.CompressedDocument.load(clock, compressed.save(tmp_path / "left"))
    again = judgeq.CompressedDocument.load(clock, again.save(tmp_path / "again"))
    assert [again.ask("Who?", decoding=SHORT).text for _ in range(2)] == expected


def test_a_folder_without_a_date_loads_where_it_fits(lm: LanguageModel, clock: LanguageModel, tmp_path: Path) -> None:
    for model, fits in ((lm, True), (clock, False)):
        document = judgeq.Document(model, TEXT)
        left = document.compress(method="snapkv", budget=16)
        for saved, load in ((document, judgeq.Document.load), (left, judgeq.CompressedDocument.load)):
            folder = saved.save(tmp_path / f"{fits}-{type(saved).__name__}")
            config = json.loads((folder / "document.json").read_text(encoding="utf-8"))
            del config["today"]
            (folder / "document.json").write_text(json.dumps(config), encoding="utf-8")
            if fits:
                assert load(model, folder).text == TEXT.strip()
            else:
                with pytest.raises(InputError, match="another day that the chat template names"):
                    load(model, folder)


def test_a_date_that_is_none_is_no_readable_document(lm: LanguageModel, tmp_path: Path) -> None:
    folder = judgeq.Document(lm, TEXT).save(tmp_path / "whole")
    config = json.loads((folder / "document.json").read_text(encoding="utf-8"))
    for wrong in ("yesterday", 7):
        (folder / "document.json").write_text(json.dumps({**config, "today": wrong}), encoding="utf-8")
        with pytest.raises(InputError, match="does not hold a readable document"):
            judgeq.Document.load(lm, folder)


def test_questions_that_are_asked_together_name_one_date(clock: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    build = prompts.build_prompt

    def noted(*arguments: Any, **options: Any) -> prompts.Prompt:
        seen.append(build(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr("judgeq.inference.request.build_prompt", noted)
    judgeq.ask_many(clock, [(TEXT, "Who?")] * 3, method="snapkv", decoding=SHORT)
    assert len({prompt.text for prompt in seen}) == 1


class Leases:
    """Two prompts."""

    name = "leases"

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        return [Example.asking(TEXT, f"Who signs {at}?", "lease") for at in range(count)]


def test_training_goes_on_with_the_date_it_began_with(clock: LanguageModel, tmp_path: Path) -> None:
    config = TrainConfig(examples=2, response_tokens=6, batch=1, n=4, prefix_tokens=0)

    def store() -> Store:
        return Store(tmp_path, clock, config, Leases(), 2)

    first = store()
    first.fill(Progress(), Workers(), 1.0)
    second = store()
    second.fill(Progress(), Workers(), 1.0)
    assert [ids.tolist() for ids in second.prompts] == [ids.tolist() for ids in first.prompts]


def test_a_store_without_a_date_is_used_where_it_fits(lm: LanguageModel, tmp_path: Path) -> None:
    config = TrainConfig(examples=2, response_tokens=6, batch=1, n=4, prefix_tokens=0)
    Store(tmp_path, lm, config, Leases(), 2).fill(Progress(), Workers(), 1.0)
    label = json.loads((tmp_path / LABEL).read_text(encoding="utf-8"))
    assert datetime.fromisoformat(label.pop("today"))
    (tmp_path / LABEL).write_text(json.dumps(label), encoding="utf-8")
    Store(tmp_path, lm, config, Leases(), 2).fill(Progress(), Workers(), 1.0)


def test_an_evaluation_goes_on_with_the_date_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_lm: MakeLM
) -> None:
    monkeypatch.setattr("judgeq.commands.measuring.load_model", lambda _: make_lm())
    (tmp_path / "data.jsonl").write_text(json.dumps({"context": TEXT, "question": "Who?", "answers": ["Mara"]}) + "\n")
    named = []
    run = runner.run

    def noted(*arguments: Any, **options: Any) -> Any:
        named.append(prompts.now())
        return run(*arguments, **options)

    monkeypatch.setattr(runner, "run", noted)
    words = [*"evaluate jsonl --methods full,snapkv --budgets 8 --data".split(), str(tmp_path / "data.jsonl")]
    for result in ("one", "one", "other"):
        assert main([*words, "--json", str(tmp_path / f"{result}.json")]) == 0
    assert named[0] == named[1] == Journal.begun(tmp_path / "one.items.jsonl")
    assert named[2] > named[0]
