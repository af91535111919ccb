"""`judgeq report`: result files as one page that opens anywhere, and as Markdown tables.

What cannot be compared is said by `judgeq.evaluation.report.comparable`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from judgeq.commands.common import add_option, write
from judgeq.console import say


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="what `evaluate … --json FILE` or `bench --json FILE` wrote"
    )
    add_option(parser, "--html", "FILE.html", "write one page with figures and tables; - for standard output")
    add_option(parser, "--markdown", "FILE.md", "write the tables; - for standard output, as without --html")
    add_option(parser, "--title", "TEXT", "heading of the report")


def run(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.report import ResultFile, SpeedFile, incomparable, read_file, to_html, to_markdown

    read = [read_file(Path(path)) for path in arguments.files]
    files = [file for file in read if isinstance(file, ResultFile)]
    speed = [file for file in read if isinstance(file, SpeedFile)]
    for sentence in incomparable(files):
        say(f"judgeq: {sentence}\n")
    title = {} if arguments.title is None else {"title": arguments.title}
    if arguments.html:
        write(arguments.html, to_html(files, speed=speed, **title))
    if arguments.markdown and arguments.markdown != "-":
        write(arguments.markdown, to_markdown(files, speed=speed, **title))
    elif arguments.markdown or not arguments.html:
        print(to_markdown(files, speed=speed, **title), end="")
