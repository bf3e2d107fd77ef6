"""The README's picture, made from a running dashboard: `make run`, then

    .venv/bin/python scripts/screenshot.py http://localhost:8000 docs/pictures

Signs in, asks Nori to rename something, waits for the answer, and takes `dashboard.png` and `log.png`.
Needs Chromium on the path (`make test` installs it where it can).
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

PATIENCE_MS = 120_000


def dashboard(page: Page, address: str, folder: Path) -> None:
    """A conversation beside Mission Control."""
    page.goto(address)
    page.get_by_label("Your name").fill("Anna")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Tea shop").first.click()
    page.get_by_role("button", name="Chat with Nori").click(timeout=PATIENCE_MS)
    composer = page.get_by_role("textbox", name=re.compile("^Message to"))
    composer.fill("call it total_price")
    composer.press("Enter")
    mine = page.get_by_role("article", name="Anna wrote").last
    expect(mine.locator(".ticks")).to_have_attribute(
        "data-state", "in_context", timeout=PATIENCE_MS
    )
    reply = page.get_by_role("article", name="Nori said").filter(has_text="total_price").last
    expect(reply).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("streaming-message")).to_have_count(0, timeout=PATIENCE_MS)
    page.screenshot(path=folder / "dashboard.png")


def log(page: Page, folder: Path) -> None:
    """The Log Viewer."""
    page.get_by_role("link", name="Log").click()
    expect(page.get_by_role("region", name="Log lines")).to_be_visible()
    expect(page.locator(".log-line, [data-line]").first).to_be_visible(timeout=PATIENCE_MS)
    page.screenshot(path=folder / "log.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("Chromium is not on the path: apt-get install chromium", file=sys.stderr)
        return 2
    given.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        dashboard(page, given.address, given.folder)
        log(page, given.folder)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
