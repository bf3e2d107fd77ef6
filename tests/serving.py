"""A real web process for tests: gunicorn, a Redis of its own, SQLite, and the domain beside it.

server     one per pytest-xdist worker, for the whole session; every test makes its own runs
own_server a server that the test may kill or set up differently: own_server(WEB_THREADS="2", …)
anna       an API client signed in at `server`
attached   a run at `server` with its token and the clients of both sides
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
import redis
import websocket

from chat.adapters import embedded_redis
from chat.adapters.embedded_redis import EmbeddedRedis, free_port
from chat.bootstrap import Chat, bootstrap
from chat.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent


def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Wait for a condition to hold; what it gave."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not happen within {timeout_s} s"
        time.sleep(0.01)
    return found


class NoTasks:
    """The tests drain and forward themselves."""

    def enqueue(self, name: str, *args: str) -> None:
        pass


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Api:
    """One client: its headers go with every request."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, /, **headers: str) -> Reply:
        sent = {
            **self.headers,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        data = body
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, data, sent)
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str, /, **headers: str) -> Reply:
        return self.call("GET", path, None, **headers)

    def post(self, path: str, body: Any, /, **headers: str) -> Reply:
        return self.call("POST", path, body, **headers)


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    port: int
    environ: dict[str, str]
    chat: Chat
    log: Path

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def person(self, name: str = "Anna") -> Api:
        reply = Api(self.port).post("/api/session", {"name": name})
        assert reply.status == 201, reply.data
        return Api(self.port, {"Cookie": reply.headers["set-cookie"].split(";")[0]})

    def live(self, person: Api | None, **options: Any) -> Live:
        """A WebSocket, as a page of ours would open it; greeted."""
        options.setdefault("origin", self.origin)
        if options["origin"] is None:
            del options["origin"]
            options["suppress_origin"] = True
        if person is not None:
            options["cookie"] = person.headers["Cookie"]
        options.setdefault("timeout", 20)
        url = f"ws://127.0.0.1:{self.port}/api/live"
        return Live(websocket.create_connection(url, **options))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Live:
    """A WebSocket client that speaks our frames."""

    def __init__(self, ws: websocket.WebSocket) -> None:
        self.ws = ws

    def send(self, **frame: Any) -> None:
        self.ws.send(json.dumps(frame))

    def next(self, *types: str) -> dict[str, Any]:
        """The next frame of one of these types; pings are answered, others are passed over."""
        while True:
            opcode, data = self.ws.recv_data()
            assert opcode == websocket.ABNF.OPCODE_TEXT, f"closed: {data!r}"
            frame: dict[str, Any] = json.loads(data)
            if frame["type"] == "ping":
                self.send(type="pong")
            elif not types or frame["type"] in types:
                return frame

    def subscribe(self, run_id: str, after: int | None = 0, epoch: str | None = None) -> Any:
        self.send(type="subscribe", run_id=run_id, after=after, epoch=epoch)
        return self.next("subscribed", "refused")

    def events(self, count: int) -> list[dict[str, Any]]:
        return [self.next("event")["event"] for _ in range(count)]

    def closed_with(self) -> int:
        """The code of the close frame that ends it."""
        while True:
            opcode, data = self.ws.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2])

    def close(self) -> None:
        self.ws.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ws.shutdown()


@dataclass
class Attached:
    """A run that an agent is attached to."""

    server: Server
    id: str
    token: str
    person: Api
    agent: Api

    def path(self, rest: str = "") -> str:
        return f"/api/agent-runs/{self.id}{rest}"

    def say(self, text: str, **headers: str) -> Reply:
        reply = self.person.post(self.path("/messages"), {"text": text}, **headers)
        assert reply.status in {200, 201}, reply.data
        return reply

    def store(self) -> None:
        """What a worker does: store the log and forward it to the mailbox."""
        self.server.chat.delivery.drain(self.id)


def start(redis_url: str, folder: Path, **environ: str) -> Server:
    port = free_port()
    given = {
        "REDIS_URL": redis_url, "STATE_DIR": str(folder / "state"), "PORT": str(port),
        "SECRET_KEY": "only-for-tests-" * 3, "WEB_WORKERS": "1", "WEB_THREADS": "8",
        "MESSAGES_PER_MINUTE": "1000000", "CONNECTIONS_PER_PRINCIPAL": "2000", **environ,
    }  # fmt: skip
    settings = load_settings(given)
    chat = bootstrap(settings, tasks=NoTasks())
    chat.store.create_schema()
    log = folder / f"web-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "web/gunicorn.conf.py", "web:create_app()"],
            cwd=ROOT, env={**os.environ, **given}, stdout=output, stderr=output,
        )  # fmt: skip
    server = Server(process, port, given, chat, log)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return Api(port).get("/readyz").status == 200
        except OSError:
            return False

    try:
        until(ready, 60)
    except AssertionError:
        server.stop()
        raise
    return server


@pytest.fixture(scope="session")
def web_redis() -> Iterator[EmbeddedRedis]:
    with tempfile.TemporaryDirectory(prefix="omakase-web-redis-") as folder:
        server = embedded_redis.start(Path(folder), appendfsync="no")
        yield server
        server.stop()


@pytest.fixture(scope="session")
def server(web_redis: EmbeddedRedis) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="omakase-web-") as folder:
        running = start(web_redis.url, Path(folder))
        yield running
        running.stop()


@pytest.fixture
def own_server(web_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def make(**environ: str) -> Server:
        running.append(start(environ.pop("REDIS_URL", web_redis.url), tmp_path, **environ))
        return running[-1]

    yield make
    for one in running:
        one.stop()


@pytest.fixture
def anna(server: Server) -> Api:
    return server.person("Anna")


def attach(server: Server, person: Api | None = None) -> Attached:
    person = person or server.person("Anna")
    names = {"project": "Shop", "feature": "Shopping Cart", "agent_id": "nori"}
    reply = person.post("/api/agent-runs/register", names)
    assert reply.status == 201, reply.data
    token = reply.json["token"]
    agent = Api(server.port, {"Authorization": f"Bearer {token}"})
    return Attached(server, reply.json["run"]["id"], token, person, agent)


@pytest.fixture
def attached(server: Server, anna: Api) -> Attached:
    return attach(server, anna)


def pubsub_cut(url: str) -> int:
    """Cut every subscriber's connection to Redis, as a network would; how many there were."""
    with redis.Redis.from_url(url) as client:
        return int(client.client_kill_filter(_type="pubsub"))


def raw(port: int) -> socket.socket:
    """A bare connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=20)
