"""`judgeq calibrate`: the smallest budget that is safe for questions like yours, and how sure that is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgeq._version import versions
from judgeq.commands.common import (
    add_common,
    add_flag,
    add_number,
    add_option,
    add_tokens,
    command_of,
    finish,
)
from judgeq.commands.measuring import PACKAGES, bars_of, journal_path, load_shared, open_journal, read_budgets
from judgeq.config import AUTO, CONFIDENCE, RISK, check_at_least
from judgeq.errors import InputError

if TYPE_CHECKING:
    from judgeq.evaluation.calibration.questions import CalibrationQuestion
    from judgeq.methods import Method
    from judgeq.models.language_model import LanguageModel
    from judgeq.training.workers import Workers


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_common(parser)
    meaning = (
        "JSON lines with document or document_file, question, and optionally answer (what a right one contains) and "
        "answer_prefix; or facts, facts-begun, facts-led, keys: made-up facts in held-out articles"
    )
    add_option(parser, "--data", "FILE", meaning, required=True)
    add_option(parser, "--risk", "SHARE", "largest share of questions whose answer may be lost", RISK, type=float)
    add_option(parser, "--confidence", "SHARE", "how sure the result has to be", CONFIDENCE, type=float)
    add_option(parser, "--budgets", "N,M", "rows per KV head, or shares such as 0.1", "0.02,0.05,0.1,0.2,0.4,0.7")
    add_option(parser, "--method", "NAME", "with options if you like; `judgeq methods` lists them", AUTO)
    add_tokens(parser)
    add_flag(parser, "--question-first", "put the question before the document")
    add_number(parser, "--max-new-tokens", "longest answer", 32)
    meaning = "keep every second question back, and say how many of their answers survive at the chosen budget"
    add_flag(parser, "--check", meaning)
    add_number(parser, "--examples", "questions of made-up facts", 60)
    add_number(parser, "--length", "tokens of the prompts with made-up facts", 1000)


def run(arguments: argparse.Namespace) -> None:
    from judgeq.data.planted import PLANTED
    from judgeq.evaluation.calibration.questions import questions_from_file
    from judgeq.evaluation.journal import Journal
    from judgeq.evaluation.shared_journal import check_file_for
    from judgeq.prompts.prompt import dated, now
    from judgeq.training.workers import Workers

    check_at_least("calibrate", "examples", arguments.examples, 1)
    check_at_least("calibrate", "length", arguments.length, 1)
    read = None if arguments.data in PLANTED else questions_from_file(Path(arguments.data))
    workers, path = Workers(), journal_path(arguments)
    check_file_for(workers, path)
    with dated(workers.agree(Journal.begun(path) or now())):
        lm = load_shared(arguments, workers)
        _calibrate(arguments, lm, *(read or _planted(lm, arguments)), path, workers)


def _calibrate(
    arguments: argparse.Namespace,
    lm: LanguageModel,
    documents: Sequence[str],
    questions: Sequence[CalibrationQuestion],
    path: Path | None,
    workers: Workers,
) -> None:
    from judgeq.evaluation.calibration.plan import CalibrationPlan
    from judgeq.evaluation.calibration.questions import pair

    plan = CalibrationPlan.of(
        lm,
        pair(documents, questions),
        risk=arguments.risk,
        confidence=arguments.confidence,
        budgets=read_budgets(arguments.budgets),
        method=_method(arguments),
        tokens=arguments.tokens,
        question_first=arguments.question_first,
        max_new_tokens=arguments.max_new_tokens,
    )
    if arguments.check and len(plan.cases) < 2:
        raise InputError("One question cannot be kept back to check the others: give more, or leave --check out")
    journal = open_journal(path, arguments, lm, plan.soft, workers)
    texts = list(dict.fromkeys(documents))
    own = [case for case in plan.cases if workers.has(texts.index(case[0]))]
    with bars_of(workers) as bars:
        for done, _ in enumerate(replace(plan, cases=own).answers(journal), 1):
            bars.advance("questions", done, len(own))
    workers.wait()
    if workers.rank > 0:
        return
    journal.merge(workers.count)
    answered = list(plan.answers(journal))
    found = plan.conclude(answered[::2] if arguments.check else answered)
    lines, more = found.lines(), dict[str, Any]()
    if arguments.check and found.budget is not None:
        more["check"] = check = found.check(answered[1::2])
        lines.append(
            f"Kept back: {check['survived']:,} of {check['questions']:,} other answers survive at {check['budget']}."
        )
    settings = {
        name: getattr(arguments, name)
        for name in ("data", "max_new_tokens", "question_first", "seed")
        if getattr(arguments, name) is not None
    }
    result = {
        "benchmark": "calibrate",
        "tokens": plan.soft.config.recipe if plan.soft else None,
        "settings": {**settings, "command": command_of(arguments.words)},
        "versions": versions(PACKAGES),
        **found.to_dict(),
        **more,
    }
    finish(arguments, result, *lines)


def _method(arguments: argparse.Namespace) -> str | Method:
    from judgeq.methods.parsing import method_from_text

    return AUTO if arguments.method == AUTO else method_from_text(arguments.method)


def _planted(lm: LanguageModel, arguments: argparse.Namespace) -> tuple[list[str], list[CalibrationQuestion]]:
    """Documents with made-up facts, each with a question that stands after it."""
    from judgeq.data.planted import PLANTED
    from judgeq.evaluation.calibration.questions import CalibrationQuestion
    from judgeq.prompts.prompt import SEPARATOR

    length, source = arguments.length, PLANTED[arguments.data]
    drawn = source.examples(lm, 2 * arguments.examples, tokens=(length, length), seed=arguments.seed)
    documents, questions = [], []
    for example in drawn[::2]:  # every other one has its question first
        document, _, question = example.messages[0].content.rpartition(SEPARATOR)
        documents.append(document)
        questions.append(CalibrationQuestion(question, example.answers[0], example.answer_prefix))
    return documents, questions
