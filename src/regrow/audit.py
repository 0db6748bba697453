"""The audit log: who asked for what, from where, on whose word, and how it ended.

Rows are only ever added; the database refuses anything else. Each row carries a SHA-256 over its content and the hash
of the row before, so that a row that was changed or taken away behind the database's back no longer fits. The end of
the chain is also kept in a second place, the head file and the daemon's log, because the chain alone cannot tell that
its last rows are missing. Who may write to both places can forge both: copy the head elsewhere where that matters.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from regrow import files
from regrow.clock import Clock, SystemClock
from regrow.pool import in_thread
from regrow.store import Store, audit

log = structlog.get_logger("audit")

SHORTENED = "shortened"
"""What a row says that was written after rows before it had gone."""
RESTORED = "restored"
"""The same, where a person has brought back an older store."""
_AT_ONCE = 1000
_CONTENT = ("id", "at", "who", "person", "via", "what", "job", "detail")


@dataclass(frozen=True)
class Head:
    """The end of a chain: the number of its last row, and that row's hash; 0 and "" when there is none."""

    id: int = 0
    hash: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a walk along the chain has found.

    Attributes:
        rows: how many rows there are.
        broken: the number of the first row that does not fit, or None.
        reason: in what way.
    """

    rows: int
    broken: int | None = None
    reason: str = ""


def digest(row: Mapping[str, Any], previous: str) -> str:
    """The hash of a row: SHA-256 over {..., "previous"} as JSON with sorted keys, no spaces, and ASCII only."""
    content = {name: row[name] for name in _CONTENT} | {"previous": previous}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def chained(row: Mapping[str, Any], previous: str) -> dict[str, Any]:
    """The columns of a row that follows the one with the hash `previous`."""
    # As the database gives it back: no NUL in a text, and of a detail what JSON can say.
    plain = {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}
    plain["detail"] = json.loads(_text(json.dumps(row["detail"], ensure_ascii=False)).replace("\\u0000", "\\ufffd"))
    return {**{name: plain[name] for name in _CONTENT}, "hash": digest(plain, previous)}


def _text(value: str) -> str:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


class Audit:
    """The log of one daemon.

    Args:
        store: where it is.
        clock: tests put a manual one here.
        head: the file that keeps the end of the chain; None: it is kept nowhere else.
    """

    def __init__(self, store: Store, clock: Clock | None = None, head: Path | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._file = head
        self._turn = asyncio.Lock()  # or an older head could be written over a newer one

    async def begin(self, restored: Mapping[str, Any] | None = None) -> None:
        """Compare the log with its head, and write down in it when rows have gone since.

        Args:
            restored: what is known of a restoration of the store since the last life, `by` included; it explains why.
        """
        kept = await in_thread(self._kept)
        if restored is not None:
            known = {name: value for name, value in restored.items() if name != "by"}
            await self.write(
                str(restored.get("by", "")), "cli", RESTORED, had=asdict(kept) if kept else None, known=known
            )
        elif kept is not None and (reason := await self._missing(kept)):
            log.error("the audit log was shortened", action="audit_shortened", reason=reason)
            await self.write("regrow", "daemon", SHORTENED, **asdict(kept))

    async def write(
        self,
        who: str,
        via: str,
        what: str,
        job: int | None = None,
        *,
        person: str = "",
        once: bool = False,
        **detail: Any,
    ) -> None:
        """Add a row.

        Args:
            who: the person, or "regrow" for what it does by itself.
            via: the channel or interface it came through.
            what: stable word, such as "asked", "approved", "refused", "ended".
            job: the job it belongs to.
            person: the id of `who`, "" for a stranger and for Regrow.
            once: leave it when the job has such a row already: for steps that may run twice.
            detail: what else is worth knowing, as JSON; no secrets, no contents of files.
        """
        values = {"at": self._clock.now(), "who": who, "person": person, "via": via, "what": what, "job": job}

        def add(connection: sa.Connection) -> Head | None:
            same = sa.select(audit.c.id).where(audit.c.job == job, audit.c.what == what)
            if once and connection.execute(same).first() is not None:
                return None
            return append(connection, {**values, "detail": detail})

        async with self._turn:
            head = await self._store.transact(add)
            if head is None:
                return
            log.info("audited", action="audited", what=what, job=job, row=head.id, hash=head.hash)
            if self._file is not None:
                await in_thread(files.write_atomic, self._file, json.dumps(asdict(head)).encode())

    # Looking

    async def last(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest rows, newest first."""
        return await self._store.rows(sa.select(audit).order_by(audit.c.id.desc()).limit(limit))

    async def find(
        self,
        *,
        since: float = 0.0,
        who: str = "",
        job: int | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int = 1000,
    ) -> list[dict[str, Any]]:
        """Rows, oldest first.

        Args:
            since: not before this time, in seconds since 1970.
            who: the name or the id of a person; "" for everybody.
            job: of this job alone.
            after: above this number.
            before: below this number.
            limit: the newest that many, or, with `after`, the first that many above it.
        """
        query = sa.select(audit).where(audit.c.at >= since).limit(limit)
        if who:
            query = query.where(sa.or_(audit.c.who == who, audit.c.person == who))
        if job is not None:
            query = query.where(audit.c.job == job)
        if before is not None:
            query = query.where(audit.c.id < before)
        if after is not None:
            return await self._store.rows(query.where(audit.c.id > after).order_by(audit.c.id))
        return list(reversed(await self._store.rows(query.order_by(audit.c.id.desc()))))

    async def verify(self) -> Verdict:
        """Walk the chain from its first row, and compare its end with the head."""
        previous = Head()
        async for row in self._all():
            if row["id"] != previous.id + 1:
                gap = f"the rows {previous.id + 1} to {row['id'] - 1} are missing before it"
                return Verdict(row["id"], row["id"], gap)
            if row["hash"] != digest(row, previous.hash):
                return Verdict(row["id"], row["id"], "its content, or that of the row before it, was changed")
            if row["what"] == SHORTENED:
                lost = f"when it was written the log had lost its end: it had reached row {row['detail'].get('id')}"
                return Verdict(row["id"], row["id"], lost)
            previous = Head(row["id"], row["hash"])
        kept = await in_thread(self._kept)
        if kept is not None and (reason := await self._missing(kept)):
            return Verdict(previous.id, min(kept.id, previous.id + 1), reason)
        return Verdict(previous.id)

    async def _all(self) -> AsyncIterator[dict[str, Any]]:
        after = 0
        while rows := await self._store.rows(
            sa.select(audit).where(audit.c.id > after).order_by(audit.c.id).limit(_AT_ONCE)
        ):
            for row in rows:
                yield row
            after = rows[-1]["id"]

    def _kept(self) -> Head | None:
        """What the head file says; None where there is none or it cannot be read."""
        try:
            return Head(**json.loads(self._file.read_text())) if self._file is not None else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.error("the head of the audit log cannot be read", action="audit_head", error=str(error))
            return None

    async def _missing(self, kept: Head) -> str:
        """In what way the log is not the one that `kept` was the end of; "" when it goes on from there."""
        row = await self._store.row(sa.select(audit.c.hash).where(audit.c.id == kept.id))
        if row is None:
            return f"the log had reached row {kept.id}, and that one is gone"
        return "" if row["hash"] == kept.hash else f"row {kept.id} is another one than was written"


def append(connection: sa.Connection, values: Mapping[str, Any]) -> Head:
    """Add a row to the end of the chain, inside a write transaction of the caller's.

    Args:
        values: the content of the row, without its number.

    Returns:
        The new end.
    """
    last = connection.execute(sa.select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).first()
    end = Head(*last) if last else Head()
    row = chained({**values, "id": end.id + 1}, end.hash)
    connection.execute(audit.insert().values(**row))
    return Head(row["id"], row["hash"])
