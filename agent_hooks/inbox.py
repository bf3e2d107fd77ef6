"""What was leased from the mailbox: waiting, claimed by somebody on this machine, or done with.

inbox.jsonl, one line for each change: `{"put": {"event", "attempt", "holder", "expires"}}` and
`{"done": id, "step", "text"}`. An item may be given to the agent only while its lease surely stands:
after that another process may have it. Times are seconds of the wall clock, passed in.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterable, List, Mapping, Optional, Tuple

from agent_hooks.state import write_private

CLAIM_S = 60.0
DONE_KEPT = 2_000
_CONTROL = frozenset(("pause", "resume", "interrupt", "stop", "checkpoint"))


@dataclass
class Item:
    """One leased item."""

    event: Mapping[str, Any]
    attempt: int
    holder: str
    expires: float
    offers: int = 0
    """How often it was claimed here; with `attempt` it says how often the agent may have seen it."""

    @property
    def id(self) -> str:
        return str(self.event["id"])

    @property
    def seq(self) -> int:
        return int(self.event["seq"])

    @property
    def action(self) -> str:
        """Of an order that acts on the run itself; "" for everything that is to be read."""
        action = str(self.event["body"].get("action", "")) if self.event["kind"] == "order" else ""
        return action if action in _CONTROL else ""

    @property
    def mode(self) -> str:
        return str(self.event["body"].get("mode", "steer"))

    @property
    def question_id(self) -> str:
        return str(self.event["body"]["question_id"]) if self.event["kind"] == "answer" else ""


@dataclass(frozen=True)
class Done:
    """How an item came into the agent's context."""

    step: int
    text: str


class Inbox:
    """The items of one run. Safe for several threads; one process at a time."""

    def __init__(self, folder: Path, *, now: float) -> None:
        self._path = folder / "inbox.jsonl"
        self._lock = threading.RLock()
        self._items: Dict[str, Item] = {}
        self._claims: Dict[str, float] = {}
        """Until when somebody on this machine has it; also of what the server has yet to hand out."""
        self._done: "OrderedDict[str, Done]" = OrderedDict()
        self._load(now)
        self._file = self._compact()

    def put(
        self, items: Iterable[Mapping[str, Any]], *, holder: str, expires: float
    ) -> Tuple[List[Item], List[str]]:
        """Take in what was leased: what is new here, and the ids that were done with before."""
        fresh, again, lines = [], [], []
        with self._lock:
            for raw in items:
                item = Item(raw["event"], int(raw["attempt"]), holder, expires)
                if item.id in self._done:
                    again.append(item.id)
                    continue
                known = self._items.get(item.id)
                if known is None:
                    fresh.append(item)
                else:
                    item.offers = known.offers
                self._items[item.id] = item
                lines.append({"put": _stored(item)})
            self._write(lines)
        return sorted(fresh, key=lambda item: item.seq), again

    def waiting(self, *, now: float, task_end: bool = True) -> List[Item]:
        """What could be claimed now, oldest first; without the orders that act on the run."""
        with self._lock:
            found = [
                item
                for item in self._items.values()
                if not item.action
                and item.expires > now >= self._claims.get(item.id, 0.0)
                and (task_end or item.mode != "queue")
            ]
        return sorted(found, key=lambda item: item.seq)

    def claim(self, ids: Iterable[str], *, now: float, claim_s: float = CLAIM_S) -> List[Item]:
        """Claim those of the ids that nobody has: atomic among everybody on this machine."""
        claimed = []
        with self._lock:
            for item_id in ids:
                item = self._items.get(item_id)
                if item is not None and item.expires > now >= self._claims.get(item_id, 0.0):
                    self._claims[item_id] = now + claim_s
                    item.offers += 1
                    claimed.append(item)
        return claimed

    def unclaim(self, ids: Optional[Iterable[str]] = None) -> None:
        """Offer them again: these, or all that are claimed."""
        with self._lock:
            for item_id in list(self._claims if ids is None else ids):
                self._claims.pop(item_id, None)

    def reserve(self, ids: Iterable[str], *, until: float) -> None:
        """Somebody has them from before this process began: when they come again, they are claimed."""
        with self._lock:
            for item_id in ids:
                self._claims[item_id] = until

    def finish(self, ids: Iterable[str], *, step: int, text: str) -> List[str]:
        """They are in the agent's context: never to be given to it again. Those that were not yet."""
        with self._lock:
            fresh = [item_id for item_id in ids if item_id not in self._done]
            for item_id in fresh:
                self._done[item_id] = Done(step, text)
                self._items.pop(item_id, None)
                self._claims.pop(item_id, None)
            self._write([{"done": item_id, "step": step, "text": text} for item_id in fresh])
            while len(self._done) > DONE_KEPT:
                self._done.popitem(last=False)
        return fresh

    def done(self, item_id: str) -> Optional[Done]:
        return self._done.get(item_id)

    def orders(self) -> List[Item]:
        """Orders that act on the run and are not confirmed, oldest first."""
        with self._lock:
            found = [item for item in self._items.values() if item.action]
        return sorted(found, key=lambda item: item.seq)

    def answer_to(self, question_id: str) -> Optional[Item]:
        with self._lock:
            for item in self._items.values():
                if item.question_id == question_id:
                    return item
        return None

    def renew(self, *, holder: str, now: float, expires: float) -> List[str]:
        """A heartbeat went through: leases of this holder stand until `expires`. Returns those that
        may have run out before it, which are forgotten here: they are to be given back."""
        doubtful = []
        with self._lock:
            for item in list(self._items.values()):
                if item.holder != holder:
                    continue
                if item.expires > now:
                    item.expires = expires
                else:
                    doubtful.append(item.id)
                    del self._items[item.id]
        return doubtful

    def drop(self, ids: Iterable[str]) -> None:
        """Forget them: they were given back, or the server says they ended otherwise."""
        with self._lock:
            for item_id in ids:
                self._items.pop(item_id, None)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    # --- the file ---------------------------------------------------------------------------------

    def _load(self, now: float) -> None:
        try:
            lines = self._path.read_bytes().split(b"\n")
        except OSError:
            return
        for line in lines:
            try:
                change = json.loads(line)
            except ValueError:
                continue  # the torn end of a killed process
            if "put" in change:
                stored = change["put"]
                item = Item(
                    stored["event"], stored["attempt"], stored["holder"], float(stored["expires"])
                )
                if item.expires > now:
                    self._items[item.id] = item
            elif "done" in change:
                self._done[change["done"]] = Done(int(change["step"]), str(change["text"]))
                self._items.pop(change["done"], None)

    def _compact(self) -> BinaryIO:
        lines: List[Dict[str, Any]] = [
            {"done": item_id, "step": done.step, "text": done.text}
            for item_id, done in list(self._done.items())[-DONE_KEPT:]
        ]
        lines += [{"put": _stored(item)} for item in self._items.values()]
        write_private(self._path, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        return open(str(self._path), "ab")

    def _write(self, lines: List[Dict[str, Any]]) -> None:
        if lines:
            self._file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            self._file.flush()
            os.fsync(self._file.fileno())


def _stored(item: Item) -> Dict[str, Any]:
    return {
        "event": item.event,
        "attempt": item.attempt,
        "holder": item.holder,
        "expires": item.expires,
    }
