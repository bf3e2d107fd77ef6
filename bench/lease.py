"""From a person's POST until the agent that waits has leased the message, against one Celery round trip.

Ours: POST, append, a `store` task on the worker (database, then mailbox), and the agent's long poll
returns with it. The floor: `send_task` of a task that does nothing until its result is back, through the
same broker and a worker with the same settings. In turns.
"""

from __future__ import annotations

import hashlib
import time

import orjson
from celery import Celery

from bench.figure import options, percentile, say
from bench.stage import KeepAlive, Stage, until

TEXT = "x" * 200
SHA256 = hashlib.sha256(TEXT.encode()).hexdigest()
WARM = 20


def main() -> None:
    quick = options(__doc__).quick
    count = 40 if quick else 500
    with Stage() as stage:
        web = stage.web()
        stage.worker()
        peer_worker = stage.start(
            "peer-worker",
            "celery -A bench.peer_tasks worker --without-gossip --without-mingle --loglevel=INFO"
            " --concurrency=2 -Q peer",
        )
        until(lambda: b" ready." in peer_worker.said(), "the peer's worker")
        peer = Celery("client", broker=stage.redis.url, backend=stage.redis.url)
        run, token = stage.runs(1)[0]
        stage.chat.delivery.drain(run)  # what its creation queued went nowhere, see NoTasks
        person = KeepAlive(web.port, [f"Cookie: {web.cookie}"])
        beside = KeepAlive(web.port, [f"Authorization: Bearer {token}"])
        floors, values = [], []
        for number in range(count + WARM):
            began = time.perf_counter()
            peer.send_task("echo", args=("hello",), queue="peer").get(timeout=30)
            floor = time.perf_counter() - began

            agent = KeepAlive(web.port, [f"Authorization: Bearer {token}"])
            agent.send(
                agent.request("GET", f"/api/agent-runs/{run}/mailbox?holder=bench", b"",
                              "Prefer: wait=30")
            )  # fmt: skip
            time.sleep(0.05)  # it waits now; what is measured begins with the POST
            request = person.request(
                "POST", f"/api/agent-runs/{run}/messages", orjson.dumps({"text": TEXT})
            )
            began = time.perf_counter()
            person.send(request)
            status, said = agent.receive()
            value = time.perf_counter() - began
            items = orjson.loads(said)["items"]
            assert (status, len(items)) == (200, 1), said
            status, said = person.receive()
            assert status == 201, said
            agent.close()
            # it is in the agent's context: the next one finds an empty mailbox
            confirmed = {
                "ids": [items[0]["event"]["id"]],
                "step": 1,
                "text": TEXT,
                "sha256": SHA256,
            }
            status, said = beside.exchange(
                beside.request(
                    "POST", f"/api/agent-runs/{run}/mailbox/confirm", orjson.dumps(confirmed)
                )
            )
            assert status == 200, said
            if number >= WARM:
                floors.append(floor * 1_000)
                values.append(value * 1_000)
    for share, target in ((0.5, "<= 2.5"), (0.99, None)):
        say(
            f"message to leased by a waiting agent / one Celery round trip, p{share * 100:.0f}",
            percentile(values, share), "ms", floor=percentile(floors, share), target=target,
        )  # fmt: skip


if __name__ == "__main__":
    main()
