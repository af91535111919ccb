"""Nobody is left out: axe finds nothing to complain about, wide and narrow, light and dark."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser import overflow, unfold, watched

pytestmark = [pytest.mark.browser, pytest.mark.embedded]

SECTIONS = ("layers", "sweep", "calibrate")
FOLDED = ("#options", "#pins", "#models", "#calculator", "#take-python")
SETTLED = "document.getAnimations().every(each => each.playState !== 'running')"


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_in_the_page_with_answers_and_everything_unfolded(
    tab: Page, demo: str, width: int, theme: str
) -> None:
    with watched(tab, f"{demo}/?__theme={theme}", width=width) as page:
        expect(page.locator("article.card.done")).to_have_count(3)
        expect(page.locator(".status.ready")).to_be_visible()
        expect(page.locator("#takeaway")).to_be_visible()
        for name in SECTIONS:
            unfold(page, name)
        for name in FOLDED:
            page.locator(f"{name} .label-wrap").first.click()
        page.wait_for_function(SETTLED)
        found = Axe().run(page).response
        assert len(found["passes"]) > 20, "axe looked at the page"
        assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
        assert overflow(page) <= 0
