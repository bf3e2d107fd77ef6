"""Taking a connection away from the web server's thread and giving it to the process's event loop.

The server goes on believing that it owns the socket: it writes a response, shuts it down, closes it
and counts it. So the connection is moved to a descriptor of its own, and a dead stand-in is put in its
place with dup2(2): whatever the server does afterwards happens to the stand-in, and its bookkeeping
(gunicorn's `nr_conns`, which a graceful stop waits for) stays right. A plain `detach()` does not do:
gunicorn then fails on the missing descriptor and counts the connection down twice.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Response, request
from werkzeug.datastructures import Headers
from werkzeug.http import http_date

_SERVERS: Final = ("gunicorn.socket", "werkzeug.socket")


def raw_socket(environ: WSGIEnvironment) -> socket.socket | None:
    """The connection below the request, or None where the server does not show it."""
    for name in _SERVERS:
        if isinstance(found := environ.get(name), socket.socket):
            if isinstance(found, ssl.SSLSocket):
                return None  # TLS ends in front of us; its state cannot be moved
            return found
    return None


def take(environ: WSGIEnvironment) -> socket.socket:
    """The connection, non-blocking, and ours alone. Raises RuntimeError where it cannot be had."""
    sock = raw_socket(environ)
    if sock is None:
        raise RuntimeError("this web server does not let go of its sockets")
    ours = socket.socket(fileno=os.dup(sock.fileno()))
    stand_in, other_end = socket.socketpair()
    with stand_in, other_end:
        os.dup2(stand_in.fileno(), sock.fileno(), inheritable=False)
    ours.setblocking(False)
    return ours


class HandedOver(Response):
    """A response whose connection goes to the loop once its headers are known.

    `adopt(sock, headers)` runs on the server's thread and must only pass them on.
    """

    adopt: Callable[[socket.socket, Headers], None]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        headers = self.get_wsgi_headers(environ)
        headers.remove("Content-Length")
        headers.set("Connection", "close")
        headers.set("Date", http_date())  # RFC 9110 section 6.6.1; the server would have added it
        self.adopt(take(environ), headers)
        # For the server's own log; it goes to the stand-in, whose other end is closed.
        start_response(self.status, headers.to_wsgi_list())
        return []


def head(status: int, headers: Headers) -> bytes:
    """A response's status line and headers (RFC 9112 section 4)."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    phrase = HTTPStatus(status).phrase
    return f"HTTP/1.1 {status} {phrase}\r\n{lines}\r\n".encode("latin-1")


class InertThread:
    """Stands in for the reader thread that simple_websocket wants: its handshake is all we use."""

    def __init__(self, **_: Any) -> None:
        self.name = "inert"

    def start(self) -> None:
        """Do nothing."""


def can_hand_over() -> bool:
    """Whether the present request's connection can be taken away from the server."""
    return raw_socket(request.environ) is not None
