"""A session on the data channel as a state machine: bytes and milliseconds in, bytes and events out.

    OPENING ── handshake request (5) ──> HANDSHAKE ── handshake complete (7) ──> READY ──> ENDED
       └────────────── output without a handshake (an agent may skip it) ──────────┘

Any state ends by `channel_closed`, by an encryption we do not speak, by a peer that breaks the
protocol, or by a frame that nobody acknowledges. What is written before READY waits: an agent
acknowledges input during the handshake and throws it away (`processStreamDataMessage`).

A damaged frame is not acknowledged, so that it is sent again; too many of them end the session.
`pause_publication` holds back our stream until `start_publication` or any other word from the agent.

`channel_closed` ends the session at once, unless frames are known to be missing: then it waits up to
LINGER_MS for them, and `Ended.complete` says whether they came. An agent closes only after its
frames were acknowledged (`PrepareToCloseChannel`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid4

from chat.adapters.ssm_channel import payloads
from chat.adapters.ssm_channel.frames import (
    BadFrame,
    Flags,
    Frame,
    MessageType,
    PayloadType,
    decode,
    encode,
)
from chat.adapters.ssm_channel.inbound import Inbound
from chat.adapters.ssm_channel.outbound import Outbound
from chat.adapters.ssm_channel.payloads import ActionStatus, BadPayload, SessionFlag

REFUSED_MAX: Final = 100
"""Damaged frames before the session ends."""
LINGER_MS: Final = 500


class State(StrEnum):
    """Where the session is."""

    OPENING = "opening"
    HANDSHAKE = "handshake"
    READY = "ready"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why a session ended."""

    CLOSED = "closed"  # the other side closed it: the command ended, or could not be started
    ENCRYPTION = "encryption"  # the cluster asks for encryption with a KMS key
    PROTOCOL = "protocol"  # the other side does not speak this protocol
    UNACKNOWLEDGED = "unacknowledged"  # what we sent is not acknowledged


@dataclass(frozen=True, slots=True)
class Ready:
    """The command runs, and input is taken. Both are empty when the agent skipped the handshake."""

    agent_version: str
    session_type: str


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes the command wrote; on a terminal all of them, `stderr` only where the agent parts them."""

    data: bytes
    stderr: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence of the service to the person, not of the command."""

    text: str


@dataclass(frozen=True, slots=True)
class ExitCode:
    """The command's exit code, from agents that tell it; a terminal session never does."""

    code: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event. `detail` is the service's text or ours; `complete`: no output is known missing."""

    reason: EndReason
    detail: str
    complete: bool = True


Event = Ready | Output | Notice | ExitCode | Ended


