"""What machines ask for: health, readiness, the description, the agents' one-file program."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import orjson
import redis
from flask import Blueprint, Response, current_app, send_file

from chat.errors import Unavailable
from web.endpoint import Call, Who, answer, route
from web.openapi import description
from web.shapes import Health

bp = Blueprint("meta", __name__)
_ROOT = Path(__file__).resolve().parent.parent
PYZ = _ROOT / "build" / "agent-hooks.pyz"
_building = threading.Lock()


@route(bp, "GET", "/healthz", who=Who.ANYBODY, answers={200: Health}, summary="This process lives")
def healthz(call: Call) -> Response:  # noqa: ARG001 - every view takes it
    return answer({"status": "ok"})


@route(bp, "GET", "/readyz", who=Who.ANYBODY, answers={200: Health}, refuses=(Unavailable,),
       summary="This process can serve: Redis and the store answer")  # fmt: skip
def readyz(call: Call) -> Response:
    try:
        call.chat.redis.ping()
    except redis.RedisError as error:
        raise Unavailable("Redis does not answer.") from error
    call.chat.store.project("readiness")
    hub = call.web.live.hub
    if hub is not None and not hub.subscriber.connected:
        raise Unavailable("The live connection to Redis is down; it is being made again.")
    return answer({"status": "ok"})


@route(bp, "GET", "/api/openapi.json", who=Who.ANYBODY, answers={200: "application/json"},
       summary="This description")  # fmt: skip
def openapi(call: Call) -> Response:
    found = current_app.extensions.get("openapi")
    if found is None:
        found = orjson.dumps(description(call.chat.settings))
        current_app.extensions["openapi"] = found
    return Response(found, content_type="application/json")


@route(bp, "GET", "/agent-hooks.pyz", who=Who.ANYBODY, answers={200: "application/zip"},
       refuses=(Unavailable,), summary="The agents' side: one file, python3 and nothing else")  # fmt: skip
def agent_hooks(call: Call) -> Response:  # noqa: ARG001 - every view takes it
    with _building:
        if not PYZ.exists():
            built = subprocess.run(
                [sys.executable, str(_ROOT / "scripts" / "build_pyz.py")],
                capture_output=True, timeout=60, check=False, cwd=_ROOT,
            )  # fmt: skip
            if built.returncode != 0 or not PYZ.exists():
                raise Unavailable("The program could not be built.")
    return send_file(PYZ, mimetype="application/zip", download_name="agent-hooks.pyz")
