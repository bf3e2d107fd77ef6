"""Doing what people ask, each want by a rule; the replies say what was really done."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from agent_hooks.loop import Mail, Stopped
from demo import lint, source
from demo.goal import Again, Skipped
from demo.intents import CAN, Intent, Want

if TYPE_CHECKING:
    from demo.worker import Worker

PACE_MIN_S, PACE_MAX_S = 0.02, 30.0
LEFT_SHOWN = 6
CODE_LINES = 80
_FORGETTABLE = frozenset(
    {"the", "a", "an", "all", "any", "test", "tests", "this", "that", "one", "ones", "fix"}
    | {"fixes", "of", "for", "about", "in", "file", "please", "it"}
)

Doing = Callable[["Worker", Intent, "Mail | None", str], str]


def one(worker: Worker, intent: Intent, mail: Mail | None, person: str) -> str:
    """Do it; the reply in Markdown."""
    return _DOING[intent.want](worker, intent, mail, person)


def status_of(worker: Worker) -> str:
    """What the agent is at and what is left, as it really is."""
    left = worker.role.left() if worker.role is not None else []
    lines = [f"I am {_at(worker)}"]
    if worker.paused_by:
        lines[0] = f"I am paused, as {worker.paused_by} asked; before that I was {_at(worker)}"
    if worker.goal is not None:
        lines.append(f"It belongs to: {worker.goal.title}.")
    if left:
        shown = "\n".join(f"- {title}" for title in left[:LEFT_SHOWN])
        more = f"\n- and {len(left) - LEFT_SHOWN} more" if len(left) > LEFT_SHOWN else ""
        lines.append(f"Left ({len(left)}):\n\n{shown}{more}")
    else:
        lines.append("Nothing is left on my list.")
    return "\n\n".join(lines)


def _at(worker: Worker) -> str:
    return f"at step {worker.number}, `{worker.now}`; {len(worker.done)} steps are done."


def _status(worker: Worker, _intent: Intent, _mail: Mail | None, _person: str) -> str:
    return status_of(worker)


def _pause(worker: Worker, _intent: Intent, _mail: Mail | None, person: str) -> str:
    worker.paused_by = person
    return f"Paused after step {worker.number}. I still read and answer; say `resume` to go on."


def _resume(worker: Worker, _intent: Intent, _mail: Mail | None, _person: str) -> str:
    if not worker.paused_by:
        return "I am not paused; I go on."
    worker.paused_by = ""
    return "Going on."


def _stop(worker: Worker, intent: Intent, _mail: Mail | None, person: str) -> str:
    worker.stop_said = Stopped(person, intent.words)
    return (
        f"Stopping after step {worker.number}, as you say. What is committed stays on "
        f"`{worker.shop.branch}`; what is not is dropped."
    )


def _skip(worker: Worker, intent: Intent, _mail: Mail | None, _person: str) -> str:
    if not intent.old:
        if worker.goal is None:
            return "There is nothing under way that I could skip."
        worker.change = Skipped
        worker.skips.append([worker.goal.title.lower().replace("_", " ")])
        return f"Skipped: {worker.goal.title}. I have put the files back and go on."
    said = re.findall(r"[a-z0-9]+", intent.old.lower().replace("_", " "))
    words = [_stem(word) for word in said if word not in _FORGETTABLE]
    if not words:
        return f"I do not know what “{intent.old}” means here, so I skip nothing."
    left = worker.role.left() if worker.role is not None else []
    hit = [
        title for title in left if all(word in title.lower().replace("_", " ") for word in words)
    ]
    current = worker.goal is not None and worker.goal.meant_by(words)
    worker.skips.append(words)
    if current:
        worker.change = Skipped
    if not hit and not current:
        return f"Nothing on my list is about “{intent.old}” now; should it come up, I will skip it."
    titles = "\n".join(f"- {title}" for title in hit)
    return f"Skipped, and not done by me any more:\n\n{titles}" if hit else "Skipped what I was at."


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _rename(worker: Worker, intent: Intent, mail: Mail | None, person: str) -> str:
    shop = worker.shop
    new = intent.new.rpartition(".")[2]
    named = intent.old or _it(worker, mail)
    function = source.find(shop.folder, named)
    if function is None:
        known = ", ".join(f"`{one.title}`" for one in source.functions(shop.folder))
        return f"I know no function `{named}`. There are: {known}."
    old = function.name
    guessed = "" if intent.old else f" (by “it” I understood `{function.title}`)"
    half_done = shop.dirty()
    # whatever is half done is done again afterwards, with the new name
    shop.restore()
    if half_done and worker.goal is not None:
        worker.change = worker.change or Again
    with worker.aside(f"rename {old} to {new}") as step:
        shop.update()
        before = set(shop.run_tests().failing)
        try:
            places = source.rename(shop.folder, old, new)
        except source.CannotRename as error:
            step.ok, step.summary = False, str(error)
            return f"I did not rename anything. {error}"
        result = shop.run_tests()
        broken = sorted(set(result.failing) - before)
        if broken:
            shop.restore()
            step.ok, step.summary = False, f"taken back: {broken[0]} fails with it"
            return f"I tried, but then `{broken[0]}` fails; so I have taken it back."
        diff = shop.diff("HEAD", "--", "teashop", lines=30)
        commit = shop.commit(f"Rename {old} to {new}, as {person} asked", renames=[(old, new)])
        merged = shop.deliver()
        count = sum(places.values())
        step.summary = f"{count} places in {len(places)} files, {result}, commit {commit}"
        worker.terminal.diff(diff)
    if worker.subject == old:
        worker.subject = new
    where = (
        "It is in `main`."
        if not merged.conflicts
        else f"It is on `{shop.branch}`; `main` conflicts in {', '.join(merged.conflicts)}."
    )
    tests = "tests still pass" if not result.failing else f"{result}, as many as before"
    return (
        f"Renamed `{old}` to `{new}`{guessed}: {count} places in {len(places)} files, {tests}, "
        f"commit `{commit}`. {where}\n\n```diff\n{diff}\n```"
    )


def _it(worker: Worker, mail: Mail | None) -> str:
    """The function that "it" is: of the quoted line, of the message replied to, one whose name says
    too little, of the step."""
    functions = source.functions(worker.shop.folder)
    names = {one.name for one in functions}
    if mail is not None:
        anchor = mail.body.get("anchor") or {}
        for word in re.findall(r"[A-Za-z_]\w*", str(anchor.get("quote", ""))):
            if word in names:
                return str(word)
        about = worker.subjects.get(str(mail.body.get("reply_to") or ""), "")
        if about in names:
            return about
    # a name that says too little is what this shop's agents ask people about
    vague = [one.name for one in functions if one.name in lint.VAGUE]
    if vague:
        return vague[0]
    return worker.subject if worker.subject in names else functions[0].name


def _tests(worker: Worker, _intent: Intent, _mail: Mail | None, _person: str) -> str:
    with worker.aside("run tests, as asked") as step:
        result = worker.shop.run_tests()
        step.ok, step.summary = not result.failing, str(result)
        worker.terminal.output(result.output)
    dirty = " (with changes that are not committed yet)" if worker.shop.dirty() else ""
    names = "\n".join(result.failing[:20])
    listed = f"\n\n```text\n{names}\n```" if names else ""
    return f"I ran them on `{worker.shop.branch}`{dirty}: **{result}**.{listed}"


def _diff(worker: Worker, _intent: Intent, _mail: Mail | None, _person: str) -> str:
    shop = worker.shop
    if shop.dirty():
        return f"Not committed yet:\n\n```diff\n{shop.diff('HEAD')}\n```"
    stat = shop.diff("--stat", f"{shop.first()}..HEAD")
    if not stat:
        return "Nothing has changed since the first commit."
    # --first-parent: what came from others by a merge is not the last thing that I did
    last = shop.git("log", "-1", "--no-merges", "--author", worker.name, "--format=%h %s")
    if not last:
        return f"I have committed nothing; all of us together:\n\n```text\n{stat}\n```"
    short, _, subject = last.partition(" ")
    diff = shop.diff(f"{short}~1", short, lines=40)
    return (
        f"Since the first commit, all of us together:\n\n```text\n{stat}\n```\n\n"
        f"My last commit, `{short}` {subject}:\n\n```diff\n{diff}\n```"
    )


def _show(worker: Worker, intent: Intent, _mail: Mail | None, _person: str) -> str:
    files = worker.shop.git("ls-files").splitlines()
    wanted = [file for file in files if file == intent.old or file.endswith("/" + intent.old)]
    if not wanted:
        return f"There is no file `{intent.old}` here. There are:\n\n" + "\n".join(
            f"- `{file}`" for file in files
        )
    lines = worker.shop.read(wanted[0]).splitlines()
    cut = "" if len(lines) <= CODE_LINES else f"\n... {len(lines) - CODE_LINES} more lines"
    kind = "python" if wanted[0].endswith(".py") else "text"
    text = "\n".join(lines[:CODE_LINES])
    return f"`{wanted[0]}`:\n\n```{kind}\n{text}{cut}\n```"


def _explain(worker: Worker, intent: Intent, mail: Mail | None, person: str) -> str:
    functions = source.functions(worker.shop.folder)
    for word in re.findall(r"[A-Za-z_][\w.]*", intent.old):
        function = source.find(worker.shop.folder, word)
        if function is None:
            near = [one for one in functions if word.lower() in one.name.lower()]
            function = near[0] if near and len(word) > 3 else None
        if function is not None:
            uses = sum(
                len(re.findall(rf"\b{function.name}\(", one.text))
                for one in functions
                if one.title != function.title
            )
            return (
                f"`{function.title}` at `{function.place}`, called in {uses} other places of the shop:"
                f"\n\n```python\n{function.text}\n```"
            )
    if re.search(r"\btests?\b", intent.old):
        return _tests(worker, intent, mail, person)
    return (
        f"I can only explain what is in the code, and “{intent.old}” is not a name there. Functions: "
        + ", ".join(f"`{one.title}`" for one in functions)
        + "."
    )


def _commit(worker: Worker, _intent: Intent, _mail: Mail | None, person: str) -> str:
    made = worker.shop.commit(f"Work under way, committed because {person} asked")
    if made is None:
        return f"There is nothing to commit; the last commit is `{worker.shop.head()}`."
    return f"Committed what there was as `{made}` on `{worker.shop.branch}`."


def _pace(factor: float) -> Doing:
    def change(worker: Worker, _intent: Intent, _mail: Mail | None, _person: str) -> str:
        worker.pace_s = min(PACE_MAX_S, max(PACE_MIN_S, worker.pace_s * factor))
        return f"From now on a step takes {worker.pace_s:g} s."

    return change


def _rounding(worker: Worker, intent: Intent, _mail: Mail | None, person: str) -> str:
    if worker.role is None:
        return "I have not begun yet: tell me again in a moment."
    return worker.role.round_as(intent.new, person)


def _help(worker: Worker, _intent: Intent, _mail: Mail | None, _person: str) -> str:
    return f"I am {worker.name}, {_what_i_am()}"


def _what_i_am() -> str:
    return "a rule-driven demo agent without a model; I can:\n\n" + "\n".join(
        f"- {line}" for line in CAN
    )


def _greeting(worker: Worker, _intent: Intent, _mail: Mail | None, person: str) -> str:
    return f"Hello {person}. I am {_at(worker)}"


def _not_to(_worker: Worker, intent: Intent, _mail: Mail | None, _person: str) -> str:
    return (
        f"I read “{_quoted(intent.words)}” as something *not* to do, so I have changed nothing. "
        "I cannot remember such a rule for later: I have no model."
    )


def _unknown(_worker: Worker, intent: Intent, _mail: Mail | None, _person: str) -> str:
    return (
        f"I have read “{_quoted(intent.words)}”, but none of my rules understands it, so it changes "
        f"nothing. I am {_what_i_am()}"
    )


def _quoted(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= 160 else line[:157] + "..."


_DOING: Final[Mapping[Want, Doing]] = {
    Want.STATUS: _status,
    Want.PAUSE: _pause,
    Want.RESUME: _resume,
    Want.STOP: _stop,
    Want.SKIP: _skip,
    Want.RENAME: _rename,
    Want.TESTS: _tests,
    Want.DIFF: _diff,
    Want.SHOW: _show,
    Want.EXPLAIN: _explain,
    Want.COMMIT: _commit,
    Want.SLOWER: _pace(2.0),
    Want.FASTER: _pace(0.5),
    Want.ROUNDING: _rounding,
    Want.HELP: _help,
    Want.GREETING: _greeting,
    Want.NOT_TO: _not_to,
    Want.UNKNOWN: _unknown,
}
