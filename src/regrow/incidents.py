"""Incidents: what goes wrong in the same way again and again, from the supervisor's journal and the service's log.

Every crash, failed probe and fallback, and every sudden rise of errors in the log, is known by a fingerprint; the same
one again makes the row's count grow and no second row. An event counts in the same transaction as the place in the
journal (or log) moves on, so it is counted once, whenever the daemon is killed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from regrow.care import Care
from regrow.clock import Clock, SystemClock
from regrow.errors import NotFound
from regrow.events import Events
from regrow.fingerprints import fingerprint, normalised
from regrow.log_errors import Blocks
from regrow.pool import in_thread
from regrow.services.base import ServiceEvent
from regrow.store import Store, cursors, heals, incidents, log_watches
from regrow.tail import end_of

MENDABLE = frozenset({"crash", "memory", "start", "probe", "errors"})
"""Kinds that a change of the code may mend. Of the others a job tells, or somebody else is the cause."""
IN_TRIAL = frozenset({"died", "probe failed", "not promoted in time", "asked"})
"""Reasons of a fallback that a job tells of."""
PATTERNS = (
    r"\b(?:ERROR|FATAL|CRITICAL|PANIC|EMERG|ALERT)\b",
    r"Traceback \(most recent call last\)",
    r"\bpanicked at\b|^panic: |^fatal error: ",
    r"^(?:Uncaught |Unhandled )?[\w.$]*(?:Error|Exception)(?: \[\w+\])?: ",
    r'^Exception in thread "',
)
"""What begins an error in a log, where the settings say nothing else."""
_KEPT_LINES = 40
_KEPT_CHARACTERS = 300
_RELEASES = 10
_LOG_BYTES = 16 * 1024
_PROBE_LINES = 15
_PART_S = 600.0
_PARTS = 144
_HOUR_S = 3600.0
_FROM_OUTSIDE = re.compile(r"killed by SIG(?:KILL|TERM|INT|HUP|QUIT)\b")

Tell = Callable[[Care, ServiceEvent], Awaitable[None]]


@dataclass(frozen=True)
class Incident:
    """What went wrong, however often.

    Attributes:
        id: its number, told as "#I3".
        service: whose.
        fingerprint: the same for what is the same.
        kind: one of `MENDABLE`; killed, ended, lost or reboot, which came from outside; trial or fallback, where the
            rule has acted; standby.
        signature: what the fingerprint is made of: normalised decisive line and frames.
        cause: the newest one in one line; `lines` are the newest decisive lines, redacted and bounded.
        probe: of a failed probe its name.
        first_at, last_at: seconds since 1970.
        count: how often.
        recent: [part of the day, how often] of the last day, in parts of ten minutes.
        releases: in which it was seen, the newest last.
        pending_at: since when it waits for a decision what to do about it; None when it does not.
        offers, offered_at: how often, and when last, people were asked whether to repair it.
        attempts, job: how many repairs it has had, and the last one.
        ignored_until: nobody is asked before; `ignored_rate` is how often an hour it came when that was said.
        why: what was decided last, as a word of the catalogue.
    """

    id: int
    service: str
    fingerprint: str
    kind: str
    signature: str
    cause: str
    lines: list[str]
    probe: str
    first_at: float
    last_at: float
    count: int
    recent: list[list[int]]
    releases: list[str]
    pending_at: float | None
    offers: int
    offered_at: float | None
    attempts: int
    job: int | None
    ignored_until: float | None
    ignored_rate: float
    why: str

    @property
    def release(self) -> str:
        """In which it was seen last."""
        return self.releases[-1] if self.releases else ""

    def hourly(self, now: float) -> int:
        """How often it came within the last hour."""
        first = math.floor((now - _HOUR_S) / _PART_S) + 1
        return sum(number for part, number in self.recent if part >= first)

    def ignored(self, now: float, factor: float) -> bool:
        """Whether nobody wants to hear of it: until the time is over, or it comes far more often than then."""
        if self.ignored_until is None or now >= self.ignored_until:
            return False
        return self.hourly(now) <= factor * max(self.ignored_rate, 1.0)


@dataclass(frozen=True)
class Seen:
    """Something that went wrong once, or a number of times at once.

    Attributes:
        lines: decisive ones, redacted.
        pending: whether somebody has to decide what to do about it.
        before: how often it had come by then, where that was not counted.
    """

    kind: str
    signature: str
    cause: str
    at: float
    release: str
    lines: Sequence[str] = ()
    probe: str = ""
    count: int = 1
    pending: bool = False
    before: int = 0


def kind_of(event: ServiceEvent) -> str:
    """What kind of incident a line of the journal tells of; "" when it tells of none."""
    cause = str(event.data.get("cause") or "")
    match event.event:
        case "crashed":
            if "out of memory" in cause:
                return "memory"
            if cause == "the machine was started anew":
                return "reboot"
            if _FROM_OUTSIDE.match(cause):
                return "killed"
            if cause.startswith("it died while no supervisor ran"):
                return "lost"
            return "ended" if re.fullmatch(r"exit code 0(?:: .*)?", cause, re.DOTALL) else "crash"
        case "start_failed":
            return "start"
        case "unhealthy":
            return "probe"
        case "fell_back":
            return "trial" if str(event.data.get("reason")) in {*IN_TRIAL, "start failed"} else "fallback"
        case "candidate_failed":
            return "trial"
        case "standby_died":
            return "standby"
        case _:
            return ""


class Incidents:
    """The incidents of all services.

    Args:
        tell: tells people of an event, each event once however often it is called; None tells nobody.
    """

    def __init__(self, store: Store, events: Events, tell: Tell | None = None, clock: Clock | None = None) -> None:
        self._store = store
        self._events = events
        self.tell = tell
        self._clock = clock or SystemClock()

    # From the journal

    async def follow(self, care: Care) -> None:
        """Read a service's journal from where the last daemon stopped, until cancelled, and wake who watches it."""
        name = f"events:{care.name}"
        row = await self._store.row(sa.select(cursors).where(cursors.c.name == name))
        async for event in care.service.events(int(row["value"]) if row else 0):
            if self.tell is not None:
                await self.tell(care, event)  # before the cursor moves: a kill in between leaves nothing untold
            seen = await self.seen(care, event)
            await self._keep(care, name, event.seq, seen)
            self._events.touch(("service", care.name), *(("incidents",) if seen else ()))

    async def seen(self, care: Care, event: ServiceEvent) -> Seen | None:
        """What a line of the journal tells of, with its evidence; None when nothing went wrong."""
        kind = kind_of(event)
        if not kind:
            return None
        # What names an incident is kept, too: no secret gets into it (F31).
        cause = care.redactor.redact(str(event.data.get("cause") or event.data.get("reason") or ""))
        release = str(event.data.get("from") or event.data.get("release") or "")
        probe = str(event.data.get("probe") or "") if kind == "probe" else ""
        tail = care.redactor.redact(str(event.data.get("log_tail") or "")).splitlines()
        lines = list[str]()
        known_by = normalised(cause)
        if kind == "probe":
            known_by = f"{probe}\n{known_by}"
            said = await in_thread(end_of, care.release_log(release), _LOG_BYTES)
            lines = [cause, *said.splitlines()[-_PROBE_LINES:]]
        else:
            blocks = Blocks([*PATTERNS, *care.config.incidents.patterns])
            found = [*blocks.feed(tail), *blocks.flush()]
            # The trace that the cause was taken from; another one says nothing of this end.
            said_why = [block for block in found if block.signature.split("\n")[0] in normalised(cause)]
            if said_why:
                known_by, lines = said_why[-1].signature, list(said_why[-1].lines)
            elif tail:
                lines = [cause, *tail[-_PROBE_LINES:]]
        return Seen(
            kind=kind,
            signature=known_by,
            cause=cleaned(care, [cause])[0],
            at=event.at,
            release=release,
            lines=cleaned(care, lines or [cause]),
            probe=probe,
            pending=kind in MENDABLE,
        )

    async def _keep(self, care: Care, cursor: str, seq: int, seen: Seen | None) -> None:
        def write(connection: sa.Connection) -> None:
            before = connection.execute(sa.select(cursors.c.value).where(cursors.c.name == cursor)).scalar()
            if seen is not None and (before is None or before < seq):
                _add(connection, care.name, seen)
            connection.execute(cursors.delete().where(cursors.c.name == cursor))
            connection.execute(cursors.insert().values(name=cursor, value=seq))

        await self._store.transact(write)

    # From the log

    async def watched(self, service: str) -> dict[str, Any] | None:
        """How far the log of a service was read, and what was counted by then; None at first."""
        row = await self._store.row(sa.select(log_watches).where(log_watches.c.service == service))
        return None if row is None else dict(row["state"])

    async def count(self, service: str, seen: Sequence[Seen], state: Mapping[str, Any]) -> None:
        """Count errors of the log, together with the place up to which it was read.

        An error that has no incident yet gets one only when it is `pending`: a single line in a log is none. One that
        a crash has told of is not told of twice.
        """

        def write(connection: sa.Connection) -> None:
            for one in seen:
                mine = (incidents.c.service == service, incidents.c.signature == one.signature)
                rows = connection.execute(sa.select(incidents.c.kind, incidents.c.last_at).where(*mine)).all()
                crashed = any(row.kind in {"crash", "start"} and one.at - row.last_at < _HOUR_S for row in rows)
                if not crashed and (one.pending or any(row.kind == one.kind for row in rows)):
                    _add(connection, service, one)
            connection.execute(log_watches.delete().where(log_watches.c.service == service))
            connection.execute(log_watches.insert().values(service=service, state=dict(state)))

        await self._store.transact(write)
        if seen:
            self._events.touch("incidents")

    # Looking

    async def get(self, number: int) -> Incident:
        """One incident.

        Raises:
            NotFound: kind "no_such_incident".
        """
        row = await self._store.row(sa.select(incidents).where(incidents.c.id == number))
        if row is None:
            raise NotFound(f"cannot find incident {number}; `regrow incidents` lists them", kind="no_such_incident")
        return _incident(row)

    async def last(self, service: str, limit: int = 50) -> list[Incident]:
        """The incidents of a service, the one seen last first."""
        query = sa.select(incidents).where(incidents.c.service == service)
        query = query.order_by(incidents.c.last_at.desc(), incidents.c.id.desc()).limit(limit)
        return [_incident(row) for row in await self._store.rows(query)]

    async def pending(self, service: str) -> list[Incident]:
        """Those about which somebody has to decide, the oldest first."""
        where = (incidents.c.service == service, incidents.c.pending_at.is_not(None))
        return [_incident(row) for row in await self._store.rows(sa.select(incidents).where(*where).order_by("id"))]

    # What is done about them

    async def decided(self, number: int, why: str, *, offered: bool = False) -> None:
        """Somebody has decided; the next time it is seen is decided about anew."""
        values: dict[str, Any] = {"pending_at": None, "why": why}
        if offered:
            values |= {"offers": incidents.c.offers + 1, "offered_at": self._clock.now(), "ignored_until": None}
        await self._change(number, **values)

    async def began(self, number: int, attempt: int, job: int) -> None:
        """A job repairs it."""
        await self._change(number, attempts=attempt, job=job, pending_at=None, ignored_until=None, why="repairing")

    async def ignore(self, number: int, for_s: float) -> Incident:
        """Ask nobody about it for so many seconds, unless it comes far more often than now.

        Raises:
            NotFound: kind "no_such_incident".
        """
        now = self._clock.now()
        rate = float((await self.get(number)).hourly(now))
        await self._change(number, ignored_until=now + for_s, ignored_rate=rate, pending_at=None, why="ignored")
        return await self.get(number)

    async def _change(self, number: int, **values: Any) -> None:
        where = incidents.c.id == number
        await self._store.transact(lambda c: c.execute(incidents.update().where(where).values(**values)))
        self._events.touch("incidents")

    # What Regrow repairs by itself

    async def decide_heal(self, incident: Incident) -> None:
        """Write down that the next repair of an incident will be asked for, before it is."""
        now = self._clock.now()
        values = {"service": incident.service, "incident": incident.id, "attempt": incident.attempts + 1, "at": now}

        def write(connection: sa.Connection) -> None:
            mine = (heals.c.incident == incident.id, heals.c.attempt == incident.attempts + 1)
            connection.execute(heals.delete().where(*mine, heals.c.state == "dropped"))
            connection.execute(heals.insert().values(**values, state="decided"))
            where = incidents.c.id == incident.id
            connection.execute(incidents.update().where(where).values(pending_at=None, why="healing"))

        await self._store.transact(write)

    async def heals(self, service: str, since: float) -> list[dict[str, Any]]:
        """What Regrow has decided to repair by itself since then, the oldest first."""
        where = (heals.c.service == service, heals.c.at >= since, heals.c.state != "dropped")
        return await self._store.rows(sa.select(heals).where(*where).order_by(heals.c.id))

    async def heal_ended(self, heal: int, state: str, job: int | None = None) -> None:
        """A decision was acted upon ("asked"), or could not be ("dropped")."""
        values = {"state": state, "job": job}
        await self._store.transact(lambda c: c.execute(heals.update().where(heals.c.id == heal).values(**values)))


