"""Ten times the runs, and ten times the history: latency and memory must not notice.

A run's history is what an agent does: steps and log lines, and a person's message now and then. It is
drained into the database and trimmed, as workers do. Then: POST to 201, the newest page of the history,
and what Redis holds for a run. What a person's message leaves in Redis while its run lives (its state in
the mailbox, and for a day its idempotency key) is told by itself.
"""

from __future__ import annotations

import hashlib
import time

import orjson

from bench.figure import options, percentile, say
from bench.stage import ANNA, KeepAlive, Stage
from chat.access import Principal
from chat.drafts import draft
from chat.events import LogBody, LogLine, MessageBody
from chat.ports import Draft
from chat.requests import Confirm

STREAM_KEEP = 200
"""Smaller than the default of 1,000, so that one time the history is already longer than it."""
CHUNK = 100
WARM = 20
EVERY = 50
"""One event in so many is a person's message."""


def fill(stage: Stage, run: str, events: int) -> None:
    """A run's history, stored and trimmed."""
    chat = stage.chat
    for start in range(0, events, CHUNK):
        drafts = [entry(stage, run, start + index) for index in range(min(CHUNK, events - start))]
        chat.log.append(run, drafts)
    chat.delivery.drain(run)


def entry(stage: Stage, run: str, number: int) -> Draft:
    now = stage.chat.clock.now()
    if number % EVERY == 0:
        # the state of a message that was read is small; it is what a message leaves behind
        return draft(run, ANNA.sender(), MessageBody(text="x" * 200), now=now)
    return draft(
        run,
        ANNA.sender(),
        LogBody(first_line=number + 1, lines=[LogLine(stream="stdout", text="x" * 120)]),
        now=now,
    )


class Grown:
    """Runs with a history, and a web process in front of them."""

    def __init__(self, runs: int, events: int) -> None:
        self.stage = Stage({"STREAM_KEEP": str(STREAM_KEEP)})
        try:
            web = self.stage.web()
            before = used(self.stage)
            made = [run for run, _ in self.stage.runs(runs)]
            for run in made:
                fill(self.stage, run, events)
            self.bytes_a_run = (used(self.stage) - before) / runs
            self._client = KeepAlive(web.port, [f"Cookie: {web.cookie}"])
            path = f"/api/agent-runs/{made[-1]}/messages"
            body = orjson.dumps({"text": "x" * 200})
            self._requests = {
                "POST to 201": (self._client.request("POST", path, body), 201),
                "newest page": (self._client.request("GET", f"{path}?limit=50"), 200),
            }
        except BaseException:
            self.close()
            raise
        self.times: dict[str, list[float]] = {name: [] for name in self._requests}

    def ask(self, *, counts: bool) -> None:
        """Each request once."""
        for name, (request, status) in self._requests.items():
            began = time.perf_counter()
            found, said = self._client.exchange(request)
            took = (time.perf_counter() - began) * 1_000
            assert found == status, said
            if counts:
                self.times[name].append(took)

    def close(self) -> None:
        self.stage.__exit__()


def used(stage: Stage) -> int:
    return int(stage.chat.redis.info("memory")["used_memory_dataset"])


def bytes_a_message(messages: int) -> float:
    """What Redis keeps of each message to the agent once it is stored, trimmed and read."""
    with Stage({"STREAM_KEEP": "1"}) as stage:
        ((run, token),) = stage.runs(1)
        chat = stage.chat
        agent = chat.tokens.agent(run, token)
        sizes: list[int] = []
        for _ in range(2):
            for number in range(messages):
                body = MessageBody(text="x" * 200)
                one = draft(run, ANNA.sender(), body, now=chat.clock.now(), mode="steer",
                            idempotency_key=f"message:usr_anna:{len(sizes)}-{number:016d}",
                            digest="0" * 32)  # fmt: skip
                chat.log.append(run, [one])
            chat.delivery.drain(run)
            while items := chat.mailbox.lease(agent, run, holder="bench", limit=50, task_end=True)[
                "items"
            ]:
                ids = [item["event"]["id"] for item in items]
                confirm(stage, agent, run, ids)
            chat.delivery.drain(run)
            sizes.append(used(stage))
        return (sizes[1] - sizes[0]) / messages


def confirm(stage: Stage, agent: Principal, run: str, ids: list[str]) -> None:
    sha256 = hashlib.sha256(b"words").hexdigest()
    stage.chat.mailbox.confirm(agent, run, Confirm(ids=ids, step=1, text="words", sha256=sha256))


def main() -> None:
    quick = options(__doc__).quick
    runs, events, count = (5, 300, 60) if quick else (20, 1_000, 500)
    grown: dict[str, Grown] = {}
    try:
        for what, sizes in (
            ("", (runs, events)),
            ("10 times the runs", (runs * 10, events)),
            ("10 times the history", (runs, events * 10)),
        ):
            grown[what] = Grown(*sizes)
        for number in range(count + WARM):
            for one in grown.values():
                one.ask(counts=number >= WARM)
    finally:
        for one in grown.values():
            one.close()
    base = grown.pop("")
    note = f"against {runs} runs of {events:,} events"
    for what, one in grown.items():
        for name, times in one.times.items():
            say(f"{what}: {name}, p50", percentile(times, 0.5), "ms",
                floor=percentile(base.times[name], 0.5), target="<= 1.3", note=note)  # fmt: skip
        say(f"{what}: Redis memory a run", one.bytes_a_run, "bytes", floor=base.bytes_a_run,
            target="<= 1.3", note=note)  # fmt: skip
    say("Redis keeps of a message that was read", bytes_a_message(100 if quick else 2_000), "bytes",
        note="until its run has ended")  # fmt: skip


if __name__ == "__main__":
    main()
