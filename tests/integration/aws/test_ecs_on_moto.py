"""The ECS runtime and the events' queue against moto, whose model of AWS nobody here wrote.

moto moves a task on at each look at it, so that is switched to manual; it knows no client tokens and sends
no events (tests/contract/test_runtime_ecs.py has those, on a fake).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.moto_api import state_manager

import chat.roles
from chat.adapters.ecs_events import TaskEvents
from chat.adapters.ecs_runtime import EcsRuntime, Place
from chat.adapters.ecs_shape import shapes
from chat.errors import Unavailable
from chat.ids import new_id
from chat.roles import ROLES, Roles, load_roles
from chat.runs import Role, Run, StartKind
from chat.settings import load_settings

REGION = "eu-central-1"
ENV = {"OMAKASE_TOKEN": "t0ken", "OMAKASE_SERVER": "http://web", "OMAKASE_RUN_ID": "r"}


def new_run(role: Role = Role.CODER) -> Run:
    return Run(
        id=new_id("run"), project_id="prj", feature_id="ftr", agent_id="nori", agent_name="Nori",
        role=role, start=StartKind.LAUNCH, created_at="2026-11-22T09:33:00.000Z",
    )  # fmt: skip


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """boto3.client of an empty account with a cluster and the roles' definitions."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "for")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    with mock_aws():
        state_manager.set_transition("ecs::task", {"progression": "manual", "times": 10**6})
        ecs = boto3.client("ecs", REGION)
        ecs.create_cluster(clusterName="agents")
        for role in Role:
            ecs.register_task_definition(
                family=f"omakase-agent-{role}",
                requiresCompatibilities=["FARGATE"],
                networkMode="awsvpc",
                cpu="256",
                memory="512",
                containerDefinitions=[
                    # moto wants each container's memory, which Fargate does not
                    {"name": "agent", "image": "agent:1", "essential": True, "memory": 512}
                ],
            )
        yield lambda name: boto3.client(name, REGION)
        state_manager.unset_transition("ecs::task")


def runtime_with(account: Callable[[str], Any], roles: Roles) -> EcsRuntime:
    subnets = [one["SubnetId"] for one in account("ec2").describe_subnets()["Subnets"]]
    groups = account("ec2").describe_security_groups()["SecurityGroups"]
    place = Place(
        cluster="agents",
        subnets=tuple(subnets[:2]),
        security_groups=(groups[0]["GroupId"],),
        assign_public_ip="DISABLED",
        capacity_provider="",
        family_prefix="omakase-agent-",
        secret_prefix="omakase/run-token/",
    )
    return EcsRuntime(account("ecs"), account("secretsmanager"), place, shapes(roles))


@pytest.fixture
def runtime(account: Callable[[str], Any]) -> EcsRuntime:
    return runtime_with(account, ROLES)


@pytest.mark.parametrize("role", list(Role))
def test_what_is_registered_is_what_agents_toml_says(
    account: Callable[[str], Any], runtime: EcsRuntime, role: Role
) -> None:
    said = ROLES.role[role]
    started = runtime.start(new_run(role), token="t0ken", env=ENV)

    [task] = account("ecs").describe_tasks(cluster="agents", tasks=[started.handle])["tasks"]
    found = account("ecs").describe_task_definition(taskDefinition=task["taskDefinitionArn"])
    definition = found["taskDefinition"]
    assert (definition["cpu"], definition["memory"]) == (str(said.cpu), str(said.memory_mib))
    [container] = definition["containerDefinitions"]
    assert container["memory"] == said.memory_mib
    assert (container["image"], container["command"][0]) == ("agent:1", "claude")
    assert (started.cpu, started.memory_mib) == (said.cpu, said.memory_mib)


def test_an_operators_own_file_is_what_a_task_is_made_of(
    account: Callable[[str], Any], tmp_path: Path
) -> None:
    text = Path(chat.roles.__file__).with_name("agents.toml").read_text()
    text = text.replace("cpu = 1024\nmemory_mib = 4096", "cpu = 4096\nmemory_mib = 16384")
    text += '\n[role.coder.commands]\necs = ["mine", "--as", "{role}", "--in", "{repo}"]\n'
    (tmp_path / "agents.toml").write_text(text.replace('image = ""', 'image = "you/agent:3"'))
    given = {"AGENTS_FILE": str(tmp_path / "agents.toml"), "STATE_DIR": str(tmp_path / "state")}
    path = load_settings(given | {"SECRET_KEY": "only-for-tests-" * 3}).agents_file
    assert path is not None

    started = runtime_with(account, load_roles(path)).start(new_run(), token="t0ken", env=ENV)

    [task] = account("ecs").describe_tasks(cluster="agents", tasks=[started.handle])["tasks"]
    found = account("ecs").describe_task_definition(taskDefinition=task["taskDefinitionArn"])
    [container] = found["taskDefinition"]["containerDefinitions"]
    assert (started.cpu, started.memory_mib) == (4_096, 16_384)
    assert container["image"] == "you/agent:3"
    assert container["command"] == ["mine", "--as", "coder", "--in", "/work"]


