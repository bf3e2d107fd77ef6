"""The CloudFormation template on moto, as far as moto goes.

What moto cannot make is stripped by a list with reasons; secrets, which its CloudFormation does not know but
its Secrets Manager does, are made by their own API from what the template says of them.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import redis
from cfnlint.decode import cfn_yaml

from chat.adapters import embedded_redis

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "infra" / "cloudformation.yaml"
REGION = "us-east-1"
STACK = "omakase"

STRIPPED = {
    "AWS::MemoryDB::": "moto 5.2 makes none of its resources by CloudFormation",
    "AWS::ElastiCache::": "the same",
    "AWS::ServiceDiscovery::": "the same",
    "AWS::ApplicationAutoScaling::": "the same",
    "AWS::SQS::QueuePolicy": "the same; its words are read by test_permissions",
    "AWS::SecretsManager::": "the same; `secrets` makes them by their own API",
}
STANDING_IN = {
    "${Cache.PrimaryEndPoint.Address}": "cache.test",
    "${Cache.PrimaryEndPoint.Port}": "6379",
    "${MemoryDb.ClusterEndpoint.Address}": "log.test",
}
"""What the rest takes from those, as it would be filled in."""


def read() -> dict[str, Any]:
    """The template with `!Ref x` as {"Ref": "x"} and so on, in ordinary dicts and lists."""
    loaded: dict[str, Any] = json.loads(json.dumps(cfn_yaml.load(str(TEMPLATE)), default=str))
    return loaded


def secrets(template: dict[str, Any]) -> dict[str, str]:
    """Make the template's secrets; logical name -> ARN."""
    client = boto3.client("secretsmanager", REGION)
    values: dict[str, str] = {}
    arns = {}
    found = {
        name: one["Properties"]
        for name, one in template["Resources"].items()
        if one["Type"] == "AWS::SecretsManager::Secret"
    }
    # those that are generated first: the others hold them
    for name, one in sorted(found.items(), key=lambda item: "SecretString" in item[1]):
        if "GenerateSecretString" in one:
            values[name] = client.get_random_password(**one["GenerateSecretString"])[
                "RandomPassword"
            ]
        else:
            text = one["SecretString"]
            text = text["Fn::If"][1]["Fn::Sub"] if "Fn::If" in text else text["Fn::Sub"]
            for reference, value in STANDING_IN.items():
                text = text.replace(reference, value)
            for other, value in values.items():
                text = text.replace(f"{{{{resolve:secretsmanager:${{{other}}}}}}}", value)
            values[name] = text
        own = one["Name"]["Fn::Sub"].replace("${AWS::StackName}", STACK)
        arns[name] = client.create_secret(Name=own, SecretString=values[name])["ARN"]
    return arns


def stripped(template: dict[str, Any], arns: dict[str, str]) -> str:
    """The template's body without what moto cannot make."""
    text = json.dumps(template)
    for name, arn in arns.items():
        text = text.replace(json.dumps({"Ref": name}), json.dumps(arn))
    left: dict[str, Any] = json.loads(text)
    for name, resource in list(left["Resources"].items()):
        if resource["Type"].startswith(tuple(STRIPPED)):
            del left["Resources"][name]
        elif resource["Type"] == "AWS::ECS::TaskDefinition":
            # moto's RunTask adds up the containers' own memory; Fargate takes the task's
            for container in resource["Properties"]["ContainerDefinitions"]:
                container["Memory"] = 512
    left["Resources"]["WebService"]["Properties"].pop("ServiceRegistries")  # of Cloud Map
    return json.dumps(left)


def deploy(template: dict[str, Any]) -> dict[str, str]:
    """Deploy it (inside mock_aws); logical name -> physical id."""
    ec2 = boto3.client("ec2", REGION)
    subnets = ",".join(one["SubnetId"] for one in ec2.describe_subnets()["Subnets"][:2])
    certificate = boto3.client("acm", REGION).request_certificate(DomainName="o.example.com")
    given = {
        "VpcId": ec2.describe_vpcs()["Vpcs"][0]["VpcId"],
        "TaskSubnetIds": subnets,
        "LoadBalancerSubnetIds": subnets,
        "PeopleCidr": "203.0.113.0/24",
        "PublicUrl": "https://o.example.com",
        "CertificateArn": certificate["CertificateArn"],
        "AppImage": "omakase:1",
        "AgentImage": "omakase-agent:1",
        "Flower": "on",
    }
    client = boto3.client("cloudformation", REGION)
    client.create_stack(
        StackName=STACK,
        TemplateBody=stripped(template, secrets(template)),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    found = client.describe_stack_resources(StackName=STACK)["StackResources"]
    return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}


@dataclass(frozen=True)
class Node:
    """A Redis as MemoryDB is: one node in cluster mode. `url` is of the template's own user."""

    url: str
    admin: str


@contextmanager
def memorydb(folder: Path, template: dict[str, Any]) -> Iterator[Node]:
    """Start one, with the user of the template and what it may do."""
    user = template["Resources"]["MemoryDbUser"]["Properties"]
    port = embedded_redis.free_port()
    command = embedded_redis.command(folder, port, "everysec")
    process = subprocess.Popen([*command, "--cluster-enabled", "yes"])
    try:
        with redis.Redis(port=port) as client:
            _until(lambda: _answers(client))
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            _until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
            allowed = user["AccessString"].split()
            client.execute_command("ACL", "SETUSER", user["UserName"], ">word", *allowed)
        address = f"127.0.0.1:{port}/0"
        yield Node(f"redis://{user['UserName']}:word@{address}", f"redis://{address}")
    finally:
        process.terminate()
        process.wait(10)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _until(true: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
