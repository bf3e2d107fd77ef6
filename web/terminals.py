"""The door to a terminal: the WebSocket `/api/agent-runs/{run}/terminal`. Refused while it is still HTTP."""

from __future__ import annotations

import threading
import time
from typing import Any, Final, cast

from flask import Blueprint, Flask, current_app, request

from chat.errors import Unauthenticated
from web import auth, csrf
from web.endpoint import Web
from web.handover import take
from web.live import demand_handshake, sock
from web.terminal_socket import TerminalSocket

bp = Blueprint("terminals", __name__)
PATH: Final = "/api/agent-runs/<run_id>/terminal"
STOP_S: Final = 5.0


class OpenTerminals:
    """The threads of this process's terminals, so that it can wait for what they write last."""

    def __init__(self) -> None:
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def start(self, work: Any, *args: Any) -> None:
        """Work in a thread of its own."""
        with self._lock:
            self._threads = {one for one in self._threads if one.is_alive()}
            thread = threading.Thread(target=work, args=args, name="terminal", daemon=True)
            self._threads.add(thread)
            thread.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Wait for all of them; their sockets were told before. What takes longer dies with the process."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def register(app: Flask) -> None:
    """Add the WebSocket's route."""
    app.register_blueprint(bp)


@bp.before_request
def before_handshake() -> None:
    """Refuse what is wrong for certain; a person who may not leaves a record in the run's log."""
    web = cast("Web", current_app.extensions["web"])
    terminals = web.chat.terminals
    terminals.demand_on()
    # as if a cookie were there: a terminal has no ticket, so whatever comes needs an Origin of ours
    csrf.check_socket(request, web.chat.settings, signed_in=True)
    if (person := auth.person()) is None:
        raise Unauthenticated("Sign in: POST /api/session.")
    web.limits.hit("terminal", person)
    demand_handshake()
    web.live.demand_place(person)
    terminals.admit(person, (request.view_args or {})["run_id"])


@sock.route(PATH, bp=bp)  # type: ignore[untyped-decorator]  # flask-sock has no types
def terminal(ws: Any, run_id: str) -> None:
    """Shaken hands; now the connection belongs to the loop."""
    web = cast("Web", current_app.extensions["web"])
    principal, sid = auth.person(), auth.session_id()
    assert principal is not None  # noqa: S101 - `before_handshake` has seen to it
    connection = take(request.environ)
    ws.connected = False  # else flask-sock says goodbye on it
    web.live.adopt(
        connection,
        lambda hub: TerminalSocket(
            hub,
            principal,
            run_id,
            stands=lambda: web.sign_outs.stands(sid),
            start=web.terminals.start,
        ),
    )
