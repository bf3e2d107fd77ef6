"""ECS, Secrets Manager and SQS behind one loopback endpoint, as far as Omakase speaks with them.

Not moto, since what matters here is what moto leaves out: client tokens, conflicts, tasks that stand still
until the test moves them, versions and events, eventual consistency, and faults on the wire below boto3.

FakeAws()            a server on a free port; `url` for `endpoint_url` or AWS_ENDPOINT_URL
aws.faults           Fault(action, how, times): what goes wrong next
aws.move(arn, …)     a task's next state, with its event in the queue
"""

# ruff: noqa: N802 - actions have the names that AWS gives them
from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests import bad_wire

REGION = "eu-central-1"
ACCOUNT = "123456789012"
KEYS = {"aws_access_key_id": "for", "aws_secret_access_key": "tests"}
ENVIRON = {
    "AWS_ACCESS_KEY_ID": "for",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": REGION,
}
CLUSTER = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/agents"
Answer = dict[str, Any]


class Refused(Exception):
    """An AWS error: its code, HTTP status and what else is in it."""

    def __init__(self, code: str, message: str = "", status: int = 400, **more: Any) -> None:
        super().__init__(code)
        self.code, self.message, self.status, self.more = code, message, status, more


@dataclass
class Fault:
    """What goes wrong with `action`. `how`: a Refused, or one of tests/bad_wire.py."""

    action: str
    how: Refused | str
    times: int = 1


