"""What only the DynamoDB store promises: leftovers repeated, large events in parts, tables completed."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Barrier

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from chat.adapters import dynamodb_requests, dynamodb_tables
from chat.adapters.dynamodb_store import DynamoStore
from chat.adapters.dynamodb_tables import create_tables
from chat.errors import Unavailable
from chat.events import Kind
from chat.runs import RunStatus


class Throttle:
    """Makes DynamoDB take only the first `taken` of each batch, `times` times, below the store.

    What is cut off never reaches the database and comes back as AWS names it: UnprocessedItems
    or UnprocessedKeys.
    """

    def __init__(self, client, operation, *, taken, times):
        self._events = client.meta.events
        self._operation = operation
        self._taken = taken
        self._left = times
        self._cut = {}
        self.requests = 0

    def __enter__(self):
        self._events.register(f"provide-client-params.dynamodb.{self._operation}", self._before)
        self._events.register(f"after-call.dynamodb.{self._operation}", self._after)
        return self

    def __exit__(self, *_):
        self._events.unregister(f"provide-client-params.dynamodb.{self._operation}", self._before)
        self._events.unregister(f"after-call.dynamodb.{self._operation}", self._after)

    def _before(self, params, **_):
        self.requests += 1
        if not self._left:
            return None
        self._left -= 1
        [(table, asked)] = params["RequestItems"].items()
        if self._operation == "BatchWriteItem":
            kept, cut = asked[: self._taken], asked[self._taken :]
        else:
            kept = asked | {"Keys": asked["Keys"][: self._taken]}
            cut = asked | {"Keys": asked["Keys"][self._taken :]}
        self._cut = {table: cut}
        return params | {"RequestItems": {table: kept}}

    def _after(self, parsed, **_):
        name = "UnprocessedItems" if self._operation == "BatchWriteItem" else "UnprocessedKeys"
        if self._cut:
            parsed[name] = self._cut
            self._cut = {}


def test_what_a_batch_write_left_undone_is_written_again_with_pauses(dynamo, new_run, event):
    run = new_run()
    records = [event(run, seq) for seq in range(1, 41)]
    with Throttle(dynamo.client, "BatchWriteItem", taken=4, times=5) as throttle:
        dynamo.store.put_events(run, records)
    # 25 = 4 + 4 + 4 + 4 + 4 + 5, then 15
    assert throttle.requests == 7
    assert len(dynamo.pauses) == 5
    assert all(0 <= pause <= dynamodb_requests.BACKOFF_MAX_S for pause in dynamo.pauses)
    assert dynamo.store.events(run.id, limit=100).records == records


def test_what_a_batch_read_left_undone_is_read_again(dynamo, new_run, event):
    run = new_run()
    records = [event(run, seq) for seq in range(1, 131)]
    dynamo.store.put_events(run, records)
    with Throttle(dynamo.client, "BatchGetItem", taken=30, times=3) as throttle:
        found = dynamo.store.feature_events(run.feature_id, cursor=None, limit=130)
    assert found.records == records
    assert throttle.requests == 5
    assert len(dynamo.pauses) == 3


class Refusal:
    """Answers every call of an operation with an error of AWS, in place of the database."""

    def __init__(self, client, operation, code, status):
        self._events = client.meta.events
        self._name = f"before-call.dynamodb.{operation}"
        self._answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        self._status = status

    def __enter__(self):
        self._events.register(self._name, self._refuse)

    def __exit__(self, *_):
        self._events.unregister(self._name, self._refuse)

    def _refuse(self, **_):
        class Response:
            status_code = self._status

        return Response, self._answer


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ProvisionedThroughputExceededException", 400),
        ("ThrottlingException", 400),
        ("RequestLimitExceeded", 400),
        ("InternalServerError", 500),
        ("SomethingNew", 503),
    ],
)
def test_throttling_and_trouble_at_aws_are_unavailable_with_their_cause(
    dynamo, new_run, event, code, status
):
    run = new_run()
    with (
        Refusal(dynamo.client, "*", code, status),
        pytest.raises(Unavailable, match=code) as refused,
    ):
        dynamo.store.put_events(run, [event(run, 1)])
    assert isinstance(refused.value.__cause__, ClientError)
    for read in (
        lambda: dynamo.store.events(run.id),
        lambda: dynamo.store.update_run(run.id, status=RunStatus.FAILED),
        dynamo.store.projects,
        dynamo.store.create_schema,
    ):
        with Refusal(dynamo.client, "*", code, status), pytest.raises(Unavailable):
            read()


def test_a_mistake_of_ours_is_not_called_unavailable(dynamo, new_run, event):
    run = new_run()
    with (
        Refusal(dynamo.client, "BatchWriteItem", "ValidationException", 400),
        pytest.raises(ClientError),
    ):
        dynamo.store.put_events(run, [event(run, 1)])


def test_a_batch_of_which_nothing_is_ever_taken_is_unavailable_after_ever_longer_pauses(
    dynamo, new_run, event
):
    run = new_run()
    dynamo.store.put_events(run, [event(run, 1)])
    requests = []

    def nothing(params, **_):
        # Asks for what is there already, so that the request itself is a legal one.
        requests.append(params["RequestItems"])
        [(table, _)] = params["RequestItems"].items()
        key = {"run_id": {"S": "nobody"}, "seq": {"N": "1"}}
        return params | {"RequestItems": {table: [{"DeleteRequest": {"Key": key}}]}}

    def all_left(parsed, **_):
        parsed["UnprocessedItems"] = requests[-1]

    events = dynamo.client.meta.events
    events.register("provide-client-params.dynamodb.BatchWriteItem", nothing)
    events.register("after-call.dynamodb.BatchWriteItem", all_left)
    try:
        with pytest.raises(Unavailable, match="throttled"):
            dynamo.store.put_events(run, [event(run, seq) for seq in range(2, 30)])
    finally:
        events.unregister("provide-client-params.dynamodb.BatchWriteItem", nothing)
        events.unregister("after-call.dynamodb.BatchWriteItem", all_left)
    assert len(requests) == dynamodb_requests.ATTEMPTS
    ceilings = [dynamodb_requests.BACKOFF_S * 2**n for n in range(1, dynamodb_requests.ATTEMPTS)]
    assert len(dynamo.pauses) == len(ceilings)
    assert all(
        0 <= pause <= ceiling for pause, ceiling in zip(dynamo.pauses, ceilings, strict=True)
    )
    assert dynamo.store.last_seq(run.id) == 1


def test_a_network_that_is_not_there_is_unavailable_with_its_cause(new_run, unused_tcp_port):
    client = boto3.client(
        "dynamodb",
        "eu-central-1",
        endpoint_url=f"http://127.0.0.1:{unused_tcp_port}",
        aws_access_key_id="for",
        aws_secret_access_key="tests",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(Unavailable) as refused:
        DynamoStore(client, "any-").last_seq(new_run().id)
    assert isinstance(refused.value.__cause__, EndpointConnectionError)
    client.close()


def test_tables_that_were_never_created_are_unavailable(dynamo, new_run, event):
    run = new_run()
    elsewhere = DynamoStore(dynamo.client, "nowhere-")
    with pytest.raises(Unavailable, match="ResourceNotFoundException"):
        elsewhere.put_events(run, [event(run, 1)])


def test_an_event_in_parts_is_seen_whole_or_not_at_all(dynamo, new_run, event):
    run = new_run()
    noise = "".join(Random(7).choices([chr(0x4E00 + n) for n in range(20_000)], k=400_000))
    large = event(run, 2, kind=Kind.LOG, text=noise)
    items_written = []

    def note(params, **_):
        items_written.extend(
            request["PutRequest"]["Item"] for request in params["RequestItems"][table]
        )

    table = dynamo.prefix + dynamodb_tables.MESSAGES
    dynamo.client.meta.events.register("provide-client-params.dynamodb.BatchWriteItem", note)
    try:
        dynamo.store.put_events(run, [event(run, 1), large, event(run, 3)])
    finally:
        dynamo.client.meta.events.unregister("provide-client-params.dynamodb.BatchWriteItem", note)
    partitions = [item["run_id"]["S"] for item in items_written]
    parts = [place for place, partition in enumerate(partitions) if partition != run.id]
    assert len(parts) >= 2
    assert max(parts) < min(
        place for place, partition in enumerate(partitions) if partition == run.id
    )
    assert dynamo.store.events(run.id).records[1] == large
    assert dynamo.store.last_seq(run.id) == 3
    # as a crash would leave it: the parts are there and the item that names them is not
    key = {"run_id": {"S": run.id}, "seq": {"N": "2"}}
    dynamo.client.delete_item(TableName=table, Key=key)
    assert [record.seq for record in dynamo.store.events(run.id).records] == [1, 3]
    dynamo.store.put_events(run, [large])
    assert dynamo.store.event(run.id, 2) == large


def test_an_index_that_is_missing_is_added_and_filled(moto_client, new_run):
    # moto alone: dynalite accepts a change of indexes and does nothing
    prefix = "before-indexes-"
    moto_client.create_table(
        TableName=prefix + dynamodb_tables.RUNS,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "run_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "run_id", "AttributeType": "S"}],
    )
    store, run = DynamoStore(moto_client, prefix), new_run()
    store.put_run(run)
    create_tables(moto_client, prefix)
    assert store.runs(status=RunStatus.QUEUED) == [run]
    assert store.runs(feature_id=run.feature_id) == [run]
    assert store.runs(project_id=run.project_id) == [run]


@pytest.mark.parametrize("backend", ["moto", "dynalite"])
def test_several_processes_may_create_the_tables_at_once(request, backend, new_run):
    client = request.getfixturevalue(f"{backend}_client")
    together = Barrier(4)

    def create():
        together.wait(timeout=30)
        create_tables(client, "at-once-")

    with ThreadPoolExecutor(4) as threads:
        for creating in [threads.submit(create) for _ in range(4)]:
            creating.result()
    run = new_run()
    store = DynamoStore(client, "at-once-")
    store.put_run(run)
    assert store.runs(feature_id=run.feature_id) == [run]


def test_the_command_creates_every_table_and_is_harmless_again(dynalite_url, dynalite_client):
    command = [sys.executable, "-m", "chat.adapters.dynamodb_tables", "--region", "eu-central-1"]
    command += ["--endpoint-url", dynalite_url, "--prefix", "by-command-"]
    keys = {"AWS_ACCESS_KEY_ID": "for", "AWS_SECRET_ACCESS_KEY": "tests"}
    for _ in range(2):
        subprocess.run(command, check=True, env=keys, timeout=60)
    names = dynalite_client.list_tables()["TableNames"]
    assert sorted(name for name in names if name.startswith("by-command-")) == [
        f"by-command-{name}" for name in ("agent-messages", "agent-runs", "features", "projects")
    ]
    messages = dynalite_client.describe_table(TableName="by-command-agent-messages")["Table"]
    assert messages["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
