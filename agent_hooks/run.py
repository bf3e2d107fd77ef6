"""The entrypoint: `run -- COMMAND` starts the sidecar, runs any command, and reports how it ends.

The run's outcome is what became of the work, not only of the process: `completed` after exit code 0
with nothing unread; `failed` after another code; `stopped` when a person or a signal ended it, and also
when the command ended well but its last messages came too late: the server takes no `completed` past
unread mail, `failed` would be untrue, and so the messages end `undelivered` and the summary says it.

A run that is put on hold (hold.py) does not end: the command is ended, and this process with 0.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Deque, Dict, List, Optional, Sequence

from agent_hooks import hold, local
from agent_hooks.errors import Ended, HooksError, Misused, SidecarAway, SidecarRefused
from agent_hooks.ids import new_key
from agent_hooks.logs import Chunks, Lines
from agent_hooks.resume import resumed
from agent_hooks.state import StateDir, read_json

KILL_S = 10.0
"""Between SIGTERM and SIGKILL."""
OBEY_S = 15.0
"""How long an agent that obeys orders itself has to end after `stop`."""
FINISH_S = 20.0
FINISH_AFTER_SIGNAL_S = 8.0
LINGER_S = 3_600.0
"""How long a container is kept for what the server has yet to take."""
DRAIN_S = 2.0
NOT_FOUND = 127
NOT_EXECUTABLE = 126
POLL_S = 20.0
RESUMES_MAX = 5
MAIL_S = 15.0
"""How long a session that comes back from hold waits for the words that brought it back."""
BACK = "You were put on hold, and your process is a new one. Go on where you were."


class Wrapper:
    """One command and what is reported of it."""

    def __init__(
        self,
        state: StateDir,
        command: Sequence[str],
        *,
        checkpoint: str = "",
        hook_s: float = hold.HOOK_S,
    ) -> None:
        self._state = state
        self._command = list(command)
        self._checkpoint = checkpoint
        self._hook_s = hook_s
        self._kept: Optional[Path] = None
        """What the process before left, in a file."""
        self._held = False
        self._chunks = Chunks(self._report)
        self._tail: Deque[str] = deque(maxlen=40)
        self._child: Optional[subprocess.Popen[bytes]] = None
        self._signal: Optional[int] = None
        self._stopped = False
        self._over = threading.Event()
        self._one_hold = threading.Lock()

    def run(self) -> int:
        """The command's exit code, 128 + n after a signal."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._forward)
        generation = int(os.environ.get("OMAKASE_GENERATION") or 0)
        self._kept = hold.come_back(self._state, generation)
        local.ensure_sidecar(self._state, watch_pid=os.getpid())
        command: Optional[List[str]] = self._command if self._kept is None else self._first()
        code = 0
        for left in range(RESUMES_MAX, -1, -1):
            if command is None:
                break
            code = self._once(command)
            self._chunks.flush(5.0)
            if self._held:
                code = 0
                break
            command = self._finish(code, may_resume=left > 0)
        self._over.set()
        self._chunks.close(1.0)
        return code

    # --- the command ------------------------------------------------------------------------------

    def _once(self, command: Sequence[str]) -> int:
        try:
            child = subprocess.Popen(
                list(command),
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr)
            self._tail.append(f"{command[0]}: {error.strerror}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        self._child = child
        if self._signal is not None:
            self._kill(self._signal)  # it came while we were starting
        self._event("status", {"status": "working"})
        threading.Thread(target=self._obey, args=(child,), daemon=True).start()
        readers = [
            threading.Thread(target=self._read, args=("stdout", child.stdout, 1), daemon=True),
            threading.Thread(target=self._read, args=("stderr", child.stderr, 2), daemon=True),
        ]
        for reader in readers:
            reader.start()
        code = self._await(child)
        for reader, pipe in zip(readers, (child.stdout, child.stderr)):
            # what the command left running may hold the pipe open
            reader.join(DRAIN_S)
            if pipe is not None and not reader.is_alive():
                pipe.close()
        return 128 - code if code < 0 else code

    def _environment(self) -> Dict[str, str]:
        env = dict(os.environ)
        for name in ("OMAKASE_TOKEN", "OMAKASE_TOKEN_FILE", "OMAKASE_CHECKPOINT_FILE"):
            env.pop(name, None)  # the state folder has it; a child need not
        env["OMAKASE_STATE_DIR"] = str(self._state.path)
        env["OMAKASE_RUN_ID"] = self._state.config().run_id
        env["OMAKASE_WRAPPER_PID"] = str(os.getpid())
        if self._kept is not None:
            env["OMAKASE_CHECKPOINT_FILE"] = str(self._kept)
        return env

    def _await(self, child: "subprocess.Popen[bytes]") -> int:
        deadline: Optional[float] = None
        while True:
            try:
                return child.wait(0.2)
            except subprocess.TimeoutExpired:
                if self._signal is None:
                    continue
                if deadline is None:
                    deadline = time.monotonic() + KILL_S
                    # beside, since the server may be away and the command must not get longer for it
                    threading.Thread(target=self._say_goodbye, daemon=True).start()
                if time.monotonic() > deadline:
                    self._kill(signal.SIGKILL)

    def _say_goodbye(self) -> None:
        """People see that it goes, and why, while the command still puts its things away."""
        if self._signal is not None and not self._stopped and not self._held:
            self._event("status", {"status": "working", "detail": _goodbye(self._signal)})

    def _read(self, stream: str, pipe: Any, out: int) -> None:
        lines, passing = Lines(), True
        while True:
            data = os.read(pipe.fileno(), 65_536)
            if passing:
                passing = _pass_on(out, data)
            found = lines.feed(data, final=not data)
            self._tail.extend(found)
            self._chunks.add(stream, found)
            if not data:
                return

    def _forward(self, number: int, _: object) -> None:
        self._signal = number
        self._kill(number)

    def _kill(self, number: int) -> None:
        child = self._child
        if child is not None and child.poll() is None:
            try:
                os.killpg(child.pid, number)
                if number in (signal.SIGTERM, signal.SIGINT):
                    os.killpg(child.pid, signal.SIGCONT)  # a paused one cannot hear it
            except ProcessLookupError:
                return

    # --- orders -----------------------------------------------------------------------------------

    def _obey(self, child: "subprocess.Popen[bytes]") -> None:
        """Carry out orders that the agent itself does not know of; keep the sidecar alive."""
        seen: Optional[Dict[str, Any]] = None
        frozen, stop_at, flushed, asked = False, 0.0, 0, ""
        while child.poll() is None and not self._over.is_set():
            wait_s = min(POLL_S, max(0.1, stop_at - time.monotonic())) if stop_at else POLL_S
            pids = [os.getpid(), child.pid]
            answer = self._call("control", POLL_S + 10, seen=seen, wait_s=wait_s, pids=pids)
            if answer is None:
                self._go_if_held()
                return
            control = seen = answer["control"]
            if control["ended"]:
                self._go_if_held()
                return
            if control["checkpoint"] and control["checkpoint"] != asked:
                asked = control["checkpoint"]
                threading.Thread(target=self._go_on_hold, args=(child,), daemon=True).start()
            if control["flush"] > flushed:
                flushed = control["flush"]
                self._chunks.flush(1.0)
                self._call("flushed", flush=flushed)
            if control["stop"] and not self._stopped:
                stop_at = stop_at or time.monotonic() + (OBEY_S if control["obeyed"] else 0.0)
                if time.monotonic() >= stop_at:
                    self._stopped = True
                    self._call("applied", action="stop", text="The command was ended (SIGTERM).")
                    self._signal = signal.SIGTERM
                    self._kill(signal.SIGTERM)
                    stop_at = 0.0
            if control["paused"] != frozen and (frozen or not control["obeyed"]):
                frozen = control["paused"]
                self._kill(signal.SIGSTOP if frozen else signal.SIGCONT)
                text = "The command was halted (SIGSTOP)." if frozen else "The command goes on."
                self._call("applied", action="pause" if frozen else "resume", text=text)
            if control["interrupt"] and not control["obeyed"]:
                self._kill(signal.SIGINT)
                self._call("applied", action="interrupt", text="The command got SIGINT.")

    # --- on hold ----------------------------------------------------------------------------------

    def _go_on_hold(self, child: "subprocess.Popen[bytes]") -> None:
        """Let the hook make the checkpoint, hand it over, and end the command; or say why not. One at a time:
        an order that comes meanwhile cuts the hook, and then has its own turn."""
        with self._one_hold:
            self._hold(child)

    def _hold(self, child: "subprocess.Popen[bytes]") -> None:
        begun = self._call("hold_begins")
        if begun is None:
            return
        if not self._checkpoint:
            self._call(
                "hold_fails", hold.HOOK_S, why="it has no checkpoint hook (OMAKASE_CHECKPOINT)."
            )
            return
        mark = begun["mark"]

        def moved() -> bool:
            now = self._call("hold_mark")
            return now is None or now["mark"] != mark or child.poll() is not None

        try:
            text, said = hold.run_hook(
                self._checkpoint,
                env=self._environment(),
                folder=self._state.path,
                deadline_s=self._hook_s,
                cut=moved,
            )
        except (hold.HookFailed, OSError) as error:
            self._call("hold_fails", hold.HOOK_S, why=f"{error}.")
            return
        self._chunks.add("stderr", said)
        if text is None:
            return  # something came for the agent: it goes on
        answer = self._call("hold", hold.HOOK_S, mark=mark, text=text)
        if answer is not None and answer["why"]:
            self._call("hold_fails", hold.HOOK_S, why=answer["why"])
        self._go_if_held()

    def _go_if_held(self) -> None:
        """End the command, when the server has put the run on hold."""
        if not self._held and read_json(self._state / "memory.json").get("ended") == hold.HELD:
            self._held = True
            self._signal = signal.SIGTERM
            self._kill(signal.SIGTERM)

    def _first(self) -> List[str]:
        """The command that goes on where the process before was: the session, if it is on this machine;
        else the command itself, which finds its checkpoint in OMAKASE_CHECKPOINT_FILE."""
        memory = read_json(self._state / "memory.json")
        session = str(memory.get("session_id") or "")
        if not hold.session_is_here(session, str(memory.get("transcript") or "")):
            return self._command
        if resumed(self._command, session, "") is None:
            return self._command
        self._call("wait_mail", MAIL_S + 10, wait_s=MAIL_S)
        answer = self._call("resume_text")
        text = str(answer["text"]) if answer is not None and answer["text"] else BACK
        return resumed(self._command, session, text) or self._command

    # --- the end ----------------------------------------------------------------------------------

    def _finish(self, code: int, *, may_resume: bool) -> Optional[List[str]]:
        """End the run; or, when something is unread, the command that gives it to the session."""
        fields = self._ending(code)
        late = "The command ended before it had read its last messages."
        grace_s = FINISH_S if self._signal is None else FINISH_AFTER_SIGNAL_S
        deadline = time.monotonic() + grace_s
        while True:
            left = max(0.5, deadline - time.monotonic())
            answer = self._call("finish", left + 15, wait_s=min(left, 5.0), **fields)
            if answer is None or answer["done"]:
                break
            if answer["items"] or answer["orders"]:
                again = self._resume_command() if may_resume and answer["items"] else None
                if again is not None:
                    return again
                count = len(answer["items"])
                if count:
                    late = f"The command ended before it had read {count} of its messages."
                fields.update(outcome="stopped", summary=late)
            elif time.monotonic() >= deadline and not (
                self._takes_all_along() and time.monotonic() < deadline + LINGER_S
            ):
                # the server is away: the sidecar outlives us and goes on trying, where it can
                self._call("linger", late_summary=late, **fields)
                return None
        self._call("shutdown", 2.0)
        return None

    def _takes_all_along(self) -> bool:
        """Whether the sidecar would end with this process and what it has to send with it: in a container,
        which nobody has told to stop."""
        in_container = os.getpid() == 1 or "ECS_CONTAINER_METADATA_URI_V4" in os.environ
        return in_container and self._signal is None

    def _resume_command(self) -> Optional[List[str]]:
        """The command that gives a finished session what is unread, if its program can do that."""
        status = self._call("status")
        if status is None or status["paused"] or status["stop"] or not status["session_id"]:
            return None
        session = str(status["session_id"])
        if resumed(self._command, session, "") is None:
            return None
        self._call("unclaim")
        answer = self._call("resume_text")
        if answer is None or not answer["text"]:
            return None
        return resumed(self._command, session, str(answer["text"]))

    def _ending(self, code: int) -> Dict[str, Any]:
        fields: Dict[str, Any] = {"exit_code": code, "summary": None, "outcome": "completed"}
        status = self._call("status")
        if self._stopped or (status is not None and status["stop"]):
            fields.update(outcome="stopped", summary="A person stopped the run.")
        elif self._signal is not None:
            fields.update(outcome="stopped", summary=_goodbye(self._signal))
        elif code:
            said = f"The command ended with exit code {code}."
            body = {"summary": said}
            if self._tail:
                body["detail"] = "\n".join(self._tail)[-16_000:]
            self._event("error", body)
            fields.update(outcome="failed", summary=said)
        return fields

    # --- the sidecar ------------------------------------------------------------------------------

    def _report(self, event: Dict[str, Any]) -> None:
        self._call("events", events=[event], loose=True)

    def _event(self, kind: str, body: Dict[str, Any]) -> None:
        self._call("events", events=[{"kind": kind, "body": body, "key": new_key()}])

    def _call(self, op: str, timeout_s: float = 10.0, **fields: Any) -> Optional[Dict[str, Any]]:
        """Ask the sidecar, and start a new one when it has died. None when nothing can be reported:
        the command goes on all the same."""
        for _ in range(3):
            try:
                return local.call(self._state, op, timeout_s, **fields)
            except SidecarRefused:
                return None
            except SidecarAway:
                if op == "shutdown" or read_json(self._state / "memory.json").get("ended"):
                    return None
                try:
                    local.ensure_sidecar(self._state, watch_pid=os.getpid())
                except (Ended, HooksError, OSError):
                    continue
        return None


def _goodbye(number: int) -> str:
    """Why it ends, as far as can be known inside: a task is not told whether it was a person or Spot, and on
    Spot the signal may come before the notice."""
    name = signal.Signals(number).name
    if not os.environ.get("ECS_CONTAINER_METADATA_URI_V4"):
        return f"The run was ended from outside ({name})."
    said = f"ECS ends the task ({name})."
    if "SPOT" in os.environ.get("OMAKASE_CAPACITY", ""):
        said += " It runs on Spot capacity, which AWS may take back at any time."
    return said


def _pass_on(out: int, data: bytes) -> bool:
    """Write it to our own output; False when nobody reads that any more."""
    while data:
        try:
            data = data[os.write(out, data) :]
        except OSError:
            return False
    return True


def main(command: Sequence[str], *, checkpoint: str = "") -> int:
    """`run [--checkpoint HOOK] -- COMMAND…`."""
    state = StateDir.from_environ()
    os.environ["OMAKASE_STATE_DIR"] = str(state.path)
    hook = checkpoint or os.environ.get("OMAKASE_CHECKPOINT", "")
    try:
        hook_s = float(os.environ.get("OMAKASE_CHECKPOINT_S") or hold.HOOK_S)
    except ValueError as error:
        raise Misused("OMAKASE_CHECKPOINT_S is a number of seconds.") from error
    return Wrapper(state, command, checkpoint=hook, hook_s=hook_s).run()
