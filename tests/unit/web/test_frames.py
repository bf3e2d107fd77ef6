"""Bytes out: what we frame is what a client's own parser reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from web import frames
from web.subscriber import pack


def parsed(data: bytes) -> list:
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(data)
    return list(protocol.received_frames())


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_text_of_any_length_is_one_frame(size: int):
    text = "x" * size
    [frame] = parsed(frames.text(text.encode()))
    assert (frame.opcode, frame.payload, frame.message_finished) == (Opcode.TEXT, text, True)


@given(st.integers(4000, 4999), st.text(max_size=200))
def test_a_close_says_its_code_and_as_much_of_the_reason_as_fits(code: int, reason: str):
    reason = reason.encode(errors="ignore").decode()
    [frame] = parsed(frames.close(code, reason))
    assert frame.payload[0] == code
    assert reason.startswith(frame.payload[1])


def test_frames_joined_are_still_frames_of_their_own():
    data = frames.text(b"{}") + frames.PING + frames.pong(b"x")
    assert [frame.opcode for frame in parsed(data)] == [Opcode.TEXT, Opcode.TEXT, Opcode.PONG]


def test_an_event_on_a_stream_carries_epoch_and_number_as_its_id():
    data = b'{"seq":7,"epoch":"ep_1","kind":"message"}'
    assert frames.EVENT_STREAM.event(b"run_x", data) == (
        b"id: ep_1:7\nevent: message\ndata: " + data + b"\n\n"
    )


def test_a_command_to_redis_is_counted_in_bytes():
    assert pack(b"SUBSCRIBE", "ä".encode()) == b"*2\r\n$9\r\nSUBSCRIBE\r\n$2\r\n\xc3\xa4\r\n"
