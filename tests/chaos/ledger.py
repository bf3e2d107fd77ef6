"""Holding the store, Redis and the fake ECS against what the two sides know to be true.

Nothing here asks our code what should be: receipts are folded anew, and what status a run must have is
told by a table of how its task ended, what its agent said and what people ordered.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from chat.bootstrap import Chat
from tests.chaos.people import Sent
from tests.chaos.tasks import Said

ENDED: Final = frozenset({"completed", "failed", "stopped"})
ENDS: Final = frozenset({"in_context", "cancelled", "undelivered", "moved"})
BY_SOMEBODY: Final = frozenset({"UserInitiated", "ServiceSchedulerInitiated"})
LINE: Final = ("architect", "coder", "reviewer", "tester")
OURS: Final = "Omakase: "
Json = dict[str, Any]


@dataclass
class Item:
    """Something addressed to an agent, as the stored events tell it."""

    id: str
    seq: int
    kind: str
    text: str
    sender: str
    state: str = "accepted"
    proof: str | None = None
    moved_to: Json | None = None
    moved_from: Json | None = None
    ends: int = 0


@dataclass
class Book:
    """One run's stored log, folded."""

    run: Any
    events: list[Json]
    items: dict[str, Item] = field(default_factory=dict)
    status: str = "queued"
    verdict: str | None = None
    ends: int = 0
    open_questions: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)

    def fold(self) -> None:
        for event in self.events:
            getattr(self, f"_{event['kind']}", lambda _: None)(event)

    def _item(self, event: Json, text: str) -> None:
        self.items[event["id"]] = Item(
            event["id"], event["seq"], event["kind"], text, event["sender"]["kind"],
            moved_from=event["body"].get("moved_from"),
        )  # fmt: skip

    def _message(self, event: Json) -> None:
        if event["sender"]["kind"] == "agent":
            self.said.append(event["body"]["text"])
            return
        edited = self.items.get(event["body"].get("edit_of") or "")
        if edited is not None:
            edited.text, edited.state = event["body"]["text"], "accepted"
        else:
            self._item(event, event["body"]["text"])

    def _order(self, event: Json) -> None:
        self._item(event, event["body"]["action"])

    def _answer(self, event: Json) -> None:
        self.open_questions.discard(event["body"]["question_id"])
        if event["body"].get("outcome", "answered") == "answered":
            self._item(event, event["body"].get("text") or "")

    def _question(self, event: Json) -> None:
        self.open_questions.add(event["id"])

    def _status(self, event: Json) -> None:
        self.status = event["body"]["status"]
        if self.status in ENDED:
            self.ends += 1
            self.verdict = event["body"].get("verdict")

    def _receipt(self, event: Json) -> None:
        body = event["body"]
        for item_id in body["ids"]:
            item = self.items[item_id]
            item.state = body["state"]
            item.ends += item.state in ENDS and item.state != "moved"
            if item.state == "in_context":
                item.proof = body["sha256"]
            if item.state == "moved":
                item.moved_to = body["moved_to"]


