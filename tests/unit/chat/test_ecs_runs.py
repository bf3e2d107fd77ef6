"""Runs whose agents are ECS tasks: started, looked at, stopped, refused, lost, and told in words."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from chat.errors import TokenRevoked, Unavailable
from chat.events import Action, OrderBody
from chat.ports import Alive, NudgeFailure, NudgeResult, Started
from chat.requests import Heartbeat
from chat.roles import ROLES
from chat.runs import Role, Run, RunStatus
from tests.ecs_world import EcsWorld, Nudged, runtime_on
from tests.fake_aws import FakeAws, Fault, Refused
from tests.world import ANNA, Talk

THROTTLED = Refused("ThrottlingException", "Rate exceeded")


def at_work(ecs: EcsWorld) -> tuple[Talk, str]:
    """A run whose task runs and whose agent has been heard of."""
    talk = ecs.launched()
    arn = ecs.aws.task_of(talk.id)
    ecs.aws.move(arn, "RUNNING", event=False)
    ecs.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))
    ecs.world.work_off()
    return talk, arn


def stop(talk: Talk) -> None:
    talk.world.chat.orders.give(ANNA, talk.id, OrderBody(action=Action.STOP))


# --- starting ------------------------------------------------------------------------------------


def test_a_launched_run_knows_its_task_and_where_its_output_is(ecs: EcsWorld) -> None:
    talk = ecs.launched()
    row = ecs.row(talk.id)
    assert row.handle == ecs.aws.task_of(talk.id)
    assert (row.log_group, row.launched_at is not None) == ("/omakase/agents", True)
    [card] = ecs.world.chat.runs.list(ANNA, feature_id=ecs.world.feature_id)
    assert card["log_stream"] == f"coder/agent/{row.handle.rpartition('/')[2]}"
    assert "handle" not in card
    assert ecs.status(talk.id) == "starting"


def test_what_a_task_was_started_with_is_on_its_card(ecs: EcsWorld) -> None:
    talk = ecs.launched(agent_id="miso")
    [card] = ecs.world.chat.runs.list(ANNA, feature_id=ecs.world.feature_id)
    said = ROLES.role[Role.ARCHITECT]
    assert (card["id"], card["cpu"], card["memory_mib"]) == (talk.id, said.cpu, said.memory_mib)


def test_a_task_that_takes_its_time_to_come_up_stays_starting(ecs: EcsWorld) -> None:
    talk = ecs.launched()
    for state in ("PROVISIONING", "PENDING"):
        ecs.aws.move(ecs.aws.task_of(talk.id), state, event=False)
        ecs.passes(seconds=300)
        assert ecs.status(talk.id) == "starting"


@pytest.mark.parametrize("how", [THROTTLED, Refused("ServerException", status=500), "half", "drop"])
def test_a_start_that_fails_for_now_is_told_once_and_tried_again_later(
    ecs: EcsWorld, how: Refused | str
) -> None:
    ecs.aws.faults.append(Fault("RunTask", how, times=4))
    talk = ecs.launched()
    assert ecs.status(talk.id) == "starting"
    calls = len(ecs.aws.faults)
    ecs.beat()
    ecs.beat()
    assert ecs.row(talk.id).launch_tries == 1, "not before its time"
    ecs.passes(seconds=8)
    assert ecs.row(talk.id).launch_tries == 2
    ecs.passes(seconds=8)
    assert ecs.row(talk.id).handle is None, "the pauses grow"
    ecs.passes(seconds=8)
    assert calls == 1
    assert ecs.row(talk.id).handle == ecs.aws.task_of(talk.id)
    assert len([word for word in ecs.details(talk) if "It is tried again." in word]) == 1


def test_want_of_capacity_is_on_the_card_in_words_until_there_is_some(ecs: EcsWorld) -> None:
    ecs.aws.refused_reason = "RESOURCE:MEMORY"
    talk = ecs.launched()
    for _ in range(3):
        ecs.passes(seconds=130)
    words = "The cluster has no memory left for another task. It is tried again."
    assert ecs.details(talk) == [words]
    ecs.aws.refused_reason = None
    ecs.passes(seconds=200)
    assert ecs.row(talk.id).handle == ecs.aws.task_of(talk.id)
    assert ecs.status(talk.id) == "starting"


def test_capacity_that_ecs_misses_only_later_gives_the_run_another_task(ecs: EcsWorld) -> None:
    talk = ecs.launched()
    message = talk.post("do not lose me")
    first = ecs.aws.task_of(talk.id)
    said = "Capacity is unavailable at this time."
    ecs.aws.move(first, "STOPPED", stop_code="TaskFailedToStart", reason=said)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ecs.world.chat.delivery.watch(), range(4)))
    assert ecs.status(talk.id) == "starting"
    ecs.passes(seconds=8)
    second = ecs.row(talk.id).handle
    assert second in ecs.aws.tasks
    assert second != first
    assert len(ecs.aws.tasks) == 2
    ecs.world.work_off()
    assert talk.lease() == [message["id"]]


def test_what_is_refused_for_good_fails_the_run_and_says_why(ecs: EcsWorld) -> None:
    ecs.aws.faults.append(Fault("RunTask", Refused("InvalidParameterException", "No such subnet")))
    talk = ecs.launched()
    assert ecs.status(talk.id) == "failed"
    assert "No such subnet" in ecs.details(talk)[-1]
    ecs.passes(seconds=61)
    assert ecs.aws.secrets == {}, "its token is gone with it"


def test_a_run_that_never_finds_room_fails_in_the_end(ecs: EcsWorld) -> None:
    ecs.aws.refused_reason = "RESOURCE:CPU"
    talk = ecs.launched()
    for _ in range(30):
        ecs.passes(seconds=200)
    assert ecs.status(talk.id) == "failed"
    assert "in 24 tries. The cluster has no CPU left" in ecs.details(talk)[-1]


def test_a_run_stopped_while_it_waits_for_room_is_stopped(ecs: EcsWorld) -> None:
    ecs.aws.refused_reason = "RESOURCE:CPU"
    talk = ecs.launched()
    stop(talk)
    ecs.passes(seconds=200)
    assert ecs.status(talk.id) == "stopped"
    assert ecs.aws.tasks == {}


def test_a_task_whose_start_was_answered_to_nobody_is_found_though_its_agent_is_at_work(
    ecs: EcsWorld,
) -> None:
    ecs.aws.faults.append(Fault("RunTask", "half", times=2))
    talk = ecs.launched()
    ecs.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))
    assert (ecs.status(talk.id), ecs.row(talk.id).handle) == ("working", None)
    ecs.world.work_off()
    ecs.passes(seconds=10)
    assert ecs.row(talk.id).handle == ecs.aws.task_of(talk.id)
    assert ecs.status(talk.id) == "working"


# --- how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop_code", "exit_code", "status", "words"),
    [
        ("EssentialContainerExited", 1, "failed", "said no goodbye. (EssentialContainerExited; exit code 1"),
        ("EssentialContainerExited", 137, "failed", "by SIGKILL"),
        ("SpotInterruption", 143, "failed", "Spot capacity"),
        ("TerminationNotice", None, "failed", "shut down"),
        ("InfrastructureHealth", None, "failed", "retired the machine"),
        ("TaskFailedToStart", None, "failed", "could not be started"),
        ("UserInitiated", None, "stopped", "Somebody with access to AWS"),
        ("ServiceSchedulerInitiated", None, "stopped", "An ECS service"),
    ],
)  # fmt: skip
def test_a_task_that_stopped_without_a_goodbye_ends_its_run_and_says_why(
    ecs: EcsWorld, stop_code: str, exit_code: int | None, status: str, words: str
) -> None:
    talk, arn = at_work(ecs)
    message = talk.post("unread")
    ecs.aws.move(arn, "STOPPED", stop_code=stop_code, exit_code=exit_code)
    ecs.beat()
    assert ecs.status(talk.id) == status
    assert words in ecs.details(talk)[-1]
    row = ecs.row(talk.id)
    assert (row.stop_code, row.exit_code) == (stop_code, exit_code)
    assert talk.state_of(message["id"]) == "undelivered"
    ecs.beat()
    assert ecs.aws.secrets == {}
    assert talk.id not in ecs.world.chat.log.active()


def test_an_agent_that_said_goodbye_keeps_its_own_words_and_ecss_reason_is_added(
    ecs: EcsWorld,
) -> None:
    talk, arn = at_work(ecs)
    talk.finish("stopped")
    ecs.beat()
    ecs.aws.move(arn, "STOPPED", stop_code="SpotInterruption", exit_code=143)
    ecs.beat()
    notices = [e["body"] for e in talk.events() if e["kind"] == "notice"]
    assert [one["about"] for one in notices] == ["task"]
    assert "took back the Spot capacity" in notices[0]["text"]
    assert (ecs.row(talk.id).stop_code, ecs.status(talk.id)) == ("SpotInterruption", "stopped")
    ecs.world.work_off()
    assert talk.stored() == talk.events()


def test_a_task_that_outlives_its_run_is_stopped_and_its_token_deleted(ecs: EcsWorld) -> None:
    talk, arn = at_work(ecs)
    talk.finish("completed")
    ecs.world.work_off()
    ecs.beat()
    assert ecs.aws.stopped == [], "it may end by itself"
    ecs.passes(seconds=11)
    assert ecs.aws.stopped == [(arn, "Omakase: the run is over")]
    assert talk.id in ecs.world.chat.log.active()
    ecs.aws.move(arn, "STOPPED")
    ecs.beat()
    assert ecs.aws.secrets == {}
    assert talk.id not in ecs.world.chat.log.active()
    assert ecs.status(talk.id) == "completed"


def test_a_stop_is_a_stop_also_for_an_agent_that_does_not_follow_and_whose_task_ecs_has_forgotten(
    ecs: EcsWorld,
) -> None:
    talk, arn = at_work(ecs)
    ecs.passes(seconds=120)
    ecs.aws.tasks.pop(arn)
    stop(talk)
    ecs.world.clock.advance(ms=11_000)
    talk.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))

    ecs.beat()

    assert ecs.status(talk.id) == "stopped"
    with pytest.raises(TokenRevoked):
        ecs.world.chat.tokens.agent(talk.id, ecs.world.chat.tokens.of(talk.id))


def test_an_order_to_stop_that_is_not_followed_is_carried_out_by_ecs(ecs: EcsWorld) -> None:
    talk, arn = at_work(ecs)
    stop(talk)
    ecs.beat()
    assert ecs.aws.stopped == []
    ecs.passes(seconds=11)
    assert ecs.aws.stopped == [(arn, "Omakase: a person stopped the run")]
    ecs.aws.move(arn, "STOPPED", exit_code=137)
    ecs.beat()
    assert ecs.status(talk.id) == "stopped"


def test_a_silent_agent_whose_task_runs_is_unresponsive_and_never_failed(ecs: EcsWorld) -> None:
    talk, _ = at_work(ecs)
    ecs.passes(seconds=3_600)
    assert ecs.status(talk.id) == "unresponsive"
    ecs.passes(seconds=3_600)
    assert ecs.status(talk.id) == "unresponsive"


# --- what ECS does not know, or does not say ------------------------------------------------------


def test_a_new_task_that_is_not_seen_yet_is_not_taken_for_gone(ecs: EcsWorld) -> None:
    talk = ecs.launched()
    ecs.aws.unseen = 3
    for _ in range(3):
        ecs.beat()
    assert ecs.status(talk.id) == "starting"


def test_a_task_that_ecs_has_forgotten_has_ended_once_its_agent_is_silent_too(
    ecs: EcsWorld,
) -> None:
    talk, arn = at_work(ecs)
    del ecs.aws.tasks[arn]
    ecs.world.clock.advance(ms=70_000)
    ecs.world.chat.runs.heartbeat(talk.nori, talk.id, Heartbeat(holder="h1"))
    ecs.beat()
    assert ecs.status(talk.id) == "working", "who is heard of lives"
    ecs.passes(seconds=61)
    assert ecs.status(talk.id) == "failed"
    assert "ECS does not know the task any more" in ecs.details(talk)[-1]


@pytest.mark.parametrize("how", [THROTTLED, Refused("ServerException", status=500), "drop"])
def test_while_ecs_does_not_answer_nothing_is_decided(ecs: EcsWorld, how: Refused | str) -> None:
    talk, arn = at_work(ecs)
    ecs.aws.move(arn, "STOPPED", exit_code=1)
    ecs.aws.faults.append(Fault("DescribeTasks", how, times=4))
    ecs.beat()
    ecs.beat()
    assert ecs.status(talk.id) == "working"
    ecs.beat()
    assert ecs.status(talk.id) == "failed"


def test_a_run_that_ends_before_its_new_task_is_seen_keeps_what_the_task_needs(
    ecs: EcsWorld,
) -> None:
    talk, arn = at_work(ecs)
    talk.finish("stopped")
    ecs.world.work_off()
    ecs.aws.unseen = 100
    ecs.passes(seconds=11)
    assert talk.id in ecs.world.chat.log.active(), "nobody else would ever stop it"
    assert ecs.aws.secrets
    ecs.aws.unseen = 0
    ecs.beat()
    assert [stopped for stopped, _ in ecs.aws.stopped] == [arn]


def test_a_task_that_was_started_and_not_noted_is_stopped_with_its_run(ecs: EcsWorld) -> None:
    """Two workers started one generation; one was refused, began the next, and the other died."""
    talk, arn = at_work(ecs)
    [definition] = ecs.aws.definitions[f"omakase-agent-coder-{talk.id}"]
    asked = {"clientToken": f"{talk.id}.7", "startedBy": talk.id}
    ecs.aws.do_RunTask(asked | {"taskDefinition": definition["taskDefinitionArn"]})
    talk.finish("completed")
    ecs.aws.move(arn, "STOPPED", exit_code=0)
    ecs.world.work_off()
    ecs.passes(seconds=61)
    other = next(one for one in ecs.aws.tasks_of(talk.id) if one != arn)
    assert [stopped for stopped, _ in ecs.aws.stopped] == [other]
    assert talk.id in ecs.world.chat.log.active()
    ecs.aws.move(other, "STOPPED")
    ecs.beat()
    assert (ecs.aws.secrets, ecs.world.chat.log.active()) == ({}, [])


def test_a_person_who_stops_a_run_while_ecs_takes_its_time_to_say_that_it_died_has_stopped_it(
    ecs: EcsWorld,
) -> None:
    talk, arn = at_work(ecs)
    chat = ecs.world.chat
    described = chat.delivery._watching._runtime().describe

    class Slow:
        def describe(self, handles: list[str]) -> dict[str, Alive]:
            stop(talk)
            ecs.aws.move(arn, "STOPPED", exit_code=143)
            return described(handles)

        def __getattr__(self, name: str) -> object:
            return getattr(runtime_on(ecs.aws), name)

    chat.delivery._watching._runtime = Slow  # type: ignore[assignment]  # as far as it is asked
    chat.delivery.watch()
    assert ecs.status(talk.id) == "stopped"


def test_a_row_that_the_store_does_not_give_keeps_no_other_run_from_being_looked_at(
    ecs: EcsWorld,
) -> None:
    first, lost = at_work(ecs)
    other, arn = at_work(ecs)
    for task in (lost, arn):
        ecs.aws.move(task, "STOPPED", exit_code=1)
    chat = ecs.world.chat
    context = chat.delivery._context
    store = context.store

    class Raining:
        def run(self, run_id: str) -> Run | None:
            if run_id == first.id:
                raise Unavailable("The store is not ready.")
            return store.run(run_id)

        def runs(self, **_: object) -> list[Run]:
            raise Unavailable("The store is not ready.")

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

    context.store = Raining()  # type: ignore[assignment]  # as far as it is asked
    assert chat.delivery.watch() == 1
    chat.delivery.sweep()
    context.store = store
    assert (ecs.status(first.id), ecs.status(other.id)) == ("working", "failed")
    assert chat.delivery.watch() == 1


# --- two workers, one run ------------------------------------------------------------------------


def test_of_two_workers_the_one_that_is_refused_takes_nothing_from_the_one_that_is_not(
    ecs: EcsWorld,
) -> None:
    talk = ecs.launched(work=False)
    chat, launching = ecs.world.chat, ecs.world.chat.delivery._launching
    row = ecs.row(talk.id)
    chat.delivery.launch(talk.id)
    handle = ecs.row(talk.id).handle
    launching.postpone(row, "There is no room.", anew=True)
    assert (ecs.row(talk.id).handle, ecs.row(talk.id).generation) == (handle, 0)
    ecs.passes(seconds=200)
    assert list(ecs.aws.tasks) == [handle]


def test_a_task_whose_generation_is_over_before_it_is_noted_is_stopped(ecs: EcsWorld) -> None:
    talk = ecs.launched(work=False)
    row, launching = ecs.row(talk.id), ecs.world.chat.delivery._launching
    started = launching._started

    def late(run: Run) -> Started | None:
        found = started(run)
        launching.postpone(row, "There is no room.", anew=True)  # what another worker does
        return found

    launching._started = late  # type: ignore[method-assign]  # it is a moment later than it was
    assert ecs.world.chat.delivery.launch(talk.id) is None
    [first] = ecs.aws.tasks
    assert [stopped for stopped, _ in ecs.aws.stopped] == [first]
    launching._started = started  # type: ignore[method-assign]  # as it was
    ecs.aws.move(first, "STOPPED")
    ecs.passes(seconds=60)
    second = ecs.row(talk.id).handle
    assert (second in ecs.aws.tasks, second != first) == (True, True)


def test_a_generation_that_runs_all_the_same_is_found_before_another_is_begun(
    ecs: EcsWorld,
) -> None:
    talk = ecs.launched()
    [first] = ecs.aws.tasks
    ecs.world.chat.store.update_run(talk.id, handle=None, generation=1)
    ecs.beat()
    assert (ecs.row(talk.id).handle, list(ecs.aws.tasks)) == (first, [first])


def test_a_run_that_ends_while_its_task_is_being_started_is_swept_once_more(
    ecs: EcsWorld,
) -> None:
    talk = ecs.launched(work=False)
    launching = ecs.world.chat.delivery._launching
    started = launching._started

    def slow(run: Run) -> Started | None:
        found = started(run)
        ecs.world.chat.runs.end(run.id, RunStatus.STOPPED, "Stopped.")
        ecs.world.work_off()
        ecs.world.chat.log.retire(run.id)  # a sweep has looked for a task before there was one
        ecs.aws.faults.append(Fault("StopTask", THROTTLED, times=2))
        return found

    launching._started = slow  # type: ignore[method-assign]  # it takes longer than it did
    with pytest.raises(Unavailable):
        ecs.world.chat.delivery.launch(talk.id)
    [task] = ecs.aws.tasks
    assert talk.id in ecs.world.chat.log.active()
    ecs.passes(seconds=11)
    assert [stopped for stopped, _ in ecs.aws.stopped] == [task]


def test_what_a_slow_worker_makes_for_a_run_that_is_over_is_taken_away_again(
    ecs: EcsWorld,
) -> None:
    talk, arn = at_work(ecs)
    talk.finish("completed")
    ecs.aws.move(arn, "STOPPED", exit_code=0)
    ecs.world.work_off()
    ecs.passes(seconds=61)
    assert (ecs.aws.secrets, ecs.world.chat.log.active()) == ({}, [])
    runtime_on(ecs.aws)._definitions.make(ecs.row(talk.id), "t0ken")
    ecs.world.chat.delivery.launch(talk.id)  # the worker was killed, and its task comes again
    ecs.beat()
    assert (ecs.aws.secrets, ecs.world.chat.log.active()) == ({}, [])
    own = ecs.aws.definitions[f"omakase-agent-coder-{talk.id}"]
    assert [one["status"] for one in own] == ["INACTIVE"] * 2


def test_hints_about_a_new_task_count_though_the_last_one_had_come_further(ecs: EcsWorld) -> None:
    talk = ecs.launched()
    first = ecs.aws.task_of(talk.id)
    for status in ("PENDING", "ACTIVATING", "DEPROVISIONING"):
        ecs.aws.move(first, status)
    said = "Capacity is unavailable at this time."
    ecs.aws.move(first, "STOPPED", stop_code="TaskFailedToStart", reason=said)
    ecs.hear()
    ecs.passes(seconds=8)
    second = ecs.row(talk.id).handle
    assert second is not None
    ecs.aws.move(second, "STOPPED", stop_code="EssentialContainerExited", exit_code=1)
    assert ecs.hear() == 1
    assert ecs.status(talk.id) == "failed"


# --- events --------------------------------------------------------------------------------------


def test_an_event_has_its_task_looked_at_at_once(ecs: EcsWorld) -> None:
    talk, arn = at_work(ecs)
    ecs.aws.move(arn, "STOPPED", stop_code="SpotInterruption")
    assert ecs.hear() == 1
    assert ecs.status(talk.id) == "failed"
    assert ecs.aws.messages == []


def test_events_twice_and_out_of_order_cost_one_look_and_change_nothing(ecs: EcsWorld) -> None:
    _, arn = at_work(ecs)
    other, _ = at_work(ecs)
    for version in (2, 1, 2, 2, 1):
        ecs.aws.announce(arn, version=version)
    before = ecs.aws.calls["DescribeTasks"]
    ecs.hear()
    assert ecs.aws.calls["DescribeTasks"] == before + 1
    for version in (1, 2):
        ecs.aws.announce(arn, version=version)
    ecs.hear()
    assert ecs.aws.calls["DescribeTasks"] == before + 1, "nothing newer"
    assert ecs.status(other.id) == "working"
    assert ecs.aws.messages == []


def test_an_event_that_lies_ends_nothing(ecs: EcsWorld) -> None:
    talk, arn = at_work(ecs)
    ecs.aws.announce(arn, version=99)
    ecs.hear()
    assert ecs.status(talk.id) == "working"


def test_an_event_about_a_task_nobody_noted_leads_to_its_run(ecs: EcsWorld) -> None:
    ecs.aws.faults.append(Fault("RunTask", "half", times=2))
    talk = ecs.launched()
    ecs.aws.announce(ecs.aws.task_of(talk.id))
    ecs.world.clock.advance(ms=10_000)
    ecs.hear()
    ecs.world.work_off()
    assert ecs.row(talk.id).handle == ecs.aws.task_of(talk.id)


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        "{}",
        '{"source":"aws.s3","detail-type":"Object Created","detail":{}}',
        '{"source":"aws.ecs","detail-type":"ECS Task State Change","detail":{"taskArn":"a"}}',
        '{"source":"aws.ecs","detail-type":"ECS Task State Change","detail":[]}',
    ],
)
def test_what_cannot_be_read_keeps_nobody_waiting_and_ends_in_the_dead_letter_queue(
    ecs: EcsWorld, body: str
) -> None:
    talk, arn = at_work(ecs)
    ecs.aws.receptions_max, ecs.aws.visibility_s = 2, 0.3
    ecs.aws.put(body)
    ecs.aws.move(arn, "STOPPED", exit_code=1)
    ended = ecs.hear()
    while ecs.aws.messages:
        ended += ecs.hear()
    assert (ended, ecs.status(talk.id)) == (1, "failed")
    assert [message["Body"] for message in ecs.aws.dead] == [body]


def test_a_task_of_somebody_else_in_the_cluster_is_passed_over(ecs: EcsWorld) -> None:
    _, arn = at_work(ecs)
    ecs.aws.tasks[arn]["startedBy"] = "ecs-svc/123"
    ecs.aws.announce(arn, version=9)
    assert ecs.hear() == 0
    assert ecs.aws.messages == []


# --- nudges --------------------------------------------------------------------------------------


def waiting(
    make_ecs: Callable[..., EcsWorld], result: NudgeResult
) -> tuple[EcsWorld, Nudged, Talk]:
    nudge = Nudged(result, [])
    ecs = make_ecs(nudge=nudge)
    talk, _ = at_work(ecs)
    return ecs, nudge, talk


def nudges(ecs: EcsWorld) -> None:
    """What beat and the worker do."""
    ecs.world.chat.delivery.look_for_quiet()
    for number, (name, *words) in enumerate(ecs.world.tasks.take()):
        if name == "nudge":
            ecs.world.chat.delivery.nudge(words[0], f"celery-{number}")


def test_an_agent_that_leaves_mail_unread_is_nudged_and_the_log_says_how_it_went(
    make_ecs: Callable[..., EcsWorld],
) -> None:
    failed = NudgeResult(False, NudgeFailure.NOT_CONNECTED, "AWS has no connection.", 120)
    ecs, nudge, talk = waiting(make_ecs, failed)
    message = talk.post("are you there?")
    ecs.world.work_off()
    nudges(ecs)
    assert nudge.runs == [], "it has had no time yet"
    ecs.world.clock.advance(ms=31_000)
    nudges(ecs)
    [notice] = [e["body"] for e in talk.events() if e["kind"] == "notice"]
    assert nudge.runs == [talk.id]
    assert notice == {
        "about": "nudge", "text": "AWS has no connection.", "ids": [message["id"]],
        "failure": "not_connected", "duration_ms": 120, "task_id": "celery-0",
    }  # fmt: skip
    assert talk.state_of(message["id"]) == "stored"
    assert talk.lease() == [message["id"]], "it cost nothing but time"


def test_a_run_is_nudged_once_in_a_while_and_not_for_what_was_taken(
    make_ecs: Callable[..., EcsWorld],
) -> None:
    ecs, nudge, talk = waiting(make_ecs, NudgeResult(True, None, "ok", 5))
    talk.post("one")
    ecs.world.work_off()
    ecs.world.clock.advance(ms=31_000)
    for _ in range(5):
        nudges(ecs)
        ecs.world.clock.advance(ms=10_000)
    assert nudge.runs == [talk.id]
    ecs.world.clock.advance(ms=90_000)
    nudges(ecs)
    assert nudge.runs == [talk.id] * 2
    talk.lease()
    ecs.world.clock.advance(ms=200_000)
    nudges(ecs)
    assert nudge.runs == [talk.id] * 2


def test_two_looks_that_overlap_nudge_once(make_ecs: Callable[..., EcsWorld]) -> None:
    ecs, _, talk = waiting(make_ecs, NudgeResult(True, None, "ok", 5))
    talk.post("hm?")
    ecs.world.work_off()
    ecs.world.clock.advance(ms=31_000)
    with ThreadPoolExecutor(4) as pool:
        queued = [pool.submit(ecs.world.chat.delivery.look_for_quiet) for _ in range(8)]
        assert sum(one.result() for one in queued) == 1


def test_what_may_wait_does_not_nudge(make_ecs: Callable[..., EcsWorld]) -> None:
    ecs, nudge, talk = waiting(make_ecs, NudgeResult(True, None, "ok", 5))
    talk.post("after your task", mode="queue")
    ecs.world.work_off()
    ecs.world.clock.advance(ms=60_000)
    nudges(ecs)
    pause = ecs.world.chat.orders.give(ANNA, talk.id, OrderBody(action=Action.PAUSE))
    talk.post("held")
    ecs.world.work_off()
    assert talk.lease() == [pause.event["id"]]
    talk.confirm(pause.event["id"])
    ecs.world.clock.advance(ms=60_000)
    nudges(ecs)
    assert nudge.runs == []
    arn = ecs.row(talk.id).handle
    assert arn is not None
    del talk


def test_aws_is_asked_nothing_for_runs_that_were_attached_by_hand(
    ecs: EcsWorld,
    aws: FakeAws,
) -> None:
    talk = ecs.world.talk()
    talk.finish("stopped")
    ecs.world.work_off()
    before = dict(aws.calls)
    ecs.beat()
    assert dict(aws.calls) == before
    assert talk.id not in ecs.world.chat.log.active()
