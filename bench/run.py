"""`make bench`: every figure, measured again on this machine, each as a ratio inside one run.

    python bench/run.py [FIGURE …] [--quick] [--write-readme]

A figure is a program of its own (`python -m bench.FIGURE`), which prints its results as JSON lines (see
figure.py); it is given so much time, and ends with all it has started when that is over or at Ctrl-C.
`--write-readme` puts the table between the marks in README.md. Exit code 1 when a target is missed or a
figure fails. The machine's load is noted before each figure: above 1 a core is busy with other things.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- figures: begin (make bench ARGS=--write-readme) -->", "<!-- figures: end -->"
FIGURES: dict[str, float] = {
    "accept": 120, "publish": 240, "fanout": 900, "rooms": 600, "idle": 600, "storm": 600,
    "lease": 300, "store": 600, "hook": 120, "watch": 300, "growth": 900, "start": 1_500, "crash": 1_800,
    "soak": 1_800,
}  # fmt: skip
"""In this order; seconds each may take."""
BUSY = 1.0


@dataclass
class Result:
    """One line of the table."""

    figure: str
    name: str
    value: float | None
    unit: str
    floor: float | None
    ratio: float | None
    target: str | None
    note: str
    load: float

    @property
    def verdict(self) -> str:
        """`ok`, `missed`, `-` for what is only told, or why there is nothing."""
        if self.value is None:
            return "skipped" if self.note.startswith("skipped") else "failed"
        if not self.target:
            return "-"
        relation, _, wanted = self.target.partition(" ")
        found = self.value if self.ratio is None else self.ratio
        kept = found <= float(wanted) if relation == "<=" else found >= float(wanted)
        return "ok" if kept else "missed"

    @property
    def measured(self) -> str:
        """Ours, and what it is held against."""
        if self.value is None:
            return self.note
        ours = f"{_number(self.value)} {self.unit}".strip()
        return ours if self.floor is None else f"{ours} / {_number(self.floor)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 or value == int(value) else f"{value:.3g}"


def read(figure: str, line: str, load: float) -> Result | None:
    """A result out of a line of a figure's output; None when it is something else."""
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    unit = said.get("unit", "ms" if "value_ms" in said else "")
    target = said.get("target")
    if isinstance(target, int | float):
        target = f"<= {target}"
    return Result(
        figure, said["name"], said.get("value", said.get("value_ms")), unit,
        said.get("floor", said.get("floor_ms")), said.get("ratio"), target, said.get("note", ""), load,
    )  # fmt: skip


@dataclass
class Bench:
    """The figures that were asked for, and what they gave."""

    quick: bool
    results: list[Result] = field(default_factory=list)

    def measure(self, figure: str) -> None:
        """Run one figure; what it says goes into the results."""
        load = os.getloadavg()[0]
        busy = " (busy: believe ratios only)" if load > BUSY * (os.cpu_count() or 1) else ""
        print(f"\n{figure} · load {load:.1f}{busy}", flush=True)
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", f"bench.{figure}", *(["--quick"] if self.quick else [])],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        signal.signal(signal.SIGALRM, lambda *_: process.terminate())
        signal.setitimer(signal.ITIMER_REAL, FIGURES[figure])
        found = 0
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if (result := read(figure, line, load)) is None:
                    print(line, end="", flush=True)
                    continue
                found += 1
                self.results.append(result)
                show(result)
            code = process.wait()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            end(process)
        if code < 0 or code == 143 or not found:
            why = f"failed: code {code} after {time.monotonic() - began:.0f} s"
            self.results.append(Result(figure, figure, None, "", None, None, None, why, load))
            show(self.results[-1])


def end(process: subprocess.Popen[str]) -> None:
    """SIGTERM lets it end what it started; SIGKILL for the session when it does not."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        if process.poll() is None:
            process.terminate()
        process.wait(30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def show(result: Result) -> None:
    """One line for the terminal."""
    ratio = "" if result.ratio is None else f"{result.ratio:g}x"
    target = result.target or ""
    print(
        f"  {result.verdict:<7} {ratio:>8} {target:>8}  {result.name}: {result.measured}",
        flush=True,
    )
    if result.note and result.value is not None:
        print(f"{'':28}{result.note}", flush=True)


def table(results: list[Result], *, quick: bool) -> str:
    """The README's table."""
    lines = [
        "| what / against what, in the same run | ratio | target | | measured | command |",
        "|---|---|---|---|---|---|",
    ]
    for one in results:
        ratio = "" if one.ratio is None else f"{one.ratio:g}\u00d7"
        target = (one.target or "").replace("<=", "≤").replace(">=", "≥")
        measured = one.measured + (f" ({one.note})" if one.note and one.value is not None else "")
        command = f"`make bench ARGS={one.figure}`"
        lines.append(
            f"| {one.name} | {ratio} | {target} | {one.verdict} | {measured} | {command} |"
        )
    loads = [one.load for one in results]
    lines += [
        "",
        (
            f"Measured {time.strftime('%Y-%m-%d')} on {os.cpu_count()} cores "
            f"({platform.machine()}, Python {platform.python_version()}), load {min(loads):.1f} to "
            f"{max(loads):.1f}{', quick' if quick else ''}. Ratios are medians of rounds taken in turns; "
            "believe them rather than the figures beside them."
        ),
    ]
    return "\n".join(lines)


def write_readme(text: str, measured: set[str]) -> None:
    """Replace what is between the marks; figures that were not measured now keep their lines."""
    readme = README.read_text()
    before, found, rest = readme.partition(BEGIN)
    earlier, closed, after = rest.partition(END)
    rows = [line for line in earlier.splitlines() if "ARGS=" in line]
    kept = [line for line in rows if _figure_of(line) not in measured]
    if kept:
        head, ruler, *lines = text.splitlines()
        order = {figure: place for place, figure in enumerate(FIGURES)}
        fresh = [line for line in lines if line.startswith("|")]
        told = [line for line in lines if not line.startswith("|")]
        body = sorted(kept + fresh, key=lambda line: order.get(_figure_of(line), len(order)))
        text = "\n".join([head, ruler, *body, *told])
    if not (found and closed):
        raise SystemExit(f"README.md has no '{BEGIN}' and '{END}'")
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _figure_of(line: str) -> str:
    return line.partition("ARGS=")[2].partition("`")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the figures again.")
    parser.add_argument("figures", nargs="*", help=f"of: {', '.join(FIGURES)} (all of them)")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer rounds")
    parser.add_argument("--write-readme", action="store_true", help="put the table into README.md")
    given = parser.parse_args()
    if unknown := set(given.figures) - FIGURES.keys():
        parser.error(
            f"there is no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(quick=given.quick)
    for figure in given.figures or FIGURES:
        bench.measure(figure)
        if given.write_readme:  # after each: who breaks off keeps what there is
            write_readme(
                table(bench.results, quick=given.quick), {one.figure for one in bench.results}
            )
    results = bench.results
    count = {
        word: sum(one.verdict == word for one in results)
        for word in ("ok", "missed", "failed", "skipped")
    }
    print("\n" + ", ".join(f"{number} {word}" for word, number in count.items()))
    return 1 if count["missed"] or count["failed"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
