"""What people want, by rules: the whole of this agent's understanding, and it knows that it is little.

`decide` is given the text exactly as agent_hooks marks it for a model (the envelope), and that text is
what the agent confirms as being in its context.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CAN: Final = (
    "`status`, `what are you doing?`",
    "`pause`, `resume`, `stop`, `skip this`, `skip the discount tests`",
    "`call it total_price`, `rename calc to total_price`",
    "`run the tests`, `show the diff`, `show cart.py`, `explain coupon_discount`",
    "`commit now`, `slow down`, `faster`",
)

WORDS_MAX: Final = 300
"""Characters of a sentence that the rules look at; a longer one is no order."""
PARTS_MAX: Final = 12


class Want(StrEnum):
    """One thing that can be asked for."""

    STATUS = "status"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    SKIP = "skip"
    RENAME = "rename"
    TESTS = "tests"
    DIFF = "diff"
    SHOW = "show"
    EXPLAIN = "explain"
    COMMIT = "commit"
    SLOWER = "slower"
    FASTER = "faster"
    ROUNDING = "rounding"
    HELP = "help"
    GREETING = "greeting"
    NOT_TO = "not_to"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Intent:
    """What was understood: `old` may be empty for "it"; `words` are the person's own."""

    want: Want
    words: str
    old: str = ""
    new: str = ""


_NAME = r"`?([A-Za-z_][\w.]*)(?:\(\))?`?"
_FILLER = re.compile(
    r"^(?:(?:please|hey|hi|ok|okay|now|and|then|also|so|well|no|yes|just|"
    r"miso|nori|koji|toro|can you|could you|would you|will you|you can|you should|"
    r"i want you to|i would like you to|let us|let's)\b[\s,:!]*)+",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"(?:[\s,]+(?:please|now|thanks|thank you|again|instead|then|for me))+$", re.IGNORECASE
)
_PARTS = re.compile(
    r"(?<=[\w`)])[.!?;]+\s+|\n+|,?\s+and then\s+|,\s+then\s+"
    r"|,?\s+and\s+(?=(?:run|show|commit|skip|rename|call|explain|stop|pause|resume)\b)",
    re.IGNORECASE,
)
_NOT_TO = re.compile(r"^(?:do not|don'?t|never|stop not|without)\b", re.IGNORECASE)

Maker = Callable[[re.Match[str], str], Intent]


def _simple(want: Want) -> Maker:
    return lambda _, words: Intent(want, words)


def _old_new(match: re.Match[str], words: str) -> Intent:
    return Intent(Want.RENAME, words, _bare(match[1]), match[2].rstrip("."))


def _new(match: re.Match[str], words: str) -> Intent:
    return Intent(Want.RENAME, words, "", match[1].rstrip("."))


def _about(want: Want) -> Maker:
    return lambda match, words: Intent(want, words, (match[1] or "").strip(" `.\"'"))


def _rounding(match: re.Match[str], words: str) -> Intent:
    return Intent(Want.ROUNDING, words, new="line" if "line" in match[0].lower() else "total")


def _bare(name: str) -> str:
    return "" if name.lower() in {"it", "this", "that", "them"} else name.rstrip(".")


