"""From a person's POST to its 201 on one warm web process, against the bare Lua call by redis-py.

Both write to the same Redis, which flushes to the disk before it answers; one after the other in turn.
The floor is the very call that the web makes at its end, `RedisLog.append`.
"""

from __future__ import annotations

import time

import orjson

from bench.figure import options, percentile, say
from bench.stage import ANNA, KeepAlive, Stage
from chat.drafts import draft
from chat.events import MessageBody

TEXT = "x" * 200


def main() -> None:
    quick = options(__doc__).quick
    count = 200 if quick else 2_000
    with Stage() as stage:
        (floor_run, _), (run, _) = stage.runs(2)
        web = stage.web()
        chat = stage.chat
        client = KeepAlive(web.port, [f"Cookie: {web.cookie}"])
        body = orjson.dumps({"text": TEXT})
        floors, values = [], []
        for number in range(count + 100):
            one = draft(
                floor_run, ANNA.sender(), MessageBody(text=TEXT), now=chat.clock.now(),
                mode="steer", idempotency_key=f"k{number}", digest="0" * 32,
            )  # fmt: skip
            began = time.perf_counter()
            chat.log.append(floor_run, [one])
            between = time.perf_counter()
            request = client.request(
                "POST", f"/api/agent-runs/{run}/messages", body, f"Idempotency-Key: k{number}"
            )
            started = time.perf_counter()
            status, said = client.exchange(request)
            ended = time.perf_counter()
            assert status == 201, said
            if number >= 100:  # both warm
                floors.append((between - began) * 1_000)
                values.append((ended - started) * 1_000)
        client.close()
    for share, target in ((0.5, "<= 6"), (0.99, None)):
        say(
            f"accept: POST to 201 / the bare Lua call, p{share * 100:.0f}",
            percentile(values, share), "ms", floor=percentile(floors, share), target=target,
            note="one web process, keep-alive, appendfsync always",
        )  # fmt: skip


if __name__ == "__main__":
    main()
