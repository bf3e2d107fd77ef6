"""infra/cloudformation.yaml: lint, what it makes on moto, and that it fits the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.cloudformation.parsing import resource_class_from_type
from supervisor import services_of

from chat.adapters.dynamodb_tables import create_tables
from chat.adapters.ecs_setup import EcsParts
from chat.roles import ROLES as SHIPPED
from chat.runs import Role, Run
from chat.settings import Settings, load_settings
from tests.deploying import STRIPPED

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "infra" / "cloudformation.yaml"
REGION = "us-east-1"
BODY_MAX_BYTES = 51_200
"""Of a template that is sent and not put into a bucket first (CreateStack, TemplateBody)."""
ROLES = ("architect", "coder", "reviewer", "tester")

NOT_OURS = {
    "GUNICORN_CMD_ARGS": "gunicorn reads it itself",
    "ANTHROPIC_API_KEY": "Claude Code reads it",
    "OMAKASE_ROLE": "for the agent's own use",
}


@pytest.mark.slow
def test_cfn_lint_finds_nothing():
    # in a process of its own, as people run it; -i I: what is only advice is not asked for
    program = Path(sys.executable).with_name("cfn-lint")
    lint = [str(program), "-i", "I", "--regions", REGION, "--", str(TEMPLATE)]

    found = subprocess.run(lint, capture_output=True, text=True, check=False)

    assert (found.stdout, found.returncode) == ("", 0), found.stderr


def test_the_template_is_small_enough_to_be_sent_without_a_bucket():
    assert TEMPLATE.stat().st_size <= BODY_MAX_BYTES


def test_no_yaml_aliases_which_cloudformation_refuses():
    text = re.sub(r"#.*|\"[^\"]*\"", "", TEMPLATE.read_text())

    assert re.findall(r"(?:[:-] )[&*]\w+", text) == []


# --- the tables -----------------------------------------------------------------------------------


def shape(client: Any, table: str) -> dict[str, Any]:
    """What the code relies on: keys, their types, indexes and what those hold, how it is paid."""
    found = client.describe_table(TableName=table)["Table"]
    used = {key["AttributeName"] for key in found["KeySchema"]}
    indexes = {}
    for index in found.get("GlobalSecondaryIndexes", []):
        used |= {key["AttributeName"] for key in index["KeySchema"]}
        indexes[index["IndexName"]] = {
            "keys": index["KeySchema"],
            "type": index["Projection"]["ProjectionType"],
            "more": sorted(index["Projection"].get("NonKeyAttributes", [])),
        }
    return {
        "keys": found["KeySchema"],
        "types": {
            one["AttributeName"]: one["AttributeType"] for one in found["AttributeDefinitions"]
        },
        "unused": sorted({one["AttributeName"] for one in found["AttributeDefinitions"]} - used),
        "indexes": indexes,
        "billing": found["BillingModeSummary"]["BillingMode"],
    }


def test_the_tables_are_those_that_the_code_creates(stack: dict[str, str]):
    client = boto3.client("dynamodb", REGION)
    create_tables(client, "made-by-code-")
    every = client.list_tables()["TableNames"]
    by_code = {
        name.removeprefix("made-by-code-"): shape(client, name)
        for name in every
        if name.startswith("made-by-code-")
    }
    by_template = {
        name.removeprefix("omakase-"): shape(client, name)
        for name in every
        if name.startswith("omakase-")
    }

    assert len(by_code) == 4
    assert by_template == by_code


def test_the_codes_own_table_command_finds_nothing_left_to_do(stack: dict[str, str]):
    client = boto3.client("dynamodb", REGION)
    before = {name: shape(client, name) for name in client.list_tables()["TableNames"]}

    create_tables(client, "omakase-")

    assert {name: shape(client, name) for name in client.list_tables()["TableNames"]} == before


def test_tables_outlive_the_stack(template: dict[str, Any]):
    tables = [
        one for one in template["Resources"].values() if one["Type"] == "AWS::DynamoDB::Table"
    ]

    assert len(tables) == 4
    assert {one["DeletionPolicy"] for one in tables} == {"Retain"}
    assert {one["UpdateReplacePolicy"] for one in tables} == {"Retain"}


# --- on moto --------------------------------------------------------------------------------------


def test_moto_makes_every_resource_that_was_not_stripped(
    stack: dict[str, str], template: dict[str, Any]
):
    made = {
        name
        for name, one in template["Resources"].items()
        if not one["Type"].startswith(tuple(STRIPPED))
    }
    assert set(stack) == made
    assert len(stack) >= 35


@pytest.mark.parametrize("name", STRIPPED)
def test_what_is_stripped_is_what_moto_does_not_know(template: dict[str, Any], name: str):
    """Once moto learns one of them it is deployed like the rest."""
    types = {one["Type"] for one in template["Resources"].values() if one["Type"].startswith(name)}

    assert types
    for one in types:
        assert resource_class_from_type(one) is None


def test_events_of_the_agents_cluster_reach_the_queue(
    stack: dict[str, str], template: dict[str, Any]
):
    events, sqs = boto3.client("events", REGION), boto3.client("sqs", REGION)
    rule = events.describe_rule(Name=stack["TaskStateRule"].rpartition("/")[2])
    cluster = boto3.client("ecs", REGION).describe_clusters(clusters=["omakase-agents"])
    targets = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    names = ["QueueArn", "RedrivePolicy"]
    queue = sqs.get_queue_attributes(QueueUrl=stack["TaskEvents"], AttributeNames=names)
    dead = sqs.get_queue_attributes(QueueUrl=stack["DeadTaskEvents"], AttributeNames=["QueueArn"])

    assert json.loads(rule["EventPattern"]) == {
        "source": ["aws.ecs"],
        "detail-type": ["ECS Task State Change"],
        "detail": {"clusterArn": [cluster["clusters"][0]["clusterArn"]]},
    }
    assert [one["Arn"] for one in targets] == [queue["Attributes"]["QueueArn"]]
    redrive = json.loads(queue["Attributes"]["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == dead["Attributes"]["QueueArn"]


@pytest.mark.parametrize("role", ROLES)
def test_a_task_can_be_started_for_each_role_and_no_secret_is_in_its_definition(
    stack: dict[str, str], role: str
):
    ecs = boto3.client("ecs", REGION)
    definition = ecs.describe_task_definition(taskDefinition=f"omakase-agent-{role}")
    container = definition["taskDefinition"]["containerDefinitions"][0]

    assert container["name"] == "agent"
    assert container["linuxParameters"]["initProcessEnabled"] is True
    assert container["environment"] == [{"name": "OMAKASE_ROLE", "value": role}]
    assert (ROOT / "infra" / "agent" / "roles" / f"{role}.md").exists()


@pytest.mark.parametrize("role", ROLES)
def test_a_roles_size_is_agents_tomls_and_its_command_is_said_there_alone(
    template: dict[str, Any], role: str
):
    found = template["Resources"][f"{role.title()}Task"]["Properties"]
    said = SHIPPED.role[Role(role)]

    assert (found["Cpu"], found["Memory"]) == (said.cpu, said.memory_mib)
    assert "Command" not in found["ContainerDefinitions"][0]
    assert "/opt/omakase/roles/{role}.md" in " ".join(SHIPPED.command(Role(role), "ecs"))
    assert not {
        name
        for name in template["Parameters"]
        if re.match(f"{role}(Cpu|Memory)", name, re.IGNORECASE)
    }


def test_the_load_balancer_asks_whether_the_web_is_ready(stack: dict[str, str]):
    client = boto3.client("elbv2", REGION)
    group = client.describe_target_groups(TargetGroupArns=[stack["WebTargets"]])["TargetGroups"][0]
    listeners = client.describe_listeners(LoadBalancerArn=stack["LoadBalancer"])["Listeners"]

    assert group["HealthCheckPath"] == "/readyz"
    assert {(one["Port"], one["Protocol"]) for one in listeners} == {(443, "HTTPS"), (80, "HTTP")}


def test_the_load_balancer_keeps_a_connection_longer_than_we_are_silent_and_shorter_than_gunicorn(
    template: dict[str, Any], tmp_path: Path
):
    attributes = template["Resources"]["LoadBalancer"]["Properties"]["LoadBalancerAttributes"]
    idle_s = int({one["Key"]: one["Value"] for one in attributes}["idle_timeout.timeout_seconds"])
    given = {one["Name"]: one["Value"] for one in containers(template)["web"]["Environment"]}
    show = ["-m", "gunicorn", "-c", "web/gunicorn.conf.py", "--print-config", "web:create_app()"]

    printed = subprocess.run(
        [sys.executable, *show], cwd=ROOT, capture_output=True, text=True, check=True,
        env={
            "GUNICORN_CMD_ARGS": given["GUNICORN_CMD_ARGS"], "SECRET_KEY": "s" * 32,
            "STATE_DIR": str(tmp_path),
        },
    ).stdout  # fmt: skip

    keeps = re.search(r"^keepalive\s+= (\d+)$", printed, re.MULTILINE)
    assert keeps is not None
    longest_s = max(15, Settings.model_fields["long_poll_max_s"].default)
    assert longest_s < idle_s < int(keeps[1])


def test_agents_reach_the_web_and_nothing_else_of_ours(stack: dict[str, str]):
    groups = {
        one["GroupId"]: one
        for one in boto3.client("ec2", REGION).describe_security_groups()["SecurityGroups"]
    }

    def lets_in(name: str) -> set[str]:
        rules = groups[stack[name]]["IpPermissions"]
        return {pair["GroupId"] for rule in rules for pair in rule["UserIdGroupPairs"]}

    assert lets_in("WebGroup") == {stack["LoadBalancerGroup"], stack["AgentGroup"]}
    assert lets_in("RedisGroup") == {stack["WebGroup"], stack["WorkerGroup"]}
    for name in ("AgentGroup", "WorkerGroup"):
        assert groups[stack[name]]["IpPermissions"] == []
    open_to = [
        ip["CidrIp"]
        for name in stack
        if name.endswith("Group") and stack[name] in groups
        for rule in groups[stack[name]]["IpPermissions"]
        for ip in rule["IpRanges"]
    ]
    assert set(open_to) == {"203.0.113.0/24"}


# --- settings and commands ------------------------------------------------------------------------


def containers(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The containers of ours, by name; the four agents' as agent-architect and so on."""
    found = {}
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::ECS::TaskDefinition":
            for one in resource["Properties"]["ContainerDefinitions"]:
                own = f"agent-{name}" if one["Name"] == "agent" else one["Name"]
                found[own] = one
    return found


