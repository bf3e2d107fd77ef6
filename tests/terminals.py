"""A real web process with terminals switched on, on a fake AWS whose tasks hold a real shell.

terminals   one per test module: a TerminalWorld
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
import websocket
from flask import Flask

from chat.adapters.embedded_redis import EmbeddedRedis
from chat.ids import new_id
from tests.fake_aws import CLUSTER, ENVIRON, Answer, FakeAws
from tests.serving import Api, Server, start
from tests.ssm_agent import ChannelServer, FakeAgent, Fate, secret
from tests.ssm_shell import ShellAgent
from web import auth

SWITCHED_ON = {
    "RUNTIME": "ecs", "EXEC_TERMINAL": "on", "ECS_CLUSTER": CLUSTER, "ECS_SUBNETS": "subnet-1",
}  # fmt: skip
PROMPT = b"root@agent# "


class Screen:
    """A terminal's WebSocket as the page has it; what was shown is in `shown`."""

    def __init__(self, ws: websocket.WebSocket) -> None:
        self.ws = ws
        self.shown = b""
        self.frames: list[dict[str, Any]] = []
        self.code: int | None = None
        self.reason = ""

    def open(self, reason: str = "to look at a test", *, cols: int = 80, rows: int = 24) -> Self:
        self.send(type="open", reason=reason, cols=cols, rows=rows)
        return self

    def send(self, **frame: Any) -> None:
        self.ws.send(json.dumps(frame))

    def type(self, text: str | bytes) -> None:
        self.ws.send_binary(text.encode() if isinstance(text, str) else text)

    def hear(self) -> None:
        """One frame more."""
        opcode, data = self.ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_BINARY:
            self.shown += data
        elif opcode == websocket.ABNF.OPCODE_CLOSE:
            self.code, self.reason = int.from_bytes(data[:2]), data[2:].decode()
        else:
            frame = json.loads(data)
            if frame["type"] == "ping":
                self.send(type="pong")
            self.frames.append(frame)

    def until(self, is_so: Callable[[], Any], timeout_s: float = 60) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := is_so()):
            assert self.code is None, (self.code, self.reason, self.frames[-1:], self.shown[-200:])
            assert time.monotonic() < deadline, (self.frames[-1:], self.shown[-200:])
            self.hear()
        return found

    def frame(self, kind: str) -> dict[str, Any]:
        """The frame of this type; it may be the last one before the end."""
        found = self.until(lambda: [f for f in self.frames if f["type"] == kind])
        frame: dict[str, Any] = found[0]
        return frame

    def sees(self, what: bytes) -> bytes:
        """What was shown up to and with `what`; the rest stays for the next look."""
        self.until(lambda: what in self.shown)
        before, _, self.shown = self.shown.partition(what)
        return before

    def closed_with(self) -> int:
        while self.code is None:
            self.hear()
        return self.code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ws.shutdown()


