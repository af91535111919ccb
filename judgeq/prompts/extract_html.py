"""What a reader sees of a web page, with what was filled into its fields: HTML, and pages saved in one file (MHTML)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from judgeq.prompts.extract_text import Refused, decoded, tidy

UNSEEN = (
    "head script style template noscript iframe frame object svg audio video canvas progress meter datalist noembed "
    "annotation annotation-xml"
).split()
"""HTML elements whose text is not shown on the page."""
BLOCKS = (
    "address article aside blockquote body dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6 header html li "
    "main nav ol p pre section table tbody td th tr ul"
).split()
LINES = "caption center dd details dialog dl dt fieldset form legend menu search section summary".split()
"""Elements that begin a line, of which inscriptis does not know it."""
UNWRITTEN = "hidden password submit button reset image file color range".split()
"""Types of input fields whose value was not typed, or must not be read."""
HEAD = 200_000
"""Bytes in which a page has to name its encoding."""
FRAMES = 3
"""Pages inside of pages that are read."""


def html_text(data: bytes, limits: dict[str, int], notice: Callable[[str], None]) -> str:
    """What a reader sees of a page, one paragraph a block; scripts, styles and hidden parts are left out.

    Raises:
        Refused: no text.
    """
    return _seen(_page(decoded(data, _named_encoding(data)), {}))


def mhtml_text(data: bytes, limits: dict[str, int], notice: Callable[[str], None]) -> str:
    """The same of a page that a browser saved in one file, the pages in its frames included.

    Raises:
        Refused: no page in it, or no text.
    """
    from email import message_from_bytes

    pages: dict[str, str] = {}
    for part in message_from_bytes(data).walk():
        if part.get_content_type() in ("text/html", "application/xhtml+xml", "text/plain"):
            content = part.get_payload(decode=True)
            if not isinstance(content, bytes):
                continue
            text = decoded(content, part.get_content_charset() or _named_encoding(content))
            if part.get_content_type() == "text/plain":
                text = f"<plaintext>{text}"
            place = (part.get("Content-ID") or "").strip("<> ")
            pages[f"cid:{place}" if place else part.get("Content-Location") or str(len(pages))] = text
            if part["Content-Location"]:
                pages.setdefault(part["Content-Location"], text)
    if not pages:
        raise Refused("holds no web page: save the page as HTML or plain text, then try again")
    shown = [text for text in pages.values() if not text.startswith("<plaintext>")] or list(pages.values())
    return _seen(_page(shown[0], pages))


def _named_encoding(data: bytes) -> str:
    """The encoding that a page names where browsers look for it; empty if there is none."""
    import lxml.html
    from lxml.etree import LxmlError

    if said := re.match(rb"\s*<\?xml[^>]{1,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})", data):
        return said[1].decode("ascii", "replace")
    parser = lxml.html.HTMLParser(encoding="windows-1252", huge_tree=True)
    try:
        tree = lxml.html.document_fromstring(data[:HEAD].replace(b"\0", b" "), parser=parser)
    except LxmlError:  # no element in it
        return ""
    for meta in tree.iter("meta"):
        said_so = meta.get("http-equiv", "").strip().lower() == "content-type" and meta.get("content", "")
        found = re.search(r"charset\s*=\s*[\"']?\s*([^\s;\"']+)", said_so or "", re.IGNORECASE)
        if label := meta.get("charset", "").strip() or (found[1] if found else ""):
            return label
    return ""


def _page(source: str, pages: Mapping[str, str], depth: int = 0) -> Any:
    """A page as a tree of what is seen, with the pages in its frames.

    Args:
        pages: sources by the addresses under which frames name them.
    """
    import lxml.html
    from lxml.etree import LxmlError

    # huge_tree: text nested deeper than 255 elements would be left out without a word
    parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    source = source.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if source.lstrip().startswith("<?xml"):  # in XML, a script without text ends itself
        source = re.sub(r"<(\w+)\b([^<>]*)/>", r"<\1\2></\1>", source)
    try:
        tree = lxml.html.document_fromstring(source.encode(), parser=parser)
    except LxmlError:
        raise Refused("has no text that a reader would see: give a page with some text") from None
    if any("xcessive depth" in str(each.message) for each in parser.error_log):
        raise RecursionError  # what lies deeper is left out
    for frame in list(tree.iter("iframe", "frame")):
        inner = frame.get("srcdoc") or pages.get(frame.get("src", ""))
        if inner and depth < FRAMES:
            frame.tag, frame.text = "div", None
            frame[:] = list(_page(inner, pages, depth + 1).iter("body", "frameset"))[:1]
            for body in frame:
                body.tag = "div"
    _fill_in(tree)
    _drop_hidden(tree)
    return tree


def _seen(tree: Any) -> str:
    from inscriptis import Inscriptis
    from inscriptis.css_profiles import CSS_PROFILES
    from inscriptis.html_properties import Display
    from inscriptis.model.config import ParserConfig
    from inscriptis.model.html_element import HtmlElement

    looks = {**{name: HtmlElement(display=Display.block) for name in LINES}, **CSS_PROFILES["strict"]}
    text = tidy(Inscriptis(tree, ParserConfig(css=looks)).get_text()).replace("\u00ad", "")
    if not text:
        raise Refused("has no text that a reader would see: give a page with some text")
    return text


def _fill_in(tree: Any) -> None:
    """Values of fields become text in their place; buttons, hidden fields and passwords have none."""
    for field in list(tree.iter("input", "textarea", "select")):
        tag, text = field.tag, ""
        if tag == "input":
            kind = field.get("type", "").strip().lower()
            if kind in ("checkbox", "radio"):
                text = "[x]" if field.get("checked") is not None else ""
            elif kind not in UNWRITTEN:
                text = field.get("value", "")
        elif tag == "textarea":
            text = field.text_content()
            field.set("style", f"{field.get('style', '')};white-space: pre")
        else:
            options = [each for each in field.iter("option") if each.get("hidden") is None]
            chosen = [each for each in options if each.get("selected") is not None]
            single = field.get("multiple") is None and field.get("size", "1").strip() in ("", "0", "1")
            if single and not chosen:
                chosen = [each for each in options if each.get("disabled") is None][:1]
            text = ", ".join(" ".join((each.text_content() or each.get("label", "")).split()) for each in chosen)
        field[:] = []
        field.tag, field.text = "span", f" {text} " if text.strip() else None


def _drop_hidden(tree: Any) -> None:
    """Leave visible elements only. Never remove the whole page, which may be hidden until a script has run."""
    whole = list(tree.iter("html", "body", "frameset"))
    for element in whole:
        for name in ("hidden", "style", "aria-hidden", "popover"):
            element.attrib.pop(name, None)
    for element in list(tree.iter()):
        if element.getparent() is None or element in whole:
            continue
        if element.tag in UNSEEN or _is_hidden(element):
            element.drop_tree()
            continue
        _blank(element)
        if "none" in element.get("style", "").lower():  # an earlier word that does not count
            del element.attrib["style"]
    _drop_decoration(tree)


def _is_hidden(element: Any) -> bool:
    """Whether an element is not displayed, by its own attributes: `until-found` is read as what a click opens is."""
    display = _style(element, "display")
    if display:
        return display == "none"
    return (
        element.get("hidden", "until-found").strip().lower() != "until-found"
        or element.get("popover") is not None
        or (element.tag == "dialog" and element.get("open") is None)
        or _style(element, "content-visibility") == "hidden"
    )


def _style(element: Any, name: str) -> str:
    """The value that counts of what an element's style says about a property; empty if nothing."""
    style = element.get("style")
    if not style or name not in (lower := re.sub(r"/\*.*?(\*/|$)", " ", style, flags=re.DOTALL).lower()):
        return ""
    counts = ("", False)
    for each in lower.split(";"):
        said, _, value = each.partition(":")
        value, important = re.subn(r"\s*!\s*important\s*$", "", value)
        if said.strip() == name and (important or not counts[1]):
            counts = (value.strip(), bool(important))
    return counts[0]


