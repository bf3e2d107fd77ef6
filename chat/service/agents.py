"""What an agent's side reports: words, steps, log lines, its status, its failures."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from chat.access import Permission, Principal
from chat.drafts import digest, draft, iso, utc
from chat.errors import Invalid
from chat.events import ErrorBody, Kind, LogBody, MessageBody, Mode, StatusBody, StepBody
from chat.ids import is_id
from chat.ports import Draft
from chat.redaction import redacted
from chat.requests import Delta, Report, ReportedEvent
from chat.runs import ENDED, RunStatus
from chat.service.context import Context
from chat.service.lifecycle import Lifecycle

Reported = MessageBody | StepBody | LogBody | StatusBody | ErrorBody
_BODIES: dict[Kind, type[Reported]] = {
    Kind.MESSAGE: MessageBody,
    Kind.STEP: StepBody,
    Kind.LOG: LogBody,
    Kind.STATUS: StatusBody,
    Kind.ERROR: ErrorBody,
}

_SAID_BY_AGENTS = frozenset(
    {RunStatus.STARTING, RunStatus.WORKING, RunStatus.WAITING, RunStatus.PAUSED}
)


class Agents:
    """The agent's half of the conversation."""

    def __init__(self, context: Context, lifecycle: Lifecycle) -> None:
        self._context = context
        self._lifecycle = lifecycle

    def report(self, principal: Principal, run_id: str, request: Report) -> dict[str, Any]:
        """Append what the agent's side says, in its order, all or none. A key seen before gives the
        first event again: `{"events": [{"key", "seq", "id", "repeated"}]}`."""
        run = self._context.authorize(principal, Permission.REPORT, run_id)
        drafts = [self._draft(principal, run_id, one) for one in request.events]
        done = self._context.log.append(run_id, drafts)
        if any(one.kind == "status" for one in request.events):
            self._context.runs_changed(run.project_id)
        return {
            "events": [
                {
                    "key": one.key,
                    "seq": made.record.seq,
                    "id": self._context.event(run_id, made.record)["id"]
                    if made.repeated
                    else drafted.id,
                    "repeated": made.repeated,
                }
                for one, drafted, made in zip(request.events, drafts, done, strict=True)
            ]
        }

    def delta(self, principal: Principal, run_id: str, request: Delta) -> dict[str, int]:
        """Add to a message that is being streamed: `{"units": the length that stands}`."""
        self._context.authorize(principal, Permission.REPORT, run_id)
        if not is_id(request.message_id, "msg"):
            raise Invalid("'message_id' is 'msg_' and a ULID, made by the agent's side.")
        length = self._context.log.delta(
            run_id,
            request.message_id,
            offset=request.offset,
            units=utf16_units(request.text),
            text=request.text,
        )
        return {"units": length}

    def _draft(self, principal: Principal, run_id: str, one: ReportedEvent) -> Draft:
        kind = Kind(one.kind)
        try:
            body: Reported = _BODIES[kind].model_validate(one.body)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in fault["loc"])
            raise Invalid(f"Event '{one.key}': body.{where}: {fault['msg']}.") from error
        effects: dict[str, Any] = {
            "idempotency_key": f"agent:{one.key}",
            "digest": digest(one),
        }
        at = self._moment(one)
        sender, now = principal.sender(), self._context.now()
        if isinstance(body, StatusBody):
            if body.status in ENDED:
                raise Invalid("A run ends by 'finish', not by a status.")
            if body.status not in _SAID_BY_AGENTS:
                raise Invalid(f"'{body.status}' is not an agent's to say.")
            # only we bring a run back from hold
            return self._lifecycle.status_draft(
                run_id, principal, body.status, detail=body.detail, phase=body.phase,
                from_hold=False, **effects,
            )  # fmt: skip
        if isinstance(body, MessageBody):
            if one.id is not None and not is_id(one.id, "msg"):
                raise Invalid(f"Event '{one.key}': 'id' is 'msg_' and a ULID.")
            # an agent has no mailbox to steer, and may not pretend that its words are somebody's edit
            body = MessageBody(text=body.text, reply_to=body.reply_to, mode=Mode.STEER)
            effects |= {"closes": one.id, "last_line": body.text[:200]}
        elif isinstance(body, LogBody):
            lines = [line.model_copy(update={"text": redacted(line.text)}) for line in body.lines]
            body = body.model_copy(update={"lines": lines})
        elif isinstance(body, StepBody):
            summary = redacted(body.summary) if body.summary else None
            body = body.model_copy(update={"name": redacted(body.name), "summary": summary})
        return draft(run_id, sender, body, now=now, event_id=one.id, at=at, **effects)

    def _moment(self, one: ReportedEvent) -> str | None:
        """When it happened, if the agent's side kept it for a while; never later than now."""
        if one.at is None:
            return None
        try:
            moment = utc(one.at)
        except ValueError as error:
            raise Invalid(f"Event '{one.key}': 'at' {error}.") from error
        return iso(min(moment, self._context.now()))


def utf16_units(text: str) -> int:
    """Length in UTF-16 code units, as a browser counts."""
    return len(text.encode("utf-16-le")) // 2
