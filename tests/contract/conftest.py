"""The store on each of its backends: SQLite, moto's DynamoDB in this process, dynalite's in another.

store          a fresh one on each backend in turn
dynamo         a DynamoDB one on each of its two backends, with its client and the pauses it made
new_run        new_run(feature_id=…) -> Run, a row that is not stored yet
event          event(run, seq, …) -> Record, as the log would give it
"""

from __future__ import annotations

import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import moto.dynamodb.responses
import orjson
import pytest
from botocore.config import Config
from moto import mock_aws

from chat.adapters.dynamodb_store import DynamoStore
from chat.adapters.sqlite_store import SqliteStore
from chat.events import Kind
from chat.ids import new_id
from chat.ports import Record, Store
from chat.runs import Role, Run, StartKind
from tests.ecs_world import aws  # noqa: F401 - a fixture of the runtimes
from tests.tools import npm_packages

NODE = Path(__file__).parent.parent / "node"
KEYS = {"aws_access_key_id": "for", "aws_secret_access_key": "tests"}


@pytest.fixture(scope="session")
def dynalite_url() -> Iterator[str]:
    npm_packages(NODE)
    process = subprocess.Popen(
        ["node", NODE / "dynalite.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()  # it ends by itself


@pytest.fixture(scope="session")
def dynalite_client(dynalite_url: str) -> Iterator[Any]:
    client = boto3.client("dynamodb", "eu-central-1", endpoint_url=dynalite_url, **KEYS)
    yield client
    client.close()


@pytest.fixture(scope="session")
def moto_client() -> Iterator[Any]:
    handler = moto.dynamodb.responses.DynamoHandler
    call_action: Callable[..., Any] = handler.call_action
    lock = threading.RLock()

    def one_at_a_time(self, *args, **kwargs):
        # moto's writes are not atomic across threads, as DynamoDB's are.
        with lock:
            return call_action(self, *args, **kwargs)

    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(handler, "call_action", one_at_a_time)
        # Threads of a test share connections that moto never opens.
        client = boto3.client(
            "dynamodb", "eu-central-1", config=Config(max_pool_connections=20), **KEYS
        )
        yield client
        client.close()


@dataclass
class Dynamo:
    """A store in DynamoDB with what a test needs to disturb it."""

    store: DynamoStore
    client: Any
    prefix: str
    pauses: list[float] = field(default_factory=list)
    """Seconds for which the store would have waited."""


@pytest.fixture(params=["moto", "dynalite"])
def dynamo(request: pytest.FixtureRequest) -> Dynamo:
    return make_dynamo(request.getfixturevalue(f"{request.param}_client"))


def make_dynamo(client: Any) -> Dynamo:
    pauses: list[float] = []
    prefix = f"test-{uuid.uuid4().hex[:8]}-"
    store = DynamoStore(client, prefix, sleep=pauses.append)
    store.create_schema()
    return Dynamo(store, client, prefix, pauses)


@pytest.fixture(params=["sqlite", "moto", "dynalite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        sqlite = SqliteStore(tmp_path / "store.sqlite3")
        sqlite.create_schema()
        yield sqlite
        sqlite.close()
    else:
        yield make_dynamo(request.getfixturevalue(f"{request.param}_client")).store


def make_run(**fields: Any) -> Run:
    agent = {"agent_id": "nori", "agent_name": "Nori", "role": Role.CODER}
    place = {"project_id": new_id("prj"), "feature_id": new_id("ftr")}
    when = {"created_at": "2026-11-22T09:33:00.000Z", "start": StartKind.LAUNCH}
    return Run(**({"id": new_id("run")} | agent | place | when | fields))


def make_event(
    run: Run,
    seq: int,
    *,
    kind: Kind = Kind.MESSAGE,
    sender_id: str = "usr_anna",
    at: str = "2026-11-22T09:33:00.123Z",
    text: str = "call it total_price",
) -> Record:
    sender = {"kind": "person", "id": sender_id, "name": "Anna", "role": None}
    what = {"seq": seq, "epoch": "e1", "run_id": run.id, "id": f"msg_{seq}", "kind": kind, "at": at}
    return Record(seq, orjson.dumps(what | {"sender": sender, "body": {"text": text}}))


@pytest.fixture
def new_run() -> Callable[..., Run]:
    return make_run


@pytest.fixture
def event() -> Callable[..., Record]:
    return make_event


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
