"""Our frames beside those of the npm package ssm-session, a client that nobody here wrote.

It differs from the vendor in three places that this file pins down: it pads the type with NULs in
front, writes the first 32 hex digits of the digest where the digest's 32 bytes belong (agents do not
look), and gives acknowledgements payload type 3 and no flags. In all else it is byte for byte ours.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat.adapters.ssm_channel import payloads
from chat.adapters.ssm_channel.frames import (
    DigestMismatch,
    Frame,
    MessageType,
    PayloadType,
    decode,
    encode,
)
from tests.tools import npm_packages

NODE = Path(__file__).parent.parent / "node" / "ssm"
TYPE, DIGEST = slice(4, 36), slice(80, 112)
JS_MAX = 2**53 - 1
"""Above it JavaScript's numbers skip some."""

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """ask(build=…) or ask(parse=hex) of ssm-session."""
    npm_packages(NODE)
    process = subprocess.Popen(
        ["node", NODE / "frames.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(**question: Any) -> dict[str, Any]:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
            return answer

        yield ask
        process.stdin.close()  # it ends by itself


def with_real_digest(theirs: bytes) -> bytes:
    payload = theirs[120:]
    return theirs[: DIGEST.start] + hashlib.sha256(payload).digest() + theirs[DIGEST.stop :]


def same_but_for_type_padding_and_digest(ours: bytes, theirs: bytes) -> None:
    assert ours[TYPE].strip(b" ") == theirs[TYPE].strip(b"\0")
    assert (ours[:4], ours[36:80], ours[112:]) == (theirs[:4], theirs[36:80], theirs[112:])


quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(
    kind=st.sampled_from(list(MessageType)),
    name=st.uuids(),
    created_ms=st.integers(1, JS_MAX),
    sequence=st.integers(0, JS_MAX),
    flags=st.integers(0, 3),
    payload_type=st.integers(0, 2**31 - 1),
    payload=st.binary(max_size=1_100),
)
def test_what_ours_makes_its_parser_reads(
    ask, kind, name, created_ms, sequence, flags, payload_type, payload
):
    frame = Frame(
        type=kind,
        id=name,
        created_ms=created_ms,
        sequence=sequence,
        flags=flags,
        payload_type=payload_type,
        payload=payload,
    )
    assert ask(parse=encode(frame).hex()) == {
        "headerLength": 116,
        "messageType": str(kind),
        "schemaVersion": 1,
        "createdDate": created_ms,
        "sequenceNumber": sequence,
        "flags": flags,
        "messageId": str(name),
        "payloadDigest": hashlib.sha256(payload).digest().decode("latin-1"),
        "payloadType": payload_type,
        "payloadLength": len(payload),
        "payload": payload.hex(),
    }


ASCII = st.text(st.characters(max_codepoint=0x7F), max_size=1_100)
"""It counts UTF-16 units where bytes are meant."""


@quick
@given(text=ASCII, sequence=st.integers(0, JS_MAX))
def test_the_input_its_builder_makes_our_parser_reads(ask, text, sequence):
    theirs = bytes.fromhex(ask(build="input", text=text, sequence=sequence)["hex"])
    assert theirs[DIGEST] == hashlib.sha256(text.encode()).hexdigest()[:32].encode()
    if text:
        with pytest.raises(DigestMismatch):
            decode(theirs)
    read = decode(with_real_digest(theirs))
    assert (read.type, read.payload_type) == (MessageType.INPUT, PayloadType.OUTPUT)
    assert (read.sequence, read.payload) == (sequence, text.encode())
    assert read.id.version == 4
    same_but_for_type_padding_and_digest(encode(read), theirs)


@quick
@given(name=st.uuids(), sequence=st.integers(0, JS_MAX))
def test_the_acknowledgement_its_builder_makes_says_what_ours_says(ask, name, sequence):
    asked = {"type": "output_stream_data", "sequence": sequence, "id": str(name)}
    theirs = bytes.fromhex(ask(build="acknowledge", **asked)["hex"])
    read = decode(with_real_digest(theirs))
    acknowledged = Frame(type=MessageType.OUTPUT, id=name, created_ms=1, sequence=sequence)
    assert read.type == MessageType.ACKNOWLEDGE
    assert read.payload == payloads.acknowledgement(acknowledged)
    assert payloads.acknowledged_sequence(read.payload) == sequence
    assert (read.payload_type, read.flags) == (3, 0)
    same_but_for_type_padding_and_digest(encode(read), theirs)


def test_the_size_its_builder_makes_is_ours(ask):
    theirs = bytes.fromhex(ask(build="size", cols=132, rows=43)["hex"])
    read = decode(with_real_digest(theirs))
    assert read.payload == payloads.size(132, 43)
    assert (read.payload_type, read.sequence, read.flags) == (PayloadType.SIZE, 0, 1)
    same_but_for_type_padding_and_digest(encode(read), theirs)


def test_the_first_message_of_both_asks_for_the_same_and_ours_says_who_asks(ask):
    theirs = json.loads(ask(build="token", token="secret")["text"])
    ours = json.loads(
        payloads.opening(token="secret", request_id=UUID(int=1), client_id=UUID(int=2))
    )
    assert ours.keys() - theirs.keys() == {"ClientId", "ClientVersion"}
    assert {name: ours[name] for name in theirs} == theirs | {"RequestId": str(UUID(int=1))}
