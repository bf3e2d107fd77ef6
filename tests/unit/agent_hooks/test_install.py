from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agent_hooks.errors import Misused
from agent_hooks.install import EVENTS, install
from agent_hooks.resume import resumed


def test_the_hooks_are_portable_and_start_with_a_bare_interpreter(tmp_path: Path) -> None:
    path = install(tmp_path / ".claude" / "settings.json", tmp_path / "home with space")
    hooks = json.loads(path.read_text())["hooks"]
    assert set(hooks) == set(EVENTS)
    for event, (group,) in hooks.items():
        (hook,) = group["hooks"]
        assert hook["type"] == "command"
        assert set(hook) == {"type", "command", "timeout"}
        words = shlex.split(hook["command"])
        assert words[0] == sys.executable
        assert words[1:3] == ["-I", "-S"]
        assert words[-1] == event
        assert subprocess.run(words, check=True, input=b"{}", capture_output=True).stdout == b""


def test_what_was_in_the_settings_stays_and_installing_again_changes_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "settings.json"
    theirs = {"type": "command", "command": "their-linter"}
    before = {
        "model": "opus",
        "hooks": {"Stop": [{"hooks": [theirs]}], "Notification": [{"hooks": [theirs]}]},
    }
    path.write_text(json.dumps(before))
    install(path, tmp_path / "home")
    once = json.loads(path.read_text())
    install(path, tmp_path / "home")
    assert json.loads(path.read_text()) == once
    assert once["model"] == "opus"
    assert once["hooks"]["Notification"] == before["hooks"]["Notification"]
    assert once["hooks"]["Stop"][0] == {"hooks": [theirs]}
    assert len(once["hooks"]["Stop"]) == 2


@pytest.mark.parametrize("content", ["{broken", "[]", '{"hooks": []}', '{"hooks": {"Stop": 1}}'])
def test_settings_of_another_shape_are_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(content)
    with pytest.raises(Misused):
        install(path, tmp_path / "home")
    assert path.read_text() == content


def test_a_session_is_resumed_with_its_own_options_and_the_words_as_one_argument() -> None:
    command = ["/bin/claude", "-p", "Do it.", "--model", "opus", "--verbose", "--max-turns=9"]
    assert resumed(command, "s1", "-rf /") == [
        "/bin/claude", "-p", "--model", "opus", "--verbose", "--max-turns=9", "--resume", "s1",
        "--", "-rf /",
    ]  # fmt: skip
    assert resumed(["/bin/claude"], "s1", "x") is None
    assert resumed(["make", "-p"], "s1", "x") is None
