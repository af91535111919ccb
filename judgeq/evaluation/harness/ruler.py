"""RULER (arXiv 2404.06654) as lm-eval has it: its generators run with a model's own tokenizer, at any length.

Where the answer's beginning is given (`gen_prefix`), it follows the chat template. lm-eval does the same; its
target delimiter separates the two only where there is no template. `ruler_documents.py` makes the documents.
`ruler_part`, the metric of the questions about SQuAD and HotpotQA, is the share of the right answers that are found, as
lm-eval computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from judgeq.data.example import Example
from judgeq.errors import InputError
from judgeq.evaluation.harness.lm_eval_files import LocalFiles
from judgeq.evaluation.harness.lm_eval_tasks import Definition, check_names, definition
from judgeq.evaluation.harness.ruler_documents import generate
from judgeq.evaluation.questions import Question, Task
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Message
from judgeq.values import whole_numbers

RULER_GENERATED = tuple(
    "niah_single_1 niah_single_2 niah_single_3 niah_multikey_1 niah_multikey_2 niah_multikey_3 niah_multivalue "
    "niah_multiquery vt cwe fwe".split()
)
"""Tasks whose documents are made up, or essays."""
RULER_TASKS = (*RULER_GENERATED, "qa_squad", "qa_hotpot")
QUESTION_STARTS = ("What ", "Question: ")


def ruler_tasks(
    lm: LanguageModel,
    names: str | Iterable[str],
    lengths: int | Iterable[int],
    count: int,
    *,
    seed: int,
    question_first: bool = False,
    question_unknown: bool = False,
    files: LocalFiles | None = None,
) -> list[Task]:
    """Every named task at every length.

    Args:
        names: one or several of `RULER_TASKS`.
        lengths: one or several, tokens of a prompt and its answer together, before the chat template.
        count: questions of each task and length; asking for more later gives the same ones first.
        seed: of every choice.
        question_first: the prompt's last line, which is the question, is moved before the rest.
        question_unknown: rows are chosen of what is before the last line, and that is read afterwards; a benchmark of
            its own, `ruler-unknown`.
        files: local files used instead of downloads.

    Raises:
        InputError: lm-eval is missing, an unknown name, a length that a task cannot fill, or data that can neither be
            fetched nor found in `files`.
    """
    wanted = whole_numbers("lengths", lengths)
    label = "ruler-unknown" if question_unknown else "ruler"
    options: dict[str, Any] = {
        "question_first": question_first,
        "question_unknown": question_unknown,
        "files": files,
    }
    return [
        made_task(lm, f"{label}/{name}", name, length, count, f"{seed}:{name}:{length}", **options)
        for name in check_names(names, RULER_TASKS)
        for length in wanted
    ]


def made_task(
    lm: LanguageModel,
    label: str,
    generator: str,
    length: int,
    count: int,
    seed: str,
    *,
    question_first: bool,
    question_unknown: bool = False,
    files: LocalFiles | None,
    depth: int | None = None,
) -> Task:
    """Questions of one generator of lm-eval at one length; raises what `ruler_tasks` does."""
    task = definition("RULER", generator, "ruler")
    docs, notes = generate(lm, task, length, count, seed=seed, files=files or LocalFiles(), depth=depth)
    questions = [_question(task, doc, question_first, question_unknown) for doc in docs]
    return Task(label, questions, length, depth, question_first, notes)


def _question(task: Definition, doc: Mapping[str, Any], question_first: bool, question_unknown: bool) -> Question:
    """A document as a question; raises `InputError` where its last line is not the question."""
    text, answers, prefix = task.text(doc), tuple(doc["outputs"]), task.prefix(doc)
    parts = None
    if question_first or question_unknown:
        parts = _split_question(text)
        example = Example.asking(
            *parts, task.name, question_first=question_first, answers=answers, answer_prefix=prefix
        )
    else:
        example = Example((Message("user", text),), task.name, answers, prefix)
    return Question(
        example,
        max_new_tokens=task.max_new_tokens,
        metric="ruler_part" if task.name.startswith("qa_") else "ruler",
        rate=_rate(task, doc),
        stop=task.stop,
        unknown=parts if question_unknown else None,
    )


def _rate(task: Definition, doc: Mapping[str, Any]) -> Callable[[str], float]:
    # lm-eval gives a metric for every length it knows, -1 for all but the document's own
    rated = {key: doc[key] for key in ("outputs", "max_length")}
    return lambda answer: task.scores(rated, answer)[str(doc["max_length"])]


def _split_question(text: str) -> tuple[str, str]:
    """The text before the last line, and the last line."""
    rest, _, question = text.rstrip().rpartition("\n")
    if not rest.strip() or not question.startswith(QUESTION_STARTS):
        raise InputError("A prompt of RULER does not end with its question: use it with the question last")
    return rest.strip(), question
