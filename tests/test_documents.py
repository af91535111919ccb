"""Text comes in, from text, PDF and HTML; anything else is refused with a sentence, and nothing hangs or explodes."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import psutil
import pytest

from judgeq.errors import InputError
from judgeq.prompts import read_file as documents
from judgeq.prompts.extract_process import READERS
from judgeq.prompts.read_file import (
    MAX_BYTES,
    MAX_CHARACTERS,
    MAX_MEMORY,
    MAX_PAGES,
    MAX_SECONDS,
    read_and_delete,
    read_document,
    read_document_bytes,
    shown_name,
)
from tests.pdf_files import bomb, drawn, filled, in_circles, pdf

LIMITS = {"memory": MAX_MEMORY, "seconds": MAX_SECONDS, "pages": MAX_PAGES, "characters": MAX_CHARACTERS}
HTML = b"""<!doctype html><html><head><title>No text</title><style>p { color: red }</style></head><body>
<h1>Ferries &amp; boats</h1><p>The first   one
leaves at <b>6</b>:30.</p><p>The last<br>at nine.</p><script>document.write("never")</script>
<ul><li>bring shoes<li>and bread</ul><table><tr><td>Monday<td>closed</table>
<div hidden>nor this</div><noscript>nor that</noscript><!-- nor a comment --></body></html>"""


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_document(path)
    return str(caught.value)


def saved(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in this process, without limits: one of its own for every little page takes the time of both."""
    monkeypatch.setattr(documents, "_extracted", lambda kind, data, name, notice: READERS[kind](data, LIMITS, notice))


# Text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_with_plain_line_ends(tmp_path: Path, encoding: str) -> None:
    file = saved(tmp_path, "a.txt", "Grüße\r\naus 東京\rund …".encode(encoding))
    assert read_document(file) == "Grüße\naus 東京\nund …"


def test_marks_that_turn_the_direction_and_escape_sequences_are_kept_as_data(tmp_path: Path) -> None:
    text = "\u202egnp.exe\u202c and \x1b[31mred\x1b[0m"
    assert read_document(saved(tmp_path, "a.md", text.encode())) == text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a text file"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "is a picture (JPEG), not a text file"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "is a picture (WebP), not a text file"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "is not a text file"),
        (bytes(range(256)), "not a text file: save it as plain text in UTF-8"),
        (b"text with a \x00 in it", "not a text file"),
        (b"PK\x03\x04 and so on", "is a ZIP archive or an office document"),
        (b"\x1f\x8b\x08", "is a gzip archive"),
        (b"\xff\xfea", "not a text file"),
        (b"  \n\t", "is empty"),
        (b"", "is empty"),
        (b"x" * (MAX_BYTES + 1), "10.0 MB"),
    ],
)
def test_what_is_not_text_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refused(saved(tmp_path, "a.txt", content))