def test_a_tasks_whole_life(account: Callable[[str], Any], runtime: EcsRuntime) -> None:
    run = new_run()
    started = runtime.start(run, token="t0ken", env=ENV)

    ecs, secrets = account("ecs"), account("secretsmanager")
    [task] = ecs.describe_tasks(cluster="agents", tasks=[started.handle], include=["TAGS"])["tasks"]
    assert task["startedBy"] == run.id
    assert {"key": "run", "value": run.id} in task["tags"]
    secret = secrets.get_secret_value(SecretId=f"omakase/run-token/{run.id}")
    definition = ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])
    [container] = definition["taskDefinition"]["containerDefinitions"]
    assert container["secrets"] == [{"name": "OMAKASE_TOKEN", "valueFrom": secret["ARN"]}]
    assert "t0ken" not in json.dumps(task["overrides"])

    ended = run.model_copy(update={"handle": started.handle})
    assert runtime.describe([started.handle])[started.handle].running
    assert runtime.settle([ended], overdue=[]) == {}
    runtime.stop(started.handle, grace_s=10, reason="Omakase: enough")
    assert not runtime.describe([started.handle])[started.handle].running
    assert run.id in runtime.settle([ended], overdue=[])
    # an account that moto already had for another test of this process keeps that one's secrets
    left = [secret["Name"] for secret in secrets.list_secrets()["SecretList"]]
    assert not [name for name in left if run.id in name]
    assert run.id in runtime.settle([ended], overdue=[]), "again is harmless"


def test_of_a_task_that_is_in_no_answer_nothing_is_known(runtime: EcsRuntime) -> None:
    arn = f"arn:aws:ecs:{REGION}:123456789012:task/agents/{'0' * 32}"
    assert runtime.describe([arn]) == {}, "moto leaves out the failure MISSING that ECS sends"


def test_a_task_whose_handle_nobody_has_is_found_by_its_run(runtime: EcsRuntime) -> None:
    run = new_run()
    started = runtime.start(run, token="t0ken", env=ENV)
    assert runtime.settle([run], overdue=[run.id]) == {}
    assert not runtime.describe([started.handle])[started.handle].running


def test_a_cluster_that_is_not_there_is_waited_for(
    account: Callable[[str], Any], runtime: EcsRuntime
) -> None:
    place = replace(runtime._place, cluster="elsewhere")
    runtime = EcsRuntime(account("ecs"), account("secretsmanager"), place)
    with pytest.raises(Unavailable, match="cluster"):
        runtime.start(new_run(), token="t0ken", env=ENV)


def test_events_are_read_deleted_and_what_cannot_be_read_goes_to_the_dead(
    account: Callable[[str], Any],
) -> None:
    sqs = account("sqs")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]
    redrive = {"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 2}
    url = sqs.create_queue(
        QueueName="events",
        Attributes={"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "0"},
    )["QueueUrl"]
    run_id = new_id("run")
    detail = {"startedBy": run_id, "taskArn": "arn:task", "version": 3, "lastStatus": "STOPPED"}
    event = {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": detail}
    sqs.send_message(QueueUrl=url, MessageBody="not an event")
    events = TaskEvents(sqs, url)
    assert events.receive() == []
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "30"})
    [hint] = events.receive()
    assert (hint.run_id, hint.handle, hint.version) == (run_id, "arn:task", 3)
    events.done([hint])
    count = sqs.get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
    )["Attributes"]
    assert count["ApproximateNumberOfMessagesNotVisible"] == "0"
    [left] = sqs.receive_message(QueueUrl=dead)["Messages"]
    assert left["Body"] == "not an event"


def test_a_run_that_comes_back_from_hold_gets_another_task_with_the_same_secret(
    account: Callable[[str], Any], runtime: EcsRuntime
) -> None:
    ecs, secrets = account("ecs"), account("secretsmanager")
    run = new_run()
    first = runtime.start(run, token="t0ken", env=ENV).handle
    before = secrets.get_secret_value(SecretId=f"omakase/run-token/{run.id}")
    runtime.stop(first, grace_s=10, reason="Omakase: the run is on hold")

    again = run.model_copy(update={"generation": 1})
    second = runtime.start(again, token="t0ken", env=ENV | {"OMAKASE_GENERATION": "1"}).handle

    assert second != first
    states = runtime.describe([first, second])
    assert (states[first].running, states[second].running) == (False, True)
    after = secrets.get_secret_value(SecretId=f"omakase/run-token/{run.id}")
    assert (after["ARN"], after["SecretString"]) == (before["ARN"], "t0ken")
    [task] = ecs.describe_tasks(cluster="agents", tasks=[second])["tasks"]
    definition = ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])
    [container] = definition["taskDefinition"]["containerDefinitions"]
    assert container["secrets"] == [{"name": "OMAKASE_TOKEN", "valueFrom": after["ARN"]}]
    runtime.stop(second, grace_s=10)
    ended = again.model_copy(update={"handle": second})
    assert run.id in runtime.settle([ended], overdue=[])
    left = [secret["Name"] for secret in secrets.list_secrets()["SecretList"]]
    assert not [name for name in left if run.id in name]
