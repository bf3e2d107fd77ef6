"""The door to everything that stays open: the WebSocket `/api/live`, and what SSE and long polls share."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final, cast

from flask import Blueprint, Flask, current_app, request
from flask_sock import Sock

from chat.access import Principal
from chat.bootstrap import Chat
from chat.errors import TooMany, Unavailable
from web import auth, csrf
from web.endpoint import Web
from web.handover import InertThread, raw_socket, take
from web.hub import Hub
from web.limits import Limits
from web.loop import LoopThread
from web.peers import Peer
from web.problems import BadRequest
from web.sockets import LiveSocket

bp = Blueprint("live", __name__)
sock = Sock()
PATH: Final = "/api/live"
_NONCE_BYTES: Final = 16


class Live:
    """The process's loop and hub; both begin with the first connection that is handed over."""

    def __init__(self, chat: Chat, limits: Limits) -> None:
        self._chat = chat
        self._limits = limits
        self._thread = LoopThread()
        self._hub: Hub | None = None
        self._adopting: set[asyncio.Task[Any]] = set()

    def adopt(self, connection: socket.socket, make: Callable[[Hub], Peer]) -> None:
        """Give a connection to the loop; `make(hub)` makes its protocol there."""
        self._thread.call(self._adopt, connection, make)

    def _adopt(self, connection: socket.socket, make: Callable[[Hub], Peer]) -> None:
        loop = self._thread.loop()
        if self._hub is None:
            self._hub = Hub(self._chat, self._limits)
        peer = make(self._hub)
        task = loop.create_task(_connect(loop, peer, connection))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    def demand_place(self, principal: Principal) -> None:
        """Refuse while it is still HTTP what would be one connection too many. Raises TooMany."""
        most = self._chat.settings.connections_per_principal
        if self._hub is not None and self._hub.per_principal.get(principal.id, 0) >= most:
            raise TooMany(f"One principal holds at most {most} live connections here.")

    @property
    def hub(self) -> Hub | None:
        """The hub, once there is one."""
        return self._hub

    def stop(self, timeout_s: float = 5.0) -> None:
        """Close everything with "come back" (1001). Called once, when the process is to end."""
        if not self._thread.running or self._hub is None:
            return
        with contextlib.suppress(TimeoutError):
            self._thread.run(self._hub.stop(timeout_s), timeout_s + 1)
        self._thread.stop()


async def _connect(loop: asyncio.AbstractEventLoop, peer: Peer, connection: socket.socket) -> None:
    try:
        await loop.connect_accepted_socket(lambda: peer, connection)
    except OSError:
        connection.close()  # gone before it began


def register(app: Flask) -> None:
    """Add the WebSocket's route."""
    # Only the handshake is simple_websocket's: no reader thread is started, no buffer is kept.
    app.config["SOCK_SERVER_OPTIONS"] = {"thread_class": InertThread}
    app.register_blueprint(bp)


@bp.before_request
def before_handshake() -> None:
    """Refuse while it is still HTTP: flask-sock sends the 101 before the handler runs."""
    web = cast("Web", current_app.extensions["web"])
    csrf.check_socket(request, web.chat.settings, signed_in=auth.person() is not None)
    web.limits.hit("read", auth.person() or request.remote_addr or "unknown")
    demand_handshake()


def demand_handshake() -> None:
    """Refuse what is no WebSocket's handshake as we take it, and switch compression off."""
    if raw_socket(request.environ) is None:
        raise Unavailable("This server cannot hold a WebSocket.")
    if request.headers.get("Sec-WebSocket-Version") != "13":
        raise BadRequest("Sec-WebSocket-Version must be 13 (RFC 6455).")
    try:
        nonce = b64decode(request.headers.get("Sec-WebSocket-Key", ""), validate=True)
    except ValueError:
        nonce = b""
    if len(nonce) != _NONCE_BYTES:
        raise BadRequest("Sec-WebSocket-Key must be 16 bytes in base64 (RFC 6455).")
    # Never compressed: an event is framed once for everybody, and a bomb cannot be sent to us.
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)


@sock.route(PATH, bp=bp)  # type: ignore[untyped-decorator]  # flask-sock has no types
def live(ws: Any) -> None:
    """Shaken hands; now the connection belongs to the loop."""
    web = cast("Web", current_app.extensions["web"])
    principal, redeem = auth.person(), web.tickets.redeem
    connection = take(request.environ)
    ws.connected = False  # else flask-sock says goodbye on it
    web.live.adopt(connection, lambda hub: LiveSocket(hub, principal, redeem))
