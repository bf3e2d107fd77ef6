"""Two webs, two workers, a beat, a Redis and four agents, killed at random while people and agents talk.

    python tests/chaos/crash.py --messages 5000 --kills 40

Afterwards every 2xx must be in the store once, in order, without a hole, and every message must have
ended `in_context` or `undelivered`. Prints the counts as JSON; exit code 1 when one of them is wrong.
`--messages` counts both ways: half are people's, half agents' replies. Everything runs on loopback.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from supervisor import FIRST_PAUSE_S, Service, Supervisor, spawn  # noqa: E402

from chat.adapters import embedded_redis  # noqa: E402
from chat.adapters.sqlite_store import SqliteStore  # noqa: E402

AGENTS = ("miso", "nori", "koji", "toro")
STOPPED_ONE = 3
"""The last agent is stopped by an order instead of being told END: its queue ends `undelivered`."""
PATIENCE_S = 120.0
"""How long one request may be tried again before the test gives up."""


class Client:
    """A person with a cookie, who sends the same request again until somebody answers."""

    def __init__(self, ports: list[int], name: str) -> None:
        self._ports = ports
        self._turn = 0
        self.retries = 0
        _, headers, _ = self._again("POST", "/api/session", {"name": name}, {})
        self._cookie = headers["Set-Cookie"].partition(";")[0]

    def send(
        self, method: str, path: str, body: Any = None, *, key: str | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of the first answer that is not about the server's own state."""
        headers = {"Cookie": self._cookie}
        if key is not None:
            headers["Idempotency-Key"] = key
        status, _, answer = self._again(method, path, body, headers)
        return status, answer

    def _again(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, Any, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                done = self._once(method, path, body, headers)
                if done[0] < 500 and done[0] != 429:
                    return done
                problem = str(done)
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path}: {problem}")
            self.retries += 1
            time.sleep(0.1)

    def _once(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, Any, Any]:
        self._turn += 1
        port = self._ports[self._turn % len(self._ports)]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            data = None if body is None else json.dumps(body)
            sent = {**headers, **({"Content-Type": "application/json"} if data else {})}
            connection.request(method, path, body=data, headers=sent)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, answer.headers, json.loads(text) if text else None
        finally:
            connection.close()


@dataclass
class Conversation:
    """One run, what its person got a 2xx for (message id, seq, text), and its agent's journal."""

    run_id: str
    journal: Path
    home: Path
    sent: list[tuple[str, int, str]] = field(default_factory=list)
    refused: int = 0


