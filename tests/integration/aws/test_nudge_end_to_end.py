"""A message that an agent does not come for, and the nudge that fetches it: every process is a real one.

Redis, web, Celery's worker, beat and Flower, moto as AWS, and for each run its container's processes: the
wrapper as the image's user, its sidecar, the agent. The sidecar's poll is deaf: the way to the web swallows it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import build_pyz
import pytest
from supervisor import TIED

import chat.roles
from chat.adapters import embedded_redis
from chat.adapters.ecs_exec_failures import WORDS
from chat.adapters.embedded_redis import free_port
from chat.ids import new_id
from chat.ports import NudgeFailure
from tests import container, serving
from tests.cloud import Answer, Cloud, Container, Ear, Exec, moto
from tests.fake_aws import ENVIRON, Refused
from tests.serving import ROOT, Api, Server, until
from tests.ssm_agent import FakeAgent
from web.tasks import BackgroundTasks

pytestmark = pytest.mark.slow
F = NudgeFailure
AGENT = """
import sys
sys.path.insert(0, sys.argv[1])
from agent_hooks.loop import Agent
agent = Agent.connect()
while True:
    agent.wait(600)
    for mail in agent.drain():
        agent.confirm([mail.id], text="read: " + mail.text)
"""
SLOW_S = 60.0
"""Bound of a wait: several processes start on a machine that others use too."""


@dataclass
class House:
    """Everything that runs, and a person in it."""

    cloud: Cloud
    ear: Ear
    server: Server
    anna: Api
    flower: str
    tasks: BackgroundTasks
    feature_id: str

    def launched(self) -> Job:
        """A run whose agent is at work and whose sidecar waits for an answer that does not come."""
        request = {"feature_id": self.feature_id, "agent_id": "nori", "start": "launch"}
        made = self.anna.post("/api/agent-runs", request, **{"Idempotency-Key": new_id("key")})
        assert made.status == 201, made.data
        job = Job(self, made.json["run"]["id"])
        until(lambda: job.row()["status"] == "working", SLOW_S)
        until(lambda: self.ear.held.get(job.id), SLOW_S)
        return job


@dataclass
class Job:
    house: House
    id: str

    @property
    def path(self) -> str:
        return f"/api/agent-runs/{self.id}"

    @property
    def container(self) -> Container:
        own = self.house.cloud.container_of(self.id)
        assert own is not None
        return own

    def row(self) -> Any:
        return self.house.anna.get(self.path).json["run"]

    def says(self, text: str) -> str:
        """Anna writes; her message's id."""
        key = {"Idempotency-Key": new_id("key")}
        reply = self.house.anna.post(f"{self.path}/messages", {"text": text}, **key)
        assert reply.status == 201, reply.data
        found: str = reply.json["event"]["id"]
        return found

    def events(self, kind: str) -> list[Answer]:
        found: list[Answer] = self.house.anna.get(f"{self.path}/messages?after=0&kind={kind}").json[
            "events"
        ]
        return found

    def nudges(self) -> list[Answer]:
        return [event for event in self.events("notice") if event["body"]["about"] == "nudge"]

    def way_of(self, message_id: str) -> dict[str, Answer]:
        """The receipts of a message by their state."""
        return {
            event["body"]["state"]: event
            for event in self.events("receipt")
            if message_id in event["body"]["ids"]
        }


