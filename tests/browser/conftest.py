"""The dashboard's fixtures for every test in this folder."""

from tests.browser.ui_fixture.fixtures import kitchen, open_page, story, ui, ui_chromium

__all__ = ["kitchen", "open_page", "story", "ui", "ui_chromium"]
