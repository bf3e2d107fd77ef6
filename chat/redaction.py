"""Secrets in what an agent prints: taken out on the way in, and marked."""

from __future__ import annotations

import re
from typing import Final

_SECRETS: Final = re.compile(
    r"""
      (?P<aws>\b(?:AKIA|ASIA)[0-9A-Z]{16}\b)
    | (?P<github>\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})\b)
    | (?P<anthropic>\bsk-ant-[A-Za-z0-9_-]{20,255})
    | (?P<openai>\bsk-(?:proj-)?[A-Za-z0-9_-]{32,255})
    | (?P<slack>\bxox[abprs]-[A-Za-z0-9-]{10,255})
    | (?P<run>\bomk_[A-Za-z0-9_-]{43})
    | (?P<jwt>\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})
    | (?P<pem>-----BEGIN[ A-Z]*PRIVATE\ KEY-----)
    | (?P<bearer>(?<=Bearer\ )[A-Za-z0-9._~+/-]{20,}=*)
    | (?P<named>(?i:(?<=aws_secret_access_key=)|(?<=aws_session_token=)|(?<=password=))[^\s'"]{6,})
    """,
    re.VERBOSE,
)


def redacted(text: str) -> str:
    """The text with each secret replaced by `[redacted: kind]`."""
    return _SECRETS.sub(lambda found: f"[redacted: {found.lastgroup}]", text)