@contextmanager
def celery(environ: dict[str, str], log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of the Procfile's Celery processes."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "--quiet", "-A", "workers.app", *words],
            cwd=ROOT, env={**os.environ, **environ}, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def agents_file(folder: Path) -> Path:
    """agents.toml with an agent of ours as the command on ECS."""
    text = Path(chat.roles.__file__).with_name("agents.toml").read_text()
    command = json.dumps(["{python}", "-c", AGENT, "{pyz}"])
    text, count = re.subn(r"(?ms)^ecs = \[.*?^\]$", lambda _: f"ecs = {command}", text)
    assert count == 1
    path = folder / "agents.toml"
    path.write_text(text)
    return path


def account(cloud: Cloud) -> dict[str, str]:
    """The cluster and the coder's definition; the settings that name them."""
    ecs, ec2 = cloud.client("ecs"), cloud.client("ec2")
    ecs.create_cluster(clusterName="agents")
    agent = {"name": "agent", "image": "agent:1", "essential": True, "memory": 512, "secrets": []}
    ecs.register_task_definition(
        family="omakase-agent-coder", requiresCompatibilities=["FARGATE"], networkMode="awsvpc",
        cpu="256", memory="512", containerDefinitions=[agent],
    )  # fmt: skip
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]][:2]
    [group] = [one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]][:1]
    return {
        "RUNTIME": "ecs", "ECS_CLUSTER": "agents", "ECS_SUBNETS": ",".join(subnets),
        "ECS_SECURITY_GROUPS": group, "AWS_ENDPOINT_URL": cloud.url, **ENVIRON,
    }  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    pyz = folder / "agent-hooks.pyz"
    build_pyz.build(pyz)
    with ExitStack() as stack:
        inside = stack.enter_context(container.file_system())
        # a Redis of its own: beat tidies away runs that its store does not know
        redis = embedded_redis.start(folder, appendfsync="no", before=TIED)
        stack.callback(redis.stop)
        moto_url = stack.enter_context(moto())
        started: list[Server] = []
        ear = Ear(lambda: started[0].port)
        stack.callback(ear.close)
        cloud = Cloud(moto_url, ear, pyz, inside)
        flower_port = free_port()
        environ = account(cloud) | {
            "AGENT_URL": ear.url, "NUDGE_AFTER_S": "1", "AGENTS_FILE": str(agents_file(folder)),
            "FLOWER_PORT": str(flower_port),
        }  # fmt: skip
        server = serving.start(redis.url, folder, **environ)
        stack.callback(server.stop)
        stack.callback(cloud.close)  # agents say goodbye while the web is there
        started.append(server)
        for name, words in {
            "worker": ["worker", "-c", "2", "-n", "worker@house", "--task-events"],
            "beat": ["beat", f"--schedule={folder / 'beat'}", "--pidfile="],
            "flower": ["flower", "--address=127.0.0.1", f"--port={flower_port}"],
        }.items():
            stack.enter_context(celery(server.environ, folder / f"{name}.log", *words))
        tasks = BackgroundTasks(server.chat.settings.broker_url)
        stack.callback(tasks.stop)
        anna = server.person()
        project = anna.post("/api/projects", {"name": "Shop"}, **{"Idempotency-Key": "p"}).json
        path = f"/api/projects/{project['id']}/features"
        feature = anna.post(path, {"name": "Cart"}, **{"Idempotency-Key": "f"}).json
        flower = f"http://127.0.0.1:{flower_port}"
        yield House(cloud, ear, server, anna, flower, tasks, feature["id"])


def page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return ""


def test_a_message_that_a_deaf_sidecar_does_not_fetch_is_fetched_by_a_nudge(house: House) -> None:
    job = house.launched()
    other_users = not container.why_not()
    folder = job.container.home / ".omakase" / job.id
    if other_users:
        assert folder.stat().st_uid == container.AGENT

    wrote = time.monotonic()
    message = job.says("call it total_price")
    until(lambda: "in_context" in job.way_of(message), SLOW_S)
    [notice] = until(job.nudges, SLOW_S)

    # it was fetched by the connection that the command made, and by no other
    [executed] = [one for one in house.cloud.executed if one.asked["task"] in tasks_of(house, job)]
    assert executed.asked == {
        "cluster": "agents", "task": executed.asked["task"], "container": "agent",
        "command": "python3 -I -S /opt/omakase/agent-hooks.pyz look", "interactive": True,
    }  # fmt: skip
    [fetched] = [at for run, at, ids in house.ear.fetched if run == job.id and message in ids]
    assert wrote + 1 < executed.began < fetched < executed.ended, "not before NUDGE_AFTER_S"
    way = job.way_of(message)
    assert list(way) == ["stored", "leased", "in_context"]
    proof = house.anna.get(f"{job.path}/messages/{message}").json["proof"]
    assert proof["text"] == "read: call it total_price"

    # and the log says who did it: the Celery task, the message, how long it took
    assert notice["body"] == {
        "about": "nudge", "text": "The agent's side was told to look.", "ids": [message],
        "duration_ms": notice["body"]["duration_ms"], "task_id": notice["body"]["task_id"],
    }  # fmt: skip
    took_ms = (executed.ended - executed.began) * 1_000
    assert took_ms <= notice["body"]["duration_ms"] < 20_000
    assert notice["seq"] > way["leased"]["seq"]
    seen = until(lambda: page(f"{house.flower}/task/{notice['body']['task_id']}"), SLOW_S)
    assert "nudge" in seen
    assert job.id in seen


