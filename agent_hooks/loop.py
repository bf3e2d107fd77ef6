"""The library for an agent's own loop: what people say between two steps, and what it says back.

    with Agent.connect() as agent:
        for task in plan:
            agent.checkpoint()                      # holds while paused, raises Stopped, Interrupted
            for mail in agent.drain():              # words, answers, check-ins since the last step
                agent.confirm([mail.id], text=mail.text)
            with agent.step("Edit") as step:
                step.summary = work(task)
        unread = agent.finish("All tests pass.")    # [] when it is over; else read these and go on

Everything goes through the run's sidecar, so nothing here waits on the network but `ask` and `finish`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Type, Union

from agent_hooks import local
from agent_hooks.errors import Interrupted, SidecarAway, SidecarRefused, Stopped
from agent_hooks.ids import new_key, new_message_id
from agent_hooks.state import StateDir

__all__ = ["Agent", "Answer", "Interrupted", "Mail", "Step", "Stopped", "Stream", "Waiting"]

TEXT_MAX = 32_768
"""Characters of one message (docs/wire.md); a longer text becomes several."""
POLL_S = 20.0
CLAIM_S = 60.0
Call = Callable[..., Dict[str, Any]]


@dataclass(frozen=True)
class Mail:
    """Something a person sent. `kind` is "message", "answer" or "order" (only `check_in` orders:
    pause, resume, interrupt and stop are `checkpoint`'s). `text` is what to act on."""

    id: str
    seq: int
    kind: str
    text: str
    author: str
    author_id: str
    mode: str
    attempt: int
    body: Mapping[str, Any] = field(default_factory=dict)
    """As on the wire: `reply_to`, `anchor` of a message; `question_id`, `value` of an answer;
    `action`, `every_steps` of an order."""
    envelope: str = ""
    """The same words marked with author, role and a fence: what belongs before a model."""

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Mail:
        """From the sidecar's item: `{"event", "attempt", "text", "envelope"}`."""
        event = item["event"]
        return cls(
            id=str(event["id"]),
            seq=int(event["seq"]),
            kind=str(event["kind"]),
            text=str(item["text"]),
            author=str(event["sender"]["name"]),
            author_id=str(event["sender"]["id"]),
            mode=str(event["body"].get("mode", "steer")),
            attempt=int(item["attempt"]),
            body=event["body"],
            envelope=str(item["envelope"]),
        )


@dataclass(frozen=True)
class Answer:
    """What a person answered: an option's `value`, or free `text`. `outcome` is "answered" or
    "cancelled" (then both are None)."""

    question_id: str
    outcome: str
    value: Optional[str]
    text: Optional[str]
    by: str


@dataclass(frozen=True)
class Waiting:
    """What is there for the agent, without taking it: cheap, for a look during a long step."""

    mail: int
    paused: bool
    stop: bool
    interrupt: bool
    resumes: int = 0
    """Orders to resume since the sidecar began: for an agent that paused because of words."""


class Stream:
    """A message that is being written; people see it grow. The whole is sent when the block ends,
    also when it ends with an exception. More than 32,768 characters go on in a next message."""

    def __init__(self, call: Call, reply_to: Optional[str]) -> None:
        self._call = call
        self._reply_to = reply_to
        self.id = new_message_id()
        self._text = ""

    def write(self, text: str) -> None:
        """Append to it."""
        while text:
            room = TEXT_MAX - len(self._text)
            piece, text = text[:room], text[room:]
            self._text += piece
            self._call("delta", message_id=self.id, text=self._text)
            if len(self._text) >= TEXT_MAX:
                self._complete()

    def _complete(self) -> None:
        if self._text.strip():
            body: Dict[str, Any] = {"text": self._text}
            if self._reply_to:
                body["reply_to"] = self._reply_to
            event = {"kind": "message", "body": body, "id": self.id, "key": self.id}
            self._call("events", events=[event])
        self.id = new_message_id()
        self._text = ""

    def __enter__(self) -> Stream:  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._complete()


class Step:
    """A step that is under way. Set `summary` or `ok` in the block; an exception makes it not ok."""

    def __init__(self, call: Call, name: str, summary: Optional[str]) -> None:
        self._call = call
        self.name = name
        self.summary = summary
        self.ok: Optional[bool] = None
        self.number = 0
        self._began = 0.0

    def __enter__(self) -> Step:  # noqa: PYI034 - as above
        self._began = time.monotonic()
        answer = self._call("step_started", name=self.name, summary=self.summary)
        self.number = int(answer["step"])
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        ok = (error is None) if self.ok is None else self.ok
        spent_ms = int((time.monotonic() - self._began) * 1000)
        self._call(
            "step_finished",
            step=self.number,
            name=self.name,
            ok=ok,
            duration_ms=spent_ms,
            summary=self.summary,
        )


Option = Union[str, Mapping[str, str]]


class Agent:
    """One run's side of the conversation. Not for several threads at once, except `waiting`."""

    def __init__(self, state: StateDir, *, watch: bool = False) -> None:
        self._state = state
        self.run_id = state.config().run_id
        # the wrapper outlives this process and knows how it ended
        wrapper = os.environ.get("OMAKASE_WRAPPER_PID")
        self.watched: Optional[int] = int(wrapper) if wrapper else os.getpid() if watch else None
        self._have: Dict[str, float] = {}
        """What was drained and not confirmed, and when (monotonic)."""

    @classmethod
    def connect(cls, environ: Optional[Mapping[str, str]] = None) -> Agent:
        """Join the run of the environment, and start its sidecar if none is there.

        Under `run -- COMMAND` everything is set; else OMAKASE_SERVER, OMAKASE_RUN_ID, OMAKASE_TOKEN.
        Raises Misused when they are missing, SidecarAway when no sidecar can be started.
        """
        agent = cls.join(environ, watch=True)
        agent.hello()
        return agent

    @classmethod
    def join(cls, environ: Optional[Mapping[str, str]] = None, *, watch: bool = False) -> Agent:
        """Use the run's sidecar without being its agent: to say or ask something from beside it.

        `watch`: the run is over when this process is not there any more.
        """
        state = StateDir.from_environ(environ)
        agent = cls(state, watch=watch)
        local.ensure_sidecar(state, watch_pid=agent.watched)
        return agent

    def hello(self) -> None:
        """Say that this process obeys orders by itself (`connect` does)."""
        self._call("hello", adapter="loop", pid=self.watched)

    def __enter__(self) -> Agent:  # noqa: PYI034 - as above
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what was drained and not confirmed, so that it is offered again."""
        try:
            local.call(self._state, "unclaim", 2.0)
        except (SidecarAway, SidecarRefused):
            return

    def drain(self, *, task_end: bool = False) -> List[Mail]:
        """What people sent since the last call, oldest first; never waits for the network.

        Empty while paused. `task_end` also gives what wants to be read after the current task
        (mode `queue`). What is not confirmed within 60 s is handed out again, `attempt` + 1.
        """
        point = "task_end" if task_end else "step"
        now = time.monotonic()
        have = [item_id for item_id, at in self._have.items() if now - at < CLAIM_S]
        mail = [
            Mail.from_item(item) for item in self._call("take", point=point, have=have)["items"]
        ]
        self._have.update({one.id: now for one in mail})
        return mail

    def confirm(self, ids: Iterable[str], *, text: str, step: Optional[int] = None) -> None:
        """Say that it is in the agent's context: `text` is exactly what was put there."""
        wanted = list(ids)
        self._call("confirm", ids=wanted, text=text, step=step)
        for item_id in wanted:
            self._have.pop(item_id, None)

    def waiting(self) -> Waiting:
        """What is there, without taking it."""
        answer = self._call("peek")
        return Waiting(
            mail=int(answer["mail"]),
            paused=bool(answer["paused"]),
            stop=bool(answer["stop"]),
            interrupt=bool(answer["interrupt"]),
            resumes=int(answer["resumes"]),
        )

    def checkpoint(self) -> None:
        """Obey orders: blocks while paused; raises Stopped, or Interrupted (once for each order or
        message that wants to be read now). Call it between two steps."""
        while True:
            answer = self._call("checkpoint", timeout_s=POLL_S + 10, wait_s=POLL_S)
            if answer["stop"]:
                raise Stopped(str(answer["by"]), str(answer["reason"]))
            if answer["interrupt"]:
                raise Interrupted(str(answer["by"]), str(answer["reason"]))
            if not answer["paused"]:
                return

    def wait(self, seconds: float) -> bool:
        """Wait, but no longer than until something is there for the agent: then True, at once.

        Raises as `checkpoint` does, and blocks while paused.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.checkpoint()
            left = deadline - time.monotonic()
            if left <= 0:
                return self.waiting().mail > 0
            wait_s = min(left, POLL_S)
            answer = self._call("wait_mail", timeout_s=wait_s + 10, wait_s=wait_s)
            if answer["mail"]:
                self.checkpoint()
                return True

    def say(self, text: str, *, reply_to: Optional[str] = None) -> None:
        """A message to the people; markdown. Durable on this machine when it returns."""
        for start in range(0, len(text), TEXT_MAX):
            body: Dict[str, Any] = {"text": text[start : start + TEXT_MAX]}
            if reply_to:
                body["reply_to"] = reply_to
            event = {"kind": "message", "body": body, "key": new_key()}
            self._call("events", events=[event])

    def stream(self, *, reply_to: Optional[str] = None) -> Stream:
        """A message people can watch being written: `with agent.stream() as out: out.write(…)`."""
        return Stream(self._call, reply_to)

    def ask(
        self,
        handle: str,
        text: str,
        *,
        options: Sequence[Option] = (),
        allow_text: bool = True,
        wait_s: Optional[float] = None,
    ) -> Optional[Answer]:
        """Ask people, and wait for the answer: for ever, or at most `wait_s` (None when still open).

        `options` are strings, or `{"value", "label"}`. The same `handle` finds the same question
        again, after a crash too, and its answer at once if there is one. Raises Stopped.
        """
        choices = [{"value": o, "label": o} if isinstance(o, str) else dict(o) for o in options]
        deadline = None if wait_s is None else time.monotonic() + wait_s
        while True:
            left = POLL_S if deadline is None else min(POLL_S, deadline - time.monotonic())
            answer = self._call(
                "ask",
                timeout_s=POLL_S + 30,
                handle=handle,
                text=text,
                options=choices,
                allow_text=allow_text,
                wait_s=max(0.0, left),
            )
            found = answer["answer"]
            if found:
                body = found["body"]
                return Answer(
                    question_id=str(body["question_id"]),
                    outcome=str(body.get("outcome", "answered")),
                    value=body.get("value"),
                    text=body.get("text"),
                    by=str(found["sender"]["name"]),
                )
            if answer["stop"]:
                self.checkpoint()
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def step(self, name: str, *, summary: Optional[str] = None) -> Step:
        """A step: `with agent.step("pytest") as step:` reports its start, end, time and outcome."""
        return Step(self._call, name, summary)

    def status(
        self, status: str, *, phase: Optional[str] = None, detail: Optional[str] = None
    ) -> None:
        """`working` with a phase (thinking, coding, reviewing, testing), or `waiting`."""
        body = {"status": status, "phase": phase, "detail": detail}
        kept = {name: value for name, value in body.items() if value is not None}
        self._call("events", events=[{"kind": "status", "body": kept, "key": new_key()}])

    def error(self, summary: str, *, detail: Optional[str] = None) -> None:
        """A failure, with a summary a person understands (2,000 characters; detail 16,384)."""
        body = {"summary": summary[:2_000]}
        if detail:
            body["detail"] = detail[-16_384:]
        self._call("events", events=[{"kind": "error", "body": body, "key": new_key()}])

    def finish(
        self,
        summary: Optional[str] = None,
        *,
        outcome: str = "completed",
        exit_code: Optional[int] = None,
        verdict: Optional[str] = None,
    ) -> List[Mail]:
        """End the run, but not past something unread: then the run goes on, and this returns it.

        Waits until all that was said has arrived at the server, however long that takes. `outcome`
        is completed, failed or stopped; only `completed` can be refused. After [] the run is over.
        An order that stands in the way is obeyed first: raises Stopped and Interrupted. `verdict` is a
        reviewer's: approved, or changes_requested, which sends the work back.
        """
        while True:
            answer = self._call(
                "finish",
                timeout_s=POLL_S + 30,
                outcome=outcome,
                summary=summary,
                exit_code=exit_code,
                verdict=verdict,
                wait_s=POLL_S,
            )
            if answer["done"]:
                return []
            if answer["items"]:
                mail = [Mail.from_item(item) for item in answer["items"]]
                self._have.update({one.id: time.monotonic() for one in mail})
                return mail
            if answer["orders"] and outcome == "completed":
                self.checkpoint()

    def _call(self, op: str, timeout_s: float = 10.0, **fields: Any) -> Dict[str, Any]:
        """Ask the sidecar; one that has died is started again, its state is on disk.

        Raises Ended when the run is over, SidecarRefused, SidecarAway.
        """
        for _ in range(3):
            try:
                return local.call(self._state, op, timeout_s, **fields)
            except SidecarAway:
                local.ensure_sidecar(self._state, watch_pid=self.watched)
        return local.call(self._state, op, timeout_s, **fields)
