"""Claude Code's transcript, read as it grows: what the model said, and what it was surely given.

A hook's output is in the model's context when the transcript shows the text in an entry of its own
(an attachment, a user's text, a tool's result; not the record that a hook ran) and after it words of the
model from a request that was not under way before. Read in the transcripts of Claude Code 2.1.330.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Set

MISSED_AFTER = 2
"""Answers of the model without the text after which it counts as lost: the first may be of a request
that was written down late."""


@dataclass
class Injection:
    """A text that a hook printed, and the ids of what is in it; waiting for proof."""

    text: str
    marks: List[str]
    """Strings that the entry which shows the text holds, all of them."""
    ids: List[str]
    tool_use_id: str = ""
    known: Set[str] = field(default_factory=set)
    """The model's answers that were there before."""
    shown: bool = False
    misses: int = 0

    def as_json(self) -> Dict[str, Any]:
        return {**vars(self), "known": sorted(self.known)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Injection:
        return cls(**{**value, "known": set(value["known"])})


class Transcript:
    """One file that is only appended to."""

    def __init__(self, path: Path, *, offset: int = 0, answers: Iterable[str] = ()) -> None:
        self.path = path
        self.offset = offset
        self._answers: Set[str] = set(answers)

    @property
    def answers(self) -> Set[str]:
        """The ids of the model's answers seen so far."""
        return set(self._answers)

    def read(
        self,
        pending: List[Injection],
        *,
        said: Callable[[str, str], None],
    ) -> Optional["tuple[List[Injection], List[Injection]]"]:
        """Read what is new: the injections that are proven, and those that were lost.

        `said(uuid, text)` gets the model's words. None when the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except OSError:
            return None
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        proven: List[Injection] = []
        lost: List[Injection] = []
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and not entry.get("isSidechain"):
                waiting = [i for i in pending if i not in proven and i not in lost]
                self._entry(entry, line.decode("utf-8", "replace"), waiting, proven, lost, said)
        return proven, lost

    def _entry(
        self,
        entry: Mapping[str, Any],
        line: str,
        waiting: List[Injection],
        proven: List[Injection],
        lost: List[Injection],
        said: Callable[[str, str], None],
    ) -> None:
        kind = entry.get("type")
        attachment = entry.get("attachment") or {}
        if kind == "assistant":
            self._answer(entry, line, waiting, proven, lost)
            for text in _texts(entry.get("message") or {}):
                said(str(entry.get("uuid")), text)
        elif kind == "user" or (kind == "attachment" and attachment.get("type") != "hook_success"):
            for injection in waiting:
                if all(mark in line for mark in injection.marks):
                    injection.shown = True

    def _answer(
        self,
        entry: Mapping[str, Any],
        line: str,
        waiting: List[Injection],
        proven: List[Injection],
        lost: List[Injection],
    ) -> None:
        """Words of the model: proof for what was shown before, unless they were under way already."""
        answer = str((entry.get("message") or {}).get("id") or entry.get("uuid"))
        new = answer not in self._answers
        self._answers.add(answer)
        for injection in waiting:
            if injection.tool_use_id and injection.tool_use_id in line:
                injection.known.add(answer)
            if answer in injection.known:
                continue
            if injection.shown:
                proven.append(injection)
            elif new:
                injection.misses += 1
                if injection.misses >= MISSED_AFTER:
                    lost.append(injection)


def _texts(message: Mapping[str, Any]) -> List[str]:
    content = message.get("content")
    if not isinstance(content, list):
        return []
    blocks = [block for block in content if isinstance(block, dict)]
    texts = [str(block.get("text", "")) for block in blocks if block.get("type") == "text"]
    return [text for text in texts if text.strip() and text.strip() != "(no content)"]
