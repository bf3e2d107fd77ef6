"""What a demo agent must know to go on as another process: kept in a file between two steps.

$OMAKASE_STATE_DIR/notes.json   written by the agent, read by its checkpoint hook (demo/checkpoint.py)
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

STEPS_KEPT, SUBJECTS_KEPT = 200, 50
"""A checkpoint has 32 KB."""


def path() -> Path:
    """Where the notes of this run are."""
    return Path(os.environ["OMAKASE_STATE_DIR"]) / "notes.json"


def write(notes: dict[str, Any]) -> None:
    """Replace them in one step: the hook may read at any moment."""
    fresh = path().with_suffix(".new")
    fresh.write_text(json.dumps(notes), encoding="utf-8")
    fresh.replace(path())


def left_by_the_process_before() -> dict[str, Any] | None:
    """The checkpoint with which this process was started, None when it is the first."""
    given = os.environ.get("OMAKASE_CHECKPOINT_FILE")
    if not given:
        return None
    kept: dict[str, Any] = json.loads(Path(given).read_text(encoding="utf-8"))
    return kept
