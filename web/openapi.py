"""The description of the API: OpenAPI 3.1, made from the routes and the pydantic models."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from chat.errors import (
    ChatError,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from chat.settings import Settings
from web.csrf import BadOrigin
from web.endpoint import OPERATIONS, Operation, Who
from web.problems import MEDIA_TYPE, BadRequest, PreconditionRequired, UnsupportedMediaType
from web.shapes import Problem

_REF: Final = "#/components/schemas/{model}"
_COOKIE: Final[dict[str, list[str]]] = {"cookie": []}
_TOKEN: Final[dict[str, list[str]]] = {"runToken": []}
_SECURITY: Final[dict[Who, list[dict[str, list[str]]]]] = {
    Who.PERSON: [_COOKIE],
    Who.AGENT: [_TOKEN],
    Who.EITHER: [_COOKIE, _TOKEN],
    Who.ANYBODY: [],
}
_PATH_VALUE: Final = re.compile(r"{(\w+)}")
_READS: Final = {"GET", "HEAD"}
Json = dict[str, Any]


def description(settings: Settings) -> Json:
    """The whole document."""
    named, schemas = _schemas()
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, named, schemas
        )
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Omakase",
            "version": "1",
            "summary": "People talk with coding agents while the agents work.",
            "description": "Beside these paths there are two WebSockets, `/api/live` and "
            "`/api/agent-runs/{run}/terminal`: see docs/wire.md.",
        },
        "servers": [{"url": settings.public_url}],
        "tags": [{"name": name} for name in sorted({_noun(one) for one in OPERATIONS})],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "cookie": {"type": "apiKey", "in": "cookie", "name": "omakase_session"},
                "runToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of one run, shown when an agent is attached.",
                },
            },
        },
    }


def _schemas() -> tuple[dict[tuple[type[BaseModel], str], str], Json]:
    """The reference of each model, as it is read (validation) and as it is answered (serialization)."""
    wanted: dict[tuple[type[BaseModel], str], None] = {(Problem, "serialization"): None}
    for operation in OPERATIONS:
        for model in (operation.body, operation.query):
            if model is not None:
                wanted[model, "validation"] = None
        for shape in operation.answers.values():
            if isinstance(shape, type):
                wanted[shape, "serialization"] = None
    found, whole = models_json_schema(
        list(wanted),  # type: ignore[arg-type]  # the mode is a literal
        ref_template=_REF,
    )
    named = {
        cast("tuple[type[BaseModel], str]", key): value["$ref"] for key, value in found.items()
    }
    return named, whole["$defs"]


def _noun(operation: Operation) -> str:
    return operation.name.split("_", 1)[0]


def _operation(
    one: Operation, named: dict[tuple[type[BaseModel], str], str], schemas: Json
) -> Json:
    made: Json = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [_noun(one)],
        "security": _SECURITY[one.who],
        "parameters": _parameters(one, named, schemas),
        "responses": _responses(one, named),
    }
    if one.body is not None:
        content: Json = {"schema": {"$ref": named[one.body, "validation"]}}
        if one.example is not None:
            content["example"] = one.example
        made["requestBody"] = {"required": True, "content": {"application/json": content}}
    return made


def _parameters(
    one: Operation, named: dict[tuple[type[BaseModel], str], str], schemas: Json
) -> list[Json]:
    found: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PATH_VALUE.findall(one.path)
    ]
    if one.query is not None:
        schema = schemas[named[one.query, "validation"].rsplit("/", 1)[1]]
        for name, value in schema["properties"].items():
            given = {key: part for key, part in value.items() if key != "default"}
            choices = [part for part in given.get("anyOf", []) if part != {"type": "null"}]
            if len(choices) == 1:
                given = {k: v for k, v in given.items() if k != "anyOf"} | choices[0]
            found.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in schema.get("required", []),
                    "schema": given,
                }
            )
    if one.keyed:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key again gives the first result; another body is refused.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            }
        )
    if one.matched:
        found.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": True,
                "description": "The message's ETag.",
                "schema": {"type": "string", "pattern": '^"v[0-9]{1,9}"$'},
                "example": '"v1"',
            }
        )
    if one.waits:
        found.append(
            {
                "name": "Prefer",
                "in": "header",
                "description": "`wait=25`: seconds the answer may take (RFC 7240).",
                "schema": {"type": "string", "maxLength": 100},
                "example": "wait=0",
            }
        )
    return found


def _responses(one: Operation, named: dict[tuple[type[BaseModel], str], str]) -> Json:
    found: Json = {}
    for status, shape in one.answers.items():
        response: Json = {"description": "Done"}
        if isinstance(shape, str):
            response["content"] = {shape: {}}
        elif shape is not None:
            reference = {"$ref": named[shape, "serialization"]}
            response["content"] = {"application/json": {"schema": reference}}
        found[str(status)] = response
    for error in _refusals(one):
        known = found.setdefault(
            str(error.status),
            {
                "description": error.title,
                "content": {
                    MEDIA_TYPE: {
                        "schema": {"$ref": named[Problem, "serialization"]},
                        "examples": {},
                    }
                },
            },
        )
        known["content"][MEDIA_TYPE]["examples"][error.code] = {
            "value": error("What to do about it.").problem()
        }
    return found


def _refusals(one: Operation) -> list[type[ChatError]]:
    """What this route may refuse with: its own, and what its credentials and body bring."""
    found: list[type[ChatError]] = [*one.refuses, BadRequest, TooMany]
    if "{" in one.path:
        found.append(NotFound)
    if one.who is not Who.ANYBODY:
        found += [Unauthenticated, Forbidden, Unavailable]
    if one.method not in _READS and one.who is not Who.AGENT:
        found.append(BadOrigin)
    if one.body is not None:
        found += [Invalid, TooLarge, UnsupportedMediaType]
    if one.query is not None or one.keyed or one.matched:
        found.append(Invalid)
    if one.matched:
        found.append(PreconditionRequired)
    return list(dict.fromkeys(found))
