"""Agents as processes of this machine, each in a session of its own, so that they outlive the worker.

{state_dir}/runs/{run_id}/process.json   {"pid", "started": clock ticks since boot}, written once
{state_dir}/runs/{run_id}/output.log     what the process printed, should nobody have caught it
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from chat.ports import Alive
from chat.runs import Run


class LocalRuntime:
    """`ports.Runtime` on this machine. `command(run)` gives the argv and the working folder."""

    def __init__(self, folder: Path, command: Callable[[Run], tuple[list[str], Path]]) -> None:
        self._folder = folder
        self._command = command

    def start(self, run: Run, *, token: str, env: Mapping[str, str]) -> str:
        """Start the run's process; the same run again finds the one that was started. Raises OSError."""
        del token  # it is in `env`, where the agent's side looks for it
        folder = self._folder / run.id
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        note = folder / "process.json"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not note.exists():
                argv, cwd = self._command(run)
                with (folder / "output.log").open("ab") as output:
                    process = subprocess.Popen(
                        argv,
                        cwd=cwd,
                        env={**os.environ, **env},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                # somebody must wait for it, or it stays behind as a zombie of this worker
                threading.Thread(target=process.wait, daemon=True).start()
                written = {"pid": process.pid, "started": _started(process.pid)}
                temporary = note.with_suffix(".new")
                temporary.write_text(json.dumps(written))
                temporary.rename(note)
        return f"local:{run.id}"

    def stop(self, handle: str, *, grace_s: float) -> None:
        """SIGTERM to the process, SIGKILL to its whole group when the grace is over."""
        pid = self._living(handle)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        timer = threading.Timer(grace_s, self._kill, [handle])
        timer.daemon = True
        timer.start()

    def describe(self, handles: Sequence[str]) -> dict[str, Alive]:
        """Whether each process is there; its exit code is the wrapper's to tell."""
        return {handle: Alive(running=self._living(handle) is not None) for handle in handles}

    def _kill(self, handle: str) -> None:
        pid = self._living(handle)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _living(self, handle: str) -> int | None:
        note = self._folder / handle.removeprefix("local:") / "process.json"
        try:
            written = json.loads(note.read_text())
        except FileNotFoundError:
            return None
        pid = int(written["pid"])
        started = _started(pid)
        return pid if started is not None and started == written["started"] else None


def _started(pid: int) -> int | None:
    """When a process began, in clock ticks since boot (proc(5), field 22); None for a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])
