"""What the live side of one web process costs, one JSON line a figure (bench/figure.py).

publish_to_socket_p50/p99   an event published -> read off a WebSocket, one under way at a time, against
                            a bare PUBLISH -> redis-py subscriber in the same run, in turns
idle_socket_bytes           memory that a subscribed socket adds to the web process, and threads
connect_and_subscribe       one client, one socket after another: handshake to snapshot
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import struct
import sys
import tempfile
import time
from base64 import b64encode
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.figure import percentile, say
from chat.adapters import embedded_redis
from tests.serving import Attached, Server, attach, start


def masked(payload: bytes) -> bytes:
    """A client's text frame; the mask of zeros is a mask (RFC 6455 asks for one that is random:
    this client is no browser)."""
    assert len(payload) < 65_536
    if len(payload) < 126:
        return bytes([0x81, 0x80 | len(payload)]) + b"\0\0\0\0" + payload
    return b"\x81\xfe" + struct.pack("!H", len(payload)) + b"\0\0\0\0" + payload


def connect(server: Server, cookie: str) -> socket.socket:
    """A WebSocket past its handshake, with nothing of a client library around it."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    key = b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nOrigin: {server.origin}\r\n"
        f"Cookie: {cookie}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    got = b""
    while b"hello" not in got:
        data = sock.recv(65_536)
        assert data, got
        got += data
    return sock


def subscribe(sock: socket.socket, run_id: str) -> None:
    words = json.dumps({"type": "subscribe", "run_id": run_id, "after": None})
    sock.sendall(masked(words.encode()))
    got = b""
    while b'"subscribed"' not in got:
        got += sock.recv(65_536)
    sock.settimeout(20)


def one_way(url: str, rounds: int) -> list[float]:
    """Bare PUBLISH to a redis-py subscriber, in milliseconds."""
    with redis.Redis.from_url(url) as client, client.pubsub() as heard:
        heard.subscribe("bench")
        heard.get_message(timeout=5)
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            client.publish("bench", b"x" * 400)
            while (message := heard.get_message(timeout=5)) is None or message["type"] != "message":
                pass
            times.append((time.perf_counter() - began) * 1000)
    return times


def to_socket(url: str, channel: str, sock: socket.socket, rounds: int, seq: int) -> list[float]:
    """The same PUBLISH, with an event's shape, read off a WebSocket of the web process."""
    times = []
    body = json.dumps({"kind": "message", "body": {"text": "x" * 300}})[1:]
    epoch = EPOCH
    with redis.Redis.from_url(url) as client:
        for number in range(seq, seq + rounds):
            data = f'{{"seq":{number},"epoch":"{epoch}",{body}'
            began = time.perf_counter()
            client.publish(channel, data)
            got = sock.recv(65_536)
            while b'"type":"event"' not in got:  # a heartbeat
                got = sock.recv(65_536)
            times.append((time.perf_counter() - began) * 1000)
    return times


EPOCH = ""


def latency(server: Server, run: Attached) -> None:
    global EPOCH
    url = server.chat.settings.redis_url
    channel = server.chat.live.run_channel(run.id)
    page = run.person.get(run.path("/messages")).json
    EPOCH, seq = page["epoch"], page["head"] + 1
    sock = connect(server, run.person.headers["Cookie"])
    subscribe(sock, run.id)
    to_socket(url, channel, sock, 200, seq)
    one_way(url, 200)
    bare, ours = [], []
    for part in range(10):  # in turns: what else the machine does falls on both
        bare += one_way(url, 200)
        ours += to_socket(url, channel, sock, 200, seq + 200 + part * 200)
    sock.close()
    for share, name, target in ((0.5, "p50", "<= 1.5"), (0.99, "p99", "<= 3")):
        say(
            f"publish_to_socket_{name}", value=percentile(ours, share),
            floor=percentile(bare, share), unit="ms", target=target,
        )  # fmt: skip


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def worker_of(server: Server) -> int:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return int(children.split()[0])


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def idle(server: Server, count: int) -> None:
    run = attach(server)
    cookie, pid = run.person.headers["Cookie"], worker_of(server)
    warm = [connect(server, cookie) for _ in range(50)]
    for sock in warm:
        subscribe(sock, run.id)
    before, threads_before = resident(pid), threads(pid)
    began = time.perf_counter()
    sockets = []
    for _ in range(count):
        sock = connect(server, cookie)
        subscribe(sock, run.id)
        sockets.append(sock)
    took = time.perf_counter() - began
    after = resident(pid)
    say(
        "idle_socket_bytes",
        value=(after - before) / count,
        unit="bytes",
        note=f"{count} held",
        target="<= 8192",
    )
    say("idle_threads_added", value=threads(pid) - threads_before, unit="threads", target="<= 8")
    say("connect_and_subscribe", value=count / took, unit="sockets/s")
    for sock in [*warm, *sockets]:
        sock.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sockets", type=int, default=2_000)
    chosen = options.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        kept = embedded_redis.start(Path(folder) / "redis", appendfsync="no")
        server = start(
            kept.url, Path(folder), CONNECTIONS_PER_PRINCIPAL="1000000", LOG_LEVEL="WARNING"
        )
        try:
            latency(server, attach(server))
            idle(server, chosen.sockets)
        finally:
            server.stop()
            kept.stop()


if __name__ == "__main__":
    main()