SENTENCES = {
    "windows-1252": "The café’s rent is 350 € – “fixed”.",
    "windows-1250": "Czynsz wynosi 350 euro miesięcznie, płatne w środę.",
    "windows-1251": "Арендная плата составляет 350 евро в месяц.",
    "windows-1253": "Το ενοίκιο είναι 350 ευρώ τον μήνα.",
    "windows-1255": "שכר הדירה הוא שלוש מאות אירו",
    "windows-1256": "الإيجار 350 يورو في الشهر.",
    "koi8-r": "Арендная плата составляет 350 евро в месяц.",
    "shift_jis": "家賃は月額三百五十ユーロです。",
    "euc-jp": "家賃は月額三百五十ユーロです。",
    "iso-2022-jp": "家賃は月額三百五十ユーロです。",
    "gb18030": "租金为每月三百五十欧元。",
    "big5": "租金為每月三百五十歐元。",
    "euc-kr": "월세는 삼백오십 유로입니다.",
    "utf-16-le": "Mara signs für 3 €.",
    "utf-16-be": "Арендная плата составляет 350 евро.",
    "utf-32-le": "家賃は月額三百五十ユーロです。",
    "utf-32-be": "Mara signs.",
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("encoding", SENTENCES)
def test_text_is_read_in_whatever_encoding_it_was_saved(encoding: str) -> None:
    for name in ("a.txt", "notes.md", None):
        assert read_document_bytes(SENTENCES[encoding].encode(encoding), name) == SENTENCES[encoding]


def test_a_byte_that_is_no_utf8_costs_one_character() -> None:
    whole = "Grüße aus Köln, größtenteils für Mara. "
    damaged = whole.encode() + b"\xff" + whole.encode()
    assert read_document_bytes(damaged, "a.txt") == f"{whole}\ufffd{whole}"
    page = b"<meta charset=utf-8><p>Mara signs \xff on 4 May."
    assert read_document_bytes(page, "a.html") == "Mara signs \ufffd on 4 May."


@pytest.mark.parametrize(
    "text",
    [
        "A PDF begins with %PDF-1.7 in its first line.",
        "%PDF-1.7 is how a PDF begins.",
        "A café’s menu; %PDF-1.4 stands in its first line.",
        "# Minimal PDF\n\n```\n%PDF-1.4\n1 0 obj\n<< >>\nendobj\ntrailer\n%%EOF\n```",
        "GIF89a and GIF87a are what pictures begin with, Rar! archives.",
        "# A page\n\nbegins with `<!doctype html><html>` and ends with </html>",
        "<p align=center>\n\n# Readme\n\n- one\n\n</p>",
        'print("<html></html>")',
    ],
)
def test_a_text_about_a_format_is_a_text(text: str) -> None:
    for encoding in ("utf-8", "cp1252"):
        for name in ("notes.md", None):
            assert read_document_bytes(text.encode(encoding), name) == text


def test_a_pdf_behind_other_bytes_is_a_pdf() -> None:
    for before in (b"\r\n \0", b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n"):
        assert read_document_bytes(before + pdf("Mara signs."), "a.pdf") == "Mara signs."
    assert read_document_bytes(b"\n" + pdf("Mara signs.")) == "Mara signs."


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<title>t</title><p>Mara <b>signs</b>.",
        b"<!-- saved from url -->\n<html><body><p>Mara signs.",
        '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>Mara signs.</p>'.encode("utf-8-sig"),
        "<html><body><p>Mara signs.".encode("utf-16"),
        b"<div><p>Mara signs.</p></div>\n",
    ],
)
def test_html_without_a_name_is_known_by_its_content(tmp_path: Path, content: bytes) -> None:
    assert read_document_bytes(content) == "Mara signs."
    for name in ("download", "really-a-page.pdf"):
        assert read_document(saved(tmp_path, name, content)) == "Mara signs."


def test_a_file_without_a_name_is_called_the_document() -> None:
    with pytest.raises(InputError, match=r"^The document is empty"):
        read_document_bytes(b"")
    with pytest.raises(InputError, match=r"^The document has 10\.0 MB"):
        read_document_bytes(b"x" * (MAX_BYTES + 1))


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path, Path("a\0b")):
        assert "cannot be read" in refused(path)


# PDF


def test_a_pdf_gives_its_text_page_by_page_whatever_it_is_called(tmp_path: Path) -> None:
    content = pdf("The ferry leaves at noon.\nBring shoes.", "Page two.")
    for name in ("a.pdf", "a.txt", "a"):
        text = read_document(saved(tmp_path, name, content))
        assert text == "The ferry leaves at noon.\nBring shoes.\n\nPage two."


def field(kind: str, name: str, left: int, bottom: int, **entries: object) -> dict[str, object]:
    place = [left, bottom, left + 100, bottom + 14]
    return {"Subtype": "/Widget", "FT": kind, "T": name, "Rect": place, **entries}


def box(name: str, left: int, bottom: int, state: str, flags: int = 0) -> dict[str, object]:
    looks = {"N": {"Yes": {}, "Off": {}}}
    entries = field("/Btn", name, left, bottom, V=state, AS=state, AP=looks, Ff=flags)
    return {**entries, "Rect": [left, bottom, left + 12, bottom + 12]}


def test_what_was_filled_into_a_pdf_stands_behind_its_labels() -> None:
    page = pdf("Tenant:\nCity:\nPets\nEnd.")
    form = filled(
        page,
        field("/Tx", "tenant", 110, 778, V="Mara Voss"),
        field("/Ch", "city", 110, 764, V="b", Opt=[["b", "Berlin"], ["p", "Paris"]], Ff=1 << 17),
        box("pets", 110, 750, "/Yes"),
        field("/Tx", "pin", 110, 736, V="secret", Ff=1 << 13),
        field("/Tx", "empty", 110, 736),
    )
    assert read_document_bytes(form) == "Tenant: Mara Voss\nCity: Berlin\nPets [x] pets\nEnd."
    unlisted = filled(page, field("/Tx", "tenant", 110, 778, V="Mara Voss"), form=False)
    assert read_document_bytes(unlisted).startswith("Tenant: Mara Voss\n")


