"""The sidecar's threads to the server: mailbox, spool, heartbeat, streamed text."""

from __future__ import annotations

import threading
import time
from typing import Any, Dict, List, Optional

from agent_hooks.api import RunApi
from agent_hooks.backoff import Backoff
from agent_hooks.core import Core
from agent_hooks.errors import Ended, Refused, Unreachable
from agent_hooks.spool import Record

POLL_S = 25
HEARTBEAT_S = 15.0
DELTA_S = 0.05
DELTA_MAX_CHARS = 16_000


class Links:
    """The connections of one sidecar. `start` begins the threads; they end with the run."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._texts: Dict[str, Streamed] = {}
        self._texts_changed = threading.Condition()
        self._apis: List[RunApi] = []
        self._threads: List[threading.Thread] = []
        self._poll: Optional[RunApi] = None

    def start(self) -> None:
        for loop in (self._mailbox, self._send, self._heartbeat, self._deltas):
            thread = threading.Thread(target=self._guarded, args=(loop,), daemon=True)
            thread.name = loop.__name__
            thread.start()
            self._threads.append(thread)

    def api(self, *, timeout_s: float = 10.0) -> RunApi:
        """A connection of one's own."""
        config = self._core.config
        api = RunApi(config.server, config.run_id, config.token, timeout_s=timeout_s)
        self._apis.append(api)
        return api

    def _guarded(self, loop: Any) -> None:
        """A thread that failed in a way nobody thought of begins again; the others go on."""
        while not self._core.over():
            try:
                loop()
                return
            except Ended as error:
                self._core.complain("run_ended", str(error))
                self._core.end("ended")
            except Exception as error:  # the agent must not lose its mailbox for a surprise
                self._core.complain("thread_failed", f"{loop.__name__}: {error!r}")
                self._core.closing.wait(1.0)

    def _pause(self, backoff: Backoff, error: Unreachable) -> None:
        core = self._core
        if core.reachable is not False:
            core.complain("server_away", str(error))
        core.reachable = False
        wait_s = backoff.next_s(error.retry_after_s)
        with core.changed:
            core.changed.wait_for(core.over, timeout=wait_s)

    # --- the mailbox ------------------------------------------------------------------------------

    def _mailbox(self) -> None:
        api, backoff, core = self.api(), Backoff(), self._core
        self._poll = api
        wait_s = 0  # the first time: what is there already
        while not core.over():
            holder, asked_at = core.holder, time.monotonic()
            try:
                answer = api.mailbox(holder, wait_s=wait_s)
            except Unreachable as error:
                if error.maybe_done:
                    core.new_holder()
                self._pause(backoff, error)
                wait_s = 0
                continue
            except Refused as error:
                core.complain("mailbox_refused", f"{error.status} {error.code} {error}")
                self._pause(backoff, Unreachable(str(error)))
                continue
            backoff.reset()
            core.reachable = True
            core.take_in(answer, holder)
            core.heard(answer, asked_at)
            if not answer.get("items") and wait_s and time.monotonic() - asked_at < 0.5:
                # an empty answer at once although we asked to wait: no busy loop against a server
                # or a proxy that does not know how to wait
                core.closing.wait(0.5)
            wait_s = POLL_S

    def fetch_task_end(self, timeout_s: float) -> None:
        """Lease what wants to be read after the task; silent when the server does not answer."""
        core = self._core
        api, holder, asked_at = self.api(timeout_s=timeout_s), core.holder, time.monotonic()
        try:
            answer = api.mailbox(holder, wait_s=0, task_end=True, timeout_s=timeout_s)
            core.take_in(answer, holder)
            core.heard(answer, asked_at)
        except Unreachable as error:
            if error.maybe_done:
                core.new_holder()
        except Refused as error:
            core.complain("mailbox_refused", f"{error.status} {error.code} {error}")
        except Ended as error:
            core.complain("run_ended", str(error))
            core.end("ended")
        finally:
            self._close(api)

    def look(self, timeout_s: float) -> int:
        """Ask for mail now, beside the poll that waits; returns how much there was. Raises Unreachable,
        Refused, Ended. Mail that the poll ought to have brought means that it hangs: it begins anew."""
        core, poll = self._core, self._poll
        api, holder, asked_at = self.api(timeout_s=timeout_s), core.holder, time.monotonic()
        try:
            answer = api.mailbox(holder, wait_s=0, timeout_s=timeout_s)
        finally:
            self._close(api)
        core.reachable = True
        core.take_in(answer, holder)
        core.heard(answer, asked_at)
        with core.changed:
            core.changed.notify_all()
        count = len(answer.get("items") or [])
        if count and poll is not None:
            poll.close()
        return count

    def _close(self, api: RunApi) -> None:
        api.close()
        self._apis.remove(api)

    # --- the spool --------------------------------------------------------------------------------

    def _send(self) -> None:
        api, backoff, core = self.api(), Backoff(), self._core
        spool = core.spool
        small = False  # after a refusal: one by one, to find what is refused
        while not core.over():
            spool.sync()
            batch = spool.next_batch(max_events=1 if small else 100)
            if not batch.records:
                small = False
                with spool.arrived:
                    spool.arrived.wait_for(
                        lambda: core.over() or spool.pending_bytes() > 0, timeout=1.0
                    )
                continue
            try:
                self._deliver(api, batch.records)
            except Unreachable as error:
                self._pause(backoff, error)
                continue
            except Refused as error:
                if len(batch.records) > 1:
                    small = True
                    continue
                core.complain("refused", f"{_what(batch.records[0])}: {error.status} {error}")
            backoff.reset()
            core.reachable = True
            spool.acknowledge(batch)
            with core.changed:
                core.changed.notify_all()

    def _deliver(self, api: RunApi, records: List[Record]) -> None:
        first = records[0]
        if first["op"] == "confirm":
            states = api.confirm(first["ids"], first["step"], first["text"], first["sha256"])
            wrong = {k: v for k, v in (states.get("items") or {}).items() if v != "in_context"}
            if wrong:
                self._core.complain("confirmed_late", repr(wrong))
        elif first["op"] == "release":
            api.release(first["holder"], first["ids"])
        else:
            answer = api.events([record["event"] for record in records])
            seqs = [int(event["seq"]) for event in answer.get("events") or []]
            with self._core.changed:
                self._core.memory.last_seq = max([self._core.memory.last_seq, *seqs])

    # --- heartbeat --------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        api, core = self.api(timeout_s=5.0), self._core
        while not core.over():
            holder, asked_at, sent = core.holder, time.monotonic(), time.time()
            try:
                answer = api.heartbeat(holder, core.memory.step)
            except (Unreachable, Refused) as error:
                every_s = 1.0 if isinstance(error, Unreachable) else HEARTBEAT_S
            else:
                every_s = min(HEARTBEAT_S, core.lease_ms / 3000)
                core.heard(answer, asked_at)
                core.lease_ms = int(answer.get("lease_ms") or core.lease_ms)
                expires = sent + core.lease_ms / 1000 * 0.95
                doubtful = core.inbox.renew(holder=holder, now=time.time(), expires=expires)
                if doubtful:
                    core.append([{"op": "release", "holder": holder, "ids": doubtful}])
            core.closing.wait(every_s) if not core.ended.is_set() else None

    # --- streamed text ----------------------------------------------------------------------------

    def stream(self, message_id: str, text: str) -> None:
        """A message that is being written now reads so; sent soon, in few requests."""
        with self._texts_changed:
            self._texts.setdefault(message_id, Streamed()).text = text
            self._texts_changed.notify_all()

    def streamed(self, message_id: str) -> None:
        """It is complete: the finished message says it all."""
        with self._texts_changed:
            self._texts.pop(message_id, None)

    def _deltas(self) -> None:
        api, backoff, core = self.api(timeout_s=5.0), Backoff(), self._core
        while not core.over():
            with self._texts_changed:
                self._texts_changed.wait_for(lambda: core.over() or self._unsent(), timeout=1.0)
                unsent = self._unsent()
            if unsent is None:
                continue
            message_id, streamed = unsent
            piece = streamed.next_piece()
            try:
                answer = api.delta(message_id, _units(streamed.text[: streamed.sent]), piece)
                streamed.sent = streamed.at_units(int(answer["units"]))
                backoff.reset()
            except Unreachable as error:
                self._pause(backoff, error)
            except Refused:
                self.streamed(message_id)  # best effort: the finished message comes anyway
            core.closing.wait(DELTA_S)

    def _unsent(self) -> "Optional[tuple[str, Streamed]]":
        for message_id, streamed in self._texts.items():
            if streamed.sent < len(streamed.text):
                return message_id, streamed
        return None

    def stop(self, grace_s: float) -> None:
        """Send what is left as long as the grace lasts, give leases back, close."""
        core = self._core
        deadline = time.monotonic() + grace_s
        core.wait_until(lambda: core.spool.pending_bytes() == 0, grace_s)
        with core.changed:
            core.closing.set()
            core.changed.notify_all()
        for api in list(self._apis):
            api.close()
        for thread in self._threads:
            thread.join(0.5)
        if not core.ended.is_set():
            api = self.api(timeout_s=max(0.5, min(2.0, deadline - time.monotonic())))
            try:
                api.release(core.holder, [])
            except (Unreachable, Refused, Ended) as error:
                core.complain("release_failed", str(error))
            self._close(api)
        core.spool.close()
        core.inbox.close()


class Streamed:
    """A message being written: its text, and how many characters of it the server has."""

    def __init__(self) -> None:
        self.text = ""
        self.sent = 0

    def next_piece(self) -> str:
        return self.text[self.sent : self.sent + DELTA_MAX_CHARS]

    def at_units(self, units: int) -> int:
        """The place in the text at which so many UTF-16 code units stand."""
        encoded = self.text.encode("utf-16-le", "surrogatepass")[: units * 2]
        return len(encoded.decode("utf-16-le", "ignore"))


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _what(record: Record) -> str:
    return str(record["event"]["kind"] if record["op"] == "event" else record["op"])