class Stage:
    """All the processes of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = (folder / "processes.log").open("a")
        self.supervisor = Supervisor(self._say)
        self._lock = threading.Lock()
        self._services: dict[str, list[Service]] = {}
        self.redis_port = embedded_redis.free_port()
        self.ports = [embedded_redis.free_port(), embedded_redis.free_port()]
        self.env = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "HOME": str(folder),
            "STATE_DIR": str(folder / "state"),
            "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "SECRET_KEY": "only-for-the-crash-test-" * 2,
            "MESSAGES_PER_MINUTE": "1000000",
            "RUN_MESSAGE_BUDGET": "1000000",
            "CONNECTIONS_PER_PRINCIPAL": "1000",
            "LEASE_MS": "5000",
            "WEB_WORKERS": "1",
            "WORKER_CONCURRENCY": "2",
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(ROOT),
        }

    def _say(self, name: str, line: str) -> None:
        self.log.write(f"{time.strftime('%H:%M:%S')} {name:<8}| {line}\n")
        self.log.flush()

    def add(self, kind: str, name: str, command: str, **env: str) -> None:
        """A process that is started again when it dies."""
        given = {**self.env, **env}
        service = self.supervisor.add(name, lambda: spawn(command, given))
        self._services.setdefault(kind, []).append(service)

    def begin(self) -> None:
        """Redis, webs, workers, beat; returns when both webs are ready."""
        redis_dir = self.folder / "redis"
        service = self.supervisor.add(
            "redis", lambda: embedded_redis.spawn(redis_dir, self.redis_port)
        )
        self._services["redis"] = [service]
        for number, port in enumerate(self.ports):
            self.add(
                "web", f"web{number}", 'gunicorn -c web/gunicorn.conf.py "web:create_app()"',
                PORT=str(port), PUBLIC_URL=f"http://127.0.0.1:{port}",
            )  # fmt: skip
            self.add(
                "worker", f"worker{number}",
                f"celery -A workers.app worker --hostname=w{number}@%h --concurrency=2"
                " --without-gossip --without-mingle",
            )  # fmt: skip
        self.add(
            "beat", "beat",
            f"celery -A workers.app beat --pidfile= --schedule={self.folder}/beat-schedule",
        )  # fmt: skip
        threading.Thread(target=self.supervisor.run, daemon=True).start()

    def end(self) -> None:
        """Stop everything that was started."""
        self.supervisor.stopping.set()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and any(
            service.process is not None for service in self.supervisor.services
        ):
            time.sleep(0.1)
        self.log.close()

    def kill(self, kind: str, conversations: list[Conversation], luck: random.Random) -> bool:
        """SIGKILL one process of the kind, with all it forked; False when none is there."""
        if kind == "sidecar":
            return self._kill_sidecar(luck.choice(conversations))
        service = luck.choice(self._services[kind])
        service.pause_s = FIRST_PAUSE_S
        process = service.process
        if process is None or process.poll() is not None:
            return False
        os.killpg(process.pid, signal.SIGKILL)
        return True

    @staticmethod
    def _kill_sidecar(conversation: Conversation) -> bool:
        for note in conversation.home.glob("*/local.json"):
            try:
                os.kill(int(json.loads(note.read_text())["pid"]), signal.SIGKILL)
            except (ProcessLookupError, ValueError, KeyError):
                continue
            return True
        return False


def converse(client: Client, conversation: Conversation, count: int, pace_s: float) -> None:
    """Post `count` messages, one after another, each until it is answered."""
    for number in range(1, count + 1):
        text = f"message {number}"
        mode = "queue" if number % 10 == 0 else "steer"
        key = f"{conversation.run_id}-{number}"
        status, answer = client.send(
            "POST", f"/api/agent-runs/{conversation.run_id}/messages",
            {"text": text, "mode": mode}, key=key,
        )  # fmt: skip
        if status in {200, 201}:
            event = answer["event"]
            conversation.sent.append((event["id"], event["seq"], text))
        else:
            conversation.refused += 1
        time.sleep(pace_s)


def judge(store: SqliteStore, conversation: Conversation) -> Counter[str]:
    """Hold what the store has against what was promised; counts, with every fault under `wrong_…`."""
    counts: Counter[str] = Counter()
    events: list[dict[str, Any]] = []
    after = 0
    while True:
        page = store.events(conversation.run_id, after=after, limit=1_000)
        events += [json.loads(record.data) for record in page.records]
        if not page.has_more:
            break
        after = page.records[-1].seq
    seqs = [event["seq"] for event in events]
    counts["events"] = len(events)
    counts["wrong_holes"] = int(seqs != list(range(1, len(seqs) + 1)))

    by_id: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_id.setdefault(event["id"], []).append(event)
    last = 0
    finals: dict[str, list[str]] = {}
    for event in events:
        if event["kind"] == "receipt" and event["body"]["state"] in {"in_context", "undelivered"}:
            for message_id in event["body"]["ids"]:
                finals.setdefault(message_id, []).append(event["body"]["state"])
    given = set()
    said, says = [], []
    for line in conversation.journal.read_bytes().split(b"\n")[:-1]:
        what, value = json.loads(line)
        if what == "given":
            given.add(value)
        (said if what == "said" else says).append(value) if what != "given" else None
    for message_id, seq, text in conversation.sent:
        stored = by_id.get(message_id, [])
        counts["people_2xx"] += 1
        counts["wrong_lost"] += not stored
        counts["wrong_doubled"] += len(stored) > 1
        if stored:
            counts["wrong_changed"] += stored[0]["seq"] != seq or stored[0]["body"]["text"] != text
        counts["wrong_order"] += seq <= last
        last = seq
        ends = finals.get(message_id, [])
        counts["wrong_end"] += len(ends) != 1
        for end in ends:
            counts[end] += 1
            counts["wrong_unproved"] += end == "in_context" and message_id not in given

    replies = [
        event["body"]["text"]
        for event in events
        if event["kind"] == "message" and event["sender"]["kind"] == "agent"
    ]
    heard = [int(text.rpartition(" ")[2]) for text in replies]
    counts["agent_said"] = len(said)
    counts["agent_stored"] = len(heard)
    counts["wrong_agent_lost"] = len(set(said) - set(heard))
    counts["wrong_agent_doubled"] = len(heard) - len(set(heard))
    counts["wrong_agent_order"] = int(heard != sorted(heard))
    counts["wrong_agent_invented"] = len(set(heard) - set(says))
    people = sum(
        event["kind"] == "message" and event["sender"]["kind"] == "person" for event in events
    )
    counts["wrong_people_invented"] = people - len(conversation.sent)
    return counts


def play(folder: Path, *, messages: int, kills: int, seed: int, pace_s: float) -> dict[str, Any]:
    """The whole test; returns the counts."""
    luck = random.Random(seed)
    began = time.monotonic()
    stage = Stage(folder)
    killed: Counter[str] = Counter()
    try:
        stage.begin()
        client = Client(stage.ports, "Anna")
        conversations = _open(stage, client, messages // 8)
        count = messages // 8
        talkers = [
            threading.Thread(
                target=converse, args=(Client(stage.ports, "Anna"), one, count, pace_s)
            )
            for one in conversations
        ]
        for talker in talkers:
            talker.start()
        kinds = ["web", "worker", "redis", "agent", "sidecar", "beat"]
        done = 0
        while done < kills:
            kind = kinds[done % len(kinds)]
            if stage.kill(kind, conversations, luck):
                killed[kind] += 1
                done += 1
            time.sleep(luck.uniform(0.3, 1.5))
        for talker in talkers:
            talker.join()
        for number, one in enumerate(conversations):
            path = f"/api/agent-runs/{one.run_id}"
            if number == STOPPED_ONE:
                client.send("POST", f"{path}/orders", {"action": "stop"}, key=f"stop-{one.run_id}")
            else:
                _, answer = client.send(
                    "POST", f"{path}/messages", {"text": "END"}, key=f"end-{one.run_id}"
                )
                one.sent.append((answer["event"]["id"], answer["event"]["seq"], "END"))
        _settle(client, conversations)
        retries = client.retries
    finally:
        stage.end()
    store = SqliteStore(folder / "state" / "omakase.db")
    total: Counter[str] = Counter()
    for one in conversations:
        total += Counter({name: value for name, value in judge(store, one).items() if value})
    wrong = {name: value for name, value in total.items() if name.startswith("wrong_")}
    return {
        "seconds": round(time.monotonic() - began, 1),
        "killed": dict(killed),
        "retries": retries,
        **{name: value for name, value in sorted(total.items()) if name not in wrong},
        "wrong": wrong,
    }


def _open(stage: Stage, client: Client, replies: int) -> list[Conversation]:
    """A project, a feature, four attached runs, and an agent on each."""
    _, project = client.send("POST", "/api/projects", {"name": "Crash"}, key="project")
    _, feature = client.send(
        "POST", f"/api/projects/{project['id']}/features", {"name": "Everything"}, key="feature"
    )
    conversations = []
    for agent_id in AGENTS:
        status, made = client.send(
            "POST", "/api/agent-runs",
            {"feature_id": feature["id"], "agent_id": agent_id, "start": "attach"}, key=agent_id,
        )  # fmt: skip
        if status not in {200, 201}:
            raise RuntimeError(made)
        home = stage.folder / agent_id
        home.mkdir()
        journal = home / "journal.jsonl"
        stage.add(
            "agent", agent_id, f"python tests/chaos/agent.py {journal} {replies}",
            OMAKASE_SERVER=f"http://127.0.0.1:{stage.ports[0]}", OMAKASE_HOME=str(home),
            OMAKASE_RUN_ID=made["run"]["id"], OMAKASE_TOKEN=made["token"],
            OMAKASE_RETURN_S="60", PYTHONPATH=str(stage.folder / "agent-hooks.pyz"),
        )  # fmt: skip
        conversations.append(Conversation(made["run"]["id"], journal, home))
    return conversations


def _settle(client: Client, conversations: list[Conversation]) -> None:
    """Until every run has ended and is wholly stored."""
    deadline = time.monotonic() + 180
    waiting = {one.run_id for one in conversations}
    while waiting and time.monotonic() < deadline:
        for run_id in list(waiting):
            _, view = client.send("GET", f"/api/agent-runs/{run_id}")
            snapshot = view["snapshot"]
            ended = snapshot["status"] in {"completed", "failed", "stopped"}
            if ended and snapshot["stored"] == snapshot["head"]:
                waiting.discard(run_id)
        time.sleep(0.5)
    if waiting:
        raise TimeoutError(f"did not come to rest: {sorted(waiting)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pace-s", type=float, default=0.02)
    parser.add_argument("--keep", action="store_true", help="keep the folder and say where it is")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="omakase-crash-"))
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "build_pyz.py"],
        check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    shutil.copy(ROOT / "build" / "agent-hooks.pyz", folder)
    os.chdir(ROOT)
    result = play(
        folder, messages=given.messages, kills=given.kills, seed=given.seed, pace_s=given.pace_s
    )
    print(json.dumps(result, indent=2))
    if given.keep or result["wrong"]:
        print(f"the processes' output: {folder}/processes.log", file=sys.stderr)
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
