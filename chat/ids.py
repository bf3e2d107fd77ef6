"""Identifiers: a prefix that says what it names, then 26 characters that sort by time (ULID)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from typing import Final

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
ID_PATTERN: Final = r"^[a-z]{2,8}_[0-9a-hjkmnp-tv-z]{26}$"
_ID: Final = re.compile(ID_PATTERN)


def new_id(prefix: str) -> str:
    """A fresh identifier, for example `run_01k9…`: 48 bits of milliseconds, 80 random bits."""
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return (
        prefix + "_" + "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))
    )


def hashed_id(prefix: str, *parts: str) -> str:
    """The identifier that the same parts always give."""
    hashed = hashlib.sha256("\n".join(parts).encode()).digest()
    # Crockford's alphabet has no i, l, o, u; base32's has no 0, 1, 8, 9
    text = base64.b32encode(hashed).decode().lower()[:26]
    return f"{prefix}_{text.translate(str.maketrans('ilou', '0189'))}"


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` is an identifier of that kind."""
    return text.startswith(prefix + "_") and _ID.match(text) is not None


def new_token(prefix: str) -> str:
    """An opaque secret of 32 random bytes (RFC 4648 base64url); only its SHA-256 is ever kept."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"