@dataclass
class Ledger:
    """Everything that is known; `judge` gives the counts, with every fault under `wrong`."""

    chat: Chat
    truth: Json
    sent: Mapping[str, Sent]
    said: Mapping[str, Said]
    counts: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    books: dict[str, Book] = field(default_factory=dict)

    def judge(self, views: Iterable[Json]) -> None:
        """Look at every run, at every pipeline (`views`), and at what AWS still has."""
        for run in self._runs():
            book = Book(run, self._stored(run.id))
            book.fold()
            self.books[run.id] = book
        copies = self._copies()
        for run_id, book in self.books.items():
            self._log(book)
            self._balance(book, copies)
            self._people(book, self.sent.get(run_id, Sent()))
            self._agent(book, self.said.get(run_id, Said()))
            self._redis(book)
            self._status(book)
        self._left_behind()
        self._cloud()
        for view in views:
            self._pipeline(view)

    def _fault(self, name: str, run_id: str, what: object = "") -> None:
        self.wrong[name] += 1
        self.examples.setdefault(name, f"{run_id} {what}"[:400])

    def _hold(self, holds: bool, name: str, run_id: str, what: object = "") -> None:
        if not holds:
            self._fault(name, run_id, what)

    # --- reading ----------------------------------------------------------------------------------

    def _runs(self) -> list[Any]:
        store = self.chat.store
        found = [
            run
            for project in store.projects()
            for run in store.runs(project_id=project.id, limit=10_000)
        ]
        self.counts["runs"] = len(found)
        return found

    def _stored(self, run_id: str) -> list[Json]:
        events: list[Json] = []
        after = 0
        while True:
            page = self.chat.store.events(run_id, after=after, limit=1_000)
            events += [json.loads(record.data) for record in page.records]
            if not page.has_more:
                return events
            after = page.records[-1].seq

    def _copies(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """(run, id) of an original to the (run, id) of each of its copies."""
        found = defaultdict(list)
        for run_id, book in self.books.items():
            for item in book.items.values():
                if item.moved_from is not None:
                    found[item.moved_from["run_id"], item.moved_from["id"]].append(
                        (run_id, item.id)
                    )
        return found

    # --- one run ----------------------------------------------------------------------------------

    def _log(self, book: Book) -> None:
        seqs = [event["seq"] for event in book.events]
        self.counts["events"] += len(seqs)
        self._hold(seqs == list(range(1, len(seqs) + 1)), "holes", book.run.id)
        ids = [event["id"] for event in book.events]
        self._hold(len(set(ids)) == len(ids), "ids twice", book.run.id)

    def _balance(self, book: Book, copies: Mapping[tuple[str, str], list[tuple[str, str]]]) -> None:
        run_id, by_state = book.run.id, Counter(item.state for item in book.items.values())
        self.counts["accepted"] += len(book.items)
        for state, count in by_state.items():
            self.counts[{"stored": "queued"}.get(state, state)] += count
        ended = sum(by_state[state] for state in ENDS)
        self._hold(len(book.items) == ended, "does not balance", run_id, dict(by_state))
        for item in book.items.values():
            self._hold(item.ends == 1, "ended not once", run_id, item)
            found = copies.get((run_id, item.id), [])
            if item.state != "moved":
                # a standing order that was read moves as well: it stands on
                allowed = 1 if (item.kind, item.state) == ("order", "in_context") else 0
                self._hold(len(found) <= allowed, "copied and not moved", run_id, item)
                continue
            self._hold(len(found) == 1, "moved to not one run", run_id, (item, found))
            target = (item.moved_to or {}).get("run_id"), (item.moved_to or {}).get("id")
            self._hold(found[:1] == [target], "moved elsewhere", run_id, (item, found))
            self._follow(run_id, item, copies)

    def _follow(
        self, run_id: str, item: Item, copies: Mapping[tuple[str, str], list[tuple[str, str]]]
    ) -> None:
        if item.moved_from is not None:
            return  # counted from where it began
        length, place = 0, (run_id, item.id)
        while len(found := copies.get(place, [])) == 1 and length < 50:
            length, place = length + 1, found[0]
        self.counts["longest way"] = max(self.counts["longest way"], length)
        copy = self.books[place[0]].items[place[1]]
        self.counts[f"moved and then {copy.state}"] += 1
        self._hold(copy.state in ENDS and copy.state != "moved", "lost on its way", run_id, copy)
        # an answer goes on as a message that quotes its question
        said = copy.text.rpartition("\n\n")[2] if item.kind == "answer" else copy.text
        self._hold(said == item.text, "changed on its way", run_id, (item, copy))

    def _people(self, book: Book, sent: Sent) -> None:
        run_id, last = book.run.id, 0
        for words in sent.words:
            self.counts["messages of people, 2xx"] += 1
            item = book.items.get(words.id)
            if item is None:
                self._fault("lost", run_id, words)
                continue
            self._hold(item.seq == words.seq, "renumbered", run_id, words)
            self._hold(words.seq > last, "out of order", run_id, words)
            self._hold(item.text in words.texts, "other words", run_id, (item, words))
            if words.cancelled is True:
                self._hold(item.state == "cancelled", "cancelled in vain", run_id, item)
            elif words.cancelled is False:
                self._hold(item.state != "cancelled", "cancelled by nobody", run_id, item)
            last = words.seq
        known = {words.id for words in sent.words}
        for item in book.items.values():
            if item.kind == "message" and item.sender == "person" and item.moved_from is None:
                self._hold(item.id in known, "invented", run_id, item)
        for order_id, action, seq, _ in sent.orders:
            item = book.items.get(order_id)
            self._hold(
                item is not None and (item.text, item.seq) == (action, seq), "order lost", run_id
            )
        for answer_id, seq in sent.answers:
            item = book.items.get(answer_id)
            self._hold(item is not None and item.seq == seq, "answer lost", run_id, answer_id)

    def _agent(self, book: Book, said: Said) -> None:
        run_id, place = book.run.id, -1
        self.counts["said by agents, 2xx"] += len(said.words)
        for text in said.words:
            self._hold(book.said.count(text) == 1, "agent's words not once", run_id, text)
            where = book.said.index(text) if text in book.said else place
            self._hold(where >= place, "agent's words out of order", run_id, text)
            place = where
        for item in book.items.values():
            if item.state == "in_context":
                self._hold(item.id in said.offered, "in context unproved", run_id, item)
            if item.id in said.confirmed:
                same = (item.state, item.proof) == ("in_context", said.confirmed[item.id])
                self._hold(same, "confirmed in vain", run_id, item)

    def _redis(self, book: Book) -> None:
        """The log in Redis and the row say the same as the stored events."""
        log, run_id = self.chat.log, book.run.id
        snapshot = log.snapshot(run_id)
        head = len(book.events)
        self._hold((snapshot.head, snapshot.stored) == (head, head), "Redis: not stored", run_id)
        self._hold(str(snapshot.status) == book.status, "Redis: status", run_id, snapshot.status)
        self._hold(str(book.run.status) == book.status, "row: status", run_id, book.run.status)
        self._hold(not snapshot.items and not snapshot.questions, "Redis: pending", run_id)
        for item in book.items.values():
            kept = log.item(run_id, item.id)
            state = kept.state if kept is not None else None
            self._hold(state == item.state, "Redis: receipt", run_id, (item, state))
        self._hold(not book.open_questions, "question left open", run_id)

    # --- statuses ---------------------------------------------------------------------------------

    def _tasks_of(self, run_id: str) -> list[Json]:
        found = [task for task in self.truth["tasks"].values() if task["run_id"] == run_id]
        return sorted(found, key=lambda task: float(task["history"][0][0]))

    def _status(self, book: Book) -> None:
        run_id = book.run.id
        self.counts[f"status: {book.status}"] += 1
        self._hold(book.ends == 1, "ended not once: run", run_id, book.ends)
        tasks = self._tasks_of(run_id)
        self._one_at_a_time(run_id, tasks)
        wanted = self._expected(book, tasks)
        self._hold(
            book.status in wanted, "status", run_id,
            f"is {book.status}, not {wanted}: {[t['end'] for t in tasks]} {self.said.get(run_id)}"
            f" {self.sent.get(run_id, Sent()).orders}",
        )  # fmt: skip

    def _expected(self, book: Book, tasks: list[Json]) -> set[str]:
        """The statuses that can be true, by what both sides know."""
        said, sent = self.said.get(book.run.id, Said()), self.sent.get(book.run.id, Sent())
        if said.ended is not None:
            return {said.ended}
        unheard = set(said.tried) - {"completed"}  # a refused `completed` was answered
        stop = sent.stopped_at()
        by_itself = self._by_itself(tasks)
        if stop is None:
            return by_itself | unheard
        ended = tasks[-1]["history"][-1] if tasks else (stop, "")
        # who had ended before they ordered it had ended by itself
        earlier = by_itself if float(ended[0]) < stop else set()
        return {"stopped"} | earlier | unheard

    def _by_itself(self, tasks: list[Json]) -> set[str]:
        if not tasks:
            return {"failed"}
        last = tasks[-1]
        if last["forgotten"]:
            return {"failed"}
        end = last["end"] or {}
        if end.get("stop_code") in BY_SOMEBODY and not str(end.get("reason", "")).startswith(OURS):
            return {"stopped"}
        return {"failed"}

    def _one_at_a_time(self, run_id: str, tasks: list[Json]) -> None:
        tokens = [task["token"] for task in tasks]
        self.counts["tasks"] += len(tasks)
        self.counts["most tasks of a run"] = max(self.counts["most tasks of a run"], len(tasks))
        self._hold(len(set(tokens)) == len(tokens), "a generation twice", run_id, tokens)
        for before, after in pairwise(tasks):
            (ended, how), (began, _) = before["history"][-1], after["history"][0]
            self._hold(
                how in {"STOPPED", "FORGOTTEN"} and ended <= began,
                "two tasks at a time",
                run_id,
                tokens,
            )
            code = (before["end"] or {}).get("stop_code")
            reason = str((before["end"] or {}).get("reason"))
            no_room = code == "TaskFailedToStart" and "apacity" in reason
            self._hold(no_room, "started again without need", run_id, before["end"])
        for task in tasks:
            code = (task["end"] or {}).get("stop_code", "MISSING" if task["forgotten"] else "none")
            self.counts[f"stop code: {code}"] += 1
            self._hold(
                task["history"][-1][1] in {"STOPPED", "FORGOTTEN"},
                "task left running",
                run_id,
                task,
            )

    # --- what is left -----------------------------------------------------------------------------

    def _left_behind(self) -> None:
        """People's words that were never delivered though a later run could have had them."""
        for book in self.books.values():
            left = [
                item for item in book.items.values()
                if (item.kind, item.state, item.sender) == ("message", "undelivered", "person")
            ]  # fmt: skip
            if not left:
                continue
            later = [
                other.run.id for other in self.books.values()
                if other.run.feature_id == book.run.feature_id
                and other.run.created_at > (book.run.ended_at or "")
                and (
                    other.run.agent_id == book.run.agent_id
                    or (other.run.turn is not None and book.run.turn is not None)
                )
            ]  # fmt: skip
            self._hold(not later, "left behind", book.run.id, (left[0], later))

    def _cloud(self) -> None:
        self.wrong["secrets left"] += len(self.truth["secrets"])
        kept = {f"omakase-agent-{role}" for role in LINE}
        self.wrong["definitions left"] += len(set(self.truth["definitions"]) - kept)
        for run_id in {task["run_id"] for task in self.truth["tasks"].values()} - self.books.keys():
            self._fault("task of no run", run_id)

    def _pipeline(self, view: Json) -> None:
        """Where it must be, by how its last turn's run ended."""
        feature_id = view["feature_id"]
        self.counts[f"pipelines: {view['state']}"] += 1
        turns, skipped = view["turns"], set(view["skipped"])
        self._hold(
            len({turn["run_id"] for turn in turns}) == len(turns), "a turn twice", feature_id
        )
        last = turns[-1]
        book = self.books[last["run_id"]]
        self.counts["turns"] += len(turns)
        self.counts["turns sent back"] += sum(turn["why"] == "sent_back" for turn in turns)
        after = [role for role in LINE[LINE.index(last["role"]) + 1 :] if role not in skipped]
        ordered = self.sent.get(book.run.id, Sent()).stopped_at() is not None
        if last["role"] in skipped or (
            book.status == "completed" and book.verdict != "changes_requested"
        ):
            wanted = "done" if not after else "under way"
        elif book.status == "stopped" and ordered:
            wanted = "waiting"
        else:
            wanted = "failing"
        if wanted == "failing" and book.verdict == "changes_requested":
            self._hold("coder" in skipped, "not sent back", feature_id, last)
        elif wanted == "failing":
            self._hold(last["why"] == "retry", "not tried again", feature_id, last)
        self._hold(view["state"] == wanted, "pipeline", feature_id, (view["state"], wanted, last))
        for turn in turns[:-1]:
            self._hold(
                self.books[turn["run_id"]].status in ENDED, "turns at a time", feature_id, turn
            )
