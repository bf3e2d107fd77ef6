"""Many small rooms, which is the real shape of the work: 1,000 runs with two viewers each.

Deliveries a second with 32 messages under way, each to the next run: ours against Nchan with Redis and
Socket.IO on Redis streams. One process and one core each, rounds in turn, as in fanout.py.
"""

from __future__ import annotations

from bench.fanout import Make, compare
from bench.figure import options, skip
from bench.load import NoCompilerError, build
from bench.peers import Nchan, SocketIo

PEERS: list[tuple[str, Make, str]] = [
    ("Nchan with Redis", lambda stage, _, rooms: Nchan(stage, rooms, redis=True), ">= 3"),
    ("Socket.IO, Redis streams adapter", lambda stage, _, rooms: SocketIo(stage, rooms), ">= 3"),
]


def main() -> None:
    quick = options(__doc__).quick
    try:
        build()
    except NoCompilerError as error:
        skip("rooms", str(error), ">= 3")
        return
    runs = 100 if quick else 1_000
    compare(f"{runs:,} runs with 2 viewers", [*range(runs)] * 2, PEERS, quick=quick)


if __name__ == "__main__":
    main()
