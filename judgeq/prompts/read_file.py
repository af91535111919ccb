"""Which files are read as documents, and within what limits of size, pages, memory and time. Knows nothing of models.

UTF-8 is decoded here. PDF and HTML, which can hang a parser or blow it up, and text in other encodings are read by
`extract_process.py` in a process of its own, with limits on memory and time; PDFium and inscriptis (on lxml) do the
work there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from judgeq.errors import InputError

MAX_BYTES = 10_000_000
MAX_CHARACTERS = 10_000_000
MAX_PAGES = 2_000
MAX_SECONDS = 30
MAX_MEMORY = 1_000_000_000
"""Bytes of address space, the interpreter's own included, in which a PDF or HTML file has to be read."""

SUFFIXES = (".txt", ".md", ".html", ".htm", ".mhtml", ".mht", ".pdf")
"""What a file picker offers; other names are read as text if their content is text."""

_PAGES = (".html", ".htm", ".xhtml", ".xht")
_SAVED_PAGES = (".mhtml", ".mht")
_PACKED = {
    b"PK\x03\x04": "a ZIP archive or an office document",
    b"PK\x05\x06": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!\x1a": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xd0\xcf\x11\xe0": "an old office document",
    b"{\\rtf": "an RTF document",
}
_PICTURES = {
    rb"\x89PNG": "PNG",
    rb"\xff\xd8\xff": "JPEG",
    rb"GIF8[79]a": "GIF",
    rb"II\*\0|MM\0\*": "TIFF",
    rb"RIFF.{4}WEBP": "WebP",
    rb".{4}ftyp(hei|mif|avi)": "HEIC",
}
_CONTROLS = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_PAGE_BEGINS = re.compile(
    rb"(\xef\xbb\xbf)?(\s|<!--.*?-->|<\?xml.*?\?>)*(<!doctype\s+html|<html|<head|<body)\b",
    re.IGNORECASE | re.DOTALL,
)
_FRAGMENT = re.compile(
    rb"\s*<(a|article|b|div|dl|font|form|h[1-6]|i|main|meta|ol|p|pre|section|span|style|table|title|ul)\b[^<>]*>.*</?\w+[^<>]*>\s*",
    re.IGNORECASE | re.DOTALL,
)
_MARKDOWN = re.compile(rb"^(#{1,6} |```|~~~|[-*+] |\d+\. |> )|\]\(", re.MULTILINE)
_MAIL_HEAD = re.compile(rb"([\w-]+:[^\n]*\n([ \t][^\n]*\n)*)*content-type:\s*multipart/", re.IGNORECASE)


def warned(sentence: str) -> None:
    """The default of `read_document` for a notice: a warning."""
    warnings.warn(sentence, stacklevel=4)


