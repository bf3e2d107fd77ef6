"""How many sockets one web process holds that have nothing to say, and what each of them costs.

Each is subscribed to one of 100 runs and answers heartbeats. Memory is the process's proportional set
size, after 500 sockets and after all of them; what the kernel keeps for a socket is not in it. The
clients come from several loopback addresses, since one has ports for 28,000 connections only.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

from bench.figure import options, say, skip
from bench.load import NoCompilerError, build, ours
from bench.stage import Stage

WANTED = 20_000
SPARE = 150
"""Descriptors that a process needs for everything else."""
FIRST = 500


def held_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError("no Pss")


def threads(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    quick = options(__doc__).quick
    try:
        build()
    except NoCompilerError as error:
        skip("idle sockets", str(error), "<= 8192")
        return
    with Stage() as stage:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE - FIRST
        count = 500 if quick else min(WANTED, limit)
        web = stage.web()
        runs = [run_id for run_id, _ in stage.runs(100)]
        pid = web.pid
        with ours(stage, web, [runs[i % 100] for i in range(FIRST)]):
            before, threads_before = held_bytes(pid), threads(pid)
            with ours(stage, web, [runs[i % 100] for i in range(count)], patience_s=300) as load:
                each = (held_bytes(pid) - before) / count
                more = threads(pid) - threads_before
                began, spent = time.monotonic(), cpu_s(pid)
                time.sleep(1 if quick else 15)  # what is measured is time passing
                busy = (cpu_s(pid) - spent) / (time.monotonic() - began)
                opened = count / load.connected_s
    note = f"{more:+d} threads; idle it takes {busy:.1%} of a core; {opened:.0f} opened a second"
    short = count + FIRST < WANTED and not quick
    if short:
        note += f"; RLIMIT_NOFILE {limit + SPARE + FIRST} is the machine's limit"
    target = (
        f">= {WANTED}"  # also where the system allows fewer files: then it is missed, and says why
    )
    say("sockets held by one process", count + FIRST, "sockets", target=None if quick else target,
        note=note)  # fmt: skip
    say("memory of an idle socket", each, "bytes", target="<= 8192", note=f"over the first {FIRST}")
    say("threads that sockets add", more, "threads", target="<= 0")


if __name__ == "__main__":
    main()
