"""Server-sent events for one run: `…/messages/stream` (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import re
import socket
from typing import Final

from flask import Blueprint, Response, request
from werkzeug.datastructures import Headers

from chat.access import Permission, Principal
from chat.errors import ChatError, NotFound, TooMany, Unavailable
from web import frames
from web.endpoint import Call, Who, route
from web.handover import HandedOver, can_hand_over, head
from web.hub import Hub, Seat
from web.peers import Peer
from web.shapes import StreamQuery

bp = Blueprint("streams", __name__)
_LAST_ID: Final = re.compile(r"^([\x21-\x39\x3b-\x7e]{1,64}):(\d{1,16})$")


class EventStream(Peer):
    """One reader of one run. When it is closed, an EventSource comes back with its Last-Event-ID."""

    __slots__ = ("_after", "_epoch", "_head", "_principal", "_run_id")

    def __init__(
        self, hub: Hub, opening: bytes, principal: Principal, run_id: str,
        after: int | None, epoch: str | None,
    ) -> None:  # fmt: skip
        super().__init__(hub, frames.EVENT_STREAM)
        self._head = opening
        self._principal = principal
        self._run_id = run_id
        self._after = after
        self._epoch = epoch

    def opened(self) -> None:
        """Send the response's head and sit down in the run's room."""
        self.hub.count(self._principal, 1, always=True)
        self.push(self._head)
        if self.hub.stopping:
            self.finish(b"")
            return
        seat = self.seats[self._run_id] = Seat(
            self, self.hub.run_room(self._run_id), self._principal
        )
        self.hub.spawn(self._join(seat))

    async def _join(self, seat: Seat) -> None:
        try:
            await self.hub.run_room(self._run_id).join(seat, self._after, self._epoch)
        except ChatError:
            self.finish(b"")

    def ended(self) -> None:
        """Give the principal's place back."""
        self.hub.count(self._principal, -1)

    def beat(self, now: float) -> None:  # noqa: ARG002 - a stream says nothing back
        """A comment, so that proxies and readers see that we live."""
        self.push(frames.HEARTBEAT)


@route(bp, "GET", "/api/agent-runs/{run_id}/messages/stream", who=Who.PERSON, query=StreamQuery,
       answers={200: "text/event-stream"}, refuses=(NotFound, TooMany, Unavailable),
       summary="The run's events as they come, after `Last-Event-ID` or `after`")  # fmt: skip
def stream(call: Call, run_id: str) -> Response:
    principal = call.principal
    call.chat.runs.authorize(principal, Permission.READ, run_id)
    if not can_hand_over():
        raise Unavailable("This server cannot hold a stream.")
    after, epoch = call.query.after, None
    if (last := _LAST_ID.match(request.headers.get("Last-Event-ID", ""))) is not None:
        epoch, after = last[1], int(last[2])
    live = call.web.live
    live.demand_place(principal)
    response = HandedOver(content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"

    def adopt(connection: socket.socket, headers: Headers) -> None:
        opening = head(200, headers)
        live.adopt(
            connection, lambda hub: EventStream(hub, opening, principal, run_id, after, epoch)
        )

    response.adopt = adopt
    return response
