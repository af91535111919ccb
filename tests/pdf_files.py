"""PDF files for tests, made with pypdf: pages of text, locks, scans, and bombs."""

from __future__ import annotations

import io
import zlib

from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    EncodedStreamObject,
    FloatObject,
    NameObject,
    NumberObject,
    TextStringObject,
)

FONT = DictionaryObject(
    {
        NameObject("/Type"): NameObject("/Font"),
        NameObject("/Subtype"): NameObject("/Type1"),
        NameObject("/BaseFont"): NameObject("/Helvetica"),
    }
)


def pdf(
    *pages: str,
    owner: str = "",
    user: str | None = None,
    cipher: str = "AES-256",
    content: bytes | None = None,
) -> bytes:
    """A PDF with one page for each text, its lines below each other.

    Args:
        user: password to open it; `""` opens for everybody and `owner` protects it against changes.
        content: compressed page content to use as it is, on each page.
    """
    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(595, 842)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F"): FONT})}
        )
        lines = " T* ".join(f"({line}) Tj" for line in text.split("\n")) if text else ""
        stream: DecodedStreamObject | EncodedStreamObject = DecodedStreamObject()
        stream.set_data(f"BT /F 12 Tf 14 TL 50 780 Td {lines} ET".encode("latin-1"))
        if content is not None:
            stream = EncodedStreamObject()
            stream._data = content
            stream[NameObject("/Filter")] = NameObject("/FlateDecode")
            stream[NameObject("/Length")] = NumberObject(len(content))
        page[NameObject("/Contents")] = writer._add_object(stream)
    if user is not None:
        writer.encrypt(user, owner or None, algorithm=cipher)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def drawn(content: str, letters: str = "") -> bytes:
    """A PDF of one page in letters of one width.

    Args:
        content: its operators.
        letters: what the characters `A`, `B` and so on in them stand for.
    """
    writer = PdfWriter()
    page = writer.add_blank_page(595, 842)
    font = DictionaryObject({**FONT, NameObject("/BaseFont"): NameObject("/Courier")})
    if letters:
        codes = "\n".join(f"<{65 + i:02x}> <{ord(letter):04x}>" for i, letter in enumerate(letters))
        table = DecodedStreamObject()
        table.set_data(
            "/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <ff> endcodespacerange\n"
            f"{len(letters)} beginbfchar\n{codes}\nendbfchar endcmap end".encode()
        )
        font[NameObject("/ToUnicode")] = writer._add_object(table)
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): DictionaryObject({NameObject("/F"): font})})
    stream = DecodedStreamObject()
    stream.set_data(content.encode("latin-1"))
    page[NameObject("/Contents")] = writer._add_object(stream)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def filled(page: bytes, *added: dict[str, object], form: bool = True) -> bytes:
    """A PDF with fields and notes on its first page, given by their entries; without pictures of how they look.

    Args:
        form: the document lists its fields.
    """
    writer = PdfWriter(PdfReader(io.BytesIO(page)))
    first = writer.pages[0]
    annotations = ArrayObject()
    for entries in added:
        made = DictionaryObject({NameObject("/Type"): NameObject("/Annot"), NameObject("/P"): first.indirect_reference})
        for key, value in entries.items():
            made[NameObject(f"/{key}")] = _object(value)
        annotations.append(writer._add_object(made))
    first[NameObject("/Annots")] = annotations
    if form:
        writer._root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/Fields"): annotations})
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def _object(value: object) -> object:
    if isinstance(value, dict):
        return DictionaryObject({NameObject(f"/{key}"): _object(each) for key, each in value.items()})
    if isinstance(value, list):
        return ArrayObject([_object(each) for each in value])
    if isinstance(value, str):
        return NameObject(value) if value.startswith("/") else TextStringObject(value)
    return NumberObject(value) if isinstance(value, int) else FloatObject(value)


def bomb(megabytes: int) -> bytes:
    """A small PDF whose page unpacks to so many megabytes; packed once, since every collection of tests makes some."""
    packer, megabyte, check = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS), b" " * 1_000_000, 1
    packed = packer.compress(megabyte) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(megabytes):
        check = zlib.adler32(megabyte, check)
    return pdf("", content=b"\x78\xda" + packed * megabytes + packer.flush() + check.to_bytes(4, "big"))


def in_circles() -> bytes:
    """A PDF whose tree of pages contains itself."""
    writer = PdfWriter(PdfReader(io.BytesIO(pdf("a"))))
    tree = writer._root_object["/Pages"]
    tree[NameObject("/Kids")].append(writer._root_object.raw_get("/Pages"))
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()
