"""The JSON inside the frames, and the first text message before them.

Field names are the vendor's (`clientmessage.go` and the handshake's structs in `contracts/model.go`).
Reading takes what it needs and passes over fields it does not know. Raises BadPayload.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final
from uuid import UUID

from chat.adapters.ssm_channel.frames import Frame

CLIENT_VERSION: Final = "1.2.497.0"
"""A released version of session-manager-plugin: agents decide by it what a client can do."""
SHELLS: Final = frozenset({"Standard_Stream", "InteractiveCommands", "NonInteractiveCommands"})
KMS: Final = "KMSEncryption"
SESSION_TYPE: Final = "SessionType"


class BadPayload(ValueError):
    """A payload that is not what its frame says it is."""


class ActionStatus(IntEnum):
    """How an action of the handshake went on our side."""

    SUCCESS = 1
    FAILED = 2
    UNSUPPORTED = 3


class SessionFlag(IntEnum):
    """The payload of type FLAG, 4 bytes big-endian."""

    DISCONNECT_TO_PORT = 1
    TERMINATE = 2
    CONNECT_TO_PORT_ERROR = 3


@dataclass(frozen=True, slots=True)
class Action:
    """Something the agent asks of the client in the handshake."""

    type: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """The agent's first message."""

    agent_version: str
    actions: tuple[Action, ...]


def opening(*, token: str, request_id: UUID, client_id: UUID) -> str:
    """The text message that opens the channel; the token is a secret and good once."""
    return _dump(
        {
            "MessageSchemaVersion": "1.0",
            "RequestId": str(request_id),
            "TokenValue": token,
            "ClientId": str(client_id),
            "ClientVersion": CLIENT_VERSION,
        }
    ).decode()


def acknowledgement(frame: Frame) -> bytes:
    """The payload that acknowledges a frame."""
    return _dump(
        {
            "AcknowledgedMessageType": frame.type,
            "AcknowledgedMessageId": str(frame.id),
            "AcknowledgedMessageSequenceNumber": frame.sequence,
            "IsSequentialMessage": True,
        }
    )


def acknowledged_sequence(payload: bytes) -> int:
    """The sequence number that an acknowledgement names; the vendor goes by it alone, so do we."""
    sequence = _object(payload).get("AcknowledgedMessageSequenceNumber")
    if not isinstance(sequence, int) or isinstance(sequence, bool):
        raise BadPayload("an acknowledgement names no sequence number")
    return sequence


def handshake_request(payload: bytes) -> HandshakeRequest:
    """What the agent asks for."""
    content = _object(payload)
    actions = content.get("RequestedClientActions") or []
    if not isinstance(actions, list) or not all(isinstance(action, dict) for action in actions):
        raise BadPayload("the handshake's actions are no list of objects")
    return HandshakeRequest(
        agent_version=str(content.get("AgentVersion", "")),
        actions=tuple(
            Action(
                type=str(action.get("ActionType", "")),
                parameters=parameters if isinstance(parameters, dict) else {},
            )
            for action in actions
            for parameters in [action.get("ActionParameters")]
        ),
    )


def handshake_response(results: list[tuple[str, ActionStatus, str]]) -> bytes:
    """The answer: for each action its type, how it went, and the error if it did not go."""
    return _dump(
        {
            "ClientVersion": CLIENT_VERSION,
            "ProcessedClientActions": [
                {
                    "ActionType": kind,
                    "ActionStatus": int(status),
                    "ActionResult": None,
                    "Error": error,
                }
                for kind, status, error in results
            ],
            "Errors": [error for _, _, error in results if error],
        }
    )


def customer_message(payload: bytes) -> str:
    """What a completed handshake says to the person, often nothing."""
    return str(_object(payload).get("CustomerMessage") or "")


def closed_output(payload: bytes) -> str:
    """Why the channel was closed: empty when the command just ended."""
    return str(_object(payload).get("Output") or "") if payload else ""


def size(columns: int, rows: int) -> bytes:
    """The terminal's size in characters."""
    return _dump({"cols": columns, "rows": rows})


def exit_code(payload: bytes) -> int:
    """The exit code as an agent writes it: decimal digits."""
    try:
        return int(payload)
    except ValueError as error:
        raise BadPayload("an exit code is no number") from error


def _dump(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _object(payload: bytes) -> dict[str, Any]:
    try:
        content = json.loads(payload)
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are both
        raise BadPayload("the payload is no JSON") from error
    except RecursionError as error:
        raise BadPayload("the payload's JSON is too deep") from error
    if not isinstance(content, dict):
        raise BadPayload("the payload is no JSON object")
    return content