def read_document(path: str | Path, notice: Callable[[str], None] = warned) -> str:
    """The text of a file, with line ends as `\\n` and without a byte-order mark.

    PDF is recognised by its content, HTML and MHTML by their names, or by their content in a file without a name's
    ending. Everything else has to be text, in UTF-8 or any encoding that browsers read.

    Args:
        notice: called with a message about what is not in the text, such as pages of a PDF that are scans.

    Raises:
        InputError: missing, unreadable, too large, empty, protected, broken, or not text.
    """
    path = Path(path)
    name = shown_name(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
            size = path.stat().st_size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise InputError(f"{name} cannot be read ({reason}): check the path") from None
    if len(data) > MAX_BYTES:
        raise _too_large(name, size)
    return read_document_bytes(data, path.name, notice)


def read_document_bytes(data: bytes, name: str | None = None, notice: Callable[[str], None] = warned) -> str:
    """`read_document` for bytes in memory, such as standard input.

    Args:
        data: the file's content, up to `MAX_BYTES` bytes.
        name: the file's name, whose extension distinguishes HTML from text; without one, the content does.

    Raises:
        InputError: as `read_document`.
    """
    path = Path(name or "")
    name = shown_name(path) if name else "The document"
    if len(data) > MAX_BYTES:
        raise _too_large(name, len(data))
    if refusal := _refusal(data):
        raise InputError(f"{name} {refusal}")
    kind = _kind(data, path.suffix.lower())
    text = None if kind != "text" or _CONTROLS.search(data) else _utf8(data)
    if text is None:
        text = _extracted(kind, data, name, notice)
    if not text.strip():
        raise InputError(f"{name} is empty: give a file with some text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_and_delete(path: str | Path, among: Path, notice: Callable[[str], None] = warned) -> str:
    """`read_document` for a temporary copy, which is always deleted afterwards.

    Args:
        among: folder of such copies; a file elsewhere is read and left in place.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{shown_name(path)} did not arrive whole: upload it again")
    try:
        return read_document(path, notice)
    finally:
        whole, folder = path.resolve(), among.resolve()
        if whole.is_relative_to(folder):
            with suppress(OSError):  # another visitor's copy of the same text may be read at the same moment
                whole.unlink()
                if whole.parent != folder:
                    whole.parent.rmdir()


def shown_name(path: Path) -> str:
    """A file's name for messages: one line, at most 60 printable characters."""
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in path.name)
    return f"{name[:40]}…{name[-19:]}" if len(name) > 60 else name or "The file"


def _too_large(name: str, size: int) -> InputError:
    return InputError(
        f"{name} has {size / 1e6:.1f} MB and at most {MAX_BYTES / 1e6:.0f} MB are read: give a shorter file"
    )


def _utf8(data: bytes) -> str | None:
    """Plain text as it is, None for anything else: control characters and escape sequences of other encodings too."""
    if b"\x1b$" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _kind(data: bytes, suffix: str) -> str:
    """The kind of a file, by its content where that is clear, else by its extension."""
    is_text = not _CONTROLS.search(data)
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\0\t\n\f\r ")
    if start.startswith(b"%PDF-"):
        # a text may begin with the words, and a PDF may be all of text
        if suffix == ".pdf" or not is_text or re.search(rb"^\s*\d+ \d+ obj\b", data, re.MULTILINE):
            return "pdf"
    elif b"%PDF-" in data[:1024] and (suffix == ".pdf" or not is_text):
        return "pdf"
    if suffix == ".pdf":  # what a server sent instead
        suffix = ""
    if suffix in _SAVED_PAGES or (not suffix and _MAIL_HEAD.match(start)):
        return "mhtml"
    if suffix in _PAGES or (not suffix and _is_page(data)):
        return "html"
    return "text"


def _is_page(data: bytes) -> bool:
    """Whether content without a name is HTML: a page, or parts of one from the first to the last letter."""
    plain = data.replace(b"\0", b"") if data.count(b"\0") * 4 > len(data) else data  # UTF-16 and UTF-32
    plain = plain.removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
    return bool(_PAGE_BEGINS.match(plain) or (_FRAGMENT.fullmatch(plain) and not _MARKDOWN.search(plain)))


def _refusal(data: bytes) -> str:
    """The kind of a file that is not text, if its first bytes show it; empty otherwise."""
    for mark, kind in _PACKED.items():
        if data.startswith(mark):
            return f"is {kind}, not a text file: save it as PDF or plain text, then try again"
    for mark, kind in _PICTURES.items():
        if re.match(mark, data, re.DOTALL) and _CONTROLS.search(data):
            return f"is a picture ({kind}), not a text file: let a text recognition run over it and save the text"
    return ""


_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); import judgeq; del sys.path[0]; "
    "from judgeq.prompts.extract_process import main; main(*sys.argv[2:])"
)
"""Isolated from the user's folders and variables, so it needs the path of this library."""


def _extracted(kind: str, data: bytes, name: str, notice: Callable[[str], None]) -> str:
    """Text of a file that takes more than decoding, read in a process of its own that ends with it."""
    limits = {"memory": MAX_MEMORY, "seconds": MAX_SECONDS, "pages": MAX_PAGES, "characters": MAX_CHARACTERS}
    root = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD, str(root), kind, json.dumps(limits)],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # may quote the file
            timeout=MAX_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        answer = {"problem": f"takes longer than {MAX_SECONDS} seconds to read: save it as plain text, then try again"}
    except ValueError:  # it was ended for what it used, or fell over
        answer = {"problem": "cannot be read within the limits of one file: save it as plain text, then try again"}
    if "problem" in answer:
        raise InputError(f"{name} {answer['problem']}")
    for sentence in answer["notices"]:
        notice(f"{name} {sentence}")
    return str(answer["text"])
