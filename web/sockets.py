"""The WebSocket `/api/live` after its handshake: frames in, commands in order, frames out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal

import orjson
from pydantic import Field, ValidationError

from chat.access import Principal
from chat.errors import ChatError, Invalid, TooMany
from chat.events import Anchor, Mode
from chat.requests import ItemId, Key, PostMessage
from chat.runs import Frozen
from web import frames
from web.hub import HEARTBEAT_S, Hub, Seat
from web.problems import from_validation, unexpected
from web.rooms import RunRoom
from web.websockets import WebSocketPeer

WAITING_MAX: Final = 64
SUBSCRIPTIONS_MAX: Final = 200
NOBODIES_MAX: Final = 500
"""Connections of one process that have shown no credential yet."""
FIRST_FRAME_S: Final = 10.0
"""How long a connection without a cookie may take to show its ticket."""


class Auth(Frozen):
    type: Literal["auth"]
    ticket: str = Field(max_length=128)


class Subscribe(Frozen):
    type: Literal["subscribe"]
    run_id: ItemId
    after: int | None = Field(default=None, ge=0, le=2**53)
    epoch: str | None = Field(default=None, max_length=64)


class Unsubscribe(Frozen):
    type: Literal["unsubscribe"]
    run_id: ItemId


class Send(Frozen):
    type: Literal["send"]
    run_id: ItemId
    key: Key
    text: str
    mode: Mode = Mode.STEER
    reply_to: ItemId | None = None
    anchor: Anchor | None = None


class Typing(Frozen):
    type: Literal["typing"]
    run_id: ItemId


class ReadMark(Frozen):
    type: Literal["read"]
    run_id: ItemId
    seq: int = Field(ge=0, le=2**53)


class Watch(Frozen):
    type: Literal["watch"]
    project_id: ItemId


class Pong(Frozen):
    type: Literal["pong"]


Command = Auth | Subscribe | Unsubscribe | Send | Typing | ReadMark | Watch | Pong
_COMMANDS: Final[dict[str, type[Command]]] = {
    "auth": Auth, "subscribe": Subscribe, "unsubscribe": Unsubscribe, "send": Send,
    "typing": Typing, "read": ReadMark, "watch": Watch, "pong": Pong,
}  # fmt: skip

HELLO: Final = frames.message({"type": "hello", "heartbeat_ms": HEARTBEAT_S * 1_000})


class LiveSocket(WebSocketPeer):
    """One browser page's connection. `redeem(ticket)` gives the principal a ticket was made for."""

    __slots__ = ("_nobody", "_waiting", "_working", "principal", "redeem")

    def __init__(
        self, hub: Hub, principal: Principal | None, redeem: Callable[[str], Principal]
    ) -> None:
        super().__init__(hub)
        self.principal = principal
        self.redeem = redeem
        self._nobody = False
        self._waiting: deque[Send | Typing | ReadMark] | None = None
        self._working = False

    # the connection

    def opened(self) -> None:
        """Say hello, unless there is no more room for this principal."""
        if self.hub.stopping:
            self.go_away()
            return
        if self.principal is not None:
            self._enter(self.principal)
        elif self.hub.nobodies >= NOBODIES_MAX:
            self.expel(1013, "too many that have not signed in")
        else:
            self.hub.nobodies += 1
            self._nobody = True
            self.hub.loop.call_later(FIRST_FRAME_S, self._still_nobody)

    def _enter(self, principal: Principal) -> None:
        self._known()
        if not self.hub.count(principal, 1):
            self.principal = None
            self.expel(4429, "too many connections")
            return
        self.principal = principal
        self.push(HELLO)

    def _known(self) -> None:
        if self._nobody:
            self._nobody = False
            self.hub.nobodies -= 1

    def _still_nobody(self) -> None:
        if self.principal is None:
            self.expel(4401, "sign in first")

    def ended(self) -> None:
        """Give the principal's place back."""
        self._known()
        if self.principal is not None:
            self.hub.count(self.principal, -1)

    # commands

    def text(self, words: str) -> None:
        """A command."""
        try:
            value = orjson.loads(words)
        except orjson.JSONDecodeError:
            self.expel(4400, "not JSON")
            return
        named = value.get("type") if isinstance(value, dict) else None
        model = _COMMANDS.get(named) if isinstance(named, str) else None
        if model is None:
            self.expel(4400, "not a frame that is known")
            return
        try:
            command = model.model_validate(value)
        except ValidationError as error:
            self._refuse(value, from_validation(error))
            return
        self._obey(command)

    def _obey(self, command: Command) -> None:
        if isinstance(command, Auth):
            self._auth(command)
        elif self.principal is None:
            self.expel(4401, "sign in first")
        elif isinstance(command, Subscribe):
            self._subscribe(command, self.principal)
        elif isinstance(command, Unsubscribe):
            if (seat := self.seats.get(command.run_id)) is not None:
                self.hub.leave(seat)
        elif isinstance(command, Watch):
            self._watch(command, self.principal)
        elif isinstance(command, Send | Typing | ReadMark):
            self._later(command)

    def _refuse(self, value: dict[str, Any], error: ChatError) -> None:
        named = {
            name: value[name]
            for name in ("key", "run_id", "project_id")
            if isinstance(value.get(name), str)
        }
        self.push(frames.message({"type": "refused"} | named | {"problem": error.problem()}))

    def _auth(self, command: Auth) -> None:
        if self.principal is not None:
            self._refuse({}, Invalid("This connection is signed in already."))
            return
        self.hub.spawn(self._redeem(command.ticket))

    async def _redeem(self, ticket: str) -> None:
        try:
            principal = await self.hub.read(self.redeem, ticket)
        except ChatError as error:
            self.expel(error.close_code, error.title)
            return
        if not self.closing and self.principal is None:
            self._enter(principal)

    def _subscribe(self, command: Subscribe, principal: Principal) -> None:
        if command.run_id in self.seats:
            self.hub.leave(self.seats[command.run_id])
        elif len(self.seats) >= SUBSCRIPTIONS_MAX:
            self._refuse(
                command.model_dump(),
                TooMany(f"One connection holds {SUBSCRIPTIONS_MAX} subscriptions."),
            )
            return
        room = self.hub.run_room(command.run_id)
        seat = self.seats[command.run_id] = Seat(self, room, principal)
        self.hub.spawn(self._join(room, seat, command))

    async def _join(self, room: RunRoom, seat: Seat, command: Subscribe) -> None:
        try:
            await room.join(seat, command.after, command.epoch)
        except ChatError as error:
            if not seat.left:
                self.hub.leave(seat)
                self._refuse(command.model_dump(), error)

    def _watch(self, command: Watch, principal: Principal) -> None:
        if command.project_id not in self.seats and len(self.seats) < SUBSCRIPTIONS_MAX:
            self.hub.spawn(self._join_project(command, principal))

    async def _join_project(self, command: Watch, principal: Principal) -> None:
        try:
            await self.hub.read(self.hub.chat.catalog.project, principal, command.project_id)
        except ChatError as error:
            self._refuse(command.model_dump(), error)
            return
        if self.closing or command.project_id in self.seats:
            return
        room = self.hub.project_room(command.project_id)
        seat = self.seats[command.project_id] = Seat(self, room, principal)
        await room.join(seat)

    # what changes something: on the pool, one after another

    def _later(self, command: Send | Typing | ReadMark) -> None:
        if self._waiting is None:
            self._waiting = deque()
        if len(self._waiting) >= WAITING_MAX:
            self.expel(4429, "too many commands under way")
            return
        self._waiting.append(command)
        if not self._working:
            self._working = True
            self.hub.spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting and self.principal is not None:
                command = self._waiting.popleft()
                try:
                    answer = await self.hub.read(self._perform, command, self.principal)
                except ChatError as error:
                    self._refuse(command.model_dump(include={"key", "run_id"}), error)
                except Exception as error:  # noqa: BLE001 - the socket goes on; the log has the rest
                    problem = unexpected(error)
                    self._refuse(command.model_dump(include={"key", "run_id"}), problem)
                else:
                    if answer is not None:
                        self.push(answer)
        finally:
            self._working = False
            self._waiting = None

    def _perform(self, command: Send | Typing | ReadMark, principal: Principal) -> bytes | None:
        """On the pool."""
        chat = self.hub.chat
        if isinstance(command, Typing):
            chat.live.typing(principal, command.run_id)
            return None
        if isinstance(command, ReadMark):
            chat.live.read_mark(principal, command.run_id, command.seq)
            return None
        self.hub.limits.hit("message", principal)
        try:
            body = PostMessage(
                text=command.text,
                mode=command.mode,
                reply_to=command.reply_to,
                anchor=command.anchor,
            )
        except ValidationError as error:
            raise from_validation(error) from error
        posted = chat.messages.post(principal, command.run_id, body, key=command.key)
        sent = {
            "type": "sent",
            "key": command.key,
            "event": orjson.Fragment(posted.data),
            "repeated": posted.repeated,
        }
        return frames.message(sent)