@dataclass
class FakeAws:
    """The state of an account; every call is one atomic step."""

    faults: list[Fault] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, Answer] = field(default_factory=dict)
    by_token: dict[str, tuple[str, str]] = field(default_factory=dict)
    definitions: dict[str, list[Answer]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    messages: list[Answer] = field(default_factory=list)
    """Of the queue: Body, MessageId, receipts, and until when it is invisible."""
    dead: list[Answer] = field(default_factory=list)
    refused_reason: str | None = None
    """The `failures[].reason` that RunTask answers with."""
    unseen: int = 0
    """How many more DescribeTasks do not yet see any task (eventual consistency)."""
    stopped: list[tuple[str, str]] = field(default_factory=list)
    on_stop: Callable[[str], None] | None = None
    on_exec: Callable[[Answer], Answer] | None = None
    """Opens the session that ExecuteCommand asks for; without it the task's exec agent is not there."""
    visibility_s: float = 0.0
    receptions_max: int = 5

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._open = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                fake._serve(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.queue_url = f"{self.url}/{ACCOUNT}/task-events"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._open.set()  # whoever hangs goes on
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    # --- what the test does -----------------------------------------------------------------------

    def define(self, family: str, **more: Any) -> None:
        """A role's task definition, as the template makes it."""
        logs = {"awslogs-group": "/omakase/agents", "awslogs-stream-prefix": "coder"}
        container = {
            "name": "agent",
            "image": "agent:1",
            "essential": True,
            "secrets": [{"name": "ANTHROPIC_API_KEY", "valueFrom": "arn:model"}],
            "logConfiguration": {"logDriver": "awslogs", "options": logs},
        }
        self.do_RegisterTaskDefinition(
            {"family": family, "containerDefinitions": [container], "cpu": "256"} | more
        )

    def move(self, arn: str, status: str, *, event: bool = True, **more: Any) -> None:
        """The task's next state; `stop_code`, `reason`, `exit_code`, `detail` when it has stopped."""
        with self._lock:
            task = self.tasks[arn]
            task["lastStatus"], task["version"] = status, task["version"] + 1
            if status == "RUNNING":
                task.setdefault("startedAt", time.time())
            if status == "STOPPED":
                task["desiredStatus"] = "STOPPED"
                task.setdefault("stopCode", more.get("stop_code", "EssentialContainerExited"))
                task.setdefault("stoppedReason", more.get("reason", ""))
                own = task["containers"][0]
                if more.get("exit_code") is not None:
                    own["exitCode"] = more["exit_code"]
                if more.get("detail"):
                    own["reason"] = more["detail"]
            if event:
                self.announce(arn)

    def announce(self, arn: str, *, version: int | None = None) -> None:
        """EventBridge's event about the task as it stands (or stood)."""
        task = self.tasks[arn]
        detail = {
            "taskArn": arn,
            "lastStatus": task["lastStatus"],
            "startedBy": task["startedBy"],
            "version": task["version"] if version is None else version,
            "clusterArn": CLUSTER,
        }
        event = {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": detail}
        self.put(json.dumps(event | {"id": str(uuid.uuid4()), "region": REGION}))

    def put(self, body: str) -> None:
        with self._lock:
            self.messages.append(
                {"Body": body, "MessageId": str(uuid.uuid4()), "receptions": 0, "from": 0.0}
            )

    def task_of(self, run_id: str) -> str:
        """The ARN of the one task that was started for a run."""
        [arn] = self.tasks_of(run_id)
        return arn

    def tasks_of(self, run_id: str) -> list[str]:
        with self._lock:
            return [arn for arn, task in self.tasks.items() if task["startedBy"] == run_id]

    # --- ECS --------------------------------------------------------------------------------------

    def do_RegisterTaskDefinition(self, said: Answer) -> Answer:
        revisions = self.definitions.setdefault(said["family"], [])
        revision = len(revisions) + 1
        arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{said['family']}:{revision}"
        made = said | {"revision": revision, "taskDefinitionArn": arn, "status": "ACTIVE"}
        revisions.append(made)
        return {"taskDefinition": made}

    def do_DescribeTaskDefinition(self, said: Answer) -> Answer:
        return {"taskDefinition": self._definition(said["taskDefinition"])}

    def do_DeregisterTaskDefinition(self, said: Answer) -> Answer:
        found = self._definition(said["taskDefinition"])
        found["status"] = "INACTIVE"
        return {"taskDefinition": found}

    def _definition(self, name: str) -> Answer:
        family, _, revision = name.rpartition("/")[2].partition(":")
        known = self.definitions.get(family, [])
        found = [d for d in known if not revision or d["revision"] == int(revision)]
        active = [d for d in found if d["status"] == "ACTIVE"]
        if not (found if revision else active):
            raise Refused("ClientException", "Unable to describe task definition.")
        return found[-1] if revision else active[-1]

    def do_RunTask(self, said: Answer) -> Answer:
        token = said["clientToken"]
        asked = json.dumps(said, sort_keys=True)
        if token in self.by_token:
            arn, before = self.by_token[token]
            if before != asked:
                raise Refused("ConflictException", "in use", resourceIds=[arn])
            return {"tasks": [self.tasks[arn]], "failures": []}
        if self.refused_reason is not None:
            return {"tasks": [], "failures": [{"reason": self.refused_reason}]}
        definition = self._definition(said["taskDefinition"])
        if definition["status"] != "ACTIVE":
            raise Refused("ClientException", "TaskDefinition is inactive")
        arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/agents/{uuid.uuid4().hex}"
        self.tasks[arn] = {
            "taskArn": arn,
            "clusterArn": CLUSTER,
            "lastStatus": "PROVISIONING",
            "desiredStatus": "RUNNING",
            "startedBy": said.get("startedBy"),
            "version": 1,
            "enableExecuteCommand": said.get("enableExecuteCommand", False),
            "overrides": said.get("overrides", {}),
            "tags": said.get("tags", []),
            "taskDefinitionArn": definition["taskDefinitionArn"],
            "containers": [{"name": "agent", "lastStatus": "PENDING"}],
        }
        self.by_token[token] = (arn, asked)
        return {"tasks": [self.tasks[arn]], "failures": []}

    def do_DescribeTasks(self, said: Answer) -> Answer:
        if len(said["tasks"]) > 100:
            raise Refused("InvalidParameterException", "Tasks cannot have more than 100 elements")
        tasks, failures = [], []
        unseen, self.unseen = self.unseen > 0, max(0, self.unseen - 1)
        for arn in said["tasks"]:
            if arn in self.tasks and not unseen:
                tasks.append(self.tasks[arn])
            else:
                failures.append({"arn": arn, "reason": "MISSING"})
        return {"tasks": tasks, "failures": failures}

    def do_ListTasks(self, said: Answer) -> Answer:
        return {
            "taskArns": [
                arn
                for arn in self.tasks_of(said["startedBy"])
                if self.tasks[arn]["desiredStatus"] == "RUNNING"
            ]
        }

    def do_StopTask(self, said: Answer) -> Answer:
        arn = said["task"]
        if arn not in self.tasks:
            raise Refused("InvalidParameterException", "The referenced task was not found.")
        self.stopped.append((arn, said.get("reason", "")))
        task = self.tasks[arn]
        if task["desiredStatus"] == "RUNNING":
            task["desiredStatus"] = "STOPPED"
            task["stopCode"], task["stoppedReason"] = "UserInitiated", said.get("reason", "")
            if self.on_stop is not None:
                self.on_stop(arn)
        return {"task": task}

    def do_ExecuteCommand(self, said: Answer) -> Answer:
        task = self.tasks.get(said["task"])
        if task is None or task["lastStatus"] != "RUNNING":
            raise Refused("InvalidParameterException", "The task is stopped or does not exist.")
        if self.on_exec is None:
            raise Refused("TargetNotConnectedException", "The execute command failed.")
        return {"interactive": True, "session": self.on_exec(said)}

    # --- Secrets Manager --------------------------------------------------------------------------

    def do_CreateSecret(self, said: Answer) -> Answer:
        if said["Name"] in self.secrets:
            raise Refused("ResourceExistsException", "it is there already")
        self.secrets[said["Name"]] = said["SecretString"]
        return {"ARN": self._secret_arn(said["Name"]), "Name": said["Name"]}

    def do_GetSecretValue(self, said: Answer) -> Answer:
        if said["SecretId"] not in self.secrets:
            raise Refused("ResourceNotFoundException", "no such secret")
        name = said["SecretId"]
        return {"ARN": self._secret_arn(name), "Name": name, "SecretString": self.secrets[name]}

    def do_DeleteSecret(self, said: Answer) -> Answer:
        if self.secrets.pop(said["SecretId"], None) is None:
            raise Refused("ResourceNotFoundException", "no such secret")
        return {"Name": said["SecretId"]}

    @staticmethod
    def _secret_arn(name: str) -> str:
        return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-AbCdEf"

    # --- SQS --------------------------------------------------------------------------------------

    def do_ReceiveMessage(self, said: Answer) -> Answer:
        now, given = time.monotonic(), []
        for message in list(self.messages):
            if message["from"] > now or len(given) >= said.get("MaxNumberOfMessages", 1):
                continue
            message["receptions"] += 1
            if message["receptions"] > self.receptions_max:
                self.messages.remove(message)
                self.dead.append(message)
                continue
            message["from"] = now + (self.visibility_s or 0.05)
            message["ReceiptHandle"] = f"{message['MessageId']}#{message['receptions']}"
            given.append({k: message[k] for k in ("Body", "MessageId", "ReceiptHandle")})
        return {"Messages": given} if given else {}

    def do_DeleteMessageBatch(self, said: Answer) -> Answer:
        receipts = {entry["ReceiptHandle"].partition("#")[0] for entry in said["Entries"]}
        self.messages = [m for m in self.messages if m["MessageId"] not in receipts]
        return {"Successful": [{"Id": entry["Id"]} for entry in said["Entries"]], "Failed": []}

    # --- the wire ---------------------------------------------------------------------------------

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        said = json.loads(request.rfile.read(int(request.headers["Content-Length"])) or b"{}")
        action = request.headers["X-Amz-Target"].rpartition(".")[2]
        fault = self._fault(action)
        how = fault.how if fault is not None else None

        def act() -> tuple[int, dict[str, str], bytes]:
            status = 200
            try:
                if isinstance(how, Refused):
                    raise how
                with self._lock:
                    self.calls[action] += 1
                    # as it is at this moment: another thread may move a task while it is being sent
                    data = json.dumps(getattr(self, f"do_{action}")(said)).encode()
            except Refused as refused:
                status = refused.status
                answer = {"__type": refused.code, "message": refused.message} | refused.more
                data = json.dumps(answer).encode()
            return status, {"Content-Type": "application/x-amz-json-1.1"}, data

        wire = how if isinstance(how, str) else None
        bad_wire.answer(request, act, wire, over=self._open, hang_s=60)

    def _fault(self, action: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.action in {action, "*"} and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None
