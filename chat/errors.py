"""Every refusal the domain can give, translated once, at the edge.

ChatError
├── Invalid            422  the words of the request cannot be accepted
│   └── IdempotencyMismatch  422  the key was used before with another body
├── Unauthenticated    401  no credential, or one that is not valid any more
│   └── TokenRevoked         the run has ended, and its token with it
├── Forbidden          403  the principal is known and may not do this
├── NotFound           404  not there, or not yours: the same answer for both
├── Conflict           409  the thing is in a state that does not allow it
│   ├── RunEnded             the run takes no more messages
│   ├── IllegalMove          the run cannot go from its status to that one
│   ├── MailboxNotEmpty      finish was asked for while something is unread
│   ├── AlreadyTaken         an edit or cancel of a message the agent has
│   └── AlreadyAnswered      another answer stands
├── StaleVersion       412  If-Match names another version
├── TooLarge           413  larger than the limit named in the detail
├── TooMany            429  a rate or a budget is spent
├── TerminalFailed     502  no shell could be opened in the agent's container
└── Unavailable        503  the log or the store cannot be reached; try again
    └── NotStarted          an agent was not started, for certain, and may be tried anew
"""

from __future__ import annotations

from typing import Any, ClassVar


class ChatError(Exception):
    """A refusal: `code` is the stable word, `status` the HTTP status, `close_code` the WebSocket's.

    `current_state` is what stands instead, as JSON; it is part of the problem document (RFC 9457).
    """

    code: ClassVar[str] = "error"
    title: ClassVar[str] = "The request could not be carried out"
    status: ClassVar[int] = 500
    close_code: ClassVar[int] = 1011

    def __init__(self, detail: str, *, current_state: dict[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.current_state = current_state

    def problem(self) -> dict[str, Any]:
        """The problem document of RFC 9457, with `code` and, on a conflict, `current_state`."""
        document: dict[str, Any] = {
            "type": f"urn:omakase:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.current_state is not None:
            document["current_state"] = self.current_state
        return document


class Invalid(ChatError):
    code = "invalid"
    title = "The request is not valid"
    status = 422
    close_code = 4400


class IdempotencyMismatch(Invalid):
    code = "idempotency_mismatch"
    title = "This Idempotency-Key was used with another body"


class Unauthenticated(ChatError):
    code = "unauthenticated"
    title = "Sign in first"
    status = 401
    close_code = 4401


class TokenRevoked(Unauthenticated):
    code = "run_ended"
    title = "The run has ended"


class Forbidden(ChatError):
    code = "forbidden"
    title = "Not allowed"
    status = 403
    close_code = 4403


class NotFound(ChatError):
    code = "not_found"
    title = "Not found"
    status = 404
    close_code = 4404


class Conflict(ChatError):
    code = "conflict"
    title = "The current state does not allow this"
    status = 409
    close_code = 4409


class RunEnded(Conflict):
    code = "run_ended"
    title = "The run has ended"


class IllegalMove(Conflict):
    code = "illegal_move"
    title = "The run cannot move to that status"


class MailboxNotEmpty(Conflict):
    code = "mailbox_not_empty"
    title = "There are messages the agent has not read"


class AlreadyTaken(Conflict):
    code = "already_taken"
    title = "The agent has taken the message"


class AlreadyAnswered(Conflict):
    code = "already_answered"
    title = "The question has another answer"


class StaleVersion(ChatError):
    code = "stale_version"
    title = "It was changed in the meantime"
    status = 412
    close_code = 4412


class TooLarge(ChatError):
    code = "too_large"
    title = "Too large"
    status = 413
    close_code = 1009


class TooMany(ChatError):
    code = "too_many"
    title = "Too many requests"
    status = 429
    close_code = 4429


class Unavailable(ChatError):
    code = "unavailable"
    title = "Not reachable at the moment"
    status = 503
    close_code = 1013


class TerminalFailed(ChatError):
    """`failure` is the class of it, a word of ports.NudgeFailure."""

    code = "terminal_failed"
    title = "No terminal could be opened in the agent's container"
    status = 502
    close_code = 4502

    def __init__(self, detail: str, *, failure: str) -> None:
        super().__init__(detail)
        self.failure = failure


class NotStarted(Unavailable):
    code = "not_started"
    title = "There is no room for the agent at the moment"
