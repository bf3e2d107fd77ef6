"""The run log and the mailbox on Redis. The keys are mapped at the top of `redis_log.lua`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chat.adapters.log_refusals import refusal
from chat.channels import run_channel
from chat.errors import NotFound, Unavailable
from chat.events import Kind
from chat.ids import new_id
from chat.ports import (
    Appended,
    Beat,
    Brief,
    Draft,
    Finish,
    Home,
    Leased,
    LeaseResult,
    MailItem,
    OpenText,
    QuestionState,
    Record,
    Restored,
    Snapshot,
)
from chat.runs import RunStatus

_SCRIPT: Final = Path(__file__).with_suffix(".lua").read_text()
_ENDED_TTL_S: Final = 3 * 86_400
_KEYS: Final = ("log", "meta", "items", "pending", "leases", "questions", "open", "drain", "known")
_PASSING: Final = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
)
_PASSING_WORDS: Final = (
    "OOM",
    "MISCONF",
    "READONLY",
    "NOREPLICAS",
    "BUSY",
    "CLUSTERDOWN",
    "TRYAGAIN",
)
"""Refusals of Redis that an operator, or time, ends: it is full, cannot write its file, is a copy."""
ACTIVE: Final = "runs:active"
"""Sorted set: run id, score 0. Runs whose log is not yet ended and wholly stored."""
HOME: Final = "runs:home"
"""String: the `run_id` (INFO) of the server on which every log was last held against the store."""


def run_key(run_id: str, name: str) -> str:
    """A key of a run; the hash tag keeps all of them in one slot."""
    return f"run:{{{run_id}}}:{name}"


def connect(url: str) -> redis.Redis:
    """A client that never repeats a command by itself: a repeat is the caller's, with its key."""
    return redis.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=15, socket_connect_timeout=3
    )


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise Unavailable("The run log cannot be reached. Send the same request again.") from error
    except redis.ResponseError as error:
        if not isinstance(error, _PASSING) and not str(error).startswith(_PASSING_WORDS):
            raise
        raise Unavailable(
            "The run log takes nothing at the moment. Send the same request again."
        ) from error


def _item(item_id: bytes, data: bytes) -> MailItem:
    value = orjson.loads(data)
    return MailItem(
        id=item_id.decode(),
        seq=int(value["seq"]),
        kind=Kind(value["kind"]),
        mode=value["mode"],
        state=value["state"],
        attempt=int(value["attempt"]),
        version=int(value["version"]),
        event_seq=int(value["event_seq"]),
        confirmed_seq=int(value["confirmed_seq"]) if value.get("confirmed_seq") else None,
        cancel_seq=int(value["cancel_seq"]) if value.get("cancel_seq") else None,
    )


def _record(seq: int, data: bytes) -> Record:
    return Record(seq, data)


def _last_step(meta: Mapping[bytes, bytes], found: Sequence[Any]) -> Record | None:
    seq = int(meta.get(b"step", 0))
    return Record(seq, found[0][1][b"e"] if found else b"") if seq else None


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _op(draft: Draft, key_index: int, key_ttl_s: int) -> dict[str, Any]:
    op: dict[str, Any] = {"id": draft.id, "kind": draft.kind, "digest": draft.digest}
    if draft.idempotency_key is not None:
        op["key"], op["key_ttl_s"] = key_index, key_ttl_s
    optional = {
        "mode": draft.mode,
        "status": draft.status,
        "phase": draft.phase,
        "opens": draft.opens_question,
        "answers": draft.answers,
        "holds": draft.holds,
        "closes": draft.closes,
        "last": draft.last_line,
        "stop_at": draft.stop_at_ms,
        "budget": draft.budget,
        "after_end": draft.after_end or None,
    }
    op.update({name: value for name, value in optional.items() if value is not None})
    if draft.status is not None or draft.sources:
        op["sources"] = sorted(draft.sources)
    return op


