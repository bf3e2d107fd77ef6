"""The long soak on ECS: 200 tasks die of everything in bad weather, workers are killed, and the ledger balances.

Runs tests/chaos/soak.py and shows its counts; a count under `wrong` that is not 0 is a broken promise.
"""

from __future__ import annotations

import json
import subprocess
import sys

from bench.figure import options, say, skip
from bench.stage import ROOT, TIED

NAME = "soak of tasks on ECS: broken promises"


def main() -> int:
    quick = options(__doc__).quick
    tasks, kills = (60, 6) if quick else (200, 20)
    done = subprocess.run(
        [*TIED, sys.executable, str(ROOT / "tests" / "chaos" / "soak.py"), "--tasks", str(tasks),
         "--kills", str(kills), "--rest-s", "600"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "NpmError" in done.stderr:
        skip(NAME, done.stderr.strip().splitlines()[-1], target="<= 0")
        return 0
    if not done.stdout.startswith("{"):
        say(NAME, None, "", target="<= 0", note=f"failed: no counts, code {done.returncode}")
        return 1
    told = json.loads(done.stdout)
    wrong, total = told["wrong"], told["counts"]
    faults, killed = sum(told["faults"].values()), sum(told["killed"].values())
    note = (
        f"{total['tasks']:,} tasks in {total['turns']:,} turns of pipelines and alone, all stop codes; "
        f"{faults:,} faults of AWS on the wire, {killed} kill -9; {total['accepted']:,} accepted = "
        + " + ".join(
            f"{total.get(state, 0):,} {state}"
            for state in ("in_context", "queued", "leased", "cancelled", "undelivered", "moved")
        )
    )
    if missing := told["never occurred"]:  # what was not tried was not shown
        wrong[f"never occurred: {', '.join(missing)}"] = len(missing)
    say(NAME, sum(wrong.values()), "", target="<= 0", note=json.dumps(wrong) if wrong else note)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
