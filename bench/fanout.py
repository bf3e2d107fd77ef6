"""One message to 1,000 and to 5,000 sockets, 32 messages under way: deliveries a second.

Ours, from the append in Redis to the socket, against node `ws`, Socket.IO and Nchan. Every server is one
process on one core; Redis and the load client have the other. Rounds go round in turn, medians are
compared; a message that did not arrive everywhere counts as lost and is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.figure import median, options, say, skip
from bench.load import NoCompilerError, build
from bench.peers import MissingError, Nchan, Ours, Side, SocketIo, Ws
from bench.stage import CLIENT_CORE, SERVER_CORE, Stage, Web

WINDOW = 32
Make = Callable[[Stage, Web, Sequence[int]], Side]
FAN_OUT: list[tuple[str, Make, str]] = [
    ("node ws", lambda stage, _, rooms: Ws(stage, rooms), ">= 10"),
    ("Socket.IO, Redis streams adapter", lambda stage, _, rooms: SocketIo(stage, rooms), ">= 10"),
    ("Nchan", lambda stage, _, rooms: Nchan(stage, rooms, redis=False), ">= 3"),
]


def measure(
    side: Side,
    rooms: Sequence[int],
    each: int,
    seconds: float,
    rounds: dict[str, list[float]],
    lost: dict[str, int],
) -> None:
    """One round: as many messages as take about `seconds`."""

    def once(count: int) -> float:
        targets = [rooms[index % len(rooms)] for index in range(count)]
        done = side.load.run(side.publish_port, side.messages(targets), window=WINDOW, each=each)
        lost[side.name] = lost.get(side.name, 0) + done.lost
        return done.rate

    known = rounds.setdefault(side.name, [])
    rate = median(known) if known else once(WINDOW * 2)
    known.append(once(max(WINDOW, min(200_000, int(rate * seconds / each)))))


def compare(
    title: str, sockets: Sequence[int], peers: Sequence[tuple[str, Make, str]], *, quick: bool
) -> None:
    """Put the same rooms on every server, and let them take turns."""
    names = sorted(set(sockets))
    each = len(sockets) // len(names)
    seconds, turns = (0.4, 2) if quick else (2.0, 5)
    rounds: dict[str, list[float]] = {}
    lost: dict[str, int] = {}
    with Stage(redis_core=CLIENT_CORE) as stage:
        web = stage.web(core=SERVER_CORE)
        sides: list[Side] = [Ours(stage, web, sockets)]
        missing: dict[str, str] = {}
        for name, make, _ in peers:
            try:
                sides.append(make(stage, web, sockets))
            except MissingError as error:
                missing[name] = str(error)
        try:
            for _ in range(turns):
                for side in sides:
                    measure(side, names, each, seconds, rounds, lost)
        finally:
            for side in sides:
                side.load.close()
    mine = median(rounds["ours"])
    for name, _, target in peers:
        if name in missing:
            skip(f"{title} / {name}", missing[name], target)
            continue
        note = f"deliveries a second, w{WINDOW}"
        for who in ("ours", name):
            if lost.get(who):
                note += f"; {who} lost {lost[who]}"
        say(f"{title} / {name}", mine, "/s", floor=median(rounds[name]), target=target, note=note)


def main() -> None:
    quick = options(__doc__).quick
    try:
        build()
    except NoCompilerError as error:
        skip("fan-out", str(error), ">= 10")
        return
    for count in (200,) if quick else (1_000, 5_000):
        compare(f"fan-out to {count:,} sockets", [0] * count, FAN_OUT, quick=quick)


if __name__ == "__main__":
    main()
