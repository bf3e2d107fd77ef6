"""The scripted kitchen over real HTTP and a real WebSocket. `python -m tests.browser.ui_fixture` runs it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any, Self

from flask import Flask, Response, jsonify, render_template, request, send_from_directory
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from wsproto.utilities import LocalProtocolError

from .kitchen import AGENTS, ANNA, Json, Kitchen, Refused

WEB = Path(__file__).resolve().parents[3] / "web"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types lit-html dompurify chat-markdown"
)


class Quiet(WSGIRequestHandler):
    """Says nothing about every request."""

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
        pass


class Line:
    """One browser's socket: one writer at a time, and what it subscribed to."""

    def __init__(self, ws: Server, kitchen: Kitchen) -> None:
        self.ws, self.kitchen = ws, kitchen
        self.lock = threading.Lock()
        self.runs: set[str] = set()
        self.projects: set[str] = set()

    def say(self, frame: Json) -> None:
        try:
            with self.lock:
                self.ws.send(json.dumps(frame))
        except (ConnectionClosed, LocalProtocolError, OSError):
            pass

    def overhear(self, frame: Json) -> None:
        if frame.get("run_id") in self.runs or frame.get("project_id") in self.projects:
            self.say(frame)

    def heard(self, frame: Json) -> None:
        self.kitchen.frames.append(frame)
        match frame["type"]:
            case "subscribe":
                self.subscribe(frame)
            case "unsubscribe":
                self.runs.discard(frame["run_id"])
            case "watch":
                self.projects.add(frame["project_id"])

    def subscribe(self, frame: Json) -> None:
        run_id, after, epoch = frame["run_id"], frame["after"], frame["epoch"]
        with self.kitchen.lock:
            log = self.kitchen.logs[run_id]
            head = len(log)
            gap = (epoch is not None and epoch != self.kitchen.epoch) or (after or 0) > head
            self.say(
                {
                    "type": "subscribed",
                    "run_id": run_id,
                    "resume": "gap" if gap else "ok",
                    "epoch": self.kitchen.epoch,
                    "head": head,
                    "snapshot": self.kitchen.snapshot(run_id),
                }
            )
            if not gap:
                for event in log[head if after is None else after :]:
                    self.say({"type": "event", "run_id": run_id, "event": event})
            self.runs.add(run_id)


