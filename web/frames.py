"""Bytes on the wire: WebSocket frames (RFC 6455 section 5.2) and server-sent events.

A server's frames carry no mask, so one event is framed once and the same bytes go to every socket.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson

from chat.events import EventJson


def text(payload: bytes) -> bytes:
    """A whole text message in one frame."""
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 65_536:
        return b"\x81\x7e" + struct.pack("!H", length) + payload
    return b"\x81\x7f" + struct.pack("!Q", length) + payload


def binary(payload: bytes) -> bytes:
    """A whole binary message in one frame."""
    return b"\x82" + text(payload)[1:]


def close(code: int, reason: str) -> bytes:
    """A close frame; the reason is cut to the 123 bytes a control frame has room for."""
    words = reason.encode()[:123].decode(errors="ignore").encode()
    return bytes((0x88, 2 + len(words))) + struct.pack("!H", code) + words


def pong(payload: bytes) -> bytes:
    """The answer to a ping, with the ping's own payload (at most 125 bytes)."""
    return bytes((0x8A, len(payload))) + payload


def message(value: EventJson) -> bytes:
    """A JSON object as a text frame."""
    return text(orjson.dumps(value))


PING: Final = text(b'{"type":"ping"}')
HEARTBEAT: Final = b":\n\n"


def sse(name: str, data: bytes, event_id: str | None = None) -> bytes:
    """One server-sent event; `data` is JSON and so holds no line break."""
    head = f"id: {event_id}\n" if event_id is not None else ""
    return f"{head}event: {name}\ndata: ".encode() + data + b"\n\n"


@dataclass(frozen=True, slots=True, eq=False)
class Framing:
    """How a channel's payloads look on one kind of connection. Compared by identity."""

    event: Callable[[bytes, bytes], bytes]
    """From the run's id and a numbered event's JSON."""
    passing: Callable[[bytes], bytes]
    """From an unnumbered frame's JSON: deltas, typing, read marks."""
    greeting: Callable[[str, str, EventJson], bytes]
    """From the run's id, `ok` or `gap`, and the snapshot as JSON."""


def _ws_event(run_id: bytes, data: bytes) -> bytes:
    return text(b'{"type":"event","run_id":"' + run_id + b'","event":' + data + b"}")


def _sse_event(_run_id: bytes, data: bytes) -> bytes:
    event = orjson.loads(data)
    return sse(event["kind"], data, f"{event['epoch']}:{event['seq']}")


def _sse_passing(data: bytes) -> bytes:
    return sse(str(orjson.loads(data)["type"]), data)


def _state(resume: str, snapshot: EventJson) -> EventJson:
    return {
        "resume": resume,
        "epoch": snapshot["epoch"],
        "head": snapshot["head"],
        "snapshot": snapshot,
    }


def _ws_greeting(run_id: str, resume: str, snapshot: EventJson) -> bytes:
    return message({"type": "subscribed", "run_id": run_id} | _state(resume, snapshot))


def _sse_greeting(_run_id: str, resume: str, snapshot: EventJson) -> bytes:
    return sse("connection", orjson.dumps(_state(resume, snapshot)))


WEBSOCKET: Final = Framing(event=_ws_event, passing=text, greeting=_ws_greeting)
EVENT_STREAM: Final = Framing(event=_sse_event, passing=_sse_passing, greeting=_sse_greeting)
