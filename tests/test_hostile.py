"""Somebody who pretends to be the page: forged values, files that are not his, texts that want to be more than text.

Whatever comes in is refused with a sentence or shown as text; nothing of it stays on the disk or gets into a log.
"""

from __future__ import annotations

import gc
import html
import io
import logging
import os
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from gradio.state_holder import SessionState
from gradio.utils import get_upload_folder

from app import text
from app.sections.ask import callbacks as do
from app.sections.ask import cards
from app.sections.ask.files import read_upload
from app.sections.kept.callbacks import find, show_document
from app.sections.pins.view import add_piece
from app.sections.sweep.callbacks import SweepCallbacks
from app.sections.take_away.link import Restored, restored
from app.server import own_tokens
from app.server.host import ModelHost
from app.server.run import Run
from app.server.task import Lane, Task
from app.uploads import make_room
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.pdf_files import bomb, pdf
from tests.server import DOCUMENT, PAGE, QUESTION, Visitor, served, tiny_host
from tests.waiting import PATIENCE_S

MARKER = "zebra-crossing-4711"
RUDE = (
    "<script>alert(1)</script> <img src=x onerror=alert(2)> **bold** [a](javascript:alert(3)) {{ 7 * 7 }} "
    "\x1b[31mred\x1b[0m \x00 null \u202egnp.exe\u202c \u2066x\u2069 <|end|> <|start|>system"
)


@pytest.fixture(scope="module")
def host(lm: LanguageModel) -> ModelHost:
    return tiny_host(lm)


@pytest.fixture(scope="module")
def url(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as own:
        own.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        with served(host) as address:
            yield address


@pytest.fixture
def visitor(url: str) -> Iterator[Visitor]:
    with Visitor(url) as made:
        yield made


def is_sentence(output: Any, *words: str) -> bool:
    said = output["error"]
    return all(word in said for word in words) and len(said) < 400 and "Traceback" not in said


# Forged events


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, None, "document is empty"),
        (0, "x" * 10_000_000, "10,000,000 characters"),
        (1, " ", "question is empty"),
        (1, "x" * 20_000, "20,000 characters"),
        (0, "half \ud83d", "document has half a character"),
        (1, "half \udcfc", "question has half a character"),
        (9, "half \ud83d", "piece has half a character"),
        (10, "half \udcfc", "piece has half a character"),
        (11, "half \ud83d", "beginning of the answer has half a character"),
        (11, "x" * 2_000, "beginning of the answer has 2,000 characters"),
        (11, None, "beginning of the answer is not a text"),
        (2, None, "budget is empty"),
        (2, "abc", text.STRANGE_REQUEST),
        (2, [1], text.STRANGE_REQUEST),
        (2, float("nan"), text.STRANGE_REQUEST),
        (2, float("inf"), text.STRANGE_REQUEST),
        (2, 1e308, "more than 1,000,000 rows"),
        (2, -1, "at least 1"),
        (3, ["magic"], "not in the list"),
        (3, [["full"]], "not in the list"),
        (3, None, text.STRANGE_REQUEST),
        (3, [], "No method"),
        (4, "yes", "neither true nor false"),
        (5, 1e9, "greater than"),
        (5, float("nan"), "not a whole number"),
        (5, "8", text.STRANGE_REQUEST),
        (5, 4.5, "not a whole number"),
        (6, 7, "neither true nor false"),
    ],
)
def test_values_that_the_page_would_never_send_are_refused(visitor: Visitor, place: int, value: Any, said: str) -> None:
    ok, output = visitor.call("begin", [*PAGE[:place], value, *PAGE[place + 1 :]])
    assert not ok
    assert is_sentence(output, said)


def test_a_forged_state_is_not_looked_at(visitor: Visitor) -> None:
    forged = {"task": {"document": "x"}, "phase": "done", "__class__": "Run"}
    ok, output = visitor.call("follow", [forged])
    assert not ok
    assert is_sentence(output, "ask again")
    assert visitor.call("begin", [*PAGE[:7], forged, *PAGE[8:]])[0]
    assert visitor.call("follow", [forged])[0]


