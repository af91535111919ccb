"""What a visitor takes along, in a real Chromium: files open again without a network, a link brings settings back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Download, Page, expect

from judgeq._assets import assets_path
from judgeq.export import Comparison, Settings
from judgeq.inference.answers import Answer, Timing
from judgeq.retention import RetentionMap
from tests.browser import SAMPLE, overflow

pytestmark = [pytest.mark.browser, pytest.mark.embedded]


def taken(page: Page, kind: str) -> Download:
    with page.expect_download() as found:
        page.locator(f"#take-{kind}").click()
    return found.value


def opened(browser: Browser, file: Path, **options: object) -> Iterator[tuple[Page, list[str]]]:
    """A file in a browser without a network, and whatever it asked for or complained about."""
    context = browser.new_context(offline=True, **options)  # type: ignore[arg-type]
    tab = context.new_page()
    heard: list[str] = []
    tab.on("console", lambda line: heard.append(line.text))
    tab.on("pageerror", lambda error: heard.append(str(error)))
    tab.on("request", lambda sent: heard.append(sent.url) if not sent.url.startswith("data:") else None)
    tab.goto(file.as_uri())
    yield tab, heard
    context.close()


def test_a_run_is_taken_along_in_every_form_and_its_link_brings_it_back(
    page: Page, browser: Browser, tmp_path: Path
) -> None:
    """The stored run; `tests/test_takeaway.py` has others."""
    table, values, picture, file = (tmp_path / name for name in ("t.csv", "v.json", "p.png", "page.html"))
    for path, kind in ((table, "table"), (values, "values"), (picture, "picture"), (file, "page")):
        taken(page, kind).save_as(path)
    rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8-sig"), newline="")))
    assert {row["method"] for row in rows} == {"full", "judgeq", "snapkv"}
    answers = json.loads(values.read_text("utf-8"))["answers"]
    assert [RetentionMap.from_json(answer["retention"]).document_text for answer in answers] == [SAMPLE.document] * 3
    assert Image.open(picture).size == (1200, 630)

    for tab, heard in opened(browser, file, color_scheme="dark", viewport={"width": 390, "height": 844}):
        expect(tab.get_by_role("heading", level=1)).to_have_text(SAMPLE.question)
        expect(tab.locator("article").first).to_contain_text(answers[0]["answer"].strip())
        expect(tab.locator(".panel:visible")).to_have_count(1)
        expect(tab.locator(".panel:visible")).to_contain_text(f"Judge Q keeps {SAMPLE.budget - 8} of")
        tab.get_by_role("radio", name="Judge Q").focus()
        tab.keyboard.press("ArrowRight")
        expect(tab.locator(".panel:visible")).to_contain_text(f"SnapKV keeps {SAMPLE.budget} of")
        assert tab.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(15, 17, 21)"
        heat = tab.locator(".panel:visible svg.heat")
        assert heat.bounding_box()["width"] > 200
        assert tab.evaluate(
            "async (source) => { const image = new Image(); image.src = source; await image.decode(); "
            "return [image.naturalWidth, image.naturalHeight] }",
            heat.locator("image").get_attribute("href"),
        ) == [200, 30]
        assert overflow(tab) <= 0
        assert heard == [file.as_uri()], "asks for nothing, complains about nothing"

    link = page.locator("#take-link").locator("input, textarea").input_value()
    assert f"rows={SAMPLE.budget}&methods=full%2Cjudgeq%2Csnapkv&longest=24" in link
    tab = page.context.new_page()
    tab.goto(link.replace(f"sample={SAMPLE.name}", "sample=lighthouse").replace(f"rows={SAMPLE.budget}", "rows=77"))
    expect(tab.locator("#rows input")).to_have_value("77")
    expect(tab.locator("#question textarea")).to_have_value(SAMPLE.question)
    expect(tab.locator("#document textarea")).to_have_value(
        assets_path("samples", "lighthouse.txt").read_text("utf-8").strip()
    )
    tab.close()


def test_the_pages_policy_lets_nothing_run_that_was_put_into_it(
    browser: Browser, tmp_path: Path, hostile_page: str
) -> None:
    file = tmp_path / "changed.html"
    evil = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\"><i style=color:red>i</i>"
    file.write_text(hostile_page.replace("</main>", f"{evil}</main>"), encoding="utf-8")
    for tab, heard in opened(browser, file):
        tab.wait_for_timeout(300)
        assert tab.title().endswith("Judge Q")
        assert sum("Content Security Policy" in line for line in heard) >= 3
    file.write_text(hostile_page, encoding="utf-8")
    for tab, heard in opened(browser, file):
        assert heard == [file.as_uri()]
        expect(tab.get_by_text("<script>alert(1)</script>").first).to_be_visible()


@pytest.fixture
def hostile_page() -> str:
    """A page about a document that tries what it can."""
    document = "<script>alert(1)</script> </style><img src=x onerror=alert(2)> " * 5
    spans = tuple((at, at + 5) for at in range(0, len(document) - 5, 5))
    found = RetentionMap(
        method="judgeq",
        model="m",
        budget=3,
        text=document,
        offsets=spans,
        document=(0, len(document)),
        kept=((np.array([0, 2, 5]),) * 2,) * 2,
    )
    answer = Answer(
        text="<script>alert(3)</script>",
        method="judgeq",
        model="m",
        budget=3,
        prompt_tokens=len(spans),
        retention=found,
        kv_bytes=10,
        kv_bytes_at_end=None,
        full_kv_bytes=100,
        peak_rows=1,
        timing=Timing(1.0, 1.0, 1.0),
        finish="end",
    )
    return Comparison("</title><script>alert(4)</script>", Settings("m", ("judgeq",), 3), [answer]).to_html()


def test_soft_tokens_are_brought_and_given_back_and_costs_elsewhere_calculated(page: Page) -> None:
    page.get_by_role("button", name="Model and soft tokens").click()
    folder = assets_path("soft_tokens", "smollm2-135m")
    files = [str(folder / name) for name in ("judgeq_config.json", "soft_tokens.safetensors")]
    for chosen, said in (
        (files[:1], "soft_tokens.safetensors is not among yours"),
        (files, "your own 32 soft"),
    ):
        with page.expect_file_chooser() as chooser:
            page.locator("#token-files").click()
        chooser.value.set_files(chosen)
        expect(page.locator("#token-told")).to_contain_text(said)
    page.get_by_role("button", name="Back to the default ones").click()
    expect(page.locator("#token-told")).to_contain_text("the default soft tokens")
    expect(page.locator("#model-load")).to_have_count(0)

    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="What would it cost elsewhere?").click()
    result = page.locator("#calculated")
    expect(result).to_contain_text("A calculation, not a measurement")
    page.get_by_label("Length in tokens").fill("8192")
    expect(result).to_contain_text("of 8,192 tokens with all rows")
    page.get_by_label("Length in tokens").fill("999999")
    expect(result).to_contain_text("reads 1 to 131,072 tokens")
    assert overflow(page) <= 0
