"""A nudge comes in as root, and in a container that has dropped its capabilities root is not all-powerful.

Real users and real capabilities: the agent's side is another uid, and whoever knocks has lost what the
container's definition drops.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat.adapters.ecs_exec_commands import COMMANDS, PYZ
from tests import container, deploying
from tests.container import AGENT, NOBODY
from tests.tools import lacking

Inside = Callable[..., "subprocess.CompletedProcess[str]"]
UP = "import sys; print('up', flush=True); sys.stdin.read()"


def dropped_by_the_template() -> list[str]:
    task = deploying.read()["Resources"]["CoderTask"]["Properties"]
    drop: list[str] = task["ContainerDefinitions"][0]["LinuxParameters"]["Capabilities"]["Drop"]
    return drop


@pytest.fixture
def root_fs(pyz: Path) -> Iterator[Path]:
    if why := container.why_not():
        lacking(why)
    with container.file_system() as folder:
        shutil.copy(pyz, folder / "agent-hooks.pyz")
        yield folder


@pytest.fixture
def environ(server: Any, root_fs: Path, env: dict[str, str]) -> dict[str, str]:
    """What a task's container has in its environment, also for who comes in by exec."""
    home = root_fs / "home"
    return env | {"HOME": str(home), "OMAKASE_HOME": str(home / ".omakase")}


@pytest.fixture
def inside(root_fs: Path, environ: dict[str, str]) -> Inside:
    """Run a command in the container."""

    def run(words: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        given: dict[str, Any] = {"cwd": root_fs / "home", "env": environ, "timeout": 60} | more
        return subprocess.run(words, capture_output=True, text=True, check=False, **given)

    return run


@pytest.fixture
def agent(root_fs: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The wrapper around a program that waits for its stdin to end, as the image's user."""
    python, pyz = container.python(), str(root_fs / "agent-hooks.pyz")
    words = container.user(AGENT, python, "-I", pyz, "run", "--", python, "-c", UP)
    with subprocess.Popen(
        words, env=environ, cwd=root_fs / "home", text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def look(root_fs: Path) -> list[str]:
    """The named command as ECS Exec is asked for it, where this container has its files."""
    places = {"python3": container.python(), PYZ: str(root_fs / "agent-hooks.pyz")}
    return [places.get(word, word) for word in COMMANDS["look"].words]


def folder_of(environ: dict[str, str]) -> Path:
    return Path(environ["OMAKASE_HOME"]) / environ["OMAKASE_RUN_ID"]


def capabilities(inside: Inside, words: list[str]) -> int:
    """What is effective for a process that is started so."""
    done = inside([*words, "grep", "CapEff", "/proc/self/status"])
    return int(done.stdout.split()[1], 16)


def test_a_look_by_root_without_any_capability_brings_the_mail(
    server: Any, agent: Any, inside: Inside, root_fs: Path, environ: dict[str, str]
) -> None:
    bare = container.root_without(["ALL"])
    folder = folder_of(environ)
    assert capabilities(inside, bare) == 0
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (AGENT, 0o700)
    for name in ("config.json", "local.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert inside([*bare, "cat", str(folder / name)]).returncode != 0, "that is what it lacks"

    done = inside([*bare, *look(root_fs)])

    assert (done.returncode, done.stdout, done.stderr) == (0, "omakase: looking\n", "")
    looked = server.calls["mailbox"]
    message = server.say("look!")
    assert inside([*bare, *look(root_fs)]).returncode == 0
    server.wait(lambda: server.state(message) == "leased")
    assert server.calls["mailbox"] > looked


def test_a_look_by_root_as_the_template_leaves_it_works_too(
    server: Any, agent: Any, inside: Inside, root_fs: Path
) -> None:
    left = container.root_without(dropped_by_the_template())
    assert capabilities(inside, left) != capabilities(inside, ["env"])
    done = inside([*left, *look(root_fs)])
    assert (done.returncode, done.stdout) == (0, "omakase: looking\n"), done.stderr


def test_another_user_may_knock_and_gets_through_no_other_door(
    server: Any, agent: Any, inside: Inside, root_fs: Path, environ: dict[str, str]
) -> None:
    other = container.user(NOBODY)
    local = json.loads((folder_of(environ) / "local.json").read_text())
    http = (
        "import http.client\n"
        f"c = http.client.HTTPConnection('127.0.0.1', {local['port']})\n"
        "c.request('POST', '/', b'{\"op\": \"mailbox\"}'); print(c.getresponse().status)\n"
    )
    unix = (
        "import socket\n"
        f"socket.socket(socket.AF_UNIX).connect({str(folder_of(environ) / 'sidecar.sock')!r})\n"
    )

    assert inside([*other, *look(root_fs)]).stdout == "omakase: looking\n"
    assert inside([*other, container.python(), "-c", http]).stdout == "403\n"
    assert "PermissionError" in inside([*other, container.python(), "-c", unix]).stderr
    words = [*other, container.python(), "-I", str(root_fs / "agent-hooks.pyz")]
    for command in ("status", "mailbox"):
        done = inside([*words, command])
        assert (done.returncode != 0, done.stdout) == (True, "")


@pytest.mark.parametrize("drop", [["ALL"], dropped_by_the_template()], ids=["all", "template"])
def test_a_look_before_the_agents_side_is_there_is_refused_and_leaves_nothing_in_its_way(
    server: Any,
    inside: Inside,
    root_fs: Path,
    environ: dict[str, str],
    drop: list[str],
) -> None:
    done = inside([*container.root_without(drop), *look(root_fs)])

    assert (done.returncode, done.stdout) == (1, "")
    assert "no sidecar" in done.stderr
    assert not Path(environ["OMAKASE_HOME"]).exists()
    python, pyz = container.python(), str(root_fs / "agent-hooks.pyz")
    ran = inside(container.user(AGENT, python, "-I", pyz, "run", "--", python, "-c", "print('up')"))
    assert (ran.returncode, ran.stdout) == (0, "up\n"), ran.stderr


def test_what_the_agent_leaves_about_is_not_executed_by_root(
    server: Any, agent: Any, inside: Inside, root_fs: Path, environ: dict[str, str]
) -> None:
    """The exec session has the agent's HOME and working folder, and the agent runs anybody's code."""
    home, trap = Path(environ["HOME"]), root_fs / "trap"
    trap.mkdir()
    ask = [container.python(), "-c", "import site; print(site.getusersitepackages())"]
    site = Path(inside(container.user(AGENT, *ask)).stdout.strip())
    assert home in site.parents
    plant = (
        "import os, pathlib, sys\n"
        'code = f\'import os; open({sys.argv[1]!r} + "/" + str(os.getpid()), "w").close()\'\n'
        "for folder in map(pathlib.Path, sys.argv[2:]):\n"
        "    folder.mkdir(parents=True, exist_ok=True)\n"
        "    for name in ('usercustomize', 'sitecustomize', 'json', 'argparse', 'agent_hooks'):\n"
        "        (folder / f'{name}.py').write_text(code)\n"
    )
    planted = inside(
        container.user(
            AGENT, container.python(), "-I", "-c", plant, str(trap), str(site), str(home)
        )
    )
    assert planted.returncode == 0, planted.stderr

    assert inside(look(root_fs)).stdout == "omakase: looking\n"

    assert list(trap.iterdir()) == []
    careless = [container.python(), str(root_fs / "agent-hooks.pyz"), "look"]
    inside(careless)
    assert list(trap.iterdir()), "the trap is one: without -I it springs"
