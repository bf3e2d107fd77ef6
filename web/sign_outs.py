"""Which sessions were signed out: a cookie holds all it says, and a copy of it would go on saying it.

signed-out:{sid}   string: 1; for as long as a cookie can live

Asked where a cookie alone is too little: for a terminal, when it is opened and while it is open.
"""

from __future__ import annotations

from typing import Final

import redis

from chat.errors import Unavailable

LIFETIME_S: Final = 2_592_000


class SignOuts:
    """`sid` names one signing in (auth.remember). Safe for many threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def note(self, sid: str) -> None:
        """This session was signed out. Raises Unavailable: then a copy of its cookie still counts."""
        try:
            self._redis.set(f"signed-out:{sid}", 1, ex=LIFETIME_S)
        except redis.RedisError as error:
            raise Unavailable(
                "That you signed out could not be noted: a copy of this browser's cookie would still "
                "open terminals. Try again in a moment."
            ) from error

    def stands(self, sid: str | None) -> bool:
        """Whether it was not signed out. One without a name could not be known. Raises Unavailable."""
        try:
            return sid is not None and not self._redis.exists(f"signed-out:{sid}")
        except redis.RedisError as error:
            raise Unavailable(
                "Whether you are signed in cannot be checked at the moment."
            ) from error
