"""The roles against the calls: what the code asks of AWS it may, and what it may it asks for.

The code's side is read from its syntax: every call of a method that is named like an operation of a
service for which some module opens a boto3 client, paginators and waiters included. It finds too much
rather than too little (`x.query` is also ours), which harms nothing: the tables below say what is meant.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import UnknownServiceError

ROOT = Path(__file__).parents[2]

UNDER_ANOTHER_NAME = {
    "sqs:DeleteMessageBatch": {"sqs:DeleteMessage"},
    "sqs:SendMessageBatch": {"sqs:SendMessage"},
    "sqs:ChangeMessageVisibilityBatch": {"sqs:ChangeMessageVisibility"},
    "dynamodb:TransactGetItems": {"dynamodb:GetItem"},
    "dynamodb:TransactWriteItems": {
        "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem",
        "dynamodb:ConditionCheckItem",
    },
    # with tags and roles, as a run's task has them
    "ecs:RunTask": {"ecs:RunTask", "ecs:TagResource", "iam:PassRole"},
}  # fmt: skip
NOT_GRANTED = {
    "dynamodb:UpdateTable": "adds an index that a table lacks; the template makes all of them",
}
EXEC = {
    "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
}  # fmt: skip
KNOW_NO_RESOURCES = EXEC | {
    "ecr:GetAuthorizationToken", "ecs:DeregisterTaskDefinition", "ecs:DescribeTaskDefinition",
    "ecs:ListTasks",
}  # fmt: skip


SERVICES = set(botocore.session.get_session().get_available_services())


# --- what the code asks ---------------------------------------------------------------------------


def calls(source: str, services: set[str]) -> set[str]:
    """The IAM actions of the calls in a module's source."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        given = [one.value for one in node.args if isinstance(one, ast.Constant)]
        if name in {"get_paginator", "get_waiter"} and given:
            name = str(given[0])
        found |= {action for service in services for action in operations(service).get(name, ())}
        # passed on and called later: with_retries(client.run_task, ...)
        for one in node.args:
            if isinstance(one, ast.Attribute):
                found |= {a for service in services for a in operations(service).get(one.attr, ())}
    return {other for action in found for other in UNDER_ANOTHER_NAME.get(action, {action})}


@cache
def operations(service: str) -> dict[str, tuple[str, ...]]:
    """Method or waiter -> actions, from botocore's own description of the service."""
    session = botocore.session.get_session()
    model = session.get_service_model(service)
    named = {xform_name(name): (f"{model.signing_name}:{name}",) for name in model.operation_names}
    try:
        waiters = session.get_waiter_model(service)
    except UnknownServiceError:  # it has none
        return named
    for name in waiters.waiter_names:
        action = waiters.get_waiter(name).operation
        named[xform_name(name)] = (f"{model.signing_name}:{action}",)
    return named


def opened(source: str) -> set[str]:
    """The services that a module opens a client for: boto3.client("ecs", ...).

    Where the name is a variable, every service that the module names counts.
    """
    tree = ast.parse(source)
    words = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"client", "resource"}
            and node.args
        ):
            name = node.args[0]
            found |= {str(name.value)} if isinstance(name, ast.Constant) else words & SERVICES
    return found & SERVICES


