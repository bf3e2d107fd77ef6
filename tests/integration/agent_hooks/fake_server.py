"""The server's agent paths (docs/wire.md) on loopback, small enough to read: one run, in memory.

Leases with deadlines and redelivery, take-over by a new holder, idempotent event keys, questions, the
finish barrier. It can be told to fail: `mode` is "ok", "500" (refuse), "hang" (never answer) or "drop"
(do the work, then close without an answer); `away()` closes the port and `back()` opens it again.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

RUN = "run_01k9zzzzzzzzzzzzzzzzzzzzzz"
TOKEN = "omr_test_token"
Event = dict[str, Any]
ANNA = {"kind": "person", "id": "usr_anna", "name": "Anna", "role": None}
NORI = {"kind": "agent", "id": "nori", "name": "Nori", "role": "coder"}


@dataclass
class Mail:
    event: Event
    state: str = "stored"
    attempt: int = 0
    holder: str = ""
    deadline: float = 0.0
    proof: dict[str, Any] = field(default_factory=dict)


class Problem(Exception):
    def __init__(self, status: int, code: str, **state: Any) -> None:
        super().__init__(code)
        self.status, self.code, self.state = status, code, state


class FakeServer:
    def __init__(self, *, lease_ms: int = 30_000) -> None:
        self.lease_ms = lease_ms
        self.mode = "ok"
        self.fails: Callable[[str], bool] = lambda _: True
        """To which paths `mode` applies."""
        self.log: list[Event] = []
        self.mail: dict[str, Mail] = {}
        self.keys: dict[str, Event] = {}
        self.questions: dict[str, Event] = {}
        self.answers: dict[str, Event] = {}
        self.deltas: dict[str, str] = {}
        self.status = "queued"
        self.held = False
        self.ended: dict[str, Any] | None = None
        self.kept: dict[str, Any] | None = None
        """The checkpoint of a hold."""
        self.generation = 0
        self.hold_failures: list[str] = []
        self.calls: Counter[str] = Counter()
        self.holders: list[str] = []
        self.changed = threading.Condition(threading.RLock())
        self._server: ThreadingHTTPServer | None = None
        self._open: set[Any] = set()
        self.port = 0
        self.back()

    # --- being there ------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def back(self) -> None:
        server = _Server(("127.0.0.1", self.port), _handler(self))
        server.daemon_threads = True
        self.port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def away(self) -> None:
        """Gone: the port is closed, and every open connection is cut."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in list(self._open):
            _cut(connection)

    def close(self) -> None:
        with self.changed:
            self.mode = "ok"
            self.changed.notify_all()
        self.away()

    # --- what people do ---------------------------------------------------------------------------

    def append(self, kind: str, body: dict[str, Any], sender: Any, item_id: str = "") -> Event:
        with self.changed:
            seq = len(self.log) + 1
            event: Event = {
                "seq": seq, "epoch": "e1", "run_id": RUN, "id": item_id or f"{kind[:3]}_{seq:026d}",
                "kind": kind, "at": "2026-11-22T09:33:00.123Z", "sender": sender, "body": body,
            }  # fmt: skip
            self.log.append(event)
            self.changed.notify_all()
            return event

    def say(self, text: str, *, mode: str = "steer") -> str:
        with self.changed:
            event = self.append("message", {"text": text, "mode": mode, "version": 1}, ANNA)
            self.mail[event["id"]] = Mail(event)
            return str(event["id"])

    def order(self, action: str, **more: Any) -> str:
        with self.changed:
            event = self.append("order", {"action": action, **more}, ANNA)
            self.mail[event["id"]] = Mail(event)
            if action in ("pause", "resume"):
                self.held = action == "pause"
            return str(event["id"])

    def answer(self, question_id: str, *, value: str | None = None, text: str | None = None) -> str:
        with self.changed:
            body = {"question_id": question_id, "outcome": "answered", "value": value, "text": text}
            event = self.append("answer", body, ANNA)
            self.answers[question_id] = event
            self.mail[event["id"]] = Mail(event)
            return str(event["id"])

    # --- what tests ask ---------------------------------------------------------------------------

    def wait(self, reached: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """Until it is true; the condition is looked at on every change, and fails the test else."""
        with self.changed:
            assert self.changed.wait_for(reached, timeout_s), "did not come about"
            return reached()

    def of(self, kind: str) -> list[Event]:
        with self.changed:
            return [event for event in self.log if event["kind"] == kind]

    def said(self) -> list[str]:
        return [e["body"]["text"] for e in self.of("message") if e["sender"] == NORI]

    def lines(self) -> list[str]:
        return [line["text"] for e in self.of("log") for line in e["body"]["lines"]]

    def state(self, item_id: str) -> str:
        return self.mail[item_id].state

    # --- the agent's paths ------------------------------------------------------------------------

    def expire(self) -> None:
        now = time.monotonic()
        for mail in self.mail.values():
            if mail.state == "leased" and mail.deadline < now:
                mail.state, mail.holder = "stored", ""

    def lease(self, holder: str, *, task_end: bool) -> list[dict[str, Any]]:
        self.expire()
        if self.status == "suspended":
            return []  # for the next process
        if not self.holders or self.holders[-1] != holder:
            self.holders.append(holder)
        items = []
        for mail in self.mail.values():
            taken_over = mail.state == "leased" and mail.holder != holder
            if mail.state != "stored" and not taken_over:
                continue
            if self.held and mail.event["kind"] != "order":
                continue
            if mail.event["body"].get("mode") == "queue" and not task_end:
                continue
            mail.state, mail.holder, mail.attempt = "leased", holder, mail.attempt + 1
            mail.deadline = time.monotonic() + self.lease_ms / 1000
            items.append(
                {"event": mail.event, "attempt": mail.attempt, "state": "leased", "version": 1}
            )
        if items:
            self.changed.notify_all()
        return items

    def get_checkpoint(self) -> dict[str, Any]:
        return {"checkpoint": self.kept}

    def get_mailbox(self, query: dict[str, str], wait_s: float) -> dict[str, Any]:
        assert query["holder"]
        task_end = query.get("point") == "task_end"
        deadline = time.monotonic() + wait_s
        items: list[dict[str, Any]] = []
        first = True
        while not items:
            self._check()
            if not first and self.holders[-1] != query["holder"]:
                break  # its holder is of yesterday: its client has died or has lost an answer
            first = False
            items = self.lease(query["holder"], task_end=task_end)
            left = deadline - time.monotonic()
            if left <= 0 or self.mode == "hang":
                break
            if not items:
                self.changed.wait(min(left, 0.25))  # leases may run out in the meantime
        return {
            "items": items, "lease_ms": self.lease_ms, "deadline": "", "status": self.status,
            "held": self.held, "head": len(self.log),
        }  # fmt: skip

    def post_confirm(self, body: dict[str, Any]) -> dict[str, Any]:
        text = body["text"].encode()
        if hashlib.sha256(text).hexdigest() != body["sha256"]:
            raise Problem(422, "invalid")
        for item_id in body["ids"]:
            mail = self.mail[item_id]
            if mail.state in ("stored", "leased"):
                mail.state = "in_context"
                mail.proof = {"step": body["step"], "text": body["text"]}
        return {"items": {item_id: self.mail[item_id].state for item_id in body["ids"]}}

    def post_release(self, body: dict[str, Any]) -> dict[str, Any]:
        for item_id, mail in self.mail.items():
            wanted = item_id in body["ids"] or not body["ids"]
            if wanted and mail.state == "leased" and mail.holder == body["holder"]:
                mail.state, mail.holder = "stored", ""
        return {}

    def post_heartbeat(self, body: dict[str, Any]) -> dict[str, Any]:
        self.expire()
        for mail in self.mail.values():
            if mail.state == "leased" and mail.holder == body["holder"]:
                mail.deadline = time.monotonic() + self.lease_ms / 1000
        return {"status": self.status, "held": self.held, "pending": 0, "lease_ms": self.lease_ms}

    def post_events(self, body: dict[str, Any]) -> dict[str, Any]:
        if not 1 <= len(body["events"]) <= 100:
            raise Problem(422, "invalid")
        for one in body["events"]:
            if one["kind"] not in ("message", "step", "log", "status", "error"):
                raise Problem(422, "invalid")
            if one["kind"] == "log" and not 1 <= len(one["body"]["lines"]) <= 500:
                raise Problem(422, "invalid")
            if one["body"].get("text") == "refuse me":
                raise Problem(422, "invalid")
        answers = []
        for one in body["events"]:
            known = self.keys.get(one["key"])
            event = known or self.append(one["kind"], one["body"], NORI, one.get("id", ""))
            self.keys[one["key"]] = event
            if one["kind"] == "status" and known is None:
                if self.status == "suspended":
                    raise Problem(409, "illegal_move")
                self.status = one["body"]["status"]
            answers.append(
                {"key": one["key"], "seq": event["seq"], "id": event["id"], "repeated": bool(known)}
            )
        return {"events": answers}

    def post_deltas(self, body: dict[str, Any]) -> dict[str, Any]:
        stands = self.deltas.get(body["message_id"], "")
        encoded = stands.encode("utf-16-le")
        if body["offset"] * 2 <= len(encoded):
            encoded = encoded[: body["offset"] * 2] + body["text"].encode("utf-16-le")
            self.deltas[body["message_id"]] = encoded.decode("utf-16-le")
        return {"units": len(encoded) // 2}

    def post_questions(self, body: dict[str, Any]) -> dict[str, Any]:
        event = self.questions.get(body["handle"])
        if event is None:
            event = self.questions[body["handle"]] = self.append("question", body, NORI)
        return {"event": event, "answer": self.answers.get(event["id"])}

    def get_question(self, question_id: str) -> dict[str, Any]:
        event = next(e for e in self.questions.values() if e["id"] == question_id)
        return {"event": event, "answer": self.answers.get(question_id)}

    def post_finish(self, body: dict[str, Any]) -> dict[str, Any]:
        self.expire()
        if self.status == "suspended":
            raise Problem(409, "illegal_move")
        unread = [m for m in self.mail.values() if m.state in ("stored", "leased")]
        if body["outcome"] == "completed" and unread:
            for mail in unread:
                if mail.holder != body["holder"]:
                    mail.attempt += 1
                mail.state, mail.holder = "leased", body["holder"]
                mail.deadline = time.monotonic() + self.lease_ms / 1000
            items = [
                {"event": m.event, "attempt": m.attempt, "state": "leased", "version": 1}
                for m in unread
            ]
            raise Problem(409, "mailbox_not_empty", items=items)
        for mail in unread:
            mail.state = "undelivered"
        self.append("status", {"status": body["outcome"], "detail": body.get("summary")}, NORI)
        self.status = body["outcome"]
        self.ended = body
        return {"status": self.status}

    def post_hold(self, body: dict[str, Any]) -> dict[str, Any]:
        self.expire()
        if body["generation"] != self.generation:
            raise Problem(409, "illegal_move")
        if body.get("failure"):
            self.hold_failures.append(body["failure"])
            return {"status": self.status}
        if self.status == "suspended":
            return {"status": self.status}
        if self.status not in ("waiting", "paused"):
            raise Problem(409, "illegal_move")
        items = self._leased_unread(body["holder"])
        if items:
            raise Problem(409, "mailbox_not_empty", items=items)
        self.kept, self.status, self.held = body["checkpoint"], "suspended", False
        self.append("status", {"status": "suspended", "checkpoint": self.kept}, NORI)
        return {"status": self.status}

    def _leased_unread(self, holder: str) -> list[dict[str, Any]]:
        unread = [m for m in self.mail.values() if m.state in ("stored", "leased")]
        for mail in unread:
            if not self.held or mail.event["kind"] == "order":
                mail.state, mail.holder = "leased", holder
                mail.attempt += 1
                mail.deadline = time.monotonic() + self.lease_ms / 1000
        return [
            {"event": m.event, "attempt": m.attempt, "state": m.state, "version": 1} for m in unread
        ]

    def come_back(self) -> None:
        """What a worker does when somebody speaks to a run on hold."""
        with self.changed:
            self.generation += 1
            self.status = "starting"

    def _check(self) -> None:
        if self.ended:
            raise Problem(401, "run_ended")

    def handle(self, method: str, path: str, raw: bytes, headers: Any) -> dict[str, Any]:
        parts = urlsplit(path)
        if parts.path == "/api/session":
            return {"principal": {"kind": "person", "id": "usr_anna", "name": "Anna"}}
        if parts.path == "/api/agent-runs/register":
            if "sid=1" not in (headers.get("Cookie") or ""):
                raise Problem(401, "unauthenticated")
            return {"run": {"id": RUN}, "token": TOKEN}
        found = re.fullmatch(rf"/api/agent-runs/{RUN}/(.+)", parts.path)
        if not found:
            raise Problem(404, "not_found")
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Problem(401, "unauthenticated")
        name = found[1]
        with self.changed:
            self._check()
            if method == "GET":
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                wait_s = float((headers.get("Prefer") or "wait=0").partition("=")[2])
                if name == "mailbox":
                    return self.get_mailbox(query, wait_s)
                if name == "checkpoint":
                    return self.get_checkpoint()
                return self.get_question(name.partition("/")[2])
            body = json.loads(raw)
            method_name = f"post_{name.rpartition('/')[2]}"
            answer: dict[str, Any] = getattr(self, method_name)(body)
            self.changed.notify_all()
            return answer


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True


def _cut(connection: Any) -> None:
    try:
        connection.shutdown(2)
    except OSError:
        return


def _handler(fake: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            fake._open.add(self.connection)

        def finish(self) -> None:
            fake._open.discard(self.connection)
            try:
                super().finish()
            except OSError:
                return

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                return

        def _any(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            failing = fake.mode if fake.mode != "ok" and fake.fails(self.path) else "ok"
            with fake.changed:
                fake.calls[urlsplit(self.path).path.rpartition("/")[2]] += 1
                fake.changed.notify_all()
            if failing == "hang":
                with fake.changed:
                    fake.changed.wait_for(lambda: fake.mode != "hang", 60)
                self.close_connection = True
                return
            if failing == "500":
                self._send(500, {"detail": "broken"})
                return
            try:
                status, answer = 200, fake.handle(self.command, self.path, raw, self.headers)
            except Problem as problem:
                status = problem.status
                answer = {"code": problem.code, "detail": problem.code, "title": problem.code}
                if problem.state:
                    answer["current_state"] = problem.state
            if failing == "drop":
                self.close_connection = True
                return
            self._send(status, answer)

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if self.path == "/api/session":
                self.send_header("Set-Cookie", "sid=1; HttpOnly; Path=/")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _any  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
