"""The door for "look now", open to everybody on this machine: who comes in by ECS Exec is another user.

    omakase-look-{hash of server and run}, behind a zero byte    an abstract unix socket (Linux): to connect is to ask

Root without CAP_DAC_OVERRIDE, as in a container that drops its capabilities, opens neither the run's folder
nor its socket. So this door has no file and no mode; it takes no words, tells nothing but whether the server
was asked, and does nothing but that, once in EVERY_S however many ask.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import sys
import threading
import time
from typing import Any, Callable, Dict, List

from agent_hooks.errors import SidecarAway, SidecarRefused

EVERY_S = 1.0
ASK_S = 15.0
"""Longer than two looks: the one that is under way, and ours."""
AT_ONCE_MAX = 64
EXISTS = sys.platform.startswith("linux")


def address(server: str, run_id: str) -> str:
    """Where it is: both sides have these two in their environment."""
    said = f"{server.rstrip('/')}\n{run_id}".encode()
    return f"\0omakase-look-{hashlib.sha256(said).hexdigest()[:32]}"


def ask(server: str, run_id: str) -> None:
    """Have the run's sidecar look. Raises SidecarAway, or SidecarRefused with its code."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ASK_S)
            connection.connect(address(server, run_id))
            answer = json.loads(connection.recv(1_024))
            code = None if answer["ok"] else str(answer["code"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SidecarAway(f"no sidecar of {run_id} answers: {error}") from error
    if code is not None:
        raise SidecarRefused(code, f"The sidecar could not look: {code}.")


class LookDoor:
    """`look` asks the server for mail, and raises SidecarRefused."""

    def __init__(
        self,
        where: str,
        look: Callable[[Dict[str, Any]], Dict[str, Any]],
        complain: Callable[[str, str], None],
    ) -> None:
        self._look = look
        self._complain = complain
        self._closed = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(where)
            self._socket.listen(AT_ONCE_MAX)
        except (
            OSError
        ) as error:  # somebody sits there: a nudge will fail, and the poll brings the mail
            complain("no_look_door", str(error))
            self._closed.set()

    def serve(self) -> None:
        """Until `close`: all who ask while one look is under way, or too soon after it, share the next."""
        last = -EVERY_S
        while not self._closed.is_set():
            try:
                first, _ = self._socket.accept()
            except OSError:
                return
            self._closed.wait(last + EVERY_S - time.monotonic())
            everyone = [first, *self._others()]
            answer = json.dumps(self._answer()).encode()
            last = time.monotonic()
            for connection in everyone:
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(EVERY_S)
                    connection.sendall(answer)

    def close(self) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes who accepts, else the name stays taken
        self._socket.close()

    def _others(self) -> List[socket.socket]:
        found: List[socket.socket] = []
        self._socket.settimeout(0)
        with contextlib.suppress(OSError):
            while len(found) < AT_ONCE_MAX:
                found.append(self._socket.accept()[0])
        with contextlib.suppress(OSError):
            self._socket.settimeout(None)
        return found

    def _answer(self) -> Dict[str, Any]:
        try:
            self._look({})
        except SidecarRefused as error:
            return {"ok": False, "code": error.code}
        except Exception as error:  # the door must outlive one bad look
            self._complain("failed_look", repr(error))
            return {"ok": False, "code": "failed"}
        return {"ok": True}
