from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo import checkpoint, notes


@pytest.mark.parametrize("before", [None, {"done": ["read the shop"]}])
def test_before_its_first_step_an_agent_keeps_what_it_was_started_with(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    before: dict[str, list[str]] | None,
):
    monkeypatch.setenv("OMAKASE_STATE_DIR", str(tmp_path))
    if before is not None:
        kept = tmp_path / "checkpoint.txt"
        kept.write_text(json.dumps(before))
        monkeypatch.setenv("OMAKASE_CHECKPOINT_FILE", str(kept))

    assert checkpoint.main() == 0

    given = tmp_path / "given.txt"
    given.write_text(capsys.readouterr().out)
    monkeypatch.setenv("OMAKASE_CHECKPOINT_FILE", str(given))
    assert notes.left_by_the_process_before() == before