def test_a_field_without_a_label_is_named_and_a_box_says_what_it_is() -> None:
    form = filled(
        pdf("Lease"),
        field("/Tx", "rent", 300, 600, V="350"),
        field("/Tx", "x1", 300, 580, V="May", TU="Month"),
        box("pets", 300, 560, "/Off"),
    )
    assert read_document_bytes(form) == "Lease\nrent: 350\nMonth: May\n[ ] pets"
    assert read_document_bytes(filled(pdf(""), field("/Tx", "rent", 300, 600, V="350"))) == "rent: 350"


def test_notes_on_a_pdf_are_read_and_hidden_ones_are_not() -> None:
    def note(kind: str, text: str, bottom: int, **more: object) -> dict[str, object]:
        return {"Subtype": kind, "Contents": text, "Rect": [50, bottom, 200, bottom + 14], **more}

    page = filled(
        pdf("Lease"),
        note("/FreeText", "The rent is 350 euros.", 700, DA="/F 12 Tf"),
        note("/Text", "Ask Mara.", 650),
        note("/Highlight", "Important", 600, QuadPoints=[50, 614, 200, 614, 50, 600, 200, 600]),
        note("/FreeText", "never", 550, F=2),
        note("/Popup", "nor this", 500),
        form=False,
    )
    assert read_document_bytes(page) == "Lease\nThe rent is 350 euros.\n[Note: Ask Mara.]\n[Note: Important]"


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        (["text", ""], "a.pdf has no text on page 2 of 2, which is empty or scanned and left out"),
        (
            ["", "text", "", "", "", "text", ""],
            "has no text on pages 1, 3–5 and 7 of 7, which are empty or scanned",
        ),
    ],
)
def test_pages_without_text_between_others_are_named(tmp_path: Path, pages: list[str], said: str) -> None:
    notices: list[str] = []
    file = saved(tmp_path, "a.pdf", pdf(*pages))
    assert read_document(file, notices.append).split() == ["text"] * pages.count("text")
    assert len(notices) == 1
    assert said in notices[0]
    with pytest.warns(UserWarning, match="let a text recognition run over the file"):
        read_document(file)


def test_a_pdf_whose_pages_go_in_circles_ends() -> None:
    assert read_document_bytes(in_circles()) == "a"


def test_letters_drawn_one_by_one_make_words() -> None:
    line = "Mara signs on 4 May."
    one = " ".join(
        f"BT /F 12 Tf {50 + 7.2 * i} 700 Td ({letter}) Tj ET" for i, letter in enumerate(line) if letter != " "
    )
    assert read_document_bytes(drawn(one)) == line
    kerned = "BT /F 12 Tf 50 700 Td [(M) 20 (ara) -300 (s) 10 (igns)] TJ ET"
    assert read_document_bytes(drawn(kerned)) == "Mara signs"


def test_hebrew_and_arabic_are_read_in_their_order() -> None:
    hebrew = drawn("BT /F 12 Tf 200 700 Td (350 DCBA) Tj ET", "שלוםX")  # as it stands on the page
    assert read_document_bytes(hebrew) == "שלום 350"
    arabic = drawn("BT /F 12 Tf 200 700 Td (DCBA) Tj ET BT /F 12 Tf 250 700 Td (HGFE) Tj ET", "عقدةبيعة")
    assert read_document_bytes(arabic) == "بيعة عقدة"
    mixed = drawn("BT /F 12 Tf 50 700 Td (xyz CBA xyz xyz) Tj ET", "גבא")
    assert read_document_bytes(mixed) == "xyz גבא xyz xyz"


def test_ligatures_become_letters_and_divided_words_one() -> None:
    lines = [
        "Anal oBce",
        "is bind-",
        "ing, rentC",
        "al, 2020-",
        "2024, step-",
        "by-step, a well-known",
        "and well-",
        "known case",
    ]
    content = f"BT /F 12 Tf 14 TL 50 700 Td {' '.join(f'({line}) Tj T*' for line in lines)} ET"
    text = " ".join(read_document_bytes(drawn(content, "\ufb01\ufb03\u00ad")).split())
    assert text == "final office is binding, rental, 2020- 2024, step-by-step, a well-known and well-known case"


