"""Claude Code's hooks, answered by the sidecar: the portable set of events, and their exact bytes.

PreToolUse holds while paused and denies on interrupt and stop; PostToolUse, UserPromptSubmit and
SessionStart add context; Stop blocks the end while something is unread. What was printed counts as read
only when the transcript proves it (transcript.py); until then it is claimed, and after a loss offered
again. Tried on 2.1.330; the shapes hold since 2.0.76.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from agent_hooks import envelope
from agent_hooks.core import Core
from agent_hooks.doors import HookCall
from agent_hooks.inbox import Item
from agent_hooks.links import Links
from agent_hooks.ops import Ops
from agent_hooks.state import read_json, write_private
from agent_hooks.transcript import Injection, Transcript

LIMIT = 9_000
"""Characters of one hook's text; over 10,000 Claude Code shows the model a preview and a path."""
PIECE = 8_000
FOR_EVER_S = 10 * 365 * 86_400.0
HOLD_S = 580.0
"""Claude Code ends a hook after 600 s, and then lets the tool run."""
BLOCKS_MAX = 7
"""Claude Code 2.1.330 ends the session after 8 blocks of Stop in a row."""
WATCH_S = 0.2
CONTEXT_EVENTS = frozenset(("PostToolUse", "UserPromptSubmit", "SessionStart"))

Answer = Optional[Dict[str, Any]]


