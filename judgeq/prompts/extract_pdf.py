"""The text of a PDF as one reads it, with what was filled into its fields and noted on its pages.

PDFium puts letters into words and lines, and lines and columns into an order. Positions are known, so values and notes
are put next to their labels, and lines with Hebrew or Arabic into the order in which they are read.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from judgeq.prompts.extract_text import Refused, tidy, too_much_text


@dataclass(frozen=True)
class Piece:
    """Text at its place on a page: a letter, a word, or a line from right to left. Points from the lower left."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    turned: bool = False

    def off(self, other: Piece) -> float:
        """How far above or below the first line of another it is."""
        return abs((self.bottom + self.top) / 2 - other.top + min(other.top - other.bottom, 24) / 2)

    def beside(self, other: Piece) -> bool:
        """Whether both are on one line."""
        return self.off(other) <= 0.4 * (self.top - self.bottom + min(other.top - other.bottom, 24))

    @classmethod
    def around(cls, text: str, parts: list[Piece], turned: bool = False) -> Piece:
        """A text on the place of its parts."""
        left, bottom = min(each.left for each in parts), min(each.bottom for each in parts)
        return cls(text, left, bottom, max(each.right for each in parts), max(each.top for each in parts), turned)


@dataclass(frozen=True)
class Filled:
    """What was added to a page: a value, a tick or a note, and where."""

    text: str
    name: str
    place: Piece
    is_box: bool = False
    is_empty: bool = False

    @property
    def alone(self) -> str:
        """Its text where no words are next to it."""
        return self.text if self.is_box or not self.name else f"{self.name}: {self.text}"


LIGATURES = re.compile("[\ufb00-\ufdff\ufe70-\ufefc]")
"""Forms of letters, and letters in one, that are characters of their own for the sake of old fonts."""
BROKEN = re.compile("([^\\W\\d_]+)(?:\ufffe|[-\u2010\u00ad]\n)([^\\W\\d_]+)")
"""A word with a hyphen at the end of a line, of which PDFium makes one character."""


def pdf_text(data: bytes, limits: dict[str, int], notice: Callable[[str], None]) -> str:
    """The text of a PDF with what was filled in, a blank line between pages.

    Raises:
        Refused: encrypted, broken, without text, or beyond a limit.
    """
    import pypdfium2
    from pypdfium2 import raw

    try:
        document = pypdfium2.PdfDocument(data)
        document.init_forms()
        count = len(document)
        if count > limits["pages"]:
            raise Refused(
                f"has {count:,} pages and at most {limits['pages']:,} are read: save the ones that matter as a file"
            )
        pages, scans = _pages(document, limits)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
            raise Refused("is protected by a password: save a copy without one, then try again") from None
        raise Refused("is a broken PDF: open it, save it anew or as plain text, then try again") from None
    if len(scans) == count:
        many = f"{count} pages" if count != 1 else "1 page"
        raise Refused(f"has {many} but no text, so it is probably a scan: let a text recognition run over it first")
    if scans:
        what, are, they = ("page", "is", "it matters") if len(scans) == 1 else ("pages", "are", "they matter")
        notice(
            f"has no text on {what} {_ranges(scans)} of {count}, which {are} empty or scanned and left out: if {they}, "
            "let a text recognition run over the file first"
        )
    return tidy(_whole_words("\n\n".join(page for page in pages if page)))


def _pages(document: Any, limits: dict[str, int]) -> tuple[list[str], list[int]]:
    """The text of every page, and the numbers of those without."""
    pages: list[str] = []
    scans: list[int] = []
    length = 0
    for number, page in enumerate(document, start=1):
        letters = page.get_textpage()
        if length + letters.count_chars() > limits["characters"]:
            raise too_much_text(limits)
        filled = list(_filled(document, page))
        text = letters.get_text_range().replace("\r\n", "\n")
        if filled or RIGHT_TO_LEFT.search(text):
            text = _composed(letters, filled)
        pages.append(tidy(text))
        if not text.strip() and all(each.is_empty for each in filled):
            scans.append(number)
        length += len(pages[-1])
        letters.close()
        page.close()
    return pages, scans


def _ranges(numbers: list[int]) -> str:
    """`2–4 and 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    said = [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs]
    return " and ".join(filter(None, [", ".join(said[:-1]), said[-1]]))


RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


def _composed(letters: Any, filled: list[Filled]) -> str:
    """A page's text as one reads it: lines from right to left in their order, what was filled in at its place."""
    lines = list(_lines(letters))
    turned = [_share_turned(line) for line in lines]
    usual = 0.35 if 2 * sum(share > 0.5 for share in turned) > sum(map(bool, lines)) else 0.7
    pieces: list[Piece | None] = []
    for line, share in zip(lines, turned, strict=True):
        if share and _is_level(line):
            pieces.append(Piece.around(_turned(line, base="R" if share > usual else "L"), line, turned=True))
        else:
            pieces += _words(line)
        pieces.append(None)
    added: dict[int, list[str]] = {}
    for each in sorted(filled, key=lambda each: (-each.place.top, each.place.left)):
        index, text = _spot(each, pieces)
        added.setdefault(index, []).append(text)
    written: list[str] = []
    for index, piece in enumerate(pieces):
        written += [*added.get(index, ()), piece.text if piece else "\n"]
    return re.sub(" {2,}", " ", "".join([*written, *added.get(len(pieces), ())]))


