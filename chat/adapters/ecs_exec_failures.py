"""What can go wrong with a command in a task, put into classes and into words.

Sources: the errors in ECS's API reference (API_ExecuteCommand); the agent's texts in
`channel_closed` (amazon-ssm-agent, `agent/session/shell/shell.go` and `sessionplugin.go`). AWS documents
no text for a container whose two sessions are taken: it is recognised by its words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    NoCredentialsError,
    ReadTimeoutError,
)

from chat.adapters.ssm_channel.session import Ended, EndReason
from chat.ports import NudgeFailure

F = NudgeFailure
DETAIL_MAX: Final = 500

WORDS: Final[Mapping[NudgeFailure, str]] = MappingProxyType(
    {
        F.NOT_CONNECTED: "The task runs, but AWS has no connection to the exec agent inside it.",
        F.DENIED: "Omakase's role may not run commands in this task.",
        F.SESSION_LIMIT: "The container's two exec sessions are in use.",
        F.NO_SHELL: "The image does not have the command that makes the agent look.",
        F.AGENT_NOT_READY: "The task's exec agent is not running (yet), or exec is switched off for it.",
        F.TASK_GONE: "The task has ended.",
        F.THROTTLED: "AWS asks for a pause: too many requests.",
        F.TIMEOUT: "The command did not end in time.",
        F.ENCRYPTED: "The cluster encrypts exec sessions with a KMS key, which Omakase does not speak.",
        F.COMMAND_FAILED: "The command did not say that it worked.",
        F.UNAVAILABLE: "AWS, or the way to it, is not available at the moment.",
        F.PROTOCOL: "AWS answered with something that was not expected.",
    }
)

_BY_CODE: Final[Mapping[str, NudgeFailure]] = MappingProxyType(
    {
        "TargetNotConnectedException": F.NOT_CONNECTED,
        "ClusterNotFoundException": F.TASK_GONE,
        "ServerException": F.UNAVAILABLE,
        "ServiceUnavailable": F.UNAVAILABLE,
        "InternalFailure": F.UNAVAILABLE,
    }
    | dict.fromkeys(
        (
            "AccessDeniedException",
            "AccessDenied",
            "UnauthorizedOperation",
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "ExpiredTokenException",
        ),
        F.DENIED,
    )
    | dict.fromkeys(
        (
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "LimitExceededException",
        ),
        F.THROTTLED,
    )
)
_SESSION_LIMIT: Final = re.compile(
    r"session[^.]{0,60}(limit|maximum|exceed)|(limit|maximum|too many|exceed)[^.]{0,60}session",
    re.IGNORECASE,
)
_NOT_THERE: Final = re.compile(
    r"not found in \$PATH|no such file or directory|can't open file|command not found",
    re.IGNORECASE,
)
_BY_TEXT: Final = (
    (re.compile(r"KMS"), F.ENCRYPTED),
    (_NOT_THERE, F.NO_SHELL),
    (_SESSION_LIMIT, F.SESSION_LIMIT),
    (re.compile(r"Plugin with name \S+ not found"), F.AGENT_NOT_READY),
    (re.compile(r"Unable to start command"), F.NO_SHELL),
    (re.compile(r"timed? ?out|idle", re.IGNORECASE), F.TIMEOUT),
)
_GONE: Final = re.compile(r"task[^.]*(not found|stopped|not exist)|inactive", re.IGNORECASE)


def by_error(error: ClientError | BotoCoreError) -> tuple[NudgeFailure, str]:
    """The class of what boto3 raised, and AWS's own name for it: its message may name accounts."""
    if not isinstance(error, ClientError):
        if isinstance(error, NoCredentialsError | CredentialRetrievalError):
            return F.DENIED, "no credentials"
        late = isinstance(error, ConnectTimeoutError | ReadTimeoutError)
        return (F.TIMEOUT if late else F.UNAVAILABLE), type(error).__name__
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if _SESSION_LIMIT.search(message):
        return F.SESSION_LIMIT, code
    if code in {"InvalidParameterException", "ClientException"}:
        return (F.TASK_GONE if _GONE.search(message) else F.AGENT_NOT_READY), code
    return _BY_CODE.get(code, by_status(status)), code


def by_status(status: int | None) -> NudgeFailure:
    """The class of an HTTP status; None is an answer that never came."""
    match status:
        case 401 | 403:
            return F.DENIED
        case 429:
            return F.THROTTLED
        case None:
            return F.UNAVAILABLE
        case _:
            return F.UNAVAILABLE if status >= 500 else F.PROTOCOL


def by_end(ended: Ended, printed: bytes) -> tuple[NudgeFailure, str]:
    """The class of a session that ended before the command had said that it worked, and the reason."""
    if ended.reason is EndReason.ENCRYPTION:
        return F.ENCRYPTED, ""
    if ended.reason is EndReason.PROTOCOL:
        return F.PROTOCOL, ended.detail
    if ended.reason is EndReason.UNACKNOWLEDGED:
        return F.TIMEOUT, ended.detail
    for pattern, failure in _BY_TEXT:
        if pattern.search(ended.detail):
            return failure, ended.detail
    output = printed.decode(errors="replace")
    failure = F.NO_SHELL if _NOT_THERE.search(output) else F.COMMAND_FAILED
    return failure, ended.detail or output


def sentence(failure: NudgeFailure, said: str = "") -> str:
    """Our words, and behind them what was said, on one line and without control characters."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    words = f"{WORDS[failure]} ({clean})" if clean else WORDS[failure]
    return words if len(words) <= DETAIL_MAX else words[: DETAIL_MAX - 2] + "…)"
