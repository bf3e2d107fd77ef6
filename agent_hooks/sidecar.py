"""The sidecar's process: exactly one for a run (a lock on a file), detached, ends with the run."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import threading
import time
from pathlib import Path
from typing import Any, List, Optional, Set

from agent_hooks.claude import ClaudeHooks
from agent_hooks.core import Core
from agent_hooks.doors import HttpDoor, UnixDoor
from agent_hooks.errors import Ended, Refused, Unreachable
from agent_hooks.links import Links
from agent_hooks.looking import EXISTS, LookDoor, address
from agent_hooks.ops import Ops
from agent_hooks.state import StateDir, write_private

IDLE_S = 3_600.0
"""An attached agent that has not been heard of for so long is not there: no heartbeat for the dead."""
LOOK_S = 1.0
RETURN_S = 3.0
AFTER_END_S = 2.0
GRACE_S = 5.0


def main(state_dir: Path, *, watch_pid: Optional[int] = None, detach: bool = False) -> int:
    """Run until the run or its agent ends; 0 at once when another sidecar is there."""
    state = StateDir(state_dir.absolute())
    state.config()
    if detach and os.fork():
        return 0
    if detach:
        os.setsid()
        if os.fork():
            os._exit(0)
        _no_standard_files(state)
    os.chdir(str(state.path))
    lock = os.open("sidecar.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return 0
    try:
        Process(state, {watch_pid} if watch_pid else set()).run()
    finally:
        os.close(lock)
    return 0


def _no_standard_files(state: StateDir) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(str(state / "sidecar.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)


class Process:
    """The parts of one sidecar and their life."""

    def __init__(self, state: StateDir, watched: Set[int]) -> None:
        self._core = Core(state)
        self._links = Links(self._core)
        self._ops = Ops(self._core, self._links, self._shutdown)
        self._ops.watched |= watched
        self._wanted = threading.Event()
        self._gone_at = 0.0
        # an agent that is started again within this time has its run back
        self._return_s = float(os.environ.get("OMAKASE_RETURN_S", RETURN_S))
        claude = ClaudeHooks(self._core, self._links, self._ops, on_session_end=self._session_ended)
        self._ops.resume_text = claude.resume_text
        secret = secrets.token_urlsafe(24)
        self._unix = UnixDoor(self._ops.handle, claude, self._core.complain)
        self._http = HttpDoor(self._ops.handle, secret)
        self._doors: List[Any] = [self._unix, self._http]
        self._look_door: Optional[LookDoor] = None
        if EXISTS:
            where = address(self._core.config.server, self._core.config.run_id)
            self._look_door = LookDoor(where, self._ops.op_look, self._core.complain)
            self._doors.append(self._look_door)
        local = {
            "instance": self._core.instance,
            "pid": os.getpid(),
            "port": self._http.port,
            "secret": secret,
        }
        write_private(state / "local.json", json.dumps(local).encode())

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._wanted.set())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._core.complain("started", f"pid {os.getpid()}")
        self._links.start()
        for door in self._doors:
            threading.Thread(target=door.serve, daemon=True).start()
        while not self._wanted.wait(LOOK_S) and not self._core.ended.is_set():
            self._look()
        if self._core.ended.is_set():
            # whoever just finished may ask once more
            self._wanted.wait(AFTER_END_S)
        self._links.stop(0.0 if self._core.ended.is_set() else GRACE_S)
        self._unix.close()
        if self._look_door is not None:
            self._look_door.close()
        self._core.complain("ended", self._core.memory.ended or "told to")

    def _shutdown(self) -> None:
        self._wanted.set()

    def _look(self) -> None:
        """Whether the agent is still there."""
        watched = self._ops.watched
        if self._ops.lingering:
            return
        if not watched:
            if time.monotonic() - self._core.last_call > IDLE_S:
                self._core.complain("idle", "nobody called for long")
                self._wanted.set()
        elif any(alive(pid) for pid in watched):
            self._gone_at = 0.0
        elif not self._gone_at:
            self._gone_at = time.monotonic()
        elif time.monotonic() - self._gone_at > self._return_s:
            self._core.complain("agent_gone", "its process is not there any more")
            said = "The agent's process ended without saying how."
            self._ops.linger({"outcome": "failed", "summary": said, "late_summary": said})

    def _finish(self, outcome: str, summary: str) -> bool:
        """Say what became of it; what is unread is then shown as undelivered."""
        core = self._core
        core.wait_until(lambda: core.spool.pending_bytes() == 0, GRACE_S)
        body = {
            "holder": core.holder,
            "last_seq": core.memory.last_seq,
            "outcome": outcome,
            "summary": summary,
        }
        try:
            answer = self._links.api().finish(body)
        except Ended:
            core.end("ended")
            return True
        except (Unreachable, Refused) as error:
            core.complain("finish_failed", str(error))
            return False
        core.end(str(answer.get("status") or outcome))
        return True

    def _session_ended(self, reason: str) -> None:
        """Claude Code's session is over. An agent that somebody attached is then done, if it has
        read everything; if not, the run stays open for `claude --resume`."""
        if self._ops.watched or reason in ("clear", "resume") or self._core.over():
            return
        if os.environ.get("OMAKASE_KEEP_RUN"):
            return
        finish = self._finish
        arguments = ("completed", "The session ended.")
        threading.Thread(target=finish, args=arguments, daemon=True).start()


def alive(pid: int) -> bool:
    """Whether a process is there and not only waits to be collected."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] != "Z"