@dataclass
class TerminalWorld:
    """`agents` are those whose session was opened, newest last."""

    server: Server
    aws: FakeAws
    sessions: ExitStack
    agents: list[FakeAgent] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)
    """Of the frames from the container, for the sessions that are opened from now on."""
    make: Callable[[str], FakeAgent] | None = None
    """The next sessions' agent, from the command line."""

    def execute(self, said: Answer) -> Answer:
        assert said["container"] == "agent"
        self.commands.append(said["command"])
        make = self.make or (lambda line: ShellAgent(argv=tuple(shlex.split(line))))
        agent = make(said["command"])
        self.agents.append(agent)
        channel = ChannelServer(agent, fates=list(self.fates))
        if isinstance(agent, ShellAgent):
            self.sessions.callback(agent.end)  # when the thread that serves it has ended
        self.sessions.enter_context(channel.running())
        return {"sessionId": "s-1", "streamUrl": channel.url, "tokenValue": secret()}

    def person(self, name: str = "Anna") -> Api:
        return self.server.person(name)

    def level(self, level: str) -> Api:
        """Somebody whom sign-in would have given this level."""
        app = Flask("cookies")
        auth.register(app, self.server.chat.settings)
        serializer = app.session_interface.get_signing_serializer(app)
        who = {"id": new_id("usr"), "name": level.title(), "level": level}
        cookie = serializer.dumps({"_permanent": True, "who": who, "sid": new_id("ses")})
        return Api(self.server.port, {"Cookie": f"omakase_session={cookie}"})

    def queued(self) -> str:
        """A run that is to be launched, and is not yet."""
        anna = self.person()
        project = anna.post("/api/projects", {"name": "Shop"}).json["id"]
        feature = anna.post(f"/api/projects/{project}/features", {"name": "Cart"}).json["id"]
        body = {"feature_id": feature, "agent_id": "nori", "start": "launch"}
        made = anna.post("/api/agent-runs", body)
        assert made.status == 201, made.data
        run_id: str = made.json["run"]["id"]
        return run_id

    def run(self) -> str:
        """A run whose task is up, with its exec agent."""
        run_id = self.queued()
        self.server.chat.delivery.launch(run_id)
        arn = self.aws.task_of(run_id)
        agent = {"name": "ExecuteCommandAgent", "lastStatus": "RUNNING"}
        self.aws.tasks[arn]["containers"][0]["managedAgents"] = [agent]
        self.aws.tasks[arn]["enableExecuteCommand"] = True
        self.aws.move(arn, "RUNNING")
        return run_id

    def screen(self, run_id: str, person: Api | None = None, **options: Any) -> Screen:
        """The WebSocket, as a page of ours would open it."""
        person = person or self.person()
        url = f"ws://127.0.0.1:{self.server.port}/api/agent-runs/{run_id}/terminal"
        given: dict[str, Any] = {
            "origin": self.server.origin, "timeout": 60, "cookie": person.headers.get("Cookie"),
        }  # fmt: skip
        return Screen(websocket.create_connection(url, **(given | options)))

    def records(self, run_id: str) -> list[dict[str, Any]]:
        """The notices about terminals in the run's log, oldest first."""
        page = self.person().get(f"/api/agent-runs/{run_id}/messages?kind=notice&limit=200")
        events = [e for e in page.json["events"] if e["body"]["about"] == "terminal"]
        return [e["body"] | {"by": e["sender"], "at": e["at"]} for e in events]

    def states(self, run_id: str) -> list[str]:
        return [record["terminal"]["state"] for record in self.records(run_id)]


def open_world(redis_url: str, folder: Path, **environ: str) -> Iterator[TerminalWorld]:
    aws = FakeAws()
    for role in ("architect", "coder", "reviewer", "tester"):
        aws.define(f"omakase-agent-{role}")
    with ExitStack() as sessions, pytest.MonkeyPatch.context() as patch:
        sessions.callback(aws.close)
        for name, value in (ENVIRON | {"AWS_ENDPOINT_URL": aws.url}).items():
            patch.setenv(name, value)
        server = start(redis_url, folder, **(SWITCHED_ON | environ))
        sessions.callback(server.stop)
        world = TerminalWorld(server, aws, sessions)
        aws.on_exec = world.execute
        yield world


@pytest.fixture(scope="module")
def terminals_for_all(
    web_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TerminalWorld]:
    yield from open_world(web_redis.url, tmp_path_factory.mktemp("terminals"))


@pytest.fixture
def terminals(terminals_for_all: TerminalWorld) -> Iterator[TerminalWorld]:
    """The module's world, with nothing left of what the last test changed."""
    terminals_for_all.fates, terminals_for_all.make = [], None
    terminals_for_all.agents.clear()
    terminals_for_all.commands.clear()
    yield terminals_for_all
    terminals_for_all.aws.on_exec = terminals_for_all.execute


@pytest.fixture
def own_terminals(
    web_redis: EmbeddedRedis, tmp_path: Path
) -> Iterator[Callable[..., TerminalWorld]]:
    """own_terminals(EXEC_TERMINAL_IDLE_S="1"): a world that the test may stop or set up differently."""
    opened: list[Iterator[TerminalWorld]] = []

    def make(**environ: str) -> TerminalWorld:
        opened.append(open_world(web_redis.url, tmp_path, **environ))
        return next(opened[-1])

    yield make
    for one in opened:
        next(one, None)


__all__ = ["PROMPT", "Screen", "TerminalWorld", "own_terminals", "terminals", "terminals_for_all"]
