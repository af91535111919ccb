"""Text on a picture: words in whatever script, each character in the first font that has it.

No font comes with this library. Those of matplotlib, which is installed, cover most alphabets; for the rest the
system's own are asked. What no font has becomes a box, and `missing` says so. Knows nothing of what is written.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

ELSEWHERE = (
    *(
        "NotoSansCJK-Regular.ttc",
        "NotoSansCJKsc-Regular.otf",
        "wqy-microhei.ttc",
        "DroidSansFallbackFull.ttf",
    ),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf", "Nirmala.ttc", "segoeui.ttf", "LeelawUI.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansBengali-Regular.ttf", "NotoSansThai-Regular.ttf"),
)
"""Where Linux, macOS and Windows keep the scripts that matplotlib's fonts lack."""
BOX = "\u25a1"
ABSENT = "\U0010fffe"
"""A character that no font has: what is drawn for it is drawn for every other one that a font lacks."""


@dataclass
class Pen:
    """Writes in one size and cut.

    Attributes:
        name: of the first font, such as `DejaVuSerif-Bold`.
        missing: whether a character had to be replaced so far.
    """

    name: str
    size: int
    missing: bool = field(default=False, init=False)

    def width(self, text: str) -> float:
        """Pixels that a text takes."""
        return sum(font.getlength(piece) for piece, font in self._pieces(text))

    def write(self, draw: ImageDraw, place: tuple[float, float], text: str, fill: str) -> float:
        """Draw from the left end of the base line; returns where the text ends."""
        x, y = place
        for piece, font in self._pieces(text):
            draw.text((x, y), piece, font=font, fill=fill, anchor="ls")
            x += font.getlength(piece)
        return x

    def fitted(self, text: str, room: float) -> str:
        """The text, or as much of it as fits with an ellipsis behind it."""
        if self.width(text) <= room:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(text[:middle] + "…") <= room else (low, middle - 1)
        return text[:low].rstrip() + "…"

    def lines(self, text: str, room: float, most: int) -> list[str]:
        """At most so many lines, wrapped between words, or within one that is too long; `…` ends what is cut."""
        lines: list[str] = []
        rest = text.split()
        while rest and len(lines) < most:
            line = rest.pop(0)
            while rest and self.width(f"{line} {rest[0]}") <= room:
                line += f" {rest.pop(0)}"
            if self.width(line) > room:
                fits = max(1, len(self.fitted(line, room)) - 1)
                line, rest = line[:fits], [line[fits:], *rest]
            lines.append(line)
        if rest:
            lines[-1] = self.fitted(f"{lines[-1]} {' '.join(rest)}", room)
        return lines

    def _pieces(self, text: str) -> list[tuple[str, FreeTypeFont]]:
        fonts = _fonts(self.name, self.size)
        found: list[tuple[str, int]] = []
        before = 0
        for char in text:
            if unicodedata.category(char) in ("Cf", "Cc"):
                continue
            if unicodedata.category(char)[0] == "M" and _has(fonts[before], char):
                found.append((char, before))  # a combining mark stays with its letter
                continue
            before = next((place for place, font in enumerate(fonts) if _has(font, char)), -1)
            if before < 0:
                before, char, self.missing = 0, BOX, True
            found.append((char, before))
        return [
            ("".join(char for char, _ in group), fonts[place])
            for place, group in groupby(found, key=lambda pair: pair[1])
        ]


def right_to_left(text: str) -> bool:
    """Whether most letters of a text are of a script that runs to the left."""
    kinds = [unicodedata.bidirectional(char) for char in text]
    return sum(kind in ("R", "AL") for kind in kinds) > kinds.count("L")


@cache
def _fonts(name: str, size: int) -> tuple[FreeTypeFont, ...]:
    from PIL import ImageFont

    fonts = []
    for file in (_bundled(name), _bundled("DejaVuSans"), *ELSEWHERE):
        try:
            fonts.append(ImageFont.truetype(str(file), size))
        except OSError:  # not on this system
            continue
    return (*fonts, ImageFont.load_default(size))  # type: ignore[arg-type]


def _bundled(name: str) -> Path:
    """A font in matplotlib's folder, found without importing it."""
    found = find_spec("matplotlib")
    folder = Path(found.origin).parent if found and found.origin else Path()
    return folder / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"


@cache
def _has(font: Any, char: str) -> bool:
    return char.isspace() or _drawn(font, char) != _drawn(font, ABSENT)


def _drawn(font: Any, char: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(char)
    return mask.size, bytes(mask)