class RedisLog:
    """`ports.Log` on one Redis, a Redis Cluster's slot, or a durable service that speaks Redis.

    `on_wake(run_id)` is called after an append that found no drain queued for the run;
    `lost(run_id)` gives what the store knows of a log that is not there, None for no such run.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        on_wake: Callable[[str], None],
        lost: Callable[[str], Restored | None],
        key_ttl_s: int = 86_400,
    ) -> None:
        self._redis = client
        self._script = client.register_script(_SCRIPT)
        self._on_wake = on_wake
        self._lost = lost
        self._key_ttl_s = key_ttl_s

    # --- calling the function ----------------------------------------------------------------

    def _call(self, run_id: str, command: str, *args: Any, keys: Sequence[str] = ()) -> list[Any]:
        all_keys = [*(run_key(run_id, name) for name in _KEYS), *keys]
        argv = [command, run_channel(run_id), *args]
        with _reachable():
            reply = cast("list[Any]", self._script(all_keys, argv))
        if reply[0] == b"MISSING":
            self._restore(run_id)
            with _reachable():
                reply = cast("list[Any]", self._script(all_keys, argv))
        code = reply[0]
        if code in {b"OK", b"UNREAD", b"EXISTS"}:
            return reply
        raise refusal(code.decode(), reply[1:])

    def rebuild(self, run_id: str, state: Restored, *, epoch: str, head: int) -> bool:
        return self._write(run_id, state, over=[epoch.encode(), str(head).encode()])

    def _restore(self, run_id: str) -> None:
        state = self._lost(run_id)
        if state is None:
            raise NotFound("There is no run with that id.")
        self._write(
            run_id, state, over=[None, None]
        )  # else somebody has restored it in the meantime

    def _write(self, run_id: str, state: Restored, *, over: list[bytes | None]) -> bool:
        """Write a whole log, if `over` is the epoch and head of what is there; whether it was done."""
        key = {name: run_key(run_id, name) for name in _KEYS}
        head = state.records[-1].seq if state.records else 0
        fresh = new_id("ep")
        meta: dict[str | bytes, str | int] = {
            "epoch": fresh, "head": head, "stored": state.stored, "status": state.status,
            "phase": state.phase or "", "held": int(state.held), "hb": state.heartbeat_ms,
            "asks": len(state.open_questions),
        }  # fmt: skip
        optional = {
            "token": state.token_sha256, "step": state.step_seq, "last": state.last_line,
            "before": state.before, "stop_at": state.stop_at_ms, "since": state.since_seq or None,
        }  # fmt: skip
        meta |= {name: value for name, value in optional.items() if value is not None}
        with _reachable():  # before, and apart: it lives in another slot
            self._redis.zadd(ACTIVE, {run_id: 0})
        with _reachable(), self._redis.pipeline(transaction=True) as pipe:
            try:
                pipe.watch(key["meta"])  # type: ignore[no-untyped-call]  # redis-py has none here
                if pipe.hmget(key["meta"], "epoch", "head") != over:
                    return False
                pipe.multi()
                pipe.delete(*key.values())
                for record in state.records:
                    data = record.data if record.seq <= state.stored else _of_epoch(record, fresh)
                    pipe.xadd(key["log"], {"e": data}, id=f"{record.seq}-0")
                for item in state.items:
                    pipe.hset(key["items"], item.id, json.dumps(_item_json(item)))
                    if item.state in {"accepted", "stored", "leased"}:
                        pipe.zadd(key["pending"], {item.id: item.seq})
                    if (
                        item.state == "leased"
                    ):  # nobody holds it: the next lease gives it back first
                        pipe.zadd(key["leases"], {item.id: 0})
                for name, question in _questions_json(state).items():
                    pipe.hset(key["questions"], name, question)
                if known := _known(state):
                    pipe.hset(key["known"], mapping=cast("Any", known))
                    pipe.expire(key["known"], self._key_ttl_s)
                pipe.hset(key["meta"], mapping=cast("Any", meta))
                pipe.execute()
            except redis.WatchError:
                return False
        self._on_wake(run_id)  # what was accepted and not yet handed on waits for a drain
        return True

    def _woken(self, run_id: str, flag: int) -> None:
        if flag:
            self._on_wake(run_id)

    def _ops(self, run_id: str, drafts: Sequence[Draft]) -> tuple[bytes, list[str]]:
        keys: list[str] = []
        ops = []
        for draft in drafts:
            if draft.idempotency_key is not None:
                keys.append(run_key(run_id, f"key:{draft.idempotency_key}"))
            ops.append(_op(draft, len(_KEYS) + len(keys), self._key_ttl_s))
        return orjson.dumps(ops), keys

    @staticmethod
    def _appended(results: list[Any], status: RunStatus | None = None) -> list[Appended]:
        return [Appended(_record(seq, data), bool(again), status) for seq, data, again in results]

    # --- the log -------------------------------------------------------------------------------

    def create(
        self, run_id: str, *, token_sha256: str, drafts: Sequence[Draft], now_ms: int
    ) -> bool:
        with _reachable():
            self._redis.zadd(ACTIVE, {run_id: 0})
        ops, keys = self._ops(run_id, drafts)
        heads = [draft.head for draft in drafts]
        reply = self._call(
            run_id, "create", new_id("ep"), now_ms, token_sha256, ops, *heads, keys=keys
        )
        if reply[0] == b"EXISTS":
            return False
        self._woken(run_id, reply[2])
        return True

    def append(self, run_id: str, drafts: Sequence[Draft]) -> list[Appended]:
        ops, keys = self._ops(run_id, drafts)
        if any(draft.after_end for draft in drafts):
            with _reachable():  # it may have been retired, and now gets an event that is not stored
                self._redis.zadd(ACTIVE, {run_id: 0})
        reply = self._call(run_id, "append", ops, *(draft.head for draft in drafts), keys=keys)
        self._woken(run_id, reply[2])
        return self._appended(reply[1], RunStatus(reply[3].decode()))

    def read(self, run_id: str, *, after: int, limit: int) -> list[Record]:
        entries: list[tuple[bytes, dict[bytes, bytes]]]
        with _reachable():
            pipe = self._redis.pipeline(transaction=False)
            pipe.xrange(run_key(run_id, "log"), min=f"{after + 1}-0", count=limit)
            pipe.exists(run_key(run_id, "meta"))
            entries, there = pipe.execute()
        if not there:
            self._restore(run_id)
            return self.read(run_id, after=after, limit=limit)
        return [Record(int(name.partition(b"-")[0]), fields[b"e"]) for name, fields in entries]

    def snapshot(self, run_id: str) -> Snapshot:
        _, flat, items, questions, opened, step_seq, step = self._call(run_id, "snapshot")
        meta = _pairs(flat)
        return Snapshot(
            epoch=meta[b"epoch"].decode(),
            head=int(meta[b"head"]),
            stored=int(meta[b"stored"]),
            status=RunStatus(meta[b"status"].decode()),
            phase=meta.get(b"phase", b"").decode() or None,
            held=meta[b"held"] == b"1",
            heartbeat_ms=int(meta[b"hb"]),
            items=[_item(name, data) for name, data in items],
            questions=sorted((_record(seq, data) for seq, data in questions), key=lambda r: r.seq),
            open_texts=_open_texts(_pairs(opened)),
            step=Record(step_seq, step) if step_seq else None,
        )

    def brief(self, run_ids: Sequence[str]) -> dict[str, Brief]:
        with _reachable():
            pipe = self._redis.pipeline(transaction=False)
            for run_id in run_ids:
                pipe.hgetall(run_key(run_id, "meta"))
            metas = pipe.execute()
            pipe = self._redis.pipeline(transaction=False)
            for run_id, meta in zip(run_ids, metas, strict=True):
                step = int(meta.get(b"step", 0))
                pipe.xrange(run_key(run_id, "log"), min=f"{step}-0", max=f"{step}-0")
            steps = pipe.execute()
        briefs = {}
        for run_id, meta, step in zip(run_ids, metas, steps, strict=True):
            if not meta:
                continue
            last = meta.get(b"last")
            briefs[run_id] = Brief(
                status=RunStatus(meta[b"status"].decode()),
                phase=meta.get(b"phase", b"").decode() or None,
                head=int(meta[b"head"]),
                stored=int(meta[b"stored"]),
                held=meta[b"held"] == b"1",
                heartbeat_ms=int(meta[b"hb"]),
                asks=int(meta.get(b"asks", 0)),
                last_line=last.decode() if last else None,
                step=_last_step(meta, step),
                stop_at_ms=int(meta[b"stop_at"]) if b"stop_at" in meta else None,
                since_seq=int(meta.get(b"since", 0)),
            )
        return briefs

    def token_sha256(self, run_id: str) -> str | None:
        with _reachable():
            epoch, token = cast(
                "list[bytes | None]", self._redis.hmget(run_key(run_id, "meta"), "epoch", "token")
            )
        if epoch is None:
            self._restore(run_id)
            return self.token_sha256(run_id)
        return token.decode() if token else None

    def question(
        self, run_id: str, *, question_id: str | None = None, handle: str | None = None
    ) -> QuestionState:
        by = "id" if handle is None else "handle"
        _, seq, data, answer_seq, answer = self._call(
            run_id, "question", question_id if handle is None else handle, by
        )
        return QuestionState(
            _record(seq, data), _record(answer_seq, answer) if answer_seq else None
        )

    # --- the mailbox ---------------------------------------------------------------------------

    def item(self, run_id: str, item_id: str) -> MailItem | None:
        data: bytes | None
        with _reachable():
            pipe = self._redis.pipeline(transaction=False)
            pipe.hget(run_key(run_id, "items"), item_id)
            pipe.exists(run_key(run_id, "meta"))
            data, there = pipe.execute()
        if not there:
            self._restore(run_id)
            return self.item(run_id, item_id)
        return _item(item_id.encode(), data) if data else None

    def lease(
        self,
        run_id: str,
        *,
        holder: str,
        now_ms: int,
        lease_ms: int,
        limit: int,
        task_end: bool,
        given_back: Draft,
        receipt: Draft,
    ) -> LeaseResult:
        _, taken, woken, status, held, head = self._call(
            run_id, "lease", holder, now_ms, lease_ms, limit, int(task_end),
            given_back.head, receipt.head,
        )  # fmt: skip
        self._woken(run_id, woken)
        return LeaseResult(
            leased=[_leased(entry) for entry in taken],
            status=RunStatus(status.decode()),
            held=held == b"1",
            head=int(head),
        )

    def confirm(self, run_id: str, ids: Sequence[str], receipt: Draft) -> dict[str, MailItem]:
        _, states, woken = self._call(run_id, "confirm", orjson.dumps(list(ids)), receipt.head)
        self._woken(run_id, woken)
        return {name.decode(): _item(name, data) for name, data in states if data}

    def release(
        self, run_id: str, ids: Sequence[str], *, holder: str, given_back: Draft
    ) -> list[str]:
        _, back, woken = self._call(
            run_id, "release", holder, orjson.dumps(list(ids)), given_back.head
        )
        self._woken(run_id, woken)
        return [name.decode() for name in back]

    def expire(self, run_id: str, *, now_ms: int, given_back: Draft) -> list[str]:
        _, back, woken = self._call(run_id, "expire", now_ms, given_back.head)
        self._woken(run_id, woken)
        return [name.decode() for name in back]

    def forward(self, run_id: str, receipt: Draft, ids: Sequence[str] = ()) -> list[str]:
        which = orjson.dumps(list(ids)) if ids else b""
        _, forwarded, woken = self._call(run_id, "forward", receipt.head, which)
        self._woken(run_id, woken)
        return [name.decode() for name in forwarded]

    def edit(self, run_id: str, item_id: str, *, version: int, mode: str, draft: Draft) -> Appended:
        reply = self._call(run_id, "edit", item_id, version, mode, draft.head)
        self._woken(run_id, reply[2])
        return self._appended(reply[1])[0]

    def cancel(self, run_id: str, item_id: str, *, version: int | None, receipt: Draft) -> Appended:
        reply = self._call(run_id, "cancel", item_id, version or 0, "", receipt.head)
        self._woken(run_id, reply[2])
        return self._appended(reply[1])[0]

    def claim(self, run_id: str, item_id: str, *, target: str, given_up: str | None) -> str | None:
        reply = self._call(run_id, "claim", item_id, target, given_up or "")
        return reply[1].decode() or None

    def mark_moved(self, run_id: str, item_id: str, receipt: Draft) -> bool:
        with _reachable():  # it may have been retired, and now has an event that is not stored
            self._redis.zadd(ACTIVE, {run_id: 0})
        reply = self._call(run_id, "mark_moved", item_id, receipt.head)
        self._woken(run_id, reply[2])
        return bool(reply[1])

    def finish(
        self,
        run_id: str,
        drafts: Sequence[Draft],
        *,
        barrier: bool,
        holder: str,
        now_ms: int,
        lease_ms: int,
        given_back: Draft,
        leased: Draft,
        undelivered: Draft,
        cancelled: Draft,
    ) -> Finish:
        ops, keys = self._ops(run_id, drafts)
        reply = self._call(
            run_id, "finish", int(barrier), ops, holder, now_ms, lease_ms, given_back.head,
            leased.head, undelivered.head, cancelled.head, *(draft.head for draft in drafts),
            keys=keys,
        )  # fmt: skip
        self._woken(run_id, reply[2])
        if reply[0] == b"UNREAD":
            return Finish(events=[], unread=[_leased(entry) for entry in reply[1]])
        return Finish(events=[done.record for done in self._appended(reply[1])], unread=[])

    def heartbeat(self, run_id: str, *, holder: str, now_ms: int, lease_ms: int) -> Beat:
        _, status, held, pending, phase, before = self._call(
            run_id, "heartbeat", holder, now_ms, lease_ms
        )
        return Beat(
            status=RunStatus(status.decode()),
            held=held == b"1",
            pending=pending,
            phase=phase.decode() or None,
            before=RunStatus(before.decode()) if before else None,
        )

    def delta(self, run_id: str, message_id: str, *, offset: int, units: int, text: str) -> int:
        frame = {
            "type": "delta", "run_id": run_id, "message_id": message_id, "offset": offset, "text": text,
        }  # fmt: skip
        reply = self._call(run_id, "delta", message_id, offset, units, text, orjson.dumps(frame))
        return int(reply[1])

    # --- keeping it ----------------------------------------------------------------------------

    def mark_stored(
        self, run_id: str, upto: int, *, epoch: str | None = None, since: int = 0
    ) -> bool:
        return bool(self._call(run_id, "mark_stored", upto, epoch or "", since)[1])

    def drain_ends(self, run_id: str) -> None:
        with _reachable():
            self._redis.delete(run_key(run_id, "drain"))

    def trim(self, run_id: str, *, keep: int) -> None:
        self._call(run_id, "trim", keep)

    def home(self) -> Home:
        with _reachable():
            pipe = self._redis.pipeline(transaction=False)
            pipe.info("server")
            pipe.get(HOME)
            info, settled = pipe.execute()
        home: str = info["run_id"]
        return Home(home, is_new=settled is None or settled.decode() != home)

    def settled(self, home: Home) -> None:
        with _reachable():
            self._redis.set(HOME, home.id)

    def active(self) -> list[str]:
        with _reachable():
            names = cast("list[bytes]", self._redis.zrange(ACTIVE, 0, -1))
        return [name.decode() for name in names]

    def activate(self, run_id: str) -> None:
        with _reachable():
            self._redis.zadd(ACTIVE, {run_id: 0})

    def retire(self, run_id: str) -> None:
        with _reachable():
            pipe = self._redis.pipeline(transaction=False)
            pipe.zrem(ACTIVE, run_id)
            for name in _KEYS:
                pipe.expire(run_key(run_id, name), _ENDED_TTL_S)
            pipe.execute()

    def whisper(self, channel: str, frame: Mapping[str, Any]) -> None:
        with _reachable():
            self._redis.publish(channel, orjson.dumps(frame))


def _leased(entry: Sequence[bytes]) -> Leased:
    item = _item(entry[0], entry[1])
    return Leased(item, Record(item.event_seq, entry[2]))


def _open_texts(fields: Mapping[bytes, bytes]) -> list[OpenText]:
    texts = []
    for name, value in fields.items():
        if b":" in name:  # a chunk, or the mark of one that is closed
            continue
        units, _, chunks = value.partition(b"|")
        parts = [fields[b"%s:%d" % (name, n)] for n in range(1, int(chunks) + 1)]
        texts.append(OpenText(name.decode(), b"".join(parts).decode(), int(units)))
    return texts


def _item_json(item: MailItem) -> dict[str, Any]:
    value: dict[str, Any] = {
        "seq": item.seq, "kind": item.kind, "mode": item.mode, "state": item.state,
        "attempt": item.attempt, "version": item.version, "event_seq": item.event_seq,
    }  # fmt: skip
    if item.confirmed_seq is not None:
        value["confirmed_seq"] = item.confirmed_seq
    if item.cancel_seq is not None:
        value["cancel_seq"] = item.cancel_seq
    return value


def _of_epoch(record: Record, epoch: str) -> bytes:
    """An event that goes on under another number, as the log itself writes one: seq and epoch in front."""
    event = orjson.loads(record.data)
    return orjson.dumps({"seq": record.seq, "epoch": epoch} | event | {"epoch": epoch})


def _known(state: Restored) -> dict[str, int]:
    """Event id to seq of everything that somebody might send again; an item's is that of its first event."""
    known = {orjson.loads(record.data)["id"]: record.seq for record in state.records}
    return known | {item.id: item.seq for item in state.items}


def _questions_json(state: Restored) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, (seq, handle) in state.open_questions.items():
        fields["q:" + name] = json.dumps({"seq": seq, "state": "open"})
        fields["h:" + handle] = name
    for name, (seq, handle, answer_seq, digest) in state.closed_questions.items():
        fields["q:" + name] = json.dumps(
            {"seq": seq, "state": "answered", "answer_seq": answer_seq, "digest": digest}
        )
        fields["h:" + handle] = name
    return fields
