"""One message of the data channel: bytes <-> Frame, pure.

Big-endian, 116 bytes of header, then the payload's length in 4 bytes, then the payload:

    offset length
         0      4  header length, always 116
         4     32  message type, ASCII, padded (the vendor with spaces behind, others with NULs)
        36      4  schema version, always 1
        40      8  created, milliseconds since 1970 in UTC
        48      8  sequence number, signed
        56      8  flags: bit 0 SYN, the stream's first message; bit 1 FIN, its last
        64     16  message id, a UUID with its low 8 bytes first
        80     32  SHA-256 of the payload
       112      4  payload type
       116      4  payload length
       120      …  payload

What is refused follows `Validate` in session-manager-plugin's `messageparser.go`, and is stricter where
that would read a damaged frame as a good one: lengths, schema and padding must be exact. As there,
the digest of an empty payload is not looked at, and of `start_publication` and `pause_publication`, which
the service makes and which carry nothing, only the type is. A digest covers the payload alone: damage
to sequence, times, flags or id cannot be seen here.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag, StrEnum
from typing import Final
from uuid import UUID

HEADER: Final = struct.Struct(">I32sIQqQ16s32sI")
LENGTH: Final = struct.Struct(">I")
HEADER_BYTES: Final = 116
PAYLOAD_OFFSET: Final = HEADER_BYTES + LENGTH.size
TYPE_BYTES: Final = 32
SCHEMA: Final = 1
PAYLOAD_MAX_BYTES: Final = 256 * 1024
"""Agents send chunks of 1,024 bytes; the largest thing known is an error text in `channel_closed`."""
FRAME_MAX_BYTES: Final = PAYLOAD_OFFSET + PAYLOAD_MAX_BYTES


class MessageType(StrEnum):
    """What a frame is. Others exist on the control channel; here they are ignored."""

    INPUT = "input_stream_data"
    OUTPUT = "output_stream_data"
    ACKNOWLEDGE = "acknowledge"
    CHANNEL_CLOSED = "channel_closed"
    START_PUBLICATION = "start_publication"
    PAUSE_PUBLICATION = "pause_publication"


class PayloadType(IntEnum):
    """What the payload of stream data is."""

    OUTPUT = 1
    ERROR = 2
    SIZE = 3
    PARAMETER = 4
    HANDSHAKE_REQUEST = 5
    HANDSHAKE_RESPONSE = 6
    HANDSHAKE_COMPLETE = 7
    CHALLENGE_REQUEST = 8
    CHALLENGE_RESPONSE = 9
    FLAG = 10
    STDERR = 11
    EXIT_CODE = 12


class Flags(IntFlag):
    """Of a frame; not to be mixed up with the payload type FLAG."""

    NONE = 0
    SYN = 1
    FIN = 2


_PUBLICATION: Final = frozenset({MessageType.START_PUBLICATION, MessageType.PAUSE_PUBLICATION})


class BadFrame(ValueError):
    """These bytes are no frame; the text says what is wrong with them."""


class DigestMismatch(BadFrame):
    """The payload is not the one the digest was made of."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A message. `type` is one of MessageType, or a name this module does not know."""

    type: str
    id: UUID
    created_ms: int
    sequence: int = 0
    flags: int = 0
    payload_type: int = 0
    payload: bytes = b""


def encode(frame: Frame) -> bytes:
    """The frame's bytes. Raises BadFrame for what cannot be written."""
    name = frame.type.encode()
    if not _is_name(name):
        raise BadFrame(f"{frame.type!r} is no message type")
    if len(frame.payload) > PAYLOAD_MAX_BYTES:
        raise BadFrame(f"the payload has {len(frame.payload)} bytes, at most {PAYLOAD_MAX_BYTES}")
    try:
        header = HEADER.pack(
            HEADER_BYTES,
            name.ljust(TYPE_BYTES, b" "),
            SCHEMA,
            frame.created_ms,
            frame.sequence,
            frame.flags,
            frame.id.bytes[8:] + frame.id.bytes[:8],
            hashlib.sha256(frame.payload).digest(),
            frame.payload_type,
        )
    except struct.error as error:
        raise BadFrame(f"a number does not fit its field: {error}") from error
    return header + LENGTH.pack(len(frame.payload)) + frame.payload


def decode(data: bytes) -> Frame:
    """The frame in these bytes. Raises BadFrame, or DigestMismatch when only the digest is wrong."""
    if len(data) < PAYLOAD_OFFSET:
        raise BadFrame(f"{len(data)} bytes are too few: a frame has at least {PAYLOAD_OFFSET}")
    if len(data) > FRAME_MAX_BYTES:
        raise BadFrame(f"{len(data)} bytes are too many: a frame has at most {FRAME_MAX_BYTES}")
    header = HEADER.unpack_from(data)
    header_bytes, padded, schema, created_ms, sequence, flags, swapped, digest, payload_type = (
        header
    )
    name = _unpadded(padded)
    payload = data[PAYLOAD_OFFSET:]
    if name not in _PUBLICATION:
        (length,) = LENGTH.unpack_from(data, HEADER_BYTES)
        if header_bytes != HEADER_BYTES:
            raise BadFrame(f"the header says it has {header_bytes} bytes, not {HEADER_BYTES}")
        if schema != SCHEMA:
            raise BadFrame(f"schema version {schema} is not known, only {SCHEMA}")
        if length != len(payload):
            raise BadFrame(f"the payload should have {length} bytes and has {len(payload)}")
        if created_ms == 0:
            raise BadFrame("the time of its creation is missing")
        if payload and hashlib.sha256(payload).digest() != digest:
            raise DigestMismatch("the payload is not the one that the digest was made of")
    return Frame(
        type=name,
        id=UUID(bytes=swapped[8:] + swapped[:8]),
        created_ms=created_ms,
        sequence=sequence,
        flags=flags,
        payload_type=payload_type,
        payload=payload,
    )


def _is_name(name: bytes) -> bool:
    return 0 < len(name) <= TYPE_BYTES and all(0x21 <= byte <= 0x7E for byte in name)


def _unpadded(padded: bytes) -> str:
    name = padded.strip(b" \0")
    whole = {
        side
        for fill in (b" ", b"\0")
        for side in (name.ljust(TYPE_BYTES, fill), name.rjust(TYPE_BYTES, fill))
    }
    if not _is_name(name) or padded not in whole:
        raise BadFrame(f"{padded!r} is no message type")
    return name.decode("ascii")
