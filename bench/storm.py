"""Everybody comes back at once: 5,000 sockets, each of which has missed 50 events.

The time until the last one has all that it missed, against the time in which the same sockets connected
first (on a process as warm). The database must not be asked meanwhile: its calls are counted. And once
more on a process that was just started and knows nothing, as after a deployment: it reads each run's row
once, and no event.
"""

from __future__ import annotations

from bench.figure import median, options, say, skip
from bench.load import Load, NoCompilerError, appends, build, ours
from bench.stage import CLIENT_CORE, SERVER_CORE, Stage, Web

MISSED = 50
RUNS = 50


def main() -> None:
    quick = options(__doc__).quick
    try:
        build()
    except NoCompilerError as error:
        skip("reconnect storm", str(error), "<= 2")
        return
    count, rounds = (500, 1) if quick else (5_000, 3)
    first_s, again_s, asked, fresh_s, fresh_asked = [], [], [], [], []
    with Stage(redis_core=CLIENT_CORE) as stage:
        web = stage.web(core=SERVER_CORE, app="bench.counted:app()")
        runs = [run_id for run_id, _ in stage.runs(RUNS)]
        warm = [runs[index % RUNS] for index in range(RUNS * 4)]
        ours(stage, web, warm).close()

        def calls(one: Web) -> int:
            return int(one.ask("GET", "/bench/store-calls")[2])

        def publish(load: Load, times: int) -> None:
            sent = appends(stage, [run_id for _ in range(times) for run_id in runs])
            done = load.run(stage.redis.port, sent, window=32, each=1)
            assert not done.lost, done

        for _ in range(rounds):
            heads = {run_id: stage.chat.log.snapshot(run_id).head for run_id in runs}
            everybody = [runs[index % RUNS] for index in range(count)]
            with ours(stage, web, everybody) as load:
                first_s.append(load.connected_s)
            # somebody else goes on while they are away: it is not an empty process they come back to
            with ours(stage, web, runs) as load:
                publish(load, MISSED)
            before = calls(web)
            (after,) = set(heads.values())
            with ours(stage, web, everybody, after=after, expect=MISSED) as load:
                again_s.append(load.connected_s)
            asked.append(calls(web) - before)
            fresh = stage.web(core=SERVER_CORE, app="bench.counted:app()")
            before = calls(fresh)
            with ours(stage, fresh, everybody, after=after, expect=MISSED) as load:
                fresh_s.append(load.connected_s)
            fresh_asked.append(calls(fresh) - before)
            fresh.started.stop()
    say(
        f"{count:,} sockets come back, each {MISSED} events behind / their first connect",
        median(again_s), "s", floor=median(first_s), target="<= 2",
    )  # fmt: skip
    say(
        "the same to a process just started / their first connect", median(fresh_s), "s",
        floor=median(first_s), target="<= 2", note=f"{max(fresh_asked)} calls of the store: the {RUNS} runs' rows",
    )  # fmt: skip
    say("calls of the store by all of them", max(asked), "calls", target="<= 0")


if __name__ == "__main__":
    main()