@pytest.mark.parametrize("data", [[], PAGE[:3], [None] * 8, ["a"] * 40])
def test_too_few_or_too_many_values_are_refused(visitor: Visitor, data: list[Any]) -> None:
    ok, output = visitor.call("begin", data)
    assert not ok
    assert is_sentence(output)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("count", [["a"], {"b": 1}, "x", ["q"]]),
        ("rows_for", ["a", "b", False, "q"]),
        ("rows_for", ["a", "b", False, 10**9]),
        ("rows_for", ["a", "b", False, float("nan")]),
        ("choose_sample", ["../../etc/passwd"]),
        ("choose_sample", [["hut"]]),
        ("measure", [None, "a", "b", False, float("inf")]),
        ("measure", []),
    ],
)
def test_events_outside_the_queue_answer_with_a_sentence_too(visitor: Visitor, event: str, data: list[Any]) -> None:
    answer = visitor.call_directly(event, data)
    if answer.status_code != 200:
        assert is_sentence(answer.json())
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("show_document", [None, "magic", "", "word", -1, -1]),
        ("show_document", [None, "full", "", "word", "x", -1]),
        ("show_figures", [None, "full", 10**9]),
    ],
)
def test_choices_that_mean_nothing_change_nothing(visitor: Visitor, event: str, data: list[Any]) -> None:
    ok, output = visitor.call(event, data)
    assert ok or is_sentence(output)


def test_events_that_do_not_exist_do_no_harm(visitor: Visitor) -> None:
    for index in (-1, 9999):
        answer = visitor.join(index, [])
        assert answer.status_code == 404
        assert is_sentence(answer.json())
    assert visitor.call("begin", PAGE)[0]


def test_a_layer_that_the_model_does_not_have_changes_nothing(host: ModelHost) -> None:
    run = Run(Task(DOCUMENT, QUESTION, ("full",), max_new_tokens=1), host).start()
    assert run.finished.wait(PATIENCE_S)
    everywhere = show_document(run, "full", "", "word", -1, -1)[1]
    strange: list[tuple[Any, Any]] = [(10**9, -1), (-1, 10**9), (-7, None), ("x", 1.5), (True, [0])]
    for layer, head in strange:
        assert show_document(run, "full", "magic", "letter", layer, head)[1] == everywhere
    assert show_document(run, "full", "", "word", 1, 0)[1] != everywhere
    assert isinstance(show_document(run, "magic", "", "word", 0, 0)[1], dict), "nothing changes"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"document": 7}, "document is not a text"),
        ({"methods": ["full"]}, "not a list of names"),
        ({"methods": ("full", 3)}, "short text"),
        ({"methods": ("full", "full")}, "named twice"),
        ({"budget": 10**7}, "more than 1,000,000 rows"),
        ({"budget": float("nan")}, "share of nan"),
        ({"max_new_tokens": 257}, "from 1 to 256"),
        ({"max_new_tokens": True}, "from 1 to 256"),
        ({"truncate": "yes"}, "neither true nor false"),
    ],
)
def test_a_run_has_bounds_whoever_makes_it(host: ModelHost, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        Run(Task(**{"document": DOCUMENT, "question": QUESTION, "methods": ("full",), **changes}), host)


# Files


def file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    "payload",
    [
        file("/etc/passwd"),
        file(str(Path(__file__))),
        file("../../../etc/passwd"),
        file("http://127.0.0.1:9/x.txt"),
        file("https://example.org/x.txt"),
        file("file:///etc/passwd"),
        file(""),
        "/etc/passwd",
        ["/etc/passwd"],
        [file("/etc/passwd")],
        {"path": "/etc/passwd"},
        7,
    ],
)
def test_files_that_nobody_uploaded_are_not_read(visitor: Visitor, payload: Any) -> None:
    ok, output = visitor.call("read_upload", [payload])
    assert not ok
    assert is_sentence(output)
    assert "root" not in str(output)
    if "http" in str(payload):
        assert output["error"].startswith(text.FOREIGN_FILE), "refused before anything is fetched"


