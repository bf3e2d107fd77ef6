"""The process's one connection to Redis for publish and subscribe.

Spoken directly on the event loop with hiredis' parser (RESP2): what one read brings is handed on as
one batch, which is what makes many small rooms cheap (a general client awaits each message).
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Iterable
from typing import Any, Final, Protocol, cast

import hiredis
import structlog
from redis.connection import parse_url

_log = structlog.get_logger(__name__)
_PING_S: Final = 5.0
_SILENCE_S: Final = 12.0
_BACKOFF_MAX_S: Final = 2.0


class Listener(Protocol):
    """Who is told what happens on the connection, always on the loop's thread."""

    def batch(self, messages: list[tuple[bytes, bytes]]) -> None:
        """(channel, payload) of everything one read brought, in order."""
        ...

    def acknowledged(self, channel: bytes) -> None:
        """From here on nothing that is published there is missed, until `lost`."""
        ...

    def lost(self) -> None:
        """The connection is gone; the channels are subscribed again when it is back."""
        ...


def pack(*words: bytes) -> bytes:
    """A command as Redis reads it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


class _Connection(asyncio.Protocol):
    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.reader = hiredis.Reader()
        self.transport: asyncio.Transport | None = None
        self.gone = asyncio.get_running_loop().create_future()
        self.heard = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are registered nowhere

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.heard = asyncio.get_running_loop().time()
        self.reader.feed(data)
        messages: list[tuple[bytes, bytes]] = []
        while (reply := self.reader.gets()) is not False:
            if isinstance(reply, hiredis.HiredisError):
                self.abort(str(reply))
                break
            if not isinstance(reply, list):
                continue
            if reply[0] == b"message":
                messages.append((reply[1], reply[2]))
            elif reply[0] == b"subscribe":
                if messages:  # what was published before is handed on before
                    self.listener.batch(messages)
                    messages = []
                self.listener.acknowledged(reply[1])
        if messages:
            self.listener.batch(messages)

    def abort(self, why: str) -> None:
        _log.warning("live.redis_connection_dropped", why=why)
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(exc)


class Subscriber:
    """Keeps the connection up and the wanted channels subscribed. Used on the loop's thread only."""

    def __init__(self, url: str, listener: Listener) -> None:
        self._options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
        self._secure = url.startswith("rediss:")
        self._listener = listener
        self._wanted: set[bytes] = set()
        self._connection: _Connection | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the connection stands at the moment."""
        return self._connection is not None

    def start(self) -> None:
        """Connect, and go on doing so until `stop`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Give up the connection."""
        if self._task is not None:
            self._task.cancel()

    def subscribe(self, channel: bytes) -> None:
        """Want a channel; `Listener.acknowledged` follows once it is subscribed."""
        self._wanted.add(channel)
        if self._connection is not None:
            self._connection.write(pack(b"SUBSCRIBE", channel))

    def unsubscribe(self, channel: bytes) -> None:
        """Want a channel no more."""
        self._wanted.discard(channel)
        if self._connection is not None:
            self._connection.write(pack(b"UNSUBSCRIBE", channel))

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        if "path" in self._options:
            _, made = await loop.create_unix_connection(
                lambda: _Connection(self._listener), self._options["path"]
            )
        else:
            _, made = await loop.create_connection(
                lambda: _Connection(self._listener),
                self._options.get("host", "127.0.0.1"),
                int(self._options.get("port", 6379)),
                ssl=ssl.create_default_context() if self._secure else None,
            )
        if password := self._options.get("password"):
            user = self._options.get("username") or "default"
            made.write(pack(b"AUTH", user.encode(), password.encode()))
        return made

    async def _run(self) -> None:
        delay = 0.0
        while True:
            try:
                async with asyncio.timeout(3):
                    made = await self._open()
            except (OSError, TimeoutError) as error:
                delay = min(_BACKOFF_MAX_S, max(0.05, delay * 2))
                _log.warning("live.redis_unreachable", error=type(error).__name__)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                continue
            delay = 0.0
            self._connection = made
            for some in _chunks(self._wanted, 500):
                made.write(pack(b"SUBSCRIBE", *some))
            try:
                await self._watch(made)
            finally:
                self._connection = None
                if made.transport is not None:
                    made.transport.abort()
                self._listener.lost()

    async def _watch(self, made: _Connection) -> None:
        """Until the connection ends, or has not answered a PING for too long."""
        while True:
            done, _ = await asyncio.wait({made.gone}, timeout=_PING_S)
            if done:
                return
            if asyncio.get_running_loop().time() - made.heard > _SILENCE_S:
                made.abort("silent")
                return
            made.write(pack(b"PING"))


def _chunks(channels: Iterable[bytes], size: int) -> Iterable[list[bytes]]:
    rest = list(channels)
    for start in range(0, len(rest), size):
        yield rest[start : start + size]
