"""Keeps a handful of processes running, and stops them together and in order.

A small one of our own: honcho and foreman stop everything when one process dies, and what we promise
is that a killed worker or Redis comes back and nothing is lost by it.

Every service is a session of its own, so Ctrl-C reaches only us. On Linux we are also the reaper of
whatever our services leave behind (prctl(2), PR_SET_CHILD_SUBREAPER): agents started by a worker that
was killed are still found, and end when we end. Elsewhere only the services themselves are stopped.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
REAP_EVERY_S = 5.0
SETTLED_S = 30.0
"""A service that ran this long starts again with the first pause."""
AGENTS_GRACE_S, SERVICE_GRACE_S = 8.0, 15.0
PR_SET_CHILD_SUBREAPER = 36
TIED: tuple[str, ...] = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
"""In front of a command: it gets SIGTERM when we are killed (util-linux's setpriv, on any Debian)."""
STAT_STATE, STAT_PARENT, STAT_SESSION = 0, 1, 3
"""Fields of /proc/PID/stat after the name in brackets: state, ppid, pgrp, session (proc(5))."""


def spawn(command: str, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start one line of the Procfile, its variables expanded by sh, output to a pipe."""
    return subprocess.Popen(
        [*TIED, "/bin/sh", "-c", f"exec {command}"],
        env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


@dataclass
class Service:
    """One process that shall run. `start` returns at once."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    again_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    restarts: int = field(default=0)


@dataclass(frozen=True)
class Entry:
    """One process of this machine."""

    parent: int
    session: int
    is_zombie: bool


class Supervisor:
    """Runs services until `stopping` is set. Lines of output go to `out` behind the service's name."""

    def __init__(
        self, out: Callable[[str, str], None], adopted: Callable[[], list[int]] = list
    ) -> None:
        """`adopted`: processes of ours whose parent was killed, to be ended with the agents."""
        self.stopping = threading.Event()
        self.services: list[Service] = []
        self._out = out
        self._adopted = adopted
        self._reaped_at = 0.0
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def add(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> Service:
        """Start a service now; they are stopped in the opposite order."""
        service = Service(name, start)
        self._start(service)
        # known only now: `look` may run on another thread, and starts what it finds not running
        self.services.append(service)
        return service

    def run(self) -> None:
        """Watch the services until we shall stop, then stop them."""
        try:
            while not self.stopping.wait(0.1):
                self.look()
        finally:
            self.stop()

    def look(self) -> None:
        """Start again what has ended and has waited long enough; reap what was left to us."""
        now = time.monotonic()
        for service in self.services:
            if service.process is None:
                if now >= service.again_at:
                    service.restarts += 1
                    self._start(service)
            elif (code := service.process.poll()) is not None:
                # what it forked and left (gunicorn's workers hold the port) must not outlive it
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(service.process.pid, signal.SIGKILL)
                service.process = None
                if now - service.started_at > SETTLED_S:
                    service.pause_s = FIRST_PAUSE_S
                service.again_at = now + service.pause_s
                how = f"signal {-code}" if code < 0 else f"code {code}"
                self._out(service.name, f"ended with {how}; again in {service.pause_s:g} s")
                service.pause_s = min(service.pause_s * 2, LONGEST_PAUSE_S)
        if now - self._reaped_at > REAP_EVERY_S:
            self._reaped_at = now
            self._reap_strangers()

    def stop(self) -> None:
        """End the agents first, while the web still hears them; then services, last started first."""
        self._end_strangers(signal.SIGTERM, AGENTS_GRACE_S)
        for service in reversed(self.services):
            if service.process is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                service.process.send_signal(signal.SIGTERM)
            try:
                service.process.wait(SERVICE_GRACE_S)
            except subprocess.TimeoutExpired:
                self._out(service.name, f"did not stop within {SERVICE_GRACE_S:g} s: killed")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(service.process.pid, signal.SIGKILL)
            service.process.wait()
            service.process = None
        self._end_strangers(signal.SIGKILL, 1.0)

    def _start(self, service: Service) -> None:
        service.started_at = time.monotonic()
        try:
            service.process = service.start()
        except Exception as error:  # noqa: BLE001 - one that cannot start waits for its next turn
            self._out(service.name, f"cannot be started: {error}")
            service.again_at = service.started_at + service.pause_s
            service.pause_s = min(service.pause_s * 2, LONGEST_PAUSE_S)
            return
        if service.process.stdout is not None:
            threading.Thread(
                target=self._copy, args=(service.name, service.process), daemon=True
            ).start()

    def _copy(self, name: str, process: subprocess.Popen[bytes]) -> None:
        with process.stdout as lines:  # type: ignore[union-attr]  # only called with a pipe
            for line in lines:
                self._out(name, line.decode(errors="replace").rstrip("\n"))

    def strangers(self) -> list[int]:
        """Descendants that run in no service's session, and the adopted: agents, and what was left behind."""
        table = _processes()
        ours = {os.getpid()}
        while more := {pid for pid, entry in table.items() if entry.parent in ours} - ours:
            ours |= more
        own = self._own_sessions()
        return sorted(
            pid
            for pid in (ours | set(self._adopted())) & table.keys()
            if table[pid].session not in own and not table[pid].is_zombie
        )

    def _end_strangers(self, how: signal.Signals, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        for pid in self.strangers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        while self.strangers() and time.monotonic() < deadline:
            self._reap_strangers()
            time.sleep(0.05)

    def _reap_strangers(self) -> None:
        own = self._own_sessions()
        for pid, entry in _processes().items():
            if entry.parent == os.getpid() and entry.is_zombie and entry.session not in own:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _own_sessions(self) -> set[int]:
        return {os.getsid(0)} | {s.process.pid for s in self.services if s.process is not None}


def _processes() -> dict[int, Entry]:
    """Every process by its id. Empty where there is no /proc."""
    table: dict[int, Entry] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            table[int(path.parent.name)] = Entry(
                parent=int(fields[STAT_PARENT]),
                session=int(fields[STAT_SESSION]),
                is_zombie=fields[STAT_STATE] == "Z",
            )
    return table


def services_of(procfile: Path) -> dict[str, str]:
    """The lines of a Procfile: name to command."""
    lines: Sequence[str] = procfile.read_text().splitlines()
    pairs = (line.partition(":") for line in lines if line.strip() and not line.startswith("#"))
    return {name.strip(): command.strip() for name, _, command in pairs}
