"""LongBench (arXiv 2308.14508) as lm-eval has it: the 16 English tasks, from the Hub or from a person's files.

Prompts that are too long lose their middle, as LongBench does it. Every prompt gets the chat template, also those of
the few-shot and code tasks, which LongBench and lm-eval ask without one; their tasks carry a note about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from judgeq.data.example import Example
from judgeq.data.jsonl import json_value, numbered
from judgeq.data.lengths import count_tokens
from judgeq.errors import DownloadError, InputError
from judgeq.evaluation.harness.lm_eval_tasks import Definition, check_names, definition, hub_dataset
from judgeq.evaluation.questions import Question, Task
from judgeq.models.language_model import LanguageModel
from judgeq.models.supported import CONTENT_MARK
from judgeq.prompts.prompt import SEPARATOR, Message, build_chat

LONGBENCH_TASKS = tuple(
    "narrativeqa qasper multifieldqa_en hotpotqa 2wikimqa musique gov_report qmsum multi_news trec triviaqa samsum "
    "passage_count passage_retrieval_en lcc repobench-p".split()
)
WITHOUT_TEMPLATE = ("trec", "triviaqa", "samsum", "lcc", "repobench-p")
"""Tasks that LongBench asks as plain text."""
TEMPLATE_NOTE = "The prompts are in the chat template; LongBench runs this task without one"
ORIGINAL_DATA = "https://huggingface.co/datasets/THUDM/LongBench"
SLACK = 8
"""Tokens that a cut may add where its two halves meet."""

Doc = dict[str, Any]


def longbench_tasks(
    lm: LanguageModel,
    names: str | Iterable[str],
    count: int,
    *,
    question_first: bool = False,
    folder: Path | None = None,
    reserve: int = 0,
) -> list[Task]:
    """The first `count` questions of every named task.

    Args:
        names: one or several of `LONGBENCH_TASKS`.
        question_first: what follows the context in the prompt comes before the rest.
        folder: may hold `NAME.jsonl` in LongBench's own format, instead of the Hub.
        reserve: positions to leave free for the soft tokens, where an answer takes fewer.

    Raises:
        InputError: lm-eval is missing, an unknown name, data that can neither be fetched nor found in `folder`, or
            a line of it that is wrong.
    """
    wanted = check_names(names, LONGBENCH_TASKS)
    if count < 1:
        raise InputError(f"{count} questions are asked for: ask for at least one")
    if folder is not None and not folder.is_dir():
        raise InputError(f"There is no folder {folder}: check its name")
    return [_task(lm, name, count, question_first, folder, reserve) for name in wanted]


def _task(lm: LanguageModel, name: str, count: int, question_first: bool, folder: Path | None, reserve: int) -> Task:
    task = definition("LongBench", name, "longbench")
    room = _room(lm, max(reserve, task.max_new_tokens))
    questions, cut = [], 0
    for doc in islice(_docs(task, folder), count):
        text = _prompt(task, doc, question_first)
        shorter = cut_middle(lm, text, room)
        cut += shorter != text
        example = Example((Message("user", shorter),), name, tuple(doc["answers"]))
        metric = task.config["metric_list"][-1]["metric"]
        questions.append(Question(example, task.max_new_tokens, metric, _rate(task, doc), task.stop))
    if not questions:
        raise InputError(f"LongBench's {name} has no questions: download it again")
    notes = [TEMPLATE_NOTE] if name in WITHOUT_TEMPLATE else []
    if cut:
        notes.append(f"{cut} of {len(questions)} prompts were cut in the middle to fit {room:,} tokens")
    if len(questions) < count:
        notes.append(f"There are {len(questions)} questions instead of {count}")
    return Task(f"longbench/{name}", questions, question_first=question_first, notes=tuple(notes))


def cut_middle(lm: LanguageModel, text: str, longest: int) -> str:
    """The first and the last half of the tokens that there is room for; the whole text where it fits."""
    offsets = lm.encode(text, is_data=True).offsets
    if len(offsets) <= longest:
        return text
    half = (longest - SLACK) // 2
    while half > 0:
        shorter = text[: offsets[half][0]] + text[offsets[-half][0] :]
        over = count_tokens(lm, shorter) - longest
        if over <= 0:
            return shorter
        half -= -(-over // 2)  # characters that were cut in two took more
    raise InputError(f"A prompt cannot be cut to {longest:,} tokens: leave fewer positions free for the answer")


def _room(lm: LanguageModel, reserve: int) -> int:
    """Tokens that a prompt may have in addition to the chat template."""
    probe = "x"
    template = build_chat(lm, [Message("user", probe)]).shape[1] - count_tokens(lm, probe)
    room = lm.geometry.max_positions - reserve - template
    if room < 4 * SLACK:
        raise InputError(
            f"{lm.name} has {lm.geometry.max_positions:,} positions and {reserve:,} are left free for the answer: "
            "leave fewer, or take a model with more"
        )
    return room


def _rate(task: Definition, doc: Mapping[str, Any]) -> Callable[[str], float]:
    rated = {key: doc[key] for key in ("answers", "all_classes")}
    return lambda answer: float(task.scores(rated, answer)["score"])


def _prompt(task: Definition, doc: Doc, question_first: bool) -> str:
    if not question_first:
        return task.text(doc)
    before, _, after = task.text({**doc, "context": CONTENT_MARK}).partition(CONTENT_MARK)
    return after.strip() + SEPARATOR + before + doc["context"]


def _docs(task: Definition, folder: Path | None) -> Iterator[Doc]:
    """The task's documents in their order, checked."""
    path = None if folder is None else folder / f"{task.name}.jsonl"
    if path is not None and path.exists():
        for line, raw in numbered(path):
            where = f"{path} line {line}"
            yield _checked(task, json_value(raw, f"{where}: "), where)
        return
    source, part, split = (task.config[key] for key in ("dataset_path", "dataset_name", "test_split"))

    def load() -> Any:
        import datasets

        return datasets.load_dataset(source, part, split=split)

    try:
        rows = hub_dataset(f"{source} {part}", source, load)
    except DownloadError as error:
        raise InputError(
            f"{error} Download LongBench's data ({ORIGINAL_DATA}) and put {task.name}.jsonl into a folder that "
            "--longbench-files names"
        ) from error
    for row, value in enumerate(rows, start=1):
        yield _checked(task, value, f"{source} {part} row {row}")


def _checked(task: Definition, value: Any, where: str) -> Doc:
    """A document with the names that lm-eval's templates have; LongBench's own files say `input` for `question`."""
    if not isinstance(value, Mapping):
        raise InputError(f'{where}: not an object; give {{"context": …, "input": …, "answers": …}}')
    doc = {"question": value.get("question", value.get("input")), "all_classes": value.get("all_classes")}
    doc |= {key: value.get(key) for key in ("context", "answers")}
    for key, name in (("context", "context"), ("question", "input")):
        if not isinstance(doc[key], str) or (key == "context" and not doc[key].strip()):
            raise InputError(f'{where}: "{name}" is not a text; give LongBench\'s own files')
    for key, needed in (("answers", True), ("all_classes", task.name == "trec")):
        texts = doc[key]
        if needed and (not isinstance(texts, list) or not texts or not all(isinstance(each, str) for each in texts)):
            raise InputError(f'{where}: "{key}" is not a list of texts; give LongBench\'s own files')
    return doc
