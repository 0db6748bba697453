"""Approvals: when people are asked, and a question bound to a job and to the digest of what is approved, decided once
(F35)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from pathspec import GitIgnoreSpec

from regrow.clock import Clock, SystemClock
from regrow.errors import NotFound, Refused
from regrow.events import Events
from regrow.risks import WEAK, Risk
from regrow.store import Store, approvals


@dataclass(frozen=True)
class Policy:
    """When a person is asked.

    Attributes:
        approve: "always"; "risky", when there is any reason for doubt; "never", when there is none but weak ones.
        lines: changed lines of code that are still a small change.
        files: changed files that are.
        sensitive: patterns (gitignore syntax, without regard to case) of paths that make a change risky.
    """

    approve: Literal["always", "risky", "never"]
    lines: int
    files: int
    sensitive: Sequence[str] = ()


def weighed(
    files: Sequence[str],
    lines: int,
    *,
    reproduced: bool,
    tests: bool,
    failed_before: int,
    policy: Policy,
) -> list[Risk]:
    """The reasons for doubt in a change's size, its paths and the strength of its proof.

    Args:
        files: the paths that change.
        lines: of code, added and removed together.
        reproduced: whether the bug was seen before and is gone after, or it is known already that it was not.
        tests: whether tests decided anything.
        failed_before: how many tests failed already, and so could decide nothing.
        policy: what counts as large and as sensitive.
    """
    found = []
    if lines > policy.lines:
        found.append(Risk("large", "", str(lines)))
    if len(files) > policy.files:
        found.append(Risk("many_files", "", str(len(files))))
    sensitive = GitIgnoreSpec.from_lines(pattern.lower() for pattern in policy.sensitive)
    found += [Risk("sensitive", path) for path in files if sensitive.match_file(path.lower())]
    if not reproduced:
        found.append(Risk("unproved", ""))
    if not tests:
        found.append(Risk("no_tests", ""))
    if failed_before:
        found.append(Risk("failed_before", "", str(failed_before)))
    return found


def asks(policy: Policy, rules: Iterable[str]) -> bool:
    """Whether a person must say yes to a change.

    Args:
        policy: of the service.
        rules: of the risks that were found.
    """
    found = set(rules)
    return policy.approve == "always" or bool(found if policy.approve == "risky" else found - WEAK)


@dataclass(frozen=True)
class Approval:
    """A question as stored; `state`: open, approved, rejected, expired; `person`: the id of who decided, in
    the chat `chat` of `channel`."""

    job: int
    digest: str
    summary: str
    files: list[str]
    diff: str
    state: str
    decided_by: str
    decided_at: float | None
    expires_at: float
    person: str = ""
    channel: str = ""
    chat: str = ""


class Approvals:
    """The questions of all jobs."""

    def __init__(self, store: Store, events: Events, clock: Clock | None = None) -> None:
        self._store = store
        self._events = events
        self._clock = clock or SystemClock()

    async def ask(
        self, job: int, digest: str, summary: str, changed: list[str], diff: str, *, within_s: float
    ) -> Approval:
        """Open the question of `job`; asking again for the same digest changes nothing, for another one replaces it.

        Args:
            job: whose question it is.
            digest: of exactly what is approved.
            summary: one line for people.
            changed: the files that change.
            diff: the change as text.
            within_s: seconds until it expires.
        """
        now = self._clock.now()

        def upsert(connection: sa.Connection) -> None:
            row = connection.execute(sa.select(approvals).where(approvals.c.job == job)).mappings().first()
            if row is not None and row["digest"] == digest:
                return
            connection.execute(approvals.delete().where(approvals.c.job == job))
            connection.execute(
                approvals.insert().values(
                    job=job,
                    digest=digest,
                    summary=summary,
                    files=changed,
                    diff=diff,
                    state="open",
                    decided_by="",
                    expires_at=now + within_s,
                )
            )

        await self._store.transact(upsert)
        self._events.touch(("job", job), "jobs")
        found = await self.of(job)
        assert found is not None
        return found

    async def of(self, job: int) -> Approval | None:
        """The question of `job`, if it ever had one; one past its time reads as expired."""
        row = await self._store.row(sa.select(approvals).where(approvals.c.job == job))
        if row is None:
            return None
        if row["state"] == "open" and self._clock.now() > row["expires_at"]:
            row["state"] = "expired"
        return Approval(**row)

    async def of_all(self, jobs: Collection[int]) -> dict[int, Approval]:
        """The questions of `jobs` by their numbers, read at once; see `of`."""
        if not jobs:
            return {}
        now, found = self._clock.now(), {}
        for row in await self._store.rows(sa.select(approvals).where(approvals.c.job.in_(jobs))):
            state = "expired" if row["state"] == "open" and now > row["expires_at"] else row["state"]
            found[int(row["job"])] = Approval(**{**row, "state": state})
        return found

    async def open(self) -> list[Approval]:
        """Every question that can still be answered, oldest first."""
        query = sa.select(approvals).where(approvals.c.state == "open", approvals.c.expires_at >= self._clock.now())
        return [Approval(**row) for row in await self._store.rows(query.order_by(approvals.c.job))]

    async def decide(
        self, job: int, decision: str, by: str, *, person: str = "", digest: str = "", channel: str = "", chat: str = ""
    ) -> Approval:
        """Answer the question of `job`, once.

        Args:
            job: whose question.
            decision: "approved" or "rejected".
            by: the person, for the record.
            person: their id, by which their rights are looked up once more at the act (F37).
            channel, chat: where they say so, by which those rights are looked up.
            digest: what the person saw; another one than the question's is refused. Empty: the question as it stands.

        Raises:
            NotFound: the job asks nothing.
            Refused: kind "decided", "expired" or "outdated".
        """
        now = self._clock.now()

        def update(connection: sa.Connection) -> None:
            row = connection.execute(sa.select(approvals).where(approvals.c.job == job)).mappings().first()
            if row is None:
                raise NotFound(f"cannot decide: job {job} asks for no approval", kind="no_approval")
            if row["state"] != "open":
                raise Refused(
                    f"cannot decide: job {job} was {row['state']} already"
                    + (f" by {row['decided_by']}" if row["decided_by"] else ""),
                    kind="decided",
                )
            if now > row["expires_at"]:
                raise Refused(f"cannot decide: the question of job {job} has expired; ask for it again", kind="expired")
            if digest and digest != row["digest"]:
                raise Refused(
                    f"cannot decide: the change of job {job} is not the one you saw; look at it again", kind="outdated"
                )
            values = {"state": decision, "decided_by": by, "decided_at": now, "person": person}
            where = {"channel": channel, "chat": chat}
            connection.execute(approvals.update().where(approvals.c.job == job).values(**values, **where))

        await self._store.transact(update)
        self._events.touch(("approval", job), ("job", job), "jobs")
        found = await self.of(job)
        assert found is not None
        return found

    async def close(self, job: int) -> None:
        """The question dies with its job."""
        where = (approvals.c.job == job, approvals.c.state == "open")
        await self._store.transact(lambda c: c.execute(approvals.update().where(*where).values(state="expired")))
