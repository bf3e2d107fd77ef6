"""What starts each agent: data, read from `agents.toml`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from chat.ports import Store
from chat.roles import Roles
from chat.runs import Run
from chat.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def local_command(
    settings: Settings, store: Store, roles: Roles
) -> Callable[[Run], tuple[list[str], Path]]:
    """A function that gives a run's argv and working folder on this machine."""

    def command(run: Run) -> tuple[list[str], Path]:
        feature = store.feature(run.feature_id)
        words = {
            "python": sys.executable,
            "pyz": str(ROOT / "build" / "agent-hooks.pyz"),
            "role": run.role.value,
            "feature": feature.name if feature else run.feature_id,
            "repo": str(settings.state_dir / "repos" / run.feature_id),
        }
        template = roles.command(run.role, settings.agent)
        return [part.format(**words) for part in template], ROOT

    return command
