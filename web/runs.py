"""Runs: made, listed, looked at; and the door for an agent that somebody starts by hand."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from chat.access import Principal
from chat.bootstrap import Chat
from chat.errors import Forbidden, IdempotencyMismatch, Invalid, NotFound, Unauthenticated
from chat.requests import CreateFeature, CreateProject, CreateRun, RegisterRun
from chat.runs import Run, StartKind
from web import auth
from web.endpoint import Call, Who, answer, route
from web.shapes import RunDetail, RunMade, Runs, RunsQuery

bp = Blueprint("runs", __name__)


def _card(chat: Chat, run: Run) -> dict[str, Any]:
    return chat.runs.cards([run])[0]


@route(bp, "GET", "/api/agent-runs", who=Who.PERSON, query=RunsQuery, answers={200: Runs},
       summary="Runs of a project, of a feature, or in a status")  # fmt: skip
def runs(call: Call) -> Response:
    query = call.query
    found = call.chat.runs.list(
        call.principal,
        project_id=query.project_id,
        feature_id=query.feature_id,
        status=query.status,
    )
    return answer({"runs": found})


@route(bp, "POST", "/api/agent-runs", who=Who.PERSON, body=CreateRun, keyed=True,
       answers={201: RunMade, 200: RunMade}, refuses=(Forbidden, NotFound, IdempotencyMismatch),
       summary="A new run; its token is shown once, and only to attach an agent by hand",
       example={"feature_id": "ftr_01k9c2v4n8q6m0a3b5d7f9h1jk", "agent_id": "nori", "start": "attach"},
       )  # fmt: skip
def create(call: Call) -> Response:
    made = call.chat.runs.create(call.principal, call.body, key=call.key)
    shown: dict[str, Any] = {"run": _card(call.chat, made.run)}
    if made.token is not None and not made.repeated:
        shown["token"] = made.token
    return answer(shown, 200 if made.repeated else 201)


@route(bp, "GET", "/api/agent-runs/{run_id}", who=Who.PERSON, answers={200: RunDetail},
       refuses=(NotFound,), summary="A run and where it stands")  # fmt: skip
def run(call: Call, run_id: str) -> Response:
    view = call.chat.runs.get(call.principal, run_id)
    snapshot = call.chat.runs.snapshot_json(run_id, view.snapshot)
    return answer({"run": _card(call.chat, view.run), "snapshot": snapshot})


@route(bp, "POST", "/api/agent-runs/register", who=Who.ANYBODY, body=RegisterRun,
       answers={201: RunMade}, refuses=(Unauthenticated, Forbidden, NotFound),
       summary="Attach an agent that somebody started; names are made when they are missing",
       example={"project": "Shop", "feature": "Shopping Cart", "agent_id": "nori"})  # fmt: skip
def register(call: Call) -> Response:
    principal = _who_registers(call)
    wanted: RegisterRun = call.body
    feature_id = wanted.feature_id or _feature(call.chat, principal, wanted)
    asked = CreateRun(feature_id=feature_id, agent_id=wanted.agent_id, start=StartKind.ATTACH)
    made = call.chat.runs.create(principal, asked, key=None)
    return answer({"run": _card(call.chat, made.run), "token": made.token}, 201)


def _who_registers(call: Call) -> Principal:
    """A person who signed in, or whoever is on this machine."""
    if call.who is not None or not auth.on_this_machine(request, call.chat.settings):
        return auth.demand_person(request)
    return auth.local_person("Local")


def _feature(chat: Chat, principal: Principal, wanted: RegisterRun) -> str:
    """The feature that is named, made if it is not there."""
    if wanted.project is None or wanted.feature is None:
        raise Invalid("Give 'feature_id', or the names 'project' and 'feature'.")
    catalog = chat.catalog
    project = next((p for p in catalog.projects(principal) if p.name == wanted.project), None)
    if project is None:
        project, _ = catalog.create_project(principal, CreateProject(name=wanted.project))
    feature = next(
        (f for f in catalog.features(principal, project.id) if f.name == wanted.feature), None
    )
    if feature is None:
        feature, _ = catalog.create_feature(
            principal, project.id, CreateFeature(name=wanted.feature)
        )
    return feature.id
