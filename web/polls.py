"""A request that waits without a thread: `Prefer: wait=N` (RFC 7240), parked on the hub."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import orjson
from flask import Response
from werkzeug.datastructures import Headers

from chat.errors import ChatError
from web import frames
from web.endpoint import answer
from web.handover import HandedOver, can_hand_over, head
from web.hub import Hub
from web.live import Live
from web.peers import Peer
from web.problems import MEDIA_TYPE, unexpected

Look = Callable[[], dict[str, Any]]


class Poll(Peer):
    """One parked request. It subscribes first, then looks, then waits: nothing falls in between."""

    __slots__ = ("_enough", "_headers", "_look", "_over", "_run_id", "_unheard", "_wait_s", "_wake",
                 "_wakes")  # fmt: skip

    def __init__(
        self, hub: Hub, headers: Headers, run_id: str, wait_s: int, wakes: tuple[bytes, ...],
        look: Look, enough: Callable[[dict[str, Any]], bool],
        unheard: Callable[[dict[str, Any]], None] | None,
    ) -> None:  # fmt: skip
        super().__init__(hub, frames.WEBSOCKET)
        self._headers = headers
        self._run_id = run_id
        self._wait_s = wait_s
        self._wakes = wakes
        self._look = look
        self._enough = enough
        self._unheard = unheard
        self._wake = asyncio.Event()
        self._over = False

    def opened(self) -> None:
        """Begin to wait."""
        self._over = self.hub.stopping
        self.hub.spawn(self._answer())

    def ended(self) -> None:
        """The other end has gone away."""
        self._over = True
        self._wake.set()

    def go_away(self) -> None:
        """The process ends: answer with what there is."""
        self._over = True
        self._wake.set()

    def notice(self, payload: bytes) -> None:
        """Something happened in the run; an empty payload means that something may have."""
        if not payload or any(mark in payload for mark in self._wakes):
            self._wake.set()

    async def _answer(self) -> None:
        try:
            seen = await self._seen()
        except ChatError as error:
            self._respond(error.status, orjson.dumps(error.problem()), MEDIA_TYPE)
            return
        except Exception as error:  # noqa: BLE001 - whoever waits gets an answer
            self._respond(500, orjson.dumps(unexpected(error).problem()), MEDIA_TYPE)
            return
        if seen is None or self.closing:
            if seen is not None and self._unheard is not None:
                await self.hub.read(self._unheard, seen)
            return
        self._respond(200, orjson.dumps(seen), "application/json")

    async def _seen(self) -> dict[str, Any] | None:
        room = self.hub.run_room(self._run_id)
        room.watch(self.notice)
        deadline = self.hub.loop.time() + self._wait_s
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await room.listening()
            except TimeoutError:
                self._over = True
            while True:
                self._wake.clear()
                if self.closing:
                    return None  # nobody is there to hear what a look would take
                last = self._over or self.hub.loop.time() >= deadline
                seen = await self.hub.read(self._look)
                if last or self._enough(seen):
                    return seen
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            room.unwatch(self.notice)

    def _respond(self, status: int, body: bytes, content_type: str) -> None:
        headers = self._headers
        headers.set("Content-Type", content_type)
        headers.set("Content-Length", str(len(body)))
        self.finish(head(HTTPStatus(status), headers) + body)


def hold(
    live: Live, run_id: str, *, wait_s: int, wakes: tuple[bytes, ...], look: Look,
    enough: Callable[[dict[str, Any]], bool],
    unheard: Callable[[dict[str, Any]], None] | None = None,
) -> Response:  # fmt: skip
    """Answer when `look()` gives `enough`, or with what it gives after `wait_s` seconds.

    It looks again when an event that contains one of `wakes` is published in the run. `unheard` gets
    what nobody was there to hear. Where the server does not let go of sockets, answers at once.
    """
    if not can_hand_over():
        return answer(look())
    response = HandedOver(content_type="application/json")
    response.headers["Preference-Applied"] = f"wait={wait_s}"

    def adopt(connection: socket.socket, headers: Headers) -> None:
        live.adopt(
            connection,
            lambda hub: Poll(hub, headers, run_id, wait_s, wakes, look, enough, unheard),
        )

    response.adopt = adopt
    return response
