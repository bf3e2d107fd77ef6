"""The channel over real WebSockets on loopback: complete, in order, by the deadline, and never hanging."""

import dataclasses
import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from chat.adapters.ssm_channel.client import (
    GOODBYE_S,
    UNSENT_MAX_BYTES,
    Unreachable,
    connect,
)
from chat.adapters.ssm_channel.session import Ended, EndReason, Output, Ready, Session
from tests.ssm_agent import ChannelServer, FakeAgent, pack, secret

LONG = 20.0


def ends_by(seconds):
    return time.monotonic() + seconds


def talk(server, *, write=b"", seconds=LONG, session=None):
    """One session to its end; its events, and how it ended."""
    events = []
    session = session or Session(token=secret())
    with connect(server.url, session, deadline=ends_by(5)) as channel:
        channel.write(write)
        outcome = channel.run(events.append, deadline=ends_by(seconds))
    return events, outcome


def printed(events):
    return b"".join(event.data for event in events if isinstance(event, Output))


def test_a_command_prints_and_ends():
    token = secret()
    with ChannelServer(FakeAgent(output=b"looking\r\n")).running() as server:
        events, outcome = talk(server, session=Session(token=token))
    assert printed(events) == b"looking\r\n"
    assert isinstance(events[0], Ready)
    assert outcome.ended == events[-1] == Ended(EndReason.CLOSED, "")
    [visit] = server.visits
    assert visit.target == "/v1/data-channel/s-1?role=x"
    assert visit.opening["TokenValue"] == token
    assert token not in visit.target
    assert visit.left


def test_a_hundred_thousand_bytes_go_both_ways():
    words = bytes(range(256)) * 400
    agent = FakeAgent(output=words, expects=len(words))
    with ChannelServer(agent).running() as server:
        events, outcome = talk(server, write=words)
    assert printed(events) == words
    assert bytes(agent.received) == words
    assert outcome.ended == Ended(EndReason.CLOSED, "")