@pytest.mark.parametrize("cipher", ["RC4-128", "AES-256"])
def test_a_pdf_that_is_only_protected_against_changes_is_read(tmp_path: Path, cipher: str) -> None:
    locked = pdf("Open to all", user="", owner="secret", cipher=cipher)
    assert read_document(saved(tmp_path, "a.pdf", locked)) == "Open to all"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pdf("closed", user="secret"), "is protected by a password"),
        (pdf("", ""), "has 2 pages but no text, so it is probably a scan"),
        (pdf("whole")[:300], "is a broken PDF"),
        (b"%PDF-1.7\n" + b"\x00junk" * 100, "is a broken PDF"),
        (bomb(1000), "cannot be read within the limits of one file"),
        (pdf(*["a"] * 3), "has 3 pages and at most 2 are read"),
    ],
)
def test_a_pdf_that_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str
) -> None:
    monkeypatch.setattr(documents, "MAX_PAGES", 2)
    assert said in refused(saved(tmp_path, "a.pdf", content))


def test_a_pdf_with_more_text_than_is_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_CHARACTERS", 10)
    assert "more than 10 characters" in refused(saved(tmp_path, "a.pdf", pdf("eleven letters")))


def test_a_pdf_that_keeps_the_reader_busy_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forever = "while True: pass"  # as long as it takes on any machine
    monkeypatch.setattr(documents, "_CHILD", forever)
    monkeypatch.setattr(documents, "MAX_SECONDS", 1)
    assert "longer than 1 seconds" in refused(saved(tmp_path, "a.pdf", pdf("text")))
    started = [child.cmdline() for child in psutil.Process().children()]
    assert not [words for words in started if forever in words], "it does not work on"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_memory_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(tmp_path, "a.pdf", bomb(60))
    assert "no text" in refused(file)
    monkeypatch.setattr(documents, "MAX_MEMORY", 120_000_000)
    said = refused(file)
    assert "too large" in said or "within the limits" in said


# HTML


def test_html_gives_what_a_reader_sees_in_paragraphs(tmp_path: Path) -> None:
    text = read_document(saved(tmp_path, "a.html", HTML))
    assert text.split("\n\n")[:3] == [
        "Ferries & boats",
        "The first one leaves at 6:30.",
        "The last\nat nine.",
    ]
    assert "* bring shoes\n" in text
    assert "Monday  closed" in text
    for unseen in ("never", "nor", "color", "No text", "<"):
        assert unseen not in text


