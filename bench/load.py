"""The load client in C (bench/c/load.c): built here, driven from here; and what it is told to publish."""

from __future__ import annotations

import os
import selectors
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench.stage import ANNA, CLIENT_CORE, ROOT, TIED, Stage, pinned
from chat.adapters.redis_log import RedisLog
from chat.drafts import draft
from chat.events import MessageBody
from chat.ids import new_id

SOURCE = ROOT / "bench" / "c" / "load.c"
PROGRAM = ROOT / "build" / "bench-load"
MARK = "@%08d@"
"""Stands in every message, so that the client knows a delivery by its number."""
SUBSCRIBED, EVENT = '{"type":"subscribed"', '{"type":"event"'
PING, PONG = '{"type":"ping"}', '{"type":"pong"}'
AT_ONCE = 64


class NoCompilerError(Exception):
    """This machine cannot build the load client."""


def build() -> Path:
    """The program, compiled when its source is newer. Raises NoCompilerError."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
        if compiler is None:
            raise NoCompilerError("no C compiler (apt-get install gcc libc6-dev)")
        PROGRAM.parent.mkdir(exist_ok=True)
        made = PROGRAM.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O2", "-Wall", "-o", made, SOURCE], check=True)
        made.rename(PROGRAM)
    return PROGRAM


@dataclass(frozen=True)
class Result:
    """How a run went. Latencies from the write to Redis (or to the peer) to the socket."""

    seconds: float
    messages: int
    deliveries: int
    p50_ms: float
    p99_ms: float
    lost: int

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return self.deliveries / self.seconds


class Load:
    """Many sockets on one server, on the client's core. Leave the `with` block to close them."""

    def __init__(
        self, stage: Stage, port: int, sockets: Sequence[tuple[str, str]], *, headers: str = "",
        ready: str = "", count: str = "{", ping: str = "", pong: str = "", expect: int = 0,
        patience_s: float = 120.0,
    ) -> None:  # fmt: skip
        """`sockets`: (path, text frame to send first). Returns when all are ready."""
        self._folder = stage.folder
        listed = self._folder / f"sockets-{time.monotonic_ns()}"
        listed.write_text("".join(f"{path}\t{hello}\n" for path, hello in sockets))
        words = ["127.0.0.1", port, listed, headers, ready, count, ping, pong, expect, AT_ONCE]
        self.process = subprocess.Popen(
            [*TIED, *pinned(CLIENT_CORE), build(), *map(str, words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._buffer = b""
        try:
            self.connected_s = float(self._answer("ready", patience_s)[0])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the client, and with it its sockets."""
        self.process.kill()
        self.process.wait()

    def run(self, port: int, messages: Sequence[bytes], *, window: int, each: int) -> Result:
        """Publish through a connection to `port`, `window` messages under way at a time."""
        path = self._folder / "messages"
        path.write_bytes(b"".join(struct.pack("=I", len(one)) + one for one in messages))
        assert self.process.stdin is not None
        self.process.stdin.write(f"run 127.0.0.1 {port} {path} {window} {each}\n".encode())
        self.process.stdin.flush()
        seconds, sent, deliveries, p50, p99, lost = self._answer("done", 300)
        return Result(
            float(seconds),
            int(sent),
            int(deliveries),
            float(p50) / 1e3,
            float(p99) / 1e3,
            int(lost),
        )

    def _answer(self, word: str, timeout_s: float) -> list[str]:
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"the load client: no '{word}' within {timeout_s:g} s")
                if not (more := os.read(self.process.stdout.fileno(), 65_536)):
                    raise RuntimeError(f"the load client ended: {self._buffer.decode()}")
                self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        first, *words = line.decode(errors="replace").split()
        if first != word:
            rest = self._buffer.decode(errors="replace")[:500]
            raise RuntimeError(f"the load client: {line.decode(errors='replace')} {rest}")
        return words


def command(*words: bytes | str | int) -> bytes:
    """A command as Redis reads it (RESP)."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def text(number: int, size: int = 200) -> str:
    """A message's words: its number, and filling."""
    return (MARK % number).ljust(size, "x")


class Written:
    """Stands in for the Redis client of a `RedisLog`: what it would send is kept, not sent."""

    def __init__(self, sha: str) -> None:
        self._sha = sha
        self.commands: list[bytes] = []

    def register_script(self, _script: str) -> Callable[..., list[Any]]:
        def call(keys: Sequence[str], argv: Sequence[Any]) -> list[Any]:
            self.commands.append(command("EVALSHA", self._sha, len(keys), *keys, *argv))
            return [b"OK", [], 0, b"working"]

        return call


def appends(stage: Stage, run_ids: Iterable[str], *, size: int = 200) -> list[bytes]:
    """The append of one message to each of these runs, as bytes for Redis: our own Lua call, whole."""
    script: Any = stage.chat.redis.register_script(
        (ROOT / "chat" / "adapters" / "redis_log.lua").read_text()
    )
    sha = stage.chat.redis.script_load(script.script)
    written = Written(str(sha))
    log = RedisLog(written, on_wake=lambda _: None, lost=lambda _: None)  # type: ignore[arg-type]
    for number, run_id in enumerate(run_ids):
        body = MessageBody(text=text(number, size))
        now = stage.chat.clock.now()
        log.append(run_id, [draft(run_id, ANNA.sender(), body, now=now, mode="steer")])
    return written.commands


def plain(count: int) -> list[str]:
    """The same event as JSON, for the peers: as many bytes to each socket as ours."""
    run_id, epoch = new_id("run"), new_id("ep")
    return [
        f'{{"seq":{number},"epoch":"{epoch}",'
        + draft(
            run_id, ANNA.sender(), MessageBody(text=text(number)), now=_now(), mode="steer"
        ).head.decode()[1:]
        for number in range(count)
    ]


def _now() -> Any:
    from datetime import UTC, datetime  # noqa: PLC0415 - the only use

    return datetime.now(UTC)


def subscriptions(
    run_ids: Iterable[str], after: int | None = None, *, path: str = "/api/live"
) -> list[tuple[str, str]]:
    """Sockets of ours, one a run."""
    cursor = "null" if after is None else str(after)
    return [
        (path, f'{{"type":"subscribe","run_id":"{run_id}","after":{cursor},"epoch":null}}')
        for run_id in run_ids
    ]


def ours(stage: Stage, web: Any, run_ids: Iterable[str], **more: Any) -> Load:
    """Sockets on our web process, subscribed and live."""
    sockets = subscriptions(run_ids, more.pop("after", None))
    return Load(
        stage, web.port, sockets, headers=web.headers, ready=SUBSCRIBED, count=EVENT, ping=PING,
        pong=PONG, **more,
    )  # fmt: skip
