"""Real Celery workers, started as the Procfile does, on a real Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from celery import Celery

from chat.adapters.embedded_redis import EmbeddedRedis
from chat.bootstrap import bootstrap
from chat.runs import RunStatus
from chat.settings import Settings, load_settings
from tests.serving import until
from tests.world import Talk, World, close, open_world
from web.tasks import BackgroundTasks

ROOT = Path(__file__).parents[3]
QUEUES = "live,runs,upkeep"
AWS = {
    "AWS_ACCESS_KEY_ID": "for",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    try:
        until(condition, 60)
    except AssertionError as error:
        raise AssertionError(f"never: {what}") from error


class Machine:
    """Where workers run: each a real process on the same settings as the world."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self.settings: Settings = load_settings(environ)
        self.settings.state_dir.mkdir(exist_ok=True)
        self.tasks = BackgroundTasks(self.settings.broker_url)
        self.world: World = open_world(self.settings, tasks=self.tasks)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def celery(self, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "workers.app", *words],
            cwd=ROOT,
            env={**os.environ, **self.environ},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        process = self.celery(
            "worker", "-c", "1", "-Q", QUEUES, "-n", f"{name}@test", "-l", "WARNING"
        )
        self.workers[name] = process
        wait_until(lambda: bool(self.inspect("ping", name)), f"{name} answers")
        return process

    def somebody(self) -> str:
        """The name of a worker that lives: tests come in any order, and some kill."""
        for name, process in self.workers.items():
            if process.poll() is None:
                return name
        name = f"worker{len(self.workers)}"
        self.worker(name)
        return name

    def inspect(self, what: str, name: str) -> object:
        with Celery("admin", broker=self.settings.broker_url) as admin:
            inspector = admin.control.inspect([f"{name}@test"], timeout=1)
            found = getattr(inspector, what)() or {}
            return found.get(f"{name}@test")

    def sweeps(self, name: str) -> int:
        """How many a worker has taken."""
        stats = self.inspect("stats", name)
        assert isinstance(stats, dict)
        return int(stats["total"].get("sweep", 0))

    def queue(self, name: str, *args: str) -> None:
        """As beat does it."""
        self.tasks.enqueue(name, *args)

    def stored(self, talk: Talk) -> bool:
        return "accepted" not in [
            item.state for item in self.world.chat.log.snapshot(talk.id).items
        ]

    def close(self) -> None:
        for process in self.processes:
            kill(process)
        self.tasks.stop()
        close(self.world)


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 to it and to what it has forked."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def machine(
    redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    made = Machine(
        {
            "STATE_DIR": str(tmp_path_factory.mktemp("state")),
            "SECRET_KEY": "only-for-tests-" * 3,
            "REDIS_URL": redis_server.url,
            "AGENT": "none",
        }
    )
    yield made
    made.close()


def test_an_admin_sees_tasks_and_queues_under_their_names(machine: Machine) -> None:
    registered = machine.inspect("registered", machine.somebody())
    assert isinstance(registered, list)
    assert set(registered) == {
        "store",
        "forward",
        "launch",
        "advance",
        "sweep",
        "watch",
        "events",
        "quiet",
        "nudge",
    }
    queues = machine.inspect("active_queues", machine.somebody())
    assert isinstance(queues, list)
    assert {queue["name"] for queue in queues} == set(QUEUES.split(","))


def test_a_message_is_stored_by_a_worker_and_can_be_leased(machine: Machine) -> None:
    machine.somebody()
    talk = machine.world.talk()
    message = talk.post("hello")
    wait_until(lambda: machine.stored(talk), "stored")
    assert talk.lease() == [message["id"]]
    wait_until(lambda: talk.stored() == talk.events(), "the database has what the log has")


def test_a_poisoned_run_keeps_no_other_waiting(machine: Machine) -> None:
    machine.somebody()
    poisoned, healthy = machine.world.talk(), machine.world.talk(agent_id="koji")
    wait_until(lambda: bool(poisoned.stored()), "both are known")
    machine.world.chat.redis.set(f"run:{{{poisoned.id}}}:pending", "no sorted set")
    for _ in range(3):
        machine.queue("store", poisoned.id)
        machine.queue("sweep")
    message = healthy.post("still served")
    wait_until(lambda: machine.stored(healthy), "stored")
    assert healthy.lease() == [message["id"]]
    machine.world.chat.redis.delete(f"run:{{{poisoned.id}}}:pending")