def sources() -> Iterator[str]:
    for package in ("chat", "workers", "web"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.read_text()


@pytest.fixture(scope="module")
def asked() -> set[str]:
    every = list(sources())
    services = {service for source in every for service in opened(source)}
    assert {"dynamodb", "ecs"} <= services
    return {action for source in every for action in calls(source, services)}


def test_the_scan_finds_calls_paginators_waiters_and_functions_passed_on():
    source = """
client = boto3.client("ecs", region_name=r)
client.run_task(cluster=c)
client.get_paginator("list_tasks")
client.get_waiter("tasks_stopped").wait(cluster=c)
retried(client.stop_task, cluster=c)
"""
    assert opened(source) == {"ecs"}
    assert opened('[boto3.client(name) for name in ("ecs", "sqs", "agent")]') == {"ecs", "sqs"}
    assert calls(source, {"ecs"}) == {
        "ecs:RunTask", "ecs:TagResource", "iam:PassRole", "ecs:ListTasks", "ecs:DescribeTasks", "ecs:StopTask",
    }  # fmt: skip
    assert calls("client.delete_message_batch(Entries=e)", {"sqs"}) == {"sqs:DeleteMessage"}


# --- what the template grants ---------------------------------------------------------------------


def statements(
    template: dict[str, Any], role: str, *, on: frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    """What a role may, where the conditions in `on` hold and no others do."""
    resources = template["Resources"]
    properties = resources[role]["Properties"]
    attached = [chosen(one, on) for one in properties.get("ManagedPolicyArns", [])]
    managed = [
        resources[one["Ref"]]["Properties"] for one in attached if one["Ref"] != "AWS::NoValue"
    ]
    documents = [one["PolicyDocument"] for one in [*properties.get("Policies", []), *managed]]
    return [one for document in documents for one in document["Statement"]]


def chosen(value: dict[str, Any], on: frozenset[str]) -> dict[str, Any]:
    """The branch of an !If that is taken, or the value itself."""
    if "Fn::If" not in value:
        return value
    condition, then, otherwise = value["Fn::If"]
    branch: dict[str, Any] = then if condition in on else otherwise
    return branch


def granted(template: dict[str, Any], role: str, *, on: frozenset[str] = frozenset()) -> set[str]:
    actions = [one["Action"] for one in statements(template, role, on=on)]
    return {one for given in actions for one in ([given] if isinstance(given, str) else given)}


def test_the_workers_may_do_what_the_code_asks_and_nothing_else(
    template: dict[str, Any], asked: set[str]
):
    may = granted(template, "WorkerTaskRole")

    assert asked - may == set(NOT_GRANTED)
    assert may - asked == set()


def test_the_web_may_use_the_store_and_its_tunnel(template: dict[str, Any], asked: set[str]):
    may = granted(template, "WebTaskRole")
    store = {action for action in asked if action.startswith("dynamodb:")}

    assert may - EXEC == store - set(NOT_GRANTED)
    assert may >= EXEC


TERMINAL_ON = frozenset({"TerminalOn"})


def test_the_web_may_enter_agents_tasks_only_where_terminals_are_switched_on(
    template: dict[str, Any], asked: set[str]
):
    more = granted(template, "WebTaskRole", on=TERMINAL_ON) - granted(template, "WebTaskRole")

    assert template["Parameters"]["ExecTerminal"]["Default"] == "off"
    assert template["Conditions"]["TerminalOn"] == {"Fn::Equals": [{"Ref": "ExecTerminal"}, "on"]}
    source = (ROOT / "chat" / "adapters" / "ecs_exec.py").read_text()
    assert more == calls(source, {"ecs"}) == {"ecs:ExecuteCommand", "ecs:DescribeTasks"}
    assert more <= asked
    by_sid = {one.get("Sid"): one for one in statements(template, "WebTaskRole", on=TERMINAL_ON)}
    assert by_sid["Nudge"]["Condition"] == {"StringEquals": {"ecs:container-name": "agent"}}
    assert by_sid["Nudge"]["Resource"][0] == {"Fn::GetAtt": ["AgentCluster", "Arn"]}
    for one in (by_sid["Nudge"]["Resource"][1], by_sid["Look"]["Resource"]):
        assert one["Fn::Sub"].endswith(":task/${AgentCluster}/*")


def test_an_agents_own_role_opens_its_exec_channel_and_nothing_else(template: dict[str, Any]):
    assert granted(template, "AgentTaskRole") == EXEC
    assert granted(template, "FlowerTaskRole") == EXEC


def test_what_starts_an_agent_pulls_logs_and_reads_run_tokens_of_this_stack(
    template: dict[str, Any],
):
    assert granted(template, "AgentExecutionRole") == {
        "ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer", "logs:CreateLogStream", "logs:PutLogEvents",
        "secretsmanager:GetSecretValue",
    }  # fmt: skip
    reads = [
        one for one in statements(template, "AgentExecutionRole")
        if one["Action"] == "secretsmanager:GetSecretValue"
    ]  # fmt: skip
    assert [str(one["Resource"]).count("run-token/*") for one in reads] == [1]


ROLES = ["WebTaskRole", "WorkerTaskRole", "FlowerTaskRole", "AgentTaskRole", "AgentExecutionRole", "AppExecutionRole"]  # fmt: skip


def test_every_role_of_the_template_is_looked_at(template: dict[str, Any]):
    types = {name: one["Type"] for name, one in template["Resources"].items()}

    assert {name for name, kind in types.items() if kind == "AWS::IAM::Role"} == set(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_no_wildcard_stands_where_aws_knows_a_resource(template: dict[str, Any], role: str):
    for statement in statements(template, role):
        actions = statement["Action"]
        actions = {actions} if isinstance(actions, str) else set(actions)
        assert not any(fnmatchcase(action, "*[*]*") for action in actions)
        if statement["Resource"] == "*":
            assert actions <= KNOW_NO_RESOURCES


def test_workers_run_stop_and_enter_agents_tasks_only(template: dict[str, Any]):
    by_sid = {one.get("Sid"): one for one in statements(template, "WorkerTaskRole")}
    cluster = {"Fn::GetAtt": ["AgentCluster", "Arn"]}

    assert by_sid["Start"]["Condition"] == {"ArnEquals": {"ecs:cluster": cluster}}
    assert by_sid["Find"]["Condition"] == by_sid["Start"]["Condition"]
    assert "${AWS::StackName}-agent-*" in by_sid["Start"]["Resource"]["Fn::Sub"]
    for sid in ("LookAndStop", "Tag"):
        assert by_sid[sid]["Resource"]["Fn::Sub"].endswith(":task/${AgentCluster}/*")
    assert by_sid["Nudge"]["Resource"][0] == cluster
    assert by_sid["Nudge"]["Condition"] == {"StringEquals": {"ecs:container-name": "agent"}}


def test_workers_hand_on_the_agents_two_roles_and_to_tasks_only(template: dict[str, Any]):
    by_sid = {one.get("Sid"): one for one in statements(template, "WorkerTaskRole")}

    assert by_sid["AgentsRolesOnly"]["Resource"] == [
        {"Fn::GetAtt": ["AgentTaskRole", "Arn"]}, {"Fn::GetAtt": ["AgentExecutionRole", "Arn"]},
    ]  # fmt: skip
    passed_to = by_sid["AgentsRolesOnly"]["Condition"]["StringEquals"]["iam:PassedToService"]
    assert passed_to == "ecs-tasks.amazonaws.com"


def test_only_the_rule_may_write_to_the_queue(template: dict[str, Any]):
    (statement,) = template["Resources"]["TaskEventsPolicy"]["Properties"]["PolicyDocument"][
        "Statement"
    ]

    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["TaskStateRule", "Arn"]}}
    }
