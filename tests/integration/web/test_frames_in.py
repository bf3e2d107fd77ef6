"""What a WebSocket's other end may send, and what it may not (RFC 6455)."""

from __future__ import annotations

import json
import os
import struct

import pytest

from tests.serving import Api, Attached, Live, Server

TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0


def frame(
    opcode: int, payload: bytes, *, fin: bool = True, mask: bool = True, rsv: int = 0
) -> bytes:
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65_536:
        head += bytes([bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))


@pytest.fixture
def live(server: Server, anna: Api):
    with server.live(anna) as opened:
        opened.next("hello")
        yield opened


def put(live: Live, *frames: bytes) -> None:
    live.ws.sock.sendall(b"".join(frames))


def subscribe_words(attached: Attached) -> bytes:
    return json.dumps({"type": "subscribe", "run_id": attached.id, "after": None}).encode()


def test_a_message_in_fragments_with_a_ping_between_them_is_one_message(
    live: Live, attached: Attached
):
    words = subscribe_words(attached)
    put(live, frame(TEXT, words[:7], fin=False), frame(PING, b"here?"))
    put(live, frame(MORE, words[7:20], fin=False), frame(MORE, words[20:]))
    opcode, data = live.ws.recv_data(control_frame=True)
    assert (opcode, data) == (PONG, b"here?")
    assert live.next("subscribed")["run_id"] == attached.id


def test_a_message_that_comes_byte_by_byte_is_read(live: Live, attached: Attached):
    for byte in frame(TEXT, subscribe_words(attached)):
        live.ws.sock.sendall(bytes([byte]))
    assert live.next("subscribed")["run_id"] == attached.id


def test_a_character_cut_by_a_fragment_is_whole_again(live: Live, attached: Attached):
    said = {"type": "send", "run_id": attached.id, "key": "k", "text": "日本語 🍣"}
    words = json.dumps(said, ensure_ascii=False).encode()
    cut = words.index("🍣".encode()) + 2
    put(live, frame(TEXT, words[:cut], fin=False), frame(MORE, words[cut:]))
    assert live.next("sent")["event"]["body"]["text"] == "日本語 🍣"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(TEXT, b"\xff\xfe"), 1007, id="no UTF-8"),
        pytest.param(frame(TEXT, b"{}", mask=False), 1002, id="not masked"),
        pytest.param(frame(TEXT, b"{}", rsv=4), 1002, id="reserved bit"),
        pytest.param(frame(3, b"{}"), 1002, id="opcode nobody knows"),
        pytest.param(frame(MORE, b"{}"), 1002, id="continues nothing"),
        pytest.param(frame(PING, b"", fin=False), 1002, id="ping in fragments"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="ping too long"),
        pytest.param(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002, id="two at once"),
        pytest.param(frame(BINARY, b"{}"), 1003, id="binary"),
        pytest.param(frame(TEXT, b"no json"), 4400, id="no JSON"),
        pytest.param(frame(TEXT, b"[]"), 4400, id="no object"),
        pytest.param(frame(TEXT, b'{"type":"dance"}'), 4400, id="type nobody knows"),
        pytest.param(frame(TEXT, b'{"type":{}}'), 4400, id="type is no word"),
        pytest.param(frame(TEXT, b"[" * 60_000), 4400, id="deep nesting"),
        pytest.param(frame(TEXT, b"x" * 65_537), 1009, id="a byte too many"),
        pytest.param(frame(TEXT, b"x" * 65_536), 4400, id="not a byte too many"),
        pytest.param(
            frame(TEXT, b"x" * 40_000, fin=False) + frame(MORE, b"x" * 40_000), 1009,
            id="too many bytes in fragments",
        ),
        pytest.param(frame(CLOSE, struct.pack("!H", 1000)), 1000, id="goodbye"),
    ],
)  # fmt: skip
def test_what_may_not_be_sent_closes_the_socket_with_its_code(live: Live, sent: bytes, code: int):
    put(live, sent)
    assert live.closed_with() == code


def pour(live: Live, frames_of: bytes, most: int) -> None:
    for _ in range(most):
        live.ws.sock.sendall(frames_of)


def test_a_giant_is_cut_off_before_it_is_all_read(live: Live):
    head = bytes([0x81, 0xFF]) + struct.pack("!Q", 1 << 40) + bytes(4)
    put(live, head)
    with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe, whoever is quicker
        pour(live, b"x" * 65_536, 2_000)


def test_a_flood_is_closed_and_others_go_on(server: Server, anna: Api, live: Live):
    with server.live(anna) as other:
        put(live, *[frame(TEXT, b'{"type":"pong"}')] * 400)
        assert live.closed_with() == 4429
        other.ws.ping("still there?")
        other.next("hello")
        opcode, data = other.ws.recv_data(control_frame=True)
        assert (opcode, data) == (PONG, b"still there?")


def test_a_flood_of_pings_is_closed(live: Live):
    put(live, *[frame(PING, b"")] * 400)
    while True:
        opcode, data = live.ws.recv_data(control_frame=True)
        if opcode == CLOSE:
            break
    assert int.from_bytes(data[:2]) == 4429


@pytest.mark.parametrize(
    "command",
    [
        {"type": "subscribe"},
        {"type": "subscribe", "run_id": "x", "after": -1},
        {"type": "subscribe", "run_id": "x", "after": 10**30},
        {"type": "subscribe", "run_id": 7},
        {"type": "send", "run_id": "x", "key": "with space", "text": "a"},
        {"type": "send", "run_id": "x", "key": "k", "text": ""},
        {"type": "send", "run_id": "x", "key": "k", "text": "a", "colour": "red"},
        {"type": "read", "run_id": "x", "seq": "one"},
        {"type": "watch", "project_id": "nowhere"},
        {"type": "typing", "run_id": "run_\u0000"},
    ],
)
def test_a_command_with_a_fault_is_refused_and_the_socket_goes_on(
    live: Live, attached: Attached, command: dict
):
    live.send(**command)
    problem = live.next("refused")["problem"]
    assert problem["status"] in {404, 422}
    assert live.subscribe(attached.id)["type"] == "subscribed"


def test_text_over_the_limit_is_refused(live: Live, attached: Attached):
    live.send(type="send", run_id=attached.id, key="k1", text="x" * 32_769)
    assert live.next("refused")["problem"]["status"] in {413, 422}
    live.send(type="send", run_id=attached.id, key="k2", text="x" * 32_768)
    assert len(live.next("sent")["event"]["body"]["text"]) == 32_768
