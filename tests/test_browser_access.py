"""Nobody is left out: axe finds nothing to complain about, wide and narrow, light and dark."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser import BRIEF, PATIENCE, SAMPLE, overflow

pytestmark = [pytest.mark.browser, pytest.mark.embedded]

FOLDED = ("#options", "#pins", "#models", "#calculator", "#take-python")
SETTLED = "document.getAnimations().every(each => each.playState !== 'running')"


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_in_the_page_with_answers_and_everything_unfolded(
    browser: Browser, demo: str, width: int, theme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"{demo}/?__theme={theme}")
    expect(page.locator("article.card.done")).to_have_count(3)
    expect(page.locator(".status.ready")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#takeaway")).to_be_visible(timeout=PATIENCE)
    for name in FOLDED:
        page.locator(f"{name} .label-wrap").first.click()
    page.wait_for_function(SETTLED)
    found = Axe().run(page).response
    assert len(found["passes"]) > 20, "axe looked at the page"
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
    assert overflow(page) <= 0
    page.close()


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until this has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement?.matches(selector) ?? false", selector):
            return
    pytest.fail(f"{selector} cannot be reached with Tab")


def test_the_keyboard_alone_asks_asks_again_reads_and_takes_along(page: Page) -> None:
    page.keyboard.press("Tab")
    tab_to(page, "#document textarea")
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(SAMPLE.document[:BRIEF])
    tab_to(page, "#question textarea")
    page.keyboard.press("Control+A")
    page.keyboard.type("Who wrote the notes?")
    tab_to(page, "#ask")
    page.keyboard.press("Enter")
    expect(page.locator(".status.ready", has_text="Read once in")).to_be_visible(timeout=PATIENCE)
    tab_to(page, "#again-question textarea")
    page.keyboard.type("Which sample melted at 68 degrees?")
    page.keyboard.press("Enter")
    expect(page.locator(".status.ready", has_text="rows were reused")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#cards .asked")).to_have_text("Which sample melted at 68 degrees?")
    tab_to(page, "#map-document .jq-text")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#map-document [aria-live]")).to_contain_text("of 90 heads")
    tab_to(page, "#take-page")
    with page.expect_download() as found:
        page.keyboard.press("Enter")
    assert found.value.suggested_filename.endswith(".html")