class ClaudeHooks:
    """Answers hooks, and watches the transcript while something waits for proof."""

    def __init__(
        self, core: Core, links: Links, ops: Ops, *, on_session_end: Callable[[str], None]
    ) -> None:
        self._core = core
        self._links = links
        self._ops = ops
        self._on_session_end = on_session_end
        self._lock = threading.RLock()
        self._steps: Dict[str, Tuple[int, float]] = {}
        self._blocks = 0
        self._rest: List[Tuple[Item, int, int, str]] = []
        """Pieces of long messages that are still to be given: item, number, of how many, text."""
        self._path = core.state / "injected.json"
        stored = read_json(self._path)
        self._pending = [Injection.from_json(one) for one in stored.get("pending", [])]
        self._parts: Dict[str, List[str]] = stored.get("parts", {})
        """Of long messages: the texts that are proven."""
        self._totals: Dict[str, int] = stored.get("totals", {})
        held = {item_id for one in self._pending for item_id in one.ids}
        core.inbox.reserve(held, until=time.time() + FOR_EVER_S)
        self._transcript: Optional[Transcript] = None
        if core.memory.transcript:
            path = Path(core.memory.transcript)
            answers = {answer for one in self._pending for answer in one.known}
            self._transcript = Transcript(path, offset=core.memory.said, answers=answers)
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, _: str, stdin: bytes, call: HookCall) -> None:
        """One hook; answers or ends in silence, whatever comes."""
        try:
            event = json.loads(stdin)
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        name = str(event.get("hook_event_name", ""))
        self._core.last_call = time.monotonic()
        self._core.hooks_answered += 1
        self._core.obeying.add("claude-code")
        if event.get("agent_id"):
            # a subagent's hooks would swallow what is meant for the agent; orders hold for it too
            answer = self._hold(call, event) if name == "PreToolUse" else None
            given: Optional[Injection] = None
        else:
            self._follow(event)
            answer, given = self._answer(name, event, call)
        if (
            answer is not None
            and not call.answer(json.dumps(answer).encode())
            and given is not None
        ):
            self._forget(given)

    def _answer(
        self, name: str, event: Mapping[str, Any], call: HookCall
    ) -> Tuple[Answer, Optional[Injection]]:
        if name == "PreToolUse":
            return self._before_tool(event, call)
        if name == "Stop":
            return self._at_stop(event, call)
        if name == "SessionEnd":
            self._session_ends(event)
        if name == "PostToolUse":
            self._after_tool(event)
        return self._add_context(name, event) if name in CONTEXT_EVENTS else (None, None)

    def _add_context(
        self, name: str, event: Mapping[str, Any]
    ) -> Tuple[Answer, Optional[Injection]]:
        stopped = self._stopped()
        if stopped is not None:
            return stopped, None
        given = self._give(str(event.get("tool_use_id", "")), task_end=False)
        if given is None:
            return None, None
        output = {"hookEventName": name, "additionalContext": given.text}
        return {"hookSpecificOutput": output}, given

    # --- the points -------------------------------------------------------------------------------

    def _before_tool(
        self, event: Mapping[str, Any], call: HookCall
    ) -> Tuple[Answer, Optional[Injection]]:
        held = self._hold(call, event)
        if held is not None:
            return held, None
        core = self._core
        interrupts = core.interrupts()
        if interrupts:
            with core.changed:
                now = time.time()
                orders = [i.id for i in interrupts if i.action]
                items = core.inbox.claim(orders, now=now, claim_s=FOR_EVER_S)
                items += core.inbox.claim(
                    [i.id for i in core.readable(task_end=False)], now=now, claim_s=FOR_EVER_S
                )
                core.signalled.update(item.id for item in items)
            given = self._inject(items, str(event.get("tool_use_id", "")))
            if given is not None:
                return _deny(given.text), given
        self._begin_step(event)
        return None, None

    def _hold(self, call: HookCall, event: Mapping[str, Any]) -> Answer:
        """Wait while paused. A denial when the run is stopped, or the pause outlasts the hook."""
        core = self._core
        deadline = time.monotonic() + HOLD_S
        while core.memory.paused and core.memory.stop is None and not core.over():
            if not call.still_here():
                return None
            if time.monotonic() > deadline:
                return _deny("The user has paused you. Make this same call again: it will wait.")
            self._ops.hold(1.0)
        self._ops.hold(0.0)
        return self._stopped(str(event.get("hook_event_name")))

    def resume_text(self) -> Optional[str]:
        """All that is unread, to be given to a session that is started again with it as its prompt."""
        given = self._give("", task_end=True)
        return None if given is None else given.text

    def _stopped(self, name: str = "") -> Answer:
        core = self._core
        stop = core.memory.stop
        if stop is None:
            return None
        ids = core.stop_ids()
        if ids:
            core.confirm(ids, f"The agent was stopped after step {core.memory.step}.")
        reason = f"{stop['by']} stopped the run. {stop['reason']}".strip()
        answer: Dict[str, Any] = {"continue": False, "stopReason": reason}
        return {**_deny(reason), **answer} if name == "PreToolUse" else answer

    def _at_stop(
        self, event: Mapping[str, Any], call: HookCall
    ) -> Tuple[Answer, Optional[Injection]]:
        call.still_here()
        core = self._core
        if not event.get("stop_hook_active"):
            self._blocks = 0
        if self._hold(call, event) is not None:
            return None, None
        if self._blocks >= BLOCKS_MAX:
            core.complain("stop_cap", "Claude Code would end the session at one more block.")
            return None, None
        self._links.fetch_task_end(2.0)
        if not call.still_here():
            return None, None
        given = self._give("", task_end=True)
        if given is None:
            return None, None
        self._blocks += 1
        return {"decision": "block", "reason": given.text}, given

    def _session_ends(self, event: Mapping[str, Any]) -> None:
        self._prove()
        with self._lock:
            for one in list(self._pending):
                self._forget(one)
            self._rest.clear()
        self._core.inbox.unclaim()
        self._on_session_end(str(event.get("reason", "")))

    # --- steps ------------------------------------------------------------------------------------

    def _begin_step(self, event: Mapping[str, Any]) -> None:
        name, given = str(event.get("tool_name") or "tool"), event.get("tool_input")
        step = self._core.step_started(name, _summary(given))
        with self._lock:
            self._steps[str(event.get("tool_use_id", ""))] = (step, time.monotonic())

    def _after_tool(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            begun = self._steps.pop(str(event.get("tool_use_id", "")), None)
        if begun is None:
            return
        step, began = begun
        spent = event.get("duration_ms")
        response = event.get("tool_response")
        bad = isinstance(response, dict) and (
            bool(response.get("is_error")) or bool(response.get("interrupted"))
        )
        self._core.step_finished(
            step,
            str(event.get("tool_name") or "tool"),
            ok=not bad,
            duration_ms=spent if isinstance(spent, int) else int((time.monotonic() - began) * 1000),
            summary=None,
        )

    # --- giving -----------------------------------------------------------------------------------

    def _give(self, tool_use_id: str, *, task_end: bool) -> Optional[Injection]:
        core = self._core
        with core.changed:
            ids = [item.id for item in core.readable(task_end=task_end)]
            items = core.inbox.claim(ids, now=time.time(), claim_s=FOR_EVER_S)
        return self._inject(items, tool_use_id)

    def _inject(self, items: List[Item], tool_use_id: str) -> Optional[Injection]:
        """The next text of at most LIMIT characters; what does not fit waits for the next hook."""
        core, fence = self._core, self._core.config.fence
        with self._lock:
            for item in items:
                texts = envelope.pieces(item.event, fence, PIECE)
                self._totals[item.id] = len(texts)
                self._rest += [(item, n, len(texts), text) for n, text in enumerate(texts, 1)]
            chosen: List[Tuple[Item, int, int, str]] = []
            size = len(envelope.around(["", ""]))
            while self._rest and (not chosen or size + len(self._rest[0][3]) < LIMIT):
                size += len(self._rest[0][3]) + 1
                chosen.append(self._rest.pop(0))
            if not chosen:
                return None
            injection = Injection(
                text=envelope.around([text for _, _, _, text in chosen]),
                marks=_marks(chosen[0]),
                ids=[item.id for item, _, _, _ in chosen],
                tool_use_id=tool_use_id,
                known=self._transcript.answers if self._transcript else set(),
            )
            self._pending.append(injection)
            self._store()
        core.complain("offered", f"{len(injection.ids)} to Claude Code")
        return injection

    def _forget(self, injection: Injection) -> None:
        """It did not arrive: all that was in it is offered again, from its beginning."""
        with self._lock:
            if injection in self._pending:
                self._pending.remove(injection)
            for item_id in injection.ids:
                self._parts.pop(item_id, None)
            self._rest = [piece for piece in self._rest if piece[0].id not in injection.ids]
            self._store()
        self._core.inbox.unclaim(injection.ids)

    def _store(self) -> None:
        value = {
            "pending": [one.as_json() for one in self._pending],
            "parts": self._parts,
            "totals": self._totals,
        }
        write_private(self._path, json.dumps(value).encode())

    # --- proof ------------------------------------------------------------------------------------

    def _follow(self, event: Mapping[str, Any]) -> None:
        """Which transcript, and what is new in it."""
        memory, path = self._core.memory, str(event.get("transcript_path") or "")
        with self._lock:
            if path and path != memory.transcript:
                begins = event.get("hook_event_name") == "SessionStart"
                fresh = begins and event.get("source") in (None, "startup", "clear")
                offset = 0 if fresh else _size(Path(path))
                self._transcript = Transcript(Path(path), offset=offset)
                memory.transcript, memory.said = path, offset
                memory.session_id = str(event.get("session_id") or "")
                self._core.remember()
            if not self._prove() and event.get("hook_event_name") == "Stop":
                # no transcript to look into: that the model ended its turn proves that it was asked
                for one in [one for one in self._pending if one.tool_use_id]:
                    self._proven(one)

    def _prove(self) -> bool:
        with self._lock:
            if self._transcript is None:
                return False
            before = self._transcript.offset
            found = self._transcript.read(self._pending, said=self._said)
            if found is None:
                return False
            proven, lost = found
            for one in proven:
                self._proven(one)
            for one in lost:
                self._core.complain(
                    "lost", f"{len(one.ids)} were printed but not shown to the model"
                )
                self._forget(one)
            if self._transcript.offset != before:
                self._core.memory.said = self._transcript.offset
                self._core.remember()
                if self._pending:
                    self._store()
        return True

    def _proven(self, injection: Injection) -> None:
        self._pending.remove(injection)
        whole = [item_id for item_id in injection.ids if self._totals.get(item_id, 1) == 1]
        if whole:
            self._core.confirm(whole, injection.text)
        for item_id in injection.ids:
            if item_id not in whole:
                texts = self._parts.setdefault(item_id, [])
                texts.append(injection.text)
                if len(texts) == self._totals[item_id]:
                    self._core.confirm([item_id], "\n".join(self._parts.pop(item_id)))
            if item_id not in self._parts:
                self._totals.pop(item_id, None)
        self._store()

    def _said(self, uuid: str, text: str) -> None:
        for place, start in enumerate(range(0, len(text), 32_768)):
            body = {"text": text[start : start + 32_768]}
            self._core.event("message", body, key=f"claude.{uuid}.{place}")

    def _watch(self) -> None:
        core = self._core
        while not core.over():
            core.closing.wait(WATCH_S if self._pending else 1.0)
            self._prove()


def _deny(reason: str) -> Dict[str, Any]:
    output = {
        "hookEventName": "PreToolUse",
        "permissionDecision": "deny",
        "permissionDecisionReason": reason,
    }
    return {"hookSpecificOutput": output}


def _marks(piece: Tuple[Item, int, int, str]) -> List[str]:
    """What the transcript's line holds when it shows this piece; quotes are escaped there."""
    item, number, total, _ = piece
    return [item.id] if total == 1 else [item.id, f'part=\\"{number} of {total}\\"']


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _summary(given: Any) -> Optional[str]:
    """What a tool call is about, in one line."""
    if not isinstance(given, dict):
        return None
    for name in (
        "description",
        "command",
        "file_path",
        "path",
        "pattern",
        "url",
        "query",
        "prompt",
    ):
        value = given.get(name)
        if isinstance(value, str) and value.strip():
            return envelope.visible(value).strip().splitlines()[0][:300]
    return None
