"""scripts/setup.sh where it has nothing to do, and where it cannot do it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "cat", "cksum", "date", "dirname", "rm", "tr")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What setup.sh reads, and a PATH that holds no Python."""
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/setup.sh", "scripts/uv.txt", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def setup(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(clone / "scripts" / "setup.sh"), *arguments],
        env={"PATH": str(clone / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_python_that_is_new_enough_it_says_so_in_one_line(clone: Path):
    program(clone / "bin" / "python3", "exit 1")  # its answer to "are you 3.11 or later?"

    result = setup(clone)

    assert result.returncode == 2
    assert result.stderr == (
        "Omakase needs Python 3.11 or later: install it, or name it with PYTHON=/path/to/python3.\n"
    )


def test_without_pip_anywhere_it_says_what_to_install(clone: Path):
    program(
        clone / "bin" / "python3",
        'case "$*" in\n'
        '  "-c import sys"*) exit 0 ;;\n'
        f'  *--without-pip*) "{clone}/bin/fake-venv" ;;\n'
        "  *) exit 1 ;;\n"
        "esac",
    )
    program(clone / "bin" / "fake-venv", "exit 0")
    program(clone / ".venv" / "bin" / "python", "exit 1")

    result = setup(clone)

    assert result.returncode != 0
    assert "apt-get install python3-venv" in result.stderr
    assert not list((clone / ".venv").glob(".installed-*"))


def test_what_is_installed_is_not_installed_again_until_a_requirement_changes(clone: Path):
    # stands in for a virtual environment that has pip and uv; both say what they are asked
    program(clone / "bin" / "python3", "exit 0")
    program(clone / ".venv" / "bin" / "python", "exit 0")
    program(clone / ".venv" / "bin" / "uv", f'echo "$*" >> {clone}/asked')

    assert setup(clone, "dev").returncode == 0
    assert setup(clone, "dev").stdout == ""
    assert setup(clone).stdout == "", "the dev requirements hold what running needs"
    assert (clone / "asked").read_text().splitlines() == [
        "pip install --quiet --python .venv/bin/python --require-hashes -r requirements-dev.txt"
    ]

    with (clone / "requirements.txt").open("a") as file:
        file.write("# changed\n")
    assert "Installed in" in setup(clone).stdout
    assert (clone / "asked").read_text().endswith("--require-hashes -r requirements.txt\n")
