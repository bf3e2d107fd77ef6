"""Toro: runs the suite again and again, and adds test cases for what must hold of any cart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from demo import properties, source
from demo.goal import Goal
from demo.properties import Property
from demo.role import Role

if TYPE_CHECKING:
    from demo.worker import Worker

SUITE_EVERY = 3


class Tester(Role):
    phase: ClassVar[str] = "testing"
    keeps: ClassVar[tuple[str, ...]] = ("_aside", "_added", "_main")

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._aside: dict[str, str] = {}
        """Properties that do not hold yet, with the reason."""
        self._added: list[str] = []
        self._main = ""

    def work(self) -> str:
        worker = self.worker
        worker.pursue(Goal("run the suite as it is", "tests"), self._suite)
        for number, one in enumerate(properties.TABLE, 1):
            if self._is_there(one):
                continue
            worker.pursue(_goal_of(one), lambda one=one: self._add(one))  # type: ignore[misc]
            if number % SUITE_EVERY == 0:
                worker.pursue(Goal("run the whole suite", "tests"), self._suite)
        if self._aside:
            worker.say(
                f"What does not hold yet:\n\n{self._listed()}\n\nI try again after each commit."
            )
        while self._aside and self.main_moved(self._main):
            worker.pursue(Goal("try again what did not hold", "properties"), self._again)
        worker.pursue(Goal("run the suite once more", "tests"), self._suite)
        result, coverage = self.shop.run_tests(), self.shop.coverage()
        summary = f"{len(self._added)} properties added, {result}, {coverage}"
        rest = f"\n\nThese do not hold:\n\n{self._listed()}" if self._aside else ""
        worker.say(f"That was my list: **{summary}**.{rest}")
        return summary

    def left(self) -> list[str]:
        goals = [_goal_of(one) for one in properties.TABLE if not self._is_there(one)]
        return [goal.title for goal in goals if not self.worker.unwanted(goal)]

    def _is_there(self, one: Property) -> bool:
        return (self.shop.folder / one.file).exists() and one.name not in self._aside

    def _listed(self) -> str:
        return "\n".join(f"- `{name}`: {reason}" for name, reason in self._aside.items())

    def _suite(self) -> None:
        with self.worker.step("run tests") as step:
            self._main = self.shop.main()
            merged = self.shop.update()
            result = self.shop.run_tests()
            step.ok, step.summary = not result.failing, str(result)
            if merged.came:
                step.summary += f", with {merged.came} new commits of the others"
            self.worker.terminal.output(result.output, last=6)
        with self.worker.step("count the lines that the tests run") as step:
            coverage = self.shop.coverage()
            step.summary = str(coverage)
            for file, (ran, total) in coverage.files.items():
                self.worker.terminal.note(f"  {file}: {ran} of {total}")

    def _add(self, one: Property) -> None:
        with self.worker.step(f"write {one.file}") as step:
            self._write(one)
            step.summary = one.about
            self.worker.terminal.diff(self.shop.read(one.file))
        with self.worker.step(f"run {one.module}") as step:
            reason = self._try(one)
            step.ok = reason is None
            step.summary = "holds 200 times" if reason is None else f"does not hold: {reason}"
        if reason is None:
            self._commit([one])

    def _again(self) -> None:
        with self.worker.step("merge main, try again what did not hold") as step:
            self._main = self.shop.main()
            self.shop.update()
            tried = [one for one in properties.TABLE if one.name in self._aside]
            holding = []
            for one in tried:
                self._write(one)
                if self._try(one) is None:
                    holding.append(one)
            step.ok, step.summary = bool(holding), f"{len(holding)} of {len(tried)} hold now"
        if holding:
            self._commit(holding)

    def _write(self, one: Property) -> None:
        self.shop.write(one.file, one.source())
        for old, new in self.shop.renames("HEAD"):
            source.replace_everywhere(self.shop.folder, old, new)

    def _try(self, one: Property) -> str | None:
        """Why it does not hold, None when it does. What does not hold is not kept as a file."""
        result = self.shop.run_tests(one.module)
        self.worker.terminal.output(result.output, last=6)
        if not result.failing:
            return None
        said = re.findall(r"^(\w*Error\b.*|\w+\.\w+\.\w+: .*)$", result.output, re.MULTILINE)
        self._aside[one.name] = (said or ["it fails"])[-1][:200]
        (self.shop.folder / one.file).unlink()
        return self._aside[one.name]

    def _commit(self, holding: list[Property]) -> None:
        with self.worker.step("git commit") as step:
            names = ", ".join(one.name.replace("_", " ") for one in holding)
            commit = self.shop.commit(f"Test that holds of any cart: {names}")
            merged = self.shop.deliver()
            step.ok = not merged.conflicts
            step.summary = f"{commit or 'nothing to commit'}: {names}"
            for one in holding:
                self._aside.pop(one.name, None)
                self._added.append(one.name)


def _goal_of(one: Property) -> Goal:
    return Goal(f"test that {one.name.replace('_', ' ')}", f"{one.about} property")
