"""An AWS whose tasks really run: moto in a process of its own, and in front of it what moto lacks.

    worker, beat ── boto3 ──> Front ──> moto          RunTask starts the task's container: real processes
                                └─ ExecuteCommand ──> a channel whose agent executes the command in it

Front        passes everything on; answers ExecuteCommand, and adds to DescribeTasks what ECS Exec needs to be there
Container    the image's entrypoint as its user, and root as ECS Exec comes in (tests/container.py), where this
             process may be other users; else everything is ours
Ear          the way from the containers to the web; it can be deaf: polls of a mailbox get no answer
"""

from __future__ import annotations

import http.client
import json
import os
import pty
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3

from chat.adapters.ecs_exec_commands import PYZ
from tests import container
from tests.fake_aws import KEYS, REGION, Refused
from tests.ssm_agent import ChannelServer, FakeAgent, secret

HERE = Path(__file__).parent
ENTRYPOINT = ["python3", "-I", PYZ, "run", "--"]
"""Of infra/agent/Dockerfile."""
Answer = dict[str, Any]


@contextmanager
def moto() -> Iterator[str]:
    """A moto whose tasks stand still; its address."""
    with subprocess.Popen(
        [sys.executable, HERE / "moto_process.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        still = {"progression": "manual", "times": 10**6}
        body = json.dumps({"model_name": "ecs::task", "transition": still}).encode()
        path = "/moto-api/state-manager/set-transition"
        assert exchange(port, "POST", path, body, {"Content-Type": "application/json"})[0] == 201
        yield f"http://127.0.0.1:{port}"
        process.stdin.close()


def exchange(
    port: int, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, list[tuple[str, str]], bytes]:
    """One request to this machine, passed on as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.getheaders(), reply.read()
    finally:
        connection.close()


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # who asked is gone, or who is to answer
            self.close_connection = True

    def body(self) -> bytes | None:
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length) if length else None

    def pass_on(self, port: int, body: bytes | None) -> tuple[int, bytes]:
        """Ask another server on this machine, and answer as it does."""
        status, headers, data = exchange(port, self.command, self.path, body, dict(self.headers))
        self.answer(status, data, {name: value for name, value in headers if name not in _OURS})
        return status, data

    def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


_OURS = frozenset({"Content-Length", "Transfer-Encoding", "Connection", "Date", "Server"})


class Listening:
    """A server on a free port, as long as it is open."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


# --- the way to the web ---------------------------------------------------------------------------


class Ear(Listening):
    """A proxy before the web. A deaf run's polls are taken and never answered, but for its first, and for those
    that come over a connection that was made while a command was being executed in its container."""

    def __init__(self, web_port: Callable[[], int]) -> None:
        self.held: dict[str, int] = {}
        """How many polls of each run were swallowed."""
        self.fetched: list[tuple[str, float, list[str]]] = []
        """Run, time.monotonic(), and ids of the mail of each poll that was answered."""
        self.executing: set[str] = set()
        self._hears: set[str] = set()
        ear = self

        class Handler(Quiet):
            def setup(self) -> None:
                super().setup()
                self.made_during = set(ear.executing)

            def do_GET(self) -> None:
                parts = self.path.partition("?")[0].split("/")
                if parts[-1] != "mailbox":
                    self.pass_on(web_port(), None)
                    return
                run_id = parts[-2]
                if ear.is_deaf(run_id) and run_id not in self.made_during:
                    ear.swallow(run_id, self)
                    return
                status, data = self.pass_on(web_port(), None)
                items = json.loads(data).get("items", []) if status == 200 else []
                ids = [item["event"]["id"] for item in items]
                ear.fetched.append((run_id, time.monotonic(), ids))

            def do_POST(self) -> None:
                self.pass_on(web_port(), self.body())

        super().__init__(Handler)

    def is_deaf(self, run_id: str) -> bool:
        first = run_id not in {run for run, _, _ in self.fetched}
        return not first and run_id not in self._hears

    def hear(self, run_id: str) -> None:
        """From now on its polls are answered; those that are held are cut."""
        self._hears.add(run_id)

    def swallow(self, run_id: str, call: Quiet) -> None:
        self.held[run_id] = self.held.get(run_id, 0) + 1
        call.close_connection = True
        while self.is_deaf(run_id):
            if select.select([call.connection], [], [], 0.05)[0]:
                with suppress(OSError):
                    if call.connection.recv(1, socket.MSG_PEEK):
                        continue
                return  # it has given up


# --- containers -----------------------------------------------------------------------------------


@dataclass
class Container:
    """A task's agent: its processes, and what they have in their environment."""

    run_id: str
    env: dict[str, str]
    home: Path
    pyz: Path
    process: subprocess.Popen[bytes]

    def executes(self, line: str, drop: list[str]) -> list[str]:
        """What ECS Exec executes for a line: as root, with the capabilities that the container has."""
        words = [place(word, self.pyz) for word in shlex.split(line)]
        return container.root_without(drop, *words) if not container.why_not() else words

    def stop(self) -> None:
        """End it, and its sidecar, which may want to go on sending."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for local in self.home.glob(".omakase/*/local.json"):
            with suppress(OSError, ValueError, KeyError):
                os.kill(int(json.loads(local.read_text())["pid"]), signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def place(word: str, pyz: Path) -> str:
    """A word of a container's command, where this machine has what it names."""
    python = sys.executable if container.why_not() else container.python()
    return {"python3": python, PYZ: str(pyz)}.get(word, word)


@dataclass
class ExecutingAgent(FakeAgent):
    """ECS Exec's agent that executes: a command on a terminal, whose output is the session's."""

    words: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")
    on_start: Callable[[], None] = lambda: None
    on_end: Callable[[], None] = lambda: None
    code: int | None = None
    """The command's exit code, which a session does not tell."""
    _process: subprocess.Popen[bytes] | None = None
    _terminal: int = -1

    def _speak(self) -> list[bytes]:
        self._terminal, theirs = pty.openpty()
        self.on_start()
        self._process = subprocess.Popen(
            self.words, env=self.env, cwd=self.cwd, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        return []

    def tick(self, now: int) -> list[bytes]:
        out = super().tick(now)
        if self._process is None or self.code is not None:
            return out
        while select.select([self._terminal], [], [], 0)[0]:
            try:
                data = os.read(self._terminal, self.chunk)
            except OSError:  # EIO: nobody has the terminal open any more
                break
            out.append(self._send(1, data))
        else:
            return out
        os.close(self._terminal)
        self.code = self._process.wait()
        self.on_end()
        return out + self._end()

    def _end(self) -> list[bytes]:
        return super()._end() if self.code is not None else []


@dataclass
class Executed:
    """A command that was executed: what ECS was asked, and when it began and ended (time.monotonic())."""

    asked: Answer
    began: float = 0.0
    ended: float = 0.0


Exec = Callable[["Cloud", Answer, Container], Answer]
"""How ExecuteCommand is answered: its answer, or raises Refused."""


class Cloud:
    """The account, and what runs in it."""

    def __init__(self, moto_url: str, ear: Ear, pyz: Path, folder: Path) -> None:
        self.drop = ["ALL"]
        """What a container's definition drops."""
        self.containers: dict[str, Container] = {}
        """By the task's ARN."""
        self.executed: list[Executed] = []
        self.exec_agent: dict[str, str] = {}
        """The managed agent's lastStatus, by the run; RUNNING where nothing is said."""
        self.answers: dict[str, Exec] = {}
        """How ExecuteCommand is answered for a run; executed where nothing is said."""
        self.problems: list[BaseException] = []
        self._lock = threading.Lock()
        self._by_token: dict[str, Answer] = {}
        self._moto_port = int(moto_url.rpartition(":")[2])
        self._moto_url, self._ear, self._pyz, self._folder = moto_url, ear, pyz, folder
        self._channels = ExitStack()
        self._front = Listening(self._handler())
        self.url = self._front.url

    def client(self, name: str) -> Any:
        """To moto itself."""
        return boto3.client(name, REGION, endpoint_url=self._moto_url, **KEYS)

    def close(self) -> None:
        for one in self.containers.values():
            one.stop()
        self._channels.close()
        self._front.close()
        assert self.problems == []

    def container_of(self, run_id: str) -> Container | None:
        return next((one for one in self.containers.values() if one.run_id == run_id), None)

    def execute(self, asked: Answer, own: Container, **changes: Any) -> Answer:
        """A session whose agent executes the command in the container."""
        done = Executed(asked)
        self.executed.append(done)

        def begins() -> None:
            done.began = time.monotonic()
            self._ear.executing.add(own.run_id)

        def ends() -> None:
            self._ear.executing.discard(own.run_id)
            done.ended = time.monotonic()

        agent = ExecutingAgent(
            words=own.executes(asked["command"], self.drop), env=own.env, cwd=own.home,
            on_start=begins, on_end=ends,
        )  # fmt: skip
        for name, value in changes.items():
            setattr(agent, name, value)
        return self.session(agent)

    def session(self, agent: FakeAgent, **options: Any) -> Answer:
        """ExecuteCommand's answer that leads to an agent."""
        channel = self._channels.enter_context(ChannelServer(agent, **options).running())
        return {"session": {"sessionId": "s", "streamUrl": channel.url, "tokenValue": secret()}}

    def _handler(self) -> type[Quiet]:
        cloud = self

        class Handler(Quiet):
            def do_POST(self) -> None:
                body = self.body() or b"{}"
                action = self.headers["X-Amz-Target"].rpartition(".")[2]
                try:
                    if action == "ExecuteCommand":
                        self.aws(200, cloud._execute(json.loads(body)))
                    elif action == "DescribeTasks":
                        self.aws(200, cloud._described(json.loads(body)))
                    elif action == "RunTask":
                        self.aws(200, cloud._run(json.loads(body)))
                    else:
                        self.pass_on(cloud._moto_port, body)
                except Refused as refused:
                    said = {"__type": refused.code, "message": refused.message}
                    self.aws(refused.status, said)
                except ConnectionError:
                    raise  # who asked has given up
                except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
                    cloud.problems.append(error)
                    self.close_connection = True

            def aws(self, status: int, content: Answer) -> None:
                kind = {"Content-Type": "application/x-amz-json-1.1"}
                self.answer(
                    status, json.dumps(content, default=lambda at: at.timestamp()).encode(), kind
                )

        return Handler

    def _execute(self, asked: Answer) -> Answer:
        own = self.containers[asked["task"]]
        return self.answers.get(own.run_id, Cloud.execute)(self, asked, own)

    def _described(self, asked: Answer) -> Answer:
        found: Answer = self.client("ecs").describe_tasks(**asked)
        for task in found["tasks"]:
            own = self.containers.get(task["taskArn"])
            status = self.exec_agent.get(own.run_id if own else "", "RUNNING")
            task["enableExecuteCommand"] = True
            for one in task["containers"]:
                one["managedAgents"] = [{"name": "ExecuteCommandAgent", "lastStatus": status}]
        return {"tasks": found["tasks"], "failures": found["failures"]}

    def _run(self, asked: Answer) -> Answer:
        """The same client token is the same task, which moto does not know."""
        with self._lock:
            known = self._by_token.get(asked["clientToken"])
            if known is None:
                answer = self.client("ecs").run_task(**asked)
                known = {"tasks": answer["tasks"], "failures": answer["failures"]}
                self._start(asked, known)
                self._by_token[asked["clientToken"]] = known
            return known

    def _start(self, asked: Answer, answer: Answer) -> None:
        """What ECS does with a task: its definition, the overrides, the secrets, and the image's user."""
        for task in answer["tasks"]:
            found = self.client("ecs").describe_task_definition(
                taskDefinition=task["taskDefinitionArn"]
            )
            [own] = found["taskDefinition"]["containerDefinitions"]
            [override] = asked["overrides"]["containerOverrides"]
            env = {one["name"]: one["value"] for one in override["environment"]}
            secrets = self.client("secretsmanager")
            for one in own["secrets"]:
                value = secrets.get_secret_value(SecretId=one["valueFrom"])["SecretString"]
                env[one["name"]] = value
            self.containers[task["taskArn"]] = self._contain(env, own["command"])

    def _contain(self, env: dict[str, str], command: list[str]) -> Container:
        root = self._folder / env["OMAKASE_RUN_ID"]
        home = root / "home"
        home.mkdir(parents=True)
        pyz = root / "agent-hooks.pyz"
        shutil.copy(self._pyz, pyz)
        env = {
            **env, "PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONUNBUFFERED": "1",
            "OMAKASE_HOME": str(home / ".omakase"),
        }  # fmt: skip
        words = [place(word, pyz) for word in [*ENTRYPOINT, *command]]
        if not container.why_not():
            os.chown(home, container.AGENT, container.AGENT)
            words = container.user(container.AGENT, *words)
        output = (root / "output").open("wb")
        with output:
            process = subprocess.Popen(words, env=env, cwd=home, stdout=output, stderr=output)
        return Container(env["OMAKASE_RUN_ID"], env, home, pyz, process)
