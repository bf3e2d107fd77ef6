"""Fixtures of the dashboard's tests: `from tests.browser.ui_fixture.fixtures import *` is in conftest.py."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.ui_fixture.kitchen import Kitchen
from tests.browser.ui_fixture.server import UiServer
from tests.browser.ui_fixture.story import Story, serve

CHROMIUM = "/usr/bin/chromium"
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OpenPage = Callable[..., Page]
_FAILED_REQUEST = re.compile(r"Failed to load resource|WebSocket connection to")

expect.set_options(timeout=10_000)


@pytest.fixture(scope="session")
def ui_chromium() -> Iterator[Browser]:
    """One real Chromium for all of the dashboard's tests."""
    if not Path(CHROMIUM).exists() and not os.environ.get("CI"):
        pytest.skip("no chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def kitchen() -> Kitchen:
    return Kitchen()


@pytest.fixture
def story(kitchen: Kitchen) -> Story:
    return serve(kitchen)


@pytest.fixture
def ui(kitchen: Kitchen) -> Iterator[UiServer]:
    with UiServer(kitchen) as server:
        yield server


@pytest.fixture
def open_page(ui_chromium: Browser, ui: UiServer) -> Iterator[OpenPage]:
    """Opens a path in a context of its own; the test fails when a page reports an error, the CSP's too."""
    errors: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not _FAILED_REQUEST.search(message.text):
            errors.append(message.text)

    def opened(path: str, **options: object) -> Page:
        context = ui_chromium.new_context(
            **({"viewport": {"width": 1440, "height": 900}} | options)
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(ui.url + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors, errors
