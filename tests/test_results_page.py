"""The published results are what the report makes of the results files, nothing else."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from judgeq.evaluation.report import read_results, to_markdown

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_documented_command_writes() -> None:
    measured = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
    (command,) = re.findall(
        r"^python -m judgeq report (.*--markdown docs/results\.md)$", measured, re.MULTILINE
    )
    words = shlex.split(command)
    files = [read_results(ROOT / word) for word in words[: words.index("--markdown")]]
    assert to_markdown(files) == PAGE
