"""Miso: reads the code, writes a plan from what is really there, and ticks off what gets done."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, ClassVar

from demo import source
from demo.goal import Goal
from demo.role import Role

if TYPE_CHECKING:
    from demo.worker import Worker


class Architect(Role):
    phase: ClassVar[str] = "thinking"
    keeps: ClassVar[tuple[str, ...]] = ("_modules", "_untested", "_tasks", "_failing", "_main")

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._modules: dict[str, str] = {}
        self._files: list[str] = []
        self._untested: list[str] = []
        self._tasks: list[str] = []
        """Tests that failed when the plan was made."""
        self._failing: set[str] = set()
        self._main = ""
        self._planned = False

    def work(self) -> str:
        worker, shop = self.worker, self.shop
        shop.update()
        self._files = shop.git("ls-files", "teashop/*.py").splitlines()
        while self._files:
            file = self._files.pop(0)
            worker.pursue(Goal(f"read {file}"), lambda file=file: self._read(file))  # type: ignore[misc]
        worker.pursue(Goal("find functions without a test"), self._find_untested)
        worker.pursue(Goal("find out what fails", "run tests"), self._find_failing)
        worker.pursue(Goal("write PLAN.md"), self._write)
        while self._failing and self.main_moved(self._main):
            worker.pursue(Goal("tick off PLAN.md", "run tests"), self._follow)
        done = len(self._tasks) - len(self._failing & set(self._tasks))
        summary = f"{done} of {len(self._tasks)} points of the plan are done"
        if worker.takes_turns:
            summary = f"PLAN.md is on main: {len(self._tasks)} points for the coder"
        worker.say(f"That was my list: **{summary}**.")
        return summary

    def left(self) -> list[str]:
        reading = [f"read {file}" for file in self._files]
        writing = [] if self._planned else ["write PLAN.md"]
        return [
            *reading,
            *writing,
            *(f"see to it: {_short(test)}" for test in sorted(self._failing)),
        ]

    def _read(self, file: str) -> None:
        with self.worker.step(f"read {file}") as step:
            text = self.shop.read(file)
            tree = ast.parse(text)
            uses = sorted(
                node.module.removeprefix("teashop.")
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("teashop.")
                and node.module
            )  # fmt: skip
            about = (ast.get_docstring(tree) or "(does not say)").splitlines()[0]
            count = sum(one.file == file for one in source.functions(self.shop.folder))
            uses_text = f", uses {', '.join(uses)}" if uses else ""
            self._modules[file] = f"{count} functions{uses_text}. {about}"
            step.summary = self._modules[file]

    def _find_untested(self) -> None:
        with self.worker.step("find functions without a test") as step:
            used = source.words_of(self.shop.folder, "tests")
            self._untested = [
                f"`{one.title}` at `{one.place}`"
                for one in source.functions(self.shop.folder)
                if one.name not in used and not one.name.startswith("__")
            ]
            step.summary = f"{len(self._untested)} functions that no test names"
            for line in self._untested:
                self.worker.terminal.note(f"  {line}")

    def _find_failing(self) -> None:
        with self.worker.step("run tests") as step:
            self._main = self.shop.main()
            result = self.shop.run_tests()
            self._failing = set(result.failing)
            self._tasks = list(result.failing)
            step.ok, step.summary = not result.failing, str(result)
            self.worker.terminal.output(result.output, last=6)

    def _write(self) -> None:
        with self.worker.step("write PLAN.md") as step:
            self.shop.write("PLAN.md", self._plan())
            step.summary = f"{len(self._tasks)} points"
        self._commit("The plan, from what is there and what fails")
        self._planned = True
        per_file: dict[str, int] = {}
        for test in self._tasks:
            per_file[test.split(".")[1]] = per_file.get(test.split(".")[1], 0) + 1
        rows = "\n".join(f"| `{name}` | {count} |" for name, count in sorted(per_file.items()))
        follows = "Nori takes them one by one; I tick them off."
        if self.worker.takes_turns:
            follows = "They are Nori's, who comes next."
        self.worker.say(
            f"The plan is in `PLAN.md`: {len(self._tasks)} failing tests, "
            f"{len(self._untested)} functions that no test names.\n\n"
            f"| tests of | fail |\n|---|---|\n{rows}\n\n{follows}"
        )

    def _plan(self) -> str:
        modules = "\n".join(f"- `{file}`: {said}" for file, said in self._modules.items())
        tasks = "\n".join(
            f"- [{' ' if test in self._failing else 'x'}] {_short(test)}" for test in self._tasks
        )
        untested = "\n".join(f"- {line}" for line in self._untested) or "None."
        return (
            f"# Plan\n\n## What is there\n\n{modules}\n\n## To do\n\n{tasks}\n\n"
            f"## Functions that no test names\n\n{untested}\n"
        )

    def _follow(self) -> None:
        with self.worker.step("run tests on what came in") as step:
            self._main = self.shop.main()
            merged = self.shop.update()
            result = self.shop.run_tests()
            before, self._failing = self._failing, set(result.failing)
            done = sorted(before - self._failing)
            step.ok = not self._failing - before
            step.summary = f"{merged.came} new commits, {result}, {len(done)} points done"
        if done:
            with self.worker.step("tick off PLAN.md") as step:
                self.shop.write("PLAN.md", self._plan())
                step.summary = ", ".join(_short(test) for test in done)
            self._commit(f"{len(self._tasks) - len(self._failing)} points of the plan are done")

    def _commit(self, message: str) -> None:
        with self.worker.step("git commit") as step:
            commit = self.shop.commit(message)
            merged = self.shop.deliver()
            self._main = self.shop.main()
            step.ok = not merged.conflicts
            step.summary = str(commit or "nothing to commit")


def _short(test: str) -> str:
    return test.rpartition(".")[2].removeprefix("test_").replace("_", " ")
