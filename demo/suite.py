"""The shop's test suite, run as anybody would: `python -m unittest` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 60
_HEADING = re.compile(r"^(?:FAIL|ERROR): \S+ \(([\w.]+)\)", re.MULTILINE)
_NOT_LOADED = "unittest.loader._FailedTest."


@dataclass(frozen=True)
class Result:
    """How the suite went: test ids such as `tests.test_cart.CartTest.test_x`, `output` as printed."""

    ran: int
    failing: tuple[str, ...]
    output: str

    @property
    def passed(self) -> int:
        """How many passed."""
        return max(0, self.ran - len(self.failing))

    def __str__(self) -> str:
        if not self.failing:
            return f"all {self.ran} tests pass"
        return f"{len(self.failing)} of {self.ran} tests fail"


@dataclass(frozen=True)
class Coverage:
    """Lines that can run, and those of them that the suite ran, per file."""

    files: Mapping[str, tuple[int, int]]

    def __str__(self) -> str:
        ran = sum(ran for ran, _ in self.files.values())
        total = sum(total for _, total in self.files.values())
        return f"{ran} of {total} lines run by the suite ({100 * ran // max(1, total)} %)"


def quiet_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a tool needs of our environment: none of the run's token, no byte code left behind."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **(extra or {})}


def run(folder: Path, names: Sequence[str] = ()) -> Result:
    """Run the whole suite, or these tests only."""
    arguments = list(names) or ["discover", "-s", "tests", "-t", "."]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "unittest", *arguments],
            cwd=folder,
            env=quiet_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Result(1, ("suite.timeout",), f"The tests did not end within {TIMEOUT_S} s.")
    output = done.stderr + done.stdout
    failing = tuple(
        dict.fromkeys(name.removeprefix(_NOT_LOADED) for name in _HEADING.findall(output))
    )
    ran = re.search(r"^Ran (\d+) tests?", output, re.MULTILINE)
    if done.returncode and not failing:
        failing = ("suite.start",)
    return Result(int(ran[1]) if ran else len(failing), failing, output)


_MEASURE = """
import io, json, os, sys, trace, unittest
here = os.getcwd()
sys.path.insert(0, here)
tracer = trace.Trace(count=1, trace=0, ignoredirs=[sys.prefix, sys.exec_prefix])
quiet = unittest.TextTestRunner(stream=io.StringIO())
out, sys.stdout = sys.stdout, io.StringIO()
tracer.runfunc(lambda: quiet.run(unittest.defaultTestLoader.discover("tests", top_level_dir=".")))
hits = {}
for (name, line), _ in tracer.results().counts.items():
    hits.setdefault(os.path.relpath(name, here), set()).add(line)
def lines(code):
    found = {line for _, _, line in code.co_lines() if line}
    for constant in code.co_consts:
        if hasattr(constant, "co_lines"):
            found |= lines(constant)
    return found
counts = {}
for name in sorted(os.listdir("teashop")):
    if name.endswith(".py"):
        path = os.path.join("teashop", name)
        wanted = lines(compile(open(path, encoding="utf-8").read(), path, "exec"))
        counts[path] = (len(wanted & hits.get(path, set())), len(wanted))
print(json.dumps(counts), file=out)
"""


def coverage(folder: Path) -> Coverage:
    """Count the lines that the suite runs, with the standard library's own `trace`."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE],
        cwd=folder,
        env=quiet_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    counts = json.loads(done.stdout) if done.returncode == 0 else {}
    return Coverage({name: (pair[0], pair[1]) for name, pair in counts.items()})
