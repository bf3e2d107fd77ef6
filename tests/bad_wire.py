"""How an answer goes wrong between AWS and boto3: told to an HTTP handler, on the wire below every client.

drop     nothing is done, and nothing is answered
hang     the same, and the client finds out by its own time-out
half     it is done, and nothing is answered
late     the same, and the client finds out by its own time-out
reset    it is done, and the connection breaks in the middle of the answer's body
torn     it is done, and half of the JSON is answered as if it were the whole
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Final

NOT_DONE: Final = ("drop", "hang")
DONE: Final = ("half", "late", "reset", "torn")
HOWS: Final = (*NOT_DONE, *DONE)
Act = Callable[[], tuple[int, Mapping[str, str], bytes]]
"""Does what was asked for: status, headers, body."""


def answer(
    request: BaseHTTPRequestHandler, act: Act, how: str | None, *, over: Event, hang_s: float
) -> None:
    """Act, and answer well (`how` None) or badly; who hangs goes on when it is `over`."""
    if how == "drop":
        request.close_connection = True
        return
    if how == "hang":
        over.wait(hang_s)
        request.close_connection = True
        return
    status, headers, data = act()
    if how in {"half", "late"}:
        if how == "late":
            over.wait(hang_s)
        request.close_connection = True
        return
    if how == "torn":
        data = data[: len(data) // 2]
        # a checksum of the whole would give it away, and only some services send one
        headers = {k: v for k, v in headers.items() if k.lower() != "x-amz-crc32"}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join(
        [f"HTTP/1.1 {status} OK", *lines, f"Content-Length: {len(data)}", "", ""]
    ).encode()
    if how == "reset":
        request.wfile.write(head + data[: len(data) // 2])
        request.wfile.flush()
        linger = struct.pack("ii", 1, 0)  # close(2) sends RST instead of FIN
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.close_connection = True
        return
    request.wfile.write(head + data)  # one write: two would wait for an acknowledgement
