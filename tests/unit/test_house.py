"""The house's rules that no tool checks by itself."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import audit
import hashes
import pytest
import yaml
from supervisor import services_of

from chat.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
PROCFILE = services_of(ROOT / "Procfile")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
HOOKS = sorted((ROOT / "agent_hooks").rglob("*.py"))


# --- Procfile, compose file, Dockerfile -----------------------------------------------------------


def test_the_procfile_names_web_worker_beat_and_flower():
    assert list(PROCFILE) == ["web", "worker", "beat", "flower"]


@pytest.mark.parametrize("name", list(PROCFILE))
def test_the_compose_file_runs_the_procfiles_own_commands(name: str):
    shell, option, command = COMPOSE["services"][name]["command"]

    assert (shell, option) == ("sh", "-c")
    assert command.replace("$$", "$") == f"exec {PROCFILE[name]}"


def test_the_image_runs_the_web_by_the_procfiles_own_command():
    last = (ROOT / "Dockerfile").read_text().strip().splitlines()[-1]

    assert json.loads(last.removeprefix("CMD ")) == ["sh", "-c", f"exec {PROCFILE['web']}"]


def test_the_image_holds_every_package_and_no_tests():
    copied = set(re.findall(r"^COPY (\w+) \./", (ROOT / "Dockerfile").read_text(), re.MULTILINE))

    assert {"chat", "web", "workers", "agent_hooks"} <= copied
    assert "tests" not in copied
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert {f"!{name}" for name in copied} <= set(ignored)


def test_what_the_image_copies_is_there_and_let_through():
    lines = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = {source for line in lines for source in line.split()}

    assert [source for source in sources if not (ROOT / source).exists()] == []
    let_through = set((ROOT / ".dockerignore").read_text().splitlines())
    assert {f"!{source}" for source in sources} <= let_through


def test_compose_has_every_service_and_publishes_on_loopback_alone():
    services = COMPOSE["services"]

    assert set(services) == {"redis", "dynamodb-local", *PROCFILE}
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_composes_redis_keeps_what_it_answered():
    command = COMPOSE["services"]["redis"]["command"]

    assert "--appendonly yes --appendfsync ${REDIS_FSYNC:-always}" in command
    assert "--maxmemory-policy noeviction" in command


@pytest.mark.parametrize("name", list(PROCFILE))
def test_the_settings_in_the_compose_file_are_taken(name: str, tmp_path: Path):
    environment = {
        variable: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value))
        for variable, value in COMPOSE["services"][name]
        .get("environment", COMPOSE["x-app"]["environment"])
        .items()
    }
    inside = environment | {"STATE_DIR": str(tmp_path), "SECRET_KEY": "s" * 32}

    settings = load_settings(inside)

    assert settings.redis_url == "redis://redis:6379/0"
    assert settings.dynamodb is not None
    assert settings.dynamodb.endpoint == "http://dynamodb-local:8000"
    assert settings.local_sign_in_from != ("0.0.0.0/0",)


def test_dockers_own_client_takes_the_compose_file():
    """`docker compose` where it is, else `docker stack config`: neither needs an engine for it."""
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker client here")
    has_compose = subprocess.run(
        [docker, "compose", "version"], capture_output=True, check=False
    ).returncode
    command = (
        [docker, "compose", "-f", "docker-compose.yml", "config", "--quiet"]
        if has_compose == 0
        else [docker, "stack", "config", "-c", "docker-compose.yml"]
    )

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr


# --- settings -------------------------------------------------------------------------------------


def documented() -> dict[str, str]:
    """Variable to its documented default, out of the tables of docs/settings.md."""
    text = (ROOT / "docs" / "settings.md").read_text()
    return dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| .*\|$", text, re.MULTILINE))


def variables_of_the_scripts() -> set[str]:
    procfile = set(re.findall(r"\$\{(\w+)", (ROOT / "Procfile").read_text()))
    return procfile | {"PYTHON", "CI", "TEST_PROCESSES"}


def test_every_setting_is_documented_and_nothing_else_is():
    settings = {name.upper() for name in Settings.model_fields}

    assert set(documented()) == settings | variables_of_the_scripts()


@pytest.mark.parametrize(
    ("name", "default"),
    [
        (name.upper(), field.default)
        for name, field in Settings.model_fields.items()
        if not field.is_required() and isinstance(field.default, str | int)
    ],
)
def test_the_documented_default_is_the_real_one(name: str, default: object):
    assert documented()[name] == f"`{default}`"


def test_only_the_settings_read_the_environment():
    """Handing it whole to load_settings, or to a child process, is not reading it."""
    reading = re.compile(r"os\.getenv|os\.environb?(\[|\.(get|pop|items|keys|values|setdefault)\b)")
    readers = [
        path.relative_to(ROOT).as_posix()
        for package in ("chat", "web", "workers")
        for path in (ROOT / package).rglob("*.py")
        if reading.search(path.read_text())
    ]

    assert readers == []


# --- agent_hooks ----------------------------------------------------------------------------------


def imported(tree: ast.AST) -> set[str]:
    """The top packages that a module imports by absolute name."""
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 0
    }
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", HOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_agent_hooks_are_python_3_9_and_import_the_standard_library_alone(path: Path):
    tree = ast.parse(path.read_text(), str(path), feature_version=(3, 9))

    assert imported(tree) <= sys.stdlib_module_names | {"agent_hooks"}


def test_agent_hooks_are_imported_by_a_real_python_3_9():
    old = shutil.which("python3.9")
    if old is None or subprocess.run([old, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("no Python 3.9 here")
    modules = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in HOOKS
        if path.name not in {"__init__.py", "__main__.py"}
    ]
    imports = "\n".join(f"import {module}" for module in modules)

    result = subprocess.run(
        [old, "-W", "error", "-c", imports], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr


# --- what others made -----------------------------------------------------------------------------


def test_every_requirement_is_pinned_hashed_and_explained():
    assert hashes.requirement_faults(ROOT) == []


def test_every_vendored_file_is_the_one_that_was_chosen():
    assert hashes.vendor_faults(ROOT / "web" / "static" / "vendor") == []


def test_a_changed_or_unnamed_vendored_file_is_noticed(tmp_path: Path):
    (tmp_path / "VENDOR.md").write_text(
        f"| lib.js | 3 | {'0' * 64} |\n| gone.js | 3 | {'0' * 64} |\n"
    )
    (tmp_path / "lib.js").write_text("new")
    (tmp_path / "stray.js").write_text("x")

    assert hashes.vendor_faults(tmp_path) == [
        "VENDOR.md names gone.js, which is not there",
        "lib.js: VENDOR.md holds another sha256, or none",
        "stray.js: VENDOR.md holds another sha256, or none",
    ]


def test_an_unpinned_requirement_is_noticed(tmp_path: Path):
    path = tmp_path / "requirements.txt"
    path.write_text("flask>=3\nredis==8.1.0 \\\n    --hash=sha256:00\nrich==15.0.0\n")

    versions, faults = hashes.pins(path)

    assert versions == {"redis": "8.1.0"}
    assert faults == [
        "requirements.txt: not pinned with a hash: flask>=3",
        "requirements.txt: not pinned with a hash: rich==15.0.0",
    ]


def test_known_holes_are_a_failure_and_a_silent_advisory_service_is_not():
    hole = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    report = json.dumps({"dependencies": [{"name": "lib", "version": "1.0", "vulns": [hole]}]})
    clean = json.dumps({"dependencies": [{"name": "lib", "version": "1.0", "vulns": []}]})

    assert audit.verdict(report, "") == (1, ["lib 1.0: PYSEC-1, fixed in 2.0"])
    assert audit.verdict(clean, "") == (0, ["1 packages, no known hole"])
    code, lines = audit.verdict("", "Traceback …\nConnectionError: no route to host\n")
    assert code == 0
    assert lines[0].startswith("NOT CHECKED: the advisory service could not be asked: Connection")


def test_the_help_names_every_command():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)

    for command in ("run", "test", "check", "bench", "help"):
        assert re.search(rf"^  make {command} +\S", listed.stdout, re.MULTILINE)
