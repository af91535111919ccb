"""The calibration as a visitor meets it: the embedded model in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from app import text
from judgeq.evaluation.calibration import BUDGETS
from tests.browser import BRIEF, PATIENCE, SAMPLE, unfold

pytestmark = [pytest.mark.browser, pytest.mark.embedded]


def test_questions_are_proposed_edited_and_calibrated(page: Page) -> None:
    start, cancel = page.get_by_role("button", name=text.CALIBRATE), page.locator("#calibrate-cancel")
    status, questions = page.locator("#calibrate-status"), page.get_by_label(text.CALIBRATE_QUESTIONS)
    unfold(page, "calibrate")
    expect(cancel).to_be_disabled()
    start.click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("There are no questions")
    page.locator("#document textarea").fill(SAMPLE.document[:BRIEF])
    page.get_by_role("button", name=text.CALIBRATE_PROPOSE).click()
    expect(questions).to_have_value(re.compile(r"… => \S+"))
    expect(status).to_contain_text("change them to what you would ask")

    start.click()
    expect(status).to_contain_text(re.compile("Reading the|Answered"))
    cancel.click()
    expect(status).to_contain_text(re.compile(r"Cancelled after \d+ of \d+ questions"))
    expect(start).to_be_enabled()
    expect(cancel).to_be_disabled()

    proposed = questions.input_value().splitlines()
    questions.fill(f"{proposed[0]}\n<b>Who?</b>")
    start.click()
    expect(page.locator("#calibrate-figure .scatterlayer .trace").first).to_be_visible(timeout=PATIENCE)
    expect(status).to_contain_text("No budget is shown to be safe", timeout=PATIENCE)
    expect(page.locator("#calibrate-numbers tbody tr")).to_have_count(len(BUDGETS))
    expect(page.locator("#calibrate-numbers b")).to_have_count(0)
    expect(page.locator("#calibrate-numbers")).to_contain_text("It promises nothing for other documents")
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("#calibrate-figure .scatterlayer .trace").first).to_be_visible()
    page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")
