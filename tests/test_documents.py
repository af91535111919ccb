"""Text comes in, from text, PDF and HTML; anything else is refused with a sentence, and nothing hangs or explodes."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from judgeq import documents
from judgeq.documents import MAX_BYTES, read_and_delete, read_document, shown_name
from judgeq.errors import InputError
from tests.pdf_files import bomb, endless, in_circles, pdf

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
        ("caf\xe9".encode("latin-1"), "not a text file"),
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


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path, Path("a\0b")):
        assert "cannot be read" in refused(path)


# PDF


def test_a_pdf_gives_its_text_page_by_page_whatever_it_is_called(tmp_path: Path) -> None:
    content = pdf("The ferry leaves at noon.\nBring shoes.", "Page two.")
    for name in ("a.pdf", "a.txt", "a"):
        text = read_document(saved(tmp_path, name, content))
        assert text == "The ferry leaves at noon.\nBring shoes.\n\nPage two."


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
        (in_circles(), "is a broken PDF"),
        (bomb(1000), "unpacks to more than one file may hold"),
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


def test_a_pdf_that_keeps_the_reader_busy_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MAX_SECONDS", 1)
    said = refused(saved(tmp_path, "a.pdf", endless(1_000_000)))
    assert "longer than 1 seconds" in said or "within the limits" in said
    started = [child.cmdline() for child in psutil.Process().children()]
    assert not [words for words in started if "extract.py" in " ".join(words)], "it does not work on"


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
        (b"<p>Caf\xe9", "does not say in which encoding"),
        (b"<meta charset=nonsense><p>Caf\xe9", "does not say in which encoding"),
        (b"<script>only()</script>", "no text that a reader would see"),
        (b"", "no text that a reader would see"),
        (b"<div>" * 200_000 + b"deep", "too large or too deeply nested"),
        (b"PK\x03\x04", "is a ZIP archive"),
    ],
)
def test_html_that_cannot_be_read_says_why(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refused(saved(tmp_path, "a.html", content))


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
