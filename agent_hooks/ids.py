"""Identifiers the agent's side makes itself."""

from __future__ import annotations

import secrets
import time

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def new_message_id() -> str:
    """`msg_` and a ULID: 48 bits of milliseconds, 80 random bits, as the server makes them."""
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    shifts = range(125, -1, -5)
    return "msg_" + "".join(_CROCKFORD[(number >> shift) & 31] for shift in shifts)


def new_key() -> str:
    """A fresh idempotency key, 32 hex digits."""
    return secrets.token_hex(16)
