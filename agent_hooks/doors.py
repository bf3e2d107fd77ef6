"""Where the sidecar listens: a unix socket for the thin hooks and us, loopback HTTP for the rest.

The first line says what it is: `json` and one JSON object, answered by one; or `hook <adapter>` and
the hook's stdin as it is, answered by the bytes that the hook is to print (perhaps none), before which
zero bytes may come, each saying "still here, wait". Both ends finish by closing their half.
"""

from __future__ import annotations

import hmac
import http.server
import json
import os
import socket
import threading
from typing import Any, Callable, Dict, List

from agent_hooks.errors import HooksError

MAX_BYTES = 32 * 1024 * 1024
READ_S = 10.0

Handle = Callable[[Dict[str, Any]], Dict[str, Any]]
"""The answer to a request. A `then` in it is not sent: it is called when the answer went out, and not when
whoever asked is gone."""


class HookCall:
    """One hook waiting for its answer; `answer` may be given once."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def still_here(self) -> bool:
        """Ask it to wait; False when it is gone."""
        return self._send(b"\0")

    def answer(self, text: bytes) -> bool:
        """What it is to print; False when it is surely gone."""
        return self._send(text)

    def _send(self, data: bytes) -> bool:
        try:
            self._connection.sendall(data)
        except OSError:
            return False
        return True


Hook = Callable[[str, bytes, HookCall], None]


class UnixDoor:
    """The unix socket `sidecar.sock` in the present folder (so that its path is never too long)."""

    def __init__(self, handle: Handle, hook: Hook, complain: Callable[[str, str], None]) -> None:
        self._handle = handle
        self._hook = hook
        self._complain = complain
        if os.path.exists("sidecar.sock"):
            os.unlink("sidecar.sock")  # of one that was killed: we hold the lock
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind("sidecar.sock")
        os.chmod("sidecar.sock", 0o600)
        self._socket.listen(128)

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self._socket.close()
        try:
            os.unlink("sidecar.sock")
        except OSError:
            return

    def _one(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(READ_S)
            try:
                first, _, rest = _read_all(connection).partition(b"\n")
                kind, _, adapter = first.decode("ascii").partition(" ")
                if kind == "hook":
                    self._hook(adapter, rest, HookCall(connection))
                else:
                    answer = self._handle(json.loads(rest))
                    then = answer.pop("then", None)
                    connection.sendall(json.dumps(answer).encode())
                    if then is not None:
                        then()  # before the connection ends, for which the other side waits
            except (OSError, ValueError) as error:
                self._complain("broken_call", repr(error))
            except HooksError as error:
                self._complain("failed_call", repr(error))


def _read_all(connection: socket.socket) -> bytes:
    chunks: List[bytes] = []
    size = 0
    while True:
        chunk = connection.recv(262_144)
        if not chunk:
            return b"".join(chunks)
        size += len(chunk)
        if size > MAX_BYTES:
            raise ValueError("too large")
        chunks.append(chunk)


class HttpDoor:
    """POST / on 127.0.0.1 with the secret of local.json: the same JSON objects."""

    def __init__(self, handle: Handle, secret: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = READ_S

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                given = self.headers.get("X-Omakase-Secret") or ""
                if not hmac.compare_digest(given.encode(), secret.encode()):
                    self._reply(403, {"ok": False, "code": "forbidden"})
                elif length > MAX_BYTES:
                    self._reply(413, {"ok": False, "code": "too_large"})
                else:
                    try:
                        request = json.loads(self.rfile.read(length))
                        self._reply(200, handle(request))
                    except ValueError as error:
                        self._reply(400, {"ok": False, "code": "invalid", "detail": repr(error)})

            def _reply(self, status: int, answer: Dict[str, Any]) -> None:
                then = answer.pop("then", None)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                if then is not None:
                    then()

            def log_message(self, *_: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.5)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
