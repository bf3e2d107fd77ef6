"""Agents as processes of this machine, each in a session of its own, so that they outlive the worker.

{state_dir}/runs/{run_id}/process.json   {"pid", "started": clock ticks since boot, "generation"}, written
                                         once for each generation
{state_dir}/runs/{run_id}/output.log     what the process printed, should nobody have caught it
and what agent_hooks keeps there (agent_hooks/state.py), since OMAKASE_HOME is {state_dir}/runs
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from chat.errors import Unavailable
from chat.ports import Alive, Started
from chat.runs import Run

_OURS = frozenset({"SECRET_KEY", "REDIS_URL", "BROKER_URL", "DATABASE"})


def _passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment without what opens our own doors: an agent runs anybody's code."""
    return {
        name: value
        for name, value in environ.items()
        if name not in _OURS and not name.startswith("AWS_")
    }


class LocalRuntime:
    """`ports.Runtime` on this machine. `command(run)` gives the argv and the working folder."""

    def __init__(self, folder: Path, command: Callable[[Run], tuple[list[str], Path]]) -> None:
        self._folder = folder
        self._command = command

    def start(self, run: Run, *, token: str, env: Mapping[str, str]) -> Started:
        """Start the run's process; the same run in the same generation again finds the one that was started.
        Raises OSError, and Unavailable while the process of the generation before is there."""
        del token  # it is in `env`, where the agent's side looks for it
        folder = self._folder / run.id
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        note = folder / "process.json"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            last = self._generation(run.id)
            if last != run.generation and self._living(_handle(run.id, last)) is not None:
                raise Unavailable("The process before is still there.")
            if not note.exists() or last != run.generation:
                argv, cwd = self._command(run)
                with (folder / "output.log").open("ab") as output:
                    process = subprocess.Popen(
                        argv,
                        cwd=cwd,
                        # the agent's side keeps its files here too: two installations on one
                        # machine share nothing
                        env={**_passed_on(os.environ), "OMAKASE_HOME": str(self._folder), **env},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                # Somebody must wait for it, or it stays behind as a zombie of this worker. Its start is
                # read before anybody waits for it: until then it is there, if only as a zombie
                stat = _stat(process.pid)
                threading.Thread(target=process.wait, daemon=True).start()
                written = {
                    "pid": process.pid,
                    "started": stat[1] if stat else None,
                    "generation": run.generation,
                }
                temporary = note.with_suffix(".new")
                temporary.write_text(json.dumps(written))
                temporary.rename(note)
        return Started(_handle(run.id, run.generation))

    def stop(self, handle: str, *, grace_s: float, reason: str = "") -> None:
        """SIGTERM to the process, SIGKILL to its whole group when the grace is over, or at once to what
        a process that is gone has left behind."""
        del reason  # a signal carries none
        pid = self._living(handle)
        if pid is None:
            self._kill(handle)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        timer = threading.Timer(grace_s, self._kill, [handle])
        timer.daemon = True
        timer.start()

    def describe(self, handles: Sequence[str]) -> dict[str, Alive]:
        """Whether each process is there; its exit code is the wrapper's to tell."""
        return {handle: Alive(running=self._living(handle) is not None) for handle in handles}

    def settle(
        self, runs: Sequence[Run], *, overdue: Collection[str], young: Collection[str] = ()
    ) -> dict[str, Alive]:
        """Nothing is held for a process; the wrapper ends it with its run."""
        del overdue, young
        return {run.id: Alive(running=False) for run in runs}

    def _kill(self, handle: str) -> None:
        noted = self._noted(handle)
        if noted is None:
            return
        pid, started = noted
        stat = _stat(pid)
        # Its children may have outlived it. A group's number is not given to a new process while the
        # group is there, so without a process of that number the group is still the old one.
        if stat is None or stat[1] == started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def _living(self, handle: str) -> int | None:
        noted = self._noted(handle)
        if noted is None:
            return None
        pid, started = noted
        stat = _stat(pid)
        return pid if stat is not None and stat[0] not in "ZX" and stat[1] == started else None

    def _noted(self, handle: str) -> tuple[int, int | None] | None:
        run_id, _, generation = handle.removeprefix("local:").partition(".")
        written = self._written(run_id)
        # another process has come after it: it is gone
        if written is None or written.get("generation", 0) != int(generation or 0):
            return None
        return int(written["pid"]), written["started"]

    def _generation(self, run_id: str) -> int:
        """Of the process that was started last."""
        written = self._written(run_id)
        return int(written.get("generation", 0)) if written is not None else 0

    def _written(self, run_id: str) -> dict[str, Any] | None:
        try:
            written: dict[str, Any] = json.loads(
                (self._folder / run_id / "process.json").read_text()
            )
        except FileNotFoundError:
            return None
        return written


def living(folder: Path) -> list[int]:
    """The wrappers that were started there and are still at work, also by a `make run` that was killed."""
    found = []
    for note in folder.glob("*/process.json"):
        with contextlib.suppress(FileNotFoundError):
            written = json.loads(note.read_text())
            stat = _stat(written["pid"])
            if stat is not None and stat[0] not in "ZX" and stat[1] == written["started"]:
                found.append(int(written["pid"]))
    return found


def _handle(run_id: str, generation: int) -> str:
    return f"local:{run_id}.{generation}" if generation else f"local:{run_id}"


def _stat(pid: int) -> tuple[str, int] | None:
    """A process's state letter, and when it began, in clock ticks since boot (proc(5), fields 3 and 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])
