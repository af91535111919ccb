"""Draws docs/_static/architecture.svg: `./run python docs/architecture.py`.

Boxes are modules and packages, bands the stages that data goes through from top to bottom. What stands in a band uses
what stands above it; `tests/test_architecture.py` holds the picture against the tree.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

PICTURE = Path(__file__).resolve().parent / "_static" / "architecture.svg"


@dataclass(frozen=True)
class Band:
    """A stage: its name, its boxes as (path, what it does), and what flows out of it."""

    name: str
    boxes: tuple[tuple[str, str], ...]
    gives: str = ""
    frame: str = ""


BANDS = (
    Band(
        "What goes in",
        (
            ("judgeq/models/", "a name becomes a model that is ready to read"),
            ("judgeq/prompts/", "text and files become ids that know their characters"),
            ("judgeq/data/", "prompts to train and to measure on"),
            ("judgeq/soft_tokens/", "the trained vectors, as files and on the Hub"),
        ),
        "token ids, with the soft tokens after them",
    ),
    Band(
        "One pass, in every layer",
        (
            ("judgeq/attention/", "layers hand over queries, keys and values"),
            ("judgeq/methods/", "attention becomes scores, scores and a budget become rows"),
            ("judgeq/cache/", "only these rows are kept; tokens seen are counted"),
        ),
        "kept rows of every method",
    ),
    Band(
        "What comes out",
        (
            ("judgeq/inference/", "prefill, decoding, answers: ask, stream, read, compare"),
            ("judgeq/look/", "one palette, figure template and style sheet"),
            ("judgeq/retention/", "which rows were kept, tied to the text: the map"),
            ("judgeq/export/", "export: a page, a picture, a table"),
        ),
        "answers, with the map of what was kept",
    ),
    Band(
        "What is built on it",
        (
            ("judgeq/documents/", "a text read once and asked many times"),
            ("judgeq/sweeping.py", "how small the cache can get"),
            ("judgeq/training/", "the model’s own responses train the soft tokens"),
            ("judgeq/integrations/", "generate, kvpress, lm-eval"),
        ),
        "documents, sweeps, soft tokens of your own",
    ),
    Band(
        "What people start",
        (
            ("judgeq/evaluation/", "hit rate, benchmarks, calibration, speed, the report"),
            ("judgeq/commands/", "the verbs of python -m judgeq"),
            ("app/", "the demo in the browser; the library knows nothing of it"),
        ),
    ),
)

WIDTH, LEFT, RIGHT, HIGH, STEP, TOP = 1000, 178, 950, 76, 128, 72
STYLE = """
.paper{fill:#fffefb;stroke:#ddd6c8}text{fill:#1d1b17}.soft{fill:#5f5b54}.box{fill:#f3eee4;stroke:#c7bfaf}
.package{fill:#e6edf5;stroke:#7f9cbd}.frame{fill:none;stroke:#265a92;stroke-dasharray:5 4}.blue{fill:#265a92}
.arrow{stroke:#5f5b54;stroke-width:1.6;fill:none}
@media (prefers-color-scheme:dark){.paper{fill:#16181d;stroke:#3a3d45}text{fill:#f0ece3}.soft{fill:#a8a49b}
.box{fill:#23262d;stroke:#54514b}.package{fill:#1b2a3a;stroke:#4d6f96}.frame{stroke:#8fb4df}.blue{fill:#8fb4df}
.arrow{stroke:#a8a49b}}
text{font:12px -apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",Arial,sans-serif}
.name{font:600 13px ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace}
.head{font:600 19px Charter,Georgia,"Noto Serif","Liberation Serif",serif}.band{font-weight:600;font-size:13.5px}
"""


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def drawn(band: Band, top: float) -> Iterator[str]:
    """One band: its name, its boxes, the frame around them, and the arrow to the next band."""
    for at, line in enumerate(textwrap.wrap(band.name, 14)):
        yield words(28, top + 24 + 17 * at, line, "band")
    if band.frame:
        around = f'x="{LEFT - 10}" y="{top - 26}" width="{RIGHT - LEFT + 20}" height="{HIGH + 36}"'
        yield f'<rect class="frame" {around} rx="9"/>'
        yield words(LEFT, top - 9, band.frame.removeprefix("judgeq/"), "name blue")
    wide = (RIGHT - LEFT - 10 * (len(band.boxes) - 1)) / len(band.boxes)
    for at, (path, what) in enumerate(band.boxes):
        x = LEFT + at * (wide + 10)
        kind = "package" if path.endswith("/") else "box"
        yield f'<rect class="{kind}" x="{x:g}" y="{top}" width="{wide:g}" height="{HIGH}" rx="6"/>'
        yield words(x + 10, top + 21, path.removeprefix("judgeq/"), "name")
        for line, part in enumerate(textwrap.wrap(what, int((wide - 16) / 6.7))):
            yield words(x + 10, top + 40 + 15 * line, part, "soft")
    if band.gives:
        x, y = (LEFT + RIGHT) / 2, top + HIGH + (14 if band.frame else 4)
        end = top + STEP + (22 if band.frame else 0)
        yield f'<path class="arrow" d="M{x:g} {y:g}V{end - 6:g}m-5 -7l5 7l5 -7"/>'
        yield words(x + 14, (y + end) / 2 + 3, band.gives, "soft")


def svg() -> str:
    """The picture as text."""
    tops, top = [], TOP
    for before, band in zip((None, *BANDS), BANDS, strict=False):
        top += (22 if band.frame else 0) + (14 if before and before.frame else 0)
        tops.append(top)
        top += STEP
    high = top - STEP + HIGH + 28
    parts = [piece for band, at in zip(BANDS, tops, strict=True) for piece in drawn(band, at)]
    named = ", ".join(path for band in BANDS for path, _ in band.boxes)
    box = f'viewBox="0 0 {WIDTH} {high}" role="img" aria-labelledby="what how"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {box}>
<title id="what">The architecture of judgeq</title>
<desc id="how">From top to bottom, as data flows: {escape(named)}.</desc>
<style>{STYLE}</style>
<rect class="paper" x=".5" y=".5" width="{WIDTH - 1}" height="{high - 1}" rx="12"/>
{words(28, 40, "Data flows down; what stands below uses what stands above", "head")}
{chr(10).join(parts)}
</svg>
"""


if __name__ == "__main__":
    PICTURE.write_text(svg(), encoding="utf-8")
