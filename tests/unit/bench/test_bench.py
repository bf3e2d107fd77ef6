from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_a_figure_measures_something_on_real_processes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.accept", "--quick"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["value"] > first["floor"] > 0
    assert second["value"] >= first["value"]


def test_a_figure_that_nobody_knows_is_refused_with_the_list_of_those_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "bench/run.py", "nothing"], cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no figure nothing" in done.stderr
    assert "fanout" in done.stderr