def tasks_of(house: House, job: Job) -> list[str]:
    return [arn for arn, one in house.cloud.containers.items() if one.run_id == job.id]


# --- what can go wrong ----------------------------------------------------------------------------


def refused(code: str, message: str = "", status: int = 400) -> Exec:
    def answer(cloud: Cloud, asked: Answer, own: Container) -> Answer:
        raise Refused(code, message, status)

    return answer


def agent_says(**fields: Any) -> Exec:
    return lambda cloud, *_: cloud.session(FakeAgent(**fields))


def never(cloud: Cloud, asked: Answer, own: Container) -> Answer:
    """No answer as long as anybody waits for one."""
    time.sleep(15)
    raise ConnectionError


def exec_agent_is_pending(cloud: Cloud, asked: Answer, own: Container) -> Answer:
    cloud.exec_agent[own.run_id] = "PENDING"
    raise Refused("TargetNotConnectedException", "The execute command failed.")


def without_the_program(cloud: Cloud, asked: Answer, own: Container) -> Answer:
    words = [*own.executes(asked["command"], cloud.drop)]
    return cloud.execute(
        asked, own, words=[word.replace(str(own.pyz), "/none.pyz") for word in words]
    )


def where_no_sidecar_is(cloud: Cloud, asked: Answer, own: Container) -> Answer:
    return cloud.execute(asked, own, env=own.env | {"OMAKASE_RUN_ID": new_id("run")})


KMS = {"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "key"}}
FAILS: dict[NudgeFailure, tuple[Exec, str]] = {
    F.NOT_CONNECTED: (refused("TargetNotConnectedException"), "(TargetNotConnectedException)"),
    F.DENIED: (
        refused("AccessDeniedException", "User: arn:aws:x is not"),
        "(AccessDeniedException)",
    ),
    F.SESSION_LIMIT: (refused("ClientException", "Session limit exceeded"), "(ClientException)"),
    F.NO_SHELL: (without_the_program, "can't open file '/none.pyz'"),
    F.AGENT_NOT_READY: (exec_agent_is_pending, "(TargetNotConnectedException)"),
    F.TASK_GONE: (refused("InvalidParameterException", "The task was not found."), ""),
    F.THROTTLED: (refused("ThrottlingException", "Rate exceeded"), "(ThrottlingException)"),
    F.TIMEOUT: (never, "(ReadTimeoutError)"),
    F.ENCRYPTED: (agent_says(actions=(KMS,)), "KMS"),
    F.COMMAND_FAILED: (where_no_sidecar_is, "agent-hooks: no sidecar of run_"),
    F.UNAVAILABLE: (refused("ServerException", "oops", 500), "(ServerException)"),
    F.PROTOCOL: (lambda *_: {"session": {}}, "no stream"),
}


def test_every_class_of_failure_is_tried() -> None:
    assert set(FAILS) == set(NudgeFailure)


@pytest.mark.parametrize("failure", list(FAILS))
def test_a_nudge_that_fails_says_why_and_the_message_comes_by_the_next_poll(
    house: House, failure: NudgeFailure
) -> None:
    job = house.launched()
    how, said = FAILS[failure]
    house.cloud.answers[job.id] = how
    message = job.says("still here?")

    def nudged() -> list[Answer]:
        house.tasks.enqueue("quiet")  # as beat does every ten seconds
        return job.nudges()

    [notice] = until(nudged, SLOW_S)

    body = notice["body"]
    assert (body["failure"], body["ids"]) == (failure, [message]), body
    assert body["text"].startswith(WORDS[failure])
    assert said in body["text"]
    assert "arn:aws" not in body["text"]
    assert body["duration_ms"] >= 0
    seen = until(lambda: page(f"{house.flower}/task/{body['task_id']}"), SLOW_S)
    assert job.id in seen
    assert list(job.way_of(message)) == ["stored"], "a nudge moves nothing by itself"
    house.ear.hear(job.id)
    until(lambda: "in_context" in job.way_of(message), SLOW_S)
    assert list(job.way_of(message)) == ["stored", "leased", "in_context"]
    assert job.row()["status"] == "working"
    assert len(job.nudges()) == 1, "and not again at once"