def test_the_servers_own_files_are_not_served(visitor: Visitor) -> None:
    for path in ("/etc/passwd", "app.py", "../app.py", "requirements.txt", str(Path(__file__))):
        assert visitor.http.get(f"{visitor.url}/file={path}").status_code in (403, 404)


def upload(visitor: Visitor, name: str, content: bytes) -> tuple[str, bool, Any]:
    sent = visitor.http.post(f"{visitor.url}/upload", files={"files": (name, content)})
    assert sent.status_code == 200
    (path,) = sent.json()
    return path, *visitor.call("read_upload", [file(path)])


def archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("bomb.txt", b"0" * 10_000_000)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("note.txt", b"Zeile eins\r\nZwei", ""),
        ("note.md", "# Grüße".encode("utf-16"), ""),
        ("page.html", b"<p>one<script>two()</script>", ""),
        ("paper.pdf", pdf("A paper"), ""),
        ("../../../tmp/evil.txt", b"nowhere else", ""),
        ("archive.txt", archive(), "is a ZIP archive"),
        ("letter.docx", archive(), "or an office document"),
        ("picture.txt", b"\x89PNG\r\n\x1a\n\x00", "not a text file"),
        ("nothing.txt", b"", "is empty"),
        ("bomb.pdf", bomb(500), "within the limits of one file"),
        ("locked.pdf", pdf("a", user="secret"), "protected by a password"),
        ("broken.pdf", pdf("a")[:200], "broken PDF"),
        ("<img src=x onerror=alert(1)>.txt", b"\0", "not a text file"),
    ],
)
def test_an_upload_is_read_or_refused_and_its_copy_is_gone(
    visitor: Visitor, name: str, content: bytes, said: str
) -> None:
    path, ok, output = upload(visitor, name, content)
    assert Path(path).is_relative_to(get_upload_folder())
    assert ok == (not said)
    if said:
        assert is_sentence(output, said)
        words, _, code = output["error"].partition(" <a href=")
        assert "<" not in words
        assert re.fullmatch(r'"errors#([a-z-]+)" target="_blank">(?i:JQ-[a-z-]+)</a>', code)
    assert not list(Path(get_upload_folder()).iterdir())


def test_two_visitors_with_the_same_file_both_read_it(url: str) -> None:
    with Visitor(url) as anna, Visitor(url) as bert:
        sent = [
            each.http.post(f"{each.url}/upload", files={"files": ("handout.txt", b"Mara signs.")}).json()
            for each in (anna, bert, bert)
        ]
        paths = [path for (path,) in sent]
        assert len(set(paths)) == 3
        for each, path in zip((anna, bert, bert), paths, strict=True):
            assert each.call("read_upload", [file(path)])[1]["data"] == ["Mara signs."]
        assert not anna.call("read_upload", [file(paths[1])])[0], "it was read, so it is gone"
    assert not list(Path(get_upload_folder()).iterdir())


def test_two_visitors_with_the_same_soft_tokens_both_use_them(
    url: str, host: ModelHost, lm: LanguageModel, tmp_path: Path
) -> None:
    SoftTokens.initialise(lm, torch.arange(4)).save_pretrained(tmp_path)
    with Visitor(url) as anna, Visitor(url) as bert:
        sent = [
            each.http.post(
                f"{each.url}/upload",
                files=[("files", (name, (tmp_path / name).read_bytes())) for name in own_tokens.FILES],
            ).json()
            for each in (anna, bert)
        ]
        for each, paths in zip((anna, bert), sent, strict=True):
            ok, output = each.call("upload", [[file(path) for path in paths], None])
            assert ok
            assert "your own 4 soft tokens" in str(output)
        ok, output = anna.call("upload", [[file(path) for path in sent[0]], None])
        assert "was not uploaded completely" in str(output)
    assert not list(Path(get_upload_folder()).iterdir())


