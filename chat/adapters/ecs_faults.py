"""What AWS says when it does not do something: passing or for good, and in words a person understands.

Codes: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/CommonErrors.html, API_RunTask.html and
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
)

from chat.errors import Invalid, NotStarted, Unavailable

CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=10,
    max_pool_connections=16,
    # Two attempts: who calls repeats on its own, with longer pauses, and says so on the card.
    retries={"mode": "standard", "total_max_attempts": 2},
)
THROTTLED: Final = frozenset(
    {
        "RequestLimitExceeded",
        "RequestThrottled",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "LimitExceededException",
    }
)
_PASSING: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ClusterNotFoundException": "AWS does not find the cluster.",
        "ExpiredTokenException": "AWS takes Omakase's credentials for expired.",
        "InternalFailure": "AWS has a fault of its own.",
        "InternalServiceError": "AWS has a fault of its own.",
        "PlatformUnknownException": "AWS has a fault of its own.",
        "ServerException": "AWS has a fault of its own.",
        "ServiceUnavailable": "AWS is not available at the moment.",
        "ServiceUnavailableException": "AWS is not available at the moment.",
    }
)
_NO_ROOM: Final = re.compile(
    r"capacity is unavailable|RESOURCE:|limit on the number of|insufficient(?!_scope)|no container instance",
    re.IGNORECASE,
)
_AT_ONCE: Final = "Too many concurrent attempts"
"""RegisterTaskDefinition's ClientException when two register one family: the same request may be sent again."""
_DENIED: Final = frozenset(
    {
        "AccessDeniedException",
        "AccessDenied",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
_REASON_WORDS: Final = (
    (re.compile(r"^RESOURCE:"), "The cluster has no {what} left for another task."),
    (re.compile(r"^AGENT$"), "The cluster's machine is not connected to ECS at the moment."),
    (
        re.compile(r"capacity is unavailable", re.IGNORECASE),
        "AWS has no capacity for the task in these zones at the moment.",
    ),
)
_SERVER_ERROR: Final = 500


def code_of(error: ClientError) -> str:
    """AWS's own name for what happened."""
    return str(error.response.get("Error", {}).get("Code", ""))


def said_by(error: ClientError) -> str:
    """AWS's own words, on one line."""
    return " ".join(str(error.response.get("Error", {}).get("Message", "")).split())[:500]


def is_no_room(text: str) -> bool:
    """Whether words of AWS say that only capacity or a quota is missing."""
    return _NO_ROOM.search(text) is not None


def reason_words(reason: str) -> str:
    """A `failures[].reason` or a stopped task's reason about capacity as a sentence."""
    for pattern, words in _REASON_WORDS:
        if pattern.search(reason):
            what = reason.partition(":")[2].lower().replace("_", " ") or "room"
            return words.format(what={"cpu": "CPU", "eni": "network interface"}.get(what, what))
    return f"AWS says: {reason}."


@contextmanager
def asking_aws() -> Iterator[None]:
    """Turn what AWS and the network say into the domain's errors.

    Unavailable: it may or may not have been done, and the same again is safe. NotStarted: it was not, for
    want of room. Invalid: it will not be done however often it is asked for. Each with words for people.
    """
    try:
        yield
    except ClientError as error:
        raise fault(error) from error
    except (ParamValidationError, NoRegionError) as error:
        raise Invalid(f"AWS was asked for something it does not know: {error}") from error
    except NoCredentialsError as error:
        raise Unavailable("Omakase has no credentials for AWS.") from error
    except BotoCoreError as error:
        raise Unavailable(f"AWS did not answer ({type(error).__name__}).") from error


def fault(error: ClientError) -> Invalid | Unavailable:
    """The domain's error for what a client raised."""
    code, said = code_of(error), said_by(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if is_no_room(said) and status < _SERVER_ERROR:
        return NotStarted(reason_words(said) if "apacity" in said else f"AWS says: {said}")
    if code in THROTTLED or status == 429 or _AT_ONCE in said:
        return Unavailable(f"AWS asks for a pause: too many requests ({code}).")
    if code in _PASSING:
        return Unavailable(f"{_PASSING[code]} ({code})")
    if status >= _SERVER_ERROR:
        return Unavailable(f"AWS has a fault of its own. ({code or status})")
    if code in _DENIED:
        operation: Any = getattr(error, "operation_name", "this")
        return Invalid(f"Omakase's role in AWS may not do {operation}. ({code})")
    return Invalid(f"AWS refuses: {said or code} ({code})")
