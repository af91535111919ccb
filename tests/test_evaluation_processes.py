"""Questions shared by several processes: one of them killed, the run resumed, the figures those of one process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from judgeq.cli import main
from judgeq.errors import InputError
from judgeq.evaluation import shared_journal
from judgeq.evaluation.journal import Journal, Rated, part_of
from judgeq.models.language_model import LanguageModel
from judgeq.training.workers import Workers
from tests.forks import as_launched, ended, judgeq, ran, started

QUESTIONS = 26
WORDS = "harbour ship gate captain lighthouse crew flag tide rope anchor barrel lantern".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_lm: Callable[..., LanguageModel]) -> Path:
    """A tiny model, questions, and the results of one process."""
    folder = tmp_path_factory.mktemp("shared")
    lm = make_lm()
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    lines = [
        {
            "context": " ".join(WORDS[at * step % 12] for step in range(1, 20 + 3 * at)),
            "question": f"What is number {at}?",
            "answers": list("aeiou"),  # scores of many values
        }
        for at in range(QUESTIONS)
    ]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    asked = [{"document": line["context"], "question": line["question"]} for line in lines for _ in "ab"]
    (folder / "calibrate.jsonl").write_text("\n".join(map(json.dumps, asked[:10])), encoding="utf-8")
    for kind in ("jsonl", "hit-rate", "calibrate"):
        assert main(command(folder, kind, "one")) == 0
    return folder


def command(folder: Path, kind: str, out: str) -> list[str]:
    target = ["--json", str(folder / f"{kind}-{out}.json")]
    data = ["--model", str(folder / "model"), "--data", str(folder / "data.jsonl"), "--budgets", "12,0.5"]
    if kind == "calibrate":
        data = [*data[:2], "--data", str(folder / "calibrate.jsonl"), "--budgets", "0.2,0.5"]
        return ["calibrate", *data, "--method", "snapkv", "--max-new-tokens", "4", "--check", *target]
    if kind == "hit-rate":
        data += ["--examples", "5", "--min-tokens", "20", "--max-tokens", "200", "--methods", "snapkv,h2o"]
    else:
        data += ["--methods", "full,snapkv,streamingllm"]
    return ["evaluate", kind, *data, *target]


def _mortal(words: list[str], environment: dict[str, str]) -> None:
    """Is killed while it asks its second questions."""
    from judgeq.evaluation import runner

    answer_all, calls = runner.answer_all, []

    def answers(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer_all(*arguments)  # type: ignore[arg-type]

    runner.answer_all = answers  # type: ignore[assignment]
    judgeq(words, environment)


def run(words: list[str], count: int, dies: int | None = None) -> list[int | None]:
    """Exit codes of the processes, which share the work as `accelerate launch` lets them."""
    where = enumerate(as_launched(count))
    return ended(*[started(_mortal if rank == dies else judgeq, words, each) for rank, each in where])


def text(folder: Path, kind: str, out: str) -> str:
    return (folder / f"{kind}-{out}.json").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_process_is_killed_and_others_end_with_the_results_of_one(folder: Path) -> None:
    words = command(folder, "jsonl", "three")
    codes = run(words, 3, dies=1)
    assert codes[1] == -signal.SIGKILL
    assert 0 not in codes
    assert not (folder / "jsonl-three.json").exists()
    main_file = folder / "jsonl-three.items.jsonl"
    parts = [part_of(main_file, rank, 3) for rank in (1, 2)]
    before = sum(len(path.read_bytes().splitlines()) - 1 for path in (main_file, *parts))
    assert QUESTIONS / 2 < before < QUESTIONS  # what was answered is kept
    assert run(words, 2) == [0, 0]
    assert text(folder, "jsonl", "three") == text(folder, "jsonl", "one")
    keys = [json.loads(line).get("key") for line in main_file.read_bytes().splitlines()]
    assert len(keys) == len(set(keys)) == QUESTIONS + 1  # nothing was asked twice
    assert sorted(path.name for path in folder.glob("jsonl-three*")) == [
        "jsonl-three.items.jsonl",
        "jsonl-three.json",
    ]


@pytest.mark.slow
def test_a_launcher_shares_questions(folder: Path) -> None:
    """`--multi_gpu` is what makes accelerate start several processes; without a GPU each has the CPU."""
    launch = "accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port 0 -m judgeq".split()
    code, said = ran([*launch, *command(folder, "jsonl", "two")])
    assert code == 0, said
    assert said.count("n = ") == 1  # one of the two speaks
    assert "questions: " in said
    assert text(folder, "jsonl", "two") == text(folder, "jsonl", "one")


@pytest.mark.parametrize("kind", ["hit-rate", "calibrate"])
def test_other_commands_share_their_questions_too(folder: Path, kind: str) -> None:
    assert run(command(folder, kind, "two"), 2) == [0, 0]
    assert text(folder, kind, "two") == text(folder, kind, "one")


def worker(rank: int, count: int) -> Workers:
    workers = Workers()
    workers.rank, workers.count = rank, count
    return workers


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_piece_of_work_is_one_processs_and_rounds_are_fair(count: int) -> None:
    dealt = [[rank for rank in range(count) if worker(rank, count).has(turn)] for turn in range(30)]
    assert all(len(ranks) == 1 for ranks in dealt)
    for start in range(0, 30 - count, count):
        assert {ranks[0] for ranks in dealt[start : start + count]} == set(range(count))
    evens = {ranks[0] for ranks in dealt[::2]}
    assert evens == set(range(count))  # tasks take turns: nobody gets one of them alone


def test_several_processes_need_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("judgeq.training.workers.Workers", lambda: worker(0, 2))
    for place in ([], ["--json", "-"]):
        assert main([*command(folder, "jsonl", "none")[:-2], *place]) == 2
        assert capsys.readouterr().err.startswith(
            "judgeq: Several processes share their answers through a file: give --json FILE, in a folder that all of "
            "them see"
        )


def test_a_file_that_another_machine_does_not_see_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_journal, "APPEARS_S", 0)
    monkeypatch.setattr(shared_journal, "time", SimpleNamespace(monotonic=iter((0.0, 1.0)).__next__))
    with pytest.raises(InputError, match="all machines share"):
        shared_journal.open_journal(tmp_path / "a.items.jsonl", {}, {}, worker(1, 2))
    journal = Journal(tmp_path / "a.items.jsonl", {})
    with pytest.raises(InputError, match=r"a\.items\.1-of-2\.jsonl of another process cannot be read"):
        journal.merge(2)


def test_parts_of_killed_runs_are_taken_over_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.items.jsonl"
    Journal(path, {"seed": 0}).add("1", "t", {"full@1.0": Rated("x", 2 / 3)})
    part = Journal(part_of(path, 1, 2), {"seed": 0})
    part.add("2", "t", {"full@1.0": Rated("y", 1 / 3)})
    with part_of(path, 1, 2).open("ab") as file:
        file.write(b'{"key": "3", "ta')  # killed
    part_of(path, 4, 7).write_bytes(b'{"setu')
    journal = Journal(path, {"seed": 0})
    journal.merge()
    assert [journal.answers(key).get("full@1.0") for key in "123"] == [
        Rated("x", 0.666667),
        Rated("y", 0.333333),
        None,
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["a.items.jsonl"]
    assert Journal(path, {"seed": 0}).answers("2") == journal.answers("2")
    Journal(part_of(path, 1, 3), {"seed": 1})
    with pytest.raises(InputError, match="seed 1 and this run has 0"):
        journal.merge()