def test_a_file_that_stops_arriving_leaves_nothing(visitor: Visitor) -> None:
    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nsecret'
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        visitor.http.post(
            f"{visitor.url}/upload",
            content=body(),
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
    end = time.monotonic() + 30
    while list(Path(get_upload_folder()).iterdir()):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["n" * 250 + ".txt", "a\0b.txt", "half \ud83d.txt".encode("utf-8", "surrogatepass")])
def test_any_name_of_a_file_is_taken_or_refused_with_a_sentence(visitor: Visitor, name: Any) -> None:
    shown = name if isinstance(name, bytes) else name.encode()
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n\r\ntext\r\n--x--\r\n' % shown
    sent = visitor.http.post(
        f"{visitor.url}/upload", content=part, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    if sent.status_code == 200:
        ok, output = visitor.call("read_upload", [file(sent.json()[0])])
        assert ok or is_sentence(output)
    else:
        assert sent.status_code == 400
        assert "Traceback" not in sent.text
    assert not list(Path(get_upload_folder()).iterdir())


def test_uploads_that_nobody_reads_make_room_for_later_ones(tmp_path: Path) -> None:
    known = set()
    for age, name in enumerate(("old", "middle", "new")):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "a.txt"
        path.write_bytes(b"x" * 100)
        os.utime(path, ns=(age, age))
        known.add(str(path))
    known.add(str(tmp_path / "read already"))
    make_room(known, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle", "new"]
    assert known == {str(tmp_path / name / "a.txt") for name in ("middle", "new")}


def test_what_a_page_shows_is_not_kept_for_links(visitor: Visitor) -> None:
    assert visitor.call("begin", [f"{MARKER} {DOCUMENT}", *PAGE[1:]])[0]
    answer = visitor.http.get(f"{visitor.url}/deep_link", params={"session_hash": visitor.session})
    assert answer.status_code == 404
    assert not list(Path(get_upload_folder()).iterdir())


def test_a_session_holds_its_run_and_nothing_else_of_what_came_and_went(visitor: Visitor) -> None:
    values = [f"{MARKER} {DOCUMENT}", *PAGE[1:]]
    assert visitor.call("begin", values)[0]
    assert MARKER in str(visitor.hear("follow", [None]))
    visitor.call_directly("measure", [None, values[0], "q", False, 7])
    held = [each for each in gc.get_objects() if type(each) is SessionState]
    assert held
    assert not [each for each in held if MARKER in str(each.config_values)]


def test_half_a_character_in_an_answer_is_shown_as_browsers_do(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sections.ask.files.length_line", lambda *_: "half \ud83d of it")

    def refuse(*_: Any) -> str:
        raise InputError("half \ud83d of it")

    monkeypatch.setattr("app.sections.ask.files.read_and_delete", refuse)
    answer = visitor.call_directly("measure", [None, "a", "b", False, 7])
    assert answer.json()["data"][0] == "half \ufffd of it"
    sent = visitor.http.post(f"{visitor.url}/upload", files={"files": ("a.txt", b"x")}).json()
    ok, output = visitor.call("read_upload", [file(sent[0])])
    assert not ok
    assert "half" in output["error"]
    Path(sent[0]).unlink()
    Path(sent[0]).parent.rmdir()


def test_what_is_too_large_does_not_get_in(visitor: Visitor) -> None:
    assert visitor.join("begin", ["x" * 70_000_000, *PAGE[1:]]).status_code == 413
    sent = visitor.http.post(f"{visitor.url}/upload", files={"files": ("big.txt", b"x" * 34_000_000)})
    assert sent.status_code == 413


def test_a_name_with_markup_is_shown_as_text(tmp_path: Path) -> None:
    picture = tmp_path / "<b onmouseover=alert(1)>\x1b.txt"
    picture.write_bytes(b"\0")
    with pytest.raises(gr.Error) as caught:
        read_upload(str(picture))
    assert "&lt;b onmouseover=alert(1)&gt;\ufffd.txt is not a text file" in str(caught.value)
    assert picture.exists(), "no upload, so it is not ours to delete"


def test_pages_of_a_pdf_that_are_left_out_are_named_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda sentence, **_: said.append(sentence))
    scan = tmp_path / "<b>.pdf"
    scan.write_bytes(pdf("Lease", ""))
    assert read_upload(str(scan)) == "Lease"
    assert [sentence.startswith("&lt;b&gt;.pdf has no text on page 2 of 2") for sentence in said] == [True]


# Texts


def test_a_rude_text_is_answered_and_shown_as_text_everywhere(host: ModelHost) -> None:
    page = do.Callbacks(host)
    run = page.begin(f"{RUDE} {DOCUMENT}", RUDE, 24, ["full", "snapkv"], False, 6, False)[0]
    views = list(page.follow(run))
    assert run.phase == "done"
    shown = "".join(part for view in views for part in view if isinstance(part, str))
    assert "<script" not in shown
    assert "<img" not in shown
    for hidden in ("\x1b", "\x00", "\u202e", "\u2066"):
        assert hidden not in shown, "replaced by something that can be seen"
    assert html.escape("<script>alert(1)</script>") in shown
    assert "␛[31mred" in shown
    assert run.retention["full"].document_text.startswith(RUDE), "kept as data"


def test_what_a_model_writes_shows_its_control_characters() -> None:
    run = Run(Task("d", "q", methods=()), ModelHost("m"))
    run.lanes, run.phase = [Lane("full", text="a\x1b[31m\u202eb", finish="end")], "done"
    run.finished.set()
    assert "a␛[31m\ufffdb" in cards.run_cards(run)


def test_the_length_is_told_against_the_limit_as_one_types(host: ModelHost) -> None:
    tokens = host.count_tokens(DOCUMENT, QUESTION, False)
    assert f"{tokens:,} of 4,096 tokens<" in cards.length_line(host, DOCUMENT, QUESTION, False, 24)
    long = DOCUMENT * 40
    all_of_it = host.count_all(long, QUESTION)
    over = f"{all_of_it + 24 - 4096:,}"
    assert f"{all_of_it:,} of 4,096 tokens: {over} too many" in cards.length_line(host, long, QUESTION, False, 24)
    assert f"about {over} will be cut out of its middle" in cards.length_line(host, long, QUESTION, True, 24)
    assert "at most 1,000,000 are taken" in cards.length_line(host, "x" * 10_000_000, QUESTION, False, 24)
    assert text.LENGTH_EMPTY in cards.length_line(host, " ", QUESTION, False, 24)
    assert text.LENGTH_UNKNOWN in cards.length_line(ModelHost("none"), DOCUMENT, QUESTION, False, 24)


def test_a_paste_of_ten_megabytes_is_refused_without_reading_it(host: ModelHost) -> None:
    for act in (
        lambda: host.count_tokens("x" * 10_000_000, "q", True),
        lambda: host.count_all("x" * 10_000_000, "q"),
        lambda: Run(Task("x" * 10_000_000, "q", ("full",)), host),
    ):
        with pytest.raises(InputError, match="10,000,000 characters"):
            act()


# Traces


def test_nothing_of_a_document_is_left_in_logs_or_on_the_disk(
    lm: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    caplog.set_level(logging.DEBUG)
    secret = f"The password is {MARKER}. " * 5
    real = do.Callbacks.count

    def count(self: Any, document: str, *rest: Any) -> Any:
        return 1 / 0 if "break" in document else real(self, document, *rest)

    monkeypatch.setattr(do.Callbacks, "count", count)
    with served(tiny_host(lm)) as url, Visitor(url) as visitor:
        assert upload(visitor, "secret.txt", secret.encode())[1]
        assert not upload(visitor, f"{MARKER}.pdf", b"%PDF-1.4 " + secret.encode())[1]
        assert visitor.call("begin", [secret, MARKER, *PAGE[2:]])[0]
        assert visitor.call("follow", [None])[0]
        assert visitor.call("ask", [secret, MARKER, "full", "24", False, 3])[0]
        assert not visitor.call("begin", [secret, MARKER])[0]
        assert not visitor.call("ask", [secret, MARKER, MARKER[:5], "24", False, 3])[0]
        assert "error" in visitor.call_directly("count", [f"break {secret}", MARKER, False, 7]).json()
        with monkeypatch.context() as broken:
            broken.setattr("app.server.run.read", lambda _, document, *__, **___: {}[document])
            assert not visitor.call("ask", [secret, MARKER, "full", "24", False, 3])[0]
    printed = capfd.readouterr()
    logged = "\n".join(f"{record.name} {record.getMessage()}" for record in caplog.records)
    assert "a run failed: KeyError" in logged
    assert "a request failed: ZeroDivisionError" in logged
    for trace in (printed.out, printed.err, caplog.text, logged):
        assert MARKER not in trace
    for path in tmp_path.rglob("*"):
        assert MARKER not in path.name
        assert not path.is_file() or MARKER.encode() not in path.read_bytes()


SHOWN = [None, "snapkv", "", "word", -1, -1]


def test_no_session_reaches_the_run_or_the_map_of_another(url: str) -> None:
    with Visitor(url) as anna, Visitor(url) as bert:
        assert anna.call("begin", [f"{MARKER} {DOCUMENT}", *PAGE[1:]])[0]
        assert MARKER in str(anna.hear("follow", [None]))
        for event, data in (
            ("follow", [None]),
            ("stop", [None]),
            ("show_document", SHOWN),
            ("begin", PAGE),
            ("follow", [None]),
            ("show_document", SHOWN),
        ):
            assert MARKER not in str(bert.hear(event, data))
        assert MARKER in str(anna.hear("show_document", SHOWN)), "Bert's run did not touch Anna's"


def test_programs_that_send_half_a_character_hear_so(visitor: Visitor) -> None:
    half = "half \ud83d"  # as JSON spells it
    for event, data in (
        ("ask", [half, QUESTION, "snapkv", "24", False, 3]),
        ("compare", [DOCUMENT, half, "snapkv", "24", False, 3]),
        ("retained", [half, QUESTION, "snapkv", "24", False]),
        ("count_tokens", [DOCUMENT, half]),
    ):
        ok, output = visitor.call(event, data)
        assert not ok
        assert is_sentence(output, "has half a character")
    assert is_sentence(visitor.call("ask", [DOCUMENT, QUESTION, half, "24", False, 3])[1], "There is no method")


def test_half_a_character_is_refused_wherever_a_text_enters(host: ModelHost) -> None:
    half, page = "half \ud83d", SweepCallbacks(host)
    for enter in (
        lambda: do.take_over(half),
        lambda: add_piece(half, ""),
        lambda: add_piece("tower", half),
        lambda: page.begin(DOCUMENT, half, False, 6, False, ["snapkv"], ""),
        lambda: page.begin(DOCUMENT, QUESTION, False, 6, False, ["snapkv"], half),
    ):
        with pytest.raises(gr.Error, match="has half a character") as caught:
            enter()
        str(caught.value).encode("utf-8")
    with pytest.raises(InputError, match="has half a character"):
        find(DOCUMENT, half)
    assert "half a character" in cards.length_line(host, half, QUESTION, False, 24)
    assert do.Callbacks(host).count(half, QUESTION, False, 24)[0] == text.NO_SHARE
    assert restored(f"question={half}&rows=8") == Restored(rows=8, ignored=("question",))
