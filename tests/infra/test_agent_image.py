"""infra/agent: the Dockerfile read instruction by instruction, and its entrypoint as a real process.

No engine builds the image here: what an engine alone could show (that the base's packages install) is
not shown.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import build_pyz
import pytest

from agent_hooks.__main__ import _parser
from agent_hooks.envelope import TRAIL, around
from agent_hooks.envelope import one as fenced
from chat.adapters.ecs_exec_commands import COMMANDS
from chat.runs import Role
from tests import cloud, container

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "infra" / "agent"
PYZ = "/opt/omakase/agent-hooks.pyz"


@dataclass(frozen=True)
class Instruction:
    word: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    """A Dockerfile's instructions in order; continued lines are joined, comments dropped."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [Instruction(word.upper(), " ".join(rest.split())) for word, _, rest in found]


DOCKERFILE = instructions((AGENT / "Dockerfile").read_text())
FINAL = DOCKERFILE[[n for n, one in enumerate(DOCKERFILE) if one.word == "FROM"][-1] :]


def of(word: str) -> list[str]:
    return [one.rest for one in FINAL if one.word == word]


# --- the Dockerfile -------------------------------------------------------------------------------


def test_the_reader_joins_lines_and_drops_comments():
    text = "# a\nFROM x:1 AS y\nRUN one \\\n    && two\n  # b\nUSER 5\n"

    assert instructions(text) == [
        Instruction("FROM", "x:1 AS y"), Instruction("RUN", "one && two"), Instruction("USER", "5"),
    ]  # fmt: skip


def test_every_base_has_a_version_of_its_own():
    stages = {
        one.rest.split(" AS ")[1] for one in DOCKERFILE if one.word == "FROM" and " AS " in one.rest
    }
    bases = [one.rest.split()[0] for one in DOCKERFILE if one.word == "FROM"]

    assert bases[-1] == "${AGENT_IMAGE}"
    assert DOCKERFILE[0].rest == "AGENT_IMAGE=claude-code"
    assert "claude-code" in stages
    for base in bases[:-1]:
        tag = base.partition(":")[2]
        assert re.search(r"\d+\.\d+", tag), f"{base} has no version"


def test_the_last_user_is_a_number_that_is_not_root():
    user, _, group = of("USER")[-1].partition(":")

    assert (int(user) > 0, int(group) > 0) == (True, True)
    after = FINAL[max(n for n, one in enumerate(FINAL) if one.word == "USER") :]
    assert {one.word for one in after} >= {"ENTRYPOINT", "CMD"}


def test_nothing_secret_is_built_in():
    names = re.compile(r"(?i)(token|secret|passw|api_?key|credential)")
    for one in DOCKERFILE:
        if one.word in {"ENV", "ARG", "LABEL"}:
            assert not names.search(one.rest), one
        assert not re.search(r"sk-ant-|AKIA[0-9A-Z]{16}", one.rest)
        assert one.word != "ADD"


def test_only_named_files_are_copied_and_all_of_them_are_let_through():
    ignored = (AGENT / "Dockerfile.dockerignore").read_text().splitlines()
    copies = [one.rest for one in DOCKERFILE if one.word == "COPY" and "--from" not in one.rest]
    sources = {source for line in copies for source in line.split()[:-1]}

    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_entrypoint_and_command_are_lists_so_that_signals_arrive():
    entrypoint, command = json.loads(of("ENTRYPOINT")[-1]), json.loads(of("CMD")[-1])

    assert entrypoint == ["python3", "-I", PYZ, "run", "--"] == cloud.ENTRYPOINT
    assert of("USER")[-1] == f"{container.AGENT}:{container.AGENT}"
    assert _parser().parse_args(entrypoint[3:] + command).rest == ["--", *command]
    assert command[0] == "claude"


def test_the_program_is_where_ecs_exec_looks_for_it_and_finds_the_same_run():
    hooks = [command for command in COMMANDS.values() if command.sign is not None]
    # -I -S: root has the agent's HOME, and must not execute what lies there
    assert {command.words[:-1] for command in hooks} == {("python3", "-I", "-S", PYZ)}
    assert len(hooks) == 2  # the third is the owner's shell
    environment = dict(pair.split("=", 1) for pair in shlex.split(" ".join(of("ENV"))))
    # root's home is another one
    assert environment["OMAKASE_HOME"].startswith("/home/agent/")


