"""What a step is: it has `do` and `undo`, may run twice, and says how it ended with a value.

A step writes what it is about to do before it does it, or finds what it did the last time and adopts it. What later
steps need it returns as facts; they are stored with the step, so a new daemon goes on with the same ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regrow.errors import RegrowError

if TYPE_CHECKING:
    from regrow.jobs.work import Work


@dataclass(frozen=True)
class Done:
    """The step is finished; `facts` are for the steps after it and for the report."""

    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wait:
    """Somebody else must act first: look again when one of `topics` changes.

    Attributes:
        reason: what is waited for, as a key of the catalogue, and its fields.
        topics: of `regrow.events`.
        within_s: the longest time between two looks.
    """

    reason: tuple[str, Mapping[str, Any]]
    topics: tuple[Hashable, ...]
    within_s: float = 30.0


@dataclass(frozen=True)
class Retry:
    """Not now: try again after `after_s` seconds, because of `reason`."""

    after_s: float
    reason: str


Outcome = Done | Wait | Retry


class StepFailed(RegrowError):
    """A step ended the job; `kind` says how, for the report and the exit code.

    Args:
        message: one sentence for people.
        kind: stable word.
        facts: what the report should know nevertheless.
    """

    kind = "step_failed"

    def __init__(
        self, message: str, *, kind: str, log: str = "", facts: Mapping[str, Any] | None = None, **fields: Any
    ) -> None:
        super().__init__(message, kind=kind, log=log)
        self.facts = dict(facts or {})
        self.fields = fields


@dataclass(frozen=True)
class Step:
    """A kind of step.

    Attributes:
        do: the work.
        undo: takes it back; must be harmless when there is nothing to take back.
        deadline_s: seconds after which `do` has failed (F30); Wait does not count. None: the step sets its own.
    """

    do: Callable[[Work], Awaitable[Outcome]]
    undo: Callable[[Work], Awaitable[None]] | None = None
    deadline_s: float | None = 60.0
