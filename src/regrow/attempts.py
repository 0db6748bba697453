"""The attempts at one repair: what became of each, which one wins, and when no further one is worth its price.

They are kept on disk after each change, so that a daemon that was killed does not make, or pay for, one twice."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from regrow import files
from regrow.pool import in_thread

State = Literal["working", "changed", "failed", "proved"]

# Of these no further attempt can be better: the agent's way is always the same, or there is nothing left to pay it.
_FINAL = frozenset(
    {"no_reproduction", "not_reproduced", "no_culprit", "conflict", "budget", "forbidden"}
    | {"agent_missing", "agent_login", "agent_budget", "agent_model", "agent_secret"}
)


@dataclass(frozen=True)
class Attempt:
    """One attempt.

    Attributes:
        number: from 1.
        state: "working"; "changed": there is a change, which is yet to be judged; "failed"; "proved".
        workspace: where its files are.
        summary: the agent's own words, redacted.
        why: stable word of a failure: the agent's reason, "gate", or the verdict.
        text: the failure in one line, for people and for the next attempt.
        log: what the failing part printed.
        tree: id of the change's tree, once it was judged.
        lines: lines added and removed.
        paths: changed files.
        culprit, culprit_subject: as in `regrow.agents.base.Outcome`.
        proof: the facts of its verification.
        cost: what the job's agents have cost when it ended, in words; "" where that is not known.
        model: which one was asked, where Regrow knows.
        session: the agent's name for its conversation; "" where it cannot be gone on with.
    """

    number: int
    state: State = "working"
    workspace: str = ""
    summary: str = ""
    why: str = ""
    text: str = ""
    log: str = ""
    tree: str = ""
    lines: int = 0
    paths: tuple[str, ...] = ()
    culprit: str = ""
    culprit_subject: str = ""
    proof: Mapping[str, Any] = field(default_factory=dict)
    cost: str = ""
    model: str = ""
    session: str = ""

    @property
    def ended(self) -> bool:
        """Whether it need not be made again."""
        return self.state != "working"


class Attempts:
    """All attempts of a job, by number.

    Args:
        path: the file; its directory exists. This is its only writer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self._all: dict[int, Attempt] = {}
        if path.exists():
            for kept in json.loads(path.read_bytes()):
                attempt = Attempt(**{**kept, "paths": tuple(kept["paths"])})
                self._all[attempt.number] = attempt

    def get(self, number: int) -> Attempt | None:
        """The attempt of a number, if it was begun."""
        return self._all.get(number)

    @property
    def ended(self) -> list[Attempt]:
        """Those that are over, in order."""
        return [self._all[number] for number in sorted(self._all) if self._all[number].ended]

    async def put(self, attempt: Attempt) -> None:
        """Write down how an attempt stands."""
        async with self._lock:
            self._all[attempt.number] = attempt
            kept = json.dumps([dataclasses.asdict(one) for one in self._all.values()], ensure_ascii=False)
            await in_thread(files.write_atomic, self._path, kept.encode())


def smallest(attempts: Sequence[Attempt]) -> Attempt | None:
    """The proved attempt with the smallest change: by lines, then files, then the earlier one."""
    proved = [attempt for attempt in attempts if attempt.state == "proved"]
    return min(proved, key=lambda one: (one.lines, len(one.paths), one.number), default=None)


def hopeless(attempts: Sequence[Attempt]) -> str:
    """Why no further attempt is made after these; "" when one is worth it.

    Returns:
        "final": the last failure would come again; "same_change": the same change was made twice; "same_failure": the
        last two failed in the same way; "no_change": the last two changed nothing.
    """
    if not attempts:
        return ""
    last = attempts[-1]
    if last.why in _FINAL:
        return "final"
    if last.tree and any(last.tree == other.tree for other in attempts[:-1]):
        return "same_change"
    if len(attempts) > 1:
        other = attempts[-2]
        if last.why == other.why == "no_change":
            return "no_change"
        if last.state == other.state == "failed" and (last.why, last.text) == (other.why, other.text):
            return "same_failure"
    return ""