def cleaned(care: Care, lines: Sequence[str]) -> list[str]:
    """Lines without secrets and long paths, bounded in number and length (F31)."""
    text = care.redactor.for_people("\n".join(lines))
    kept = [line.rstrip()[:_KEPT_CHARACTERS] for line in text.splitlines()]
    if len(kept) > _KEPT_LINES:
        half = _KEPT_LINES // 2
        kept = [*kept[: half - 1], "...", *kept[-half:]]
    return kept or [""]


def _add(connection: sa.Connection, service: str, seen: Seen) -> None:
    """Count it, within a transaction of the caller's."""
    name = fingerprint(seen.kind, seen.signature)
    mine = (incidents.c.service == service, incidents.c.fingerprint == name)
    row = connection.execute(sa.select(incidents).where(*mine)).mappings().first()
    newest: dict[str, Any] = {"cause": seen.cause, "lines": list(seen.lines), "last_at": seen.at}
    part = math.floor(seen.at / _PART_S)
    if row is None:
        values: dict[str, Any] = {
            "service": service,
            "fingerprint": name,
            "kind": seen.kind,
            "signature": seen.signature,
            "probe": seen.probe,
            "first_at": seen.at,
            "count": seen.count + seen.before,
            "recent": [[part, seen.count + seen.before]],
            "releases": [seen.release] if seen.release else [],
            "pending_at": seen.at if seen.pending else None,
            "offers": 0,
            "attempts": 0,
            "ignored_rate": 0.0,
            "why": "",
        }
        connection.execute(incidents.insert().values(**values, **newest))
        return
    recent = {int(one): int(number) for one, number in row["recent"]}
    recent[part] = recent.get(part, 0) + seen.count
    others = [release for release in row["releases"] if release != seen.release]
    releases = [*others, seen.release][-_RELEASES:] if seen.release else row["releases"]
    changed = {
        **newest,
        "last_at": max(row["last_at"], seen.at),
        "count": row["count"] + seen.count,
        "recent": [[one, recent[one]] for one in sorted(recent) if one > part - _PARTS],
        "releases": releases,
    }
    if seen.pending and row["pending_at"] is None:
        changed["pending_at"] = seen.at
    connection.execute(incidents.update().where(incidents.c.id == row["id"]).values(**changed))


_COLUMNS = frozenset(entry.name for entry in fields(Incident))


def _incident(row: Mapping[str, Any]) -> Incident:
    return Incident(**{name: value for name, value in row.items() if name in _COLUMNS})
