"""Koji: reads what changed since the first commit, and remarks on it with file and line."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from demo import lint
from demo.goal import Goal
from demo.lint import Remark
from demo.role import Role

if TYPE_CHECKING:
    from demo.worker import Worker

EACH = 6
"""Remarks that are written out in one message."""


class Reviewer(Role):
    phase: ClassVar[str] = "reviewing"

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._known: dict[tuple[str, str, str], Remark] = {}
        self._settled: list[Remark] = []
        self._files: list[str] = []
        self._seen = ""
        self._reviewed = 0
        self._judged = ""

    def work(self) -> str:
        worker, shop = self.worker, self.shop
        shop.update()
        self._seen = shop.main()
        self._files = [file for file in shop.git("ls-files", "*.py").splitlines() if "/" in file]
        while self._files:
            file = self._files.pop(0)
            if file.startswith("teashop/"):
                goal = Goal(f"review {file}", "read", "")
                worker.pursue(goal, lambda file=file: self._file(file))  # type: ignore[misc]
        worker.pursue(Goal("review what has changed", "diff"), self._whole_diff)
        self._report()
        while self.main_moved(self._seen):
            for short, author, subject in self._fresh():
                goal = Goal(f"review {short} {subject}", author)
                worker.pursue(goal, lambda s=short, t=subject: self._commit(s, t))  # type: ignore[misc]
        worker.pursue(Goal("write REVIEW.md"), self._write)
        summary = (
            f"{self._reviewed} commits reviewed, {len(self._known)} remarks open, "
            f"{len(self._settled)} settled"
        )
        if worker.takes_turns:
            worker.pursue(Goal("run the suite for the verdict", "run tests"), self._judge)
            summary = f"{self._judged}; {len(self._known)} remarks open"
        worker.say(f"That was my list: **{summary}**.")
        return summary

    def _judge(self) -> None:
        """In a pipeline: what does not pass goes back."""
        with self.worker.step("run tests") as step:
            result = self.shop.run_tests()
            step.ok, step.summary = not result.failing, str(result)
            self.worker.terminal.output(result.output, last=6)
        self.verdict = "changes_requested" if result.failing else "approved"
        named = ", ".join(result.failing[:EACH])
        self._judged = f"Not yet: {result}, {named}" if result.failing else f"Approved: {result}"

    def left(self) -> list[str]:
        files = [f"review {file}" for file in self._files if file.startswith("teashop/")]
        span = f"{self._seen}..main" if self._seen else "main..main"
        commits = [f"review {short} {subject}" for short, _, subject in self.shop.log(span)]
        return [*files, *commits, "write REVIEW.md"]

    def _fresh(self) -> list[tuple[str, str, str]]:
        """Commits of the others that came since the last look."""
        span, self._seen = f"{self._seen}..main", self.shop.main()
        self.shop.update()
        return [one for one in self.shop.log(span) if one[1] != self.worker.name]

    def _file(self, file: str) -> None:
        with self.worker.step(f"read {file}") as step:
            fresh, _ = self._look(file)
            step.summary = f"{len(fresh)} remarks"
            for remark in fresh:
                self.worker.terminal.note(f"  {remark.file}:{remark.line} {remark.text}")

    def _look(self, file: str) -> tuple[list[Remark], list[Remark]]:
        """Remarks on a file that are new, and those that are settled, since it was looked at last."""
        path = self.shop.folder / file
        found = lint.look(file, path.read_text(encoding="utf-8")) if path.exists() else []
        now = {remark.key: remark for remark in found}
        fresh = [remark for key, remark in now.items() if key not in self._known]
        settled = [
            remark for key, remark in self._known.items() if remark.file == file and key not in now
        ]
        self._known = {k: r for k, r in self._known.items() if r.file != file} | now
        self._settled += settled
        return fresh, settled

    def _whole_diff(self) -> None:
        with self.worker.step("git diff since the first commit") as step:
            stat = self.shop.diff("--stat", f"{self.shop.first()}..HEAD")
            step.summary = (stat.splitlines() or ["nothing has changed yet"])[-1].strip()
            self.worker.terminal.output(stat)

    def _report(self) -> None:
        remarks = list(self._known.values())
        if not remarks:
            return
        named = next((remark.function for remark in remarks if remark.rule == "name"), "")
        listed = "\n".join(f"- {remark}" for remark in remarks[:EACH])
        more = f"\n- and {len(remarks) - EACH} more" if len(remarks) > EACH else ""
        self.worker.say(f"I have read everything:\n\n{listed}{more}", subject=named)

    def _commit(self, short: str, subject: str) -> None:
        with self.worker.step(f"review {short}: {subject}") as step:
            files = self.shop.git("show", "--name-only", "--format=", short).splitlines()
            self.worker.terminal.diff(self.shop.diff(f"{short}~1", short, lines=30))
            fresh: list[Remark] = []
            settled: list[Remark] = []
            for file in files:
                if file.startswith("teashop/") and file.endswith(".py"):
                    new, old = self._look(file)
                    fresh += new
                    settled += old
            self._reviewed += 1
            step.summary = f"{len(fresh)} new remarks, {len(settled)} settled"
        if fresh or settled:
            lines = [f"- {remark}" for remark in fresh]
            lines += [f"- settled: {remark.text} (`{remark.file}`)" for remark in settled]
            self.worker.say(f"`{short}` {subject}:\n\n" + "\n".join(lines))

    def _write(self) -> None:
        with self.worker.step("write REVIEW.md") as step:
            self.shop.update()
            open_ = "\n".join(f"- [ ] {remark}" for remark in self._known.values())
            done = "\n".join(f"- [x] {remark}" for remark in self._settled)
            self.shop.write("REVIEW.md", f"# Review\n\n{open_}\n{done}\n")
            step.summary = f"{len(self._known)} open, {len(self._settled)} settled"
        with self.worker.step("git commit") as step:
            commit = self.shop.commit("The review, with what is open and what is settled")
            merged = self.shop.deliver()
            step.ok = not merged.conflicts
            step.summary = str(commit or "nothing to commit")
