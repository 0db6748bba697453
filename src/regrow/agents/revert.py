"""An agent that needs no model: finds the commit that brought a bug in, by bisection, and takes it back."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from regrow.agents.base import Event, Outcome, Span, Task
from regrow.git import EXECUTABLE, REGULAR, Commit, Difference, Repository
from regrow.sandboxes.base import Sandbox
from regrow.verification import Conditions, Finding, reproduce
from regrow.workspaces import Workspaces

_RUN_S = 120.0
_ABSENT_MODE = "000000"
# So many commits next to untestable ones are tried one after the other.
_CANDIDATES = 5


class RevertAgent:
    """Bisects the spans of a task with its reproduction and reverts the culprit in the workspace.

    Every run happens in the box, in a fresh export of the commit. A run that ends with 125 (or cannot run at an older
    commit: 126, 127) says nothing, and a neighbour is tried. A run over its time counts as failing. What comes out is
    proved: with the revert the reproduction must pass.

    Args:
        repository: where the commits are.
        workspaces: where the exports are made; the task's workspace is one of them.
        conditions: how the reproduction runs; the task's `readable` and `env` are added.
    """

    name = "revert"

    def __init__(
        self,
        repository: Repository,
        workspaces: Workspaces,
        conditions: Conditions | None = None,
    ) -> None:
        self._repository = repository
        self._workspaces = workspaces
        self._conditions = Conditions(timeout_s=_RUN_S) if conditions is None else conditions

    async def repair(self, task: Task, sandbox: Sandbox, tell: Callable[[Event], None]) -> Outcome:
        """Find and revert; arguments, result and errors as in `regrow.agents.base`."""
        if task.goal == "reproduce" or not task.reproduction.strip():
            return Outcome(False, "no reproduction is known, so no commit can be tested", "no_reproduction")
        workspace = await self._workspaces.of(task.workspace)
        search = _Search(
            self._repository,
            self._workspaces,
            workspace.job,
            task=task,
            sandbox=sandbox,
            tell=tell,
            conditions=self._conditions,
        )
        try:
            async with asyncio.timeout(task.timeout_s):
                return await self._repair(task, workspace.commit, search, tell)
        except TimeoutError:
            text = f"the search was not over after {task.timeout_s:g} s"
            return Outcome(False, text, "timeout", log=search.log())

    async def _repair(self, task: Task, base: str, search: _Search, tell: Callable[[Event], None]) -> Outcome:
        def outcome(reason: str, summary: str, culprit: Commit | None = None) -> Outcome:
            return Outcome(
                not reason,
                summary,
                reason,
                culprit.id if culprit else "",
                culprit.subject if culprit else "",
                log=search.log(),
            )

        if not task.spans:
            return outcome("no_culprit", "there is no earlier good release to compare with")
        candidates: list[Commit] = []
        for span in task.spans:
            tell(Event("running", f"reproducing on {await self._repository.short(span.bad)}"))
            finding = await search.test(span.bad)
            if finding == "passes":
                return outcome("not_reproduced", "the reproduction passes, so the bug is not there")
            if finding in ("skip", "cannot_run"):
                return outcome("no_reproduction", f"the reproduction cannot run: {search.last_line(span.bad)}")
            candidates = await search.culprits(span)
            if candidates:
                break
        if not candidates:
            return outcome("no_culprit", "the reproduction fails at every earlier good release as well")

        conflicting: Commit | None = None
        for commit in candidates[:_CANDIDATES]:
            short = await self._repository.short(commit.id)
            tell(Event("editing", f"taking back {short} {commit.subject}"))
            merged = await self._repository.revert_tree(base, commit.id)
            if merged.conflicts:
                conflicting = conflicting or commit
                continue
            if merged.tree == await self._repository.tree(base):
                continue  # it was taken back before
            tell(Event("running", f"reproducing with {short} taken back"))
            if await search.test(merged.tree) != "passes":
                continue
            changed = await self._repository.diff(base, merged.tree)
            modes = (REGULAR, EXECUTABLE, _ABSENT_MODE)
            if any(d.old_mode not in modes or d.new_mode not in modes for d in changed):
                conflicting = conflicting or commit
                continue
            source = await self._workspaces.fresh(search.job, "revert", merged.tree)
            try:
                await asyncio.to_thread(_apply, changed, source, task.workspace)
            finally:
                await self._workspaces.drop(source)
            return outcome("", f"took back {short} {commit.subject}", commit)
        if conflicting is not None:
            text = f"{await self._repository.short(conflicting.id)} cannot be taken back without conflicts"
            return outcome("conflict", text, conflicting)
        return outcome("no_culprit", "the bug stays when the commit it seems to come from is taken back", candidates[0])


class _Search:
    """The trials of one repair; each commit is tried once."""

    def __init__(
        self,
        repository: Repository,
        workspaces: Workspaces,
        job: int,
        *,
        task: Task,
        sandbox: Sandbox,
        tell: Callable[[Event], None],
        conditions: Conditions,
    ) -> None:
        self.job = job
        self._repository = repository
        self._workspaces = workspaces
        self._sandbox = sandbox
        self._script = task.reproduction
        self._tell = tell
        self._conditions = replace(
            conditions,
            readable=(*conditions.readable, *task.readable),
            env={**conditions.env, **dict(task.env)},
        )
        self._deadline = time.monotonic() + task.timeout_s
        self._known: dict[str, Finding] = {}
        self._outputs: dict[str, str] = {}

    def log(self) -> str:
        """What every trial said."""
        return "\n".join(f"== {name}: {self._known.get(name, '')}\n{text}" for name, text in self._outputs.items())

    def last_line(self, name: str) -> str:
        """The last line that the trial of a commit printed."""
        lines = [line.strip() for line in self._outputs.get(name, "").splitlines() if line.strip()]
        return lines[-1] if lines else "it printed nothing"

    async def test(self, name: str) -> Finding:
        """Run the reproduction on a commit or tree; a run that hangs counts as failing."""
        if name not in self._known:
            export = await self._workspaces.fresh(self.job, "bisect", name)
            try:
                trial = await reproduce(
                    self._sandbox,
                    export,
                    self._script,
                    self._conditions,
                    timeout_s=max(0.1, self._deadline - time.monotonic()),
                )
            finally:
                await self._workspaces.drop(export)
            self._known[name] = trial.finding
            self._outputs[name] = trial.output
        return self._known[name]

    async def culprits(self, span: Span) -> list[Commit]:
        """The commits one of which brought the bug in, the likeliest first; one where every commit could be tested.

        Empty when the reproduction does not pass at the good end.
        """
        good = span.good
        if not await self._repository.is_ancestor(good, span.bad):
            # Two lines of development: the search runs from where they parted, if that was good.
            common = await self._repository.merge_base(good, span.bad)
            if common is None:
                return []
            good = common
        self._tell(Event("running", f"reproducing on {await self._repository.short(good)}"))
        if await self.test(good) != "passes":
            return []
        line = await self._repository.commits_between(good, span.bad, first_parent=True)
        low, high = -1, len(line) - 1  # line[low] passes (-1 is `good`), line[high] fails
        skipped: set[int] = set()
        tried = 0
        while open_ones := [n for n in range(low + 1, high) if n not in skipped]:
            middle = (low + high) / 2
            here = min(open_ones, key=lambda n: abs(n - middle))
            commit = line[here]
            tried += 1
            # The most it takes from here, for the story; it shrinks with luck and grows with skips.
            total = tried + len(open_ones).bit_length() - 1
            short = await self._repository.short(commit.id)
            self._tell(Event("running", f"testing commit {tried} of {total} ({short} {commit.subject})"))
            finding = await self.test(commit.id)
            if finding == "passes":
                low = here
            elif finding in ("fails", "hangs"):
                high = here
            else:
                skipped.add(here)
        return [line[n] for n in range(high, low, -1)]


def _apply(changed: list[Difference], source: Path, workspace: Path) -> None:
    """Bring regular files of a workspace to what they are in an export, without following a link."""
    for difference in changed:
        target = workspace / difference.path
        if Path(os.path.realpath(target.parent)) != target.parent:
            raise OSError(f"{target.parent} is not where it seems")
        if difference.status == "D":
            target.unlink(missing_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{secrets.token_hex(8)}")
        beside.write_bytes((source / difference.path).read_bytes())
        beside.chmod(0o755 if difference.new_mode == EXECUTABLE else 0o644)
        beside.replace(target)
    for difference in changed:
        parent = (workspace / difference.path).parent
        while difference.status == "D" and parent != workspace and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
            parent = parent.parent
