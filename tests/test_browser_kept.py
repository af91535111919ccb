"""The marked document in a real Chromium, by mouse, finger and keyboard: maps made up by hand, no model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from app.sections.kept.callbacks import map_updates
from app.sections.kept.view import Kept, wire_kept
from judgeq.methods import METHODS
from judgeq.retention import RetentionMap
from tests.browser import overflow, served, unfold, watched

BEFORE, AFTER = "<|user|>\n", "\n\nWho?<|end|>"
LINES = [
    f'Page {number}. The 😀 keeper <b>{number}</b> walks to tower {number * 37} & writes "all\'s well" there.'
    for number in range(600)
]
DOCUMENT = "\n\n".join(LINES)
"""About 17,000 tokens."""

pytestmark = pytest.mark.browser


def made_up(method: str, seed: int, budget: int, *, ragged: bool = False) -> RetentionMap:
    text = BEFORE + DOCUMENT + AFTER
    offsets = tuple((match.start(), match.end()) for match in re.finditer(r" ?\w+| ?[^\w\s]|\s", text))
    rng = np.random.default_rng(seed)
    scores = (rng.gamma(0.3, 1, len(offsets)) * rng.gamma(1, 1, (4, 2, len(offsets)))).astype(np.float32)
    rows = [[budget // (1 + layer * ragged) for _ in range(2)] for layer in range(4)]
    kept = tuple(
        tuple(np.sort(np.argsort(-scores[layer, head])[: rows[layer][head]]) for head in range(2)) for layer in range(4)
    )
    start = len(BEFORE)
    document = (start, start + len(DOCUMENT))
    return RetentionMap(method, "tiny", budget, text, offsets, document, kept, scores, title=METHODS[method].title)


MAPS = {
    "judgeq": made_up("judgeq", 1, 4000),
    "snapkv": made_up("snapkv", 2, 4000, ragged=True),
}


@pytest.fixture(scope="module")
def address(browser: Browser) -> Iterator[str]:
    """A page with nothing but what was kept."""
    run = SimpleNamespace(retention=MAPS)
    run.look = lambda: run
    with gr.Blocks(analytics_enabled=False) as demo:
        held = gr.State(None)
        kept = Kept()
        wire_kept(kept, held)
        drawn = map_updates(run, True)  # Gradio changes what it gets
        demo.load(lambda: (run, *map(copy, drawn)), None, [held, *kept.shown])
    with served(demo) as url:
        yield url


@pytest.fixture(scope="module")
def drawn(tab: Page, address: str) -> Iterator[Page]:
    with watched(tab, address, alone=False) as page:
        unfold(page, "layers")
        expect(page.locator("#map-heatmap .heatmaplayer image")).to_be_visible()
        yield page


@pytest.fixture
def page(drawn: Page) -> Page:
    """The page with its map drawn, as the test before left it, seen from its beginning."""
    drawn.evaluate("scrollTo(0, 0)")
    return drawn


def box(page: Page) -> Locator:
    return page.locator("#map-document .jq-text")


def reading(page: Page) -> Locator:
    return page.locator("#map-document .jq-reading")


def current(page: Page) -> str:
    """The word that is highlighted."""
    return page.evaluate("[...(CSS.highlights.get('jq-word') ?? [])].map(String).join()")


def current_place(page: Page) -> int:
    """Where it begins in the document."""
    before = page.evaluate(
        """() => {
          const before = document.createRange(), [word] = CSS.highlights.get("jq-word");
          before.setStart(document.querySelector("#map-document .jq-text"), 0);
          before.setEnd(word.startContainer, word.startOffset);
          return String(before);
        }"""
    )
    return len(before)


def point_at(page: Page, words: str) -> tuple[float, float]:
    """The middle of the first place of some words, scrolled to."""
    left, right, height = edges_of(page, words, scroll=True)
    return (left + right) / 2, height


def edges_of(page: Page, words: str, *, scroll: bool = False) -> list[float]:
    """Left, right and vertical middle of the first place of some words."""
    return page.evaluate(
        """([words, scroll]) => {
          const text = document.querySelector("#map-document .jq-text");
          const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
          while (walker.nextNode()) {
            const at = walker.currentNode.data.indexOf(words);
            if (at < 0) continue;
            const range = document.createRange();
            range.setStart(walker.currentNode, at);
            range.setEnd(walker.currentNode, at + words.length);
            if (scroll) {
              text.scrollIntoView({ block: "center" });
              text.scrollTop += range.getBoundingClientRect().top - text.getBoundingClientRect().top - 120;
            }
            const area = range.getBoundingClientRect();
            return [area.left, area.right, area.y + area.height / 2];
          }
        }""",
        [words, scroll],
    )


def said(method: str, word: str) -> str:
    """What the library says of the first place of a word."""
    start = DOCUMENT.index(word)
    return " ".join(MAPS[method].explain(start, start + len(word)).sentences())


def test_a_long_document_is_laid_out_where_it_is_seen(page: Page) -> None:
    counted = box(page).evaluate(
        """text => {
          const blocks = [...text.querySelectorAll(".jq-block")];
          const seen = blocks.filter(block => block.checkVisibility({ contentVisibilityAuto: true }));
          return [blocks.length, text.querySelectorAll("*").length,
                  getComputedStyle(blocks.at(-1)).contentVisibility, text.textContent];
        }"""
    )
    blocks, nodes, visibility, shown = counted
    assert shown == DOCUMENT
    assert blocks > 50
    assert nodes < 0.6 * MAPS["judgeq"].tokens
    assert visibility == "auto"


def test_pointing_at_a_word_tells_what_the_library_tells(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    expect(reading(page)).to_contain_text("Point at a word")
    for word in ("walks", "tower", "37"):
        page.mouse.move(*point_at(page, word))
        expect(reading(page)).to_contain_text(f"“{word}”")
        expect(reading(page)).to_contain_text(said("judgeq", word))
        assert current(page) == word
    assert sent == [], "pointing asks nobody"

    page.mouse.click(*point_at(page, "keeper"))
    expect(reading(page)).to_contain_text("held")
    page.mouse.move(*point_at(page, "walks"))
    page.wait_for_timeout(200)
    expect(reading(page)).to_contain_text("“keeper”")
    page.mouse.click(*point_at(page, "keeper"))
    page.mouse.move(*point_at(page, "walks"))
    expect(reading(page)).to_contain_text("“walks”")


def test_the_keyboard_alone_reads_words_and_selects_them(page: Page) -> None:
    assert page.locator("#map-document [tabindex]").count() == 1, "one stop for the whole document"
    page.locator("#map-head input").focus()
    page.keyboard.press("Tab")
    expect(box(page)).to_be_focused()
    page.keyboard.press("Home")
    expect(reading(page)).to_contain_text("“Page”")
    for word in ("0", ".", "The", "😀", "keeper"):
        page.keyboard.press("ArrowRight")
        assert current(page) == word
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    place = current_place(page)
    page.keyboard.press("ArrowDown")
    assert current(page) == "keeper", "the same place in the next line with words"
    assert current_place(page) == DOCUMENT.index("keeper", place + 1)
    page.keyboard.press("ArrowUp")
    assert current_place(page) == place
    page.keyboard.press("Enter")
    expect(reading(page)).to_contain_text("held")
    page.keyboard.press("End")
    assert current(page) == '."'[0]
    area = page.evaluate("[...CSS.highlights.get('jq-word')][0].getBoundingClientRect().bottom")
    assert 0 < area < 900, "the current word is on the screen"
    place = current_place(page)
    page.keyboard.press("ArrowUp")
    assert place - 200 < current_place(page) < place - 60, "one line up, in the paragraph before"
    page.keyboard.press("ArrowDown")
    assert current_place(page) == place

    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowLeft")
    expect(page.locator("#span textarea")).to_have_value("Page 0")
    expect(page.locator("#survival caption")).to_contain_text("“Page 0” (2 tokens)")


def test_a_selection_with_the_mouse_shows_what_survived(page: Page) -> None:
    point_at(page, "walks")
    left, _, height = edges_of(page, "walks")
    _, right, _ = edges_of(page, "tower")
    page.mouse.move(left + 1, height)
    page.mouse.down()
    page.mouse.move(right - 1, height, steps=4)
    page.mouse.up()
    expect(page.locator("#span textarea")).to_have_value("walks to tower")
    rows = page.locator("#survival tr")
    expect(rows).to_have_count(2)
    start = DOCUMENT.index("walks to tower")
    share = MAPS["snapkv"].survival(start, start + len("walks to tower")).mean()
    expect(rows.nth(1)).to_contain_text(re.compile(rf"SnapKV\s*{share * 100:.0f} %"))
    expect(page.locator("#survival-layers .scatterlayer .trace")).to_have_count(2)


def test_typed_words_are_shown_in_the_text_and_missing_ones_explained(page: Page) -> None:
    page.locator("#span textarea").fill("keeper <b>431</b>")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#survival caption")).to_contain_text("keeper <b>431</b>")
    page.wait_for_function("CSS.highlights.get('jq-region')?.size === 1")
    area = page.evaluate(
        "(() => { const r = [...CSS.highlights.get('jq-region')][0]; const b = r.getBoundingClientRect();"
        " return [String(r), b.top, b.bottom] })()"
    )
    assert area[0] == "keeper <b>431</b>"
    assert 0 < area[1] < area[2] < 900
    page.locator("#span textarea").fill("zebra")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("toast-body")).to_contain_text("does not contain “zebra”")


def test_a_click_on_the_heatmap_leads_to_the_words(page: Page) -> None:
    field = page.locator("#map-heatmap .nsewdrag").first
    field.scroll_into_view_if_needed()
    area = field.bounding_box()
    assert area
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] * 0.6)
    expect(page.locator("#map-heatmap .hoverlayer .hovertext")).to_be_visible()
    page.mouse.click(area["x"] + area["width"] / 2, area["y"] + area["height"] * 0.6)
    expect(reading(page)).to_contain_text(re.compile(r"Layer 2, tokens [\d,]+ to [\d,]+\."))
    expect(reading(page)).to_be_in_viewport()
    words = page.evaluate("String([...CSS.highlights.get('jq-region')][0])")
    middle = len(DOCUMENT) / 2
    assert abs(DOCUMENT.index(words) - middle) < len(DOCUMENT) / 50

    page.locator("#map-heatmap").focus()
    for key in ("End", "Home", "ArrowDown", "ArrowDown", "Shift+ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    line = page.locator("#map-region p")
    expect(line).to_contain_text(re.compile(r"Layer 2, tokens [\d,]+ to [\d,]+\. \d+ % kept\. “"))
    told = line.inner_text().split(" kept. ")[1]
    page.keyboard.press("Enter")
    expect(reading(page)).to_contain_text(told)
    expect(reading(page)).to_be_in_viewport()


def test_choices_redraw_the_document_and_the_reading_follows(page: Page) -> None:
    def choose(name: str, option: str) -> None:
        page.locator(f"#map-{name} input").click()
        page.get_by_role("option", name=option, exact=True).click()

    choose("other", "SnapKV")
    expect(page.locator("#map-document .jq-lead")).to_contain_text("only SnapKV keeps")
    page.mouse.move(*point_at(page, "walks"))
    expect(reading(page)).to_contain_text(said("judgeq", "walks"))
    expect(reading(page)).to_contain_text(said("snapkv", "walks"))
    choose("other", "Nothing")
    choose("layer", "Layer 3")
    choose("head", "Head 1")
    expect(page.locator("#map-document .jq-lead")).to_contain_text("of layer 3 (KV head 1)")
    page.mouse.move(*point_at(page, "tower"))
    expect(reading(page)).to_contain_text("in this head.")
    choose("granularity", "Paragraph")
    expect(page.locator("#map-document .jq-title")).to_contain_text("Share of the document’s paragraphs")
    page.mouse.move(*point_at(page, "tower"))
    expect(reading(page)).to_contain_text("of its tokens in this head")
    expect(page.locator("#map-heads")).to_be_hidden()
    page.get_by_role("radio", name="SnapKV").check()
    expect(page.locator("#map-heads .heatmaplayer image")).to_be_visible()
    page.get_by_role("radio", name="Best scores").check()
    expect(page.locator("#map-heatmap")).to_contain_text("best score")


def test_a_finger_reads_words_on_a_phone(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    tab = context.new_page()
    tab.goto(address)
    unfold(tab, "layers")
    expect(tab.locator("#map-heatmap .heatmaplayer image")).to_be_visible()
    tab.touchscreen.tap(*point_at(tab, "walks"))
    expect(reading(tab)).to_contain_text("“walks”")
    expect(reading(tab)).to_be_in_viewport()
    assert overflow(tab) <= 0
    context.close()
