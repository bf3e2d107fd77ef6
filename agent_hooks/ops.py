"""What may be asked of the sidecar by everything on this machine: one method for each `op`."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Set

from agent_hooks import envelope
from agent_hooks.core import Core
from agent_hooks.errors import Ended, Refused, SidecarRefused, Unreachable
from agent_hooks.hold import HELD
from agent_hooks.ids import new_key
from agent_hooks.inbox import CLAIM_S, Item
from agent_hooks.links import Links

Fields = Mapping[str, Any]
Reply = Dict[str, Any]
KINDS = frozenset(("message", "step", "log", "status", "error"))
LOOK_AGAIN_S = 5.0
FLUSH_S = 2.0
LOOK_S = 5.0
LINGER_S = 3_600.0
HOLD_S = 30.0


class Ops:
    """Called from the doors, each call in a thread of its own."""

    def __init__(self, core: Core, links: Links, shutdown: Callable[[], None]) -> None:
        self._core = core
        self._links = links
        self._shutdown = shutdown
        self._flush_wanted = 0
        self._flushed = 0
        self._wrapped = False
        self._questions: Dict[str, str] = {}
        self.watched: Set[int] = set()
        """Processes of which one must live, else the agent is gone."""
        self.lingering = False
        """The agent is gone, and only what it left is still being sent."""
        self.resume_text: Callable[[], Optional[str]] = lambda: None

    def handle(self, request: Fields) -> Reply:
        """One call. The reply holds `ok`; a refusal has `code` and `detail`."""
        self._core.last_call = time.monotonic()
        method = getattr(self, f"op_{request.get('op')}", None)
        if method is None:
            return {"ok": False, "code": "unknown_op", "detail": "There is no such operation."}
        try:
            reply: Reply = method(request)
        except SidecarRefused as error:
            return {"ok": False, "code": error.code, "detail": str(error)}
        except (KeyError, TypeError, ValueError) as error:
            return {"ok": False, "code": "invalid", "detail": repr(error)}
        return {"ok": True, **reply}

    # --- who is there -----------------------------------------------------------------------------

    def op_ping(self, _: Fields) -> Reply:
        core = self._core
        return {
            "run_id": core.config.run_id,
            "instance": core.instance,
            "pid": os.getpid(),
            "ended": core.memory.ended,
        }

    def op_hello(self, request: Fields) -> Reply:
        """An agent that obeys pause and interrupt by itself."""
        with self._core.changed:
            self._core.obeying.add(str(request["adapter"]))
            if request.get("pid"):
                self.watched.add(int(request["pid"]))
            self._core.changed.notify_all()
        return {}

    def op_status(self, _: Fields) -> Reply:
        core, memory = self._core, self._core.memory
        return {
            "run_id": core.config.run_id,
            "server": core.config.server,
            "reachable": core.reachable,
            "status": memory.ended or core.server_status,
            "paused": memory.paused,
            "stop": memory.stop is not None,
            "step": memory.step,
            "waiting": len(core.inbox.waiting(now=time.time())),
            "orders": len(core.inbox.orders()),
            "spool_bytes": core.spool.pending_bytes(),
            "hooks_answered": core.hooks_answered,
            "session_id": memory.session_id,
            "last_seq": memory.last_seq,
        }

    def op_mailbox(self, _: Fields) -> Reply:
        items = self._core.inbox.waiting(now=time.time()) + self._core.inbox.orders()
        return {"items": [self._core.as_mail(item) for item in items]}

    def op_look(self, _: Fields) -> Reply:
        """Somebody outside says that there is mail."""
        try:
            return {"found": self._links.look(LOOK_S)}
        except Ended as error:
            self._core.end("ended")
            raise SidecarRefused("run_ended", str(error)) from error
        except (Unreachable, Refused) as error:
            raise SidecarRefused("unreachable", str(error)) from error

    def op_shutdown(self, _: Fields) -> Reply:
        self._shutdown()
        return {}

    # --- the mailbox ------------------------------------------------------------------------------

    def op_take(self, request: Fields) -> Reply:
        task_end = request.get("point") == "task_end"
        if task_end:
            self._links.fetch_task_end(2.0)
        # a sidecar that was killed in the meantime has forgotten what this reader has
        self._core.inbox.reserve(request.get("have") or [], until=time.time() + CLAIM_S)
        return self._mail(self._core.take(task_end=task_end))

    def _mail(self, items: List[Item]) -> Reply:
        return {"items": [self._core.as_mail(item) for item in items]}

    def op_unclaim(self, request: Fields) -> Reply:
        self._core.inbox.unclaim(request.get("ids"))
        return {}

    def op_confirm(self, request: Fields) -> Reply:
        ids, text = [str(item_id) for item_id in request["ids"]], str(request["text"])
        self._core.confirm(ids, text, request.get("step"))
        return {}

    def op_peek(self, _: Fields) -> Reply:
        core = self._core
        return {
            "mail": len(core.readable(task_end=False)),
            "paused": core.memory.paused,
            "stop": core.memory.stop is not None,
            "interrupt": bool(core.interrupts()),
            "ended": core.memory.ended,
            "resumes": core.resumes,
        }

    def op_wait_mail(self, request: Fields) -> Reply:
        core = self._core

        def something() -> bool:
            memory = core.memory
            return bool(
                core.readable(task_end=False) or memory.stop or memory.paused or core.interrupts()
            )

        core.wait_until(something, float(request["wait_s"]))
        return {"mail": something()}

    # --- orders -----------------------------------------------------------------------------------

    def op_checkpoint(self, request: Fields) -> Reply:
        """Obey: waits while paused. Confirms the orders it hands out."""
        core = self._core
        core.obeying.add("loop")  # a sidecar that was killed has forgotten the hello
        self.hold(float(request["wait_s"]))
        reply: Reply = {"stop": False, "interrupt": False, "paused": False, "by": "", "reason": ""}
        at = f"step {core.memory.step}"
        if core.memory.stop is not None:
            ids = core.stop_ids()
            if ids:
                core.confirm(ids, f"The agent stops after {at}.")
            stop = core.memory.stop
            return {**reply, "stop": True, "by": stop["by"], "reason": stop["reason"]}
        if core.memory.paused:
            return {**reply, "paused": True}
        interrupts = core.interrupts()
        if interrupts:
            first = interrupts[0]
            orders = [item.id for item in interrupts if item.action]
            if orders:
                core.confirm(orders, f"The agent leaves {at}.")
            core.signalled.update(item.id for item in interrupts)
            by = str(first.event["sender"]["name"])
            reason = str(first.event["body"].get("reason") or "") if first.action else ""
            return {**reply, "interrupt": True, "by": by, "reason": reason}
        return reply

    def hold(self, wait_s: float) -> None:
        """Wait while paused, at most so long; the order counts as obeyed when this begins."""
        core, deadline = self._core, time.monotonic() + wait_s
        while core.memory.paused and core.memory.stop is None and not core.over():
            pauses = self._pauses()
            if pauses:
                core.confirm(pauses, f"The agent paused after step {core.memory.step}.")
            self.report_paused(paused=True)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            # the server's "held" may be heard of before the order itself
            core.wait_until(
                lambda: not core.memory.paused or core.memory.stop or self._pauses(), left
            )
        if not core.memory.paused:
            self.report_paused(paused=False)

    def _pauses(self) -> List[str]:
        return [item.id for item in self._core.inbox.orders() if item.action == "pause"]

    def report_paused(self, *, paused: bool) -> None:
        """A status event when the agent really begins or ends to hold, once each."""
        core = self._core
        with core.changed:
            if core.reported_pause == paused:
                return
            core.reported_pause = paused
        core.event("status", {"status": "paused" if paused else "working"})

    def op_control(self, request: Fields) -> Reply:
        """The wrapper's long poll: orders it must carry out when nobody else does."""
        core, seen = self._core, request.get("seen")
        self._wrapped = core.wrapped = True
        self.watched.update(int(pid) for pid in request.get("pids") or [])
        core.wait_until(lambda: self._control() != seen, float(request["wait_s"]))
        return {"control": self._control()}

    def _control(self) -> Dict[str, Any]:
        core = self._core
        return {
            "paused": core.memory.paused,
            "stop": core.memory.stop is not None,
            "interrupt": [i.id for i in core.inbox.orders() if i.action == "interrupt"],
            "checkpoint": next((i.id for i in core.inbox.orders() if i.action == "checkpoint"), ""),
            "obeyed": bool(core.obeying),
            "flush": self._flush_wanted,
            "ended": core.memory.ended,
        }

    def op_applied(self, request: Fields) -> Reply:
        """The wrapper carried an order out by a signal."""
        action, text = str(request["action"]), str(request["text"])
        ids = [item.id for item in self._core.inbox.orders() if item.action == action]
        if ids:
            self._core.confirm(ids, text)
        if action in ("pause", "resume"):
            self.report_paused(paused=action == "pause")
        return {}

    # --- going on hold ----------------------------------------------------------------------------

    def op_hold_begins(self, _: Fields) -> Reply:
        """The wrapper begins with the hook; `mark` tells whether the agent has moved since."""
        self._drop_checkpoints("The agent makes its checkpoint.")
        return {"mark": self._core.moves}

    def op_hold_mark(self, _: Fields) -> Reply:
        """What `op_hold_begins` gave, if nothing has happened; also mail that nobody has taken counts."""
        core = self._core
        return {"mark": core.moves + len(core.readable(task_end=True))}

    def op_hold(self, request: Fields) -> Reply:
        """Hand the checkpoint over: `held`, or `why` not in words, or neither: the agent has moved, or
        something came for it, and it goes on."""
        core, deadline = self._core, time.monotonic() + HOLD_S
        with core.changed:
            core.holding = core.moves == int(request["mark"])
        try:
            if not core.holding:
                return {"held": False, "why": ""}
            self._flush_wrapper()
            body = {
                "holder": core.holder,
                "generation": core.memory.generation,
                "checkpoint": core.kept(str(request["text"])),
            }
            while not core.over() and time.monotonic() < deadline:
                # what was said and confirmed must have arrived
                if not core.wait_until(
                    lambda: core.spool.pending_bytes() == 0, deadline - time.monotonic()
                ):
                    break  # what it has said would go with this machine
                why = self._hand_over(body, int(request["mark"]))
                if why is not None:
                    return {"held": core.memory.ended == HELD, "why": why}
                core.wait_until(core.over, 1.0)
            return {
                "held": core.memory.ended == HELD,
                "why": "The server did not take everything in time.",
            }
        finally:
            with core.changed:
                core.holding = False
                core.changed.notify_all()

    def _hand_over(self, body: Mapping[str, Any], mark: int) -> Optional[str]:
        """Why it is not on hold, "" when it is or when the agent simply goes on; None to try again."""
        core = self._core
        if core.moves != mark:
            return ""
        api = self._links.api()
        try:
            core.end(str(api.hold(body)["status"]))
        except Unreachable as error:
            core.complain("hold_waits", str(error))
            return None
        except Ended:
            core.end("ended")
        except Refused as error:
            with core.changed:
                core.holding = False
                core.changed.notify_all()
            if error.code == "mailbox_not_empty":
                self._take_leased(error.current_state, str(body["holder"]))
            elif error.code != "illegal_move":  # it is at work again
                return str(error)
        finally:
            api.close()
        return ""

    def _take_leased(self, current_state: Mapping[str, Any], holder: str) -> None:
        """What came in between. A held mailbox keeps the rest, which people may still take back."""
        items = current_state.get("items") or []
        leased = [raw for raw in items if raw.get("state") == "leased"]
        self._core.take_in({**current_state, "items": leased}, holder)

    def op_hold_fails(self, request: Fields) -> Reply:
        """Tell people why it was not put on hold."""
        core = self._core
        self._drop_checkpoints("The agent could not make a checkpoint.")
        body = {
            "holder": core.holder,
            "generation": core.memory.generation,
            "failure": str(request["why"])[:500],
        }
        api, deadline = self._links.api(), time.monotonic() + HOLD_S
        try:
            while not core.over() and time.monotonic() < deadline:
                try:
                    api.hold(body)
                    return {}
                except Unreachable:
                    core.wait_until(core.over, 1.0)
        except (Ended, Refused) as error:
            core.complain("hold_failure_refused", str(error))
        finally:
            api.close()
        return {}

    def _drop_checkpoints(self, text: str) -> None:
        ids = [item.id for item in self._core.inbox.orders() if item.action == "checkpoint"]
        if ids:
            self._core.confirm(ids, text)

    # --- what the agent says ----------------------------------------------------------------------

    def op_events(self, request: Fields) -> Reply:
        records: List[Dict[str, Any]] = []
        for given in request["events"]:
            if given["kind"] not in KINDS:
                raise ValueError(f"an agent does not report events of kind {given['kind']!r}")
            event = {"key": given.get("key") or new_key(), "kind": given["kind"]}
            event.update({name: given[name] for name in ("body", "id", "at") if name in given})
            records.append({"op": "event", "event": event})
        if any(given["kind"] in ("message", "status") for given in request["events"]):
            self._core.move()
        self._core.append(records, durable=not request.get("loose", False))
        for record in records:
            if record["event"].get("id"):
                self._links.streamed(record["event"]["id"])
        return {}

    def op_delta(self, request: Fields) -> Reply:
        self._links.stream(str(request["message_id"]), str(request["text"]))
        return {}

    def op_step_started(self, request: Fields) -> Reply:
        return {"step": self._core.step_started(str(request["name"]), request.get("summary"))}

    def op_step_finished(self, request: Fields) -> Reply:
        self._core.step_finished(
            int(request["step"]),
            str(request["name"]),
            ok=bool(request["ok"]),
            duration_ms=request.get("duration_ms"),
            summary=request.get("summary"),
        )
        return {}

    # --- questions --------------------------------------------------------------------------------

    def op_ask(self, request: Fields) -> Reply:
        """Ask, or find the question of this handle; wait at most `wait_s` for its answer."""
        core, deadline = self._core, time.monotonic() + float(request["wait_s"])
        names = ("handle", "text", "options", "allow_text")
        question = {name: request[name] for name in names if name in request}
        answer, asked = None, self._questions.get(str(request["handle"]))
        api = self._links.api()
        try:
            while answer is None:
                try:
                    if asked is None:
                        found = api.ask(question)
                        asked = self._questions[str(request["handle"])] = str(found["event"]["id"])
                    else:
                        found = api.question(asked, wait_s=0)
                    answer = found.get("answer")
                except Unreachable as error:
                    core.reachable = False
                    core.complain("ask_waits", str(error))
                except Refused as error:
                    raise SidecarRefused(error.code, str(error)) from error
                if answer is None:
                    answer = self._await_answer(asked, deadline)
                if answer is None and (time.monotonic() >= deadline or self._cut_short()):
                    break
        except Ended as error:
            core.end("ended")
            raise SidecarRefused("run_ended", str(error)) from error
        finally:
            api.close()
        reply = {"answer": answer, "question_id": asked, "stop": core.memory.stop is not None}
        if answer is not None:
            # in our inbox, or it will come there: either way it is not to be read once more, unless whoever
            # asked is gone and was not told
            words = envelope.words(answer) or "(answered)"
            reply["then"] = lambda: core.confirm([str(answer["id"])], words)
        return reply

    def _cut_short(self) -> bool:
        return self._core.memory.stop is not None or self._core.over()

    def _await_answer(self, asked: Optional[str], deadline: float) -> Optional[Mapping[str, Any]]:
        core = self._core
        wait_s = min(LOOK_AGAIN_S if asked else 0.5, deadline - time.monotonic())
        if asked is None:
            core.wait_until(self._cut_short, wait_s)
            return None
        core.asking.add(asked)
        try:
            core.wait_until(lambda: core.inbox.answer_to(asked) or self._cut_short(), wait_s)
            item = core.inbox.answer_to(asked)
            return None if item is None else item.event
        finally:
            core.asking.discard(asked)

    # --- the end ----------------------------------------------------------------------------------

    def op_flushed(self, request: Fields) -> Reply:
        with self._core.changed:
            self._flushed = max(self._flushed, int(request["flush"]))
            self._core.changed.notify_all()
        return {}

    def op_flush(self, request: Fields) -> Reply:
        """Wait until the server has everything; `done` says whether."""
        core = self._core
        core.wait_until(lambda: core.spool.pending_bytes() == 0, float(request["wait_s"]))
        return {"done": core.spool.pending_bytes() == 0}

    def op_resume_text(self, _: Fields) -> Reply:
        """What is unread, as the prompt with which the agent's session can be started again."""
        return {"text": self.resume_text()}

    def op_linger(self, request: Fields) -> Reply:
        """The wrapper cannot wait any longer: go on trying to send and to finish, then end."""
        self.linger(request)
        return {}

    def linger(self, request: Fields) -> None:
        """Go on in the background; `late_summary` is said when something turns out to be unread."""
        self.lingering = True
        self._wrapped = self._core.wrapped = False
        threading.Thread(target=self._linger, args=(dict(request),), daemon=True).start()

    def _linger(self, request: Dict[str, Any]) -> None:
        deadline = time.monotonic() + LINGER_S
        while time.monotonic() < deadline and not self._core.over():
            reply = self.handle({**request, "op": "finish", "wait_s": 5.0})
            if reply.get("done"):
                break
            if reply.get("items") or reply.get("orders"):
                request.update(outcome="stopped", summary=request["late_summary"])
        self._shutdown()

    def op_finish(self, request: Fields) -> Reply:
        """Through the barrier, when all that was said has arrived: `done`, or unread `items`."""
        core, deadline = self._core, time.monotonic() + float(request["wait_s"])
        if core.ended.is_set():
            return {"done": True, "items": [], "status": core.memory.ended}
        core.move()  # who ends does not go on hold
        self._flush_wrapper()
        nothing: Reply = {"done": False, "items": [], "orders": False}
        if not core.wait_until(
            lambda: core.spool.pending_bytes() == 0, deadline - time.monotonic()
        ):
            return nothing
        body: Dict[str, Any] = {
            "holder": core.holder,
            "last_seq": core.memory.last_seq,
            "outcome": str(request["outcome"]),
        }
        if request.get("summary"):
            body["summary"] = str(request["summary"])[:2_000]
        if request.get("exit_code") is not None:
            body["exit_code"] = int(request["exit_code"])
        if request.get("verdict"):
            body["verdict"] = str(request["verdict"])
        api = self._links.api()
        try:
            answer = api.finish(body)
        except Unreachable as error:
            core.complain("finish_waits", str(error))
            core.wait_until(core.over, min(1.0, max(0.0, deadline - time.monotonic())))
            return nothing
        except Ended:
            # the answer to a finish that went through was lost, or somebody else ended the run
            core.end("ended")
            return {"done": True, "items": [], "status": "ended"}
        except Refused as error:
            return self._not_finished(error, str(body["holder"]))
        finally:
            api.close()
        core.end(str(answer.get("status") or request["outcome"]))
        return {"done": True, "items": [], "status": core.memory.ended}

    def _not_finished(self, error: Refused, holder: str) -> Reply:
        if error.code == "mailbox_not_empty":
            return self._unread(error.current_state, holder)
        if error.code != "illegal_move":
            raise SidecarRefused(error.code, str(error)) from error
        self._core.end(HELD)  # it was put on hold, and comes back as another process
        return {"done": True, "items": [], "status": HELD}

    def _unread(self, current_state: Mapping[str, Any], holder: str) -> Reply:
        core = self._core
        core.take_in(current_state, holder)
        self._drop_checkpoints("It ends instead.")
        raw_ids = [str(raw["event"]["id"]) for raw in current_state.get("items") or []]
        ids = [item_id for item_id in raw_ids if core.inbox.done(item_id) is None]
        if raw_ids and not ids:
            return {"done": False, "items": [], "orders": False}  # once more, when that has arrived
        core.inbox.unclaim(ids)
        items = core.inbox.claim(ids, now=time.time())
        mail = [core.as_mail(item) for item in items if not item.action]
        return {"done": False, "items": mail, "orders": len(mail) < len(items) or not items}

    def _flush_wrapper(self) -> None:
        """The command's last output is still with the wrapper, and belongs before the end."""
        core = self._core
        if not self._wrapped:
            return
        with core.changed:
            self._flush_wanted += 1
            wanted = self._flush_wanted
            core.changed.notify_all()
        core.wait_until(lambda: self._flushed >= wanted, FLUSH_S)
