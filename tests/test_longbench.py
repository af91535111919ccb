"""LongBench through lm-eval: templates, output lengths and metrics, data from files, prompts cut in the middle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from judgeq.data.lengths import count_tokens
from judgeq.errors import InputError
from judgeq.evaluation.harness import LONGBENCH_TASKS, lm_eval_tasks, longbench_tasks
from judgeq.evaluation.harness.longbench import TEMPLATE_NOTE, cut_middle
from judgeq.evaluation.questions import Question, Task
from judgeq.models.language_model import LanguageModel

FILES = Path(__file__).parent / "data" / "longbench"
LONGEST = {
    name: tokens
    for tokens, names in {
        32: "hotpotqa 2wikimqa musique triviaqa passage_count passage_retrieval_en",
        64: "multifieldqa_en trec lcc repobench-p",
        128: "narrativeqa qasper samsum",
        512: "gov_report qmsum multi_news",
    }.items()
    for name in names.split()
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_reach(*_: Any, **__: Any) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(lm_eval_tasks, "_failed", {})
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", out_of_reach)
    monkeypatch.setattr("datasets.load_dataset", out_of_reach)


def one(lm: LanguageModel, name: str, count: int = 1, folder: Path | None = FILES, **options: Any) -> Task:
    (task,) = longbench_tasks(lm, [name], count, folder=folder, **{"reserve": 0, **options})
    return task


def text(question: Question) -> str:
    return question.example.messages[0].content


def written(folder: Path, name: str, *lines: Any) -> Path:
    content = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    (folder / f"{name}.jsonl").write_text(content, encoding="utf-8")
    return folder


def line(**changes: Any) -> dict[str, Any]:
    return {"context": "A text.", "input": "What?", "answers": ["a"], "all_classes": ["a", "b"], **changes}


# Templates, lengths, metrics


def test_all_sixteen_tasks_have_the_official_output_lengths(lm: LanguageModel, tmp_path: Path) -> None:
    for name in LONGBENCH_TASKS:
        written(tmp_path, name, line(answers=["Paragraph 1"]))
    tasks = longbench_tasks(lm, LONGBENCH_TASKS, 1, folder=tmp_path)
    assert [task.name for task in tasks] == [f"longbench/{name}" for name in LONGBENCH_TASKS]
    assert {task.name.split("/")[1]: task.questions[0].max_new_tokens for task in tasks} == LONGEST
    for task, name in zip(tasks, LONGBENCH_TASKS, strict=True):
        assert "A text." in text(task.questions[0])
        few_shot = name in ("trec", "triviaqa", "samsum")
        assert task.questions[0].stop == (("\n",) if few_shot else ())
        assert task.notes == ((TEMPLATE_NOTE,) if few_shot or name in ("lcc", "repobench-p") else ())


def test_the_template_holds_context_and_question_in_their_places(lm: LanguageModel) -> None:
    question = one(lm, "qasper").questions[0]
    assert text(question).startswith("You are given a scientific article and a question.")
    assert "Article: The harbour of Lowmouth" in text(question)
    assert text(question).endswith("Question: How long did the first stage take?\n\nAnswer:")


@pytest.mark.parametrize(
    ("name", "metric", "right", "part"),
    [
        ("qasper", "qa_f1_score", "Eleven months.", "eleven long years"),
        ("gov_report", "rouge_score", None, "The harbour was dredged."),
        ("trec", "classification_score", "Distance", "Distance or Date"),
        ("lcc", "code_sim_score", "    return number * 3", "    return number"),
    ],
)
def test_each_task_has_its_metric(lm: LanguageModel, name: str, metric: str, right: str | None, part: str) -> None:
    question = one(lm, name).questions[0]
    assert question.metric == metric
    assert question.score(right or question.example.answers[0]) == pytest.approx(1)
    assert 0.2 < question.score(part) < 0.95
    assert question.score("zzz") < 0.2


def test_the_first_questions_come_first_and_too_few_are_noted(lm: LanguageModel) -> None:
    few, many = one(lm, "qasper", 2), one(lm, "qasper", 9)
    assert [q.key for q in few.questions] == [q.key for q in many.questions[:2]]
    assert few.notes == ()
    assert many.notes == ("There are 3 questions instead of 9",)


def test_what_stands_behind_the_context_moves_to_the_front(lm: LanguageModel) -> None:
    task = one(lm, "qasper", question_first=True)
    moved, plain = text(task.questions[0]), text(one(lm, "qasper").questions[0])
    assert moved.startswith("Answer the question based on the above article")
    assert moved.endswith("ships of 90 metres.")
    assert sorted(moved.split()) == sorted(plain.split())
    assert moved.index("Answer:\n\nYou are given") < moved.index("Article: The harbour")
    assert task.label == "longbench/qasper/first"


# Prompts that are too long


def test_too_long_a_prompt_keeps_its_head_and_its_tail(lm: LanguageModel, tmp_path: Path) -> None:
    long = "first words " + "middle of the text " * 900 + "last words"
    written(tmp_path, "qasper", line(context="short"), line(context=long), line(context=long))
    task = one(lm, "qasper", 3, tmp_path, reserve=300)
    short, cut, _ = task.questions
    assert "Article: short" in text(short)
    assert text(cut).startswith("You are given a scientific article")
    assert "Article: first words middle of the text" in text(cut)
    assert "last words\n\n Answer the question" in text(cut)
    assert text(cut).endswith("Question: What?\n\nAnswer:")
    length = cut.input_ids(lm).shape[1]
    assert lm.geometry.max_positions - 300 - 20 < length <= lm.geometry.max_positions - 300
    (note,) = task.notes
    assert note.startswith("2 of 3 prompts were cut in the middle to fit 3,7")


def test_a_long_answer_needs_more_room_than_the_soft_tokens(lm: LanguageModel, tmp_path: Path) -> None:
    written(tmp_path, "gov_report", line(context="middle of the text " * 900))
    question = one(lm, "gov_report", 1, tmp_path, reserve=32).questions[0]
    assert question.input_ids(lm).shape[1] <= lm.geometry.max_positions - 512


def test_a_text_that_fits_is_not_cut(lm: LanguageModel) -> None:
    assert cut_middle(lm, "short", 10) == "short"
    assert cut_middle(lm, "0123456789" * 10, 48) == ("0123456789" * 10)[:20] + ("0123456789" * 10)[-20:]


def test_an_answer_without_positions_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="4,090 are left free"):
        one(lm, "qasper", reserve=4090)


# Where data comes from


def test_lines_with_the_hubs_names_are_read_as_well(lm: LanguageModel, tmp_path: Path) -> None:
    hub = {"context": "A text.", "question": "Why?", "answers": ["a"], "length": 2}
    question = one(lm, "qasper", 1, written(tmp_path, "qasper", hub)).questions[0]
    assert "Question: Why?" in text(question)


def test_data_comes_from_the_hub_where_it_answers(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*which: str, split: str) -> list[dict[str, Any]]:
        asked.append((*which, split))
        return [line(question="Why so?"), line(answers=None)]

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert "Question: Why so?" in text(one(lm, "musique").questions[0])
    assert asked == [("Xnhyacinth/LongBench", "musique", "test")]
    with pytest.raises(InputError, match='LongBench musique row 2: "answers"'):
        one(lm, "musique", 2)


@pytest.mark.parametrize("folder", [None, FILES])
def test_data_out_of_reach_says_what_to_put_where(lm: LanguageModel, folder: Path | None) -> None:
    with pytest.raises(InputError, match=r"put musique\.jsonl into a folder that --longbench-files names"):
        one(lm, "musique", folder=folder)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("{", r"line 2: not JSON .*give one object a line"),
        ("[1]", "line 2: not an object"),
        (line(context=" "), 'line 2: "context" is not a text'),
        ({"context": "A text.", "answers": ["a"]}, 'line 2: "input" is not a text'),
        (line(answers="a"), 'line 2: "answers" is not a list of texts'),
        (line(answers=[]), 'line 2: "answers" is not a list of texts'),
        (line(all_classes=None), 'line 2: "all_classes" is not a list of texts'),
    ],
)
def test_a_wrong_line_is_named(lm: LanguageModel, tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"trec\.jsonl {message}"):
        one(lm, "trec", 5, written(tmp_path, "trec", line(), wrong))


def test_no_lines_no_folder_or_no_questions_are_refused(lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="qasper has no questions"):
        one(lm, "qasper", 1, written(tmp_path, "qasper"))
    with pytest.raises(InputError, match="There is no folder"):
        one(lm, "qasper", 1, tmp_path / "nowhere")
    with pytest.raises(InputError, match="ask for at least one"):
        one(lm, "qasper", 0)


def test_unknown_names_and_no_lm_eval(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="There is no task 'dureader': choose all, or one or more of narrativeqa"):
        one(lm, "dureader")
    for module in ("lm_eval", "lm_eval.tasks", "lm_eval.tasks._yaml_loader"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r'^LongBench needs lm-eval: pip install "judgeq\[benchmarks\]"$'):
        one(lm, "qasper")


def test_a_text_of_many_bytes_is_cut_until_it_fits(lm: LanguageModel) -> None:
    for longest in range(60, 90):
        shorter = cut_middle(lm, "🚢漢字" * 100, longest)
        assert longest - 40 < count_tokens(lm, shorter) <= longest
