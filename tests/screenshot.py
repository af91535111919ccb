"""A picture of a finished run: `python -m tests.screenshot OUT.png [--url URL] [--dark] [--width 1280]`.

Drives the Chromium that JUDGEQ_CHROMIUM names against a demo that is already running.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def take(
    out: Path, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, full: bool = False
) -> None:
    """Ask the first sample's question and photograph the answers.

    Args:
        full: the whole page instead of its first screen.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("JUDGEQ_CHROMIUM"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            device_scale_factor=2,
        )
        page.goto(url)
        page.locator(".status.ready").wait_for(timeout=300_000)
        page.locator("#ask").click()
        page.locator(".card.done").first.wait_for(timeout=300_000)
        page.locator(".status.ready").wait_for(timeout=300_000)
        page.locator("#map-heatmap .main-svg").first.wait_for()
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)  # the meters grow
        page.screenshot(path=out, full_page=full)
        browser.close()


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.screenshot", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--full", action="store_true", help="the whole page, not only its first screen")
    options = parser.parse_args(argv)
    take(
        options.out,
        options.url,
        width=options.width,
        height=options.height,
        dark=options.dark,
        full=options.full,
    )


if __name__ == "__main__":
    main()
