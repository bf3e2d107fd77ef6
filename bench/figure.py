"""How a figure says what it measured: one JSON line a result, `run.py` reads them.

    {"name", "value", "unit", "floor", "ratio", "target", "note"}

`value` is ours and `floor` what it is held against, both in `unit`; `ratio` = value / floor; `target` is
"<= 1.5" or ">= 10" and is about the ratio (about the value where there is no floor), null for what is
only told.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import Any


def options(what: str | None) -> argparse.Namespace:
    """The arguments every figure takes."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    return parser.parse_args()


def say(
    name: str,
    value: float | None,
    unit: str,
    *,
    floor: float | None = None,
    target: str | None = None,
    note: str = "",
) -> None:
    """Print one result."""
    ratio = value / floor if value is not None and floor else None
    line: dict[str, Any] = {
        "name": name, "value": _short(value), "unit": unit, "floor": _short(floor),
        "ratio": _short(ratio), "target": target, "note": note,
    }  # fmt: skip
    print(json.dumps(line), flush=True)


def skip(name: str, why: str, target: str | None = None) -> None:
    """Say that something could not be measured here, and why."""
    say(name, None, "", target=target, note=f"skipped: {why}")


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _short(value: float | None) -> float | None:
    if value is None:
        return None
    return round(value) if abs(value) >= 1000 else float(f"{value:.3g}")