def _blank(element: Any) -> None:
    """Remove the text of an invisible element, except for parts of it that are visible again."""
    if _style(element, "visibility") not in ("hidden", "collapse"):
        return
    open_parts = [element]
    while open_parts:
        part = open_parts.pop()
        part.text = None
        for inner in part:
            inner.tail = None
            # hidden ones have their turn
            if _style(inner, "visibility") not in ("visible", "initial", "hidden", "collapse"):
                open_parts.append(inner)


def _drop_decoration(tree: Any) -> None:
    """Drop what is kept from screen readers: icons, doubles, menus that are closed.

    While a dialog is open, or where it is most of the page, the same attribute marks the page itself, which is kept.
    """
    marked = [each for each in tree.iter() if each.get("aria-hidden", "").strip().lower() == "true"]
    blocks = {each for each in marked if next(each.iter(*BLOCKS), None) is not None}
    inline = [each for each in marked if each not in blocks]
    outer = [each for each in blocks if not any(above in blocks for above in each.iterancestors())]
    behind = any(_is_dialog(each) for each in tree.iter()) or 2 * _length(outer) >= _length([tree])
    for each in (*(() if behind else outer), *(() if _length(inline) >= _length([tree]) else inline)):
        each.drop_tree()


def _is_dialog(element: Any) -> bool:
    return (
        element.tag == "dialog"
        or element.get("aria-modal", "").strip().lower() == "true"
        or element.get("role", "").strip().lower() in ("dialog", "alertdialog")
    ) and element.get("aria-hidden", "").strip().lower() != "true"


def _length(elements: list[Any]) -> int:
    return sum(len(each.text_content().strip()) for each in elements)
