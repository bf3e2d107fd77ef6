"""The nudge through boto3 itself: ECS answers over HTTP, the channel over a WebSocket, both on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber

from chat.adapters.ecs_exec import EcsExec, exec_client
from chat.adapters.ecs_exec_commands import COMMANDS, command_line
from chat.adapters.ecs_exec_failures import DETAIL_MAX, WORDS
from chat.errors import Invalid
from chat.ids import new_id
from chat.ports import Nudge, NudgeFailure, NudgeResult
from chat.runs import Role, Run, StartKind
from tests.ssm_agent import ChannelServer, FakeAgent, secret

F = NudgeFailure
KEYS = {"aws_access_key_id": "for", "aws_secret_access_key": "tests"}
TASK = "arn:aws:ecs:eu-central-1:123456789012:task/omakase/0123456789abcdef0123456789abcdef"
LOOKING = b"omakase: looking\r\n"


class Ecs:
    """ECS over HTTP: `say(operation, …)` queues answers, the last of them stays."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._answers: dict[str, list[Callable[[BaseHTTPRequestHandler], None]]] = {}
        ecs = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                operation = self.headers["X-Amz-Target"].rpartition(".")[2]
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                ecs.asked.append((operation, body))
                queue = ecs._answers[operation]
                (queue.pop(0) if len(queue) > 1 else queue[0])(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def say(self, operation: str, content: dict[str, Any], status: int = 200) -> None:
        self.do(operation, lambda handler: answer(handler, json.dumps(content).encode(), status))

    def refuse(self, operation: str, code: str, message: str = "", status: int = 400) -> None:
        self.say(operation, {"__type": code, "message": message}, status)

    def do(self, operation: str, what: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self._answers.setdefault(operation, []).append(what)

    def opens(self, channel: ChannelServer, token: str | None = None) -> None:
        session = {"sessionId": "s-1", "streamUrl": channel.url, "tokenValue": token or secret()}
        self.say("ExecuteCommand", {"interactive": True, "session": session})

    def has(self, **task: Any) -> None:
        agent = {"name": "ExecuteCommandAgent", "lastStatus": "RUNNING"}
        containers = [{"name": "agent", "managedAgents": [agent]}, {"name": "other"}]
        whole = {"taskArn": TASK, "lastStatus": "RUNNING", "enableExecuteCommand": True}
        self.say("DescribeTasks", {"tasks": [whole | {"containers": containers} | task]})


def answer(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/x-amz-json-1.1")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def ecs() -> Iterator[Ecs]:
    ecs = Ecs()
    thread = threading.Thread(target=ecs.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield ecs
    ecs.server.shutdown()
    ecs.server.server_close()
    thread.join()


@contextmanager
def client_of(ecs: Ecs, *, read_timeout_s: float) -> Iterator[Any]:
    config = Config(
        connect_timeout=10, read_timeout=read_timeout_s, retries={"total_max_attempts": 1}
    )
    client = boto3.client("ecs", "eu-central-1", endpoint_url=ecs.url, config=config, **KEYS)
    yield client
    client.close()


@pytest.fixture
def client(ecs: Ecs) -> Iterator[Any]:
    with client_of(ecs, read_timeout_s=30) as client:
        yield client


@pytest.fixture
def nudge(client: Any) -> EcsExec:
    return EcsExec(client, container="agent", cluster="elsewhere", deadline_s=20)


def make_run(**fields: Any) -> Run:
    return Run(**({
        "id": new_id("run"), "project_id": new_id("prj"), "feature_id": new_id("ftr"),
        "agent_id": "nori", "agent_name": "Nori", "role": Role.CODER, "start": StartKind.LAUNCH,
        "created_at": "2026-11-22T09:33:00.000Z", "handle": TASK,
    } | fields))  # fmt: skip


# --- it works -------------------------------------------------------------------------------------


def test_a_nudge_runs_look_in_the_task_and_waits_until_it_says_so(ecs, nudge):
    token = secret()
    with ChannelServer(FakeAgent(output=b"Starting\r\n" + LOOKING)).running() as channel:
        ecs.opens(channel, token)
        result = nudge.nudge(make_run())

    assert result == NudgeResult(True, None, "The command said that it worked.", result.duration_ms)
    assert 0 < result.duration_ms < 3_000
    assert ecs.asked == [
        (
            "ExecuteCommand",
            {
                "cluster": "omakase",
                "task": TASK,
                "container": "agent",
                "command": "python3 -I -S /opt/omakase/agent-hooks.pyz look",
                "interactive": True,
            },
        )
    ]
    assert channel.visits[0].opening["TokenValue"] == token


def test_it_is_what_the_port_asks_for(client):
    nudge: Nudge = EcsExec(client, container="agent")
    assert callable(nudge.nudge)


def test_a_handle_that_names_no_cluster_is_looked_for_in_the_settings_one(ecs, nudge):
    ecs.refuse("ExecuteCommand", "AccessDeniedException")
    nudge.nudge(make_run(handle="0123456789abcdef"))
    nudge.nudge(make_run(handle="arn:aws:ecs:eu-central-1:123456789012:task/0123456789abcdef"))
    assert [body["cluster"] for _, body in ecs.asked] == ["elsewhere", "elsewhere"]


def test_what_a_command_prints_is_handed_over_and_bounded(ecs, nudge):
    words = b'{"run_id": "run_1"}' + b"x" * 70_000 + b'"run_id"'
    with ChannelServer(FakeAgent(output=words)).running() as channel:
        ecs.opens(channel)
        result = nudge.run(TASK, "status")
    assert result.ok
    assert result.output == words[-64 * 1024 :]


def test_the_sign_counts_even_when_the_session_does_not_end(ecs, client):
    nudge = EcsExec(client, container="agent", deadline_s=3)
    agent = FakeAgent(output=LOOKING, close=None)
    with ChannelServer(agent).running() as channel:
        ecs.opens(channel)
        assert nudge.nudge(make_run()).ok
    assert agent.terminated


def test_the_same_client_answered_by_botocores_own_stub(monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    client = exec_client(region="eu-central-1", endpoint_url="http://127.0.0.1:9")
    with ChannelServer(FakeAgent(output=LOOKING)).running() as channel, Stubber(client) as stub:
        stub.add_response(
            "execute_command",
            {"session": {"sessionId": "s", "streamUrl": channel.url, "tokenValue": "t"}},
            {
                "cluster": "omakase",
                "task": TASK,
                "container": "agent",
                "command": "python3 -I -S /opt/omakase/agent-hooks.pyz look",
                "interactive": True,
            },
        )
        stub.add_client_error("execute_command", "AccessDeniedException", http_status_code=400)
        nudge = EcsExec(client, container="agent")
        assert nudge.nudge(make_run()).ok
        assert nudge.nudge(make_run()).failure is F.DENIED


# --- ECS says no ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message", "status", "failure"),
    [
        ("TargetNotConnectedException", "The execute command failed due to an internal error.", 400,
         F.NOT_CONNECTED),
        ("AccessDeniedException", "User: arn:aws:sts::123456789012:x is not authorized", 400, F.DENIED),
        ("UnrecognizedClientException", "The security token is invalid", 400, F.DENIED),
        ("ExpiredTokenException", "The security token has expired", 400, F.DENIED),
        ("SomethingNew", "", 403, F.DENIED),
        ("ThrottlingException", "Rate exceeded", 400, F.THROTTLED),
        ("TooManyRequestsException", "", 429, F.THROTTLED),
        ("SomethingNew", "", 429, F.THROTTLED),
        ("ClientException", "The maximum number of sessions is reached", 400, F.SESSION_LIMIT),
        ("LimitExceededException", "Session limit exceeded", 400, F.SESSION_LIMIT),
        ("InvalidParameterException", "The execute command failed because execute command was not enabled when the task was run", 400,
         F.AGENT_NOT_READY),
        ("InvalidParameterException", "The specified task was not found.", 400, F.TASK_GONE),
        ("ClusterNotFoundException", "Cluster not found.", 400, F.TASK_GONE),
        ("ServerException", "Service Unavailable. Please try again later.", 500, F.UNAVAILABLE),
        ("SomethingNew", "", 503, F.UNAVAILABLE),
        ("SomethingNew", "", 400, F.PROTOCOL),
    ],
)  # fmt: skip
def test_each_refusal_of_ecs_has_its_class_and_its_words(
    ecs, nudge, code, message, status, failure
):
    ecs.refuse("ExecuteCommand", code, message, status)
    ecs.has()
    result = nudge.nudge(make_run())
    assert (result.ok, result.failure) == (False, failure)
    assert result.detail == f"{WORDS[failure]} ({code})"
    assert "123456789012" not in result.detail


@pytest.mark.parametrize("code", ["TargetNotConnectedException", "InvalidParameterException"])
@pytest.mark.parametrize(
    ("task", "failure"),
    [
        ({"lastStatus": "STOPPED"}, F.TASK_GONE),
        ({"lastStatus": "DEPROVISIONING"}, F.TASK_GONE),
        ({"enableExecuteCommand": False}, F.AGENT_NOT_READY),
        ({"containers": [{"name": "agent", "managedAgents": []}]}, F.AGENT_NOT_READY),
        ({"containers": [{"name": "agent", "managedAgents": [
            {"name": "ExecuteCommandAgent", "lastStatus": "PENDING"}]}]}, F.AGENT_NOT_READY),
        ({"containers": [{"name": "other", "managedAgents": [
            {"name": "ExecuteCommandAgent", "lastStatus": "RUNNING"}]}]}, F.AGENT_NOT_READY),
    ],
)  # fmt: skip
def test_the_task_itself_is_asked_why(ecs, nudge, code, task, failure):
    ecs.refuse("ExecuteCommand", code)
    ecs.has(**task)
    assert nudge.nudge(make_run()).failure is failure
    assert ecs.asked[-1] == ("DescribeTasks", {"cluster": "omakase", "tasks": [TASK]})


def test_a_task_that_is_no_longer_known_is_gone(ecs, nudge):
    ecs.refuse("ExecuteCommand", "TargetNotConnectedException")
    ecs.say("DescribeTasks", {"tasks": [], "failures": [{"arn": TASK, "reason": "MISSING"}]})
    assert nudge.nudge(make_run()).failure is F.TASK_GONE


def test_with_every_check_green_it_is_just_not_connected_and_so_it_is_when_nobody_answers(
    ecs, nudge
):
    ecs.refuse("ExecuteCommand", "TargetNotConnectedException")
    ecs.has()
    ecs.refuse("DescribeTasks", "AccessDeniedException")
    assert nudge.nudge(make_run()).failure is F.NOT_CONNECTED
    assert nudge.nudge(make_run()).failure is F.NOT_CONNECTED


def test_a_run_without_a_task_is_not_ready_and_aws_is_not_asked(ecs, nudge):
    result = nudge.nudge(make_run(handle=None))
    assert (result.failure, ecs.asked) == (F.AGENT_NOT_READY, [])


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(b'{"session": {"streamUrl": "wss://')
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


@pytest.mark.parametrize(
    ("what", "failure"),
    [
        (lambda handler: answer(handler, b"{}"), F.PROTOCOL),
        (lambda handler: answer(handler, b'{"session": {"streamUrl": "wss://x/"}}'), F.PROTOCOL),
        (lambda handler: answer(handler, b'{"session": null}'), F.PROTOCOL),
        (lambda handler: answer(handler, b'{"session": {"streamUrl": '), F.PROTOCOL),
        (lambda handler: answer(handler, b"<html>Bad gateway</html>", 502), F.UNAVAILABLE),
        (cut_off, F.PROTOCOL),
        (hang_up, F.UNAVAILABLE),
    ],
)
def test_half_answers_and_nonsense_are_failures_with_a_class(ecs, nudge, what, failure):
    ecs.do("ExecuteCommand", what)
    result = nudge.nudge(make_run())
    assert result.failure is failure
    assert result.detail.startswith(WORDS[failure])


def test_an_answer_that_does_not_come_is_a_timeout(ecs):
    over = threading.Event()
    ecs.do("ExecuteCommand", lambda handler: hang_up(handler) if over.wait(60) else None)
    with client_of(ecs, read_timeout_s=0.4) as client:
        result = EcsExec(client, container="agent").nudge(make_run())
    over.set()
    assert result.failure is F.TIMEOUT


def test_nobody_at_the_address_is_unavailable():
    client = boto3.client(
        "ecs", "eu-central-1", endpoint_url="http://127.0.0.1:9",
        config=Config(retries={"total_max_attempts": 1}), **KEYS,
    )  # fmt: skip
    assert EcsExec(client, container="agent").nudge(make_run()).failure is F.UNAVAILABLE
    client.close()


# --- the channel says no --------------------------------------------------------------------------

KMS = {"ActionType": "KMSEncryption", "ActionParameters": {"KMSKeyId": "key"}}
SHELL = {"ActionType": "SessionType", "ActionParameters": {"SessionType": "InteractiveCommands"}}


@pytest.mark.parametrize(
    ("agent", "failure", "says"),
    [
        (FakeAgent(at_once="----------ERROR-------\nUnable to start command: Failed to start pty: "
                   "fork/exec /usr/bin/python3: no such file or directory\n"), F.NO_SHELL, "fork/exec"),
        (FakeAgent(at_once='Unable to start command: exec: "python3": executable file not found in '
                   "$PATH"), F.NO_SHELL, "executable file"),
        (FakeAgent(at_once="Unable to start command: Failed to start pty"), F.NO_SHELL, "pty"),
        (FakeAgent(output=b"python3: can't open file '/opt/omakase/agent-hooks.pyz': [Errno 2] No such "
                   b"file or directory\r\n"), F.NO_SHELL, "can't open"),
        (FakeAgent(at_once="Plugin with name InteractiveCommands not found. Step name: "
                   "InteractiveCommands"), F.AGENT_NOT_READY, "Plugin"),
        (FakeAgent(at_once="The session limit of this container is reached"), F.SESSION_LIMIT, "limit"),
        (FakeAgent(at_once="Encountered error while initiating handshake. Handshake timed out."),
         F.TIMEOUT, "Handshake"),
        (FakeAgent(actions=(SHELL, KMS)), F.ENCRYPTED, "KMS"),
        (FakeAgent(actions=({"ActionType": "Dance"},)), F.PROTOCOL, "Dance"),
        (FakeAgent(output=b"agent-hooks: error: invalid choice: 'look'\r\n"), F.COMMAND_FAILED, "choice"),
        (FakeAgent(output=b""), F.COMMAND_FAILED, "did not say"),
        (FakeAgent(output=b"\x1b[31m" + b"no\x00 \r\n" * 5_000), F.COMMAND_FAILED, "[31m"),
    ],
)  # fmt: skip
def test_each_way_a_session_ends_without_the_sign_has_its_class(ecs, nudge, agent, failure, says):
    with ChannelServer(agent).running() as channel:
        ecs.opens(channel)
        result = nudge.nudge(make_run())
    assert result.failure is failure
    assert result.detail.startswith(WORDS[failure])
    assert says in result.detail
    assert result.detail.isprintable()
    assert len(result.detail) <= DETAIL_MAX


@pytest.mark.parametrize(
    ("options", "failure"),
    [
        ({"refuse": 403}, F.DENIED),
        ({"refuse": 429}, F.THROTTLED),
        ({"refuse": 503}, F.UNAVAILABLE),
        ({"refuse": 404}, F.PROTOCOL),
        ({"leave_after": 1}, F.UNAVAILABLE),
    ],
)
def test_a_channel_that_cannot_be_opened_or_kept_has_its_class(ecs, nudge, options, failure):
    with ChannelServer(FakeAgent(output=LOOKING), **options).running() as channel:
        ecs.opens(channel)
        assert nudge.nudge(make_run()).failure is failure


@pytest.mark.parametrize(
    ("agent", "says"),
    [
        (FakeAgent(output=b"hm", close=None), "still running"),
        (FakeAgent(output=b"hm", close=None, handshake=False), "still running"),
    ],
)
def test_a_command_that_does_not_end_is_a_timeout_and_is_ended(ecs, client, agent, says):
    nudge = EcsExec(client, container="agent", deadline_s=2)
    with ChannelServer(agent).running() as channel:
        ecs.opens(channel)
        result = nudge.nudge(make_run())
    assert result.failure is F.TIMEOUT
    assert says in result.detail
    assert result.duration_ms >= 2_000
    assert agent.terminated


def test_an_agent_that_never_speaks_is_a_timeout(ecs, client):
    nudge = EcsExec(client, container="agent", deadline_s=2)
    silent = FakeAgent(handshake=False, output=b"", close=None)
    with ChannelServer(silent).running() as channel:
        ecs.opens(channel)
        result = nudge.nudge(make_run())
    assert result.failure is F.TIMEOUT
    assert "did not answer" in result.detail


def test_a_stream_address_that_is_not_awss_kind_is_not_followed(ecs, nudge):
    session = {"sessionId": "s", "streamUrl": "ws://example.org/", "tokenValue": "t"}
    ecs.say("ExecuteCommand", {"session": session})
    assert nudge.nudge(make_run()).failure is F.UNAVAILABLE


def test_the_token_is_in_no_result(ecs, nudge):
    token = secret()
    with ChannelServer(FakeAgent(), refuse=403).running() as channel:
        ecs.opens(channel, token)
        assert token not in repr(nudge.run(TASK, "look"))


# --- named commands -------------------------------------------------------------------------------


def test_a_command_is_its_words_quoted():
    assert command_line("look") == "python3 -I -S /opt/omakase/agent-hooks.pyz look"
    assert command_line("look", "run_1", "a=b", "x/y.z") == (
        "python3 -I -S /opt/omakase/agent-hooks.pyz look run_1 a=b x/y.z"
    )


@pytest.mark.parametrize("name", ["", "rm", "look;id", "look\n", "__class__"])
def test_there_are_no_other_commands(ecs, nudge, name):
    with pytest.raises(Invalid):
        nudge.run(TASK, name)
    assert ecs.asked == []


@pytest.mark.parametrize(
    "argument",
    [";", "a;id", "$(id)", "a$(id)", "`id`", "a\nb", "a\n", "\n", "a\0b", "-x", "--help", "", " ",
     "a b", "a'b", 'a"b', "a\\b", "a|b", "a&b", "a>b", "*", "~", "ä", "x" * 129],
)  # fmt: skip
def test_an_argument_that_means_something_to_a_shell_or_a_parser_is_refused(ecs, nudge, argument):
    with pytest.raises(Invalid):
        nudge.run(TASK, "look", argument)
    assert ecs.asked == []


def test_the_table_of_commands_cannot_be_changed():
    with pytest.raises(TypeError):
        COMMANDS["rm"] = COMMANDS["look"]


def test_every_class_has_its_words():
    assert set(WORDS) == set(NudgeFailure)
