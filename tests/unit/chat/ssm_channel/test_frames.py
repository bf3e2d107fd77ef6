"""Frames: what is written is read again, the vendor's layout to the byte, and damage is refused."""

import hashlib
import struct
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from chat.adapters.ssm_channel.frames import (
    HEADER_BYTES,
    PAYLOAD_MAX_BYTES,
    PAYLOAD_OFFSET,
    BadFrame,
    DigestMismatch,
    Frame,
    MessageType,
    PayloadType,
    decode,
    encode,
)
from tests.ssm_agent import pack, unpack

U64 = st.integers(0, 2**64 - 1)
names = st.sampled_from([*MessageType, "agent_job", "x" * 32])
frames = st.builds(
    Frame,
    type=names,
    id=st.uuids(),
    created_ms=st.integers(1, 2**64 - 1),
    sequence=st.integers(-(2**63), 2**63 - 1),
    flags=U64,
    payload_type=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=300),
)
ordinary = frames.filter(lambda frame: not frame.type.endswith("_publication"))
FRAME = Frame(
    type=MessageType.OUTPUT,
    id=UUID("00112233-4455-6677-8899-aabbccddeeff"),
    created_ms=1_700_000_000_123,
    sequence=-2,
    flags=3,
    payload_type=PayloadType.OUTPUT,
    payload=b"hello\n",
)


@given(frames)
def test_what_is_written_is_read_again(frame):
    assert decode(encode(frame)) == frame


def test_a_frame_is_laid_out_as_the_vendor_says():
    data = encode(FRAME)

    assert len(data) == 116 + 4 + 6
    assert data[0:4] == (116).to_bytes(4)
    assert data[4:36] == b"output_stream_data".ljust(32, b" ")
    assert data[36:40] == (1).to_bytes(4)
    assert data[40:48] == (1_700_000_000_123).to_bytes(8)
    assert data[48:56] == (-2).to_bytes(8, signed=True)
    assert data[56:64] == (3).to_bytes(8)
    assert data[64:80].hex() == "8899aabbccddeeff" + "0011223344556677"
    assert data[80:112] == hashlib.sha256(b"hello\n").digest()
    assert data[112:116] == (1).to_bytes(4)
    assert data[116:120] == (6).to_bytes(4)
    assert data[120:] == b"hello\n"


@given(st.uuids(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**31 - 1), st.binary())
def test_a_framing_written_by_others_reads_ours_and_is_read(name, sequence, payload_type, payload):
    theirs = pack(
        "output_stream_data", sequence, payload, payload_type=payload_type, flags=1, name=name
    )
    read = decode(theirs)
    assert (read.id, read.sequence, read.payload_type) == (name, sequence, payload_type)
    assert (read.payload, read.flags) == (payload, 1)
    again = unpack(encode(read))
    assert (again.id, again.sequence, again.payload_type) == (str(name), sequence, payload_type)
    assert (again.payload, again.created) == (payload, read.created_ms)


@given(ordinary, st.data())
def test_every_truncation_and_every_addition_is_refused(frame, data):
    whole = encode(frame)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BadFrame):
        decode(whole[:cut])
    with pytest.raises(BadFrame):
        decode(whole + b"\0")


@given(ordinary, st.data())
def test_no_flipped_bit_goes_unnoticed_where_it_can_be_seen_and_none_reads_as_the_same_frame(
    frame, data
):
    assume(frame.payload)
    whole = bytearray(encode(frame))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    covered = [range(4), range(36, 40), range(80, 112), range(HEADER_BYTES, len(whole))]
    if any(bit // 8 in place for place in covered):
        with pytest.raises(BadFrame):
            decode(bytes(whole))
        return
    try:
        read = decode(bytes(whole))
    except BadFrame:
        return
    assert read != frame
    # what the digest does not cover: type, time, sequence, flags, id, payload type; the words are whole
    assert read.payload == frame.payload


def test_each_bit_of_a_real_frame_is_refused_or_changes_what_is_read():
    whole = encode(FRAME)
    refused = 0
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert decode(bytes(damaged)) != FRAME
        except BadFrame:
            refused += 1
    # header length, padding of the type, schema, digest, length and payload: all of them
    at_least = (4 + (32 - 18) + 4 + 32 + 4 + 6) * 8
    assert refused >= at_least


@given(st.binary(max_size=400))
@example(b"")
@example(b"\0" * PAYLOAD_OFFSET)
@example(encode(FRAME)[:PAYLOAD_OFFSET])
def test_anything_at_all_is_a_frame_or_a_refusal(data):
    try:
        frame = decode(data)
    except BadFrame:
        return
    assert decode(encode(frame)).payload == frame.payload


@pytest.mark.parametrize(
    ("offset", "value", "says"),
    [
        (0, (120).to_bytes(4), "the header says it has 120 bytes, not 116"),
        (4, b"\0" * 32, "is no message type"),
        (4, b"output stream data".ljust(32), "is no message type"),
        (4, b"output_stream_data".ljust(31) + b"\0", "is no message type"),
        (4, bytes([0xC3, 0xA4]).ljust(32), "is no message type"),
        (36, (2).to_bytes(4), "schema version 2 is not known"),
        (40, bytes(8), "the time of its creation is missing"),
        (116, (7).to_bytes(4), "should have 7 bytes and has 6"),
        (116, (2**32 - 1).to_bytes(4), "should have 4294967295 bytes and has 6"),
    ],
)
def test_a_refusal_says_what_is_wrong(offset, value, says):
    data = bytearray(encode(FRAME))
    data[offset : offset + len(value)] = value
    with pytest.raises(BadFrame, match=says):
        decode(bytes(data))


def test_a_wrong_digest_is_its_own_refusal():
    data = bytearray(encode(FRAME))
    data[-1] ^= 1
    with pytest.raises(DigestMismatch):
        decode(bytes(data))


@pytest.mark.parametrize("fill", [b" ", b"\0"])
@pytest.mark.parametrize("side", [bytes.ljust, bytes.rjust])
def test_the_type_may_be_padded_on_either_side_with_spaces_or_nuls(fill, side):
    data = bytearray(encode(FRAME))
    data[4:36] = side(b"output_stream_data", 32, fill)
    assert decode(bytes(data)) == FRAME


@pytest.mark.parametrize("name", ["start_publication", "pause_publication"])
def test_publication_messages_are_taken_whatever_else_they_hold(name):
    data = struct.pack(">I32s", 0, name.encode().ljust(32, b" ")) + bytes(84)
    assert decode(data).type == name


def test_the_digest_of_an_empty_payload_is_not_looked_at():
    data = bytearray(pack("acknowledge", 0, b""))
    data[80:112] = bytes(32)
    assert decode(bytes(data)).payload == b""


def test_a_frame_larger_than_the_bound_is_neither_written_nor_read():
    huge = b"x" * (PAYLOAD_MAX_BYTES + 1)
    with pytest.raises(BadFrame, match="at most"):
        encode(Frame(type=MessageType.INPUT, id=UUID(int=1), created_ms=1, payload=huge))
    with pytest.raises(BadFrame, match="too many"):
        decode(pack("input_stream_data", 0, huge))


@pytest.mark.parametrize(
    "fields", [{"type": ""}, {"type": "a b"}, {"type": "x" * 33}, {"type": "ä"}, {"flags": -1},
               {"sequence": 2**63}, {"payload_type": 2**32}, {"created_ms": -1}]
)  # fmt: skip
def test_what_does_not_fit_is_not_written(fields):
    with pytest.raises(BadFrame):
        encode(Frame(**({"type": "x", "id": UUID(int=1), "created_ms": 1} | fields)))