_RULES: Final[tuple[tuple[str, Maker], ...]] = (
    (
        r"(?:what are you (?:doing|up to|working on)|what(?:'s| is) (?:the )?(?:status|left|next|up)|"
        r"(?:your )?status(?: report)?|how far are you|where are you|how is it going|progress|"
        r"what have you done)(?: right)?",
        _simple(Want.STATUS),
    ),
    (r"(?:pause|wait|hold on|hold|take a break|wait a moment)", _simple(Want.PAUSE)),
    (r"(?:resume|continue|go on|carry on|keep going|proceed|go ahead)", _simple(Want.RESUME)),
    (
        r"(?:stop|halt|quit|abort|end)(?: (?:the run|working|everything|all|it|here))?",
        _simple(Want.STOP),
    ),
    (r"(?:skip|leave out|ignore)(?: (?:it|this|that)(?: (?:one|test|step|file))?)?", _simple(Want.SKIP)),
    (r"(?:skip|leave out|ignore|leave)\s+(?:the\s+|all\s+)?(.+?)(?:\s+alone)?", _about(Want.SKIP)),
    (rf"(?:rename|change)\s+(?:the function |the method )?{_NAME}\s+(?:to|into|as|->)\s+{_NAME}", _old_new),
    (rf"call\s+(?:it|this|that|the function|the method)\s+(?!quits\b|off\b){_NAME}", _new),
    (rf"(?:use|take)\s+{_NAME}\s+(?:as|for)\s+(?:the|its|a)\s+name", _new),
    (rf"name\s+(?:it|this|that)\s+{_NAME}", _new),
    (rf"(?:it|this|that)\s+(?:should|must|shall)\s+be\s+(?:called|named)\s+{_NAME}", _new),
    (rf"{_NAME}\s+(?:should|must|shall)\s+be\s+(?:called|named)\s+{_NAME}", _old_new),
    (rf"call\s+(?:the function |the method )?{_NAME}\s+{_NAME}", _old_new),
    (r"(?:run|rerun|re-run|execute|try)\s+(?:all |the |all the |your )*(?:tests?|suite|test suite)", _simple(Want.TESTS)),
    (r"(?:do|are) (?:the|all|all the) tests (?:pass|passing|green)", _simple(Want.TESTS)),
    (
        r"(?:show|give|print|see)(?: me)?\s+(?:the |your |a )*(?:diff|changes|patch)|diff|what did you change|"
        r"what have you changed",
        _simple(Want.DIFF),
    ),
    (r"(?:show|print|open)(?: me)?\s+(?:the )?(?:file )?`?([\w/]+\.\w+)`?", _about(Want.SHOW)),
    (r"(?:explain|describe|what (?:is|does)|tell me about|how does|show me|show)\s+(?:the |me )*(.+?)(?:\s+(?:do|works?|mean|means))?", _about(Want.EXPLAIN)),
    (r"commit(?: (?:it|this|that|everything|your work))?", _simple(Want.COMMIT)),
    (r"(?:slow down|slower|more slowly|not so fast|go slower|work slower)(?: a bit| a little)?", _simple(Want.SLOWER)),
    (r"(?:faster|speed up|hurry|hurry up|go faster|quicker|work faster)(?: a bit| a little)?", _simple(Want.FASTER)),
    (r"round(?:ing)?\s+(?:per |by |each |every |the |all )*(?:lines?|items?|total|totals|sum|end)\b.*", _rounding),
    (r"(?:help|what can you do|commands|who are you|are you (?:a )?(?:bot|model|robot|human|real))", _simple(Want.HELP)),
    (r"(?:hello|hi|hey|good (?:morning|evening|day)|thanks|thank you|thx|great|nice|well done|good job|good|cool|ok|okay)"
        r"(?: there| all| work| job)?(?:,? (?:miso|nori|koji|toro))?", _simple(Want.GREETING)),
)  # fmt: skip
_TABLE = tuple((re.compile(rule, re.IGNORECASE), make) for rule, make in _RULES)


def inside(envelope: str) -> str:
    """The person's own words in an envelope of agent_hooks; a text without one is all words."""
    found = re.search(r"<message-(\w+)[^>]*>\n(.*)\n</message-\1>", envelope, re.DOTALL)
    return found[2] if found else envelope


def note_in(hand_over: str) -> tuple[str, str]:
    """(person, words) of the note in a pipeline's hand-over; empty where there is none. What is quoted
    there begins with `> `, so nobody's words pass for such a line."""
    found = re.search(r"^(?!>)(.+) says:\n((?:> ?.*(?:\n|$))+)", hand_over, re.MULTILINE)
    if found is None:
        return "", ""
    return found[1], "\n".join(line[2:] for line in found[2].splitlines())


def decide(envelope: str) -> list[Intent]:
    """Everything these words ask for, in their order; never empty."""
    words = inside(envelope)
    lines = (re.sub(r"\s+", " ", line) for line in words.splitlines() if not line.startswith(">"))
    parts = [part for part in _PARTS.split("\n".join(lines)) if part and part.strip(" .,!?")]
    found = [_one(part) for part in parts[:PARTS_MAX]]
    return found or [Intent(Want.UNKNOWN, words.strip())]


def _one(part: str) -> Intent:
    words = part.strip()
    if len(words) > WORDS_MAX:
        return Intent(Want.UNKNOWN, words)
    plain = words.strip(" .!?,:;\"'")
    for candidate in dict.fromkeys((plain, _stripped(plain))):
        if _NOT_TO.match(candidate):
            return Intent(Want.NOT_TO, words)
        for rule, make in _TABLE:
            if match := rule.fullmatch(candidate):
                return make(match, words)
    return Intent(Want.UNKNOWN, words)


def _stripped(text: str) -> str:
    return _TAIL.sub("", _FILLER.sub("", text)).strip(" .!?,:;\"'")


def rounding_of(value: str | None, text: str | None) -> str | None:
    """Which rounding an answer means: "line", "total", or None when it is not clear."""
    if value in {"line", "total"}:
        return value
    said = (text or value or "").lower()
    line = bool(re.search(r"\b(?:lines?|each|every|per|item|items|first)\b", said))
    total = bool(re.search(r"\b(?:total|totals|sum|end|whole|once|second|last)\b", said))
    if re.search(r"\b(?:not|n't|don't|never)\b", said) or line == total:
        return None
    return "line" if line else "total"