def variables(container: dict[str, Any]) -> set[str]:
    named = {one["Name"] for one in container.get("Environment", [])}
    secrets = container.get("Secrets", [])
    if isinstance(secrets, dict):
        secrets = secrets["Fn::If"][1]
    return named | {one["Name"] for one in secrets}


def test_every_variable_is_a_documented_setting_or_named_here_with_its_reason(
    template: dict[str, Any],
):
    documented = set(
        re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    )
    passed = {name for one in containers(template).values() for name in variables(one)}

    assert passed - documented == set(NOT_OURS)


@pytest.mark.parametrize("name", ["web", "worker", "beat", "flower"])
def test_the_deployed_settings_are_taken(stack: dict[str, str], name: str, tmp_path: Path):
    definition = boto3.client("ecs", REGION).describe_task_definition(
        taskDefinition=f"omakase-{name}"
    )
    container = definition["taskDefinition"]["containerDefinitions"][0]
    secrets = boto3.client("secretsmanager", REGION)
    environ = {one["name"]: one["value"] for one in container["environment"]}
    for one in container["secrets"]:
        environ[one["name"]] = secrets.get_secret_value(SecretId=one["valueFrom"])["SecretString"]

    settings = load_settings(environ | {"STATE_DIR": str(tmp_path)})

    assert settings.dynamodb is not None
    assert (settings.dynamodb.prefix, settings.dynamodb.region) == ("omakase-", REGION)
    assert settings.redis_url.startswith("rediss://omakase:")
    assert "@log.test:6379" in settings.redis_url
    assert settings.broker_url.endswith("@cache.test:6379/0?ssl_cert_reqs=required")
    assert len(settings.secret_key) == 64
    assert settings.agent_url == "http://web.omakase.internal:8000"
    assert settings.local_sign_in is (name == "web")
    assert set(settings.local_sign_in_from) == {"127.0.0.1/32", "::1/128"} or name != "web"


