"""Takes the text out of a PDF or HTML file, as a program of its own with limits on memory and time.

`python extract.py pdf|html LIMITS` reads the file from standard input and writes one JSON object: `{"text": …}`, or
`{"problem": …}` with a sentence that goes on after the file's name. Imports nothing of judgeq: hostile files are
read here, and if one of them brings this process down, nothing else is lost.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import sys
from typing import Any

UNSEEN = ("head", "script", "style", "template", "noscript", "iframe", "object", "svg", "textarea", "select")
"""HTML elements whose text nobody reads on the page."""


class Refused(Exception):
    """The file is not read; the message says why and what to do."""


def main() -> None:
    """Read, extract, report."""
    kind, limits = sys.argv[1], json.loads(sys.argv[2])
    confine(limits["memory"], limits["seconds"])
    logging.disable(logging.CRITICAL)  # pypdf reports every oddity of a file, and quotes it
    extract = {"pdf": pdf_text, "html": html_text}[kind]
    try:
        text = extract(sys.stdin.buffer.read(), limits)
        if len(text) > limits["characters"]:
            raise Refused(_too_much_text(limits))
        answer = {"text": text}
    except Refused as refused:
        answer = {"problem": str(refused)}
    except (MemoryError, RecursionError):
        answer = {"problem": "is too large or too deeply nested: save it as plain text, then try again"}
    sys.stdout.write(json.dumps(answer))


def confine(memory: int, seconds: int) -> None:
    """Limit this process to so many bytes of address space and seconds of work, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: whoever started this process ends it after a while
        return
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some
            resource.setrlimit(limit, (most, most))


def pdf_text(data: bytes, limits: dict[str, int]) -> str:
    """The text of a PDF, a blank line between pages.

    Raises:
        Refused: encrypted, broken, without text, or beyond a limit.
    """
    from pypdf import PdfReader
    from pypdf.errors import LimitReachedError

    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not _opens_without_password(reader):
            raise Refused("is protected by a password: save a copy without one, then try again")
        count = len(reader.pages)
        if count > limits["pages"]:
            raise Refused(
                f"has {count:,} pages and at most {limits['pages']:,} are read: save the ones that matter as a file"
            )
        return _pages(reader, limits)
    except (Refused, MemoryError, RecursionError):
        raise
    except LimitReachedError:
        raise Refused(
            "unpacks to more than one file may hold: save it as plain text, then try again"
        ) from None
    except Exception as error:  # noqa: BLE001 - pypdf raises whatever a broken file leads it to
        raise Refused(
            f"is a broken PDF ({type(error).__name__}): open it, save it anew or as plain text, then try again"
        ) from None


def _pages(reader: Any, limits: dict[str, int]) -> str:
    pages: list[str] = []
    length = 0
    for page in reader.pages:
        pages.append(tidy(page.extract_text()))
        length += len(pages[-1])
        if length > limits["characters"]:
            raise Refused(_too_much_text(limits))
    if not length:
        many = f"{len(pages)} pages" if len(pages) != 1 else "1 page"
        raise Refused(
            f"has {many} but no text, so it is probably a scan: let a text recognition run over it first"
        )
    return "\n\n".join(page for page in pages if page)


def _opens_without_password(reader: Any) -> bool:
    """Whether the file is only protected against changes, so that everybody may read it."""
    try:
        return bool(reader.decrypt(""))
    except Exception:  # noqa: BLE001 - a cipher that is not known here, or a broken entry
        return False


def html_text(data: bytes, limits: dict[str, int]) -> str:
    """What a reader sees of a page, one paragraph a block; scripts, styles and hidden parts are left out.

    Raises:
        Refused: no text, or an unknown encoding.
    """
    import lxml.html
    from inscriptis import Inscriptis
    from inscriptis.css_profiles import CSS_PROFILES
    from inscriptis.model.config import ParserConfig
    from lxml.etree import LxmlError

    try:
        # huge_tree: text nested deeper than 255 elements would be left out without a word
        parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
        tree = lxml.html.document_fromstring(_html_source(data).encode(), parser=parser)
        for unseen in tree.xpath(
            f"//*[@hidden or @aria-hidden='true' or {' or '.join(f'self::{n}' for n in UNSEEN)}]"
        ):
            if unseen.getparent() is not None:
                unseen.drop_tree()
        text = tidy(Inscriptis(tree, ParserConfig(css=CSS_PROFILES["strict"])).get_text())
    except LxmlError:
        text = ""
    if not text:
        raise Refused("has no text that a reader would see: give a page with some text")
    return text


def _html_source(data: bytes) -> str:
    """The page's characters: UTF-8 where that fits, else what the page says it is written in."""
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace").replace("\0", "\ufffd")
    said = re.search(rb"charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", data[:4096], re.IGNORECASE)
    for encoding in ("utf-8-sig", said[1].decode("ascii", "replace") if said else "utf-8"):
        with contextlib.suppress(UnicodeDecodeError, LookupError):
            return data.decode(encoding).replace("\0", "\ufffd")
    raise Refused("does not say in which encoding it is written: save it as UTF-8, then try again")


def tidy(text: str) -> str:
    """Without spaces at line ends, wide gaps inside lines, and more than one blank line on end."""
    text = re.sub(r"(?<=\S)[ \t\xa0]{3,}(?=\S)", "  ", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = re.sub(r"[ \t\xa0]+(?=\n|$)", "", text)
    # a PDF may name half a character
    return re.sub(r"\n{3,}", "\n\n", text).strip().encode("utf-8", "replace").decode("utf-8")


def _too_much_text(limits: dict[str, int]) -> str:
    return f"holds more than {limits['characters']:,} characters: save the part that matters as a file"


if __name__ == "__main__":
    main()