class UiServer:
    """The kitchen behind a port of loopback; `url` is its origin."""

    def __init__(self, kitchen: Kitchen, port: int = 0) -> None:
        self.kitchen = kitchen
        self.lines: list[Line] = []
        self.is_reachable = True
        self.app = self.build()
        self.server: BaseWSGIServer = make_server(
            "127.0.0.1", port, self.app, threaded=True, request_handler=Quiet
        )
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self.server.shutdown()
        self.server.server_close()

    def cut(self, code: int = 1001) -> None:
        """Close every socket, as a server does that goes away."""
        for line in list(self.lines):
            with contextlib.suppress(ConnectionClosed, LocalProtocolError, OSError):
                line.ws.close(code)

    def build(self) -> Flask:
        kitchen = self.kitchen
        app = Flask("ui_fixture", template_folder=str(WEB / "templates"), static_folder=None)
        sock = Sock(app)

        @app.before_request
        def note() -> Response | None:
            if request.path.startswith("/api"):
                kitchen.calls.append(
                    (
                        request.method,
                        request.full_path.rstrip("?"),
                        request.headers.get("Idempotency-Key"),
                    )
                )
                if not self.is_reachable:
                    return problem(Refused(503, "unavailable", "Not reachable at the moment."))
                if request.method != "GET" and kitchen.refuse_next:
                    return problem(kitchen.refuse_next.pop(0))
                if not kitchen.signed_in and request.path not in {"/api/session", "/api/live"}:
                    return problem(Refused(401, "unauthenticated", "Sign in first."))
            return None

        @app.after_request
        def headers(response: Response) -> Response:
            response.headers["Content-Security-Policy"] = CSP
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Cache-Control"] = "no-cache"
            return response

        @app.errorhandler(Refused)
        def refused(error: Refused) -> Response:
            return problem(error)

        @app.get("/")
        @app.get("/projects/<_id>")
        @app.get("/projects/<_id>/logs")
        def shell(_id: str = "") -> str:
            return render_template("shell.html")

        @app.get("/sign-in")
        def door() -> str:
            return render_template("sign_in.html")

        @app.get("/embed")
        def embed() -> str:
            run = next(iter(kitchen.runs))
            return f'<!doctype html><html lang="en"><title>Mine</title><script type="module" src="/static/js/embed.js"></script><main><h1>My own page</h1><omakase-chat run="{run}"></omakase-chat></main></html>'

        @app.get("/static/<path:name>")
        def static(name: str) -> Response:
            return send_from_directory(WEB / "static", name)

        @app.get("/favicon.ico")
        def favicon() -> Response:
            return send_from_directory(WEB / "static" / "img", "omakase.svg")

        self.rest(app)

        @sock.route("/api/live")
        def live(ws: Server) -> None:
            line = Line(ws, kitchen)
            if not kitchen.signed_in:
                ws.close(4401)
                return
            if not self.is_reachable:
                ws.close(1013)
                return
            self.lines.append(line)
            kitchen.listeners.append(line.overhear)
            line.say({"type": "hello", "heartbeat_ms": 15000})
            try:
                beat = time.monotonic()
                while True:
                    data = ws.receive(timeout=1)
                    if data is not None:
                        line.heard(json.loads(data))
                    if time.monotonic() - beat > 15:
                        beat = time.monotonic()
                        line.say({"type": "ping"})
            except ConnectionClosed:
                pass
            finally:
                kitchen.listeners.remove(line.overhear)
                self.lines.remove(line)

        return app

    def rest(self, app: Flask) -> None:
        kitchen = self.kitchen

        @app.get("/api/session")
        def session() -> Any:
            if not kitchen.signed_in:
                raise Refused(401, "unauthenticated", "Sign in first.")
            return {
                "principal": ANNA | {"level": kitchen.level},
                "flower_url": "http://127.0.0.1:5555",
            }

        @app.post("/api/session")
        def sign_in() -> Any:
            if not kitchen.local_sign_in:
                raise Refused(403, "forbidden", "Local sign-in is only possible on this machine.")
            kitchen.signed_in = True
            return {"principal": ANNA | {"name": request.json["name"], "level": "owner"}}, 201

        @app.delete("/api/session")
        def sign_out() -> Any:
            kitchen.signed_in = False
            return {}

        @app.get("/api/agents")
        def agents() -> Any:
            return {"agents": AGENTS}

        @app.get("/api/projects")
        def projects() -> Any:
            return {"projects": kitchen.projects}

        @app.post("/api/projects")
        def create_project() -> Any:
            return kitchen.project(request.json["name"]), 201

        @app.get("/api/projects/<project_id>")
        def project(project_id: str) -> Any:
            for known in kitchen.projects:
                if known["id"] == project_id:
                    return known
            raise Refused(404, "not_found", "There is no project with that id.")

        @app.get("/api/projects/<project_id>/features")
        def features(project_id: str) -> Any:
            return {"features": [f for f in kitchen.features if f["project_id"] == project_id]}

        @app.post("/api/projects/<project_id>/features")
        def create_feature(project_id: str) -> Any:
            made = kitchen.feature(
                project_id, request.json["name"], request.json.get("description", "")
            )
            made["after"] = request.json.get("after", [])
            return made, 201

        @app.get("/api/projects/<project_id>/pipelines")
        def pipelines(project_id: str) -> Any:
            ids = [f["id"] for f in kitchen.features if f["project_id"] == project_id]
            return {"pipelines": [kitchen.pipelines[one] for one in ids]}

        @app.get("/api/features/<feature_id>/pipeline")
        def pipeline(feature_id: str) -> Any:
            return kitchen.pipelines[feature_id]

        @app.route("/api/features/<feature_id>/<path:what>", methods=["POST", "PUT"])
        def steer(feature_id: str, what: str) -> Any:
            kitchen.steered.append((what, request.json))
            return kitchen.pipelines[feature_id], 200 if request.method == "PUT" else 201

        @app.get("/api/agent-runs")
        def runs() -> Any:
            wanted = request.args.items()
            return {
                "runs": [
                    r
                    for r in reversed(kitchen.runs.values())
                    if all(r[name] == value for name, value in wanted)
                ]
            }

        @app.post("/api/agent-runs")
        def create_run() -> Any:
            feature = next(f for f in kitchen.features if f["id"] == request.json["feature_id"])
            run = kitchen.run(feature, request.json["agent_id"], request.json["start"])
            return (
                {"run": run} | ({"token": "omk_run_once"} if run["start"] == "attach" else {})
            ), 201

        @app.get("/api/agent-runs/<run_id>")
        def run(run_id: str) -> Any:
            if run_id not in kitchen.runs:
                raise Refused(404, "not_found", "There is no run with that id.")
            return {"run": kitchen.runs[run_id], "snapshot": kitchen.snapshot(run_id)}

        @app.get("/api/agent-runs/<run_id>/messages")
        def messages(run_id: str) -> Any:
            if run_id not in kitchen.runs:
                raise Refused(404, "not_found", "There is no run with that id.")
            args = request.args
            number = lambda name: int(args[name]) if name in args else None  # noqa: E731
            return kitchen.page(
                run_id,
                number("after"),
                number("before"),
                number("limit") or 100,
                args.getlist("kind"),
            )

        @app.post("/api/agent-runs/<run_id>/messages")
        def post(run_id: str) -> Any:
            event, repeated = kitchen.write(
                run_id, request.json, request.headers.get("Idempotency-Key")
            )
            if kitchen.lose_next_reply:
                kitchen.lose_next_reply -= 1
                raise Refused(503, "unavailable", "The reply was lost.")
            return {"event": event}, 200 if repeated else 201

        @app.get("/api/agent-runs/<run_id>/messages/<message_id>")
        def message(run_id: str, message_id: str) -> Any:
            state, attempt, version = kitchen.state_of(run_id, message_id)
            body = {
                "event": kitchen.find(run_id, message_id),
                "receipt": {"state": state, "attempt": attempt, "version": version},
                "proof": kitchen.proofs.get(message_id),
            }
            response = jsonify(body)
            response.headers["ETag"] = f'"v{version}"'
            return response

        @app.patch("/api/agent-runs/<run_id>/messages/<message_id>")
        def edit(run_id: str, message_id: str) -> Any:
            state, _, version = kitchen.state_of(run_id, message_id)
            if state not in {"accepted", "stored"}:
                raise Refused(
                    409, "already_taken", "The agent has taken the message.", {"state": state}
                )
            if request.headers.get("If-Match") != f'"v{version}"':
                raise Refused(
                    412, "stale_version", "It was changed in the meantime.", {"version": version}
                )
            body = (
                kitchen.find(run_id, message_id)["body"]
                | request.json
                | {"edit_of": message_id, "version": version + 1}
            )
            return {"event": kitchen.emit(run_id, "message", body, ANNA)}

        @app.delete("/api/agent-runs/<run_id>/messages/<message_id>")
        def cancel(run_id: str, message_id: str) -> Any:
            if kitchen.state_of(run_id, message_id)[0] not in {"accepted", "stored"}:
                raise Refused(409, "already_taken", "The agent has taken the message.")
            kitchen.receipt(run_id, message_id, "cancelled")
            return {"result": "cancelled"}

        @app.post("/api/agent-runs/<run_id>/orders")
        def order(run_id: str) -> Any:
            event = kitchen.emit(
                run_id,
                "order",
                {"action": request.json["action"], "every_steps": None, "reason": None},
                ANNA,
            )
            return {"event": event}, 201

        @app.post("/api/agent-runs/<run_id>/questions/<question_id>/answer")
        def answer(run_id: str, question_id: str) -> Any:
            event, repeated = kitchen.answer(run_id, question_id, request.json)
            return {"event": event}, 200 if repeated else 201


def problem(refused: Refused) -> Response:
    document: Json = {
        "type": f"urn:omakase:problem:{refused.code}",
        "title": refused.detail,
        "status": refused.status,
        "detail": refused.detail,
        "code": refused.code,
    }
    if refused.current_state is not None:
        document["current_state"] = refused.current_state
    response = jsonify(document)
    response.status_code = refused.status
    response.mimetype = "application/problem+json"
    return response
