"""The real processes of a figure: Redis, web, worker, peers; on loopback, ended however we end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from supervisor import TIED, spawn

from bench import ROOT
from chat.access import Level, Principal
from chat.adapters import embedded_redis
from chat.adapters.embedded_redis import EmbeddedRedis, free_port
from chat.bootstrap import Chat, bootstrap
from chat.events import SenderKind
from chat.requests import CreateFeature, CreateProject, CreateRun
from chat.settings import load_settings

__all__ = [
    "ANNA", "CLIENT_CORE", "ROOT", "SERVER_CORE", "TIED", "KeepAlive", "NoTasks", "Stage", "Started",
    "Web", "free_port", "pinned", "until",
]  # fmt: skip

ANNA = Principal(kind=SenderKind.PERSON, id="usr_anna", name="Anna", level=Level.OWNER)
READY_WITHIN_S = 60.0
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]


def pinned(core: int | None) -> list[str]:
    """In front of a command: it stays on one core, where taskset(1) is there to see to it."""
    if core is None or len(CORES) < 2 or shutil.which("taskset") is None:
        return []
    return ["taskset", "-c", str(core)]


def until(condition: Callable[[], Any], what: str, timeout_s: float = READY_WITHIN_S) -> Any:
    """Wait for a condition; what it gave."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.01)
    return found


class NoTasks:
    """What a figure appends itself wakes no worker, unless the figure asks for it."""

    def enqueue(self, name: str, *args: str) -> None:
        pass


