"""The servers that ours is compared with: node's `ws`, Socket.IO on Redis streams, Nchan.

Each gets the same events (as JSON, a 200-byte text in it), one process on the server's core, and its
messages from the same kind of client: Redis' PUBLISH for `ws`, the XADD that Socket.IO's own emitter
makes, a POST for Nchan.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import npm

from bench import ROOT
from bench.load import Load, command, ours, plain
from bench.load import appends as our_appends
from bench.stage import SERVER_CORE, Stage, Web, free_port, until

NODE = ROOT / "bench" / "node"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")


class MissingError(Exception):
    """The peer is not there and cannot be had; the sentence says what is missing."""


class Side(ABC):
    """One server with sockets on it: `rooms[i]` is the room of socket i."""

    name: str
    load: Load

    @abstractmethod
    def messages(self, rooms: Sequence[int]) -> list[bytes]:
        """What to write to `publish_port` so that message i goes to rooms[i]."""

    @property
    @abstractmethod
    def publish_port(self) -> int: ...


class Ours(Side):
    name = "ours"

    def __init__(self, stage: Stage, web: Web, rooms: Sequence[int]) -> None:
        self._stage = stage
        self._runs = [run_id for run_id, _ in stage.runs(max(rooms) + 1)]
        self.load = ours(stage, web, [self._runs[room] for room in rooms])

    def messages(self, rooms: Sequence[int]) -> list[bytes]:
        return our_appends(self._stage, [self._runs[room] for room in rooms])

    @property
    def publish_port(self) -> int:
        return self._stage.redis.port


class Ws(Side):
    """Only one room: `ws` has none of its own."""

    name = "node ws"

    def __init__(self, stage: Stage, rooms: Sequence[int]) -> None:
        self._stage = stage
        port = _node(stage, "ws")
        self.load = Load(stage, port, [("/", "")] * len(rooms))

    def messages(self, rooms: Sequence[int]) -> list[bytes]:
        return [command("PUBLISH", "bench", event) for event in plain(len(rooms))]

    @property
    def publish_port(self) -> int:
        return self._stage.redis.port


class SocketIo(Side):
    name = "Socket.IO, Redis streams adapter"

    def __init__(self, stage: Stage, rooms: Sequence[int]) -> None:
        self._stage = stage
        port = _node(stage, "socketio")
        path = "/socket.io/?EIO=4&transport=websocket&room=r%d"
        self.load = Load(
            stage, port, [(path % room, "40") for room in rooms], ready="40{", count="42",
            ping="2", pong="3",
        )  # fmt: skip

    def messages(self, rooms: Sequence[int]) -> list[bytes]:
        return [
            command("XADD", "socket.io", "MAXLEN", "~", 10_000, "*", "uid", "bench", "nsp", "/",
                    "type", "3", "data", self._broadcast(room, event))
            for room, event in zip(rooms, plain(len(rooms)), strict=True)
        ]  # fmt: skip

    @staticmethod
    def _broadcast(room: int, event: str) -> str:
        packet = {"type": 2, "data": ["event", json.loads(event)], "nsp": "/"}
        return json.dumps(
            {"opts": {"rooms": [f"r{room}"], "except": [], "flags": {}}, "packet": packet},
            separators=(",", ":"),
        )

    @property
    def publish_port(self) -> int:
        return self._stage.redis.port


class Nchan(Side):
    def __init__(self, stage: Stage, rooms: Sequence[int], *, redis: bool) -> None:
        self.name = "Nchan with Redis" if redis else "Nchan"
        _need_nchan()
        self._port = free_port()
        folder = stage.folder / f"nchan-{self._port}"
        folder.mkdir()
        config = folder / "nginx.conf"
        upstream = f"upstream store {{ nchan_redis_server {stage.redis.url}; }}" if redis else ""
        use = "nchan_redis_pass store;" if redis else ""
        config.write_text(f"""
load_module {NCHAN};
{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
worker_rlimit_nofile {NOFILE};
daemon off;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections {min(NOFILE - 50, 30_000)}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  keepalive_requests 100000000;
  nchan_shared_memory_size 256M;
  {upstream}
  server {{
    listen 127.0.0.1:{self._port} backlog=4096;
    location ~ /pub/(\\w+)$ {{ nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 50; {use} }}
    location ~ /sub/(\\w+)$ {{ nchan_subscriber websocket; nchan_channel_id $1;
      nchan_subscriber_first_message newest; {use} }}
  }}
}}
""")
        name = f"nchan-{self._port}"
        started = stage.start(name, f"nginx -p {folder} -c {config}", core=SERVER_CORE)
        # it answers 503 until it has found out what kind of Redis this is
        until(lambda: started.said() is not None and _takes(self._port, "/pub/first"), name)
        self.load = Load(stage, self._port, [(f"/sub/r{room}", "") for room in rooms])

    def messages(self, rooms: Sequence[int]) -> list[bytes]:
        return [
            f"POST /pub/r{room} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(event)}\r\n\r\n{event}".encode()
            for room, event in zip(rooms, plain(len(rooms)), strict=True)
        ]

    @property
    def publish_port(self) -> int:
        return self._port


def _nofile() -> int:
    import resource  # noqa: PLC0415 - the only use

    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1_000_000)


NOFILE = _nofile()


def _takes(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", path, "hello")
        return connection.getresponse().status < 300
    except OSError:
        return False
    finally:
        connection.close()


def _node(stage: Stage, name: str) -> int:
    """Start one of bench/node's servers; its port. Raises MissingError."""
    try:
        npm.install(NODE)
    except npm.NpmError as error:
        raise MissingError(str(error)) from error
    port = free_port()
    started = stage.start(
        f"{name}-{port}", f"node {NODE / name}.js {port} {stage.redis.url}",
        core=SERVER_CORE,
    )  # fmt: skip
    until(lambda: b"ready" in started.said(), name)
    return port


def _need_nchan() -> None:
    """Debian's own package, installed when we may. Raises MissingError."""
    if NCHAN.exists() and shutil.which("nginx"):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingError("no Nchan (apt-get install libnginx-mod-nchan)")
    done = subprocess.run(
        ["apt-get", "install", "-y", "--no-install-recommends", "nginx-light", "libnginx-mod-nchan"],
        env={**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"},  # starts nothing
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if done.returncode or not NCHAN.exists():
        raise MissingError(f"apt-get install libnginx-mod-nchan failed: {done.stderr[-200:]}")
