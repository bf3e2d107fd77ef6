"""Real processes of agent_hooks against a fake server that speaks the wire.

server   the fake server            state   a run's folder that belongs to it
env      what an agent's process gets        pyz   the built zipapp
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agent_hooks import local
from agent_hooks.errors import SidecarAway, SidecarRefused
from agent_hooks.state import StateDir

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


fake_server = _load("fake_server", HERE / "fake_server.py")
model_api = _load("model_api", HERE / "model_api.py")


@pytest.fixture(scope="session")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = _load("build_pyz", ROOT / "scripts" / "build_pyz.py")
    target = tmp_path_factory.mktemp("pyz") / "agent-hooks.pyz"
    build.build(target)
    return Path(target)


@pytest.fixture
def server() -> Iterator[Any]:
    fake = fake_server.FakeServer()
    yield fake
    fake.close()


@pytest.fixture
def state(server: Any, tmp_path: Path) -> Iterator[StateDir]:
    folder = tmp_path / "home" / fake_server.RUN
    made = StateDir.create(
        folder, server=server.url, run_id=fake_server.RUN, token=fake_server.TOKEN
    )
    yield made
    try:
        local.call(made, "shutdown", 2.0)
    except (SidecarAway, SidecarRefused):
        return
    until(lambda: not (folder / "sidecar.sock").exists())


@pytest.fixture
def env(server: Any, state: StateDir, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "OMAKASE_HOME": str(tmp_path / "home"),
        "OMAKASE_SERVER": server.url,
        "OMAKASE_RUN_ID": fake_server.RUN,
        "OMAKASE_TOKEN": fake_server.TOKEN,
    }


@pytest.fixture(name="until")
def _until() -> Callable[..., Any]:
    return until


def until(reached: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Await something of another process that has no way to tell us."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = reached()
        if value:
            return value
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.01)


@pytest.fixture
def hooks(pyz: Path, env: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run agent-hooks.pyz to its end."""

    def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", str(pyz), *arguments]
        settings: dict[str, Any] = {"env": env, "capture_output": True, "text": True, "timeout": 60}
        return subprocess.run(command, check=False, **{**settings, **more})

    return run