few = st.lists(
    st.one_of(
        st.just((0,)),
        st.just(()),
        st.just("damaged"),
        st.tuples(st.integers(0, 60)),
        st.tuples(st.integers(0, 60), st.integers(0, 60)),
    ),
    max_size=25,
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(fates=few, words=st.binary(min_size=1, max_size=6_000))
def test_over_a_socket_too_all_arrives_in_order_whatever_the_weather(fates, words):
    agent = FakeAgent(output=words, expects=len(words))
    with ChannelServer(agent, fates=fates).running() as server:
        events, outcome = talk(server, write=words)
    assert printed(events) == words
    assert bytes(agent.received) == words
    assert outcome.ended == Ended(EndReason.CLOSED, "", complete=True)


def test_other_threads_may_type_while_one_pumps():
    lines = [f"line {number}\n" for number in range(50)]
    agent = FakeAgent(output=b"$ ", expects=sum(map(len, lines)) * 4)
    events = []
    with (
        ChannelServer(agent).running() as server,
        connect(server.url, Session(token="t"), deadline=ends_by(5)) as channel,
    ):

        def type_all():
            for line in lines:
                channel.type_text(line)

        threads = [threading.Thread(target=type_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        channel.resize(99, 33)
        outcome = channel.run(events.append, deadline=ends_by(LONG))
        for thread in threads:
            thread.join()
    assert outcome.ended is not None
    typed = agent.received.decode().split("\r")
    assert sorted(typed) == sorted([line[:-1] for line in lines] * 4 + [""])
    assert {"cols": 99, "rows": 33} in agent.sizes


def test_the_deadline_comes_and_the_command_is_told_to_end():
    agent = FakeAgent(output=b"working", close=None)
    with ChannelServer(agent).running() as server:
        started = time.monotonic()
        events, outcome = talk(server, seconds=0.3)
        took = time.monotonic() - started
    assert outcome.timed_out
    assert printed(events) == b"working"
    assert 0.3 <= took < 1.2
    assert agent.terminated


def test_a_run_may_go_on_after_its_deadline():
    agent = FakeAgent(output=b"$ ", expects=4)
    events = []
    with (
        ChannelServer(agent).running() as server,
        connect(server.url, Session(token="t"), deadline=ends_by(5)) as channel,
    ):
        assert channel.run(events.append, deadline=ends_by(0.2)).timed_out
        channel.write(b"exit")
        assert channel.run(events.append, deadline=ends_by(LONG)).ended is not None
        assert channel.run(events.append, deadline=ends_by(LONG)).ended is not None
    assert sum(isinstance(event, Ended) for event in events) == 1


def test_terminate_ends_the_session():
    agent = FakeAgent(output=b"$ ", close=None)
    with (
        ChannelServer(agent).running() as server,
        connect(server.url, Session(token="t"), deadline=ends_by(5)) as channel,
    ):

        def on_event(event):
            if isinstance(event, Ready):
                threading.Thread(target=channel.terminate).start()

        outcome = channel.run(on_event, deadline=ends_by(LONG))
    assert outcome.ended is not None
    assert agent.terminated


@pytest.mark.parametrize("lost", [0, 1])
def test_leaving_ends_the_command_also_when_woken_and_with_much_that_is_not_acknowledged(lost):
    ready = [(0,)] * 3  # the handshake, its acknowledgement, and that it is complete
    agent = LosingAgent(close=None, loses=lost)
    channel_server = ChannelServer(agent, fates=ready + [(300,)] * 200)
    with channel_server.running() as server:
        with connect(server.url, Session(token="t"), deadline=ends_by(5)) as channel:

            def on_event(event):
                if isinstance(event, Ready):
                    channel.write(b"x" * 60_000)
                    channel.wake()

            assert channel.run(on_event, deadline=ends_by(LONG)).timed_out
            while not agent.received:
                channel.run([].append, deadline=ends_by(0.01))
            channel.wake()
        assert agent.terminated
        assert len(agent.received) < 60_000


@dataclasses.dataclass
class LosingAgent(FakeAgent):
    """Does not hear the first of the wishes to end."""

    loses: int = 0

    def hear(self, data, now):
        if self.loses and data[112:116] == b"\0\0\0\x0a":
            self.loses -= 1
            return []
        return super().hear(data, now)


def test_a_connection_that_goes_away_is_told_and_nothing_that_came_is_lost():
    agent = FakeAgent(output=b"half of it", handshake=False, close=None)
    with ChannelServer(agent, leave_after=1).running() as server:
        events, outcome = talk(server)
    assert printed(events) == b"half of it"
    assert outcome.ended is None
    assert "closed" in outcome.lost or "broke" in outcome.lost


def test_the_end_is_heard_even_when_the_connection_goes_with_it():
    agent = FakeAgent(at_once="Plugin with name InteractiveCommands not found")
    with ChannelServer(agent, leave_after=1).running() as server:
        _, outcome = talk(server)
    assert outcome.ended == Ended(
        EndReason.CLOSED, "Plugin with name InteractiveCommands not found"
    )


def binary(data):
    """A WebSocket message from a server, whole and unmasked (RFC 6455, 5.2)."""
    length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2)
    return b"\x82" + length + data


def test_a_connection_that_goes_while_the_end_waits_for_missing_words_is_an_end_that_says_so():
    def speak(wire):
        for message in (
            pack("output_stream_data", 0, b"a", payload_type=1, flags=1),
            pack("output_stream_data", 2, b"c", payload_type=1),
            pack("channel_closed", 0, b'{"Output": "bye"}'),
        ):
            wire.sendall(binary(message))
        wire.shutdown(socket.SHUT_WR)
        wait_for_the_end(wire)

    with ChannelServer(FakeAgent(), raw=accept_and(speak)).running() as server:
        events, outcome = talk(server)
    assert printed(events) == b"a"
    assert outcome.ended == events[-1] == Ended(EndReason.CLOSED, "bye", complete=False)
    assert outcome.lost is None


@pytest.mark.parametrize("status", [400, 403, 429, 503])
def test_a_refused_upgrade_is_unreachable_with_its_status(status):
    with (
        ChannelServer(FakeAgent(), refuse=status).running() as server,
        pytest.raises(Unreachable, match=str(status)) as refused,
    ):
        talk(server)
    assert refused.value.status == status


def test_nobody_there_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(Unreachable, match="cannot be reached"):
        connect(f"ws://127.0.0.1:{port}/", Session(token="t"), deadline=ends_by(5))


def wait_for_the_end(wire):
    while wire.recv(65_536):
        pass


def test_a_server_that_never_accepts_is_unreachable_at_the_deadline():
    with ChannelServer(FakeAgent(), raw=wait_for_the_end).running() as server:
        started = time.monotonic()
        with pytest.raises(Unreachable):
            connect(server.url, Session(token="t"), deadline=ends_by(0.3))
        assert 0.25 <= time.monotonic() - started < 1


def test_a_server_that_accepts_drop_by_drop_is_unreachable_at_the_deadline():
    def drip(wire):
        wire.recv(65_536)
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 1_000:
            wire.sendall(bytes([byte]))
            threading.Event().wait(0.01)

    with ChannelServer(FakeAgent(), raw=drip).running() as server:
        started = time.monotonic()
        with pytest.raises(Unreachable):
            connect(server.url, Session(token="t"), deadline=ends_by(0.3))
        assert 0.25 <= time.monotonic() - started < 1


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello", b"\x16\x03\x01", b""]
)
def test_what_is_no_websocket_is_unreachable(answer):
    def speak(wire):
        wire.recv(65_536)
        wire.sendall(answer)

    with (
        ChannelServer(FakeAgent(), raw=speak).running() as server,
        pytest.raises(Unreachable),
    ):
        connect(server.url, Session(token="t"), deadline=ends_by(5))


def accept_and(speak):
    def serve(wire):
        websocket = WSConnection(ConnectionType.SERVER)
        while not any(isinstance(event, Request) for event in websocket.events()):
            websocket.receive_data(wire.recv(65_536))
        wire.sendall(websocket.send(AcceptConnection()))
        speak(wire)

    return serve


def test_garbage_after_the_upgrade_is_a_loss_with_a_reason():
    garbage = accept_and(lambda wire: wire.sendall(b"\xff" * 100))
    with ChannelServer(FakeAgent(), raw=garbage).running() as server:
        _, outcome = talk(server)
    assert "1002" in outcome.lost  # RFC 6455: protocol error


def test_a_message_without_end_is_a_loss_and_is_not_kept():
    def endless(wire):
        head = b"\x02\x7f" + (2**30).to_bytes(8)
        wire.sendall(head)
        while True:
            wire.sendall(b"x" * 65_536)

    with ChannelServer(FakeAgent(), raw=accept_and(endless)).running() as server:
        _, outcome = talk(server)
    assert outcome.lost == "a message is larger than any frame"


def test_a_server_that_stops_reading_holds_us_neither_at_the_deadline_nor_when_leaving():
    left = threading.Event()

    def deaf(wire):
        hello = pack("output_stream_data", 0, b"$ ", payload_type=1, flags=1)
        wire.sendall(binary(hello))
        assert left.wait(10)

    server = ChannelServer(FakeAgent(), raw=accept_and(deaf), small_window=True)
    with server.running():
        with connect(server.url, Session(token="t"), deadline=ends_by(5)) as channel:
            channel._wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_048)
            channel.write(b"x" * 1_000_000)
            started = time.monotonic()
            assert channel.run([].append, deadline=ends_by(0.7)).timed_out
            assert time.monotonic() - started < 1.2
            stuck = len(channel._unsent)
            leaving = time.monotonic()
        assert time.monotonic() - leaving < GOODBYE_S + 0.5
        left.set()
    assert 0 < stuck <= UNSENT_MAX_BYTES + 100_000


