"""Every refusal as a problem document (RFC 9457): the one place where errors become HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar

import orjson
import structlog
from flask import Flask, Response
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from chat.errors import ChatError, Invalid, TooMany, Unauthenticated, Unavailable
from chat.ids import new_id

_log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
_FAULTS_SHOWN = 5


class HttpError(ChatError):
    """A refusal that only makes sense over HTTP."""


class BadRequest(HttpError):
    code, title, status, close_code = "bad_request", "The request cannot be read", 400, 4400


class UnsupportedMediaType(HttpError):
    code, title, status = "unsupported_media_type", "Only application/json is taken", 415


class PreconditionRequired(HttpError):
    code, title, status = "precondition_required", "Say with If-Match which version you change", 428


class RateSpent(TooMany):
    """A rate is spent; `retry_after_s` says when to come back."""

    code: ClassVar[str] = "rate_spent"

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


def from_validation(error: ValidationError) -> Invalid:
    """The faults of a body as one sentence each; what was given is not repeated."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    said = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg']}"
        for fault in faults[:_FAULTS_SHOWN]
    ]
    if len(faults) > _FAULTS_SHOWN:
        said.append(f"and {len(faults) - _FAULTS_SHOWN} more")
    return Invalid("; ".join(said) + ".")


def problem(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """A problem document as a response. Words that are no Unicode (lone surrogates) are replaced."""
    try:
        data = orjson.dumps(document)
    except (TypeError, orjson.JSONEncodeError):
        document["detail"] = str(document["detail"]).encode(errors="replace").decode()
        data = orjson.dumps(document)
    return Response(data, status=document["status"], headers=headers, content_type=MEDIA_TYPE)


def from_error(error: ChatError) -> Response:
    """A domain error as a response."""
    headers: dict[str, str] = {}
    if isinstance(error, RateSpent):
        headers["Retry-After"] = str(error.retry_after_s)
    elif isinstance(error, TooMany | Unavailable):
        headers["Retry-After"] = "1"
    elif isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="omakase"'
    return problem(error.problem(), headers)


def _from_http(error: HTTPException) -> Response:
    if error.response is not None:  # a redirect for a missing slash
        location = error.response.headers.get("Location", "/")
        return Response(status=error.response.status_code, headers={"Location": location})
    status = HTTPStatus(error.code or 500)
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    document = {
        "type": f"urn:omakase:problem:{code}",
        "title": status.phrase,
        "status": int(status),
        "detail": error.description or status.description,
        "code": code,
    }
    headers = {}
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return problem(document, headers)


class Internal(ChatError):
    """Something that should not happen. The log knows more, under the number in the detail."""

    code, title = "internal", "Something went wrong on our side"


def unexpected(error: BaseException) -> Internal:
    """Note an exception that nobody foresaw, and what may be said of it outside: a number."""
    error_id = new_id("err")
    _log.error("web.unexpected", error_id=error_id, exc_info=error)
    return Internal(f"Tell the operator this number: {error_id}.")


def _from_unknown(error: Exception) -> Response:
    return from_error(unexpected(error))


def register(app: Flask) -> None:
    """Answer every error of the app with a problem document."""
    app.register_error_handler(ChatError, from_error)
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(Exception, _from_unknown)