def _lines(letters: Any) -> Iterator[list[Piece]]:
    """The letters of a page as PDFium puts them into lines; one for a ligature."""
    from pypdfium2 import raw

    line: list[Piece] = []
    for index in range(letters.count_chars()):
        letter = chr(raw.FPDFText_GetUnicode(letters, index))
        if letter == "\n":
            yield line
            line = []
        elif letter not in "\r\0":
            box = raw.FS_RECTF()
            raw.FPDFText_GetLooseCharBox(letters, index, box)
            piece = Piece("\ufffe" if letter == "\x02" else letter, box.left, box.bottom, box.right, box.top)
            if line and replace(line[-1], text="") == replace(piece, text="") and piece.right > piece.left:
                line[-1] = replace(piece, text=line[-1].text + letter)
            else:
                line.append(piece)
    yield line


def _words(line: list[Piece]) -> Iterator[Piece]:
    """The words of a line, each with the space after it."""
    word: list[Piece] = []
    for letter in line:
        word.append(letter)
        if letter.text.isspace() or letter.text == "\ufffe":
            yield Piece.around("".join(each.text for each in word), word)
            word = []
    if word:
        yield Piece.around("".join(each.text for each in word), word)


def _is_level(line: list[Piece]) -> bool:
    """Whether letters are next to each other, not on a rotated page."""
    whole = Piece.around("", line)
    return whole.top - whole.bottom < 2 * max(letter.top - letter.bottom for letter in line) + 3


def _share_turned(line: list[Piece]) -> float:
    """The share of a line's letters that are Hebrew, Arabic or alike."""
    kinds = [unicodedata.bidirectional(letter) for piece in line for letter in piece.text]
    turned = sum(kind in ("R", "AL") for kind in kinds)
    return turned / max(turned + kinds.count("L"), 1)


def _turned(line: list[Piece], base: str) -> str:
    """A line with Hebrew or Arabic in the order in which it is read.

    PDF stores letters by position. From left to right they are as the rules for two directions of writing left them
    for print, and the same rules turn them back.

    Args:
        base: the direction of the paragraph, `R` or `L`.
    """
    from bidi.algorithm import get_display

    marks = [piece for piece in line if unicodedata.combining(piece.text[0])]
    seen = [piece for piece in line if piece.right > piece.left and piece not in marks]
    seen.sort(key=lambda piece: piece.left + piece.right)
    texts = [piece.text[::-1] if RIGHT_TO_LEFT.search(piece.text) else piece.text for piece in seen]
    for mark in marks if seen else ():
        far = [abs(piece.left + piece.right - mark.left - mark.right) for piece in seen]
        nearest = far.index(min(far))
        texts[nearest] = mark.text + texts[nearest]  # rotated, it follows the text it is on
    tall = max((piece.top - piece.bottom for piece in seen), default=0)
    for index, (before, after) in enumerate(pairwise(seen), start=1):
        spaced = before.text.isspace() or after.text.isspace()
        if after.left - before.right > 0.15 * tall and not spaced:
            texts[index] = " " + texts[index]
    return str(get_display(_with_brackets("".join(texts)), base_dir=base))


def _with_brackets(seen: str) -> str:
    """Brackets as they look: PDFium has mirrored some. In print, opening ones are on the left."""
    for pair in ("()", "[]", "{}", "<>", "«»"):
        places = [index for index, letter in enumerate(seen) if letter in pair]
        if len(places) % 2 == 0:
            letters = list(seen)
            for count, index in enumerate(places):
                letters[index] = pair[count % 2]
            seen = "".join(letters)
    return seen


