"""`judgeq ask`: answer questions about a document. What `--json` prints of an answer is `Answer.to_dict`."""

from __future__ import annotations

import argparse
import html
import sys
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from judgeq.commands.common import (
    add_common,
    add_flag,
    add_number,
    add_option,
    add_tokens,
    load_model,
    write,
    write_json,
)
from judgeq.config import AUTO, DEFAULT_BUDGET, Allocation, check_text, parse_budget
from judgeq.console import forget_output, say

if TYPE_CHECKING:
    from judgeq.inference.answers import Answer
    from judgeq.inference.decode import Step
    from judgeq.models.language_model import LanguageModel

METHOD_OPTIONS = ("sinks", "recent", "pool", "unit", "allocation", "value_aware", "group", "bits", "memory")


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_common(parser)
    option, number, flag = (partial(add, parser) for add in (add_option, add_number, add_flag))
    meaning = "a text, Markdown, HTML or PDF file, - for standard input, or a folder that --save-document wrote"
    option("--document", "FILE", meaning, required=True)
    meaning = "give it several times to ask several questions: the document is read once"
    option("--question", "TEXT", meaning, required=True, action="append")
    meaning = (
        "what decides which rows are kept, with options if you like, such as laq:draft=4; `judgeq methods` lists them; "
        "auto is judgeq, or stockanswer where no soft tokens are known for the model"
    )
    option("--method", "NAME", meaning, AUTO)
    option("--budget", "ROWS|SHARE", "128 = rows per KV head, 0.25 = share of the prompt", str(DEFAULT_BUDGET))
    add_tokens(parser)
    flag("--question-first", "put the question before the document")
    parser.add_argument("--answer-prefix", default="", metavar="TEXT", help="text that the answer continues")
    flag("--truncate", "cut the middle of a document that is too long")
    flag(
        "--query-agnostic",
        "evict once, before any question is known, and answer all of them from what is left",
    )
    meaning = "write the rows of the document, to ask more another time; with --query-agnostic what is left of them"
    option("--save-document", "DIR", meaning)
    number("--chunk", "read at most N tokens in a pass (default: all in one)")
    number("--max-new-tokens", "longest answer", 64)
    meaning = "evict again after every N tokens of the answer: no more rows than the budget and N are ever stored"
    number("--evict-every", meaning)
    option("--temperature", "TEMPERATURE", "0 = greedy", 0.0, type=float)
    option("--top-p", "TOP_P", "nucleus of the sampling", 1.0, type=float)
    own = "(default: the method's)"
    number("--sinks", f"first rows always kept {own}")
    number("--recent", f"last rows always kept {own}")
    number("--pool", f"width of the max-pooling over scores, odd; 1 = none {own}")
    option("--unit", "row|word", f"what is kept or evicted as one {own}")
    allocations = ", ".join(get_args(Allocation))
    option("--allocation", "NAME", f"budget of each layer and head: {allocations} {own}")
    meaning = "let what a row's value weighs count in the second half of the choice"
    parser.add_argument("--value-aware", action="store_true", default=None, help=meaning)
    meaning = f"how the scores of a KV head's queries are merged {own}"
    option("--group", "mean|max|largest|defensive", meaning)
    option("--row-bits", "8|4", f"store kept rows in so many bits a number {own}", dest="bits", type=int)
    number("--memory", f"rows of the budget left to memory tokens {own}")
    option("--html", "FILE", "write the document with what was kept; - for standard output")


def run(arguments: argparse.Namespace) -> None:
    ask = _asker(arguments)
    quiet, kept = "-" in (arguments.json, arguments.html), arguments.json or arguments.html

    def tell(text: str) -> None:
        try:
            if not quiet:
                say(text, sys.stdout)
        except BrokenPipeError:  # the reader has stopped, but a file still waits for the answers
            if not kept:
                raise
            forget_output()

    answers = []
    for question in arguments.question:
        if len(arguments.question) > 1:
            tell(f"> {question}\n")
        answers.append(_written(ask(question), tell, quiet))
    if arguments.html:
        write(arguments.html, _page(arguments.question, answers))
    pairs = zip(arguments.question, answers, strict=True)
    listed = {"answers": [{"question": question, **answer.to_dict()} for question, answer in pairs]}
    write_json(arguments.json, answers[0].to_dict() if len(answers) == 1 else listed)


def _noticed(sentence: str) -> None:
    say(f"judgeq: {sentence}\n")


def _text(document: str, saved: bool) -> str:
    """The document's text: from standard input, a folder of saved rows, or a file."""
    from judgeq.cache.files import SavedDocument
    from judgeq.prompts.read_file import MAX_BYTES, read_document, read_document_bytes

    if document == "-":
        return read_document_bytes(sys.stdin.buffer.read(MAX_BYTES + 1) if sys.stdin else b"", None, _noticed)
    return SavedDocument.read(document).text if saved else read_document(document, _noticed)


