"""AWS as a process of its own: moto and dynalite, what moto leaves out of ECS, and bad weather on the wire.

    python -m tests.chaos.cloud --seed 1      prints its address, and ends with its standard input

moto keeps tasks, definitions, secrets and queues; the tables are dynalite's, which is asked a hundred times
as often (moto takes 20 ms of processor time to say which runs a feature has). Here are what ECS does besides: client tokens,
tasks that stand still until their agent moves them, versions, events through the queue (twice, late, out
of order or never), tasks that DescribeTasks does not see yet or leaves out, and `failures`. One lock is
around all of moto, whose writes are not atomic across threads.

The agents' side asks under /_cloud/: `news` (what it is to start or stop), `move`, `token`, `forget`,
`weather`, `truth`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in (ROOT, ROOT / "scripts"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import npm  # noqa: E402
from botocore.awsrequest import AWSPreparedRequest  # noqa: E402
from botocore.compat import HTTPHeaders  # noqa: E402
from moto.core.models import botocore_stubber  # noqa: E402
from moto.ecs.models import ecs_backends  # noqa: E402
from moto.moto_api import state_manager  # noqa: E402
from moto.secretsmanager.models import secretsmanager_backends  # noqa: E402

from tests import bad_wire  # noqa: E402

REGION: Final = "eu-central-1"
ACCOUNT: Final = "123456789012"
QUEUE: Final = "task-events"
TABLES: Final = frozenset(
    {
        "PutItem", "GetItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "BatchGetItem", "Query", "Scan",
        "TransactWriteItems", "CreateTable", "DescribeTable",
    }
)  # fmt: skip
NO_ROOM: Final = (
    "Capacity is unavailable at this time. Please try again later or in a different zone"
)
BLIND_S: Final = 3.0
"""How long a new task may be unseen."""
SLOW_KINDS: Final = frozenset({"hang", "late"})
Json = dict[str, Any]


@dataclass
class Weather:
    """What goes wrong, and how often: of each action every `every`th call, the kinds in turn."""

    every: int
    tables_every: int
    """The same for DynamoDB, which is asked a hundred times as often."""
    slow_max: int
    """How many calls may hang until the client gives up: each costs a worker ten seconds."""
    bad: bool = True
    faults: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    ordered: dict[str, list[str]] = field(default_factory=dict)
    """What a test wants to go wrong with an action, before anything else does."""
    _decks: dict[str, deque[str]] = field(default_factory=dict)

    def how(self, action: str, luck: random.Random) -> str | None:
        """What becomes of this call."""
        self.calls[action] += 1
        if self.ordered.get(action):
            return self.ordered[action].pop(0)
        # a boto3 that repeats must not always meet the same: it is by chance, with this mean
        every = self.tables_every if action in TABLES else self.every
        if not self.bad or luck.random() * every > 1:
            return None
        deck = self._decks.setdefault(action, deque())
        if not deck:
            kinds = [*bad_wire.HOWS, "throttled", "500", "503", "500 done"]
            # its own first: some actions are seldom asked for
            deck.extend([*_OWN.get(action, ()), *luck.sample(kinds, len(kinds))])
        kind = deck.popleft()
        if kind in SLOW_KINDS and sum(self.faults[one] for one in SLOW_KINDS) >= self.slow_max:
            return None
        self.faults[kind] += 1
        self.faults[f"{action}: {kind}"] += 1
        return kind


_OWN: Final[Mapping[str, tuple[str, ...]]] = {
    "RunTask": ("no room", "no room"),
    "DescribeTasks": ("left out", "left out"),
    "ReceiveMessage": ("twice", "twice"),
    "BatchWriteItem": ("unprocessed", "unprocessed"),
}


class Refused(Exception):
    """An error of AWS."""

    def __init__(self, code: str, message: str = "", status: int = 400, **more: Any) -> None:
        super().__init__(code)
        self.code, self.message, self.status, self.more = code, message, status, more

    def answer(self) -> tuple[int, Mapping[str, str], bytes]:
        body = {"__type": self.code, "message": self.message} | self.more
        return (
            self.status,
            {"Content-Type": "application/x-amz-json-1.1"},
            json.dumps(body).encode(),
        )


def _refusal(action: str, how: str | None) -> Refused | None:
    if how == "throttled":
        of_tables = "ProvisionedThroughputExceededException"
        code = of_tables if action in TABLES else "ThrottlingException"
        return Refused(code, "Rate exceeded")
    if how in {"500", "503", "500 done"}:
        return Refused("ServerException", "a fault of its own", status=int(how.partition(" ")[0]))
    return None


class Cloud:
    """The account and its server. `url` is for AWS_ENDPOINT_URL."""

    def __init__(
        self, *, every: int, tables_every: int, slow_max: int, seed: int, tables_port: int | None = None,
    ) -> None:  # fmt: skip
        self.luck = random.Random(seed)
        self.weather = Weather(every, tables_every, slow_max)
        self.events: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._news_there = threading.Condition(self._lock)
        self._news: list[Json] = []
        self._tokens: dict[str, tuple[str, str]] = {}
        self._born: dict[str, float] = {}
        self._forgotten: set[str] = set()
        self._history: dict[str, list[tuple[float, str]]] = defaultdict(list)
        self._started_by: dict[str, str] = {}
        self._ends: dict[str, Json] = {}
        self._over = threading.Event()
        state_manager.set_transition("ecs::task", {"progression": "manual", "times": 10**6})
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                cloud._serve(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.queue_url = ""
        self._account()
        self._tables: int | None = tables_port
        self._kept = threading.local()
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Let everybody go who hangs, and end."""
        self._over.set()
        state_manager.unset_transition("ecs::task")
        self.server.shutdown()
        self.server.server_close()

    # --- moto -------------------------------------------------------------------------------------

    def moto(
        self, service: str, target: str, body: Json | bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One call of moto."""
        host = f"{service}.{REGION}.amazonaws.com"
        headers = HTTPHeaders()
        for name, value in {
            "Host": host,
            "X-Amz-Target": target,
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=for/20261122/{REGION}/{service}/aws4_request,"
            " SignedHeaders=host, Signature=none",
        }.items():
            headers[name] = value
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = AWSPreparedRequest("POST", f"https://{host}/", headers, data, False)
        with self._lock:
            done = botocore_stubber.process_request(request)
        assert done is not None
        status, given, text = done
        kept = {
            name: str(value)
            for name, value in given.items()
            if name.lower()
            in {"content-type", "x-amzn-requestid", "x-amzn-errortype", "x-amz-crc32"}
        }
        return int(status), kept, text.encode() if isinstance(text, str) else bytes(text or b"")

    def ask(self, service: str, target: str, body: Json) -> Json:
        """One call of moto that succeeds."""
        status, _, data = self.moto(service, target, body)
        assert status == 200, (target, data)
        found: Json = json.loads(data or b"{}")
        return found

    def _account(self) -> None:
        ecs = "AmazonEC2ContainerServiceV20141113"
        self.ask("ecs", f"{ecs}.CreateCluster", {"clusterName": "agents"})
        for role in ("architect", "coder", "reviewer", "tester"):
            container = {"name": "agent", "image": "agent:1", "essential": True, "memory": 512}
            self.ask(
                "ecs", f"{ecs}.RegisterTaskDefinition",
                {"family": f"omakase-agent-{role}", "containerDefinitions": [container],
                 "networkMode": "bridge", "cpu": "256", "memory": "512"},
            )  # fmt: skip
        made = self.ask("sqs", "AmazonSQS.CreateQueue", {"QueueName": QUEUE})
        self.ask(
            "sqs", "AmazonSQS.SetQueueAttributes",
            {"QueueUrl": made["QueueUrl"], "Attributes": {"VisibilityTimeout": "5"}},
        )  # fmt: skip
        self.queue_url = f"{self.url}/{ACCOUNT}/{QUEUE}"

    # --- the wire ---------------------------------------------------------------------------------

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        data = request.rfile.read(int(request.headers["Content-Length"] or 0))
        if request.path.startswith("/_cloud/"):
            found = getattr(self, f"do_{request.path.removeprefix('/_cloud/')}")(**json.loads(data))
            body = json.dumps(found).encode()
            bad_wire.answer(request, lambda: (200, {}, body), None, over=self._over, hang_s=0)
            return
        target = request.headers["X-Amz-Target"]
        service = request.headers["Authorization"].partition("Credential=")[2].split("/")[3]
        action = target.rpartition(".")[2]
        with self._lock:
            how = self.weather.how(action, self.luck)

        def act() -> tuple[int, Mapping[str, str], bytes]:
            refused = _refusal(action, how)
            if refused is not None and how != "500 done":
                return refused.answer()
            try:
                done = self._act(service, target, action, data, how)
            except Refused as other:
                return other.answer()
            return refused.answer() if refused is not None else done

        wire = how if how in bad_wire.HOWS else None
        bad_wire.answer(request, act, wire, over=self._over, hang_s=15)

    def _act(
        self, service: str, target: str, action: str, data: bytes, how: str | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        own: Callable[[Json, str | None], Json] | None = {
            "RunTask": self._run_task,
            "StopTask": self._stop_task,
            "DescribeTasks": self._describe_tasks,
            "ListTasks": self._list_tasks,
            "DescribeTaskDefinition": self._describe_definition,
        }.get(action)  # fmt: skip
        if how == "unprocessed":
            said = json.loads(data)
            some = json.dumps({"RequestItems": _first(said["RequestItems"])}).encode()
            status, headers, _ = self._table(target, some)
            left = {"UnprocessedItems": _rest(said["RequestItems"])}
            return status, headers, json.dumps(left).encode()
        if service == "dynamodb":
            return self._table(target, data)
        with self._lock:
            if own is not None and service == "ecs":
                found = own(json.loads(data), how)
                return (
                    200,
                    {"Content-Type": "application/x-amz-json-1.1"},
                    json.dumps(found).encode(),
                )
            if how == "twice":
                data = json.dumps(json.loads(data) | {"VisibilityTimeout": 0}).encode()
            return self.moto(service, target, data)

    def _table(self, target: str, data: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """One call of DynamoDB: dynalite's, or moto's where there is none."""
        if self._tables is None:
            return self.moto("dynamodb", target, data)
        kept = getattr(self._kept, "connection", None)
        if kept is None:
            kept = self._kept.connection = http.client.HTTPConnection("127.0.0.1", self._tables)
        headers = {
            "X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.0", "X-Amz-Date": "20261122T093300Z",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=for/20261122/{REGION}/dynamodb/aws4_request,"
            " SignedHeaders=host, Signature=none",
        }  # fmt: skip
        kept.request("POST", "/", body=data, headers=headers)
        reply = kept.getresponse()
        return reply.status, {"Content-Type": "application/x-amz-json-1.0"}, reply.read()

    # --- ECS --------------------------------------------------------------------------------------

    def _tasks(self) -> dict[str, Any]:
        found: dict[str, Any] = ecs_backends[ACCOUNT][REGION].tasks.get("agents", {})
        return found

    def _run_task(self, said: Json, how: str | None) -> Json:
        token, asked = said["clientToken"], json.dumps(said, sort_keys=True)
        if token in self._tokens:
            arn, before = self._tokens[token]
            if before != asked:
                raise Refused("ConflictException", "the token is in use", resourceIds=[arn])
            return {"tasks": [self._shown(arn)], "failures": []}
        if how == "no room":
            return {
                "tasks": [],
                "failures": [{"reason": self.luck.choice(["RESOURCE:CPU", NO_ROOM])}],
            }
        family, _, revision = said["taskDefinition"].rpartition("/")[2].partition(":")
        known = ecs_backends[ACCOUNT][REGION].task_definitions.get(family, {}).get(int(revision))
        if known is None or known.status != "ACTIVE":
            raise Refused("ClientException", "TaskDefinition is inactive")
        target = "AmazonEC2ContainerServiceV20141113.RunTask"
        # the tasks of this test need no network of moto's
        passed = {k: v for k, v in said.items() if k != "networkConfiguration"}
        [made] = self.ask("ecs", target, passed)["tasks"]
        arn = made["taskArn"]
        task = self._tasks()[arn]
        task.last_status, task.version = "PROVISIONING", 1
        self._tokens[token] = (arn, asked)
        self._born[arn] = time.monotonic()
        self._started_by[arn] = said["startedBy"]
        self._history[arn].append((time.time(), "PROVISIONING"))
        tags = {tag["key"]: tag["value"] for tag in said["tags"]}
        self._tell(
            what="run",
            arn=arn,
            run_id=said["startedBy"],
            role=tags["role"],
            feature_id=tags["feature"],
        )
        return {"tasks": [self._shown(arn)], "failures": []}

    def _shown(self, arn: str) -> Json:
        target = "AmazonEC2ContainerServiceV20141113.DescribeTasks"
        if arn in self._forgotten:
            return {"taskArn": arn, "lastStatus": "STOPPED"}
        [shown] = self.ask("ecs", target, {"cluster": "agents", "tasks": [arn]})["tasks"]
        return self._completed(shown)

    def _completed(self, shown: Json) -> Json:
        """With what moto leaves out."""
        task = self._tasks()[shown["taskArn"]]
        end = self._ends.get(shown["taskArn"], {})
        more = {"version": task.version, "startedAt": getattr(task, "began", None)}
        own: Json = {"name": "agent", "lastStatus": task.last_status}
        if task.last_status == "STOPPED":
            more |= {"stopCode": end.get("stop_code"), "stoppedReason": end.get("reason")}
            own |= {"exitCode": end.get("exit_code"), "reason": end.get("detail")}
        own = {name: value for name, value in own.items() if value is not None}
        return shown | {k: v for k, v in more.items() if v is not None} | {"containers": [own]}

    def _describe_tasks(self, said: Json, how: str | None) -> Json:
        if len(said["tasks"]) > 100:
            raise Refused("InvalidParameterException", "Tasks cannot have more than 100 elements")
        target = "AmazonEC2ContainerServiceV20141113.DescribeTasks"
        found = self.ask("ecs", target, said)
        now, bad = time.monotonic(), self.weather.bad
        hidden = set()
        for shown in found["tasks"]:
            arn = shown["taskArn"]
            young = bad and now - self._born[arn] < BLIND_S and self.luck.random() < 0.5
            if young or arn in self._forgotten:
                hidden.add(arn)
                self.weather.faults["not seen yet" if young else "forgotten"] += 1
        tasks = [self._completed(one) for one in found["tasks"] if one["taskArn"] not in hidden]
        known = {one["taskArn"] for one in tasks}
        failures = [{"arn": arn, "reason": "MISSING"} for arn in said["tasks"] if arn not in known]
        if how == "left out":
            tasks = [one for one in tasks if self.luck.random() < 0.5]
        return {"tasks": tasks, "failures": failures}

    def _describe_definition(self, said: Json, _how: str | None) -> Json:
        """A family alone is its latest revision that is active."""
        name = said["taskDefinition"]
        if ":" not in name:
            known = ecs_backends[ACCOUNT][REGION].task_definitions.get(name, {})
            active = [number for number, one in known.items() if one.status == "ACTIVE"]
            if not active:
                raise Refused("ClientException", "Unable to describe task definition.")
            name = f"{name}:{max(active)}"
        target = "AmazonEC2ContainerServiceV20141113.DescribeTaskDefinition"
        return self.ask("ecs", target, said | {"taskDefinition": name})

    def _list_tasks(self, said: Json, _how: str | None) -> Json:
        target = "AmazonEC2ContainerServiceV20141113.ListTasks"
        return self.ask("ecs", target, {"desiredStatus": "RUNNING"} | said)

    def _stop_task(self, said: Json, _how: str | None) -> Json:
        arn = said["task"]
        if arn not in self._tasks() or arn in self._forgotten:
            raise Refused("InvalidParameterException", "The referenced task was not found.")
        task = self._tasks()[arn]
        if task.desired_status == "RUNNING":
            task.desired_status = "STOPPED"
            self._ends[arn] = {"stop_code": "UserInitiated", "reason": said.get("reason", "")}
            self._tell(
                what="stop", arn=arn, run_id=self._started_by[arn], reason=said.get("reason", "")
            )
        return {"task": self._shown(arn)}

    def _tell(self, **news: Any) -> None:
        self._news.append(news)
        self._news_there.notify_all()

    def _announce(self, arn: str) -> None:
        """EventBridge's event: once, twice, late, or never."""
        task = self._tasks()[arn]
        detail = {
            "taskArn": arn, "lastStatus": task.last_status, "startedBy": task.started_by,
            "version": task.version, "clusterArn": task.cluster_arn,
        }  # fmt: skip
        event = {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": detail}
        body = json.dumps(event | {"id": str(uuid.uuid4()), "region": REGION})
        fate = self.luck.choice(["once", "once", "twice", "late", "twice and late", "never"])
        self.events[fate] += 1
        if "once" in fate or "twice" in fate:
            self._send(body)
        if "twice" in fate and "late" not in fate:
            self._send(body)
        if "late" in fate:
            timer = threading.Timer(self.luck.uniform(0.5, 6), self._send, [body])
            timer.daemon = True
            timer.start()

    def _send(self, body: str) -> None:
        url = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{QUEUE}"
        self.ask("sqs", "AmazonSQS.SendMessage", {"QueueUrl": url, "MessageBody": body})

    # --- what the agents' side asks ---------------------------------------------------------------

    def do_news(self, after: int, wait_s: float) -> list[Json]:
        """What happened after so many things."""
        with self._news_there:
            self._news_there.wait_for(lambda: len(self._news) > after, wait_s)
            return self._news[after:]

    def do_move(self, arn: str, status: str, **end: Any) -> bool:
        """A task's next state; with the end's `stop_code`, `reason`, `exit_code`, `detail`."""
        with self._lock:
            task = self._tasks()[arn]
            if task.last_status == "STOPPED":
                return False
            task.last_status, task.version = status, task.version + 1
            if status == "RUNNING":
                task.began = time.time()
            if status == "STOPPED":
                # who stopped it first has said why
                self._ends[arn] = end | self._ends.get(arn, {})
                task.desired_status = "STOPPED"
            self._history[arn].append((time.time(), status))
            self._announce(arn)
        return True

    def do_token(self, run_id: str) -> str | None:
        """What the task's container finds in OMAKASE_TOKEN; None when its secret is not there."""
        name = f"omakase/run-token/{run_id}"
        target = "secretsmanager.GetSecretValue"
        status, _, data = self.moto("secretsmanager", target, {"SecretId": name})
        return str(json.loads(data)["SecretString"]) if status == 200 else None

    def do_forget(self, arn: str) -> bool:
        """ECS knows it no more."""
        with self._lock:
            self._forgotten.add(arn)
            self._tasks()[arn].desired_status = "STOPPED"
            self._history[arn].append((time.time(), "FORGOTTEN"))
        return True

    def do_weather(self, bad: bool) -> bool:
        """Better or worse from now on."""
        with self._lock:
            self.weather.bad = bad
        return True

    def do_truth(self) -> Json:
        """Everything that is known."""
        with self._lock:
            definitions = ecs_backends[ACCOUNT][REGION].task_definitions
            return {
                "tasks": {
                    arn: {
                        "run_id": self._started_by[arn],
                        "token": next(t for t, (a, _) in self._tokens.items() if a == arn),
                        "history": self._history[arn],
                        "end": self._ends.get(arn),
                        "forgotten": arn in self._forgotten,
                    }
                    for arn in self._started_by
                },
                "secrets": list(secretsmanager_backends[ACCOUNT][REGION].secrets.keys()),
                "definitions": [
                    family
                    for family, revisions in definitions.items()
                    if any(one.status == "ACTIVE" for one in revisions.values())
                ],
                "faults": dict(self.weather.faults),
                "calls": dict(self.weather.calls),
                "events": dict(self.events),
            }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is nothing worth telling."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _first(items: Json) -> Json:
    return {table: these[: max(1, len(these) // 2)] for table, these in items.items()}


def _rest(items: Json) -> Json:
    left = {table: these[max(1, len(these) // 2) :] for table, these in items.items()}
    return {table: these for table, these in left.items() if these}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=12)
    parser.add_argument("--tables-every", type=int, default=80)
    parser.add_argument("--slow-max", type=int, default=4)
    given = parser.parse_args()
    folder = ROOT / "tests" / "node"
    npm.install(folder)
    tables = subprocess.Popen(
        ["node", str(folder / "dynalite.js")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert tables.stdout is not None
    cloud = Cloud(
        every=given.every, tables_every=given.tables_every, slow_max=given.slow_max, seed=given.seed,
        tables_port=int(tables.stdout.readline()),
    )  # fmt: skip
    print(json.dumps({"url": cloud.url, "queue_url": cloud.queue_url}), flush=True)
    sys.stdin.read()
    cloud.close()
    tables.communicate("")  # it ends with its standard input


if __name__ == "__main__":
    main()
