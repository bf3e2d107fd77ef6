"""Tasks on the fake ECS: each starts, speaks the agent's real HTTP API, and ends in one of all the ways.

What becomes of a task is its fate, dealt from a deck so that every fate occurs. `said` is what this side
knows to be true, and the ledger holds the store against it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.calling import Answer, Caller, CloudCaller

FINISHES: Final = ("finish", "linger", "silent", "unseen")
DIES: Final[dict[str, dict[str, Any]]] = {
    "exit 0": {"stop_code": "EssentialContainerExited", "exit_code": 0},
    "exit 1": {"stop_code": "EssentialContainerExited", "exit_code": 1},
    "exit 137": {"stop_code": "EssentialContainerExited", "exit_code": 137, "detail": "OutOfMemoryError: killed"},
    "user": {"stop_code": "UserInitiated", "reason": "Task stopped by user", "exit_code": 143},
    "scheduler": {"stop_code": "ServiceSchedulerInitiated", "reason": "Scaling activity", "exit_code": 143},
    "spot": {"stop_code": "SpotInterruption", "reason": "Your Spot Task was interrupted.", "exit_code": 137},
    "spot, with a goodbye": {
        "stop_code": "SpotInterruption", "reason": "Your Spot Task was interrupted.", "exit_code": 143,
    },
    "termination": {"stop_code": "TerminationNotice", "reason": "The instance is shutting down"},
    "health": {"stop_code": "InfrastructureHealth", "reason": "The host is unhealthy"},
}  # fmt: skip
NEVER_RUNS: Final[dict[str, dict[str, Any]]] = {
    "no room": {
        "stop_code": "TaskFailedToStart",
        "reason": "Capacity is unavailable at this time. Please try again later or in a different zone",
    },
    "no image": {
        "stop_code": "TaskFailedToStart",
        "reason": "CannotPullContainerError: pull image manifest has been retried 5 time(s)",
    },
    "no log group": {
        "stop_code": "TaskFailedToStart",
        "reason": "ResourceInitializationError: failed to validate logger args",
    },
}
NO_SECRET: Final = {
    "stop_code": "TaskFailedToStart",
    "reason": "ResourceInitializationError: unable to pull secrets: ResourceNotFoundException",
}
FORGOTTEN: Final = "forgotten"
FATES: Final = (*FINISHES, *DIES, *NEVER_RUNS, FORGOTTEN)
LINGERS_S: Final = 300.0
"""A sweep takes long where eight processes share two cores, and ten times as long with others on them."""
ASKED: Final = ["Which name?", "May I delete the table?", "Which of the two?"]


@dataclass
class Said:
    """What the tasks of one run know: what they were given, what they said, how they ended."""

    role: str = ""
    feature_id: str = ""
    fates: list[str] = field(default_factory=list)
    confirmed: dict[str, str] = field(default_factory=dict)
    """Message id to the sha256 of the words, of what was answered as in context."""
    offered: set[str] = field(default_factory=set)
    """Ids whose confirmation was at least sent."""
    words: list[str] = field(default_factory=list)
    """Texts that got a 2xx, in order."""
    tried: set[str] = field(default_factory=set)
    """Outcomes of a finish that was sent."""
    ended: str | None = None
    """The outcome that got a 2xx."""
    verdict: str | None = None


class Deck:
    """Deals each card before any comes again."""

    def __init__(self, cards: list[str], luck: random.Random) -> None:
        self._cards, self._luck, self._left = cards, luck, deque[str]()

    def deal(self, *, but: tuple[str, ...] = ()) -> str:
        """The next card that is none of `but`."""
        while True:
            if not self._left:
                self._left.extend(self._luck.sample(self._cards, len(self._cards)))
            card = self._left.popleft()
            if card not in but:
                return card


class Tasks:
    """Everything that runs on the fake ECS."""

    def __init__(self, cloud: CloudCaller, ports: list[int], seed: int, stale_s: float) -> None:
        self.cloud, self.ports, self.stale_s = cloud, ports, stale_s
        self.luck = random.Random(seed)
        self.said: dict[str, Said] = {}
        self.surprises: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.alive = 0
        self.started = 0
        self._lock = threading.Lock()
        self._stops: dict[str, threading.Event] = {}
        self._sent_back: dict[str, int] = {}
        self._over = threading.Event()
        alone = [*["finish"] * 6, *FATES]
        self._alone = Deck(alone, self.luck)
        self._in_line = Deck([*["finish"] * 22, *FATES], self.luck)
        self.in_line: set[str] = set()
        """Features with a pipeline; those with a 1 in `sends_back` send it back once."""
        self.sends_back: dict[str, str] = {}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear nothing more."""
        self._over.set()
        self._thread.join(30)

    def of(self, run_id: str) -> Said:
        """What is known of a run."""
        with self._lock:
            return self.said.setdefault(run_id, Said())

    def _listen(self) -> None:
        after = 0
        while not self._over.is_set():
            for news in self.cloud.ask("news", after=after, wait_s=0.5):
                after += 1
                if news["what"] == "stop":
                    self.counts["SIGTERM by StopTask"] += 1
                    self._stops[news["arn"]].set()
                    continue
                self._stops[news["arn"]] = threading.Event()
                said = self.of(news["run_id"])
                said.role, said.feature_id = news["role"], news["feature_id"]
                deck = self._in_line if said.feature_id in self.in_line else self._alone
                again = len(said.fates) > 0
                fate = deck.deal(but=("no room",) if again else ())
                said.fates.append(fate)
                with self._lock:
                    self.alive += 1
                    self.started += 1
                    self.counts[f"fate: {fate}"] += 1
                luck = random.Random(self.luck.random())
                task = Task(self, news, said, fate, luck, self._stops[news["arn"]])
                threading.Thread(target=self._run, args=[task], daemon=True).start()

    def _run(self, task: Task) -> None:
        try:
            task.live()
        except Exception as error:  # noqa: BLE001 - told in the counts, and the task ends all the same
            self.surprises[f"task broke: {error!r}"[:300]] += 1
            self.cloud.ask("move", arn=task.arn, status="STOPPED", **DIES["exit 1"])
        finally:
            with self._lock:
                self.alive -= 1

    def verdict(self, said: Said) -> str | None:
        """A reviewer or tester of a feature that is to be sent back does so once."""
        with self._lock:
            wanted = self.sends_back.get(said.feature_id)
            if (
                wanted is not None
                and said.role == wanted
                and not self._sent_back.get(said.feature_id)
            ):
                self._sent_back[said.feature_id] = 1
                self.counts["sent back"] += 1
                return "changes_requested"
        return "approved" if said.role in {"reviewer", "tester"} else None