@pytest.mark.parametrize(
    "content",
    [
        "<p>Café".encode(),
        "<p>Café".encode("utf-16"),
        '<meta charset="iso-8859-1"><p>Café'.encode("latin-1"),
        b'<meta http-equiv="Content-Type" content="text/html; charset=windows-1252"><p>Caf\xe9',
        "<div>" * 600 + "Café",
    ],
)
def test_html_is_read_in_the_encoding_it_names_and_however_deep(tmp_path: Path, content: bytes | str) -> None:
    data = content.encode() if isinstance(content, str) else content
    assert read_document(saved(tmp_path, "a.HTM", data)) == "Café"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<script>only()</script>", "no text that a reader would see"),
        (b"", "no text that a reader would see"),
        (b"<div>" * 2_500 + b"deep", "too large or too deeply nested"),
        (b"<div>" * 200_000 + b"deep", "too large or too deeply nested"),
        (b"PK\x03\x04", "is a ZIP archive"),
    ],
)
def test_html_that_cannot_be_read_says_why(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refused(saved(tmp_path, "a.html", content))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("label", "encoding", "text"),
    [
        ("iso-8859-1", "cp1252", "350 € – “fixed”"),
        ("ascii", "cp1252", "350 € – “fixed”"),
        ("shift_jis", "cp932", "株式会社①㈱ 髙橋"),
        ("x-sjis", "shift_jis", "東京都"),
        ("gb2312", "gbk", "朱镕基 租金"),
        ("euc-kr", "cp949", "똠방각하 월세"),
        ("ks_c_5601-1987", "cp949", "똠방각하"),
        ("big5", "big5hkscs", "租金 嘅"),
        ("iso-2022-jp", "iso-2022-jp", "東京都の家賃"),
        ("euc-jp", "euc-jis-2004", "①東京都の家賃"),
        ("iso-8859-8-i", "iso-8859-8", "שכירות"),
        ("iso-8859-9", "cp1254", "“İşık” – 350"),
        ("windows-874", "cp874", "ค่าเช่า"),
        ("utf-8", "utf-16", "Mara für 3 €"),
        ("utf-8", "utf-32", "Mara für 3 €"),
        ("utf-16", "utf-8", "Mara für 3 €"),
        ("iso-8859-1", "utf-8", "Mara für 3 €"),
    ],
)
def test_names_of_encodings_mean_what_they_mean_to_browsers(label: str, encoding: str, text: str) -> None:
    for head in (
        f'<meta charset="{label}">',
        f"<meta http-equiv=content-type content='text/html; charset={label}'>",
        f"<!--{'x' * 5000} <meta charset=koi8-r>--><script>charset='koi8-r'</script><meta charset={label}>",
    ):
        assert read_document_bytes(f"<html><head>{head}</head><p>{text}".encode(encoding), "a.html") == text
    declared = f"<?xml version='1.0' encoding='{label}'?><html><script src='a.js'/><body><p>{text}</p></body></html>"
    assert read_document_bytes(declared.encode(encoding), "a.xhtml") == text


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("encoding", ["windows-1252", "shift_jis", "gb18030", "utf-16-le", "utf-32-be"])
def test_html_that_names_no_encoding_is_read_by_its_bytes(encoding: str) -> None:
    for head in ("", "<meta charset=nonsense>"):
        assert read_document_bytes(f"{head}<p>{SENTENCES[encoding]}".encode(encoding), "a.html") == SENTENCES[encoding]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "hidden",
    [
        "style='display: none !important'",
        "style='color: red;DISPLAY :NONE'",
        "style='display/**/:none; display: none'",
        "style='visibility:hidden'",
        "style='visibility: collapse !IMPORTANT'",
        "style='content-visibility: hidden'",
        "style='display:none !important; display:block'",
        "hidden",
        "hidden=hidden",
        "popover",
    ],
)
def test_what_a_browser_does_not_show_is_not_read(hidden: str) -> None:
    page = f"<p>Mara</p><div {hidden}><p>never <b>nor</b> this</p></div><p>signs.</p>"
    assert read_document_bytes(page.encode(), "a.html").split() == ["Mara", "signs."]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "page",
    [
        "<div style='display:block; display:none; display:flex'>Mara signs.</div>",
        "<div hidden style='display:block'>Mara signs.</div>",
        "<div hidden=until-found>Mara signs.</div>",
        "<div style='visibility:hidden'>never<p style='visibility:inherit'>nor"
        "<p style='visibility:visible'>Mara signs.</p>nor this</div>",
        "<html hidden style='display:none'><body style='visibility:hidden;display:none!important'>Mara signs.",
        "<dialog>never</dialog><dialog open>Mara signs.</dialog>",
        "<details><summary>Mara</summary>signs.</details><template>never</template><noscript>never</noscript>",
        "<math><mi>Mara</mi></math> <progress>never</progress>signs.<datalist><option>never</datalist>",
        "<iframe srcdoc='<p>Mara signs.</p>'>never</iframe>",
    ],
)
def test_what_a_browser_shows_is_read(page: str) -> None:
    assert read_document_bytes(page.encode(), "a.html").split() == ["Mara", "signs."]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "page",
    [
        "<body aria-hidden=true><p>Mara signs.</p></body>",
        "<html aria-hidden='TRUE'><body><p>Mara signs.</p></body></html>",
        "<div id=root aria-hidden=true><p>Mara signs.</p></div><p>Accept?</p>",
        "<header aria-hidden=true><p>Mara</p></header><main aria-hidden=true><p>signs.</p></main>"
        "<div role=dialog aria-modal=true><p>We value your privacy and what you think of this long sentence.</p></div>",
        "<span aria-hidden=true>Mara signs.</span>",
    ],
)
def test_a_page_behind_a_dialog_is_read(page: str) -> None:
    assert read_document_bytes(page.encode(), "a.html").split()[:2] == ["Mara", "signs."]


def test_icons_doubles_and_closed_menus_are_not_read() -> None:
    page = """<div class=menu aria-hidden=true><p>never</p></div><p><i aria-hidden=true>menu</i> Mara <span
    aria-hidden=true>nor this</span> signs the lease on 4 May.</p>"""
    assert read_document_bytes(page.encode(), "a.html") == "Mara signs the lease on 4 May."