@pytest.mark.parametrize(
    "url",
    ["ws://ssmmessages.example/", "http://127.0.0.1/", "wss:///x", "nonsense", "ws://[::1", ""],
)
def test_addresses_that_are_not_wss_are_not_even_tried(url):
    with pytest.raises(Unreachable, match="address of the stream"):
        connect(url, Session(token="t"), deadline=ends_by(5))


def certificate(tmp_path):
    """A certificate for localhost that signs itself; the server's context, and one that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    both = tmp_path / "server.pem"
    both.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(both)
    return server, ssl.create_default_context(
        cadata=made.public_bytes(serialization.Encoding.PEM).decode()
    )


def test_over_tls_it_is_the_same(tmp_path):
    serving, trusting = certificate(tmp_path)
    words = bytes(range(256)) * 200
    agent = FakeAgent(output=words, expects=len(words))
    events = []
    with (
        ChannelServer(agent, tls=serving).running() as server,
        connect(server.url, Session(token="t"), deadline=ends_by(5), tls=trusting) as channel,
    ):
        channel.write(words)
        outcome = channel.run(events.append, deadline=ends_by(LONG))
    assert printed(events) == words
    assert bytes(agent.received) == words
    assert outcome.ended == Ended(EndReason.CLOSED, "")


def test_a_certificate_nobody_vouches_for_is_unreachable(tmp_path):
    serving, _ = certificate(tmp_path)
    with (
        ChannelServer(FakeAgent(), tls=serving).running() as server,
        pytest.raises(Unreachable, match="certificate"),
    ):
        connect(server.url, Session(token="t"), deadline=ends_by(5))


def test_closing_again_is_harmless():
    with ChannelServer(FakeAgent(output=b"x")).running() as server:
        channel = connect(server.url, Session(token="t"), deadline=ends_by(5))
        channel.run([].append, deadline=ends_by(LONG))
        channel.close()
        channel.close()
