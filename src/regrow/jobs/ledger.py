"""The ledger: every job as people see it, kept beside the engine's own record of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from regrow.api import types
from regrow.catalogue import Language
from regrow.channels.base import Address
from regrow.clock import Clock, SystemClock
from regrow.errors import NotFound, Refused
from regrow.events import Events
from regrow.store import Store, jobs, turns

WAITING_FOR_TURN = "turn"
WAITING_FOR_KEEP = "keep"
WAITING_FOR_IDLE = "idle"
WAITING_FOR_QUIET = "quiet"
PUT_OFF = frozenset({WAITING_FOR_IDLE, WAITING_FOR_QUIET})
"""What a person may call off with the word now."""
_PAST = frozenset({"done", "failed", "undone"})
LIVE = ("todo", "doing", "waiting", "undoing")


@dataclass(frozen=True)
class Limit:
    """How many jobs of a kind a service may get, at most `count` in `window_s` seconds: what repeats itself without end
    is refused, whoever or whatever it is that asks (F6)."""

    count: int
    window_s: float


@dataclass(frozen=True)
class Share:
    """How many jobs one person may begin, at most `count` in `window_s` seconds; those of the kinds `free` are not
    counted. In the ledger, so that it holds over a restart of the daemon."""

    count: int
    window_s: float
    free: frozenset[str]


@dataclass(frozen=True)
class Total:
    """How many jobs of a service, a kind and a status there are, and what they took from start to end, in seconds."""

    service: str
    kind: str
    status: str
    count: int
    seconds: float

    @property
    def ended(self) -> bool:
        """Whether they have."""
        return self.status in types.ENDED


@dataclass(frozen=True)
class Record:
    """A job as stored.

    Attributes:
        id: its number, never used again.
        service: whose job it is.
        kind: restart, build, deploy, repair, rollback.
        status: see `api.types.JobStatus`.
        language: of the request, and so of every answer.
        args: what was asked for, as strings.
        plan: names of its steps.
        steps: one dict a step: name, status, started_at, seconds, detail.
        result: the facts so far.
        error: kind, text, step, log_tail of what ended it.
        asked_by: the requester's name; person: their id.
        address: the chat and message that asked.
        cancelled_by, kept_by: who said so.
    """

    id: int
    service: str
    kind: types.Kind
    status: types.JobStatus
    language: Language
    args: dict[str, str]
    plan: list[str]
    steps: list[dict[str, Any]]
    result: dict[str, Any]
    error: dict[str, Any] | None
    asked_by: str
    person: str
    address: Address
    created_at: float
    started_at: float | None
    ended_at: float | None
    waiting_for: str
    cancelled_by: str
    kept_by: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in types.ENDED

    @property
    def asks_to_keep(self) -> bool:
        """Whether it waits for somebody to say keep."""
        return not self.ended and _asks_to_keep(self.steps)


def _asks_to_keep(steps: Sequence[Mapping[str, Any]]) -> bool:
    # A daemon that has just begun the step anew asks already, although it does not wait yet.
    return any(step["name"] == "confirm" and step["status"] in {"doing", "waiting"} for step in steps)


def _record(row: Mapping[str, Any]) -> Record:
    values = {k: v for k, v in row.items() if k not in {"key", "channel", "chat", "message"}}
    return Record(**values, address=Address(row["channel"], row["chat"], row["message"]))


class Ledger:
    """All jobs of the daemon."""

    def __init__(self, store: Store, events: Events, clock: Clock | None = None) -> None:
        self._store = store
        self._events = events
        self._clock = clock or SystemClock()

    async def open(
        self,
        *,
        service: str,
        kind: types.Kind,
        plan: Sequence[str],
        args: Mapping[str, str],
        key: str,
        language: Language,
        asked_by: str,
        person: str,
        address: Address,
        result: Mapping[str, Any] | None = None,
        limit: Limit | None = None,
        share: Share | None = None,
    ) -> tuple[Record, bool]:
        """Write a new job down, unless it is there already.

        A request with a known `key`, and an equal request while its job is still under way, join that job.

        Args:
            result: what is known of the outcome from the start, such as the version to go back to.
            limit: of new jobs of this kind; one that is joined is none.
            share: of the person in new jobs.

        Returns:
            The job, and whether it is new.

        Raises:
            Refused: kind "too_often", or "rate" for the share of one person.
        """
        values = {
            "service": service,
            "kind": kind,
            "status": "todo",
            "key": key or None,
            "language": language,
            "args": dict(args),
            "plan": list(plan),
            "steps": [{"name": name, "status": "todo"} for name in plan],
            "result": dict(result or {}),
            "asked_by": asked_by,
            "person": person,
            "channel": address.channel,
            "chat": address.chat,
            "message": address.message,
            "created_at": self._clock.now(),
        }

        def insert(connection: sa.Connection) -> tuple[int, bool]:
            if key:
                known = connection.execute(sa.select(jobs.c.id).where(jobs.c.key == key)).scalar()
                if known is not None:
                    return int(known), False
            live = sa.select(jobs.c.id, jobs.c.args).where(
                jobs.c.service == service, jobs.c.kind == kind, jobs.c.status.in_(LIVE)
            )
            for row in connection.execute(live).mappings():
                if row["args"] == values["args"]:
                    return int(row["id"]), False
            if limit is not None:
                self._check_limit(connection, service, kind, limit)
            if share is not None and kind not in share.free:
                self._check_share(connection, person, share)
            made = connection.execute(jobs.insert().values(**values)).inserted_primary_key
            assert made is not None
            return int(made[0]), True

        number, new = await self._store.transact(insert)
        if new:
            self._events.touch("jobs")
        return await self.get(number), new

    def _check_limit(self, connection: sa.Connection, service: str, kind: str, limit: Limit) -> None:
        now = self._clock.now()
        recent = sa.select(jobs.c.created_at).where(
            jobs.c.service == service, jobs.c.kind == kind, jobs.c.created_at > now - limit.window_s
        )
        times = sorted(connection.execute(recent).scalars())
        if len(times) >= limit.count:
            wait_s = math.ceil(times[-limit.count] + limit.window_s - now)
            raise Refused(
                f"cannot {kind} {service} again: it was asked for {len(times)} times in the last {limit.window_s:g} s; "
                f"ask again in {wait_s} s, or with force",
                kind="too_often",
                count=len(times),
                minutes=math.ceil(wait_s / 60),
            )

    def _check_share(self, connection: sa.Connection, person: str, share: Share) -> None:
        now = self._clock.now()
        counted = (jobs.c.person == person, jobs.c.created_at > now - share.window_s, jobs.c.kind.not_in(share.free))
        times = sorted(connection.execute(sa.select(jobs.c.created_at).where(*counted)).scalars())
        if len(times) >= share.count:
            wait_s = math.ceil(times[-share.count] + share.window_s - now)
            raise Refused(
                f"cannot begin more than {share.count} jobs of one person in {share.window_s:g} s; "
                f"ask again in {wait_s} s",
                kind="rate",
                count=share.count,
                seconds=wait_s,
            )

    async def get(self, job: int) -> Record:
        """The job of that number.

        Raises:
            NotFound: kind "no_such_job".
        """
        row = await self._store.row(sa.select(jobs).where(jobs.c.id == job))
        if row is None:
            raise NotFound(f"cannot find job {job}; `regrow jobs` lists them", kind="no_such_job")
        return _record(row)

    async def last(
        self, limit: int = 50, *, kind: str = "", status: str = "", before: int | None = None
    ) -> list[Record]:
        """The newest jobs, newest first.

        Args:
            kind, status: only of these; "" for any.
            before: only with a smaller number.
        """
        query = sa.select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if kind:
            query = query.where(jobs.c.kind == kind)
        if status:
            query = query.where(jobs.c.status == status)
        if before is not None:
            query = query.where(jobs.c.id < before)
        return [_record(row) for row in await self._store.rows(query)]

    async def some(self, numbers: Collection[int]) -> dict[int, Record]:
        """The jobs of these numbers, by number; one that there is not is not in it."""
        query = sa.select(jobs).where(jobs.c.id.in_(numbers))
        return {int(row["id"]): _record(row) for row in await self._store.rows(query)} if numbers else {}

    async def ended_since(self, at: float) -> list[Record]:
        """Jobs that ended then or later, oldest first."""
        query = sa.select(jobs).where(jobs.c.status.in_(types.ENDED), jobs.c.ended_at >= at).order_by(jobs.c.id)
        return [_record(row) for row in await self._store.rows(query)]

    async def live(self, service: str | None = None) -> list[Record]:
        """Jobs that have not ended, oldest first."""
        query = sa.select(jobs).where(jobs.c.status.in_(LIVE)).order_by(jobs.c.id)
        if service is not None:
            query = query.where(jobs.c.service == service)
        return [_record(row) for row in await self._store.rows(query)]

    async def change(self, job: int, **values: Any) -> None:
        """Set columns of a job and tell its watchers."""
        await self._store.transact(lambda c: c.execute(jobs.update().where(jobs.c.id == job).values(**values)))
        self._events.touch(("job", job), "jobs")

    async def step(
        self, job: int, index: int, facts: Mapping[str, Any] | None = None, *, waiting_for: str = "", **values: Any
    ) -> None:
        """Set fields of one step, and with them the job's status, facts and what it waits for, in one transaction."""

        def update(connection: sa.Connection) -> None:
            row = connection.execute(sa.select(jobs.c.steps, jobs.c.result).where(jobs.c.id == job)).mappings().one()
            steps = [dict(step) for step in row["steps"]]
            steps[index].update(values)
            status = values.get("status")
            changed: dict[str, Any] = {"steps": steps}
            if facts:
                changed["result"] = {**row["result"], **facts}
            if status in {"doing", "waiting", "undoing"}:
                changed |= {"status": status, "waiting_for": waiting_for}
            connection.execute(jobs.update().where(jobs.c.id == job).values(**changed))

        await self._store.transact(update)
        self._events.touch(("job", job), "jobs")

    async def cancel(self, job: int, by: str) -> bool:
        """Ask a job to stop; the runner sees it between steps and ends what runs.

        Returns:
            False when the job had ended already.
        """

        def update(connection: sa.Connection) -> bool:
            changed = connection.execute(
                jobs.update()
                .where(jobs.c.id == job, jobs.c.status.in_(LIVE), jobs.c.cancelled_by == "")
                .values(cancelled_by=by)
            )
            if changed.rowcount:
                return True
            live = sa.select(jobs.c.id).where(jobs.c.id == job, jobs.c.status.in_(LIVE))
            return connection.execute(live).first() is not None

        done = await self._store.transact(update)
        self._events.touch(("cancel", job), ("job", job), "jobs")
        return done

    async def totals(self) -> list[Total]:
        """All jobs there ever were, counted."""
        took = sa.func.sum(jobs.c.ended_at - jobs.c.started_at)
        keys = (jobs.c.service, jobs.c.kind, jobs.c.status)
        query = sa.select(*keys, sa.func.count().label("count"), took.label("seconds")).group_by(*keys).order_by(*keys)
        return [Total(**{**row, "seconds": row["seconds"] or 0.0}) for row in await self._store.rows(query)]

    async def put_off(self, service: str, kind: str, args: Mapping[str, str]) -> Record | None:
        """The job that waits for idleness or for the end of quiet hours and would do the same, or None."""

        def plain(values: Mapping[str, str]) -> dict[str, str]:
            return {name: value for name, value in values.items() if name != "when"}

        waiting = (one for one in await self.live(service) if one.kind == kind and one.waiting_for in PUT_OFF)
        return next((one for one in waiting if plain(one.args) == plain(args)), None)

    async def hurry(self, job: int) -> bool:
        """Let a job wait for nothing but its turn: neither for idleness nor for the end of quiet hours.

        Returns:
            False when it has had its turn, or has ended.
        """

        def update(connection: sa.Connection) -> bool:
            # Not only while it waits: it may still build, and a new daemon begins its wait anew.
            where = (jobs.c.id == job, jobs.c.status.in_(LIVE))
            row = connection.execute(sa.select(jobs.c.args, jobs.c.steps).where(*where)).first()
            if row is None or any(one["name"] == "turn" and one["status"] in _PAST for one in row.steps):
                return False
            connection.execute(jobs.update().where(*where).values(args={**row.args, "when": "now"}))
            return True

        done = await self._store.transact(update)
        self._events.touch(("job", job), "jobs")
        return done

    async def keep(self, job: int, by: str) -> bool:
        """Say that the release of a job is to stay.

        Returns:
            False when the job does not ask for that word (any more).
        """

        def update(connection: sa.Connection) -> bool:
            where = (jobs.c.id == job, jobs.c.status.in_(LIVE), jobs.c.kept_by == "")
            steps = connection.execute(sa.select(jobs.c.steps).where(*where)).scalar()
            if steps is None or not _asks_to_keep(steps):
                return False
            return bool(connection.execute(jobs.update().where(*where).values(kept_by=by)).rowcount)

        done = await self._store.transact(update)
        self._events.touch(("job", job), "jobs")
        return done

    async def take_turn(self, service: str, job: int) -> int:
        """Take the one turn to change `service`, in the order in which jobs come to ask for it.

        Returns:
            The job that has the turn: `job` itself, or the one to wait for. A turn whose job has ended is free.
        """

        def update(connection: sa.Connection) -> int:
            holder = connection.execute(sa.select(turns.c.job).where(turns.c.service == service)).scalar()
            if holder is not None and holder != job:
                live = sa.select(jobs.c.id).where(jobs.c.id == holder, jobs.c.status.in_(LIVE))
                if connection.execute(live).first() is not None:
                    return int(holder)
            earlier = sa.select(sa.func.min(jobs.c.id)).where(
                jobs.c.service == service,
                jobs.c.status == "waiting",
                jobs.c.waiting_for == WAITING_FOR_TURN,
                jobs.c.id < job,
            )
            if (first := connection.execute(earlier).scalar()) is not None:
                return int(first)
            connection.execute(turns.delete().where(turns.c.service == service))
            connection.execute(turns.insert().values(service=service, job=job))
            return job

        return await self._store.transact(update)

    async def give_turn(self, service: str, job: int) -> None:
        """Give the turn back, if this job has it."""
        where = (turns.c.service == service, turns.c.job == job)
        await self._store.transact(lambda c: c.execute(turns.delete().where(*where)))
        self._events.touch(("turn", service))

    async def turn(self, service: str) -> int | None:
        """The job that may change `service` now."""
        row = await self._store.row(sa.select(turns).where(turns.c.service == service))
        return None if row is None else int(row["job"])