def _spot(filled: Filled, pieces: list[Piece | None]) -> tuple[int, str]:
    """Before which piece something belongs, and how it is written there.

    Next to its label, which is to the right of a box and to the left of other fields, else under its caption,
    else on a line of its own.
    """
    place = filled.place
    words = [(index, piece) for index, piece in enumerate(pieces) if piece and piece.text.strip()]
    row = [(index, piece, piece.off(place) // 4) for index, piece in words if piece.beside(place)]
    if filled.is_box:
        after = [(o, p.left - place.right, i) for i, p, o in row if -3 <= p.left - place.right <= 20 and not p.turned]
        if after:
            return min(after)[-1], f"{filled.text} "
    before = [(o, place.left - p.right, -i) for i, p, o in row if -3 <= place.left - p.right <= 200 and not p.turned]
    before += [(o, p.left - place.right, -i) for i, p, o in row if p.turned and p.right > place.left - 200]
    if before:
        return 1 - min(before)[-1], f" {filled.text} "
    above = [(p.bottom - place.top, i) for i, p in words if p.bottom >= place.top - 4]
    if filled.name:
        over = [(g, i) for g, i in above if g <= 12 and _overlap(pieces[i], place)]
        if over:
            return max(i for g, i in over if g <= min(over)[0] + 3) + 1, f" {filled.text} "
    if not above:
        return 0, f"{filled.alone}\n"
    index = max(i for g, i in above if g <= min(above)[0] + 3)
    while index < len(pieces) and pieces[index]:
        index += 1
    return index, f"\n{filled.alone}"


def _overlap(piece: Piece | None, place: Piece) -> bool:
    return piece is not None and piece.left < place.right and piece.right > place.left


def _filled(document: Any, page: Any) -> Iterator[Filled]:
    """What was filled into the fields of a page, and the notes on it that are not hidden."""
    from pypdfium2 import raw

    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        added = raw.FPDFPage_GetAnnot(page, index)
        if not added or raw.FPDFAnnot_GetFlags(added) & (raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW):
            continue
        edges = raw.FS_RECTF()
        raw.FPDFAnnot_GetRect(added, edges)
        place = Piece("", edges.left, edges.bottom, edges.right, edges.top)
        kind = raw.FPDFAnnot_GetSubtype(added)
        if kind == raw.FPDF_ANNOT_WIDGET:
            yield from _field(document.formenv, added, place)
        elif kind not in (raw.FPDF_ANNOT_LINK, raw.FPDF_ANNOT_POPUP, raw.FPDF_ANNOT_FILEATTACHMENT):
            text = _string(raw.FPDFAnnot_GetStringValue, added, b"Contents")
            if text and kind == raw.FPDF_ANNOT_FREETEXT:
                yield Filled(text, "", place)
            elif text:
                end = Piece("", place.right, place.bottom, place.right, place.top)
                yield Filled(f"[Note: {text}]", "", place if kind == raw.FPDF_ANNOT_TEXT else end)
        raw.FPDFPage_CloseAnnot(added)


def _field(form: Any, added: Any, place: Piece) -> Iterator[Filled]:
    """A field's value: what was written or chosen, and whether a box is ticked. Buttons and passwords are left out."""
    from pypdfium2 import raw

    kind = raw.FPDFAnnot_GetFormFieldType(form, added) if form else -1
    if kind < 0:  # a field that the document's form does not list
        if text := _string(raw.FPDFAnnot_GetStringValue, added, b"V"):
            yield Filled(text, _string(raw.FPDFAnnot_GetStringValue, added, b"T"), place)
        return
    name = _string(raw.FPDFAnnot_GetFormFieldAlternateName, form, added)
    name = name or _string(raw.FPDFAnnot_GetFormFieldName, form, added).rpartition(".")[2]
    value = _string(raw.FPDFAnnot_GetFormFieldValue, form, added)
    if kind in (raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON):
        ticked = bool(raw.FPDFAnnot_IsChecked(form, added))
        if raw.FPDFAnnot_GetFormControlCount(form, added) > 1:
            name = f"{name}: {_string(raw.FPDFAnnot_GetFormFieldExportValue, form, added)}"
        yield Filled(f"[{'x' if ticked else ' '}] {name}", name, place, is_box=True, is_empty=not ticked)
    elif kind in (raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX):
        options = range(max(raw.FPDFAnnot_GetOptionCount(form, added), 0))
        chosen = [i for i in options if raw.FPDFAnnot_IsOptionSelected(form, added, i)]
        labels = [_string(raw.FPDFAnnot_GetOptionLabel, form, added, i) for i in chosen]
        if text := ", ".join(labels) or value:
            yield Filled(text, name, place)
    elif kind == raw.FPDF_FORMFIELD_TEXTFIELD and value:
        flags = raw.FPDFAnnot_GetFormFieldFlags(form, added)
        if not flags & raw.FPDF_FORMFLAG_TEXT_PASSWORD:
            yield Filled(value, name, place)


def _string(function: Any, *arguments: Any) -> str:
    """What a function of PDFium's writes into a buffer."""
    size = function(*arguments, None, 0)
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    function(*arguments, buffer, size)
    text = bytes(buffer).decode("utf-16-le", "replace").split("\0")[0]
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _whole_words(text: str) -> str:
    """Ligatures as letters, and words that were divided at the end of a line in one."""
    text = LIGATURES.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text).replace("\u017ft", "st")
    known = {word.lower() for word in re.findall("[^\\W\\d_]+(?:-[^\\W\\d_]+)*", BROKEN.sub(" ", text))}

    def joined(found: re.Match[str]) -> str:
        whole, divided = found[1] + found[2], f"{found[1]}-{found[2]}"
        around = text[max(found.start() - 1, 0)], text[found.end() : found.end() + 1]
        chained = "-" in around  # step-by-step
        if whole.lower() not in known and (chained or divided.lower() in known or not found[2][0].islower()):
            return divided
        return whole

    return BROKEN.sub(joined, text).replace("\ufffe", "-").replace("\u00ad", "")