@pytest.mark.parametrize("name", ["worker", "beat", "flower"])
def test_the_commands_are_the_procfiles_own(template: dict[str, Any], name: str):
    assert containers(template)[name]["Command"] == [
        "sh", "-c", f"exec {services_of(ROOT / 'Procfile')[name]}",
    ]  # fmt: skip


def test_people_who_come_in_by_exec_may_read_the_files_of_the_containers_user(
    template: dict[str, Any],
):
    """Exec is root, and root without DAC_OVERRIDE cannot read a run's 0600 files. The nudge need not."""
    dropped = {
        name: one["LinuxParameters"]["Capabilities"]["Drop"]
        for name, one in containers(template).items()
    }

    for name, capabilities in dropped.items():
        assert (capabilities == ["ALL"]) is (name in {"worker", "beat"})
        assert "NET_RAW" in capabilities or capabilities == ["ALL"]
        assert "DAC_OVERRIDE" not in capabilities


def test_the_runtime_starts_finds_and_stops_a_task_by_what_the_template_gives_it(
    stack: dict[str, str], tmp_path: Path
):
    definition = boto3.client("ecs", REGION).describe_task_definition(
        taskDefinition="omakase-worker"
    )
    container = definition["taskDefinition"]["containerDefinitions"][0]
    environ = {one["name"]: one["value"] for one in container["environment"]}
    settings = load_settings(environ | {"STATE_DIR": str(tmp_path), "SECRET_KEY": "s" * 32})
    parts = EcsParts(settings)
    run = Run(
        id="run_" + "a" * 26, project_id="prj_" + "a" * 26, feature_id="ftr_" + "a" * 26,
        agent_id="nori", agent_name="Nori", role=Role.CODER, start="launch",
        created_at="2026-11-22T09:33:00.000Z",
    )  # fmt: skip

    started = parts.runtime().start(run, token="a-token", env={"OMAKASE_RUN_ID": run.id})

    assert "/omakase-agents/" in started.handle
    assert started.log_group == "/omakase/agents"
    said = SHIPPED.role[Role.CODER]
    assert (started.cpu, started.memory_mib) == (said.cpu, said.memory_mib)
    assert parts.runtime().describe([started.handle])[started.handle].running
    secret = boto3.client("secretsmanager", REGION).get_secret_value(
        SecretId=f"omakase/run-token/{run.id}"
    )
    assert secret["SecretString"] == "a-token"
    events = parts.events()
    assert events is not None
    assert events.receive() == []
    parts.runtime().stop(started.handle, grace_s=1)


def test_there_are_never_two_beats(template: dict[str, Any]):
    service = template["Resources"]["BeatService"]["Properties"]

    assert service["DesiredCount"] == 1
    assert service["DeploymentConfiguration"]["MaximumPercent"] == 100


def test_without_memorydb_both_redis_addresses_are_the_caches(template: dict[str, Any]):
    durable, otherwise = template["Resources"]["RedisUrl"]["Properties"]["SecretString"]["Fn::If"][
        1:
    ]

    assert "MemoryDb" in durable["Fn::Sub"]
    assert "Cache" in otherwise["Fn::Sub"]
    for url in (durable, otherwise):
        assert url["Fn::Sub"].startswith("rediss://")
