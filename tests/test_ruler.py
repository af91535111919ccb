"""RULER and needles through lm-eval: lengths, depths and metrics, repeatable, in any order, without a network."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from judgeq.errors import DownloadError, InputError
from judgeq.evaluation.harness import (
    RULER_GENERATED,
    RULER_TASKS,
    LocalFiles,
    benchmark_names,
    lm_eval_tasks,
    needle_tasks,
    ruler_tasks,
)
from judgeq.evaluation.harness.ruler_documents import (
    ESSAY_TASKS,
    ESSAYS,
    MANUAL_NOTE,
    SENTENCES_NOTE,
    manual_prose,
)
from judgeq.evaluation.harness.word_pairs import WordPairs
from judgeq.evaluation.questions import Question, Task
from judgeq.models.language_model import LanguageModel
from tests.forks import ended, started
from tests.reduced import Everything

LONGEST = {"niah": 128, "vt": 30, "cwe": 120, "fwe": 50, "qa": 32}
SENTENCE = "The keeper wrote down the name of ship number {at} before noon."
NEEDLE = "One of the special magic numbers for "
ANSWERS = ("Ada Lovell", "Bea Marsh", "Cy Nolan", "Di Otter")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval_tasks, "_failed", Everything())


@pytest.fixture(scope="module")
def words() -> Any:
    """Stands for a model whose tokens are words and signs; the tiny tokenizer's are letters, too short for `vt`."""
    tokenizer = Tokenizer(models.WordLevel({"[unk]": 0}, unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return SimpleNamespace(tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer), name="words")


@pytest.fixture
def qa_files(tmp_path: Path) -> LocalFiles:
    """Twelve documents, four of them asked about, in both formats."""
    documents = [f"In town {at} the keeper is {name}. {'It rains. ' * 20}" for at, name in enumerate(ANSWERS)]
    documents += [f"In town {at} there is no keeper. {'It rains. ' * 20}" for at in range(4, 12)]
    asked = [
        {
            "context": document,
            "qas": [
                {"question": f"Who keeps town {at}?", "answers": [{"text": name}], "is_impossible": False}
                for name in ANSWERS[at : at + 1]
            ],
        }
        for at, document in enumerate(documents)
    ]
    squad = {"data": [{"paragraphs": [paragraph]} for paragraph in asked]}
    hotpot = [
        {"question": f"Who keeps town {at}?", "answer": name, "context": [["Town", [document]]]}
        for at, (name, document) in enumerate(zip(ANSWERS, documents, strict=False))
    ]
    (tmp_path / "squad.json").write_text(json.dumps(squad), encoding="utf-8")
    (tmp_path / "hotpotqa.json").write_text(json.dumps(hotpot), encoding="utf-8")
    return LocalFiles(tmp_path)


def one(lm: LanguageModel, name: str, length: int = 2048, count: int = 3, **options: Any) -> Task:
    (task,) = ruler_tasks(lm, [name], [length], count, **{"seed": 5, **options})
    return task


def text(question: Question) -> str:
    return question.example.messages[0].content


def tokens(lm: LanguageModel, question: Question) -> int:
    return len(lm.tokenizer(text(question), verbose=False)["input_ids"])


# What is asked


@pytest.mark.parametrize("name", RULER_GENERATED)
def test_generated_tasks_have_their_lengths_and_answers_in_the_text(words: LanguageModel, name: str) -> None:
    task = one(words, name, count=4)
    assert (task.name, task.length, len(task.questions)) == (f"ruler/{name}", 2048, 4)
    assert len({question.key for question in task.questions}) == 4
    for question in task.questions:
        assert question.max_new_tokens == LONGEST[name.split("_")[0]]
        assert 900 < tokens(words, question) <= 2048
        assert question.example.answers
        assert all(answer in text(question) for answer in question.example.answers)
        assert question.example.answer_prefix.strip()


def test_the_prefix_stands_behind_the_chat_template_without_a_space_of_its_own(lm: LanguageModel) -> None:
    question = one(lm, "niah_single_1", 512).questions[0]
    prompt = lm.tokenizer.decode(question.input_ids(lm)[0])
    assert prompt.endswith(f"<|start|>assistant\n{question.example.answer_prefix}")
    assert question.example.answer_prefix.endswith("mentioned in the provided text is")


@pytest.mark.parametrize("name", [*RULER_TASKS])
def test_nothing_but_the_question_moves(words: LanguageModel, qa_files: LocalFiles, name: str) -> None:
    last = one(words, name, count=2, files=qa_files)
    first = one(words, name, count=2, files=qa_files, question_first=True)
    assert first.question_first
    assert first.label.endswith("/first")
    for before, after in zip(last.questions, first.questions, strict=True):
        rest, question = text(before).rstrip().rsplit("\n", 1)
        assert text(after) == f"{question}\n\n{rest.strip()}"
        assert question.startswith(("What ", "Question: "))
        assert after.example.answers == before.example.answers


def test_a_question_that_does_not_come_last(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval_tasks.Definition, "text", lambda *_: "One line.\nNo question")
    with pytest.raises(InputError, match="does not end with its question"):
        one(lm, "niah_single_1", 512, question_first=True)


# How it is rated


def test_a_part_of_the_answers_is_a_part_of_the_score(words: LanguageModel) -> None:
    question = one(words, "niah_multivalue").questions[0]
    found = question.example.answers
    assert question.metric == "ruler"
    assert question.score(f"They are {', '.join(found)}.") == 1
    assert question.score(f"They are {found[0]} and {found[1]}") == 0.5
    assert question.score("") == 0
    word = one(words, "cwe").questions[0]
    assert word.score(word.example.answers[0].upper()) == 0.1


def test_questions_about_documents_have_another_metric(words: LanguageModel, qa_files: LocalFiles) -> None:
    question = one(words, "qa_squad", files=qa_files).questions[0]
    assert question.metric == "ruler_part"
    assert (question.score("It is ada lovell."), question.score("Nobody")) == (1, 0)


# Repeatable


@pytest.mark.parametrize("name", ["niah_single_2", "niah_multikey_3", "vt", "cwe", "fwe"])
def test_more_questions_begin_with_the_same_ones(words: LanguageModel, name: str) -> None:
    few, many = one(words, name, count=3), one(words, name, count=9)
    assert [q.key for q in few.questions] == [q.key for q in many.questions[:3]]
    assert few.questions[0].key != one(words, name, seed=6).questions[0].key


def keys(lm: Any) -> list[str]:
    tasks = ruler_tasks(lm, ("niah_single_1", "niah_multikey_3", "cwe", "fwe"), [2048], 2, seed=5)
    return [question.key for task in tasks for question in task.questions]


def told_keys(tokenizer: PreTrainedTokenizerFast, said: Path) -> None:
    said.write_text("\n".join(map(str, (hash("a text"), *keys(SimpleNamespace(tokenizer=tokenizer))))))


def test_another_process_asks_the_same_questions(lm: LanguageModel, tmp_path: Path) -> None:
    assert ended(started(told_keys, lm.tokenizer, tmp_path / "said.txt")) == [0]
    seed, *told = (tmp_path / "said.txt").read_text(encoding="utf-8").splitlines()
    assert seed != str(hash("a text")) or "PYTHONHASHSEED" in os.environ, "sets have another order there"
    assert told == keys(lm)


def test_the_process_is_left_as_it_was(words: LanguageModel, capfd: pytest.CaptureFixture[str]) -> None:
    def states() -> list[Any]:
        return [random.getstate(), np.random.get_state()[1].tolist()]  # noqa: NPY002

    before = states()
    one(words, "vt")
    one(words, "cwe")
    assert states() == before
    assert capfd.readouterr() == ("", "")


def test_lm_eval_is_as_before_once_the_questions_are_made(words: LanguageModel) -> None:
    one(words, "niah_single_2")
    from lm_eval.tasks.ruler import niah_utils, prepare_niah

    assert niah_utils.get_tokenizer.__module__.startswith("lm_eval")
    assert niah_utils.get_haystack is prepare_niah.get_haystack
    assert prepare_niah.tqdm.__module__.startswith("tqdm")
    assert len(prepare_niah.DEPTHS) == 40


def test_pairs_of_words_stand_where_they_stand_in_lm_eval_s_list() -> None:
    adjectives, nouns = ["blue-eyed", "x-rated", "bluer", "blue", "a", "blue"], ["bird", "fly-wheel", "Eve"]
    pairs = WordPairs(adjectives, nouns)
    assert list(pairs) == sorted({f"{adjective}-{noun}" for adjective in adjectives for noun in nouns})
    assert len(pairs) == 15


# Lengths


@pytest.mark.parametrize(
    ("name", "length", "count", "said"),
    [
        *((name, 200, 3, "ask for longer prompts") for name in ("niah_multikey_3", "vt", "cwe")),
        ("fwe", 199, 3, "at least 200"),
        *(("fwe", 2048, count, "from 1 to 500") for count in (0, 501)),
    ],
)
def test_lengths_and_counts_without_questions(
    words: LanguageModel, name: str, length: int, count: int, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        one(words, name, length, count)


@pytest.mark.parametrize("name", ["vt", "cwe", "fwe"])
def test_letters_as_tokens_do_not_hang_the_generators(lm: LanguageModel, name: str) -> None:
    with pytest.raises(InputError, match=r"longer prompts|leave it out"):
        one(lm, name, 256)


@pytest.mark.parametrize("name", ESSAY_TASKS)
def test_short_prompts_have_as_many_words_of_essays_as_fit(words: LanguageModel, name: str) -> None:
    for question in one(words, name, 512).questions:
        assert 300 < len(words.tokenizer(text(question)).input_ids) <= 512 - 128 + 8  # its answer has 128
        assert all(answer in text(question) for answer in question.example.answers)


def test_a_haystack_of_a_few_words_is_refused(words: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "essays.txt").write_text("Few words are here. " * 20, encoding="utf-8")
    with pytest.raises(InputError, match="essays of at least 500 words"):
        ruler_tasks(words, ["niah_single_2"], [512], 1, seed=0, files=LocalFiles(tmp_path))


# Where texts come from


def test_the_manual_replaces_missing_essays(words: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nltk.data.find", fails(LookupError))
    task = one(words, "niah_single_2")
    assert task.notes == (MANUAL_NOTE, SENTENCES_NOTE)
    assert manual_prose()[:60] in text(task.questions[0])
    assert one(words, "niah_single_1").notes == ()


def test_the_manual_is_long_enough_for_the_longest_prompts_and_has_no_code() -> None:
    prose = manual_prose()
    assert len(prose.split()) > 20_000
    assert "::=" not in prose
    assert ">>>" not in prose


def test_ones_own_essays_are_the_haystack_and_a_note_says_so(words: LanguageModel, tmp_path: Path) -> None:
    folder = tmp_path / "essays"
    folder.mkdir()
    (folder / "b.txt").write_text("Second comes this. " * 300, encoding="utf-8")
    (folder / "a.txt").write_text("Gulls were first here. " * 300, encoding="utf-8")
    task = one(words, "niah_multikey_1", files=LocalFiles(tmp_path))
    assert task.notes[0] == f"The haystack is {folder} instead of Paul Graham's essays"
    assert "afterwards.\nGulls were first here." in text(task.questions[0])


def test_the_hubs_essays_are_used(words: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    one(words, "niah_single_1")
    from lm_eval.tasks.ruler import prepare_niah

    asked = []

    def load_dataset(name: str, split: str) -> dict[str, list[str]]:
        asked.append((name, split))
        return {"text": ["An essay about boats. " * 800]}

    monkeypatch.setattr(lm_eval_tasks, "_failed", {"punkt_tab": "punkt_tab could not be fetched."})
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    prepare_niah.get_haystack.cache_clear()
    try:
        task = one(words, "niah_single_2")
    finally:
        prepare_niah.get_haystack.cache_clear()
    assert asked == [(ESSAYS, "train")]
    assert "An essay about boats." in text(task.questions[0])
    assert MANUAL_NOTE not in task.notes


def test_what_cannot_be_fetched_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval_tasks, "_failed", {})
    calls = []

    def load() -> None:
        calls.append(1)
        raise OSError("no route.\nsecond line")

    for _ in range(2):
        with pytest.raises(DownloadError, match=r"^the essays could not be fetched \(no route\)\.$"):
            lm_eval_tasks.fetched("the essays", load)
    assert len(calls) == 1


def test_a_hub_out_of_reach_leaves_only_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(lm_eval_tasks, "_failed", {})
    for answers, offline in ((fails(OSError), True), (lambda *_, **__: None, False)):
        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", answers)
        assert lm_eval_tasks.hub_dataset(f"{offline}", "a/b", lambda: datasets.config.HF_HUB_OFFLINE) is offline


@pytest.mark.parametrize("name", ["qa_squad", "qa_hotpot"])
def test_documents_come_from_ones_own_files(words: LanguageModel, qa_files: LocalFiles, name: str) -> None:
    task = one(words, name, count=9, files=qa_files)
    assert [question.example.answers for question in task.questions] == [(name,) for name in ANSWERS]
    assert all(q.example.answers[0] in text(q) for q in task.questions)
    assert task.notes[0].startswith("The questions are from ")
    assert task.notes[-1].endswith("4 questions instead of 9 fit into 2,048 tokens")
    with pytest.raises(InputError, match="could not be fetched"):  # nothing of the folder is left behind
        one(words, name)


def test_questions_whose_document_does_not_fit_make_way_for_the_next_ones(
    words: LanguageModel, qa_files: LocalFiles, capfd: pytest.CaptureFixture[str]
) -> None:
    assert qa_files.folder is not None
    path = qa_files.folder / "squad.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["data"][0]["paragraphs"][0]["context"] += "It snows. " * 500
    path.write_text(json.dumps(data), encoding="utf-8")
    task = one(words, "qa_squad", 512, count=2, files=qa_files)
    assert [question.example.answers for question in task.questions] == [(name,) for name in ANSWERS[1:3]]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "file", "url"),
    [
        ("qa_squad", "squad.json", "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v2.0.json"),
        ("qa_hotpot", "hotpotqa.json", "hotpot_dev_distractor_v1.json"),
    ],
)
def test_missing_questions_say_what_to_do(words: LanguageModel, name: str, file: str, url: str) -> None:
    with pytest.raises(InputError, match="--ruler-files") as caught:
        one(words, name)
    assert url in str(caught.value)
    assert f"put it as {file}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"data": [{}]}', "is not what lm-eval reads"),
        ('{"data": []}', "is not what lm-eval reads"),
    ],
)
def test_another_format_is_named(words: LanguageModel, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "squad.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=rf"squad\.json {message}"):
        one(words, "qa_squad", files=LocalFiles(tmp_path))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        LocalFiles(tmp_path / "nowhere")


# What a person types


def test_without_lm_eval(words: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lm_eval", "lm_eval.tasks", "lm_eval.tasks._yaml_loader"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r'^RULER needs lm-eval: pip install "judgeq\[benchmarks\]"$'):
        one(words, "vt")


def test_names_are_parsed_and_unknown_ones_refused(words: LanguageModel) -> None:
    assert benchmark_names("all", RULER_TASKS) == RULER_TASKS
    assert len(RULER_TASKS) == 13
    assert benchmark_names(" vt, cwe,vt ", RULER_TASKS) == ("vt", "cwe")
    with pytest.raises(InputError, match=r"There is no task 'vr': choose all, or one or more of niah_single_1"):
        benchmark_names("vt,vr", RULER_TASKS)
    with pytest.raises(InputError, match="No task is named"):
        benchmark_names(" , ", RULER_TASKS)
    with pytest.raises(InputError, match="no task 'ruler_vt'"):
        one(words, "ruler_vt")


@pytest.mark.embedded
def test_the_embedded_model_gets_all_generated_tasks_at_a_thousand_tokens(smol: LanguageModel) -> None:
    for task in ruler_tasks(smol, RULER_GENERATED, [1024], 2, seed=0):
        for question in task.questions:
            assert 450 < question.input_ids(smol).shape[1] < 1024 + 60


def fails(error: type[Exception]) -> Callable[..., Any]:
    def raises(*_: Any, **__: Any) -> Any:
        raise error("no network in tests")

    return raises


# Needles


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    essays = " ".join(SENTENCE.format(at=at) for at in range(400))
    (tmp_path / "essays.txt").write_text(essays, encoding="utf-8")
    return LocalFiles(tmp_path)


def context(question: Question) -> str:
    return question.example.messages[0].content.split("\n")[1]


def asked(lm: LanguageModel, files: LocalFiles, **options: Any) -> list[Any]:
    return needle_tasks(lm, [4096], [0, 50, 100], 2, files=files, **{"seed": 1, **options})


def test_the_needle_stands_at_the_depth_that_is_asked_for(lm: LanguageModel, files: LocalFiles) -> None:
    tasks = asked(lm, files)
    labels = ["niah@4096/depth-0", "niah@4096/depth-50", "niah@4096/depth-100"]
    assert [task.label for task in tasks] == labels
    for task, depth in zip(tasks, (0, 0.5, 1), strict=True):
        for question in task.questions:
            before, needle, after = context(question).partition(NEEDLE)
            assert needle
            around = len(before) + len(after.partition(". ")[2])
            assert len(before) / around == pytest.approx(depth, abs=0.05)


def test_all_depths_hide_the_same_needles_in_a_full_haystack(lm: LanguageModel, files: LocalFiles) -> None:
    answers = [[question.example.answers for question in task.questions] for task in asked(lm, files)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] != answers[0][1]
    for task in asked(lm, files):
        for question in task.questions:
            assert 2000 < question.input_ids(lm).shape[1] < 4096
            assert (question.max_new_tokens, question.metric) == (128, "ruler")
            assert question.score(f"It is {question.example.answers[0]}.") == 1


def test_more_needles_begin_with_the_same_ones(lm: LanguageModel, files: LocalFiles) -> None:
    few = needle_tasks(lm, [4096], [25], 2, seed=1, files=files)[0]
    many = needle_tasks(lm, [4096], [25], 6, seed=1, files=files)[0]
    other = needle_tasks(lm, [4096], [25], 2, seed=2, files=files)[0]
    assert [q.key for q in few.questions] == [q.key for q in many.questions[:2]]
    assert few.questions[0].key != other.questions[0].key


def test_a_needles_question_moves_to_the_front(lm: LanguageModel, files: LocalFiles) -> None:
    (task, *_) = asked(lm, files, question_first=True)
    text = task.questions[0].example.messages[0].content
    assert text.startswith("What is the special magic number for ")
    assert task.label == "niah@4096/depth-0/first"


@pytest.mark.parametrize("depth", [-1, 101])
def test_a_depth_outside_the_haystack_is_refused(lm: LanguageModel, files: LocalFiles, depth: int) -> None:
    with pytest.raises(InputError, match=f"no depth of {depth} %"):
        needle_tasks(lm, [4096], [depth], 1, seed=0, files=files)


def test_a_length_without_room_for_a_haystack_is_refused(lm: LanguageModel, files: LocalFiles) -> None:
    with pytest.raises(InputError, match=r"does not fit into 400 tokens: ask for longer prompts$"):
        needle_tasks(lm, [400], [50], 1, seed=0, files=files)


def test_a_short_haystack_still_has_its_needle_at_its_depth(lm: LanguageModel, files: LocalFiles) -> None:
    tasks = needle_tasks(lm, [1024], [0, 100], 2, seed=0, files=files)
    for task, first in zip(tasks, (True, False), strict=True):
        for question in task.questions:
            (answer,) = question.example.answers
            assert question.input_ids(lm).shape[1] <= 1024
            assert (context(question).index(answer) < len(context(question)) / 2) == first


def test_notes_say_what_the_haystack_is(lm: LanguageModel, files: LocalFiles) -> None:
    for task in asked(lm, files):
        assert task.notes[0].startswith("The haystack is ")
        assert "essays.txt" in task.notes[0]
