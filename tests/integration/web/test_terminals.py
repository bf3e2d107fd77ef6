"""An owner's terminal, end to end: a real web process, boto3, the data channel, and a real shell on a pty."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import websocket

from chat.access import Level, Permission, Principal, may
from chat.adapters.ecs_exec_commands import COMMANDS, command_line
from chat.errors import Invalid
from chat.events import EVENT, SenderKind
from tests.fake_aws import Fault, Refused
from tests.serving import Api, Server, own_server, server, until, web_redis
from tests.ssm_agent import ChannelServer, FakeAgent, secret
from tests.ssm_shell import ShellAgent
from tests.terminals import (
    PROMPT,
    SWITCHED_ON,
    Screen,
    TerminalWorld,
    own_terminals,
    terminals,
    terminals_for_all,
)

__all__ = ["own_server", "own_terminals", "server", "terminals", "terminals_for_all", "web_redis"]

SHELL = "sh -c 'command -v bash >/dev/null && exec bash; exec sh'"


def plain_shell(world: TerminalWorld, **options: Any) -> None:
    """A shell whose prompt and echo are the same on every machine."""
    world.make = lambda _: ShellAgent(argv=("sh",), **options)


def refused(open_it: Callable[[], Any]) -> tuple[int, dict[str, Any]]:
    with pytest.raises(websocket.WebSocketBadStatusException) as error:
        open_it()
    return error.value.status_code, orjson.loads(error.value.resp_body)


# --- it works -------------------------------------------------------------------------------------


def test_what_is_typed_is_done_in_the_container_and_shown(terminals: TerminalWorld):
    run_id = terminals.run()
    with terminals.screen(run_id).open(cols=100, rows=30) as screen:
        assert screen.frame("hello")["idle_s"] == 600
        screen.frame("opened")
        screen.type("echo $((6*7))\r")
        screen.sees(b"42\r\n")
        screen.type("stty size\r")
        screen.sees(b"30 100\r\n")
        screen.send(type="resize", cols=132, rows=43)
        until(lambda: terminals.agents[-1].sizes[-1] == {"cols": 132, "rows": 43})
        screen.type("stty size\r")
        screen.sees(b"43 132\r\n")
        screen.type("exit\r")
        assert screen.frame("closed")["end"] == "shell_ended"
        assert screen.closed_with() == 1000
    assert terminals.commands == [SHELL]


def test_ctrl_c_interrupts_and_the_shell_goes_on(terminals: TerminalWorld):
    plain_shell(terminals)
    with terminals.screen(terminals.run()).open() as screen:
        screen.sees(PROMPT)
        screen.type("(echo begun; exec sleep 1000)\r")
        screen.sees(b"\r\nbegun\r\n")
        screen.type("\x03")
        screen.sees(PROMPT)
        screen.type("echo still $((1+1))\r")
        screen.sees(b"\r\nstill 2\r\n")


def test_a_text_of_many_frames_comes_in_and_goes_out_whole(terminals: TerminalWorld):
    plain_shell(terminals)
    words = "".join(f"line {number} äöü €\n" for number in range(20_000))
    with terminals.screen(terminals.run()).open() as screen:
        screen.sees(PROMPT)
        # without echo and line discipline, so that what comes out is what went in
        size = len(words.encode())
        screen.type(f"stty raw -echo; printf READ''Y; head -c {size} | sha256sum\r")
        screen.sees(b"READY")
        data = words.encode()
        for start in range(0, len(data), 16_384):
            screen.type(data[start : start + 16_384])
        screen.sees(hashlib.sha256(data).hexdigest().encode())


# --- the record -----------------------------------------------------------------------------------


def test_it_is_in_the_runs_own_log_once_when_opened_and_once_when_closed_and_stored(
    terminals: TerminalWorld,
):
    plain_shell(terminals)
    run_id = terminals.run()
    secret = "hunter2-typed-and-shown"
    with terminals.screen(run_id).open("the tests hang") as screen:
        opened = screen.frame("opened")
        screen.sees(PROMPT)
        typed = f"echo {secret}\r"
        screen.type(typed)
        screen.sees(f"\r\n{secret}\r\n".encode())
        screen.sees(PROMPT)
        screen.send(type="close")
        assert screen.frame("closed")["end"] == "left"
    begin, end = terminals.records(run_id)

    assert begin["by"]["name"] == end["by"]["name"] == "Anna"
    assert begin["text"] == "Anna opened a terminal in the agent's container: the tests hang"
    assert begin["terminal"] == {"id": opened["id"], "state": "opened", "reason": "the tests hang"}
    assert end["text"] == "Anna's terminal in the agent's container ended: it was closed."
    assert end["terminal"] == {
        "id": opened["id"], "state": "closed", "reason": "the tests hang", "end": "left",
        "typed_bytes": len(typed), "shown_bytes": end["terminal"]["shown_bytes"],
    }  # fmt: skip
    assert end["terminal"]["shown_bytes"] >= len(secret) + len(PROMPT)
    assert 0 < end["duration_ms"] < 60_000
    terminals.server.chat.delivery.drain(run_id)
    page = terminals.server.chat.store.events(run_id, limit=1_000)
    stored = [orjson.loads(record.data) for record in page.records]
    kept = [event for event in stored if event["body"].get("about") == "terminal"]
    assert [event["body"]["terminal"]["state"] for event in kept] == ["opened", "closed"]
    for event in stored:
        EVENT.validate_python(event)
    everything = b"".join(r.data for r in page.records) + terminals.server.log.read_bytes()
    assert secret.encode() not in everything
    lines = [
        orjson.loads(line)
        for line in terminals.server.log.read_text().splitlines()
        if opened["id"] in line
    ]
    assert [(line["event"], line["state"], line["run_id"]) for line in lines] == [
        ("terminal", "opened", run_id), ("terminal", "closed", run_id),
    ]  # fmt: skip
    assert "the tests hang" not in terminals.server.log.read_text()


def test_nothing_is_shown_before_it_stands_in_the_log(terminals: TerminalWorld):
    plain_shell(terminals)
    run_id = terminals.run()
    with terminals.screen(run_id).open() as screen:
        screen.until(lambda: screen.shown)
        assert [f["type"] for f in screen.frames][-1] == "opened"
        assert terminals.states(run_id) == ["opened"]


@pytest.mark.parametrize("level", ["viewer", "commenter", "operator"])
def test_who_is_no_owner_is_refused_before_the_handshake_and_that_is_recorded(
    terminals: TerminalWorld, level: str
):
    run_id = terminals.run()
    status, problem = refused(lambda: terminals.screen(run_id, terminals.level(level)))
    assert (status, problem["code"]) == (403, "forbidden")
    (record,) = terminals.records(run_id)
    assert (record["by"]["name"], record["terminal"]["state"]) == (level.title(), "refused")
    assert "'exec'" in record["text"]
    assert terminals.commands == []


def test_exec_is_a_permission_of_its_own_and_owners_alone_have_it():
    for level in Level:
        person = Principal(kind=SenderKind.PERSON, id="p", name="P", level=level)
        assert may(person, Permission.EXEC, None) is (level is Level.OWNER)
    agent = Principal(kind=SenderKind.AGENT, id="nori", name="Nori", run_id="run_1")
    assert not may(agent, Permission.EXEC, None)


def test_a_foreign_or_unknown_run_is_not_there_and_nothing_is_written(terminals: TerminalWorld):
    status, problem = refused(lambda: terminals.screen("run_00000000000000000000000000"))
    assert (status, problem["code"]) == (404, "not_found")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
def test_another_origin_is_refused_before_the_handshake(terminals: TerminalWorld, origin: Any):
    run_id = terminals.run()
    options = {"origin": origin} if origin else {"origin": None, "suppress_origin": True}
    status, problem = refused(lambda: terminals.screen(run_id, **options))
    assert (status, problem["code"]) == (403, "bad_origin")
    assert terminals.records(run_id) == []


def test_nobody_and_an_agents_token_come_to_no_handshake(terminals: TerminalWorld):
    run_id = terminals.run()
    nobody = Api(terminals.server.port)
    assert refused(lambda: terminals.screen(run_id, nobody))[0] == 401
    token = terminals.server.chat.tokens.of(run_id)
    header = [f"Authorization: Bearer {token}"]
    assert refused(lambda: terminals.screen(run_id, nobody, header=header))[0] == 403
    assert terminals.records(run_id) == []


def test_a_plain_get_is_told_that_this_is_a_socket(terminals: TerminalWorld):
    run_id = terminals.run()
    origin = terminals.server.origin
    reply = terminals.person().get(f"/api/agent-runs/{run_id}/terminal", Origin=origin)
    assert (reply.status, reply.json["code"]) == (400, "bad_request")
    assert terminals.records(run_id) == []


@pytest.mark.parametrize(
    "environ", [{"EXEC_TERMINAL": "off"}, {"RUNTIME": "local"}, {"EXEC_TERMINAL": ""}]
)
def test_switched_off_there_is_no_such_thing_for_anybody(
    own_terminals: Callable[..., TerminalWorld], environ: dict[str, str]
):
    world = own_terminals(**environ)
    anna = world.person()
    assert anna.get("/api/session").json["terminal"] is False
    run_id = world.queued()
    assert refused(lambda: world.screen(run_id))[0] == 404
    assert refused(lambda: world.screen(run_id, world.level("viewer")))[0] == 404
    assert world.records(run_id) == []


def test_the_session_says_who_may_open_one(terminals: TerminalWorld):
    assert terminals.person().get("/api/session").json["terminal"] is True
    assert terminals.level("operator").get("/api/session").json["terminal"] is False


# --- not now --------------------------------------------------------------------------------------


def test_without_a_task_there_is_nothing_to_enter(terminals: TerminalWorld):
    run_id = terminals.queued()
    with terminals.screen(run_id).open() as screen:
        assert screen.frame("refused")["problem"]["code"] == "conflict"
        assert screen.closed_with() == 4409
    (record,) = terminals.records(run_id)
    assert record["terminal"]["state"] == "refused"
    assert "no task" in record["text"]


def test_a_container_has_one_terminal_so_that_the_nudge_has_the_other_session(
    terminals: TerminalWorld,
):
    plain_shell(terminals)
    run_id = terminals.run()
    with terminals.screen(run_id).open() as first:
        first.sees(PROMPT)
        for person in (terminals.person("Anna"), terminals.person("Ben")):
            with terminals.screen(run_id, person).open() as second:
                assert "one at a time" in second.frame("refused")["problem"]["detail"]
                assert second.closed_with() == 4409
        first.send(type="close")
        first.closed_with()
    assert terminals.states(run_id) == ["opened", "refused", "refused", "closed"]
    with terminals.screen(run_id).open() as again:
        again.sees(PROMPT)


def test_a_process_has_a_few_terminals_and_a_place_is_given_back(terminals: TerminalWorld):
    plain_shell(terminals)
    screens = []
    try:
        for _ in range(8):
            screens.append(terminals.screen(terminals.run()).open())
            screens[-1].frame("opened")
        ninth = terminals.run()
        with terminals.screen(ninth).open() as screen:
            assert screen.frame("refused")["problem"]["status"] == 429
            assert screen.closed_with() == 4429
        assert terminals.states(ninth) == ["refused"]
        screens[0].send(type="close")
        screens[0].closed_with()
        with terminals.screen(ninth).open() as screen:
            screen.sees(PROMPT)
    finally:
        for screen in screens:
            screen.ws.shutdown()


def test_another_web_process_knows_of_it(
    terminals: TerminalWorld, own_server: Callable[..., Server]
):
    plain_shell(terminals)
    run_id = terminals.run()
    shared = {name: terminals.server.environ[name] for name in SWITCHED_ON}
    database = f"sqlite:///{terminals.server.chat.settings.sqlite_path}"
    other = own_server(**shared, DATABASE=database)
    there = dataclasses.replace(terminals, server=other)
    with terminals.screen(run_id).open() as first:
        first.sees(PROMPT)
        with there.screen(run_id).open() as second:
            assert "one at a time" in second.frame("refused")["problem"]["detail"]
        first.send(type="close")
        first.closed_with()
    with there.screen(run_id).open() as second:
        second.sees(PROMPT)


def test_wishes_have_a_rate_and_those_beyond_it_leave_nothing_in_the_log(
    own_terminals: Callable[..., TerminalWorld],
):
    world = own_terminals(MESSAGES_PER_MINUTE="24")
    run_id = world.run()
    viewer = world.level("viewer")
    tried = [refused(lambda: world.screen(run_id, viewer))[0] for _ in range(4)]
    # the minute may turn over in between
    assert tried in ([403, 403, 429, 429], [403, 403, 403, 429], [403, 403, 429, 403]), tried
    assert len(world.records(run_id)) == tried.count(403)


def test_a_frame_has_a_largest_size(terminals: TerminalWorld):
    terminals.make = lambda _: FakeAgent(output=PROMPT, close=None)
    with terminals.screen(terminals.run()).open() as screen:
        screen.frame("opened")
        screen.type(b"x" * 65_536)
        until(lambda: len(terminals.agents[-1].received) == 65_536)
        screen.type(b"x" * 65_537)
        assert screen.closed_with() == 1009
    until(lambda: terminals.agents[-1].terminated)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "open", "reason": "", "cols": 80, "rows": 24},
        {"type": "open", "reason": " \u200b\n\t\x00 ", "cols": 80, "rows": 24},
        {"type": "open", "cols": 80, "rows": 24},
        {"type": "open", "reason": "x" * 501, "cols": 80, "rows": 24},
        {"type": "open", "reason": "r", "cols": 0, "rows": 24},
        {"type": "open", "reason": "r", "cols": 80, "rows": 10_000},
        {"type": "open", "reason": "r", "cols": 80, "rows": 24, "command": "rm"},
        {"type": "exec", "command": "rm -rf /"},
        [],
    ],
)
def test_a_frame_that_is_not_ours_opens_nothing(terminals: TerminalWorld, frame: Any):
    run_id = terminals.run()
    with terminals.screen(run_id) as screen:
        screen.ws.send(orjson.dumps(frame).decode())
        assert screen.frame("refused")["problem"]["code"] == "invalid"
        assert screen.closed_with() == 4400
    assert terminals.commands == []


def test_typing_before_it_is_open_closes(terminals: TerminalWorld):
    with terminals.screen(terminals.run()) as screen:
        screen.type("whoami\r")
        assert screen.closed_with() == 4400


# --- injection (security.md 11) -------------------------------------------------------------------

CORPUS = [
    "; rm -rf /", "$(reboot)", "`reboot`", "a\nreboot", "a\x00b", "-c", "--", "' ; id ; '", '"; id; "',
    "| id", "&& id", "> /etc/passwd", "${IFS}id", "\\", "\u202eid", "a\r\nb",
]  # fmt: skip


@pytest.mark.parametrize("words", CORPUS)
def test_no_word_of_a_person_gets_into_the_command_line(terminals: TerminalWorld, words: str):
    run_id = terminals.run()
    terminals.make = lambda _: FakeAgent(output=PROMPT, close=None)
    with terminals.screen(run_id).open(f"{words} x") as screen:
        screen.frame("opened")
        screen.send(type="close")
        screen.closed_with()
    assert terminals.commands == [SHELL]
    reason = terminals.records(run_id)[0]["terminal"]["reason"]
    assert reason.isprintable()


@pytest.mark.parametrize("words", [*CORPUS, "id"])
def test_the_shell_takes_no_argument_at_all(words: str):
    with pytest.raises(Invalid, match="takes no argument"):
        command_line("shell", words)


def test_the_shells_command_line_is_fixed():
    assert command_line("shell") == SHELL
    assert COMMANDS["shell"].words[:2] == ("sh", "-c")


# --- it cannot be opened --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "failure", "words"),
    [
        (
            "TargetNotConnectedException",
            "arn:aws:ecs:x",
            "not_connected",
            "no connection to the exec",
        ),
        ("AccessDeniedException", "arn:aws:sts::1:x", "denied", "may not run commands"),
        ("ThrottlingException", "slow down", "throttled", "asks for a pause"),
        ("ServerException", "oops", "unavailable", "not available at the moment"),
    ],
)
def test_what_aws_says_is_said_in_words_and_recorded_with_its_class(
    terminals: TerminalWorld, code: str, message: str, failure: str, words: str
):
    run_id = terminals.run()
    terminals.aws.faults[:] = [Fault("ExecuteCommand", Refused(code, message), times=2)]
    with terminals.screen(run_id).open("why") as screen:
        told = screen.frame("refused")
        assert (told["failure"], told["problem"]["code"]) == (failure, "terminal_failed")
        assert words in told["problem"]["detail"]
        assert screen.closed_with() == 4502
    terminals.aws.faults.clear()
    (record,) = terminals.records(run_id)
    assert (record["failure"], record["terminal"]["state"]) == (failure, "failed")
    assert words in record["text"]
    assert "arn:" not in record["text"]
    assert record["terminal"]["reason"] == "why"
    assert record["duration_ms"] >= 0
    plain_shell(terminals)
    with terminals.screen(run_id).open() as screen:  # its place was given back
        screen.sees(PROMPT)


@pytest.mark.parametrize(
    ("agent", "failure"),
    [
        ({"at_once": 'Unable to start command: exec: "sh": executable file not found in $PATH'},
         "no_shell"),
        ({"actions": ({"ActionType": "KMSEncryption", "ActionParameters": {}},)}, "encrypted"),
        ({"close": "too many sessions: the maximum of session is reached"}, "session_limit"),
        ({"output": b""}, "command_failed"),
    ],
)  # fmt: skip
def test_a_shell_that_does_not_begin_was_never_open(
    terminals: TerminalWorld, agent: dict[str, Any], failure: str
):
    run_id = terminals.run()
    terminals.make = lambda _: FakeAgent(**agent)
    with terminals.screen(run_id).open() as screen:
        assert screen.frame("refused")["failure"] == failure
    (record,) = terminals.records(run_id)
    assert (record["failure"], record["terminal"]["state"]) == (failure, "failed")


def test_a_silent_shell_is_open_as_well(terminals: TerminalWorld):
    terminals.make = lambda _: FakeAgent(close=None)
    with terminals.screen(terminals.run()).open() as screen:
        screen.frame("opened")
        screen.type("x")
        until(lambda: terminals.agents[-1].received == b"x")


# --- how it ends ----------------------------------------------------------------------------------


def test_a_page_that_is_closed_ends_the_shell(terminals: TerminalWorld):
    plain_shell(terminals)
    run_id = terminals.run()
    screen = terminals.screen(run_id).open()
    screen.sees(PROMPT)
    screen.ws.shutdown()
    until(lambda: terminals.states(run_id) == ["opened", "closed"])
    assert terminals.records(run_id)[-1]["terminal"]["end"] == "left"
    assert terminals.agents[-1].terminated
    until(lambda: terminals.agents[-1].process.poll() is not None)


def test_a_page_that_leaves_while_it_is_being_opened_leaves_nothing_open(terminals: TerminalWorld):
    plain_shell(terminals)
    run_id = terminals.run()
    go_on = threading.Event()
    execute = terminals.execute

    def slowly(said: Any) -> Any:
        assert go_on.wait(60)
        return execute(said)

    terminals.aws.on_exec = slowly
    screen = terminals.screen(run_id).open()
    screen.frame("hello")
    screen.ws.shutdown()
    go_on.set()
    until(lambda: terminals.states(run_id) == ["opened", "closed"])
    until(lambda: terminals.agents[-1].terminated)


def test_it_ends_with_the_run(terminals: TerminalWorld):
    plain_shell(terminals)
    run_id = terminals.run()
    with terminals.screen(run_id).open() as screen:
        screen.sees(PROMPT)
        terminals.server.chat.runs.end(run_id, "stopped", "it was stopped")
        assert screen.frame("closed")["end"] == "run_ended"
        assert screen.closed_with() == 4409
    until(lambda: terminals.states(run_id) == ["opened", "closed"])
    with terminals.screen(run_id).open() as screen:
        assert screen.frame("refused")["problem"]["code"] == "run_ended"
    assert terminals.states(run_id) == ["opened", "closed", "refused"]


def test_who_signs_out_has_no_terminal_any_more_and_cannot_open_another(terminals: TerminalWorld):
    plain_shell(terminals)
    run_id = terminals.run()
    anna = terminals.person()
    with terminals.screen(run_id, anna).open() as screen:
        screen.sees(PROMPT)
        assert anna.call("DELETE", "/api/session").status == 204
        assert screen.frame("closed")["end"] == "access_removed"
        assert screen.closed_with() == 4403
    with terminals.screen(run_id, anna).open() as screen:  # the same cookie, kept by somebody
        assert screen.frame("refused")["problem"]["code"] == "unauthenticated"
        assert screen.closed_with() == 4401
    assert terminals.states(run_id) == ["opened", "closed", "refused"]


def test_nothing_typed_for_too_long_ends_it(own_terminals: Callable[..., TerminalWorld]):
    world = own_terminals(EXEC_TERMINAL_IDLE_S="1")
    plain_shell(world)
    run_id = world.run()
    with world.screen(run_id).open() as screen:
        screen.sees(PROMPT)
        assert screen.frame("closed")["end"] == "idle"
        assert screen.closed_with() == 4408
    assert world.records(run_id)[-1]["terminal"]["end"] == "idle"


def test_answers_that_nobody_typed_come_in_and_keep_nothing_open(
    own_terminals: Callable[..., TerminalWorld],
):
    world = own_terminals(EXEC_TERMINAL_IDLE_S="3")
    world.make = lambda _: FakeAgent(output=PROMPT, close=None)
    run_id = world.run()
    with world.screen(run_id).open() as screen:
        screen.frame("opened")
        screen.ws.settimeout(0.2)
        sent = 0  # half a minute of an abandoned program that asks again and again
        while sent < 150 and screen.frames[-1]["type"] != "closed":
            screen.send(type="answer", data="\x1b[1;1R")
            sent += 1
            with suppress(websocket.WebSocketTimeoutException):
                screen.hear()
        screen.ws.settimeout(60)
        assert screen.frame("closed")["end"] == "idle"
    assert sent < 150
    assert world.agents[-1].received.startswith(b"\x1b[1;1R\x1b[1;1R")
    assert len(world.agents[-1].received) <= world.records(run_id)[-1]["terminal"]["typed_bytes"]


def test_an_answer_before_it_is_open_closes(terminals: TerminalWorld):
    with terminals.screen(terminals.run()) as screen:
        screen.send(type="answer", data="x")
        assert screen.closed_with() == 4400


def test_a_connection_to_the_container_that_breaks_is_told(terminals: TerminalWorld):
    run_id = terminals.run()
    channel = ChannelServer(FakeAgent(output=PROMPT, close=None), leave_after=6)
    with channel.running():
        terminals.aws.on_exec = lambda _: {
            "sessionId": "s", "streamUrl": channel.url, "tokenValue": secret(),
        }  # fmt: skip
        with terminals.screen(run_id).open() as screen:
            screen.frame("opened")
            for _ in range(6):  # each is acknowledged, and so is the last thing that is sent
                screen.type("x")
            assert screen.frame("closed")["end"] == "channel_lost"
            assert screen.closed_with() == 1013


def test_a_server_that_is_stopped_ends_its_terminals_and_says_so_in_the_log(
    own_terminals: Callable[..., TerminalWorld],
):
    world = own_terminals()
    plain_shell(world)
    run_id = world.run()
    with world.screen(run_id).open() as screen:
        screen.sees(PROMPT)
        world.server.process.terminate()
        assert screen.closed_with() == 1001
    assert world.server.process.wait(30) == 0
    assert ends_of(world, run_id) == [("opened", None), ("closed", "server_stopped")]
    assert world.agents[-1].terminated


def test_a_server_that_is_killed_leaves_the_record_of_the_opening_and_the_place_comes_free(
    own_terminals: Callable[..., TerminalWorld],
):
    world = own_terminals()
    plain_shell(world)
    run_id = world.run()
    with world.screen(run_id).open() as screen:
        screen.sees(PROMPT)
        children = [int(p) for p in children_of(world.server.process.pid)]
        for pid in (world.server.process.pid, *children):
            os.kill(pid, signal.SIGKILL)
    assert ends_of(world, run_id) == [("opened", None)]
    left_ms = world.server.chat.redis.pttl(f"claim:terminal:{run_id}")
    assert 0 < left_ms <= 60_000


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def ends_of(world: TerminalWorld, run_id: str) -> list[tuple[str, str | None]]:
    """From the log itself, when the web is gone."""
    records = world.server.chat.log.read(run_id, after=0, limit=1_000)
    bodies = [orjson.loads(record.data)["body"] for record in records]
    found = [body["terminal"] for body in bodies if body.get("about") == "terminal"]
    return [(one["state"], one.get("end")) for one in found]


# --- paced ----------------------------------------------------------------------------------------


def test_a_page_that_reads_slowly_stops_the_command_and_not_the_server(terminals: TerminalWorld):
    plain_shell(terminals)
    run_id = terminals.run()
    with terminals.screen(run_id, sockopt=[(1, 8, 4_096)]).open() as screen:
        screen.sees(PROMPT)
        screen.type("yes\r")
        agent = terminals.agents[-1]
        until(lambda: stands_still(agent))
        assert terminals.person().get("/api/projects").status == 200
        screen.type("\x03")  # comes in although so much waits to come out
        screen.sees(PROMPT)
        screen.type("echo on and $((1+1))\r")
        screen.sees(b"on and 2\r\n")


def test_a_page_that_reads_nothing_at_all_is_closed(terminals: TerminalWorld):
    plain_shell(terminals)
    run_id = terminals.run()
    with terminals.screen(run_id, sockopt=[(1, 8, 4_096)]).open() as screen:
        screen.sees(PROMPT)
        screen.type("yes\r")
        until(lambda: terminals.states(run_id) == ["opened", "closed"], 90)
        assert terminals.records(run_id)[-1]["terminal"]["end"] == "slow_reader"
    until(lambda: terminals.agents[-1].process.poll() is not None)


def test_who_signs_out_with_a_page_that_reads_nothing_has_no_terminal_any_more(
    terminals: TerminalWorld,
):
    plain_shell(terminals)
    run_id = terminals.run()
    anna = terminals.person()
    with terminals.screen(run_id, anna, sockopt=[(1, 8, 4_096)]).open() as screen:
        screen.sees(PROMPT)
        screen.type("yes\r")
        until(lambda: stands_still(terminals.agents[-1]))
        assert anna.call("DELETE", "/api/session").status == 204
        until(lambda: terminals.states(run_id) == ["opened", "closed"])
    assert terminals.records(run_id)[-1]["terminal"]["end"] == "access_removed"


def test_a_server_that_is_stopped_says_so_also_of_a_terminal_whose_page_reads_nothing(
    own_terminals: Callable[..., TerminalWorld],
):
    world = own_terminals()
    plain_shell(world)
    run_id = world.run()
    with world.screen(run_id, sockopt=[(1, 8, 4_096)]).open() as screen:
        screen.sees(PROMPT)
        screen.type("yes\r")
        until(lambda: stands_still(world.agents[-1]))
        world.server.process.terminate()
        assert world.server.process.wait(30) == 0
    assert ends_of(world, run_id) == [("opened", None), ("closed", "server_stopped")]
    until(lambda: world.agents[-1].terminated)


def stands_still(agent: FakeAgent) -> int:
    """How many frames were sent, once that is more than a few and no longer grows."""
    first = agent._sequence
    threading.Event().wait(1.0)
    return agent._sequence if agent._sequence == first and first > 100 else 0


def test_input_that_the_container_does_not_take_is_not_read_from_the_page(
    terminals: TerminalWorld,
):
    run_id = terminals.run()
    deaf = DeafAgent(output=PROMPT, close=None)
    terminals.make = lambda _: deaf
    with terminals.screen(run_id).open() as screen:
        screen.frame("opened")
        sent = filled(screen)
        assert sent < 20_000_000  # what the kernel's buffers hold
        deaf.deaf = False
        until(lambda: len(deaf.received) > 200_000)


def filled(screen: Screen) -> int:
    """Type until no more goes; how many bytes went."""
    sent = 0
    screen.ws.settimeout(2)
    while sent < 100_000_000:
        try:
            screen.type(b"x" * 16_384)
        except (websocket.WebSocketTimeoutException, BlockingIOError, TimeoutError):
            break
        sent += 16_384
    return sent


class DeafAgent(FakeAgent):
    """Takes no input after the handshake, until it is told to."""

    deaf = True

    def hear(self, data: bytes, now: int) -> list[bytes]:
        is_input = b"input_stream_data" in data[:36]
        if self.deaf and self._complete and is_input:
            return []
        return super().hear(data, now)


# --- a channel that loses, repeats and reorders ---------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_frames_that_are_lost_repeated_or_late_change_nothing_on_the_screen(
    terminals: TerminalWorld, seed: int
):
    rng = random.Random(seed)
    kinds: list[Any] = [(), (0, 0), (0, 30), (60,), (20,), "damaged", (0,), (0,)]
    terminals.fates = [rng.choice(kinds) for _ in range(400)]
    plain_shell(terminals)
    with terminals.screen(terminals.run()).open() as screen:
        screen.sees(PROMPT)
        screen.type("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo the end\r")
        screen.sees(b"the end\r\n")  # the echo of what was typed
        shown = screen.sees(b"the end\r\n")
    assert shown == b"".join(b"line %d\r\n" % number for number in range(3_000))
