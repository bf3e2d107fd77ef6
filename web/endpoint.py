"""One route: who may call it, what it takes, what it answers. The views and OpenAPI both come from this.

A view gets a `Call` (and the path's parameters) after the credentials, the origin, the rate, the query
and the body have been checked, and returns a Response.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast, get_origin

import orjson
from flask import Blueprint, Response, current_app, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import MethodNotAllowed

from chat.access import Principal
from chat.bootstrap import Chat
from chat.errors import ChatError, Invalid, TooLarge
from web import auth, csrf
from web.limits import Limits, Sort
from web.problems import BadRequest, UnsupportedMediaType, from_validation

if TYPE_CHECKING:
    from web.live import Live
    from web.sign_outs import SignOuts
    from web.terminals import OpenTerminals
    from web.tickets import Tickets

_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Who(StrEnum):
    """Whose credentials a route takes."""

    PERSON = "person"
    AGENT = "agent"
    EITHER = "either"
    ANYBODY = "anybody"


@dataclass
class Web:
    """What the views share, made once per process (`app.extensions["web"]`)."""

    chat: Chat
    limits: Limits
    tickets: Tickets
    live: Live
    sign_outs: SignOuts
    terminals: OpenTerminals


@dataclass
class Call:
    """A request that has been checked."""

    web: Web
    who: Principal | None
    body: Any
    """The body's model."""
    query: Any
    """The query's model."""
    key: str | None
    """The Idempotency-Key."""

    @property
    def chat(self) -> Chat:
        """The domain."""
        return self.web.chat

    @property
    def principal(self) -> Principal:
        """Who speaks; only where the route demands somebody."""
        assert self.who is not None  # noqa: S101 - `route` has seen to it
        return self.who


@dataclass(frozen=True)
class Operation:
    """What a route is, for the description."""

    method: str
    path: str
    who: Who
    summary: str
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    answers: Mapping[int, type[BaseModel] | str | None]
    """By status: a model, a media type of what is no JSON, or None."""
    refuses: tuple[type[ChatError], ...]
    keyed: bool
    matched: bool
    waits: bool
    name: str
    example: dict[str, Any] | None = None
    headers: tuple[str, ...] = field(default=())


OPERATIONS: Final[list[Operation]] = []


def route(
    bp: Blueprint,
    method: str,
    path: str,
    *,
    who: Who,
    summary: str,
    answers: Mapping[int, type[BaseModel] | str | None],
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    refuses: tuple[type[ChatError], ...] = (),
    sort: Sort | None = None,
    keyed: bool = False,
    matched: bool = False,
    waits: bool = False,
    example: dict[str, Any] | None = None,
) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    """Make a view of a function. `refuses` names what it may answer beyond what every route may."""

    def decorate(view: Callable[..., Response]) -> Callable[..., Response]:
        name = f"{bp.name}_{view.__name__}"
        OPERATIONS.append(
            Operation(
                method, path, who, summary, body, query, answers, refuses, keyed, matched, waits,
                name, example,
            )
        )  # fmt: skip

        @functools.wraps(view)
        def checked(**path_values: str) -> Response:
            if request.method == "HEAD" and (waits or "text/event-stream" in answers.values()):
                raise MethodNotAllowed(valid_methods=["GET"])  # a lease or a stream is no metadata
            web = cast("Web", current_app.extensions["web"])
            principal = _credentials(web, who, method, path_values)
            spent: Sort = sort or _sort(who, method, principal)
            web.limits.hit(spent, principal or request.remote_addr or "unknown")
            call = Call(
                web=web,
                who=principal,
                query=_query(query) if query else None,
                body=_body(body) if body else None,
                key=_idempotency_key() if keyed else None,
            )
            return view(call, **path_values)

        bp.add_url_rule(re.sub(r"{(\w+)}", r"<\1>", path), view.__name__, checked, methods=[method])
        return view

    return decorate


def _credentials(
    web: Web, who: Who, method: str, path_values: Mapping[str, str]
) -> Principal | None:
    settings = web.chat.settings
    if who is Who.AGENT or (who is Who.EITHER and "Authorization" in request.headers):
        return auth.demand_agent(request, web.chat.tokens, path_values["run_id"])
    if method not in _SAFE:
        csrf.check(request, settings)
    if who is Who.ANYBODY:
        return auth.person()
    return auth.demand_person(request)


def _sort(who: Who, method: str, principal: Principal | None) -> Sort:
    if principal is not None and principal.run_id is not None:
        return "agent"
    if who is Who.ANYBODY and method not in _SAFE:
        return "sign_in"
    return "read" if method in _SAFE else "write"


def _query(model: type[BaseModel]) -> BaseModel:
    given: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        values = request.args.getlist(name)
        if values:
            given[name] = values if get_origin(info.annotation) is list else values[-1]
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise from_validation(error) from error


def _body(model: type[BaseModel]) -> BaseModel:
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as application/json.")
    limit = request.max_content_length
    if limit is not None and (request.content_length or 0) > limit:
        raise TooLarge(f"A body has at most {limit} bytes.")
    data = request.get_data(cache=False)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise from_validation(error) from error


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise Invalid("Idempotency-Key takes 1 to 128 printable ASCII characters without spaces.")
    return key


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response; models become their JSON, orjson.Fragment is passed on as it is."""
    data = orjson.dumps(value, default=_as_json)
    return Response(
        data, status=status, headers=dict(headers or {}), content_type="application/json"
    )


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is no JSON")
