"""People of the soak: each takes care of some runs and pipelines, says things, changes their mind, gives
orders, answers questions, and repeats what got no answer. `Sent` is what they got a 2xx for.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.calling import Answer, Caller
from tests.chaos.tasks import Tasks

ENDED: Final = frozenset({"completed", "failed", "stopped"})
AGENTS: Final = ("miso", "nori", "koji", "toro")
VISITS: Final = 14
"""After which a person has no more to say to a run and only looks at it."""
LOOK_S: Final = 1.0
"""Between two looks at how a run or a pipeline stands."""


@dataclass
class Words:
    """A message that was accepted. `texts`: what it may say in the end, when an edit got no clear answer."""

    id: str
    seq: int
    texts: set[str]
    cancelled: bool | None = False
    """None: a cancellation got no clear answer."""


@dataclass
class Sent:
    """What was accepted for one run, in order."""

    words: list[Words] = field(default_factory=list)
    orders: list[tuple[str, str, int, float]] = field(default_factory=list)
    """id, action, seq, when the answer was there."""
    answers: list[tuple[str, int]] = field(default_factory=list)

    def stopped_at(self) -> float | None:
        """When an order to stop was accepted."""
        return next((at for _, action, _, at in self.orders if action == "stop"), None)


@dataclass
class Charge:
    """A run after another of one agent on a feature, or a feature's pipeline."""

    feature_id: str
    agent_id: str | None
    left: int
    """Runs to come; of a pipeline, how often a person helps it on."""
    run_id: str | None = None
    visits: int = 0
    paused: bool = False
    started: bool = False
    over: bool = False
    looked_at: float = 0.0


