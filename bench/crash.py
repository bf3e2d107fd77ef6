"""The long crash test: everything that got a 2xx, after every kind of process was killed again and again.

Runs tests/chaos/crash.py and shows its counts; a count under `wrong` that is not 0 is a broken promise.
"""

from __future__ import annotations

import json
import subprocess
import sys

from bench.figure import options, say
from bench.stage import ROOT, TIED


def main() -> int:
    quick = options(__doc__).quick
    messages, kills = (200, 6) if quick else (5_000, 60)
    done = subprocess.run(
        [*TIED, sys.executable, str(ROOT / "tests" / "chaos" / "crash.py"),
         "--messages", str(messages), "--kills", str(kills)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    start = done.stdout.find("{")
    counts = json.loads(done.stdout[start:]) if start >= 0 else {}
    if not counts:
        say("crash test: broken promises", None, "", target="<= 0",
            note=f"failed: no counts, code {done.returncode}")  # fmt: skip
        return 1
    told = (
        f"{counts.get('people_2xx', 0):,} messages of people and {counts.get('agent_said', 0):,} of "
        f"agents, {sum(counts['killed'].values())} kill -9: each once, in order, without a hole; "
        f"{counts.get('in_context', 0):,} in context, {counts.get('undelivered', 0):,} undelivered"
    )
    wrong = counts["wrong"]
    say("crash test: broken promises", sum(wrong.values()), "", target="<= 0",
        note=json.dumps(wrong) if wrong else told)  # fmt: skip
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
