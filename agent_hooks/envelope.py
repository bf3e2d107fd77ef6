"""How a person's words are marked when they enter an agent's context.

Begins with the words that Claude Code itself uses, so that a model does not take a person's words
beside a tool's output for an attack. The fence is random for each run: nobody outside knows it, and
text that holds it nevertheless loses it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, List, Mapping, Sequence

LEAD = "The user sent a new message while you were working:"
LEAD_MANY = "The user sent new messages while you were working:"
TRAIL = "Take this into account from your next step on. Do not ignore it."

_KEPT = frozenset("\n\t")
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef\u115f\u1160\u3164\uffa0\u034f]")


def visible(text: str) -> str:
    """The text without what a person would not see: control, bidi, zero-width and tag characters,
    variation selectors, invisible fillers, lone surrogates. Line ends become newlines."""
    for line_end in ("\r\n", "\r", "\u2028", "\u2029"):
        text = text.replace(line_end, "\n")
    text = _SELECTORS.sub("", text)
    return "".join(c for c in text if c in _KEPT or unicodedata.category(c) not in _HIDDEN)


def attribute(text: str) -> str:
    """One line without quotes or brackets, for use inside the fence's opening."""
    line = visible(text).replace("\n", " ").replace("\t", " ")
    return re.sub(r'["<>&]', "'", line).strip()[:80]


def unfenced(text: str, fence: str) -> str:
    """The text without the fence's token, however it is written, and without hidden characters."""
    token = re.compile(re.escape(fence), re.IGNORECASE)
    text = visible(text)
    while token.search(text):
        text = token.sub("[fence removed]", text)
    return text


def words(event: Mapping[str, Any]) -> str:
    """What a mailbox event says, in a person's words."""
    body = event["body"]
    kind = event["kind"]
    if kind == "answer":
        if body.get("outcome") == "cancelled":
            return "The question was taken back; decide for yourself."
        return str(body.get("text") or body.get("value") or "")
    if kind == "order":
        return _order_words(body)
    text = str(body.get("text", ""))
    anchor = body.get("anchor")
    if anchor:
        quoted = "\n".join("> " + line for line in str(anchor["quote"]).splitlines())
        text = f"{quoted}\n\n{text}"
    return text


def _order_words(body: Mapping[str, Any]) -> str:
    reason = f" {body['reason']}" if body.get("reason") else ""
    action = body["action"]
    if action == "check_in":
        every = int(body.get("every_steps") or 0)
        if not every:
            return f"No more regular check-ins are needed.{reason}"
        return f"Check in every {every} steps: say in a sentence or two what you are doing.{reason}"
    return f"{action}.{reason}"


def one(event: Mapping[str, Any], fence: str, *, part: str = "") -> str:
    """One event between fences: author, role, id, and the words with nothing hidden in them."""
    return fenced(event, words(event), fence, part=part)


def fenced(event: Mapping[str, Any], text: str, fence: str, *, part: str = "") -> str:
    """These words of an event (all of it, or one part) between its fences."""
    sender = event["sender"]
    body = event["body"]
    marks = [
        f'from="{attribute(str(sender["name"]))}"',
        f'role="{attribute(str(sender.get("role") or sender["kind"]))}"',
        f'kind="{attribute(str(event["kind"]))}"',
        f'id="{attribute(str(event["id"]))}"',
    ]
    about = body.get("reply_to") or body.get("question_id")
    if about:
        marks.append(f'about="{attribute(str(about))}"')
    if part:
        marks.append(f'part="{attribute(part)}"')
    opening = unfenced(" ".join(marks), fence)
    return f"<message-{fence} {opening}>\n{unfenced(text, fence)}\n</message-{fence}>"


def around(parts: Sequence[str]) -> str:
    """Fenced messages with the lead and trail that a model expects."""
    lead = LEAD if len(parts) == 1 else LEAD_MANY
    return "\n".join([lead, *parts, TRAIL])


def pieces(event: Mapping[str, Any], fence: str, limit: int) -> List[str]:
    """One event as one fenced text, or as several when its words are longer than `limit`."""
    whole = unfenced(words(event), fence)
    if len(whole) <= limit:
        return [one(event, fence)]
    texts = []
    while whole:
        cut = len(whole) if len(whole) <= limit else whole.rfind("\n", limit // 2, limit) + 1
        cut = cut or limit
        texts.append(whole[:cut])
        whole = whole[cut:]
    return [
        fenced(event, text, fence, part=f"{number} of {len(texts)}")
        for number, text in enumerate(texts, 1)
    ]