class Over(Exception):
    """The run has ended, or the task is to end."""


class Task:
    """One task's life, in a thread of its own."""

    def __init__(
        self, tasks: Tasks, news: dict[str, Any], said: Said, fate: str, luck: random.Random,
        stop: threading.Event,
    ) -> None:  # fmt: skip
        self.tasks, self.said, self.fate, self.luck, self.stop = tasks, said, fate, luck, stop
        self.arn, self.run_id = news["arn"], news["run_id"]
        self.holder = self.arn.rpartition("/")[2][:32]
        self.path = f"/api/agent-runs/{self.run_id}"
        self.web = Caller(tasks.ports, counts=tasks.counts)
        self.number = 0
        self.paused = False
        self.is_forgotten = False
        self.obeys = luck.random() < 0.8

    def live(self) -> None:
        """From its image to its end."""
        self._pause(0.1, 0.8)
        self._move("PENDING")
        self._pause(0.1, 0.8)
        if self.fate in NEVER_RUNS:
            self._move("STOPPED", **NEVER_RUNS[self.fate])
            return
        token = self.tasks.cloud.ask("token", run_id=self.run_id)
        if token is None:
            self.tasks.counts["started without its secret"] += 1
            self._move("STOPPED", **NO_SECRET)
            return
        self.web.headers["Authorization"] = f"Bearer {token}"
        self._move("RUNNING")
        end = {"stop_code": "EssentialContainerExited", "exit_code": 0}
        try:
            self._work()
        except Over:
            if self.stop.is_set():
                end = {"stop_code": "UserInitiated", "exit_code": 143}
                if self.luck.random() < 0.6:
                    with contextlib.suppress(Over):
                        self._goodbye()
        else:
            end = DIES.get(self.fate, end)
        finally:
            self.web.close()
        if self.fate == "linger" and not self.stop.is_set():
            # its container does not end by itself; bounded, so that the test ends
            if not self.stop.wait(LINGERS_S):
                self.tasks.surprises["a task that lingers was never stopped"] += 1
            end = {"stop_code": "UserInitiated", "exit_code": 137}
        if (
            not self.is_forgotten or self.stop.is_set()
        ):  # its run may have ended before it came to that
            self._move("STOPPED", **end)

    def _work(self) -> None:
        steps = self.luck.randint(2, 4)
        turning = self.luck.randint(1, steps - 1)
        self._beat()
        if self.luck.random() < 0.25:
            self._ask()
        for step in range(steps):
            if step == turning and self._turns():
                return
            self._read(wait_s=self.luck.choice([0, 1]))
            self._say()
            self._pause(0.1, 0.7)
        while self.paused:  # until somebody says resume, or stop
            self._read(wait_s=1)
        self._finish()

    def _turns(self) -> bool:
        """What its fate does to it in the middle of its work; True when that is its end."""
        if self.fate in DIES:
            if self.fate == "spot, with a goodbye":
                self._goodbye()
            elif self.fate == "spot":
                self._pause(0.1, 0.5)  # SIGTERM came, and nobody listened
            return True
        if self.fate == FORGOTTEN:
            self.tasks.cloud.ask("forget", arn=self.arn)
            self.is_forgotten = True
            return True
        if self.fate == "unseen":
            self.tasks.cloud.ask("forget", arn=self.arn)
        if self.fate == "silent":
            self._pause(self.tasks.stale_s + 5.5, self.tasks.stale_s + 7)
        return False

    def _beat(self) -> None:
        done = self._send("POST", "/heartbeat", {"holder": self.holder})
        if done.ok and done.json["status"] in {"completed", "failed", "stopped"}:
            raise Over
        self.paused = done.json["held"]

    def _read(self, *, wait_s: int = 0) -> None:
        self._beat()
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
        self._take(
            self._send("GET", f"/mailbox?holder={self.holder}", None, **headers).json["items"]
        )

    def _take(self, items: list[dict[str, Any]]) -> None:
        """Put what was leased before the model, say so, and obey."""
        events = [one["event"] for one in items]
        if not events:
            return
        if self.luck.random() < 0.08:
            return  # forgets it: the lease runs out and it comes again
        text = "\n".join(str(event["body"]) for event in events)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        ids = [event["id"] for event in events]
        self.said.offered.update(ids)
        body = {"ids": ids, "step": self.number, "text": text, "sha256": sha256}
        states = self._send("POST", "/mailbox/confirm", body).json["items"]
        for name, state in states.items():
            if state == "in_context":
                self.said.confirmed.setdefault(name, sha256)
        for event in events:
            if event["kind"] == "order":
                self._obey(event["body"]["action"])

    def _obey(self, action: str) -> None:
        self.tasks.counts[f"obeyed: {action}"] += 1
        if action in {"pause", "resume"}:
            self._report("status", {"status": "paused" if action == "pause" else "working"})
        elif action == "stop" and self.obeys:
            self._goodbye()
            raise Over

    def _say(self) -> None:
        text = f"{self.run_id} {len(self.said.words)} {self.holder}"
        self._report("message", {"text": text})
        self.said.words.append(text)

    def _ask(self) -> None:
        body = {"handle": f"q{self.number}", "text": self.luck.choice(ASKED)}
        self._send("POST", "/questions", body)

    def _report(self, kind: str, body: dict[str, Any]) -> None:
        self.number += 1
        one = {"key": f"{self.holder}-{self.number}", "kind": kind, "body": body}
        self._send("POST", "/events", {"events": [one]})

    def _goodbye(self) -> None:
        """The wrapper's last words: it was ended, by an order or by a signal."""
        self._end("stopped", summary="ended before it was done")

    def _finish(self) -> None:
        """Through the barrier, reading what is still there."""
        verdict = self.tasks.verdict(self.said)
        for _ in range(100):
            done = self._end("completed", verdict=verdict)
            if done.ok:
                return
            assert done.code == "mailbox_not_empty", done
            self.tasks.counts["finish refused: mail"] += 1
            self._take(done.json["current_state"]["items"])
        raise RuntimeError("never came through the barrier")

    def _end(self, outcome: str, **said: Any) -> Answer:
        body = {"holder": self.holder, "last_seq": 0, "outcome": outcome}
        body |= {name: word for name, word in said.items() if word is not None}
        self.said.tried.add(outcome)
        if said.get("verdict"):
            self.said.verdict = said["verdict"]
        done = self._send("POST", "/finish", body)
        if done.ok:
            self.said.ended = outcome
        return done

    def _send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        if self.stop.is_set() and not path.startswith(("/finish", "/mailbox/confirm")):
            raise Over
        done = self.web.send(method, self.path + path, body, **headers)
        if done.ok or done.code == "mailbox_not_empty":
            return done
        if done.code == "run_ended":
            raise Over
        self.tasks.surprises[
            f"agent: {method} {path.partition('?')[0]}: {done.status} {done.code}"
        ] += 1
        raise Over

    def _move(self, status: str, **end: Any) -> None:
        self.tasks.cloud.ask("move", arn=self.arn, status=status, **end)

    def _pause(self, least: float, most: float) -> None:
        """Time goes by; a SIGTERM is heard at the next call."""
        time.sleep(self.luck.uniform(least, most))