def test_the_packages_lists_are_not_kept():
    for one in DOCKERFILE:
        if "apt-get install" in one.rest:
            assert "--no-install-recommends" in one.rest
            assert "rm -rf /var/lib/apt/lists/*" in one.rest
    assert any("npm ci --ignore-scripts" in one.rest for one in DOCKERFILE)


# --- its checkpoint -------------------------------------------------------------------------------


def shell(*words: str | Path, cwd: Path) -> str:
    who = ["-c", "user.name=Nori", "-c", "user.email=nori@example.org"]
    return subprocess.run(
        ["git", *who, *words], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout.strip()


def checkpoint(work: Path) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": os.environ["PATH"], "HOME": str(work.parent), "OMAKASE_RUN_ID": "run_1",
        "CLAUDE_CONFIG_DIR": str(work.parent / "claude"),
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-I", AGENT / "checkpoint.py"], cwd=work, env=env, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working folder with a clone of `remote.git` in it, one commit, and something not committed."""
    shell("init", "-q", "--bare", "remote.git", cwd=tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    shell("clone", "-q", tmp_path / "remote.git", "shop", cwd=work)
    shop = work / "shop"
    (shop / "cart.py").write_text("total = 1\n")
    shell("add", ".", cwd=shop)
    shell("commit", "-qm", "first", cwd=shop)
    (shop / "cart.py").write_text("total_price = 1\n")
    (shop / "new.py").write_text("")
    return work


def test_the_images_checkpoint_pushes_what_was_not_committed_and_says_where(
    work: Path, tmp_path: Path
):
    session = tmp_path / "claude" / "projects" / "-work"
    session.mkdir(parents=True)
    said = {"type": "assistant", "message": {"content": [{"type": "text", "text": "Half done."}]}}
    (session / "s.jsonl").write_text(f"{json.dumps(said)}\n{{torn")
    before = shell("status", "--porcelain", cwd=work / "shop")

    done = checkpoint(work)

    assert (done.returncode, done.stderr) == (0, "")
    assert "refs/checkpoints/run_1" in done.stdout
    assert "Half done." in done.stdout
    remote = tmp_path / "remote.git"
    commit = shell("rev-parse", "refs/checkpoints/run_1", cwd=remote)
    assert commit in done.stdout
    assert shell("show", f"{commit}:cart.py", cwd=remote) == "total_price = 1"
    assert "new.py" in shell("ls-tree", "--name-only", commit, cwd=remote)
    assert shell("status", "--porcelain", cwd=work / "shop") == before, "its own index is untouched"
    assert checkpoint(work).returncode == 0, "and again"


@pytest.mark.parametrize("what", ["no remote", "a file beside it", "no right to push"])
def test_what_the_images_checkpoint_cannot_keep_it_says_in_a_line(
    work: Path, tmp_path: Path, what: str
):
    if what == "no remote":
        shell("remote", "remove", "origin", cwd=work / "shop")
    elif what == "a file beside it":
        (work / "notes.txt").write_text("important")
    else:
        shell("remote", "set-url", "origin", tmp_path / "gone.git", cwd=work / "shop")

    done = checkpoint(work)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_with_nothing_made_yet_there_is_nothing_to_keep(tmp_path: Path):
    (tmp_path / "work").mkdir()

    done = checkpoint(tmp_path / "work")

    assert done.returncode == 0
    assert "nothing yet" in done.stdout


# --- what the roles are told ----------------------------------------------------------------------


def test_there_is_a_page_for_each_role_and_no_other():
    assert {path.stem for path in (AGENT / "roles").iterdir()} == {role.value for role in Role}


@pytest.mark.parametrize("role", [role.value for role in Role])
def test_what_a_role_is_told_to_type_is_understood(role: str):
    page = (AGENT / "roles" / f"{role}.md").read_text()
    told = re.findall(r"^    hooks (\w+ .+)$", page, re.MULTILINE)

    assert {line.split()[0] for line in told} == {"say", "ask"}
    for line in told:
        _parser().parse_args(shlex.split(line))
    assert PYZ in page


@pytest.mark.parametrize("role", [role.value for role in Role])
def test_the_fence_that_a_role_is_told_of_is_the_one_it_will_see(role: str):
    page = (AGENT / "roles" / f"{role}.md").read_text()
    event = {
        "id": "msg_1", "kind": "message", "body": {"text": "Call it total_price."},
        "sender": {"kind": "person", "name": "Ana"},
    }  # fmt: skip
    seen = around([fenced(event, "a1b2c3d4e5f60718")])

    for line in seen.replace("a1b2c3d4e5f60718", "a1b2c3…").replace("msg_1", "msg_…").splitlines():
        assert line in page
    assert TRAIL in page


# --- the entrypoint as a process ------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("opt") / "agent-hooks.pyz"
    build_pyz.build(target)
    return target


@pytest.fixture
def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


def entrypoint(pyz: Path, home: Path, server: str, *command: str) -> subprocess.Popen[str]:
    words = [str(pyz) if word == PYZ else word for word in json.loads(of("ENTRYPOINT")[-1])]
    words[0] = sys.executable
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "OMAKASE_HOME": str(home / ".omakase"),
        "OMAKASE_SERVER": server, "OMAKASE_RUN_ID": "run_01J0000000000000000000TEST",
        "OMAKASE_TOKEN": "a-token-of-this-test",
    }  # fmt: skip
    return subprocess.Popen(
        [*words, *command], env=environment, cwd=home, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def end_of_sidecar(home: Path) -> None:
    """The sidecar may outlive the wrapper to send what is left: here nobody will ever take it."""
    for local in home.glob(".omakase/*/local.json"):
        try:
            os.kill(int(json.loads(local.read_text())["pid"]), signal.SIGTERM)
        except (ProcessLookupError, ValueError, KeyError):
            continue


@pytest.mark.slow
def test_with_nobody_to_talk_to_the_command_runs_all_the_same(
    pyz: Path, nobody: str, tmp_path: Path
):
    process = entrypoint(pyz, tmp_path, nobody, sys.executable, "-c",
        "import os; print('worked', 'OMAKASE_TOKEN' in os.environ); raise SystemExit(7)")  # fmt: skip
    try:
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
        end_of_sidecar(tmp_path)

    # its words, its exit code, and without the token, which only the state folder has
    assert (out, process.returncode) == ("worked False\n", 7), err
    (folder,) = (tmp_path / ".omakase").glob("run_*")
    assert (folder / "config.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_sigterm_reaches_the_command_and_the_wrapper_ends_within_ecss_grace(
    pyz: Path, nobody: str, tmp_path: Path
):
    program = (
        "import signal, sys, threading\n"
        "over = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: over.set())\n"
        "print('ready', flush=True)\n"
        "over.wait(60); print('said goodbye', flush=True); sys.exit(0)\n"
    )
    process = entrypoint(pyz, tmp_path, nobody, sys.executable, "-c", program)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        # 120 s is StopTimeout of the task definitions; ECS's own default is 30
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        end_of_sidecar(tmp_path)

    assert "said goodbye" in out


def test_without_a_run_it_says_what_is_missing(pyz: Path, tmp_path: Path):
    words = [sys.executable, "-I", str(pyz), "run", "--", "true"]

    ended = subprocess.run(
        words, env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 2
    assert "OMAKASE_SERVER, OMAKASE_RUN_ID, OMAKASE_TOKEN" in ended.stderr


def test_the_images_hooks_are_those_for_claude_code(pyz: Path, tmp_path: Path):
    (install,) = [json.loads(rest) for rest in of("RUN") if rest.startswith("[")]
    settings = tmp_path / ".claude" / "settings.json"
    words = [sys.executable, "-I", str(pyz), *install[3:-1], str(settings)]
    environment = {"HOME": str(tmp_path), "OMAKASE_HOME": str(tmp_path / ".omakase")}

    subprocess.run(words, env=environment, check=True, capture_output=True)

    hooks = json.loads(settings.read_text())["hooks"]
    assert {"PreToolUse", "PostToolUse", "Stop", "SessionStart"} <= set(hooks)
    assert str(tmp_path / ".omakase" / "hook.py") in json.dumps(hooks)
