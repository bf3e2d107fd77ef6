"""What can go wrong on the agent's side.

HooksError
├── Misused        the command line or the environment lacks something
├── SidecarAway    no sidecar answers in the state folder
├── SidecarRefused the sidecar said no, with a `code`
├── Unreachable    the server cannot be reached or is in trouble: try again
├── Refused        the server said no (4xx), with its problem document
├── Ended          the run is over: its token is not valid any more
├── Stopped        a person stopped the run
└── Interrupted    a person wants the current step cut
"""

from __future__ import annotations

from typing import Any, Dict, Optional


class HooksError(Exception):
    """The root."""


class Misused(HooksError):
    pass


class SidecarAway(HooksError):
    pass


class SidecarRefused(HooksError):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Unreachable(HooksError):
    """`maybe_done`: the request may have been carried out although no answer came."""

    def __init__(
        self, detail: str, *, maybe_done: bool = True, retry_after_s: Optional[float] = None
    ) -> None:
        super().__init__(detail)
        self.maybe_done = maybe_done
        self.retry_after_s = retry_after_s


class Refused(HooksError):
    def __init__(self, status: int, problem: Dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or status))
        self.status = status
        self.code = str(problem.get("code", ""))
        self.current_state: Dict[str, Any] = problem.get("current_state") or {}


class Ended(HooksError):
    pass


class Stopped(HooksError):
    """`reason` is what the person wrote, `by` their name."""

    def __init__(self, by: str = "", reason: str = "") -> None:
        super().__init__(reason or f"{by or 'Somebody'} stopped the run.")
        self.by = by
        self.reason = reason


class Interrupted(HooksError):
    """`reason` is what the person wrote with the order, or "" (a message may follow in `drain`)."""

    def __init__(self, by: str = "", reason: str = "") -> None:
        super().__init__(reason or f"{by or 'Somebody'} interrupted the step.")
        self.by = by
        self.reason = reason
