"""What is being built, and by whom: projects, features, agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response

from chat.errors import Forbidden, IdempotencyMismatch, NotFound
from chat.requests import CreateFeature, CreateProject
from chat.runs import Feature, Project
from web.endpoint import Call, Who, answer, route
from web.paging import kinds_of, slice_answer
from web.shapes import (
    Agents,
    EventSlice,
    Features,
    FeatureShape,
    Projects,
    ProjectShape,
    SinceQuery,
    SliceQuery,
)

bp = Blueprint("catalog", __name__)
_PROJECT, _FEATURE = set(ProjectShape.model_fields), set(FeatureShape.model_fields)


def _shown(project: Project) -> dict[str, Any]:
    return project.model_dump(mode="json", include=_PROJECT)


def _cards(call: Call, features: Sequence[Feature]) -> list[dict[str, Any]]:
    states = call.chat.pipelines.states(features)
    return [
        {**one.model_dump(mode="json", include=_FEATURE), "state": states[one.id]}
        for one in features
    ]


@route(bp, "GET", "/api/agents", who=Who.PERSON, answers={200: Agents}, summary="The named workers")
def agents(call: Call) -> Response:
    return answer({"agents": list(call.chat.roles.agents.values())})


@route(bp, "GET", "/api/projects", who=Who.PERSON, answers={200: Projects}, summary="All projects")
def projects(call: Call) -> Response:
    return answer({"projects": [_shown(one) for one in call.chat.catalog.projects(call.principal)]})


@route(bp, "POST", "/api/projects", who=Who.PERSON, body=CreateProject, keyed=True,
       answers={201: ProjectShape, 200: ProjectShape}, refuses=(Forbidden, IdempotencyMismatch),
       summary="A new project", example={"name": "Shop"})  # fmt: skip
def create_project(call: Call) -> Response:
    project, repeated = call.chat.catalog.create_project(call.principal, call.body, key=call.key)
    return answer(_shown(project), 200 if repeated else 201)


@route(bp, "GET", "/api/projects/{project_id}", who=Who.PERSON, answers={200: ProjectShape},
       refuses=(NotFound,), summary="One project")  # fmt: skip
def project(call: Call, project_id: str) -> Response:
    return answer(_shown(call.chat.catalog.project(call.principal, project_id)))


@route(bp, "GET", "/api/projects/{project_id}/features", who=Who.PERSON, answers={200: Features},
       refuses=(NotFound,), summary="A project's features")  # fmt: skip
def features(call: Call, project_id: str) -> Response:
    return answer(
        {"features": _cards(call, call.chat.catalog.features(call.principal, project_id))}
    )


@route(bp, "POST", "/api/projects/{project_id}/features", who=Who.PERSON, body=CreateFeature,
       keyed=True, answers={201: FeatureShape, 200: FeatureShape},
       refuses=(Forbidden, NotFound, IdempotencyMismatch), summary="A new feature",
       example={"name": "Shopping Cart", "description": "Add, remove, total."})  # fmt: skip
def create_feature(call: Call, project_id: str) -> Response:
    feature, repeated = call.chat.catalog.create_feature(
        call.principal, project_id, call.body, key=call.key
    )
    return answer(_cards(call, [feature])[0], 200 if repeated else 201)


@route(bp, "GET", "/api/features/{feature_id}", who=Who.PERSON, answers={200: FeatureShape},
       refuses=(NotFound,), summary="One feature")  # fmt: skip
def feature(call: Call, feature_id: str) -> Response:
    return answer(_cards(call, [call.chat.catalog.feature(call.principal, feature_id)])[0])


@route(bp, "GET", "/api/features/{feature_id}/messages", who=Who.PERSON, query=SliceQuery,
       answers={200: EventSlice}, refuses=(NotFound,),
       summary="A feature's history across its runs, by time")  # fmt: skip
def feature_messages(call: Call, feature_id: str) -> Response:
    query = call.query
    found = call.chat.messages.feature_page(
        call.principal,
        feature_id,
        cursor=query.cursor,
        limit=query.limit,
        kinds=kinds_of(query.kind),
    )
    return slice_answer(found)


@route(bp, "GET", "/api/projects/{project_id}/messages", who=Who.PERSON, query=SinceQuery,
       answers={200: EventSlice}, refuses=(NotFound,),
       summary="A project's history across its runs, by time")  # fmt: skip
def project_messages(call: Call, project_id: str) -> Response:
    query = call.query
    found = call.chat.messages.project_page(
        call.principal, project_id, since=query.since, cursor=query.cursor, limit=query.limit,
        kinds=kinds_of(query.kind),
    )  # fmt: skip
    return slice_answer(found)
