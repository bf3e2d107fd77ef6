"""Known holes in what production uses, by pip-audit.

Findings are a failure (exit code 1). An advisory service that cannot be reached is not: it says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [
    sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / "requirements.txt"),
    "--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off",
    "--timeout", "15",
]  # fmt: skip
SECONDS = 180


def verdict(output: str, errors: str) -> tuple[int, list[str]]:
    """The exit code and what to print, from pip-audit's two outputs."""
    try:
        report = json.loads(output)
    except ValueError:
        lines = errors.strip().splitlines() or ["it said nothing"]
        return 0, [f"NOT CHECKED: the advisory service could not be asked: {lines[-1][:300]}"]
    found = [
        f"{package['name']} {package.get('version', '')}: {hole['id']},"
        f" fixed in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for package in report["dependencies"]
        for hole in package.get("vulns", [])
    ]
    return (1 if found else 0), found or [f"{len(report['dependencies'])} packages, no known hole"]


def main() -> int:
    try:
        audit = subprocess.run(
            COMMAND, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        code, lines = verdict(audit.stdout, audit.stderr)
    except subprocess.TimeoutExpired:
        code, lines = verdict("", f"no answer within {SECONDS} s")
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
