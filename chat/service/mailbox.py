"""The mailbox: what the agent's side takes, confirms and gives back."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from chat.access import SYSTEM, Permission, Principal
from chat.drafts import iso, receipt
from chat.errors import Invalid
from chat.events import ReceiptState
from chat.ports import Draft, Leased
from chat.requests import Confirm, Release
from chat.service.context import Context
from chat.service.messages import shown


class Mailbox:
    """A lease must be confirmed before its deadline, else it is handed out again."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def lease(
        self,
        principal: Principal,
        run_id: str,
        *,
        holder: str,
        limit: int = 50,
        task_end: bool = False,
    ) -> dict[str, Any]:
        """Take what is next, in order. `lease_ms` is how long it is the holder's, in milliseconds."""
        run = self._context.authorize(principal, Permission.REPORT, run_id)
        lease_ms = self._context.settings.lease_ms
        result = self._context.log.lease(
            run_id,
            holder=holder,
            now_ms=self._context.now_ms(),
            lease_ms=lease_ms,
            limit=limit,
            task_end=task_end,
            given_back=self.given_back(run.id, "the lease ran out, or another process took over"),
            receipt=self.leased(run.id),
        )
        return {
            "items": [self.handed_out(run_id, one) for one in result.leased],
            "lease_ms": lease_ms,
            "deadline": iso(self._context.now() + timedelta(milliseconds=lease_ms)),
            "status": result.status,
            "held": result.held,
            "head": result.head,
        }

    def confirm(self, principal: Principal, run_id: str, request: Confirm) -> dict[str, Any]:
        """Write `in_context`: the model was given exactly `text`. The same call again is the same."""
        self._context.authorize(principal, Permission.REPORT, run_id)
        if hashlib.sha256(request.text.encode()).hexdigest() != request.sha256:
            raise Invalid("'sha256' is not the hash of 'text' (UTF-8).")
        said = receipt(
            run_id,
            principal.sender(),
            ReceiptState.IN_CONTEXT,
            now=self._context.now(),
            step=request.step,
            sha256=request.sha256,
            text=request.text,
        )
        items = self._context.log.confirm(run_id, list(dict.fromkeys(request.ids)), said)
        return {"items": {name: item.state for name, item in items.items()}}

    def release(self, principal: Principal, run_id: str, request: Release) -> dict[str, Any]:
        """Give leases back at once."""
        self._context.authorize(principal, Permission.REPORT, run_id)
        back = self._context.log.release(
            run_id,
            request.ids,
            holder=request.holder,
            given_back=self.given_back(run_id, "given back by the agent's side"),
        )
        return {"released": back}

    def given_back(self, run_id: str, reason: str) -> Draft:
        """The receipt of a lease that ended without a confirmation."""
        now = self._context.now()
        return receipt(run_id, SYSTEM.sender(), ReceiptState.STORED, now=now, reason=reason)

    def leased(self, run_id: str) -> Draft:
        """The receipt of a lease."""
        now = self._context.now()
        deadline = iso(now + timedelta(milliseconds=self._context.settings.lease_ms))
        return receipt(
            run_id, SYSTEM.sender(), ReceiptState.LEASED,
            now=now, wants_attempt=True, deadline=deadline,
        )  # fmt: skip

    def handed_out(self, run_id: str, one: Leased) -> dict[str, Any]:
        """An item as the agent's side gets it: the event under its own id and seq, with its present text."""
        event = self._context.event(run_id, one.record)
        if one.item.event_seq != one.item.seq:
            event = {**event, "id": one.item.id, "seq": one.item.seq}
        return {"event": event, **shown(one.item)}
