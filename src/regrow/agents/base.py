"""A driver for a coding agent: it edits a workspace inside a box and says what it did. What it says is not believed:
the gate reads the change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from regrow.sandboxes.base import Sandbox


@dataclass(frozen=True)
class Span:
    """Where a bug can have come in: after `good`, at or before `bad` (full commit ids)."""

    good: str
    bad: str


@dataclass(frozen=True)
class Task:
    """What an agent is asked to do.

    Attributes:
        bug: the person's words, verbatim.
        workspace: the job's worktree; the only place the agent may edit, and there only `allowed`.
        git_directory: the repository's git directory, seen read-only.
        allowed: patterns (gitignore syntax) of the paths that may change.
        reproduction: a shell script that ends with a code other than 0 while the bug is there; empty when none is
            known.
        spans: the ranges of commits to search, the nearest first; empty when there is no earlier good release.
        readable: toolchains seen read-only in the box.
        env: environment of commands in the box.
        timeout_s: seconds for the whole repair.
        goal: "reproduce": write a test, in `allowed`, that fails because of the bug, and mend nothing. "fix": mend it;
            tests are not to be touched.
        failing: what the reproduction or the reproducing test printed; empty when nothing reproduces the bug.
        earlier: why earlier attempts at the same goal were not accepted, the first one first.
        attempt: the number of this one, from 1; each begins from the same files.
    """

    bug: str
    workspace: Path
    git_directory: Path
    allowed: Sequence[str]
    reproduction: str = ""
    spans: Sequence[Span] = ()
    readable: Sequence[Path] = ()
    env: tuple[tuple[str, str], ...] = ()
    timeout_s: float = 600.0
    goal: Literal["reproduce", "fix"] = "fix"
    failing: str = ""
    earlier: Sequence[str] = ()
    attempt: int = 1


@dataclass(frozen=True)
class Event:
    """What an agent is doing right now, for the story in chat."""

    kind: Literal["thinking", "reading", "editing", "running", "cost", "log"]
    text: str


@dataclass(frozen=True)
class Outcome:
    """How a repair ended.

    Attributes:
        changed: whether the workspace is said to hold a fix.
        summary: one line for people.
        reason: stable word when nothing was changed: "not_reproduced", "no_culprit", "conflict", "no_change",
            "agent_failed", "timeout", "no_reproduction", "budget" (no money or no requests are left).
        culprit: the commit that brought the bug in, where the agent knows it; empty otherwise.
        culprit_subject: that commit's first line.
        log: everything worth keeping for the job's log.
    """

    changed: bool
    summary: str
    reason: str = ""
    culprit: str = ""
    culprit_subject: str = ""
    log: str = ""


class Agent(Protocol):
    """Edits a workspace until a bug is gone, or says that it cannot."""

    name: str

    async def repair(self, task: Task, sandbox: Sandbox, tell: Callable[[Event], None]) -> Outcome:
        """Work on `task` inside `sandbox`.

        Args:
            task: what to do.
            sandbox: the box every command runs in.
            tell: receives what happens as it happens.

        Returns:
            The outcome; a repair that changes nothing is an outcome and not an error.

        Raises:
            RegrowError: the agent could not be run at all (not installed, box refused).
        """
