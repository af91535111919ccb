"""The sweep and the pins as a visitor meets them: the embedded model in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from app.text import SWEEP_VERDICT
from judgeq.sweeping import BUDGETS
from tests.browser import BRIEF, SAMPLE, unfold

FACT = next(sentence for sentence in re.split(r"(?<=\.)\s", SAMPLE.document) if SAMPLE.answer in sentence)

pytestmark = [pytest.mark.browser, pytest.mark.embedded]


def test_a_sweep_is_drawn_point_by_point_and_can_be_cancelled(page: Page) -> None:
    start, cancel = page.get_by_role("button", name="Measure all sizes"), page.locator("#sweep-cancel")
    status = page.locator("#sweep-status")
    unfold(page, "sweep")
    expect(cancel).to_be_disabled()
    page.locator("#document textarea").fill(SAMPLE.document[:BRIEF])
    start.click()
    expect(status).to_contain_text("Reading the prompt")
    cancel.click()
    expect(status).to_contain_text(re.compile(r"Cancelled after \d+ of 16 points"))
    expect(start).to_be_enabled()
    expect(cancel).to_be_disabled()

    page.get_by_label("Words to watch").fill(FACT)
    page.get_by_label("Words to watch").press("Enter")
    expect(status).to_contain_text("points")
    expect(page.locator("#sweep-figure .scatterlayer .trace").first).to_be_visible()
    expect(status).to_contain_text(SWEEP_VERDICT)
    expect(page.locator("#sweep-figure .scatterlayer .trace")).to_have_count(4)
    expect(page.locator("#sweep-numbers tbody tr")).to_have_count(len(BUDGETS))
    expect(page.locator("#sweep-numbers tbody tr").last).to_contain_text(re.compile(r"100 % \(\d+\)100 %100 %"))
    expect(page.locator("#sweep-numbers q")).to_contain_text(SAMPLE.answer)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("#sweep-figure .scatterlayer .trace").first).to_be_visible()
    page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")


def test_what_must_stay_stays_and_what_must_go_goes(page: Page) -> None:
    page.get_by_role("button", name="Always keep, always evict").click()
    page.get_by_label("Always evict").fill("a sentence that nobody wrote")
    page.get_by_role("button", name="Ask", exact=True).click()
    problem = "“a sentence that nobody wrote” does not occur"
    expect(page.get_by_test_id("toast-body")).to_contain_text(problem)

    page.get_by_label("Always evict").fill(FACT)
    heading = SAMPLE.document.split("\n")[0]
    page.get_by_label("Words of the document").fill(heading)
    page.locator("#span-stay").click()
    expect(page.get_by_label("Always keep")).to_have_value(heading)
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#status")).to_contain_text("are pinned and stay")
    expect(page.locator("#status")).to_contain_text("are dropped and go")
    full, judge, _ = page.locator("article.card").all()
    expect(full.locator(".verdict")).to_contain_text(f"finds {SAMPLE.answer}")
    expect(judge.locator(".verdict")).to_contain_text(f"misses {SAMPLE.answer}")
