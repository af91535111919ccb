"""Words that light up in a real Chromium, while answers are written and when they are replayed: made up, no model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from app.sections.ask.answers import build_answers
from app.sections.ask.cards import run_cards
from app.sections.kept.callbacks import map_updates
from app.sections.kept.view import Kept, wire_kept
from app.server.task import Lane, Task
from judgeq.retention.attended import Attended
from judgeq.retention.glow import Lights
from tests.browser import overflow, served, watched
from tests.test_browser_kept import DOCUMENT, MAPS

pytestmark = pytest.mark.browser

WORDS = [
    "The",
    " keeper",
    " <b>",
    " of",
    " tower",
    " 😀",
    " walks",
    " 1147",
    " times",
    " &",
    " writes",
    " it.",
]
LINE = DOCUMENT.index("keeper <b>31</b>")
"""In the 32nd line, to which the answers attend."""


def attended(method: str, first: int) -> Attended:
    """An answer whose token `n` attends to the n-th token from `first` on, and like all others to the 9th."""
    found = MAPS[method]
    start = found.tokens_at(LINE, LINE + 1).start + first
    vectors = np.zeros((len(WORDS), found.tokens + 1), dtype=np.float32)
    vectors[:, found.document_tokens.start + 9] = 0.3
    for at in range(len(WORDS)):
        vectors[at, start + at] += 0.4
    return Attended.of_steps(found, WORDS, vectors)


def made_up() -> Any:
    """A run of two methods that has read and written nothing."""
    run = SimpleNamespace(
        lanes=[Lane(method, retention=MAPS[method]) for method in MAPS],
        task=Task(DOCUMENT, "Where?", methods=tuple(MAPS)),
        finished=Event(),
        phase="writing",
        gone=False,
        prompt_tokens=MAPS["judgeq"].tokens,
        full_kv_bytes=10_000_000,
        computed="",
        layer=None,
        lit={},
        earlier=(),
        retention=MAPS,
    )
    run.look = lambda: run
    return run


def write(run: Any, count: int) -> None:
    """Both answers have so many tokens."""
    lights = Lights(MAPS["judgeq"])
    for at, lane in enumerate(run.lanes):
        found = attended(lane.method, 20 * at)
        lane.text = "".join(WORDS[:count])
        lane.steps = lights.steps(found)[:count]
        lane.leaning = lights.leaning(found.specific.sum(0))
        lane.finish = "end" if count == len(WORDS) else None
    if count == len(WORDS):
        run.finished.set()
        run.phase = "done"


def follow() -> Iterator[tuple[Any, ...]]:
    """As the page's own callback: the map once, cards for every few tokens."""
    run = made_up()
    for count in (1, 3, 5, 7, 9, len(WORDS)):
        write(run, count)
        yield run, run_cards(run), *map_updates(run, count == 1)
        time.sleep(0.3)


@pytest.fixture(scope="module")
def address(browser: Browser) -> Iterator[str]:
    with gr.Blocks(analytics_enabled=False) as demo:
        held = gr.State(None)
        with gr.Column(elem_id="results"):
            answers = build_answers()
            kept = Kept()
        wire_kept(kept, held)
        answers.ask.click(follow, None, [held, answers.cards, *kept.shown])
    with served(demo) as url:
        yield url


def lit(page: Page, name: str = "jq-glow-3") -> list[str]:
    """The words that light up, each as often as it does."""
    return page.evaluate(f"[...(CSS.highlights.get('{name}') ?? [])].map(String)")


def strongest(method: str, token: int) -> str:
    """The word that a token attends to most, by the library."""
    found = attended(method, 20 * list(MAPS).index(method))
    spans, sums = found.units("word", specific=True)
    return DOCUMENT[slice(*spans[np.argmax(sums[token] * found.found.words_among(spans))])]


RECORDS = """() => {
  window.lit = [];
  const set = CSS.highlights.set.bind(CSS.highlights);
  CSS.highlights.set = (name, value) => {
    const words = [...value].map(String);
    if (name === "jq-glow-3" && words.length) window.lit.push(words.join(" "));
    return set(name, value);
  };
}"""


@contextmanager
def answered(tab: Page, address: str, **how: Any) -> Iterator[Page]:
    """The page with both answers; `window.lit` has what lit up while they were written."""
    with watched(tab, address, alone=False, **how) as page:
        page.evaluate(RECORDS)
        page.locator("#ask-again").click()
        expect(page.locator("#cards .jq-replay input")).to_be_visible(timeout=60_000)
        yield page


@pytest.fixture(scope="module")
def page(tab: Page, address: str) -> Iterator[Page]:
    with answered(tab, address) as page:
        yield page


def complaints(page: Page) -> str:
    """What axe finds in the answers."""
    found = Axe().run(page, context="#cards")
    return found.generate_report() if found.violations_count else ""


def test_words_light_up_while_answers_are_written(page: Page) -> None:
    seen = page.evaluate("window.lit")
    assert len(set(seen)) >= 4, seen
    words = {word for words in seen for word in words.split()}
    assert words & {strongest("judgeq", at) for at in range(3, 9)}
    assert not complaints(page)


def test_holding_a_word_lights_where_it_came_from(page: Page) -> None:
    card = page.locator('.card[data-method="judgeq"]')
    expect(card.locator(".jq-lean q").first).to_contain_text("keeper <b>31</b>")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    card.locator("[data-word]", has_text="1147").hover()
    assert strongest("judgeq", 7) in lit(page)
    assert lit(page, "jq-said") == ["1147"]
    page.locator('.card[data-method="snapkv"] [data-word]', has_text="walks").hover()
    assert set(lit(page)) == {strongest("snapkv", 6)}
    slider = page.locator("#cards .jq-replay input")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator("#cards .jq-replay output")).to_have_text(f"token 1 of {len(WORDS)}")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#cards .jq-replay output")).to_have_text(f"token 6 of {len(WORDS)}")
    assert lit(page, "jq-said") == ["😀", "😀"], "of both answers"
    expect(page.locator(".strip i").first).to_be_visible()
    assert sent == [], "a replay asks nobody"
    page.get_by_role("radio", name="SnapKV").check()
    expect(page.locator("#map-document")).to_contain_text("SnapKV keeps")
    page.wait_for_function(
        """[...CSS.highlights.get("jq-glow-3")].some((range) =>
          range.startContainer.parentElement?.closest("#map-document") && `${range}`)"""
    )


def test_the_keyboard_alone_goes_through_an_answer(page: Page) -> None:
    page.locator('.card[data-method="judgeq"] .answer').focus()
    for word in ("The", "keeper", "<b>"):
        page.keyboard.press("ArrowRight")
        assert lit(page, "jq-said") == [word]
    page.keyboard.press("End")
    assert lit(page, "jq-said") == ["it."]
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Replay")).to_be_visible()


def test_a_finger_holds_words_on_a_dark_phone_and_axe_finds_nothing(browser: Browser, address: str) -> None:
    context = browser.new_context(has_touch=True, is_mobile=True)
    with answered(context.new_page(), f"{address}?__theme=dark", width=390) as tab:
        tab.locator('.card[data-method="judgeq"] [data-word]', has_text="tower").tap()
        assert strongest("judgeq", 4) in lit(tab)
        assert overflow(tab) <= 0
        assert not complaints(tab)
    context.close()
