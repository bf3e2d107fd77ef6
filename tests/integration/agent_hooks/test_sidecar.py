"""The sidecar as a real process: what it delivers, what it survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_hooks import local
from agent_hooks.errors import Ended, Interrupted, Stopped
from agent_hooks.loop import Agent, Mail
from agent_hooks.state import StateDir, read_json


@pytest.fixture
def agent(state: StateDir, env: dict[str, str]) -> Agent:
    return Agent.connect(env)


def drained(agent: Agent) -> list[Mail]:
    """Wait for mail, and take it."""
    assert agent.wait(20.0), "nothing came"
    return agent.drain()


def kill(state: StateDir) -> None:
    os.kill(int(read_json(state / "local.json")["pid"]), signal.SIGKILL)


def test_a_message_is_drained_and_confirmed_with_its_exact_text(server: Any, agent: Agent) -> None:
    wanted = server.say("call it total_price")
    (mail,) = drained(agent)
    assert (mail.id, mail.kind, mail.author) == (wanted, "message", "Anna")
    assert mail.text == "call it total_price"
    assert "call it total_price" in mail.envelope
    assert server.state(wanted) == "leased"
    agent.confirm([mail.id], text="Anna says: call it total_price", step=3)
    server.wait(lambda: server.state(wanted) == "in_context")
    assert server.mail[wanted].proof == {"step": 3, "text": "Anna says: call it total_price"}


def test_what_was_drained_is_not_given_to_a_second_reader(
    server: Any, agent: Agent, env: Any
) -> None:
    server.say("one")
    assert len(drained(agent)) == 1
    assert Agent.connect(env).drain() == []


def test_after_a_kill_the_message_comes_once_more_but_not_to_who_has_it(
    server: Any, agent: Agent, state: StateDir, env: dict[str, str]
) -> None:
    wanted = server.say("remember me")
    (mail,) = drained(agent)
    before = len(server.holders)
    kill(state)
    agent.status("working")  # starts a new sidecar
    server.wait(lambda: len(server.holders) > before and server.mail[wanted].attempt == 2)
    assert agent.drain() == []
    again = StateDir(state.path)
    assert local.call(again, "status")["waiting"] in (0, 1)
    agent.confirm([mail.id], text="I have it")
    server.wait(lambda: server.state(wanted) == "in_context")
    assert server.mail[wanted].proof["text"] == "I have it"


def test_a_killed_agent_and_sidecar_lose_nothing_that_was_not_confirmed(
    server: Any, agent: Agent, state: StateDir, env: dict[str, str]
) -> None:
    wanted = server.say("not lost")
    drained(agent)
    kill(state)
    successor = Agent.connect(env)
    assert [mail.id for mail in drained(successor)] == [wanted]


def test_what_was_confirmed_is_never_given_again_even_if_the_confirmation_was_slow(
    server: Any, agent: Agent, state: StateDir, env: dict[str, str]
) -> None:
    wanted = server.say("once")
    (mail,) = drained(agent)
    server.away()
    agent.confirm([mail.id], text="once")
    kill(state)
    server.back()
    successor = Agent.connect(env)
    server.wait(lambda: server.state(wanted) == "in_context")
    assert successor.drain() == []


def test_events_made_while_the_server_is_away_arrive_later_in_order_and_once(
    server: Any, agent: Agent, state: StateDir
) -> None:
    agent.say("before")
    server.wait(lambda: server.said() == ["before"])
    server.away()
    for number in range(150):
        agent.say(f"number {number}")
    kill(state)
    agent.say("last")
    server.back()
    server.wait(lambda: len(server.said()) >= 152)
    assert server.said() == ["before", *[f"number {n}" for n in range(150)], "last"]


@pytest.mark.parametrize("mode", ["500", "drop"])
def test_trouble_on_the_way_doubles_and_loses_nothing(server: Any, agent: Agent, mode: str) -> None:
    server.mode = mode
    for number in range(20):
        agent.say(f"number {number}")
    calls = server.calls["events"]
    server.wait(lambda: server.calls["events"] >= calls + 2)
    server.mode = "ok"
    server.wait(lambda: len(server.said()) >= 20)
    assert server.said() == [f"number {n}" for n in range(20)]


def test_a_lease_whose_answer_was_lost_is_taken_over_and_read(server: Any, agent: Agent) -> None:
    server.wait(lambda: server.calls["mailbox"] >= 1)
    server.fails = lambda path: "/mailbox?" in path
    server.mode = "drop"
    wanted = server.say("the answer with me was lost")
    server.wait(lambda: server.mail[wanted].attempt >= 1)
    server.mode = "ok"
    assert [mail.id for mail in drained(agent)] == [wanted]


def test_an_event_the_server_refuses_does_not_hold_up_the_others(server: Any, agent: Agent) -> None:
    server.mode = "500"
    for text in ("one", "refuse me", "two"):
        agent.say(text)
    server.mode = "ok"
    server.wait(lambda: server.said() == ["one", "two"])


def test_a_pause_holds_the_agent_until_it_is_resumed(
    server: Any, agent: Agent, until: Callable[..., Any]
) -> None:
    order = server.order("pause")
    until(lambda: agent.waiting().paused)
    passed = threading.Event()

    def go() -> None:
        agent.checkpoint()
        passed.set()

    thread = threading.Thread(target=go)
    thread.start()
    server.wait(lambda: server.status == "paused")
    server.wait(lambda: server.state(order) == "in_context")
    server.say("held back")
    assert not passed.is_set()
    server.order("resume")
    assert passed.wait(20)
    thread.join()
    server.wait(lambda: server.status == "working")
    assert [mail.text for mail in drained(agent)] == ["held back"]


def test_an_interrupt_is_raised_once(server: Any, agent: Agent) -> None:
    order = server.order("interrupt", reason="wrong file")
    with pytest.raises(Interrupted) as caught:
        agent.wait(20)
    assert (caught.value.by, caught.value.reason) == ("Anna", "wrong file")
    agent.checkpoint()
    server.wait(lambda: server.state(order) == "in_context")


def test_a_message_that_wants_to_be_read_now_interrupts_and_is_then_drained(
    server: Any, agent: Agent
) -> None:
    server.say("now!", mode="interrupt")
    with pytest.raises(Interrupted):
        agent.wait(20)
    agent.checkpoint()
    assert [mail.text for mail in agent.drain()] == ["now!"]


def test_stop_is_raised_until_the_agent_has_finished(server: Any, agent: Agent) -> None:
    wanted = server.say("never read", mode="queue")
    server.order("stop", reason="enough")
    for _ in range(2):
        with pytest.raises(Stopped):
            agent.wait(20)
    assert agent.finish("Anna stopped it.", outcome="stopped") == []
    assert server.ended["outcome"] == "stopped"
    assert server.state(wanted) == "undelivered"


def test_a_message_for_after_the_task_waits_for_its_end(server: Any, agent: Agent) -> None:
    server.say("later", mode="queue")
    server.say("now")
    assert [mail.text for mail in drained(agent)] == ["now"]
    assert [mail.text for mail in agent.drain(task_end=True)] == ["later"]


def test_the_agent_cannot_finish_past_something_unread(
    server: Any, agent: Agent, state: StateDir, until: Callable[..., Any]
) -> None:
    agent.say("my last words")
    wanted = server.say("wait, one more thing")
    (mail,) = agent.finish("Done.")
    assert mail.id == wanted
    assert server.ended is None
    agent.confirm([mail.id], text=mail.text)
    assert agent.finish("Done.") == []
    assert server.ended["summary"] == "Done."
    assert server.ended["last_seq"] >= 2
    assert server.said() == ["my last words"]
    until(lambda: not (state / "sidecar.sock").exists())
    with pytest.raises(Ended):
        agent.say("too late")


def test_a_streamed_message_grows_and_is_completed_under_its_id(server: Any, agent: Agent) -> None:
    with agent.stream() as out:
        out.write("héllo ")
        server.wait(lambda: server.deltas.get(out.id) == "héllo ")
        out.write("wörld 🍣")
        server.wait(lambda: server.deltas.get(out.id) == "héllo wörld 🍣")
        message_id = out.id
    (event,) = server.wait(lambda: [e for e in server.of("message") if e["id"] == message_id])
    assert event["body"]["text"] == "héllo wörld 🍣"


def test_a_step_reports_its_start_and_how_it_ended(server: Any, agent: Agent) -> None:
    with agent.step("pytest") as step:
        step.summary = "3 passed"
    with pytest.raises(RuntimeError), agent.step("edit"):
        raise RuntimeError
    steps = server.wait(lambda: len(server.of("step")) == 4 and server.of("step"))
    bodies = [event["body"] for event in steps]
    assert [(b["step"], b["name"], b["state"], b.get("ok")) for b in bodies] == [
        (1, "pytest", "started", None),
        (1, "pytest", "finished", True),
        (2, "edit", "started", None),
        (2, "edit", "finished", False),
    ]
    assert bodies[1]["summary"] == "3 passed"
    assert bodies[1]["duration_ms"] >= 0


def test_an_answer_reaches_who_asked_and_is_not_read_a_second_time(
    server: Any, agent: Agent
) -> None:
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(agent.ask("colour", "Which?", options=["red", "green"]))
    )
    thread.start()
    question = server.wait(lambda: server.questions.get("colour"))
    reply = server.answer(question["id"], value="green")
    thread.join(20)
    assert (found[0].value, found[0].by, found[0].outcome) == ("green", "Anna", "answered")
    server.wait(lambda: server.state(reply) == "in_context")
    assert agent.drain() == []
    assert agent.finish("Done.") == []


def test_a_question_survives_the_death_of_who_asked(
    server: Any, state: StateDir, env: dict[str, str], pyz: Path, hooks: Callable[..., Any]
) -> None:
    command = [
        sys.executable, "-I", str(pyz), "ask", "--handle", "colour", "--text", "Which?",
        "--option", "r=Red", "--option", "g=Green",
    ]  # fmt: skip
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as asking:
        question = server.wait(lambda: server.questions.get("colour"))
        asking.kill()
    kill(state)
    still_open = hooks(*command[3:], "--no-wait")
    assert still_open.returncode == 3
    assert '"open"' in still_open.stdout
    server.answer(question["id"], value="g")
    answered = hooks(*command[3:], "--wait", "20")
    assert answered.returncode == 0, answered.stderr
    assert '"value": "g"' in answered.stdout
    assert len(server.of("question")) == 1


def test_an_answer_that_nobody_was_there_to_hear_is_not_called_seen(
    server: Any, agent: Agent, env: dict[str, str], pyz: Path, until: Callable[..., Any]
) -> None:
    command = [
        sys.executable, "-I", str(pyz), "ask", "--handle", "colour", "--text", "Which?",
        "--option", "r=Red",
    ]  # fmt: skip
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as asking:
        question = server.wait(lambda: server.questions.get("colour"))
        asking.kill()
    reply = server.answer(question["id"], value="r")
    mail = until(agent.drain)
    assert [one.id for one in mail] == [reply]
    assert server.state(reply) == "leased"
    agent.confirm([reply], text=mail[0].text)
    server.wait(lambda: server.state(reply) == "in_context")


def test_there_is_one_sidecar_however_many_are_started(state: StateDir, server: Any) -> None:
    threads = [threading.Thread(target=local.start_sidecar, args=(state,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = local.ensure_sidecar(state)
    server.wait(lambda: server.calls["mailbox"] >= 1)
    assert len(server.holders) == 1
    assert local.call(state, "ping")["instance"] == first["instance"]


def test_the_loopback_door_wants_its_secret(agent: Agent, state: StateDir) -> None:
    request = b'{"op": "ping"}'
    assert b"instance" in local._by_http(state, request, 5.0)
    address = state / "local.json"
    right = address.read_bytes()
    address.write_bytes(right.replace(b'"secret": "', b'"secret": "x'))
    assert b"forbidden" in local._by_http(state, request, 5.0)
    address.write_bytes(right)
    for name in ("config.json", "local.json", "sidecar.sock", "inbox.jsonl", "spool.bin"):
        assert (state / name).stat().st_mode & 0o077 == 0, name


def test_an_agent_that_vanishes_is_reported_as_failed(
    server: Any, state: StateDir, env: dict[str, str]
) -> None:
    code = "from agent_hooks.loop import Agent; Agent.connect()"
    root = str(Path(local.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], env=env | {"PYTHONPATH": root}, check=True)
    server.wait(lambda: server.ended)
    assert server.ended["outcome"] == "failed"
