"""A feature's pipeline of roles: looked at, started, skipped in part, started again, put in order."""

from __future__ import annotations

from flask import Blueprint, Response

from chat.errors import Conflict, Forbidden, IdempotencyMismatch, Invalid, NotFound
from chat.requests import ComesAfter, RestartRole, SkipRole, StartPipeline
from web.endpoint import Call, Who, answer, route
from web.shapes import Pipelines, PipelineShape

bp = Blueprint("pipelines", __name__)
_PATH = "/api/features/{feature_id}/pipeline"


@route(bp, "GET", _PATH, who=Who.PERSON, answers={200: PipelineShape}, refuses=(NotFound,),
       summary="Where a feature's pipeline is, each turn with its run")  # fmt: skip
def pipeline(call: Call, feature_id: str) -> Response:
    return answer(call.chat.pipelines.view(call.principal, feature_id))


@route(bp, "GET", "/api/projects/{project_id}/pipelines", who=Who.PERSON, answers={200: Pipelines},
       refuses=(NotFound,), summary="The pipelines of all features of a project")  # fmt: skip
def of_project(call: Call, project_id: str) -> Response:
    return answer({"pipelines": call.chat.pipelines.of_project(call.principal, project_id)})


@route(bp, "POST", _PATH, who=Who.PERSON, body=StartPipeline, keyed=True,
       answers={201: PipelineShape, 200: PipelineShape},
       refuses=(Forbidden, NotFound, Conflict, IdempotencyMismatch, Invalid),
       summary="Start the roles one after another", example={"skip": ["tester"]})  # fmt: skip
def start(call: Call, feature_id: str) -> Response:
    shown, repeated = call.chat.pipelines.start(call.principal, feature_id, call.body, key=call.key)
    return answer(shown, 200 if repeated else 201)


@route(bp, "POST", _PATH + "/skip", who=Who.PERSON, body=SkipRole, answers={200: PipelineShape},
       refuses=(Forbidden, NotFound, Conflict),
       summary="Leave a role out from now on", example={"role": "tester"})  # fmt: skip
def skip(call: Call, feature_id: str) -> Response:
    return answer(call.chat.pipelines.skip(call.principal, feature_id, call.body))


@route(bp, "POST", _PATH + "/restart", who=Who.PERSON, body=RestartRole, keyed=True,
       answers={201: PipelineShape, 200: PipelineShape},
       refuses=(Forbidden, NotFound, Conflict, IdempotencyMismatch),
       summary="Start a role (again) by hand; the roles after it follow",
       example={"role": "coder", "note": "Round the total, not the lines."})  # fmt: skip
def restart(call: Call, feature_id: str) -> Response:
    shown, repeated = call.chat.pipelines.restart(
        call.principal, feature_id, call.body, key=call.key
    )
    return answer(shown, 200 if repeated else 201)


@route(bp, "PUT", "/api/features/{feature_id}/after", who=Who.PERSON, body=ComesAfter,
       answers={200: PipelineShape}, refuses=(Forbidden, NotFound, Invalid),
       summary="Say which features have to be done before this one begins",
       example={"after": ["ftr_01k9c2v4n8q6m0a3b5d7f9h1jk"]})  # fmt: skip
def put_after(call: Call, feature_id: str) -> Response:
    return answer(call.chat.pipelines.put_after(call.principal, feature_id, call.body))
