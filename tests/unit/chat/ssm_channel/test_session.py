"""The session without any I/O: against an agent in bad weather, on a clock of the test's own."""

import heapq
import json
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat.adapters.ssm_channel.inbound import EARLY_MAX_FRAMES
from chat.adapters.ssm_channel.outbound import (
    ATTEMPTS_MAX,
    CHUNK_BYTES,
    WAITING_MAX_BYTES,
    WINDOW_FRAMES,
    Full,
)
from chat.adapters.ssm_channel.session import (
    LINGER_MS,
    REFUSED_MAX,
    Ended,
    EndReason,
    ExitCode,
    Notice,
    Output,
    Ready,
    Session,
    State,
)
from tests.ssm_agent import FakeAgent, Weather, pack, unpack

OUTPUT, RESPONSE, SIZE, FLAG = 1, 6, 3, 10


def new_session(**options):
    ids = count(1)
    return Session(
        token="secret",
        new_id=lambda: UUID(int=next(ids)),
        wall_ms=lambda: 1_700_000_000_000,
        **options,
    )


def stream(sequence, payload=b"x", payload_type=OUTPUT, **fields):
    return pack("output_stream_data", sequence, payload, payload_type=payload_type, **fields)


def said(session, now_ms=0):
    return [unpack(data) for data in session.outgoing(now_ms)]


def of(frames, kind):
    return [frame for frame in frames if frame.type == kind]


def request(*actions, sequence=0):
    content = {"AgentVersion": "3.3.1142.0", "RequestedClientActions": list(actions)}
    return stream(sequence, json.dumps(content).encode(), 5, flags=1 if sequence == 0 else 0)


SHELL = {"ActionType": "SessionType", "ActionParameters": {"SessionType": "InteractiveCommands"}}


def ready_session():
    session = new_session()
    session.receive(request(SHELL), 0)
    session.receive(stream(1, b"{}", 7), 0)
    for frame in of(said(session), "input_stream_data"):
        session.receive(acknowledge(frame.sequence), 0)
    assert session.state is State.READY
    assert session.settled
    return session


def acknowledge(sequence):
    content = {"AcknowledgedMessageSequenceNumber": sequence, "IsSequentialMessage": True}
    return pack("acknowledge", 0, json.dumps(content).encode(), flags=3)


def closed(text):
    return pack("channel_closed", 0, json.dumps({"Output": text}).encode())


# --- in any weather -------------------------------------------------------------------------------


class Passage:
    """A session and an agent with weather both ways, and a clock that jumps to what happens next."""

    def __init__(self, session, agent, *, out, back, write=b""):
        self.session, self.agent, self.now = session, agent, 0
        self._out, self._back, self._write = Weather(out), Weather(back), write
        self._queue, self._counter, self.events = [], count(), []

    def run(self, limit_ms):
        self._post("back", self.agent.start(0))
        while self.now <= limit_ms:
            self._write = self._write[self._feed() :]
            self.events += self.session.tick(self.now)
            self._post("out", self.session.outgoing(self.now))
            self._post("back", self.agent.tick(self.now))
            if self.session.state is State.ENDED:
                return
            wake = self.session.wake_ms()
            times = [self.now + self.agent.again_ms, *([] if wake is None else [wake])]
            times += [self._queue[0][0]] if self._queue else []
            self.now = max(min(times), self.now)
            moved = False
            while self._queue and self._queue[0][0] <= self.now:
                moved = True
                _, _, way, data = heapq.heappop(self._queue)
                if way == "back":
                    self.events += self.session.receive(data, self.now)
                else:
                    self._post("back", self.agent.hear(data, self.now))
            self.now += 0 if moved else 1
        raise AssertionError("the session hangs")

    def _feed(self):
        piece = self._write[:3_000]
        try:
            self.session.write(piece)
        except Full:
            return 0
        return len(piece)

    def _post(self, way, messages):
        weather = self._out if way == "out" else self._back
        for message in messages:
            for delay, data in weather.on_the_way(message):
                heapq.heappush(self._queue, (self.now + delay, next(self._counter), way, data))


