"""What the sidecar knows of its run: inbox, spool, orders, steps; every change wakes who waits."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

from agent_hooks import envelope
from agent_hooks.hold import HELD, REMEMBERED
from agent_hooks.ids import new_key
from agent_hooks.inbox import Inbox, Item
from agent_hooks.spool import Record, Spool, SpoolFull
from agent_hooks.state import StateDir, read_json, write_private

TEXT_SENT_MAX = 262_144
"""Characters of a confirmation's text that the server takes."""


@dataclass
class Memory:
    """What outlives the sidecar's process, beside inbox and spool."""

    step: int = 0
    paused: bool = False
    stop: Optional[Dict[str, str]] = None
    session_id: str = ""
    transcript: str = ""
    check_every: int = 0
    said: int = 0
    """Bytes of Claude's transcript whose words were already sent as messages."""
    ended: str = ""
    last_seq: int = 0
    generation: int = 0
    """Which of the run's processes this is (hold.py)."""


class Core:
    """One run's state on this machine. All methods are safe for several threads."""

    def __init__(self, state: StateDir) -> None:
        self.state = state
        self.config = state.config()
        self.instance = secrets.token_hex(6)
        self._holder_number = 0
        self.inbox = Inbox(state.path, now=time.time())
        self.spool = Spool(state.path)
        known = read_json(state / "memory.json")
        fields = {k: v for k, v in known.items() if k in Memory.__dataclass_fields__}
        self.memory = Memory(**fields)
        self.changed = threading.Condition(threading.RLock())
        self.ended = threading.Event()
        self.closing = threading.Event()
        if self.memory.ended:
            self.ended.set()
        self.server_status = ""
        self.reachable: Optional[bool] = None
        self.lease_ms = 30_000
        self.obeying: set[str] = set()
        """Adapters that are there and obey pause and interrupt by themselves."""
        self.signalled: set[str] = set()
        """Interrupting messages for which the agent was already interrupted."""
        self.asking: set[str] = set()
        """Questions somebody waits for: their answers are not for anybody else."""
        self.reported_pause = False
        self.resumes = 0
        """Orders to resume so far: an agent may also have been told to pause in words."""
        self.last_call = time.monotonic()
        self.hooks_answered = 0
        self._last_order_at = 0.0
        self.moves = 0
        """Counts what the agent got or did: a checkpoint that was made before does not know of it."""
        self.holding = False
        """It is being put on hold: nothing is given to it at this moment."""
        self.wrapped = False
        """A wrapper is there, which alone can put it on hold."""

    # --- who holds --------------------------------------------------------------------------------

    @property
    def holder(self) -> str:
        """The name under which this process leases."""
        return f"{self.instance}.{self._holder_number}"

    def new_holder(self) -> None:
        """After an answer was lost, something may be leased to us that we do not know: under a new
        name we take all of it over, and what we have is recognised by its id."""
        self._holder_number += 1

    # --- what came --------------------------------------------------------------------------------

    def take_in(self, answer: Mapping[str, Any], holder: str) -> None:
        """An answer of the mailbox, or `current_state` of a refused finish."""
        now = time.time()
        self.lease_ms = int(answer.get("lease_ms") or self.lease_ms)
        expires = now + self.lease_ms / 1000 * 0.95
        items = answer.get("items") or []
        with self.changed:
            fresh, again = self.inbox.put(items, holder=holder, expires=expires)
            for item in fresh:
                self._order_came(item)
            for item_id in again:
                self._confirm_again(item_id)
            seqs = [int(raw["event"]["seq"]) for raw in items]
            if seqs and max(seqs) > self.memory.last_seq:
                self.memory.last_seq = max(seqs)
            if fresh:
                self.remember()
                self.changed.notify_all()

    def heard(self, answer: Mapping[str, Any], asked_at: float) -> None:
        """Status and hold as the server says; `asked_at` (monotonic) is when it was asked."""
        with self.changed:
            self.server_status = str(answer.get("status") or self.server_status)
            if self.server_status == HELD:
                # it went through, and the answer to it was lost
                self.end(HELD)
                return
            held = answer.get("held")
            # what was asked before the last order came knows nothing of that order
            if isinstance(held, bool) and asked_at > self._last_order_at:
                self._set_paused(paused=held)
            if answer.get("head"):
                self.memory.last_seq = max(self.memory.last_seq, int(answer["head"]))

    def _order_came(self, item: Item) -> None:
        if not item.action:
            return
        self._last_order_at = time.monotonic()
        body = item.event["body"]
        if item.action == "checkpoint":
            if not self.wrapped:
                self.confirm(
                    [item.id], "Nobody here can put it on hold: it was not started by `run`."
                )
            return
        self.moves += 1  # not `move`: whoever brings it must not wait
        if item.action == "stop":
            by = str(item.event["sender"]["name"])
            self.memory.stop = {"by": by, "reason": str(body.get("reason") or ""), "id": item.id}
        elif item.action in ("pause", "resume"):
            self.resumes += item.action == "resume"
            self._set_paused(paused=item.action == "pause")

    def _set_paused(self, *, paused: bool) -> None:
        if self.memory.paused != paused:
            self.memory.paused = paused
            self.remember()
            self.changed.notify_all()
        if not paused:
            ids = [i.id for i in self.inbox.orders() if i.action in ("pause", "resume")]
            if ids:
                self.confirm(ids, "The agent goes on.")

    def _confirm_again(self, item_id: str) -> None:
        done = self.inbox.done(item_id)
        if done is not None and not self.spool.find(
            lambda record: record["op"] == "confirm" and item_id in record["ids"]
        ):
            self._send_confirm([item_id], done.step, done.text)

    # --- going on hold ----------------------------------------------------------------------------

    def move(self) -> None:
        """The agent gets or does something. While its checkpoint is being handed over, that waits: what it
        did in between would be in no checkpoint."""
        with self.changed:
            self.changed.wait_for(lambda: not self.holding or self.over())
            self.moves += 1

    # --- what the agent has -----------------------------------------------------------------------

    def confirm(self, ids: Iterable[str], text: str, step: Optional[int] = None) -> None:
        """These are in the agent's context, as this text. Durable when it returns."""
        self.move()
        at = self.memory.step if step is None else step
        # first "done": after a crash between the two, what comes again is confirmed again
        fresh = self.inbox.finish(list(ids), step=at, text=text)
        if fresh:
            self._send_confirm(fresh, at, text)
        with self.changed:
            self.changed.notify_all()

    def _send_confirm(self, ids: List[str], step: int, text: str) -> None:
        sent = text[:TEXT_SENT_MAX] or "(nothing)"
        sha256 = hashlib.sha256(sent.encode("utf-8", "replace")).hexdigest()
        record = {"op": "confirm", "ids": ids, "step": step, "text": sent, "sha256": sha256}
        self.append([record])

    def append(self, records: List[Record], *, durable: bool = True) -> None:
        """Put into the spool; when it is full of what may not be dropped, say so in the log."""
        try:
            self.spool.append(records, durable=durable)
        except SpoolFull as error:
            self.complain("spool_full", str(error))
            raise

    def event(self, kind: str, body: Mapping[str, Any], *, key: Optional[str] = None) -> None:
        """An event of our own; on its way to the disk, not waited for."""
        event = {"key": key or new_key(), "kind": kind, "body": body}
        self.append([{"op": "event", "event": event}], durable=False)

    # --- what is there for the agent --------------------------------------------------------------

    def readable(self, *, task_end: bool) -> List[Item]:
        """What the agent may be given now: nothing while paused, no answer somebody waits for."""
        if self.memory.paused or self.holding:
            return []
        found = self.inbox.waiting(now=time.time(), task_end=task_end)
        return [
            item for item in found if item.question_id not in self.asking or not item.question_id
        ]

    def take(self, *, task_end: bool) -> List[Item]:
        """Claim it for one reader."""
        with self.changed:
            ids = [item.id for item in self.readable(task_end=task_end)]
            self.moves += bool(ids)
            return self.inbox.claim(ids, now=time.time())

    def as_mail(self, item: Item) -> Dict[str, Any]:
        """An item as the library gets it."""
        return {
            "event": item.event,
            "attempt": item.attempt + max(0, item.offers - 1),
            "text": envelope.visible(envelope.words(item.event)),
            "envelope": envelope.around([envelope.one(item.event, self.config.fence)]),
        }

    def interrupts(self) -> List[Item]:
        """What wants the current step cut: orders, and messages of that mode, each once."""
        orders = [item for item in self.inbox.orders() if item.action == "interrupt"]
        messages = [
            item
            for item in self.readable(task_end=True)
            if item.mode == "interrupt" and item.id not in self.signalled
        ]
        return orders + messages

    def stop_ids(self) -> List[str]:
        return [item.id for item in self.inbox.orders() if item.action == "stop"]

    # --- steps ------------------------------------------------------------------------------------

    def step_started(self, name: str, summary: Optional[str]) -> int:
        self.move()
        with self.changed:
            self.memory.step += 1
            step = self.memory.step
            self.remember()
        body: Dict[str, Any] = {"step": step, "name": _name(name), "state": "started"}
        if summary:
            body["summary"] = summary[:4_000]
        self.event("step", body)
        return step

    def step_finished(
        self, step: int, name: str, *, ok: bool, duration_ms: Optional[int], summary: Optional[str]
    ) -> None:
        body: Dict[str, Any] = {"step": step, "name": _name(name), "state": "finished", "ok": ok}
        if duration_ms is not None:
            body["duration_ms"] = max(0, duration_ms)
        if summary:
            body["summary"] = summary[:4_000]
        self.event("step", body)

    # --- the process ------------------------------------------------------------------------------

    def wait_until(self, reached: Callable[[], Any], wait_s: float) -> bool:
        """Wait for a change that makes it true; at once when the run or this process ends."""
        with self.changed:
            self.changed.wait_for(lambda: self.over() or reached(), timeout=max(0.0, wait_s))
            return bool(reached())

    def over(self) -> bool:
        return self.ended.is_set() or self.closing.is_set()

    def end(self, status: str) -> None:
        """The run is over on the server's side."""
        with self.changed:
            self.memory.ended = status or "ended"
            self.remember()
            self.ended.set()
            self.changed.notify_all()

    def kept(self, text: str) -> Dict[str, Any]:
        """A checkpoint: the hook's words, and what this process knows."""
        return {"text": text, **{name: getattr(self.memory, name) for name in REMEMBERED}}

    def remember(self) -> None:
        write_private(self.state / "memory.json", json.dumps(vars(self.memory)).encode())

    def complain(self, event: str, detail: str) -> None:
        """A line in sidecar.log: never a body, never a token."""
        line = {"at": round(time.time(), 3), "event": event, "detail": detail[:500]}
        print(json.dumps(line), file=sys.stderr, flush=True)


def _name(name: str) -> str:
    return envelope.visible(name).strip()[:200] or "step"
