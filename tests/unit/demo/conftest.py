"""A tea shop of the test's own: the demo's repository and one agent's working copy of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.seed import TEMPLATE
from demo.workshop import Workshop, create_repository


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repos" / "shop"
    assert create_repository(folder, TEMPLATE)
    return folder


@pytest.fixture
def shop(repo: Path) -> Iterator[Workshop]:
    opened = Workshop.open(repo, "Nori")
    yield opened
    opened.close()
