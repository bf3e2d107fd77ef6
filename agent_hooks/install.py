"""Claude Code's settings: our hooks merged into what is there, nothing else touched.

Only the portable events and fields: on 2.0.76 and 2.1.63 one unknown event name silently drops all hooks.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Optional

from agent_hooks import hook_script
from agent_hooks.errors import Misused

EVENTS = (
    "PreToolUse", "PostToolUse", "Stop", "UserPromptSubmit", "SessionStart", "SessionEnd",
)  # fmt: skip
WITH_MATCHER = frozenset(("PreToolUse", "PostToolUse"))
TIMEOUT_S = 600


def snippet(script: Path, state_dir: Optional[Path] = None) -> Dict[str, Any]:
    """The `hooks` object of the settings."""
    hooks: Dict[str, Any] = {}
    for event in EVENTS:
        command = hook_script.command(script, event, state_dir)
        group: Dict[str, Any] = {
            "hooks": [{"type": "command", "command": command, "timeout": TIMEOUT_S}]
        }
        if event in WITH_MATCHER:
            group = {"matcher": "*", **group}
        hooks[event] = [group]
    return hooks


def merge(settings: Dict[str, Any], hooks: Dict[str, Any], script: Path) -> Dict[str, Any]:
    """Settings with our hooks in place of any earlier ones of ours, and everybody else's as it was.

    Raises Misused when what is there has another shape than Claude Code's.
    """
    present = settings.get("hooks", {})
    if not isinstance(present, dict):
        raise Misused("`hooks` in the settings is not an object.")
    merged = dict(present)
    for event, groups in hooks.items():
        others = merged.get(event, [])
        if not isinstance(others, list):
            raise Misused(f"`hooks.{event}` in the settings is not a list.")
        merged[event] = [_without_ours(group, script) for group in others] + groups
        merged[event] = [group for group in merged[event] if group is not None]
    return {**settings, "hooks": merged}


def _without_ours(group: Any, script: Path) -> Any:
    if not isinstance(group, dict) or not isinstance(group.get("hooks"), list):
        return group
    kept = [
        hook
        for hook in group["hooks"]
        if not (isinstance(hook, dict) and str(script) in str(hook.get("command", "")))
    ]
    if len(kept) == len(group["hooks"]):
        return group
    return {**group, "hooks": kept} if kept else None


def install(settings_path: Path, home: Path, state_dir: Optional[Path] = None) -> Path:
    """Write hook.py and the settings; the settings' path. Raises Misused when they are no JSON."""
    script = hook_script.write(home)
    settings: Any = {}
    if settings_path.exists():
        try:
            settings = json.loads(settings_path.read_text(encoding="utf-8") or "{}")
        except ValueError as error:
            raise Misused(f"{settings_path} is not JSON; nothing was changed.") from error
        if not isinstance(settings, dict):
            raise Misused(f"{settings_path} is not a JSON object; nothing was changed.")
    merged = merge(settings, snippet(script, state_dir), script)
    settings_path.parent.mkdir(parents=True, exist_ok=True)
    fresh = settings_path.with_name(settings_path.name + ".new")
    fresh.write_text(json.dumps(merged, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if settings_path.exists():
        os.chmod(fresh, settings_path.stat().st_mode & 0o777)
    os.replace(str(fresh), str(settings_path))
    return settings_path
