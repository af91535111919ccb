"""The characters of a text file: its encoding by its mark, by a name or by its bytes, as browsers find it."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable


class Refused(Exception):
    """The file is not read; the message says why and what to do, and continues after the file's name."""


MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like UTF-16, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What browsers mean by a name, where Python's codec of that name knows fewer characters.
WIDER = {
    "shift_jis": ("cp932", "shift_jis_2004"),
    "euc-jp": ("euc_jp", "euc_jis_2004"),
    "euc-kr": ("cp949",),
    "big5": ("big5hkscs",),
    "gbk": ("gb18030",),
}
NO_TEXT = re.compile("[\0-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")
"""Control characters that are not found in texts; escape sequences and line ends are."""


SAMPLE = 1_000_000
"""Bytes by which an encoding is guessed."""


def plain_text(data: bytes, limits: dict[str, int], notice: Callable[[str], None]) -> str:
    """The characters of a text file in any encoding.

    Raises:
        Refused: not text.
    """
    text = decoded(data)
    if "\0" in text or 10 * len(NO_TEXT.findall(text)) > len(text) or 10 * text.count("\ufffd") > len(text):
        raise Refused("is not a text file: save it as plain text in UTF-8, then try again")
    return text


def decoded(data: bytes, said: str = "") -> str:
    """The characters of a file, by its mark, by the name of an encoding that it or its carrier gives, or by its bytes.

    Args:
        said: the name as it was found; one that browsers do not know counts as none.
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    whole = _as(data, "utf-8")
    wide = _without_mark(data, whole)
    if wide is not None:
        return wide
    if whole is not None:  # names are often wrong, and other encodings do not look like UTF-8
        shifts = b"\x1b$B" in data or b"\x1b$@" in data
        return (_as(data, "iso2022_jp") if shifts else None) or whole
    names = ("utf-8",) if _is_damaged_utf8(data) else _codecs_of(said) or _codecs_of(_guessed(data))
    texts = (_as(data, name) for name in names)
    return next((text for text in texts if text is not None), None) or data.decode(names[0], "replace")


def _codecs_of(label: str) -> tuple[str, ...]:
    """Python's codecs for a label of the web's list, the likeliest first; none for a label that is not on it."""
    import webencodings

    encoding = webencodings.lookup("windows-874" if label == "cp874" else label)
    if encoding is None or encoding.name == "x-user-defined":
        return ()
    if encoding.name.startswith("utf-16"):
        return ("utf-8",)  # a label that could be read was not UTF-16
    return WIDER.get(encoding.name, (encoding.codec_info.name,))


def _without_mark(data: bytes, whole: str | None) -> str | None:
    """The text of UTF-16 or UTF-32 without a mark; None if the file is neither, as far as bytes can tell.

    Args:
        whole: the file as UTF-8, None if it is not that.
    """
    if whole is not None and 10 * len(NO_TEXT.findall(whole)) < len(whole):
        return None
    found = []
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        text = _as(data, encoding)
        unused = any(unicodedata.category(c) in UNUSED for c in set(text or ""))
        if text and not unused and not NO_TEXT.search(text):
            found.append((len({ord(c) >> 8 for c in text}), text))
    # a text is in few scripts; turned around or cut otherwise, it seems to be in many
    _, text = min(found, default=(0, None), key=lambda each: each[0])
    return text if b"\0" in data or _is_odd(data) else None


UNUSED = ("Cn", "Co", "Cs")


def _is_odd(data: bytes) -> bool:
    """Whether the bytes are no likely text with one or two bytes per letter."""
    guess = _codecs_of(_guessed(data))
    text = next((text for each in guess if (text := _as(data, each)) is not None), "\0")
    return NO_TEXT.search(text) is not None


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether most of what is not ASCII is UTF-8, which other encodings do not look like."""
    text = data.decode("utf-8", "replace")
    return len(re.findall("[^\0-\x7f\ufffd]", text)) > text.count("\ufffd")


def _guessed(data: bytes) -> str:
    """The encoding that Firefox would take for a file that does not name one."""
    try:
        from chardetng_py import EncodingDetector
    except ImportError:  # not built for this system
        return "windows-1252"
    detector = EncodingDetector()
    detector.feed(re.sub(rb"[\0-\x7f]{200,}", b" ", data)[:SAMPLE], last=True)
    return str(detector.guess(tld=None, allow_utf8=False))


def _as(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def tidy(text: str) -> str:
    """Without spaces at line ends, wide gaps inside lines, and more than one blank line on end."""
    text = re.sub(r"(?<=\S)[ \t\xa0]{3,}(?=\S)", "  ", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = re.sub(r"[ \t\xa0]+(?=\n|$)", "", text)
    # a PDF may name half a character
    return re.sub(r"\n{3,}", "\n\n", text).strip().encode("utf-8", "replace").decode("utf-8")


def too_much_text(limits: dict[str, int]) -> Refused:
    """The refusal of a file whose text is too long."""
    return Refused(f"holds more than {limits['characters']:,} characters: save the part that matters as a file")
