"""A driver for a coding agent: it edits a workspace inside a box and says what it did. What it says is not believed:
the gate reads the change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from regrow.errors import RegrowError
from regrow.sandboxes.base import Sandbox


@dataclass(frozen=True)
class Span:
    """Where a bug can have come in: after `good`, at or before `bad` (full commit ids)."""

    good: str
    bad: str


class Door(Protocol):
    """The only way from the box to a model, as `regrow.models` opens it: a unix socket behind which the key is held and
    the money is counted."""

    @property
    def socket(self) -> Path:
        """The socket; it speaks HTTP."""

    @property
    def kind(self) -> str:
        """What is spoken there: "anthropic" or "openai"."""

    @property
    def model(self) -> str:
        """The model to ask."""

    @property
    def trouble(self) -> RegrowError | None:
        """Why the last request was not answered to its end; None when it was."""


@dataclass(frozen=True)
class Task:
    """What an agent is asked to do.

    Attributes:
        bug: the person's words, verbatim.
        workspace: the job's worktree; the only place the agent may edit, and there only `allowed`.
        git_directory: a git directory, seen read-only; one made for the agent, in a repair (`sandboxes/masks.py`).
        allowed: patterns (gitignore syntax) of the paths that may change.
        reproduction: a shell script that ends with a code other than 0 while the bug is there; empty when none is
            known.
        spans: the ranges of commits to search, the nearest first; empty when there is no earlier good release.
        readable: toolchains seen read-only in the box.
        env: environment of commands in the box.
        timeout_s: seconds for the whole repair.
        door: the way to a model; None when there is none.
        home: the agent's own directory, its HOME in the box; kept as long as its session may be gone on with. None: an
            empty one that is forgotten.
        session: the agent's name for an earlier conversation to go on with, in the same home and workspace path.
        instructions: what the repository tells agents (CLAUDE.md, AGENTS.md), from the commit and not from the tree.
        goal: "reproduce": write a test, in `allowed`, that fails because of the bug, and mend nothing. "fix": mend it;
            tests are not to be touched.
        failing: what the reproduction or the reproducing test printed; empty when nothing reproduces the bug.
        earlier: why earlier attempts at the same goal were not accepted, the first one first.
        attempt: the number of this one, from 1; each begins from the same files.
        sealed: whether tests are fixed while the bug is mended, wherever they lie.
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
    door: Door | None = None
    home: Path | None = None
    session: str = ""
    instructions: str = ""
    goal: Literal["reproduce", "fix"] = "fix"
    failing: str = ""
    earlier: Sequence[str] = ()
    attempt: int = 1
    sealed: bool = True


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
            "agent_failed", "timeout", "no_reproduction", "agent_missing", "agent_login", "agent_budget", "agent_turns",
            "agent_killed", "agent_model", "agent_secret",
            "budget" (no money or no requests are left).
        culprit: the commit that brought the bug in, where the agent knows it; empty otherwise.
        culprit_subject: that commit's first line.
        log: everything worth keeping for the job's log.
        session: names the conversation, to go on with it later; empty where the agent cannot.
    """

    changed: bool
    summary: str
    reason: str = ""
    culprit: str = ""
    culprit_subject: str = ""
    log: str = ""
    session: str = ""


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


@runtime_checkable
class Checkable(Protocol):
    """An agent that can be tried without a task and without a model."""

    async def check(self, sandbox: Sandbox, workspace: Path) -> str:
        """Call its program in the box.

        Args:
            sandbox: the box.
            workspace: an empty directory.

        Returns:
            Its name and version in its own words.

        Raises:
            RegrowError: it cannot be called; says what to install or correct.
        """