fate = st.one_of(
    st.just((0,)),
    st.just(()),
    st.just("damaged"),
    st.tuples(st.integers(0, 700)),
    st.tuples(st.integers(0, 300), st.integers(0, 900)),
)
fates = st.lists(fate, max_size=60)


@settings(max_examples=200)
@given(
    out=fates, back=fates, written=st.binary(max_size=9_000), printed=st.binary(max_size=9_000),
    chunk=st.integers(100, 1_024), handshake=st.booleans(),
)  # fmt: skip
def test_whatever_is_lost_doubled_damaged_or_late_both_ways_all_of_it_arrives_in_order(
    out, back, written, printed, chunk, handshake
):
    agent = FakeAgent(
        # an agent that skips the handshake shows that it is there by its first word
        output=printed or b"$ ",
        expects=len(written),
        chunk=chunk,
        handshake=handshake,
    )
    passage = Passage(new_session(), agent, out=out, back=back, write=written)
    passage.run(limit_ms=300_000)

    outputs = [event.data for event in passage.events if isinstance(event, Output)]
    assert b"".join(outputs) == (printed or b"$ ")
    assert bytes(agent.received) == written
    assert passage.events[-1] == Ended(EndReason.CLOSED, "", complete=True)
    assert sum(isinstance(event, Ready) for event in passage.events) == 1
    assert agent.sizes == [{"cols": 200, "rows": 50}] or not agent.sizes
    assert agent.thrown_away == 0
    assert sorted({a["AcknowledgedMessageSequenceNumber"] for a in agent.acknowledged}) == list(
        range(len(outputs) + (2 if handshake else 0))
    )


@settings(max_examples=50)
@given(messages=st.lists(st.one_of(st.binary(max_size=300), st.builds(
    pack, st.sampled_from(["output_stream_data", "acknowledge", "channel_closed", "x", "start_publication"]),
    st.integers(-5, 2_000), st.one_of(st.binary(max_size=40), st.sampled_from(
        [b"{}", b"[]", b'{"Output":1}', b'{"RequestedClientActions":[{}]}', b"1", b"["*2_000])),
    payload_type=st.integers(0, 13), flags=st.integers(0, 3))), max_size=40))  # fmt: skip
def test_no_sequence_of_messages_breaks_it_and_the_end_is_the_last_event(messages):
    session = new_session()
    events = []
    for at, message in enumerate(messages):
        events += session.receive(message, at)
        session.outgoing(at)
    ends = [place for place, event in enumerate(events) if isinstance(event, Ended)]
    assert ends in ([], [len(events) - 1])
    assert (session.state is State.ENDED) == bool(ends)


# --- opening and handshake ------------------------------------------------------------------------


def test_the_opening_carries_the_token_and_two_different_ids():
    opening = json.loads(new_session().opening())
    assert opening["TokenValue"] == "secret"
    assert opening["MessageSchemaVersion"] == "1.0"
    assert UUID(opening["RequestId"]) != UUID(opening["ClientId"])


def test_the_handshake_is_acknowledged_first_and_then_answered():
    session = new_session()
    assert session.receive(request(SHELL), 0) == []
    first, second = said(session)

    content = json.loads(first.payload)
    assert (first.type, first.sequence, first.flags) == ("acknowledge", 0, 3)
    assert content["AcknowledgedMessageType"] == "output_stream_data"
    assert content["AcknowledgedMessageSequenceNumber"] == 0
    assert content["IsSequentialMessage"] is True
    assert (second.type, second.payload_type, second.sequence, second.flags) == (
        "input_stream_data", RESPONSE, 0, 1,
    )  # fmt: skip
    assert json.loads(second.payload) == {
        "ClientVersion": "1.2.497.0",
        "ProcessedClientActions": [
            {"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": None, "Error": ""}
        ],
        "Errors": [],
    }


def test_nothing_that_was_written_goes_out_before_the_handshake_is_complete():
    session = new_session()
    session.write(b"early")
    session.receive(request(SHELL), 0)
    assert [frame.payload_type for frame in said(session)] == [0, RESPONSE]

    events = session.receive(stream(1, b'{"CustomerMessage":"Hello."}', 7), 10)
    assert events == [Ready("3.3.1142.0", "InteractiveCommands"), Notice("Hello.")]
    sent = of(said(session, 10), "input_stream_data")
    assert [(frame.payload_type, frame.sequence) for frame in sent] == [(SIZE, 1), (OUTPUT, 2)]
    assert json.loads(sent[0].payload) == {"cols": 200, "rows": 50}
    assert sent[1].payload == b"early"


