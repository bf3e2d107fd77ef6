"""From Redis to the browser's socket, one message under way: what our hub adds to a bare subscriber.

    floor   redis-py PUBLISH -> redis-py subscriber
    ours    redis-py PUBLISH -> web process -> WebSocket, read raw

Both ends are the same two processes and take turns; times are from before the PUBLISH to when the
receiver holds the bytes. The same for the whole append (the Lua call, flushed to the disk), and for 100
and 1,000 sockets at once, where every socket's delivery counts.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from multiprocessing.connection import Connection
from typing import Any

import redis

from bench.figure import options, percentile, say, skip
from bench.load import NoCompilerError, appends, build, ours
from bench.stage import ANNA, CLIENT_CORE, SERVER_CORE, Stage
from chat.channels import run_channel
from chat.drafts import draft
from chat.events import MessageBody

TEXT = "x" * 200
WARM = 100


class Socket:
    """A WebSocket read raw: what arrives after the subscription is one event a frame."""

    def __init__(self, port: int, headers: str, run_id: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(
            f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n".encode()
        )
        self._until(b'"hello"')
        words = f'{{"type":"subscribe","run_id":"{run_id}","after":null}}'.encode()
        self._socket.sendall(bytes([0x81, 0x80 | len(words)]) + bytes(4) + words)
        self._until(b'"subscribed"')

    def _until(self, mark: bytes) -> None:
        data = b""
        while mark not in data:
            more = self._socket.recv(65_536)
            assert more, data
            data += more

    def wait(self) -> None:
        self._until(b'"type":"event"')


class Bare:
    """A redis-py subscriber."""

    def __init__(self, url: str, channel: str) -> None:
        self._heard = redis.Redis.from_url(url).pubsub(ignore_subscribe_messages=True)
        self._heard.subscribe(channel)
        self._heard.get_message(timeout=5)

    def wait(self) -> None:
        while self._heard.get_message(timeout=30) is None:
            pass


def receive(pipe: Connection, url: str, port: int, headers: str, runs: dict[str, str]) -> None:
    """The receiving process: waits where it is told, and says when it had it."""
    ends: dict[str, Any] = {
        "bare": Bare(url, "bench"),
        "socket": Socket(port, headers, runs["socket"]),
        "append": Bare(url, run_channel(runs["append"])),
        "append-socket": Socket(port, headers, runs["append-socket"]),
    }
    pipe.send("ready")
    while name := pipe.recv():
        end = ends[name]
        pipe.send("waiting")
        end.wait()
        pipe.send(time.monotonic_ns())


def one(stage: Stage, web: Any, count: int) -> dict[str, list[float]]:
    """Milliseconds of each way, `count` of each, in turns."""
    names = ("bare", "socket", "append", "append-socket")
    runs = dict(zip(names, (run_id for run_id, _ in stage.runs(4)), strict=True))
    context = multiprocessing.get_context("spawn")
    pipe, far = context.Pipe()
    receiver = context.Process(
        target=receive, args=(far, stage.redis.url, web.port, web.headers, runs), daemon=True
    )
    receiver.start()
    try:
        assert pipe.poll(30)
        assert pipe.recv() == "ready"
        client = redis.Redis.from_url(stage.redis.url)
        state = stage.chat.log.snapshot(runs["socket"])
        head = draft(
            runs["socket"], ANNA.sender(), MessageBody(text=TEXT), now=stage.chat.clock.now()
        ).head.decode()[1:]
        found: dict[str, list[float]] = {name: [] for name in names}
        for number in range(count + WARM):
            for name in names:
                seq = state.head + 1 + number
                event = f'{{"seq":{seq},"epoch":"{state.epoch}",{head}'
                words = draft(
                    runs[name], ANNA.sender(), MessageBody(text=TEXT), now=stage.chat.clock.now()
                )
                pipe.send(name)
                assert pipe.recv() == "waiting"
                began = time.monotonic_ns()
                if name == "bare":
                    client.publish("bench", event)
                elif name == "socket":
                    client.publish(run_channel(runs[name]), event)
                else:
                    stage.chat.log.append(runs[name], [words])
                assert pipe.poll(30), f"{name}: nothing arrived"
                arrived = pipe.recv()
                if number >= WARM:
                    found[name].append((arrived - began) / 1e6)
        pipe.send("")
        return found
    finally:
        receiver.terminate()
        receiver.join()


def main() -> None:
    quick = options(__doc__).quick
    with Stage(redis_core=CLIENT_CORE) as stage:
        web = stage.web(core=SERVER_CORE)
        found = one(stage, web, 200 if quick else 3_000)
        for share, target in ((0.5, "<= 1.5"), (0.99, "<= 3")):
            bare = percentile(found["bare"], share)
            name = f"p{share * 100:.0f}"
            say(
                f"publish to 1 socket / bare subscriber, {name}", percentile(found["socket"], share),
                "ms", floor=bare, target=target,
            )  # fmt: skip
            say(
                f"append to 1 socket / append to a bare subscriber, {name}",
                percentile(found["append-socket"], share), "ms",
                floor=percentile(found["append"], share), note="the Lua call, appendfsync always",
            )  # fmt: skip
        try:
            build()
        except NoCompilerError as error:
            skip("append to 1,000 sockets", str(error))
            return
        for sockets in (100,) if quick else (100, 1_000):
            run_id = stage.runs(1)[0][0]
            with ours(stage, web, [run_id] * sockets) as load:
                load.run(stage.redis.port, appends(stage, [run_id] * 50), window=1, each=sockets)
                count = 50 if quick else 500
                done = load.run(
                    stage.redis.port, appends(stage, [run_id] * count), window=1, each=sockets
                )
            for name, value in (("p50", done.p50_ms), ("p99", done.p99_ms)):
                share = 0.5 if name == "p50" else 0.99
                say(
                    f"append to {sockets:,} sockets / append to a bare subscriber, {name}", value,
                    "ms", floor=percentile(found["append"], share), note="every socket's delivery",
                )  # fmt: skip


if __name__ == "__main__":
    main()
