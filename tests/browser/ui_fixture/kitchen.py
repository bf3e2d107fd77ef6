"""Scripted runs held in memory: what the dashboard sees, without Redis, workers or agents."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]

AGENTS = [
    {"id": "miso", "name": "Miso", "role": "architect"},
    {"id": "nori", "name": "Nori", "role": "coder"},
    {"id": "koji", "name": "Koji", "role": "reviewer"},
    {"id": "toro", "name": "Toro", "role": "tester"},
]
ANNA = {"kind": "person", "id": "usr_anna", "name": "Anna", "role": None}
SYSTEM = {"kind": "system", "id": "system", "name": "Omakase", "role": None}
ENDED = {"completed", "failed", "stopped"}


class Refused(Exception):
    """A problem document to be."""

    def __init__(self, status: int, code: str, detail: str, current_state: Any = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.current_state = (
            status,
            code,
            detail,
            current_state,
        )


def digest(text: str) -> str:
    """The sha256 of the text, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class Kitchen:
    """Projects, features and runs with their logs; `frames` go to whoever listens."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.signed_in = True
        self.local_sign_in = True
        self.epoch = "e1"
        self.projects: list[Json] = []
        self.features: list[Json] = []
        self.pipelines: dict[str, Json] = {}
        self.level = "owner"
        """What the person who is signed in may do."""
        self.runs: dict[str, Json] = {}
        self.logs: dict[str, list[Json]] = {}
        self.open_texts: dict[str, dict[str, str]] = {}
        self.proofs: dict[str, Json] = {}
        self.keys: dict[str, Json] = {}
        self.calls: list[tuple[str, str, str | None]] = []
        """(method, path with query, idempotency key) of every request under /api."""
        self.steered: list[tuple[str, Json]] = []
        """(what, body) of everything that was decided about pipelines."""
        self.frames: list[Json] = []
        """Every frame a browser sent over the socket."""
        self.refuse_next: list[Refused] = []
        self.lose_next_reply = 0
        """How many of the next posted messages are taken without the reply getting through."""
        self.listeners: list[Callable[[Json], None]] = []
        self.started = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
        self.ticks = 0

    # --- making things ---

    def now(self) -> str:
        """A time that moves three seconds with every event, near the real present."""
        self.ticks += 1
        at = self.started + timedelta(seconds=3 * self.ticks)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def project(self, name: str) -> Json:
        project = {"id": f"prj_{len(self.projects) + 1}", "name": name, "created_at": self.now()}
        self.projects.append(project)
        return project

    def feature(self, project_id: str, name: str, description: str = "") -> Json:
        feature = {
            "id": f"ftr_{len(self.features) + 1}",
            "project_id": project_id,
            "name": name,
            "description": description,
            "created_at": self.now(),
            "after": [],
        }
        self.features.append(feature)
        self.pipelines[feature["id"]] = {
            "feature_id": feature["id"],
            "state": "idle",
            "reason": "No pipeline was started.",
            "number": None,
            "turns": [],
            "skipped": [],
            "wanted": None,
            "after": [],
        }
        self.broadcast({"type": "features", "project_id": project_id, "feature_id": feature["id"]})
        return feature

    def pipeline(self, feature: Json, state: str, reason: str, **more: Any) -> Json:
        """Where a feature's pipeline is from now on."""
        with self.lock:
            line = self.pipelines[feature["id"]]
            line |= {"state": state, "reason": reason, "number": line["number"] or 1} | more
            hint = {"type": "features", "feature_id": feature["id"]}
            self.broadcast(hint | {"project_id": feature["project_id"]})
            return line

    def turn(self, feature: Json, run_id: str, result: str, why: str = "next", **more: Any) -> Json:
        """A turn of its pipeline, whose run is there; told with the next `pipeline`."""
        with self.lock:
            turns, run = self.pipelines[feature["id"]]["turns"], self.runs[run_id]
            turn = {
                "turn": len(turns) + 1,
                "role": run["role"],
                "agent_id": run["agent_id"],
                "agent_name": run["agent_name"],
                "attempt": 1 + sum(one["role"] == run["role"] for one in turns),
                "round": 1 + sum(one["why"] == "sent_back" for one in turns) + (why == "sent_back"),
                "why": why,
                "by": None,
                "note": None,
                "run_id": run_id,
                "result": result,
                "summary": None,
            } | more
            turns.append(turn)
            run |= {"pipeline": 1, "turn": turn["turn"]}
            return turn

    def run(self, feature: Json, agent_id: str, start: str = "launch") -> Json:
        with self.lock:
            agent = next(a for a in AGENTS if a["id"] == agent_id)
            run = {
                "id": f"run_{len(self.runs) + 1}_{agent_id}",
                "project_id": feature["project_id"],
                "feature_id": feature["id"],
                "agent_id": agent_id,
                "agent_name": agent["name"],
                "role": agent["role"],
                "start": start,
                "status": "queued",
                "phase": None,
                "step": None,
                "last_line": None,
                "needs_you": 0,
                "head": 0,
                "created_at": self.now(),
                "ended_at": None,
            }
            self.runs[run["id"]] = run
            self.logs[run["id"]] = []
            self.open_texts[run["id"]] = {}
            self.emit(
                run["id"],
                "status",
                {"status": "queued", "previous": None, "phase": None, "detail": None},
            )
            self.broadcast({"type": "runs", "project_id": feature["project_id"]})
            return run

    def sender_of(self, run_id: str) -> Json:
        run = self.runs[run_id]
        return {
            "kind": "agent",
            "id": run["agent_id"],
            "name": run["agent_name"],
            "role": run["role"],
        }

    def emit(
        self,
        run_id: str,
        kind: str,
        body: Json,
        sender: Json | None = None,
        event_id: str | None = None,
    ) -> Json:
        """Append an event and send it to whoever listens."""
        with self.lock:
            log, run = self.logs[run_id], self.runs[run_id]
            seq = len(log) + 1
            event = {
                "seq": seq,
                "epoch": self.epoch,
                "run_id": run_id,
                "id": event_id or f"{kind[:3]}_{run_id}_{seq}",
                "kind": kind,
                "at": self.now(),
                "sender": sender or self.sender_of(run_id),
                "body": body,
            }
            log.append(event)
            run["head"] = seq
            if kind == "status":
                run["status"], run["phase"] = body["status"], body.get("phase")
                run["ended_at"] = event["at"] if body["status"] in ENDED else None
            elif kind == "step":
                run["step"] = body
            elif kind == "message" and event["sender"]["kind"] == "agent":
                run["last_line"] = {"text": body["text"][:200], "at": event["at"]}
                self.open_texts[run_id].pop(event["id"], None)
            run["needs_you"] = len(self.questions(run_id))
            self.broadcast({"type": "event", "run_id": run_id, "event": event})
            return event

    # --- what agents and people do, in words of the story ---

    def status(
        self, run_id: str, status: str, phase: str | None = None, detail: str | None = None
    ) -> Json:
        body = {
            "status": status,
            "previous": self.runs[run_id]["status"],
            "phase": phase,
            "detail": detail,
        }
        return self.emit(run_id, "status", body, SYSTEM)

    def say(self, run_id: str, text: str, event_id: str | None = None) -> Json:
        body = {
            "text": text,
            "mode": "steer",
            "reply_to": None,
            "anchor": None,
            "edit_of": None,
            "version": 1,
        }
        return self.emit(run_id, "message", body, event_id=event_id)

    def step(
        self,
        run_id: str,
        number: int,
        name: str,
        *,
        ok: bool | None = None,
        summary: str | None = None,
        ms: int = 800,
    ) -> None:
        """One step; `ok=None` leaves it running."""
        self.emit(
            run_id,
            "step",
            {
                "step": number,
                "name": name,
                "state": "started",
                "ok": None,
                "duration_ms": None,
                "summary": None,
            },
        )
        if ok is not None:
            self.emit(
                run_id,
                "step",
                {
                    "step": number,
                    "name": name,
                    "state": "finished",
                    "ok": ok,
                    "duration_ms": ms,
                    "summary": summary,
                },
            )

    def ask(self, run_id: str, text: str, *options: str, allow_text: bool = True) -> Json:
        body = {
            "text": text,
            "options": [{"value": o, "label": o} for o in options],
            "allow_text": allow_text,
            "handle": f"h{self.ticks}",
        }
        return self.emit(run_id, "question", body)

    def log(self, run_id: str, *lines: str, stream: str = "stdout") -> Json:
        first = 1 + sum(len(e["body"]["lines"]) for e in self.logs[run_id] if e["kind"] == "log")
        return self.emit(
            run_id,
            "log",
            {
                "first_line": first,
                "lines": [{"stream": stream, "text": t, "at": None} for t in lines],
            },
        )

    def receipt(self, run_id: str, message_id: str, state: str, **more: Any) -> Json:
        body = {"state": state, "ids": [message_id], **more}
        if state == "in_context":
            text = (
                more.get("text") or f"Anna wrote: {self.find(run_id, message_id)['body']['text']}"
            )
            body |= {"step": more.get("step", 5), "text": text, "sha256": digest(text)}
            event = self.emit(run_id, "receipt", body, SYSTEM)
            self.proofs[message_id] = {
                "step": body["step"],
                "sha256": body["sha256"],
                "text": text,
                "at": event["at"],
            }
            return event
        return self.emit(run_id, "receipt", body, SYSTEM)

    def delta(self, run_id: str, message_id: str, text: str, offset: int | None = None) -> None:
        """Streamed text; without an offset it goes on where the text stands."""
        with self.lock:
            known = self.open_texts[run_id].get(message_id, "")
            at = len(known.encode("utf-16-le")) // 2 if offset is None else offset
            if offset is None:
                self.open_texts[run_id][message_id] = known + text
            self.broadcast(
                {
                    "type": "delta",
                    "run_id": run_id,
                    "message_id": message_id,
                    "offset": at,
                    "text": text,
                }
            )

    def write(self, run_id: str, body: Json, key: str | None) -> tuple[Json, bool]:
        """A person's message. Returns (event, repeated)."""
        with self.lock:
            if key and key in self.keys:
                return self.keys[key], True
            if self.runs[run_id]["status"] in ENDED:
                raise Refused(
                    409, "run_ended", "The run has ended.", {"status": self.runs[run_id]["status"]}
                )
            full = {
                "mode": "steer",
                "reply_to": None,
                "anchor": None,
                "edit_of": None,
                "version": 1,
            } | body
            event = self.emit(run_id, "message", full, ANNA)
            if key:
                self.keys[key] = event
            return event, False

    def answer(
        self, run_id: str, question_id: str, body: Json, who: Json = ANNA
    ) -> tuple[Json, bool]:
        with self.lock:
            standing = next(
                (
                    e
                    for e in self.logs[run_id]
                    if e["kind"] == "answer" and e["body"]["question_id"] == question_id
                ),
                None,
            )
            wanted = {
                "question_id": question_id,
                "outcome": "answered",
                "value": body.get("value"),
                "text": body.get("text"),
            }
            if standing:
                if standing["body"] == wanted:
                    return standing, True
                raise Refused(
                    409,
                    "already_answered",
                    "The question has another answer.",
                    {"answer": standing},
                )
            return self.emit(run_id, "answer", wanted, who), False

    # --- reading ---

    def find(self, run_id: str, event_id: str) -> Json:
        for event in self.logs.get(run_id, []):
            if event["id"] == event_id:
                return event
        raise Refused(404, "not_found", "There is nothing with that id.")

    def state_of(self, run_id: str, item_id: str) -> tuple[str, int, int]:
        """(state, attempt, version) of something addressed to the agent."""
        state, attempt, version = "accepted", 0, 1
        for event in self.logs[run_id]:
            if event["kind"] == "receipt" and item_id in event["body"]["ids"]:
                state = event["body"]["state"]
                attempt = event["body"].get("attempt") or attempt
            if event["kind"] == "message" and event["body"].get("edit_of") == item_id:
                version = event["body"]["version"]
        return state, attempt, version

    def questions(self, run_id: str) -> list[Json]:
        log = self.logs[run_id]
        answered = {e["body"]["question_id"] for e in log if e["kind"] == "answer"}
        return [e for e in log if e["kind"] == "question" and e["id"] not in answered]

    def snapshot(self, run_id: str) -> Json:
        with self.lock:
            run, log = self.runs[run_id], self.logs[run_id]
            items = []
            for event in log:
                own = (
                    event["kind"] == "message"
                    and event["sender"]["kind"] == "person"
                    and not event["body"].get("edit_of")
                )
                if own or event["kind"] == "order":
                    state, attempt, version = self.state_of(run_id, event["id"])
                    if state in {"accepted", "stored", "leased"}:
                        mode = event["body"].get("mode", "interrupt")
                        items.append(
                            {
                                "id": event["id"],
                                "seq": event["seq"],
                                "kind": event["kind"],
                                "mode": mode,
                                "state": state,
                                "attempt": attempt,
                                "version": version,
                            }
                        )
            steps = [e for e in log if e["kind"] == "step"]
            texts = [
                {"message_id": i, "text": t, "units": len(t.encode("utf-16-le")) // 2}
                for i, t in self.open_texts[run_id].items()
            ]
            return {
                "epoch": self.epoch,
                "head": len(log),
                "stored": len(log),
                "status": run["status"],
                "phase": run["phase"],
                "held": run["status"] == "paused",
                "heartbeat_at": None,
                "items": items,
                "questions": self.questions(run_id),
                "open_texts": texts,
                "step": steps[-1] if steps else None,
            }

    def page(
        self, run_id: str, after: int | None, before: int | None, limit: int, kinds: list[str]
    ) -> Json:
        with self.lock:
            log = self.logs[run_id]
            chosen = [e for e in log if not kinds or e["kind"] in kinds]
            if after is not None:
                chosen = [e for e in chosen if e["seq"] > after]
                events, more = chosen[:limit], len(chosen) > limit
            else:
                chosen = [e for e in chosen if before is None or e["seq"] < before]
                events, more = chosen[-limit:], len(chosen) > limit
            return {"events": events, "has_more": more, "head": len(log), "epoch": self.epoch}

    def broadcast(self, frame: Json) -> None:
        for listener in list(self.listeners):
            listener(frame)
