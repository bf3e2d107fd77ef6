"""Nori: fixes the failing tests one by one, and asks people what no test can say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from agent_hooks.loop import Mail, Step
from demo import fixes, intents, source
from demo.fixes import Fix
from demo.goal import Again, Goal, Skipped
from demo.role import Role

if TYPE_CHECKING:
    from demo.worker import Worker

ASK_AFTER = 4
"""Fixes before the question, so that there is something to see first."""
LOOK_AGAIN_S = 15.0
QUESTION = (
    "Tax comes out as 7.21 cents, and has to become whole cents. Shall the cart **round each line**, "
    "or only **round the total**? For one Rooibos and one Assam that is 37 or 38 cents."
)
OPTIONS = tuple({"value": value, "label": label} for value, label in fixes.ROUNDING.items())
DECIDING = Goal("round the tax to whole cents", "question rounding", "tax")

Stepping = Callable[[str], AbstractContextManager[Step]]


class Coder(Role):
    phase: ClassVar[str] = "coding"
    keeps: ClassVar[tuple[str, ...]] = (
        "_failing", "_begun_with", "_given_up", "_fixed", "_rounding", "_decided_by", "_unclear",
    )  # fmt: skip

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._failing: list[str] = []
        self._begun_with = 0
        self._given_up: set[str] = set()
        self._fixed = 0
        self._rounding = ""
        """What was decided, "line" or "total"."""
        self._decided_by = ""
        self._implemented = False
        self._unclear = 0
        self._waiting = False
        self._answer: Mail | None = None

    def work(self) -> str:
        worker = self.worker
        worker.pursue(Goal("read the shop"), self._read_shop)
        while (goal := self._next()) is not None:
            if goal is DECIDING:
                done = worker.pursue(goal, self._decide)
            else:
                done = worker.pursue(goal, lambda goal=goal: self._fix(goal))  # type: ignore[misc]
            if not done:
                self._given_up.add(goal.title)
        for fix in fixes.POLISH:
            goal = Goal(f"{_file(fix)}: {fix.why}", "polish docstring print", fix.function)
            worker.pursue(goal, lambda fix=fix: self._polish(fix))  # type: ignore[misc]
        result = self.shop.run_tests()
        summary = f"{self._fixed} fixes, {result} (at the start {self._begun_with} failed)"
        worker.say(f"That was my list: **{summary}**.{self._not_done()}")
        return summary

    def left(self) -> list[str]:
        return [goal.title for goal in self._open_goals()]

    # --- the list ---------------------------------------------------------------------------------

    def _open_goals(self) -> list[Goal]:
        order = {fix.test: number for number, fix in enumerate(fixes.TABLE)}
        tests = sorted(self._failing, key=lambda test: order.get(_last(test), len(order)))
        goals = [self._goal_of(test) for test in tests if _last(test) != fixes.TAX_TEST]
        if any(_last(test) == fixes.TAX_TEST for test in self._failing):
            goals.insert(max(0, ASK_AFTER - self._fixed), DECIDING)
        return [
            goal
            for goal in goals
            if goal.title not in self._given_up and not self.worker.unwanted(goal)
        ]

    def _goal_of(self, test: str) -> Goal:
        fix = next((fix for fix in fixes.TABLE if fix.test == _last(test)), None)
        about = f"{test} {fix.file} {fix.why}" if fix else test
        subject = fixes.renamed(fix.function, self.shop.renames("HEAD")) if fix else ""
        return Goal(f"fix {_last(test)} ({test.split('.')[1]})", about, subject)

    def _next(self) -> Goal | None:
        goals = self._open_goals()
        return goals[0] if goals else None

    def _not_done(self) -> str:
        failing = self.shop.run_tests().failing
        if not failing:
            return " `main` is green."
        listed = "\n".join(f"- `{test}`" for test in failing)
        return f"\n\nNot done, because you skipped it or I have no rule for it:\n\n{listed}"

    # --- fixing -----------------------------------------------------------------------------------

    def _read_shop(self) -> None:
        worker = self.worker
        with worker.step("read the shop") as step:
            self.shop.update()
            functions = source.functions(self.shop.folder)
            step.summary = (
                f"{len(functions)} functions in {len({one.file for one in functions})} files"
            )
        self._run_tests("run tests")
        self._begun_with = len(self._failing)
        vague = source.find(self.shop.folder, "calc")
        hint = f" `{vague.title}` says too little; what shall I call it?" if vague else ""
        count = len(self._failing)
        fail = (
            "1 test fails. I take it on."
            if count == 1
            else f"{count} tests fail. I take them one by one."
        )
        worker.say(
            f"{fail}{hint}",
            subject=vague.name if vague else "",
        )

    def _run_tests(self, name: str) -> None:
        with self.worker.step(name) as step:
            result = self.shop.run_tests()
            self._failing = list(result.failing)
            step.ok, step.summary = not result.failing, str(result)
            self.worker.terminal.output(result.output, last=4)

    def _fix(self, goal: Goal) -> None:
        worker, shop = self.worker, self.shop
        test = next(one for one in self._failing if self._goal_of(one).title == goal.title)
        with worker.step(f"run {_last(test)}") as step:
            alone = shop.run_tests(test)
            step.ok, step.summary = not alone.failing, _reason(alone.output) or str(alone)
            worker.terminal.output(alone.output)
        if not alone.failing:
            self._failing.remove(test)  # another fix, or another agent, has done it already
            return
        fix = fixes.for_test(test, shop.folder, shop.renames("HEAD"))
        if fix is None:
            self._given_up.add(goal.title)
            worker.say(
                f"`{_last(test)}` fails and I have no rule for it: `{_reason(alone.output)}`."
            )
            return
        self._read(fix)
        self._edit(fix)
        with worker.step("run tests") as step:
            result = shop.run_tests()
            worse = set(result.failing) - set(self._failing)
            helped = test not in result.failing and not worse
            step.ok, step.summary = helped, str(result)
            worker.terminal.output(result.output, last=4)
        if not helped:
            shop.restore()
            self._given_up.add(goal.title)
            reason = f"`{min(worse)}` fails then" if worse else "the test still fails"
            worker.say(f"My fix for `{_last(test)}` does not do: {reason}. I have taken it back.")
            return
        self._failing = list(result.failing)
        self._fixed += 1
        self._commit(fix.why)

    def _read(self, fix: Fix) -> None:
        with self.worker.step(f"read {_file(fix)}") as step:
            function = source.find(self.shop.folder, fix.function)
            if function is not None:
                size = function.end - function.line + 1
                step.summary = f"{function.title} at {function.place}, {size} lines"
                self.worker.terminal.output(function.text)

    def _edit(self, fix: Fix) -> None:
        worker, shop = self.worker, self.shop
        with worker.step(f"edit {_file(fix)}: {fix.why}") as step:
            # a rename may have come between reading and editing
            fresh = fixes.fitted(fix, shop.folder, shop.renames("HEAD"))
            if fresh is None:
                raise Again
            fixes.apply(fresh, shop.folder)
            step.summary = shop.diff("--shortstat", "HEAD").strip()
            worker.terminal.diff(shop.diff("HEAD"))

    def _commit(self, message: str) -> None:
        with self.worker.step("git commit") as step:
            commit = self.shop.commit(message)
            merged = self.shop.deliver()
            step.ok = not merged.conflicts
            step.summary = f"{commit or 'nothing to commit'}: {message}"
            if merged.conflicts:
                step.summary += f"; not in main, conflicts in {', '.join(merged.conflicts)}"
            elif merged.came:
                step.summary += f"; merged {merged.came} commits of the others"

    def _polish(self, fix: Fix) -> None:
        fresh = fixes.fitted(fix, self.shop.folder, self.shop.renames("HEAD"))
        if fresh is None:
            return
        self._edit(fresh)
        self._run_tests("run tests")
        self._commit(fix.why)

    # --- the question -----------------------------------------------------------------------------

    def _decide(self) -> None:
        if not self._rounding:
            self._ask()
        if self._rounding:
            said = self._implement(self.worker.step)
            self.worker.say(said)

    def _ask(self) -> None:
        """Ask until the answer is clear. People may talk about other things meanwhile."""
        worker, reason = self.worker, ""
        worker.now = "waiting for an answer"
        while not self._rounding:
            handle = f"rounding-{self._unclear + 1}"
            answer = self._await(handle, f"{reason}{QUESTION}")
            if answer is None:
                continue
            value, text, by = answer
            if value is None and text is None:
                raise Skipped  # it was taken back
            choice = intents.rounding_of(value, text)
            if choice is not None:
                self._rounding, self._decided_by = choice, by
            else:
                self._unclear += 1
                reason = f"Thank you, {by}, but I could not tell from “{text or value}” which one. "
        worker.report_working()

    def _await(self, handle: str, text: str) -> tuple[str | None, str | None, str] | None:
        """(value, text, who) of the answer; None when somebody has decided in another way."""
        worker = self.worker
        self._answer, self._waiting, tell = None, True, True
        try:
            while not self._rounding:
                found = worker.agent.ask(handle, text, options=OPTIONS, wait_s=0.0)
                if found is not None:
                    return found.value, found.text, found.by
                if tell:
                    worker.agent.status("waiting", detail="A question is open.")
                tell = worker.breathe(LOOK_AGAIN_S)
                tell = worker.attend(task_end=True) or tell
                if (answer := self._take_answer()) is not None:
                    return answer
            return None
        finally:
            self._waiting = False

    def _take_answer(self) -> tuple[str | None, str | None, str] | None:
        mail, self._answer = self._answer, None
        return (
            None if mail is None else (mail.body.get("value"), mail.body.get("text"), mail.author)
        )

    def answered(self, mail: Mail) -> str | None:
        if self._waiting:
            self._answer = mail
            return None
        choice = intents.rounding_of(mail.body.get("value"), mail.body.get("text"))
        if choice is None:
            return f"I could not tell from “{mail.text}” which rounding you mean, so it stays as it is."
        return self.round_as(choice, mail.author)

    def round_as(self, choice: str, person: str) -> str:
        worker = self.worker
        if self._waiting:
            self._rounding, self._decided_by = choice, person
            return (
                f"I take that for the decision: {fixes.ROUNDING[choice]}. The question above stays open; "
                "answering it otherwise changes it again."
            )
        self.shop.restore()
        if worker.goal is not None:
            worker.change = worker.change or Again
        self._rounding, self._decided_by = choice, person
        return self._implement(worker.aside)

    def _implement(self, stepping: Stepping) -> str:
        worker, shop, wording = self.worker, self.shop, fixes.ROUNDING[self._rounding]
        rounds = wording.replace("round", "rounds", 1)
        with stepping(f"edit tax.py: {wording}") as step:
            try:
                fixes.round_tax(self._rounding, shop.folder, shop.renames("HEAD"))
            except fixes.DoesNotFit as error:
                step.ok, step.summary = False, str(error)
                shop.restore()
                self._given_up.add(DECIDING.title)
                return f"I could not {wording}: {error}."
            diff = shop.diff("HEAD", "--", "teashop")
            worker.terminal.diff(diff)
            step.summary = shop.diff("--shortstat", "HEAD").strip() or "it is so already"
        with stepping("run tests") as step:
            result = shop.run_tests()
            step.summary = str(result)
            bad = [test for test in result.failing if "rounding" in test or "test_tax" in test]
            step.ok = not bad
            worker.terminal.output(result.output, last=4)
        if bad:
            shop.restore()
            self._given_up.add(DECIDING.title)
            return f"I tried to {wording}, but `{bad[0]}` fails then; I have taken it back."
        self._failing = list(result.failing)
        with stepping("git commit") as step:
            title = wording[0].upper() + wording[1:]
            commit = shop.commit(f"{title}, as {self._decided_by} decided")
            merged = shop.deliver()
            step.ok = not merged.conflicts
            step.summary = f"{commit or 'nothing to commit'}: {title}"
        if commit is None:
            return f"The cart {rounds} already."
        return (
            f"The cart **{rounds}** now, as {self._decided_by} decided: {result}, commit `{commit}`, "
            f"held by `tests/test_rounding.py`.\n\n```diff\n{diff}\n```"
        )


def _last(test: str) -> str:
    return test.rpartition(".")[2]


def _file(fix: Fix) -> str:
    return Path(fix.file).name


def _reason(output: str) -> str:
    """The line that says why a test failed: `AssertionError: 480 != 1440`."""
    lines = [line for line in output.splitlines() if "Error" in line and not line.startswith(" ")]
    said = [line for line in lines if ": " in line and not line.startswith(("ERROR:", "FAIL:"))]
    return (said or [""])[-1][:300]
