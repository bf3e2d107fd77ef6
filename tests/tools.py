"""Tools that a test needs and a machine may lack."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import npm
import pytest


def lacking(what: str) -> NoReturn:
    """Something is missing: the test skips on a laptop and fails in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def npm_packages(folder: Path, *, then: str | None = None) -> Path:
    """scripts/npm.py's install; where it cannot be had the test skips on a laptop and fails in CI."""
    try:
        return npm.install(folder, then=then)
    except npm.NpmError as error:
        lacking(str(error))