class Stage:
    """A folder, a Redis, and whatever else was started; all of it is gone afterwards."""

    def __init__(self, env: dict[str, str] | None = None, *, redis_core: int | None = None) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` blocks are left
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._held = tempfile.TemporaryDirectory(prefix="omakase-bench-")
        self.folder = Path(self._held.name)
        self._ends: list[Callable[[], None]] = []
        self.redis = self._redis(redis_core)
        self.env = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "HOME": str(self.folder),
            "STATE_DIR": str(self.folder / "state"),
            "REDIS_URL": self.redis.url,
            "SECRET_KEY": "only-for-the-benchmark-" * 2,
            "MESSAGES_PER_MINUTE": "1000000",
            "RUN_MESSAGE_BUDGET": "100000000",
            "CONNECTIONS_PER_PRINCIPAL": "1000000",
            "WEB_WORKERS": "1",
            "LOG_LEVEL": "WARNING",
            "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",  # DynamoDB stand-ins
            "PYTHONPATH": str(ROOT),
            **(env or {}),
        }  # fmt: skip
        os.environ.update(
            {name: self.env[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        )
        self._chat: Chat | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end in reversed(self._ends):
            end()
        self._held.cleanup()

    # processes

    def _redis(self, core: int | None) -> EmbeddedRedis:
        folder, port = self.folder / "redis", free_port()
        process = embedded_redis.spawn(folder, port, before=(*TIED, *pinned(core)))
        server = EmbeddedRedis(process, folder, port)
        self._ends.append(server.kill)
        server.wait_ready()
        return server

    def start(
        self, name: str, command: str, *, core: int | None = None, env: dict[str, str] | None = None
    ) -> Started:
        """A process in a session of its own; what it prints goes to a file."""
        words = " ".join([*pinned(core), command])
        started = Started(
            name, spawn(words, {**self.env, **(env or {})}), self.folder / f"{name}.log"
        )
        self._ends.append(started.stop)
        return started

    def web(self, *, core: int | None = None, app: str = "web:create_app()") -> Web:
        """One web process behind gunicorn, as `make run` starts it; answers when this returns."""
        port = free_port()
        process = self.start(
            f"web-{port}", f"gunicorn -c web/gunicorn.conf.py '{app}'", core=core,
            env={"PORT": str(port), "PUBLIC_URL": f"http://127.0.0.1:{port}"},
        )  # fmt: skip
        web = Web(port, process)
        until(web.is_ready, "web")
        web.sign_in()
        return web

    def worker(self, *, concurrency: int = 2) -> Started:
        """One Celery worker, as `make run` starts it; takes tasks when this returns."""
        process = self.start(
            "worker",
            "celery -A workers.app worker --without-gossip --without-mingle --loglevel=INFO"
            f" --concurrency={concurrency}",
        )
        until(lambda: b" ready." in process.said(), "worker")
        return process

    # the domain beside them

    @property
    def chat(self) -> Chat:
        """The use cases on the same Redis and database, in this process."""
        if self._chat is None:
            self._chat = bootstrap(load_settings(self.env), tasks=NoTasks())
            self._chat.store.create_schema()
        return self._chat

    def runs(self, count: int) -> list[tuple[str, str]]:
        """New runs, each with its agent's token."""
        project, _ = self.chat.catalog.create_project(ANNA, CreateProject(name="Bench"))
        feature, _ = self.chat.catalog.create_feature(
            ANNA, project.id, CreateFeature(name=f"Bench {time.monotonic_ns()}")
        )
        request = CreateRun.model_validate(
            {"feature_id": feature.id, "agent_id": "nori", "start": "attach"}
        )
        made = [self.chat.runs.create(ANNA, request) for _ in range(count)]
        return [(one.run.id, one.token or "") for one in made]


class Started:
    """A process that was started; `stop` may be called twice."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        log.touch()
        threading.Thread(target=self._copy, daemon=True).start()

    def _copy(self) -> None:
        assert self.process.stdout is not None
        with self.log.open("ab", buffering=0) as file:
            for line in self.process.stdout:
                file.write(line)

    def said(self) -> bytes:
        """What it has printed. Raises when it has ended."""
        said = self.log.read_bytes()
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} has ended: {said[-2_000:].decode(errors='replace')}")
        return said

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for the whole session after a while."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Web:
    """A web process and a person's cookie for it."""

    def __init__(self, port: int, started: Started) -> None:
        self.port = port
        self.started = started
        self.cookie = ""

    @property
    def headers(self) -> str:
        """What a page of ours sends with a WebSocket's handshake."""
        return f"Cookie: {self.cookie}\r\nOrigin: http://127.0.0.1:{self.port}\r\n"

    @property
    def pid(self) -> int:
        """gunicorn's one worker process: the child of the process we started."""
        parent = self.started.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return int(children[0])

    def is_ready(self) -> bool:
        self.started.said()
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def sign_in(self) -> None:
        _, headers, _ = self.ask("POST", "/api/session", {"name": "Anna"})
        self.cookie = headers["Set-Cookie"].partition(";")[0]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = None if body is None else json.dumps(body)
        headers = {"Cookie": self.cookie} | ({"Content-Type": "application/json"} if data else {})
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()


class KeepAlive:
    """A raw HTTP/1.1 client on one connection: it costs as little as Python lets it."""

    def __init__(self, port: int, headers: Iterable[str]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = "".join(f"{line}\r\n" for line in (f"Host: 127.0.0.1:{port}", *headers))

    def request(self, method: str, path: str, body: bytes = b"", *more: str) -> bytes:
        """A request as bytes, ready to be sent."""
        own = "".join(f"{line}\r\n" for line in more)
        if body:
            own += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{method} {path} HTTP/1.1\r\n{self._headers}{own}\r\n".encode() + body

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def receive(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            if not (more := self._socket.recv(65_536)):
                raise ConnectionError("closed by the server")
            data += more
        head = data[:end].lower()
        at = head.index(b"content-length:") + len(b"content-length:")
        length = int(head[at:].split(b"\r\n", 1)[0])
        while len(data) < end + 4 + length:
            data += self._socket.recv(65_536)
        return int(data[9:12]), data[end + 4 :]

    def exchange(self, request: bytes) -> tuple[int, bytes]:
        self.send(request)
        return self.receive()

    def close(self) -> None:
        self._socket.close()
