"""Two hundred tasks on a fake ECS that start, talk, die of everything and are re-homed, in bad weather.

    python tests/chaos/soak.py --tasks 200 --kills 12

moto is a process of its own (tests/chaos/cloud.py) behind faults on the wire, and is the store as well, so
that every call to AWS is rained on. Redis, two webs, two workers and a beat are real, and killed with
SIGKILL at random. Then the sky clears, everything comes to rest, and the ledger is drawn up (ledger.py):
accepted = in_context + queued + leased + cancelled + undelivered + moved for every run, by the store and by
Redis; and no status is wrong. Prints the counts as JSON; exit code 1 when one of them is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from supervisor import TIED  # noqa: E402

from chat.access import SYSTEM  # noqa: E402
from chat.bootstrap import Chat, bootstrap  # noqa: E402
from chat.settings import load_settings  # noqa: E402
from tests.bad_wire import HOWS  # noqa: E402
from tests.chaos.calling import Caller, CloudCaller  # noqa: E402
from tests.chaos.crash import Stage  # noqa: E402
from tests.chaos.ledger import Ledger  # noqa: E402
from tests.chaos.people import AGENTS, Charge, Person, Sent  # noqa: E402
from tests.chaos.tasks import FATES, Tasks  # noqa: E402

STALE_S: Final = 5.0
AWS_ENV: Final = {
    "AWS_ACCESS_KEY_ID": "for", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip
PEOPLE: Final = ("Anna", "Ben", "Cleo", "Dan")
A_LINE: Final = 6
"""Runs of a pipeline, about."""
CHAIN: Final = 3
"""Runs of one agent on one feature, one after another."""
KINDS: Final = (
    *HOWS, "throttled", "500", "503", "500 done", "no room", "left out", "twice", "unprocessed",
    "not seen yet", "forgotten",
)  # fmt: skip
STOP_CODES: Final = (
    "TaskFailedToStart", "EssentialContainerExited", "UserInitiated", "ServiceSchedulerInitiated",
    "SpotInterruption", "TerminationNotice", "InfrastructureHealth", "MISSING",
)  # fmt: skip
EVENTS: Final = ("once", "twice", "late", "twice and late", "never")


class NoTasks:
    """A Tasks that loses everything: the ledger only reads."""

    def enqueue(self, name: str, *args: str) -> None:
        """Nobody is there."""


@dataclass
class Play:
    """One soak, from its first process to its counts."""

    folder: Path
    tasks_wanted: int
    kills: int
    seed: int
    every: int
    slow_max: int
    rest_s: float
    killed: Counter[str] = field(default_factory=Counter)
    people: list[Person] = field(default_factory=list)
    features: list[str] = field(default_factory=list)

    def play(self) -> dict[str, Any]:
        """The counts."""
        began = time.monotonic()
        luck = random.Random(self.seed)
        os.environ.update(AWS_ENV)
        process, said = self._cloud()
        self.cloud = CloudCaller(said["url"])
        self.cloud.ask("weather", bad=False)
        stage = Stage(self.folder)
        stage.env |= AWS_ENV | {
            "AWS_ENDPOINT_URL": said["url"],
            "RUNTIME": "ecs",
            "DATABASE": f"dynamodb://?prefix=soak-&endpoint={said['url']}&region=eu-central-1",
            "ECS_CLUSTER": "agents",
            "ECS_SUBNETS": "subnet-1",
            "ECS_EVENTS_QUEUE_URL": said["queue_url"],
            "WATCH_EVERY_S": "2",
            "LEASE_MS": "4000",
            "HEARTBEAT_STALE_MS": str(int(STALE_S * 1000)),
            "NUDGE_AFTER_S": "86400",  # there is no ECS Exec here
        }
        try:
            stage.begin()
            self.tasks = Tasks(self.cloud, stage.ports, self.seed, STALE_S)
            self._people(stage)
            ready = time.monotonic() - began
            self.cloud.ask("weather", bad=True)
            for person in self.people:
                person.start()
            self._kill_at_random(stage, luck)
            worked = time.monotonic() - began - ready
            self.cloud.ask("weather", bad=False)
            chat = bootstrap(load_settings(stage.env), tasks=NoTasks())
            with closing(chat.redis):
                resting = self._rest(chat)
                views = [chat.pipelines.view(SYSTEM, feature_id) for feature_id in self.features]
                ledger = self._ledger(chat)
                ledger.judge(views)
            self.tasks.close()
        finally:
            stage.end()
            process.stdin.close()  # type: ignore[union-attr]  # it has one
            process.wait(20)
        told = self._told(ledger, resting)
        seconds = {"until all are ready": round(ready, 1), "at work": round(worked, 1)}
        seconds |= {"in all": round(time.monotonic() - began, 1)}
        return {"seconds": seconds, **told}

    def _cloud(self) -> tuple[subprocess.Popen[str], dict[str, str]]:
        process = subprocess.Popen(
            [*TIED, sys.executable, "-m", "tests.chaos.cloud", "--seed", str(self.seed),
             "--every", str(self.every), "--tables-every", str(self.every * 10),
             "--slow-max", str(self.slow_max)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=(self.folder / "cloud.log").open("w"),
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError((self.folder / "cloud.log").read_text().strip()[-500:])
        said: dict[str, str] = json.loads(line)
        return process, said

    def _people(self, stage: Stage) -> None:
        """Projects, features and pipelines, shared out among the people."""
        web = Caller(stage.ports)
        web.sign_in("Anna")
        lines = max(1, self.tasks_wanted * 5 // 10 // A_LINE)
        chains = max(1, (self.tasks_wanted - lines * A_LINE) // CHAIN)
        charges: list[list[Charge]] = [[] for _ in PEOPLE]
        projects = []
        for number in range(max(2, lines // 3)):
            made = web.send("POST", "/api/projects", {"name": f"Project {number}"})
            projects.append(made.json["id"])

        def feature(number: int, name: str) -> str:
            path = f"/api/projects/{projects[number % len(projects)]}/features"
            return str(web.send("POST", path, {"name": name}).json["id"])

        for number in range(lines):
            feature_id = feature(number, f"Line {number}")
            self.features.append(feature_id)
            self.tasks.in_line.add(feature_id)
            if number % 3 == 0:
                self.tasks.sends_back[feature_id] = "reviewer" if number % 2 == 0 else "tester"
            charges[number % len(PEOPLE)].append(Charge(feature_id, None, left=2))
        shared = [feature(number, f"Alone {number}") for number in range(-(-chains // len(AGENTS)))]
        for number in range(chains):
            agent_id = AGENTS[number % len(AGENTS)]
            one = Charge(shared[number // len(AGENTS)], agent_id, left=CHAIN)
            charges[number % len(PEOPLE)].append(one)
        web.close()
        luck = random.Random(self.seed)
        for name, theirs in zip(PEOPLE, charges, strict=True):
            luck.shuffle(theirs)
            theirs.sort(key=lambda one: one.agent_id is not None)  # pipelines take longest
            self.people.append(
                Person(
                    name, stage.ports, self.tasks, theirs, seed=self.seed, at_once=13, pace_s=0.15
                )
            )

    def _kill_at_random(self, stage: Stage, luck: random.Random) -> None:
        """Until everybody is done with all they take care of."""
        kinds = ["worker", "worker", "beat", "worker", "web", "worker", "redis"]
        deadline = time.monotonic() + self.rest_s
        done, again_at = 0, time.monotonic() + 2
        while any(person.is_alive() for person in self.people) and time.monotonic() < deadline:
            time.sleep(0.2)
            if done < self.kills and time.monotonic() > again_at:
                kind = kinds[done % len(kinds)]
                if stage.kill(kind, [], luck):
                    self.killed[kind] += 1
                    done += 1
                again_at = time.monotonic() + luck.uniform(2, 5)
        for person in self.people:
            person.halt.set()
        for person in self.people:
            person.join(130)

    def _rest(self, chat: Chat) -> list[str]:
        """Wait until no run is active, no task runs, and no pipeline is under way; what never came to rest."""
        deadline = time.monotonic() + self.rest_s
        while True:
            restless = chat.log.active()
            restless += [f"{self.tasks.alive} tasks"] * (self.tasks.alive > 0)
            if not restless:
                views = [chat.pipelines.view(SYSTEM, feature_id) for feature_id in self.features]
                restless = [one["feature_id"] for one in views if one["state"] == "running"]
                # what was just planned is active again, by the next look
                restless += chat.log.active()
            if not restless or time.monotonic() > deadline:
                return restless
            time.sleep(0.5)

    def _ledger(self, chat: Chat) -> Ledger:
        sent: dict[str, Sent] = {}
        for person in self.people:
            assert not sent.keys() & person.sent.keys(), "one person a run"
            sent |= person.sent
        return Ledger(chat, self.cloud.ask("truth"), sent, self.tasks.said)

    def _told(self, ledger: Ledger, resting: list[str]) -> dict[str, Any]:
        faults = ledger.truth["faults"]
        wrong = +ledger.wrong
        for source in (self.tasks, *self.people):
            for what, count in source.surprises.items():
                wrong[f"surprise: {what}"] += count
        if resting:
            wrong["never came to rest"] = len(resting)
            ledger.examples["never came to rest"] = str(resting[:5])
        asked: Counter[str] = Counter()
        for person in self.people:
            asked += person.counts + person.web.counts
        missing = [kind for kind in KINDS if not faults.get(kind)]
        missing += [code for code in STOP_CODES if not ledger.counts[f"stop code: {code}"]]
        missing += [fate for fate in FATES if not self.tasks.counts[f"fate: {fate}"]]
        missing += [fate for fate in EVENTS if not ledger.truth["events"].get(fate)]
        return {
            "killed": dict(self.killed),
            "faults": {kind: faults.get(kind, 0) for kind in KINDS},
            "faults by call": {
                name: count for name, count in sorted(faults.items()) if ": " in name
            },
            "calls": ledger.truth["calls"],
            "events": ledger.truth["events"],
            "tasks": dict(sorted(self.tasks.counts.items())),
            "people": dict(sorted(asked.items())),
            "counts": dict(sorted(ledger.counts.items())),
            "never occurred": missing,
            "wrong": dict(sorted(wrong.items())),
            "examples": {name: ledger.examples[name] for name in sorted(ledger.examples)},
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--every",
        type=int,
        default=7,
        help="one call to AWS in so many goes wrong; to a table, in ten times as many",
    )
    parser.add_argument("--slow-max", type=int, default=6, help="calls that hang")
    parser.add_argument("--rest-s", type=float, default=240, help="patience")
    parser.add_argument("--keep", action="store_true", help="say where the processes' output is")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="omakase-soak-"))
    os.chdir(ROOT)
    play = Play(
        folder, given.tasks, given.kills, given.seed, given.every, given.slow_max, given.rest_s
    )
    result = play.play()
    print(json.dumps(result, indent=2))
    if given.keep or result["wrong"]:
        print(f"the processes' output: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if result["wrong"] or result["never occurred"] else 0


if __name__ == "__main__":
    sys.exit(main())
