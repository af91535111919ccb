"""Reading a document from a file: text in, or one clear sentence about why not. Knows nothing of models.

Text is decoded here. PDF and HTML, which can hang a parser or blow it up, are read by `extract.py` in a process of
its own, with limits on memory and time; pypdf and inscriptis (on lxml) do the work there.
"""

from __future__ import annotations

import codecs
import json
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from judgeq.errors import InputError

MAX_BYTES = 10_000_000
MAX_CHARACTERS = 10_000_000
MAX_PAGES = 2_000
MAX_SECONDS = 30
MAX_MEMORY = 1_000_000_000
"""Bytes of address space, the interpreter's own included, in which a PDF or HTML file has to be read."""

SUFFIXES = (".txt", ".md", ".html", ".htm", ".pdf")
"""What a file picker offers; other names are read as text if their content is text."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PACKED = {
    b"PK\x03\x04": "a ZIP archive or an office document",
    b"PK\x05\x06": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xd0\xcf\x11\xe0": "an old office document",
    b"{\\rtf": "an RTF document",
}


def read_document(path: str | Path) -> str:
    """The text of a file, with line ends as `\\n` and without a byte-order mark.

    PDF is recognised by its content, HTML by its name; everything else has to be text in UTF-8, or in UTF-16 or UTF-32
    with a byte-order mark.

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
        raise InputError(
            f"{name} has {size / 1e6:.1f} MB and at most {MAX_BYTES / 1e6:.0f} MB are read: give a shorter file"
        )
    if b"%PDF-" in data[:1024]:
        text = _extracted("pdf", data, name)
    elif path.suffix.lower() in (".html", ".htm", ".xhtml") and not _packed(data):
        text = _extracted("html", data, name)
    else:
        text = _decoded(data, name)
    if not text.strip():
        raise InputError(f"{name} is empty: give a file with some text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_and_delete(path: str | Path, among: Path) -> str:
    """`read_document` for a copy that was made for it alone, which is gone afterwards, however that ends.

    Args:
        among: folder of such copies; a file elsewhere is read and left in place.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{shown_name(path)} did not arrive whole: upload it again")
    try:
        return read_document(path)
    finally:
        whole, folder = path.resolve(), among.resolve()
        if whole.is_relative_to(folder):
            with suppress(OSError):  # somebody else's copy of the same text may be read at the same moment
                whole.unlink()
                if whole.parent != folder:
                    whole.parent.rmdir()


def shown_name(path: Path) -> str:
    """A file's name as a sentence can carry it: one line, at most 60 printable characters."""
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in path.name)
    return f"{name[:40]}…{name[-19:]}" if len(name) > 60 else name or "The file"


def _decoded(data: bytes, name: str) -> str:
    if kind := _packed(data):
        raise InputError(f"{name} is {kind}, not a text file: save it as PDF or plain text, then try again")
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{name} is not a text file in UTF-8: save it as plain text, then try again")
    return text


def _packed(data: bytes) -> str:
    """What a file that is no text says it is, as far as its first bytes tell; empty otherwise."""
    return next((kind for mark, kind in _PACKED.items() if data.startswith(mark)), "")


def _extracted(kind: str, data: bytes, name: str) -> str:
    """Text of a PDF or HTML file, read in a process of its own that ends with it."""
    limits = {
        "memory": MAX_MEMORY,
        "seconds": MAX_SECONDS,
        "pages": MAX_PAGES,
        "characters": MAX_CHARACTERS,
    }
    program = Path(__file__).with_name("extract.py")
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(program), kind, json.dumps(limits)],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # may quote the file
            timeout=MAX_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        answer = {
            "problem": f"takes longer than {MAX_SECONDS} seconds to read: save it as plain text, then try again"
        }
    except ValueError:  # it was ended for what it used, or fell over
        answer = {
            "problem": "cannot be read within the limits of one file: save it as plain text, then try again"
        }
    if "problem" in answer:
        raise InputError(f"{name} {answer['problem']}")
    return str(answer["text"])


def read_document_bytes(data: bytes, name: str | None = None) -> str:
    """The text of a document that came without a file, such as from standard input; see `read_document`.

    Args:
        name: what a sentence calls it.

    Raises:
        InputError: as `read_document`.
    """
    shown = name or "Standard input"
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{shown} has more than {MAX_BYTES / 1e6:.0f} MB, which is the most that is read: give less"
        )
    if b"%PDF-" in data[:1024]:
        text = _extracted("pdf", data, shown)
    elif re.match(rb"\s*(<!doctype html|<html)\b", data.removeprefix(codecs.BOM_UTF8)[:1024], re.IGNORECASE):
        text = _extracted("html", data, shown)
    else:
        text = _decoded(data, shown)
    if not text.strip():
        raise InputError(f"{shown} is empty: give a file with some text")
    return text.replace("\r\n", "\n").replace("\r", "\n")