def _asker(arguments: argparse.Namespace) -> Callable[[str], Generator[Step, None, Answer]]:
    """A function that answers one question, by the command's options; a single question needs no saved rows."""
    from judgeq.cache.files import check_document_folder, is_compressed
    from judgeq.config import Decoding, check_chunk
    from judgeq.documents.compressed import CompressedDocument
    from judgeq.documents.document import Document
    from judgeq.errors import InputError
    from judgeq.inference.api import stream
    from judgeq.inference.request import auto_method, stand_in_notice
    from judgeq.methods import JudgeQ, StockAnswer
    from judgeq.methods.parsing import method_from_text

    for question in arguments.question:
        check_text("question", question)
    check_text("answer prefix", arguments.answer_prefix)
    saved = arguments.document != "-" and Path(arguments.document).is_dir()
    evicted = saved and is_compressed(arguments.document)
    text = "" if evicted else _text(arguments.document, saved)
    budget = parse_budget(arguments.budget)
    check_chunk(arguments.chunk)
    decoding = Decoding(
        arguments.max_new_tokens,
        arguments.temperature,
        arguments.top_p,
        seed=arguments.seed,
        evict_every=arguments.evict_every,
    )
    given = [f":{name}={value}" for name in METHOD_OPTIONS if (value := getattr(arguments, name)) is not None]
    name, *options = (arguments.method + "".join(given)).split(":")
    automatic = name.strip() == AUTO
    method = method_from_text(":".join([JudgeQ.name if automatic else name, *options]))
    chosen: dict[str, Any] = {"method": method, "budget": budget, "tokens": arguments.tokens}
    asked: dict[str, Any] = {"answer_prefix": arguments.answer_prefix, "decoding": decoding}
    placed = {"question_first": arguments.question_first, "truncate": arguments.truncate}
    if (evicted or arguments.query_agnostic) and (any(placed.values()) or decoding.evict_every):
        raise InputError(
            "--query-agnostic evicts the document once, before the question: leave out --question-first, --truncate "
            "and --evict-every"
        )
    if evicted and arguments.save_document:
        raise InputError(f"{arguments.document} is such a folder already: leave --save-document out, or copy it")
    if arguments.save_document is not None:
        check_document_folder(arguments.save_document)
    lm: LanguageModel = load_model(arguments)
    if automatic and not evicted and auto_method(lm, arguments.tokens) != method.name:
        chosen["method"] = method_from_text(":".join([StockAnswer.name, *options]))
        _noticed(stand_in_notice(lm))
    if evicted:
        left = CompressedDocument.load(lm, arguments.document)
        return lambda question: left.stream(question, **asked)
    keeps = saved or arguments.save_document or arguments.query_agnostic or len(arguments.question) > 1
    if not keeps:
        options = {**chosen, **asked, **placed, "chunk": arguments.chunk}
        return lambda question: stream(lm, text, question, **options)
    if saved:
        document = Document.load(lm, arguments.document, chunk=arguments.chunk)
    else:
        document = Document(lm, text, chunk=arguments.chunk)
    if arguments.query_agnostic:
        compressed = document.compress(**chosen)
        if arguments.save_document:
            compressed.save(arguments.save_document)
        return lambda question: compressed.stream(question, **asked)
    if arguments.save_document:
        document.save(arguments.save_document)
    return lambda question: document.stream(question, **chosen, **asked, **placed)


def _written(steps: Generator[Step, None, Answer], tell: Callable[[str], None], quiet: bool) -> Answer:
    """Tell an answer, and what it cost unless `quiet`; notices always."""
    while True:
        try:
            step = next(steps)
        except StopIteration as done:
            answer: Answer = done.value
            break
        tell(step.text)
    tell("\n")
    for notice in answer.notices:
        _noticed(notice)
    if not quiet:
        say(
            f"[{answer.method}: {answer.budget:,} of {answer.prompt_tokens:,} rows per KV head, "
            f"{answer.kv_bytes / 1e6:.1f} of {answer.full_kv_bytes / 1e6:.1f} MB, first token after "
            f"{answer.timing.ttft_s:.1f} s, {answer.timing.decode_tokens_per_s:.1f} tokens/s]\n"
        )
    return answer


def _page(questions: list[str], answers: list[Answer]) -> str:
    """The document with what was kept, for each question."""
    pages = [answer.retention.to_html() for answer in answers]
    if len(pages) == 1:
        return pages[0]
    heads = (f"<h2>{html.escape(question)}</h2>" for question in questions)
    return "\n".join(f"{head}\n{page}" for head, page in zip(heads, pages, strict=True))