def test_what_was_filled_into_html_is_read() -> None:
    page = """<form>Name: <input value="Mara Voss">. Mail: <input type=EMAIL value=m@v.de>. Rent: <textarea>350
a month</textarea>. <select><option>April<option selected>May</select> <select><option>one<option>two</select>
<select multiple><option selected>red<option>blue<option selected>green</select>
<input type=checkbox checked>Pets <input type=radio>Cats
<input type=hidden value=never><input type=password value=never><input type=submit value=never>
<input value=never hidden><input value=never style="display:none"><input placeholder=never></form>"""
    text = " ".join(read_document_bytes(page.encode(), "a.html").split())
    assert text == "Name: Mara Voss . Mail: m@v.de . Rent: 350 a month . May one red, green [x] Pets Cats"


def test_soft_hyphens_are_no_letters() -> None:
    assert read_document_bytes("<p>inter&shy;nation\u00adal".encode(), "a.html") == "international"


# Pages in one file

SAVED = """From: <Saved by Blink>\r
Subject: =?utf-8?Q?Lease?=\r
MIME-Version: 1.0\r
Content-Type: multipart/related;\r
\ttype="text/html";\r
\tboundary="----MultipartBoundary--x----"\r
\r
------MultipartBoundary--x----\r
Content-Type: text/html\r
Content-ID: <frame-1@mhtml.blink>\r
Content-Transfer-Encoding: quoted-printable\r
Content-Location: https://example.org/\r
\r
<html><head><meta http-equiv=3D"Content-Type" content=3D"text/html; charset=3DUTF-8"></head><body><p>M=C3=BCller si=\r
gns.</p><iframe src=3D"cid:frame-2@mhtml.blink"></iframe></body></html>\r
------MultipartBoundary--x----\r
Content-Type: text/css\r
Content-Location: https://example.org/a.css\r
\r
p { color: red }\r
------MultipartBoundary--x----\r
Content-Type: text/html; charset=windows-1252\r
Content-ID: <frame-2@mhtml.blink>\r
Content-Transfer-Encoding: base64\r
\r
PHA+Q2Fm6Twvc+\r
------MultipartBoundary--x------\r
"""


def test_a_page_saved_in_one_file_is_read_with_its_frames() -> None:
    inner = "<p>Café</p>".encode("cp1252")
    page = SAVED.replace("PHA+Q2Fm6Twvc+", base64.b64encode(inner).decode()).encode()
    for name in ("a.mhtml", "a.MHT", None):
        assert read_document_bytes(page, name) == "Müller signs.\n\nCafé"


def test_a_saved_page_without_a_page_says_so() -> None:
    with pytest.raises(InputError, match=r"a\.mht holds no web page: save"):
        read_document_bytes(
            b"Content-Type: multipart/related; boundary=x\n\n--x\nContent-Type: image/png\n\nx\n--x--",
            "a.mht",
        )


def test_html_in_a_text_file_stays_as_it_is(tmp_path: Path) -> None:
    assert read_document(saved(tmp_path, "a.txt", b"<b>as it is</b>")) == "<b>as it is</b>"


# Names and copies


def test_a_name_is_shown_on_one_short_printable_line() -> None:
    assert shown_name(Path("/tmp/report.pdf")) == "report.pdf"
    assert shown_name(Path("a\n\u202eb\x1b.txt")) == "a\ufffd\ufffdb\ufffd.txt"
    assert len(shown_name(Path("x" * 200 + ".txt"))) == 60


def test_a_copy_is_gone_after_reading_however_it_ends(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    for content in (b"text", b"\0"):
        (copies / "hash").mkdir(parents=True)
        copy = saved(copies / "hash", "a.txt", content)
        if content == b"text":
            assert read_and_delete(copy, copies) == "text"
        else:
            with pytest.raises(InputError):
                read_and_delete(copy, copies)
        assert not list(copies.iterdir())
    with pytest.raises(InputError, match="upload it again"):
        read_and_delete(copies / "gone.txt", copies)
    own = saved(tmp_path, "own.txt", b"mine")
    (copies / "link.txt").symlink_to(own)
    for elsewhere in (own, copies / "link.txt", copies / ".." / "own.txt"):
        assert read_and_delete(elsewhere, copies) == "mine"
    assert own.exists()
