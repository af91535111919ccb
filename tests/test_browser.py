"""The demo as a visitor meets it: the embedded model, a real Chromium, one server for all tests."""

from __future__ import annotations

import re
import time
from pathlib import Path

import gradio
import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import BRIEF, PATIENCE, SAMPLE, overflow, unfold

pytestmark = [pytest.mark.browser, pytest.mark.embedded]


def test_the_sample_has_three_answers_their_costs_and_a_map(page: Page) -> None:
    """The stored ones, which are those of a run: `tests/test_stored.py`."""
    assert page.locator("#document textarea").input_value() == SAMPLE.document
    full, judge, snap = page.locator("article.card").all()
    expect(full.locator(".answer")).to_contain_text(SAMPLE.answer)
    expect(full.locator(".verdict")).to_contain_text(f"finds {SAMPLE.answer}")
    expect(judge.locator("td").first).to_contain_text(f"{SAMPLE.budget} of")
    expect(snap.locator("td").nth(1)).to_contain_text("% of full")
    assert len({round(card.bounding_box()["height"]) for card in (full, judge, snap)}) == 1, "equal height"
    expect(page.locator("#map-document mark").first).to_be_visible()
    expect(page.locator("#map-heatmap")).to_have_count(0)  # drawn when a window comes near
    unfold(page, "layers")
    expect(page.locator("#map-heatmap .heatmaplayer image")).to_be_visible()

    steps = page.locator("#cards .jq-replay").get_attribute("data-steps")
    page.get_by_label("Layer", exact=True).click()
    page.get_by_role("option", name="Layer 12", exact=True).click()
    expect(page.locator("#cards")).to_contain_text("Lit by layer 12 alone")
    assert page.locator("#cards .jq-replay").get_attribute("data-steps") != steps
    page.wait_for_function("CSS.highlights.get('jq-glow-3')?.size > 0")

    page.get_by_role("radio", name="SnapKV").check()
    expect(page.locator("#map-document")).to_contain_text("SnapKV keeps")
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("#map-heatmap .heatmaplayer image")).to_be_visible()
    page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")  # figures follow


def test_sections_that_come_near_before_their_button_is_there_open_all_the_same(browser: Browser, demo: str) -> None:
    parts = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
    accordion = next(part.name for part in parts.glob("Index-*.js") if "label-wrap" in part.read_text())
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.route(f"**/{accordion}", lambda route: (time.sleep(2), route.continue_()))
    page.goto(f"{demo}/#calibrate")
    expect(page.locator("article.card.done")).to_have_count(3)
    for name in ("sweep", "calibrate"):
        unfold(page, name)
    page.close()


def test_after_stored_answers_one_asks_stops_and_asks_about_what_was_read(page: Page) -> None:
    expect(page.locator("#cards .notice")).to_contain_text("Stored answers of this model")
    ask, stop = page.get_by_role("button", name="Ask", exact=True), page.get_by_role("button", name="Stop")
    expect(stop).to_be_disabled()
    ask.click()
    stop.click()  # as soon as it can be: a busy machine may show little of the reading
    expect(page.locator(".status.ready", has_text="Stopped")).to_be_visible()
    expect(ask).to_be_enabled()
    expect(stop).to_be_disabled()
    expect(page.locator("article.card.stopped")).to_have_count(3)
    page.wait_for_timeout(500)
    expect(page.locator(".status.ready", has_text="Stopped")).to_be_visible()

    page.locator("#document textarea").fill("The ferry leaves at noon. <img src=x onerror=alert(1)>")
    page.locator("#question textarea").fill("When does the ferry leave?")
    expect(page.locator("#note")).to_contain_text("nothing is evicted")
    ask.click()
    expect(page.locator("#map-document")).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.locator(".notice")).to_contain_text("full cache")

    page.locator("#document textarea").fill(SAMPLE.document[:BRIEF])
    page.locator("#question textarea").fill(SAMPLE.question)
    ask.click()
    expect(page.locator(".bar")).to_be_visible()
    expect(page.locator(".status.ready", has_text="Read once in")).to_be_visible()
    expect(page.locator("article.card.done")).to_have_count(3)
    expect(page.locator("article.card .answer").first).to_contain_text(SAMPLE.answer)
    expect(page.locator("#cards .notice")).to_have_count(0)
    page.get_by_label("Ask something else about this document").fill("Which wax came as flakes?")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".status.ready", has_text="rows were reused")).to_be_visible()
    expect(page.locator("#cards .asked")).to_have_text("Which wax came as flakes?")
    expect(page.locator(".earlier summary")).to_contain_text(SAMPLE.question)


def test_budget_and_share_move_together_and_bad_input_loses_nothing(page: Page, tmp_path: Path) -> None:
    expect(page.locator("#note")).to_contain_text("tokens")
    tokens = int(re.findall(r"of ([\d,]+) tokens", page.locator("#note").inner_text())[0].replace(",", ""))
    page.locator("#rows input").fill(str(tokens // 2))
    expect(page.locator("#note")).to_contain_text("50 % of")
    expect(page.locator("#share input[type=range]")).to_have_value("50")
    page.locator("#share input[type=range]").fill("25")
    expect(page.locator("#rows input")).to_have_value(str(round(tokens / 4)))

    page.locator("#question textarea").fill("")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("The question is empty")
    assert page.locator("#document textarea").input_value() == SAMPLE.document
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_enabled()
    broken = tmp_path / "picture.txt"
    broken.write_bytes(b"\x89PNG\x00\x01")
    page.locator("#upload input[type=file], input[type=file]").first.set_input_files(broken)
    expect(page.get_by_test_id("toast-body").last).to_contain_text("not a text file")
    assert page.locator("#document textarea").input_value() == SAMPLE.document

    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="Options").click()
    expect(page.get_by_label("Cut the middle")).to_be_visible()
    assert overflow(page) <= 0


def test_an_upload_lies_in_a_folder_that_goes_with_the_demo(demo: str, temporary: Path) -> None:
    sent = httpx.post(f"{demo}/gradio_api/upload", files={"files": ("a.txt", b"left behind")}, trust_env=False)
    (place,) = temporary.glob("judgeq-*")
    assert Path(sent.json()[0]).is_relative_to(place)