def test_what_a_killed_worker_left_another_stores_once_and_in_order(machine: Machine) -> None:
    talk = machine.world.talk(agent_id="miso")
    for other in machine.processes:
        kill(other)
    victim = machine.workers[machine.somebody()]
    ids = []
    for number in range(300):
        ids.append(talk.post(str(number))["id"])
        if number == 150:
            kill(victim)
    machine.somebody()
    machine.queue("sweep")
    wait_until(lambda: machine.stored(talk), "stored")
    wait_until(lambda: talk.stored() == talk.events(), "the database has what the log has")
    told = [
        item_id
        for event in talk.stored()
        if event["kind"] == "receipt" and event["body"]["state"] == "stored"
        for item_id in event["body"]["ids"]
    ]
    assert told == ids


def test_beat_finds_what_nobody_was_told_of(machine: Machine, tmp_path: Path) -> None:
    class Lost:
        def enqueue(self, name: str, *args: str) -> None:
            """Every task is lost on its way."""

    machine.somebody()
    chat = bootstrap(machine.settings, tasks=Lost())
    talk = machine.world.talk(agent_id="toro")
    wait_until(lambda: talk.stored() == talk.events(), "begun")
    silent = Talk(World(chat, *[None] * 3, machine.world.feature_id), talk.id, talk.nori)  # type: ignore[arg-type]
    with closing(chat.redis):
        silent.post("is anybody there?")
        beat = machine.celery("beat", "-s", str(tmp_path / "beat"), "--pidfile=", "-l", "WARNING")
        wait_until(lambda: machine.stored(talk), "stored by a sweep")
        kill(beat)
        chat.store.close()  # type: ignore[attr-defined]  # it is SQLite here


def test_a_sweep_is_left_to_whoever_is_at_it_and_done_when_they_are_gone(machine: Machine) -> None:
    class Lost:
        def enqueue(self, name: str, *args: str) -> None:
            """Every task is lost on its way."""

    name = machine.somebody()
    client = machine.world.chat.redis
    talk = machine.world.talk(agent_id="toro")
    wait_until(lambda: talk.stored() == talk.events(), "begun")
    chat = bootstrap(machine.settings, tasks=Lost())
    silent = Talk(World(chat, *[None] * 3, machine.world.feature_id), talk.id, talk.nori)  # type: ignore[arg-type]
    with closing(chat.redis):
        message = silent.post("is anybody there?")
        before = machine.sweeps(name)
        client.set("alone:sweep", "another worker", px=60_000)
        machine.queue("sweep")
        wait_until(lambda: machine.sweeps(name) > before, "taken")
        wait_until(lambda: machine.inspect("active", name) == [], "done")
        assert silent.state_of(message["id"]) == "accepted"
        client.delete("alone:sweep")
        machine.queue("sweep")
        wait_until(lambda: machine.stored(talk), "stored by a sweep")
        chat.store.close()  # type: ignore[attr-defined]  # it is SQLite here


def test_the_same_worker_stores_in_dynamodb(
    redis_server: EmbeddedRedis, dynalite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    machine = Machine(
        {
            "STATE_DIR": str(tmp_path),
            "SECRET_KEY": "only-for-tests-" * 3,
            "REDIS_URL": redis_server.url.replace("/0", "/1"),
            "DATABASE": f"dynamodb://?endpoint={dynalite_url}&prefix=w-&region=eu-central-1",
            "AGENT": "none",
        }
    )
    try:
        machine.worker("dynamo")
        talk = machine.world.talk()
        message = talk.post("hello")
        wait_until(lambda: machine.stored(talk), "stored")
        assert talk.lease() == [message["id"]]
        talk.confirm(message["id"])
        talk.finish()
        wait_until(lambda: talk.stored() == talk.events(), "the database has what the log has")
        store = machine.world.chat.store
        wait_until(
            lambda: (row := store.run(talk.id)) and row.status is RunStatus.COMPLETED,
            "its row says so too",
        )
    finally:
        machine.close()
