"""The loop of a demo agent: goals made of steps, and between any two steps what people say.

Everything goes through agent_hooks.loop, as in anybody's agent. A goal that people change under the
agent's hands is begun again on a clean working copy; one they do not want is left.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from agent_hooks.loop import Agent, Interrupted, Mail, Step, Stopped
from demo import intents, notes, obey
from demo.goal import Again, Goal, Skipped, Terminated
from demo.role import Role
from demo.terminal import Terminal
from demo.workshop import GitFailed, Workshop

LOOK_S = 0.2
ATTEMPTS = 20
STREAM_PIECES = 60
LINGER_PACES = 10
TURN_LINGER_PACES = 3
"""In a pipeline what comes later is read by whoever is next."""
SYSTEM_ID = "system"


class Worker:
    """One run of one agent. `pace_s` is how long a step takes at least."""

    def __init__(
        self, agent: Agent, shop: Workshop, *, name: str, pace_s: float, terminal: Terminal
    ) -> None:
        self.agent = agent
        self.shop = shop
        self.name = name
        self.pace_s = pace_s
        self.terminal = terminal
        self.role: Role | None = None
        self.goal: Goal | None = None
        self.subject = ""
        """The function that "it" means."""
        self.subjects: dict[str, str] = {}
        """The function that each message of ours was about, by message id."""
        self.now = "getting ready"
        self.number = 0
        self.done: list[str] = []
        self.skips: list[list[str]] = []
        self.paused_by = ""
        self.check_every = 0
        self.stop_said: Stopped | None = None
        self.takes_turns = False
        """A hand-over came: this is a pipeline's turn, and nobody works beside us."""
        self.change: type[Skipped | Again] | None = None
        """What the mail that was just read means for the goal under way."""
        self._reached: list[str] = []
        """The titles of goals that were reached."""
        self._behind: Counter[str] = Counter()
        """Those that the process before had reached: passed by, once each."""
        self._back_at = ""
        self._in_step = False
        self._terminated = False
        self._blocking = False

    # --- signals ----------------------------------------------------------------------------------

    def obey_signals(self) -> None:
        """SIGTERM and SIGINT end the run as stopped, at the next moment that leaves nothing half done."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminate)

    def _terminate(self, number: int, _: object) -> None:
        self._terminated = True
        if self._blocking:
            raise Terminated(signal.Signals(number).name)

    @property
    def terminated(self) -> bool:
        """Whether somebody outside wants the end."""
        return self._terminated

    def guard(self) -> None:
        """Obey orders: holds while paused. Raises Stopped, Interrupted, Terminated."""
        if self._terminated:
            raise Terminated
        if self.stop_said is not None:
            raise self.stop_said
        self._blocking = True
        try:
            self.agent.checkpoint()
        finally:
            self._blocking = False

    def breathe(self, seconds: float) -> bool:
        """Let time pass, until there is something to read or to obey: then True. Raises as `guard`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._terminated:
                raise Terminated
            waiting = self.agent.waiting()
            if waiting.stop or waiting.interrupt:
                self.guard()
            if waiting.mail or waiting.paused:
                return True
            time.sleep(min(LOOK_S, left))
        return False

    # --- on hold and back ---------------------------------------------------------------------------

    def note(self) -> None:
        """Write down what another process would need to go on from here."""
        if self.role is None:
            return
        subjects = list(self.subjects.items())[-notes.SUBJECTS_KEPT :]
        notes.write(
            {
                "name": self.name,
                "folder": str(self.shop.folder),
                "branch": self.shop.branch,
                "goal": self.goal.title if self.goal is not None else "",
                "reached": self._reached if self.role.keeps else [],
                "done": self.done[-notes.STEPS_KEPT :],
                "skips": self.skips,
                "pace_s": self.pace_s,
                "check_every": self.check_every,
                "subject": self.subject,
                "subjects": dict(subjects),
                "number": self.number,
                "role": self.role.notes(),
            }
        )

    def restore(self, kept: dict[str, Any]) -> None:
        """Be where the process before was: at the beginning of the goal that it was at."""
        self._reached = list(kept["reached"])
        self._behind = Counter(self._reached)
        self.done, self.skips = list(kept["done"]), list(kept["skips"])
        self.pace_s, self.check_every = float(kept["pace_s"]), int(kept["check_every"])
        self.subject, self.subjects = str(kept["subject"]), dict(kept["subjects"])
        self.number = int(kept["number"])
        if self.role is not None:
            self.role.restore(kept["role"])
        at = f"I go on with: {kept['goal']}." if kept["goal"] else "I go on."
        if kept["work"]:
            at += (
                f" What I had half done is kept as `{str(kept['work'])[:10]}` "
                f"(refs/checkpoints/{kept['branch']}); I begin that once more."
            )
        self._back_at = at

    def come_back(self) -> None:
        """Tell people, if this is not the first process."""
        if self._back_at:
            self.say(f"I was on hold and am back, after step {self.number}. {self._back_at}")
        self.note()

    # --- goals and steps --------------------------------------------------------------------------

    def unwanted(self, goal: Goal) -> bool:
        """Whether somebody asked to skip it."""
        return any(goal.meant_by(words) for words in self.skips)

    def pursue(self, goal: Goal, work: Callable[[], None]) -> bool:
        """Work on a goal until it is done; False when people did not want it. Raises Stopped."""
        if self._behind[goal.title] > 0:
            self._behind[goal.title] -= 1
            return True
        for _ in range(ATTEMPTS):
            if self.unwanted(goal):
                return False
            self.goal, self.subject = goal, goal.subject or self.subject
            self.note()
            try:
                work()
                self.goal = None
                self._reached.append(goal.title)
                self.note()
                self.attend(task_end=True)
                return True
            except Skipped:
                self.shop.restore()
                self.terminal.note(f"left: {goal.title}")
                return False
            except Again:
                self.shop.restore()
            except Interrupted as cut:
                self.shop.restore()
                if self._cut(cut) is Skipped:
                    return False
            finally:
                self.goal = None
        return False

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """A step: first what people said, then the work, then the rest of its time."""
        self.attend()
        with self.bare_step(name) as step:
            self._in_step = True
            yield step
            self.breathe(self.pace_s)
        self._in_step = False
        self._check_in()
        self.attend()

    @contextlib.contextmanager
    def bare_step(self, name: str) -> Iterator[Step]:
        """A step without reading mail in between, and without waiting."""
        with self.agent.step(name) as step:
            self.number, self.now = step.number, name
            self.terminal.step(step.number, name)
            yield step
            self.terminal.summary(step.summary, ok=step.ok is not False)
        self.done.append(name)
        self.note()

    @contextlib.contextmanager
    def aside(self, name: str) -> Iterator[Step]:
        """A step that people asked for, beside what the agent is at."""
        before = self.now
        try:
            with self.bare_step(name) as step:
                yield step
        finally:
            self.now = before

    def idle(self, seconds: float) -> bool:
        """Wait for people; True when somebody wrote. Words that cut a step find none to cut."""
        deadline = time.monotonic() + seconds
        wrote = False
        while not wrote and (left := deadline - time.monotonic()) > 0:
            try:
                self.guard()
                self.breathe(left)
                wrote = self.attend(task_end=True)
            except Interrupted as cut:
                self._cut(cut)
                wrote = True
        return wrote

    def _cut(self, cut: Interrupted) -> type[Skipped | Again] | None:
        """The step was cut: say so, and read why; what that means for the goal."""
        if self._in_step:
            self.say(f"I left the step `{self.now}`; nothing of it is kept.")
        self._in_step = False
        found = intents.decide(cut.reason) if cut.reason else []
        for intent in found:
            if intent.want is not intents.Want.UNKNOWN:
                self.say(obey.one(self, intent, None, cut.by or "somebody"))
        meant, self.change = self.change, None
        try:
            if not self.attend(task_end=True) and not found:
                self.breathe(3 * self.pace_s)
                self.attend(task_end=True)
        except (Skipped, Again) as change:
            meant = type(change)
        except Interrupted:
            pass  # said again while we were already out of the step
        self._raise_stop()
        return meant

    def _check_in(self) -> None:
        if self.check_every and self.number % self.check_every == 0:
            self.say(f"Check-in. {obey.status_of(self)}")

    # --- what people say --------------------------------------------------------------------------

    def attend(self, *, task_end: bool = False) -> bool:
        """Obey orders, read what people sent, and answer; True when there was something.

        Raises Skipped or Again when that changes the goal under way; Stopped, Interrupted, Terminated.
        """
        self.guard()
        read = self._read_all(task_end=task_end)
        if self.paused_by:
            read = True
            self._hold()
        self._raise_stop()
        change, self.change = self.change, None
        if change is not None and self.goal is not None:
            raise change
        return read

    def _read_all(self, *, task_end: bool) -> bool:
        mails = self.agent.drain(task_end=task_end)
        for mail in mails:
            self.read(mail)
        return bool(mails)

    def _hold(self) -> None:
        """Words said pause: until words or an order say otherwise."""
        resumes = self.agent.waiting().resumes
        self.agent.status("paused", detail=f"{self.paused_by} asked for a pause.")
        while self.paused_by and self.stop_said is None:
            self.guard()
            if self.agent.waiting().resumes > resumes:
                self.paused_by = ""
                break
            self._read_all(task_end=True)
            self.breathe(LOOK_S)
        self.report_working()

    def report_working(self) -> None:
        """Say that the work goes on."""
        phase = self.role.phase if self.role is not None else "thinking"
        self.agent.status("working", phase=phase)

    def _raise_stop(self) -> None:
        if self.stop_said is not None:
            raise self.stop_said

    def read(self, mail: Mail) -> None:
        """One thing that was sent: decided upon, confirmed with the very text, acted on, answered."""
        if mail.kind == "order":
            self.agent.confirm([mail.id], text=mail.envelope, step=self.number)
            self.check_every = int(mail.body.get("every_steps") or 0)
            return
        if mail.kind == "answer":
            self.agent.confirm([mail.id], text=mail.envelope, step=self.number)
            reply = self.role.answered(mail) if self.role is not None else None
            if reply:
                self.say(reply)
            return
        if mail.author_id == SYSTEM_ID:
            self._take_over(mail)
            return
        found = intents.decide(mail.envelope)
        self.agent.confirm([mail.id], text=mail.envelope, step=self.number)
        self.terminal.person(mail.author, mail.text)
        self.say("\n\n".join(self._replies(found, mail, mail.author)), reply_to=mail.id)

    def _replies(self, found: list[intents.Intent], mail: Mail, person: str) -> list[str]:
        replies: list[str] = []
        for intent in found:
            try:
                replies.append(obey.one(self, intent, mail, person))
            except GitFailed as error:
                replies.append(f"Git would not let me:\n\n```text\n{error}\n```")
        return replies

    def _take_over(self, mail: Mail) -> None:
        """The hand-over of a pipeline: what a person says in it is obeyed, the rest is what was done."""
        self.agent.confirm([mail.id], text=mail.envelope, step=self.number)
        self.takes_turns = True
        self.terminal.note("took over: " + mail.text.partition("\n")[0])
        replies = ["I have read the hand-over, and begin."]
        person, note = intents.note_in(mail.text)
        if note:
            replies += self._replies(intents.decide(note), mail, person)
        self.say("\n\n".join(replies), reply_to=mail.id)
        self.note()

    def say(self, text: str, *, reply_to: str | None = None, subject: str = "") -> None:
        """Say something, a few words at a time; cut short when somebody wants to interrupt or stop."""
        words = re.findall(r"\S+\s*|\s+", text)
        size = max(2, len(words) // STREAM_PIECES)
        with self.agent.stream(reply_to=reply_to) as out:
            self.subjects[out.id] = subject or self.subject
            for number, start in enumerate(range(0, len(words), size)):
                out.write("".join(words[start : start + size]))
                if number % 8 == 7:
                    waiting = self.agent.waiting()
                    if waiting.stop or waiting.interrupt or self._terminated:
                        out.write(" ...")
                        break
                time.sleep(min(0.04, self.pace_s / 75))
        self.terminal.said(text)

    # --- the end ----------------------------------------------------------------------------------

    def farewell(self, summary: str) -> None:
        """Stay a little for what people still want to say, then end the run through the barrier."""
        self.now = "done; listening"
        paces = TURN_LINGER_PACES if self.takes_turns else LINGER_PACES
        verdict = self.role.verdict if self.role is not None else None
        while True:
            while self.idle(paces * self.pace_s):
                pass
            try:
                unread = self.agent.finish(summary, verdict=verdict)
            except Interrupted as cut:
                self._cut(cut)
                continue
            if not unread:
                return
            for mail in unread:
                self.read(mail)
            self.change = None
            self._raise_stop()
