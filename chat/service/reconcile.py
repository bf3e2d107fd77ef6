"""A log that came back from before: Redis was replaced by a copy that lacks what the store has by now.

An empty Redis is noticed by everybody (`Log`). One that is only behind looks whole: it hands out numbers
that the store knows already. So before anything is written into the store, the two are compared where they
overlap, and where they are not the same log any more it is rebuilt: what the store has, then what was said
since, under new numbers and in a new epoch. Nothing that was answered 2xx is written over.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import structlog

from chat.ports import Record
from chat.runs import Run
from chat.service.context import Context
from chat.service.restore import restored

_PAGE = 1_000
log = structlog.get_logger("delivery")


def reconcile(context: Context, run: Run) -> None:
    """Make sure that the run's log goes on where the store ends."""
    while True:
        snapshot = context.log.snapshot(run.id)
        # in this order: what the store has was in the log before
        last = context.store.last_seq(run.id)
        if last <= snapshot.stored:
            return
        ours = {record.seq: record for record in _held(context, run.id, snapshot.stored)}
        head = max(snapshot.head, context.log.snapshot(run.id).head)
        parted = _parted(context, run.id, snapshot.stored, ours, head)
        if parted is None:
            return
        since = [record for seq, record in sorted(ours.items()) if seq >= parted]
        state = restored(
            context.store, run, keep=context.settings.stream_keep, now_ms=context.now_ms(),
            then=since,
        )  # fmt: skip
        if context.log.rebuild(run.id, state, epoch=snapshot.epoch, head=head):
            log.warning(
                "log_was_behind", run_id=run.id, parted=parted, stored=last, again=len(since)
            )


def _held(context: Context, run_id: str, after: int) -> Iterator[Record]:
    while records := context.log.read(run_id, after=after, limit=_PAGE):
        yield from records
        after = records[-1].seq


def _parted(
    context: Context, run_id: str, after: int, ours: dict[int, Record], head: int
) -> int | None:
    """The first number under which the store has another event than the log; None while they agree."""
    more = True
    while more:
        page = context.store.events(run_id, after=after, limit=_PAGE)
        for record in page.records:
            mine = ours.get(record.seq)
            if record.seq > head or (mine is not None and _id(mine) != _id(record)):
                return record.seq
        more = page.has_more
        after = page.records[-1].seq if page.records else after
    return None


def _id(record: Record) -> str:
    found: str = orjson.loads(record.data)["id"]
    return found
