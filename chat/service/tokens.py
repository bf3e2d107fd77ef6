"""Run tokens: opaque to everybody, good for one run, gone when it ends."""

from __future__ import annotations

import base64
import hashlib
import hmac

from chat.access import Principal
from chat.errors import NotFound, TokenRevoked
from chat.events import SenderKind
from chat.ids import is_id
from chat.service.context import Context


class Tokens:
    """A run's token is an HMAC of its id, so a launch that is repeated passes the same one and no
    table holds it; the log keeps its SHA-256 for as long as the run lives, and that decides."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._secret = context.settings.secret_key.encode()

    def of(self, run_id: str) -> str:
        """The token of a run: `omk_` and 43 characters."""
        mac = hmac.new(self._secret, b"run-token:" + run_id.encode(), hashlib.sha256).digest()
        return "omk_" + base64.urlsafe_b64encode(mac).decode().rstrip("=")

    @staticmethod
    def sha256(token: str) -> str:
        """What is kept of a token."""
        return hashlib.sha256(token.encode()).hexdigest()

    def agent(self, run_id: str, token: str) -> Principal:
        """Who holds the token. Raises NotFound for another run's, TokenRevoked once the run has ended."""
        ours = self.of(run_id)
        if not is_id(run_id, "run") or not hmac.compare_digest(token.encode(), ours.encode()):
            raise NotFound("There is no run with that id.")
        run = self._context.run(run_id)
        kept = self._context.log.token_sha256(run_id)
        if kept is None or not hmac.compare_digest(kept, self.sha256(token)):
            raise TokenRevoked("The run has ended; its token is not valid any more.")
        return Principal(
            kind=SenderKind.AGENT,
            id=run.agent_id,
            name=run.agent_name,
            run_id=run.id,
            role=run.role,
        )