class Person(threading.Thread):
    """Goes round among their charges until all are over."""

    def __init__(
        self, name: str, ports: list[int], tasks: Tasks, charges: list[Charge], *,
        seed: int, at_once: int, pace_s: float,
    ) -> None:  # fmt: skip
        super().__init__(name=name, daemon=True)
        self.tasks, self.charges, self.at_once, self.pace_s = tasks, charges, at_once, pace_s
        self.luck = random.Random(f"{seed}{name}")
        self.web = Caller(ports, counts=Counter())
        self.sent: dict[str, Sent] = {}
        self.surprises: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.halt = threading.Event()
        self._keys = 0

    def run(self) -> None:
        try:
            self.web.sign_in(self.name)
            while not self.halt.is_set() and any(not one.over for one in self.charges):
                for charge in [one for one in self.charges if not one.over][: self.at_once]:
                    self._visit(charge)
                    time.sleep(self.luck.uniform(0, self.pace_s))
        except Exception as error:  # noqa: BLE001 - told in the counts
            self.surprises[f"{self.name} broke: {error!r}"[:300]] += 1
        finally:
            self.web.close()

    def _visit(self, charge: Charge) -> None:
        now = time.monotonic()
        if now - charge.looked_at > LOOK_S:
            charge.looked_at = now
            if charge.agent_id is None:
                self._see_pipeline(charge)
            else:
                self._see_run(charge)
        charge.visits += 1
        if charge.run_id is not None and not charge.over:
            self._talk(charge, charge.run_id)

    # --- what they take care of -------------------------------------------------------------------

    def _see_run(self, charge: Charge) -> None:
        if charge.run_id is not None:
            done = self._send("GET", f"/api/agent-runs/{charge.run_id}")
            if done.ok and done.json["snapshot"]["status"] not in ENDED:
                return
            charge.run_id = None
        if charge.left == 0:
            charge.over = True
            return
        charge.left -= 1
        body = {"feature_id": charge.feature_id, "agent_id": charge.agent_id}
        made = self._send("POST", "/api/agent-runs", body, Idempotency_Key=self._key())
        if made.ok:
            charge.run_id, charge.paused, charge.visits = made.json["run"]["id"], False, 0
            self.sent.setdefault(made.json["run"]["id"], Sent())

    def _see_pipeline(self, charge: Charge) -> None:
        path = f"/api/features/{charge.feature_id}/pipeline"
        if not charge.started:
            charge.started = self._send("POST", path, {}, Idempotency_Key=self._key()).ok
            return
        shown = self._send("GET", path).json
        runs = [turn["run_id"] for turn in shown["turns"] if turn["result"] in {"open", "asking"}]
        if runs[-1:] != [charge.run_id]:
            charge.run_id, charge.paused, charge.visits = (runs or [None])[-1], False, 0
        if shown["state"] == "done":
            charge.over = True
        last = shown["turns"][-1] if shown["turns"] else None
        stuck = last is not None and last["result"] in {"failed", "stopped", "sent_back"}
        if stuck and (
            shown["state"] == "failing"
            or (shown["state"], last["result"]) == ("waiting", "stopped")
        ):
            charge.over = charge.left == 0
            if charge.left > 0:
                charge.left -= 1
                self._help_on(path, last["role"])

    def _help_on(self, path: str, role: str) -> None:
        if self.luck.random() < 0.7:
            body = {"role": role, "note": "Once more, please."}
            self._send("POST", f"{path}/restart", body, Idempotency_Key=self._key())
            self.counts["roles started again"] += 1
        else:
            self._send("POST", f"{path}/skip", {"role": role})
            self.counts["roles skipped"] += 1

    # --- what they say ----------------------------------------------------------------------------

    def _talk(self, charge: Charge, run_id: str) -> None:
        sent = self.sent.setdefault(run_id, Sent())
        dice = self.luck.random()
        if charge.paused:  # nobody leaves an agent standing for ever
            self._order(charge, run_id, sent, "resume")
        elif charge.visits > VISITS:
            return
        elif dice < 0.45:
            self._post(run_id, sent)
        elif dice < 0.55:
            self._edit(run_id, sent)
        elif dice < 0.62:
            self._cancel(run_id, sent)
        elif dice < 0.80:
            self._answer(run_id, sent)
        elif dice < 0.83:
            self._order(charge, run_id, sent, "pause")
        elif dice < 0.845:
            self._order(charge, run_id, sent, "interrupt")
        elif dice < 0.86:
            self._order(charge, run_id, sent, "check_in")
        elif dice < 0.875:
            self._order(charge, run_id, sent, "stop")

    def _post(self, run_id: str, sent: Sent) -> None:
        text = f"{self.name} {self._key()} to {run_id}"
        mode = self.luck.choice(["steer", "steer", "queue", "interrupt"])
        key = self._key()
        path, body = f"/api/agent-runs/{run_id}/messages", {"text": text, "mode": mode}
        done = self._send("POST", path, body, Idempotency_Key=key)
        if not done.ok:
            return
        event = done.json["event"]
        sent.words.append(Words(event["id"], event["seq"], {text}))
        if self.luck.random() < 0.1:  # an answer that got lost on the way to them: the same again
            again = self._send("POST", path, body, Idempotency_Key=key)
            if again.json["event"]["id"] != event["id"]:
                self.surprises["a repeated message was taken for another"] += 1

    def _edit(self, run_id: str, sent: Sent) -> None:
        if not sent.words or sent.words[-1].cancelled is not False:
            return
        words, text = sent.words[-1], f"{self.name} {self._key()} in other words"
        path = f"/api/agent-runs/{run_id}/messages/{words.id}"
        version = self._send("GET", path).headers.get("etag", '"v1"')
        done = self._send("PATCH", path, {"text": text}, If_Match=version)
        if done.ok:
            words.texts = {text}
            self.counts["edited"] += 1
        elif done.tries > 1:
            words.texts.add(text)

    def _cancel(self, run_id: str, sent: Sent) -> None:
        if not sent.words:
            return
        words = sent.words[-1]
        done = self._send("DELETE", f"/api/agent-runs/{run_id}/messages/{words.id}")
        if done.ok:
            words.cancelled = True
        elif done.tries > 1 and not words.cancelled:
            words.cancelled = None

    def _answer(self, run_id: str, sent: Sent) -> None:
        path = f"/api/agent-runs/{run_id}/questions"
        found = self._send("GET", path)
        for question in found.json.get("questions", [])[:1] if found.ok else []:
            done = self._send("POST", f"{path}/{question['id']}/answer", {"text": "the first one"})
            if done.ok:
                event = done.json["event"]
                sent.answers.append((event["id"], event["seq"]))

    def _order(self, charge: Charge, run_id: str, sent: Sent, action: str) -> None:
        body: dict[str, Any] = {"action": action}
        if action == "check_in":
            body["every_steps"] = self.luck.randint(1, 5)
        path = f"/api/agent-runs/{run_id}/orders"
        done = self._send("POST", path, body, Idempotency_Key=self._key())
        if done.ok:
            event = done.json["event"]
            sent.orders.append((event["id"], action, event["seq"], time.time()))
            charge.paused = action == "pause"
            self.counts[f"ordered: {action}"] += 1

    def _send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        done = self.web.send(method, path, body, **headers)
        fine = done.ok or done.status in {409, 412}
        if not fine:
            self.surprises[
                f"{method} {path.rpartition('/')[2][:40]}: {done.status} {done.code}"
            ] += 1
        return done

    def _key(self) -> str:
        self._keys += 1
        return f"{self.name}-{self._keys}"