def test_the_completed_handshake_stands_for_the_acknowledgement_of_the_answer():
    session = new_session()
    session.receive(request(SHELL), 0)
    session.receive(stream(1, b"{}", 7), 10)
    session.outgoing(10)
    session.receive(acknowledge(1), 20)  # the size; nobody acknowledged the answer, 0
    assert session.settled


def test_an_agent_that_skips_the_handshake_is_ready_with_its_first_word():
    session = new_session()
    events = session.receive(stream(0, b"$ ", flags=1), 0)
    assert events == [Ready("", ""), Output(b"$ ")]


def test_encryption_with_kms_is_refused_in_words_to_the_agent_and_ends_the_session():
    session = new_session()
    kms = {"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "key"}}
    [ended] = session.receive(request(SHELL, kms), 0)

    assert ended.reason is EndReason.ENCRYPTION
    response = json.loads(said(session)[1].payload)
    assert [action["ActionStatus"] for action in response["ProcessedClientActions"]] == [1, 2]
    assert response["Errors"] == ["encryption with a KMS key is not supported by this client"]


def test_an_encrypted_challenge_ends_the_session_as_encryption():
    session = new_session()
    session.receive(request(SHELL), 0)
    [ended] = session.receive(stream(1, b"{}", 8), 0)
    assert ended.reason is EndReason.ENCRYPTION


@pytest.mark.parametrize(
    ("action", "status"),
    [
        ({"ActionType": "SessionType", "ActionParameters": {"SessionType": "Port"}}, 2),
        ({"ActionType": "SessionType", "ActionParameters": None}, 2),
        ({"ActionType": "Dance"}, 3),
    ],
)
def test_what_we_cannot_do_is_refused_with_its_name(action, status):
    session = new_session()
    [ended] = session.receive(request(action), 0)
    assert ended.reason is EndReason.PROTOCOL
    assert ("Dance" if status == 3 else "session type") in ended.detail
    response = json.loads(said(session)[1].payload)
    assert response["ProcessedClientActions"][0]["ActionStatus"] == status


@pytest.mark.parametrize(
    "payload", [b"", b"nonsense", b"[]", b'{"RequestedClientActions":7}', b"\xff"]
)
def test_a_handshake_that_cannot_be_read_ends_the_session(payload):
    session = new_session()
    [ended] = session.receive(stream(0, payload, 5), 0)
    assert ended.reason is EndReason.PROTOCOL


def test_a_second_handshake_ends_the_session():
    session = new_session()
    session.receive(request(SHELL), 0)
    [ended] = session.receive(request(SHELL, sequence=1), 0)
    assert ended.reason is EndReason.PROTOCOL


# --- their stream ---------------------------------------------------------------------------------


def test_a_repeat_is_acknowledged_again_and_not_delivered_again():
    session = ready_session()
    assert session.receive(stream(2, b"once"), 0) == [Output(b"once")]
    assert session.receive(stream(2, b"once"), 0) == []
    assert [json.loads(a.payload)["AcknowledgedMessageSequenceNumber"] for a in said(session)] == [
        2,
        2,
    ]


def test_what_comes_early_waits_for_what_is_missing():
    session = ready_session()
    assert session.receive(stream(4, b"c"), 0) == []
    assert session.receive(stream(3, b"b"), 0) == []
    assert session.receive(stream(2, b"a"), 0) == [Output(b"a"), Output(b"b"), Output(b"c")]
    assert len(said(session)) == 3


def test_what_comes_too_early_is_not_acknowledged_and_not_kept():
    session = ready_session()
    beyond = 2 + EARLY_MAX_FRAMES + 1
    assert session.receive(stream(beyond), 0) == []
    assert said(session) == []
    session.receive(stream(beyond - 1), 0)
    assert len(said(session)) == 1


def test_early_frames_are_bounded_by_their_bytes_too():
    session = ready_session()
    big = b"x" * 200_000
    taken = 0
    for sequence in range(3, 60):
        session.receive(stream(sequence, big), 0)
        taken += len(said(session))
    assert 15 < taken < 25  # four megabytes of it


def test_room_for_early_frames_comes_back_when_their_turn_has_come():
    session = ready_session()
    big = b"x" * 250_000
    for turn in range(10):
        first = 2 + turn * 11
        for sequence in range(first + 1, first + 11):
            session.receive(stream(sequence, big), 0)
            assert len(said(session)) == 1
        assert len(session.receive(stream(first), 0)) == 11
        session.outgoing(0)


def test_a_stream_may_begin_elsewhere_when_its_first_frame_says_so():
    session = new_session()
    assert session.receive(stream(7, b"$ ", flags=1), 0)[-1] == Output(b"$ ")
    assert session.receive(stream(8, b"a"), 0) == [Output(b"a")]


def test_a_negative_sequence_number_ends_the_session():
    session = new_session()
    [ended] = session.receive(stream(-1), 0)
    assert ended.reason is EndReason.PROTOCOL


def test_a_damaged_frame_is_not_acknowledged_and_a_hundred_and_one_end_the_session():
    session = ready_session()
    damaged = bytearray(stream(2, b"words"))
    damaged[-1] ^= 1
    for _ in range(REFUSED_MAX):
        assert session.receive(bytes(damaged), 0) == []
    assert said(session) == []
    [ended] = session.receive(bytes(damaged), 0)
    assert ended.reason is EndReason.PROTOCOL
    assert "digest" in ended.detail


def test_stderr_and_exit_codes_of_agents_that_part_them_are_told():
    session = ready_session()
    assert session.receive(stream(2, b"oh", 11), 0) == [Output(b"oh", stderr=True)]
    assert session.receive(stream(3, b"127", 12), 0) == [ExitCode(127)]
    assert session.receive(stream(4, b"?", 99), 0) == []  # not known: acknowledged and passed over
    assert len(said(session)) == 3


def test_an_exit_code_that_is_no_number_ends_the_session():
    session = ready_session()
    [ended] = session.receive(stream(2, b"fine", 12), 0)
    assert ended.reason is EndReason.PROTOCOL


def test_message_types_that_are_not_ours_are_passed_over():
    session = ready_session()
    assert session.receive(pack("agent_job", 0, b"{}"), 0) == []
    assert said(session) == []


# --- our stream -----------------------------------------------------------------------------------


def test_input_goes_out_in_chunks_with_numbers_without_a_hole():
    session = ready_session()
    text = bytes(range(256)) * 10
    session.write(text)
    sent = said(session)
    assert [len(frame.payload) for frame in sent] == [CHUNK_BYTES, CHUNK_BYTES, 512]
    assert b"".join(frame.payload for frame in sent) == text
    assert [frame.sequence for frame in sent] == [2, 3, 4]
    assert {frame.flags for frame in sent} == {0}
    assert len({frame.id for frame in sent}) == 3


def test_enter_is_a_carriage_return():
    session = ready_session()
    session.type_text("ls\nexit\r\n")
    assert said(session)[0].payload == b"ls\rexit\r"


def test_what_is_not_acknowledged_is_sent_again_after_200_400_800_and_then_every_1000_ms():
    session = ready_session()
    session.write(b"x")
    assert len(session.outgoing(0)) == 1
    again = [now for now in range(1, 6_001) if session.outgoing(now)]
    assert again == [200, 600, 1_400, 2_400, 3_400, 4_400, 5_400]
    session.receive(acknowledge(2), 6_000)
    assert session.settled
    assert session.wake_ms() is None


def test_a_repeat_has_the_same_bytes():
    session = ready_session()
    session.write(b"x")
    assert session.outgoing(0) == session.outgoing(200)


def test_what_nobody_ever_acknowledges_ends_the_session():
    session = ready_session()
    session.write(b"x")
    now, events, sent = 0, [], 0
    while not events:
        sent += len(session.outgoing(now))
        events = session.tick(now)
        now = session.wake_ms() or now
    assert [event.reason for event in events] == [EndReason.UNACKNOWLEDGED]
    assert sent == ATTEMPTS_MAX + 1
    assert 55_000 < now < 65_000


def test_only_a_window_of_frames_is_under_way_at_a_time():
    session = ready_session()
    session.write(b"x" * CHUNK_BYTES * (WINDOW_FRAMES + 5))
    assert len(session.outgoing(0)) == WINDOW_FRAMES
    session.receive(acknowledge(3), 10)  # out of turn: acknowledged each by itself
    assert [frame.sequence for frame in said(session, 10)] == [2 + WINDOW_FRAMES]


def test_more_than_the_bound_is_refused_and_none_of_it_is_queued():
    session = ready_session()
    session.write(b"x" * WAITING_MAX_BYTES)
    with pytest.raises(Full):
        session.write(b"x")
    sent = 0
    for now in range(0, 100_000, 10):
        for frame in of(said(session, now), "input_stream_data"):
            sent += len(frame.payload)
            session.receive(acknowledge(frame.sequence), now)
    assert sent == WAITING_MAX_BYTES


def test_pause_publication_holds_input_and_repeats_back_but_not_acknowledgements():
    session = ready_session()
    session.write(b"x")
    session.outgoing(0)
    session.receive(pack("pause_publication", 0, b""), 1)
    session.write(b"y")
    assert session.outgoing(5_000) == []
    assert session.wake_ms() is None
    session.receive(pack("start_publication", 0, b""), 5_001)
    assert [frame.payload for frame in said(session, 5_001)] == [b"x", b"y"]


def test_a_word_from_the_agent_ends_a_pause_too():
    session = ready_session()
    session.receive(pack("pause_publication", 0, b""), 1)
    session.write(b"y")
    session.receive(stream(2), 2)
    assert [frame.type for frame in said(session, 2)] == ["acknowledge", "input_stream_data"]


def test_a_resize_is_told_when_ready_and_only_the_last_one_before():
    session = new_session(size=(80, 24))
    session.resize(100, 30)
    session.receive(request(SHELL), 0)
    session.receive(stream(1, b"{}", 7), 0)
    session.resize(120, 40)
    sizes = [json.loads(frame.payload) for frame in said(session) if frame.payload_type == SIZE]
    assert sizes == [{"cols": 100, "rows": 30}, {"cols": 120, "rows": 40}]


def test_terminate_goes_ahead_of_what_waits():
    session = ready_session()
    session.write(b"x" * CHUNK_BYTES * 3)
    session.terminate()
    first = said(session)[0]
    assert (first.payload_type, first.payload) == (FLAG, b"\0\0\0\2")


# --- the end --------------------------------------------------------------------------------------


def test_the_channel_closes_with_the_services_words():
    session = ready_session()
    text = "----------ERROR-------\nUnable to start command: Failed to start pty: no such file\n"
    assert session.receive(closed(text), 0) == [Ended(EndReason.CLOSED, text.strip())]
    assert session.receive(stream(2), 1) == []
    session.write(b"x")
    assert session.outgoing(2) == []
    assert session.wake_ms() is None


def test_a_channel_may_close_before_anything_else():
    assert new_session().receive(closed(""), 0) == [Ended(EndReason.CLOSED, "")]


def test_the_end_waits_for_frames_that_are_known_to_be_missing():
    session = ready_session()
    session.receive(stream(3, b"b"), 0)
    assert session.receive(closed("bye"), 10) == []
    assert session.wake_ms() == 10 + LINGER_MS
    assert session.receive(stream(2, b"a"), 20) == [
        Output(b"a"),
        Output(b"b"),
        Ended(EndReason.CLOSED, "bye", complete=True),
    ]


def test_and_says_so_when_they_do_not_come():
    session = ready_session()
    session.receive(stream(3, b"b"), 0)
    session.receive(closed("bye"), 10)
    assert session.tick(9 + LINGER_MS) == []
    assert session.tick(10 + LINGER_MS) == [Ended(EndReason.CLOSED, "bye", complete=False)]
    assert session.tick(11 + LINGER_MS) == []


def test_the_loss_of_the_connection_is_the_end_only_for_a_session_that_was_closing():
    session = ready_session()
    assert session.lost() == []
    session.receive(stream(3, b"b"), 0)
    session.receive(closed("bye"), 10)
    assert session.lost() == [Ended(EndReason.CLOSED, "bye", complete=False)]