class Session:
    """One session. Not safe for several threads; `now_ms` never goes back."""

    def __init__(
        self,
        *,
        token: str,
        size: tuple[int, int] = (200, 50),
        new_id: Callable[[], UUID] = uuid4,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.state = State.OPENING
        self.refused = 0
        self._token = token
        self._size = size
        self._new_id = new_id
        self._wall_ms = wall_ms
        self._inbound = Inbound()
        self._outbound = Outbound(new_id=new_id, wall_ms=wall_ms)
        self._now: list[bytes] = []
        self._events: list[Event] = []
        self._paused = False
        self._agent_version = ""
        self._session_type = ""
        self._closing: tuple[int, str] | None = None

    # --- what we say ------------------------------------------------------------------------------

    def opening(self) -> str:
        """The one text message, sent before any frame."""
        return payloads.opening(
            token=self._token, request_id=self._new_id(), client_id=self._new_id()
        )

    def write(self, data: bytes) -> None:
        """Queue bytes for the command's terminal, as they are. Raises outbound.Full."""
        if self.state is not State.ENDED:
            self._outbound.add(PayloadType.OUTPUT, data)

    def type_text(self, text: str) -> None:
        """Queue text as if typed: Enter is a carriage return. Raises outbound.Full."""
        self.write(text.replace("\r\n", "\r").replace("\n", "\r").encode())

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal's size, now or as soon as the session is ready."""
        self._size = (columns, rows)
        if self.state is State.READY:
            self._outbound.add(PayloadType.SIZE, payloads.size(columns, rows))

    def terminate(self) -> None:
        """Ask for the end: the agent kills the command. `Ended` follows when it says so."""
        if self.state is not State.ENDED:
            # ahead of input that an unwilling command may never take
            self._outbound.put_first(PayloadType.FLAG, SessionFlag.TERMINATE.to_bytes(4))

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be sent or acknowledged."""
        return not self._now and self._outbound.empty

    @property
    def backlog(self) -> int:
        """Bytes of ours that the agent has not acknowledged yet."""
        return self._outbound.backlog

    def outgoing(self, now_ms: int) -> list[bytes]:
        """The binary messages to send now, in order."""
        out, self._now = self._now, []
        if self.state is not State.ENDED and not self._paused:
            out += self._outbound.due(now_ms, new=self.state is State.READY)
        return out

    # --- what we hear -----------------------------------------------------------------------------

    def receive(self, data: bytes, now_ms: int) -> list[Event]:
        """Take a message of the channel; returns what it brings about."""
        if self.state is State.ENDED:
            return []
        try:
            self._hear(decode(data), now_ms)
        except BadFrame as error:
            self.refused += 1
            if self.refused > REFUSED_MAX:
                self._end(EndReason.PROTOCOL, f"too many damaged messages, the last: {error}")
        except BadPayload as error:
            self._end(EndReason.PROTOCOL, str(error))
        return self._taken_events()

    def tick(self, now_ms: int) -> list[Event]:
        """Let time pass; to be called when `wake_ms` has come."""
        if self.state is not State.ENDED:
            if self._closing is not None and now_ms >= self._closing[0]:
                self._end(EndReason.CLOSED, self._closing[1], complete=False)
            elif self._outbound.given_up:
                self._end(EndReason.UNACKNOWLEDGED, "what was sent is not acknowledged")
        return self._taken_events()

    def lost(self) -> list[Event]:
        """The connection is gone: a session that was about to close has ended, any other is open."""
        if self.state is not State.ENDED and self._closing is not None:
            self._end(EndReason.CLOSED, self._closing[1], complete=False)
        return self._taken_events()

    def wake_ms(self) -> int | None:
        """When `tick` and `outgoing` have something to do even if nothing is heard."""
        if self.state is State.ENDED:
            return None
        times = [] if self._paused else [self._outbound.wake_ms()]
        times.append(self._closing[0] if self._closing else None)
        return min((at for at in times if at is not None), default=None)

    def _taken_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _hear(self, frame: Frame, now_ms: int) -> None:
        match frame.type:
            case MessageType.OUTPUT:
                self._paused = False
                self._hear_stream(frame, now_ms)
            case MessageType.ACKNOWLEDGE:
                self._paused = False
                self._outbound.acknowledge(payloads.acknowledged_sequence(frame.payload))
            case MessageType.CHANNEL_CLOSED:
                detail = payloads.closed_output(frame.payload).strip()
                if self._inbound.hole:
                    self._closing = self._closing or (now_ms + LINGER_MS, detail)
                else:
                    self._end(EndReason.CLOSED, detail)
            case MessageType.PAUSE_PUBLICATION:
                self._paused = True
            case MessageType.START_PUBLICATION:
                self._paused = False

    def _hear_stream(self, frame: Frame, now_ms: int) -> None:
        if frame.sequence < 0:
            raise BadPayload("a sequence number is negative")
        taken = self._inbound.take(frame)
        if taken.acknowledge:
            self._acknowledge(frame)
        for ready in taken.ready:
            self._deliver(ready, now_ms)
            if self.state is State.ENDED:
                return
        if self._closing is not None and not self._inbound.hole:
            self._end(EndReason.CLOSED, self._closing[1])

    def _acknowledge(self, frame: Frame) -> None:
        answer = Frame(
            type=MessageType.ACKNOWLEDGE,
            id=self._new_id(),
            created_ms=self._wall_ms(),
            flags=Flags.SYN | Flags.FIN,
            payload=payloads.acknowledgement(frame),
        )
        self._now.append(encode(answer))

    def _deliver(self, frame: Frame, now_ms: int) -> None:
        match frame.payload_type:
            case PayloadType.HANDSHAKE_REQUEST:
                self._answer_handshake(payloads.handshake_request(frame.payload), now_ms)
            case PayloadType.HANDSHAKE_COMPLETE:
                message = payloads.customer_message(frame.payload)
                self._outbound.settle(PayloadType.HANDSHAKE_RESPONSE)
                self._become_ready()
                if message:
                    self._events.append(Notice(message))
            case PayloadType.CHALLENGE_REQUEST:
                self._end(EndReason.ENCRYPTION, "the agent asks for an encrypted challenge")
            case PayloadType.OUTPUT | PayloadType.ERROR | PayloadType.STDERR:
                self._become_ready()
                stderr = frame.payload_type != PayloadType.OUTPUT
                self._events.append(Output(frame.payload, stderr=stderr))
            case PayloadType.EXIT_CODE:
                self._events.append(ExitCode(payloads.exit_code(frame.payload)))

    def _answer_handshake(self, request: payloads.HandshakeRequest, now_ms: int) -> None:
        if self.state is not State.OPENING:
            raise BadPayload("the handshake begins a second time")
        self.state = State.HANDSHAKE
        self._agent_version = request.agent_version
        results, failures = [], []
        for action in request.actions:
            status, error, reason = self._processed(action)
            results.append((action.type, status, error))
            if error:
                failures.append((reason, error))
        response = payloads.handshake_response(results)
        self._now.append(self._outbound.send(PayloadType.HANDSHAKE_RESPONSE, response, now_ms))
        if failures:
            # the most telling one: an agent that wants encryption may ask for more than that
            self._end(*min(failures, key=lambda failure: failure[0] is not EndReason.ENCRYPTION))

    def _processed(self, action: payloads.Action) -> tuple[ActionStatus, str, EndReason]:
        if action.type == payloads.SESSION_TYPE:
            self._session_type = str(action.parameters.get("SessionType", ""))
            if self._session_type in payloads.SHELLS:
                return ActionStatus.SUCCESS, "", EndReason.CLOSED
            error = f"the session type {self._session_type!r} is not a shell's"
            return ActionStatus.FAILED, error, EndReason.PROTOCOL
        if action.type == payloads.KMS:
            error = "encryption with a KMS key is not supported by this client"
            return ActionStatus.FAILED, error, EndReason.ENCRYPTION
        error = f"the action {action.type!r} is not supported by this client"
        return ActionStatus.UNSUPPORTED, error, EndReason.PROTOCOL

    def _become_ready(self) -> None:
        if self.state is not State.READY:
            self.state = State.READY
            self._events.append(Ready(self._agent_version, self._session_type))
            columns, rows = self._size
            # ahead of what was written meanwhile, so that the first screen is drawn right
            self._outbound.put_first(PayloadType.SIZE, payloads.size(columns, rows))

    def _end(self, reason: EndReason, detail: str, *, complete: bool = True) -> None:
        self.state = State.ENDED
        self._events.append(Ended(reason, detail, complete))
