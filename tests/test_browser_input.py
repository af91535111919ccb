"""What goes into the page, in a real Chromium: files, dropped and chosen, lengths, rude texts, and the queue."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FileChooser, JSHandle, Page, expect

from app.server.host import ModelHost
from app.server.samples import samples
from judgeq.models.language_model import LanguageModel
from tests.browser import overflow, watched
from tests.pdf_files import pdf
from tests.server import DOCUMENT, QUESTION, served, tiny_host

pytestmark = pytest.mark.browser

RUDE = "<script>alert(1)</script><img src=x onerror=alert(2)> \u202egnp.exe \x1b[31mred"


@pytest.fixture(scope="module")
def host(lm: LanguageModel) -> ModelHost:
    return tiny_host(lm)


@pytest.fixture(scope="module")
def url(host: ModelHost) -> Iterator[str]:
    with served(host) as address:
        yield address


@pytest.fixture
def tiny(tab: Page, url: str) -> Iterator[Page]:
    """The page over the tiny model, loaded anew: a test does all that one visit allows."""
    with watched(tab, url) as page:
        expect(page.locator(".status.ready")).to_be_visible()
        expect(page.locator("#prompt-length")).to_contain_text("of 4,096 tokens")
        yield page


def dragged(page: Page, name: str, content: bytes) -> JSHandle:
    """What a drag carries that brings a file."""
    return page.evaluate_handle(
        """([name, encoded]) => {
          const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
          const carried = new DataTransfer();
          carried.items.add(new File([bytes], name));
          return carried;
        }""",
        [name, base64.b64encode(content).decode()],
    )


def fill(page: Page, label: str, value: str) -> None:
    """As if pasted: at once, however long."""
    page.locator(f"#{label} textarea").evaluate(
        "(box, value) => { box.value = value; box.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def test_a_file_dropped_on_the_document_is_read_and_nothing_is_lost_otherwise(tiny: Page) -> None:
    carried = dragged(tiny, "ferry.pdf", pdf("The ferry leaves at noon.", "Bring shoes."))
    box, text = tiny.locator("#document"), tiny.locator("#document textarea")
    text.dispatch_event("dragover", {"dataTransfer": carried})
    assert "dropping" in (box.get_attribute("class") or "")
    text.dispatch_event("drop", {"dataTransfer": carried})
    expect(text).to_have_value("The ferry leaves at noon.\n\nBring shoes.")
    assert "dropping" not in (box.get_attribute("class") or "")
    expect(tiny.locator("#prompt-length")).to_contain_text("of 4,096 tokens")
    carried = dragged(tiny, "again.txt", b"A second file.")
    text.dispatch_event("drop", {"dataTransfer": carried})
    expect(text).to_have_value("A second file.")

    prevented = tiny.evaluate(
        """() => {
          const carried = new DataTransfer();
          carried.items.add(new File(["x"], "x.txt"));
          return ["dragover", "drop"].map((kind) => !document.querySelector(".head").dispatchEvent(
            new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: carried })));
        }"""
    )
    assert prevented == [True, True], "beside the document a file neither opens nor counts"
    carried = dragged(tiny, "<img src=x onerror=alert(1)>.txt", b"\x00")
    text.dispatch_event("drop", {"dataTransfer": carried})
    toast = tiny.get_by_test_id("toast-body")
    expect(toast).to_contain_text("is not a text file")
    assert toast.locator("img[src=x]").count() == 0
    assert text.input_value() == "A second file."
    expect(tiny.locator("#prompt-length")).to_contain_text("of 4,096 tokens")


def test_a_samples_name_stands_only_above_its_own_text(tiny: Page, url: str) -> None:
    name, text = tiny.locator("#sample input"), tiny.locator("#document textarea")
    expect(name).to_have_value(samples()[0].title)
    fill(tiny, "document", "A text of my own.")
    expect(name).to_have_value("")
    name.click()
    tiny.get_by_role("option", name=samples()[1].title).click()
    expect(text).to_have_value(samples()[1].document)
    expect(name).to_have_value(samples()[1].title)
    text.dispatch_event("drop", {"dataTransfer": dragged(tiny, "a.txt", b"\0")})
    expect(tiny.get_by_test_id("toast-body")).to_be_visible()
    expect(name).to_have_value(samples()[1].title)
    text.dispatch_event("drop", {"dataTransfer": dragged(tiny, "a.txt", b"A file.")})
    expect(text).to_have_value("A file.")
    expect(name).to_have_value("")
    with tiny.context.new_page() as tab:
        tab.goto(f"{url}#question=Who%3F&rows=12")
        expect(tab.locator("#rows input")).to_have_value("12")
        expect(tab.locator("#sample input")).to_have_value("")


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until this has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement?.matches(selector) ?? false", selector):
            return
    pytest.fail(f"{selector} cannot be reached with Tab")


def test_the_keyboard_alone_brings_a_file_asks_asks_again_reads_and_takes_along(tiny: Page, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("<h1>Boats</h1><p>One at six.<script>never()</script>", encoding="utf-8")
    tiny.keyboard.press("Tab")
    tab_to(tiny, "#document textarea")
    tiny.keyboard.press("Tab")
    expect(tiny.locator("#upload")).to_be_focused()
    chosen: list[FileChooser] = []
    tiny.on("filechooser", lambda chooser: chosen.append(chooser))  # Playwright cannot wrap a method of a list
    while not chosen:  # Playwright hears of choosers only after a moment
        tiny.keyboard.press("Enter")
        tiny.wait_for_timeout(200)
    chosen[0].set_files(file)
    expect(tiny.locator("#document textarea")).to_have_value("Boats\n\nOne at six.")

    tiny.keyboard.press("Shift+Tab")
    expect(tiny.locator("#document textarea")).to_be_focused()
    tiny.keyboard.press("Control+A")
    tiny.keyboard.insert_text(DOCUMENT)
    tab_to(tiny, "#question textarea")
    tiny.keyboard.press("Control+A")
    tiny.keyboard.insert_text(QUESTION)
    tab_to(tiny, "#ask")
    tiny.keyboard.press("Enter")
    expect(tiny.locator(".status.ready", has_text="Read once in")).to_be_visible()
    tab_to(tiny, "#again-question textarea")
    tiny.keyboard.type("What is the keeper called?")
    tiny.keyboard.press("Enter")
    expect(tiny.locator(".status.ready", has_text="rows were reused")).to_be_visible()
    expect(tiny.locator("#cards .asked")).to_have_text("What is the keeper called?")
    tab_to(tiny, "#map-document .jq-text")
    tiny.keyboard.press("ArrowRight")
    expect(tiny.locator("#map-document [aria-live]")).to_contain_text("of 8 heads")
    tab_to(tiny, "#take-page")
    with tiny.expect_download() as found:
        tiny.keyboard.press("Enter")
    assert found.value.suggested_filename.endswith(".html")


def test_the_length_follows_and_after_a_run_that_failed_one_can_ask_again(tiny: Page) -> None:
    length, toast = tiny.locator("#prompt-length"), tiny.get_by_test_id("toast-body")
    fill(tiny, "document", "")
    expect(length).to_contain_text("No text yet")
    fill(tiny, "document", "x" * 1_100_000)
    expect(length).to_contain_text("at most 1,000,000 are taken")
    tiny.locator("#ask").click()
    expect(toast).to_contain_text("1,100,000 characters")
    expect(tiny.locator("#ask")).to_be_enabled()
    fill(tiny, "document", DOCUMENT * 40)
    expect(length).to_contain_text("too many")
    tiny.locator("#ask").click()
    expect(toast.last).to_contain_text("allow cutting its middle")
    expect(tiny.locator("#ask")).to_be_enabled()
    expect(tiny.locator("#stop")).to_be_disabled()
    tiny.get_by_role("button", name="Options").click()
    tiny.get_by_label("Cut the middle").check()
    expect(length).to_contain_text("will be cut out of its middle")
    tiny.set_viewport_size({"width": 390, "height": 844})
    assert overflow(tiny) <= 0
    fill(tiny, "document", DOCUMENT)
    tiny.locator("#ask").click()
    expect(tiny.locator(".status.ready", has_text="Read once in")).to_be_visible()


def test_a_rude_text_stays_text(tiny: Page) -> None:
    fill(tiny, "document", f"{RUDE} {DOCUMENT}")
    fill(tiny, "question", RUDE)
    tiny.locator("#ask").click()
    shown = tiny.locator("#map-document")
    expect(shown).to_contain_text("<script>alert(1)</script><img src=x onerror=alert(2)>")
    expect(shown).to_contain_text("\ufffdgnp.exe ␛[31mred")
    assert tiny.locator("img[src=x]").count() == 0


def test_the_place_in_the_queue_is_shown_and_freed_by_who_leaves(tiny: Page, url: str, host: ModelHost) -> None:
    second = tiny.context.new_page()
    second.goto(url)
    expect(second.locator(".status.ready")).to_be_visible()
    with host.turn():
        for number, page in enumerate((second, tiny), start=1):
            page.locator("#ask").click()
            expect(page.locator(".status")).to_contain_text(f"You are number {number} in the queue")
        second.close()
        expect(tiny.locator(".status")).to_contain_text("You are number 1 in the queue")
    expect(tiny.locator(".status.ready", has_text="Read once in")).to_be_visible()
    assert len(host.turns) == 0

    with host.turn():
        question = tiny.locator("#question textarea")
        question.press("Enter")
        expect(tiny.locator(".status")).to_contain_text("You are number 1")
        question.press("Enter")
        expect(tiny.get_by_test_id("toast-body")).to_contain_text("still being answered")
        expect(tiny.locator(".status")).to_contain_text("You are number 1")
        assert len(host.turns) == 2, "who waits gets no second place"
    expect(tiny.locator(".status.ready", has_text="rows were reused")).to_be_visible()
