"""The audit log: who asked for what, from where, on whose word, and how it ended. Rows are only ever added."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from regrow.clock import Clock, SystemClock
from regrow.store import Store, audit


class Audit:
    """The log of one daemon."""

    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()

    async def write(self, who: str, via: str, what: str, job: int | None = None, **detail: Any) -> None:
        """Add a row.

        Args:
            who: the person, or "regrow" for what it does by itself.
            via: the channel or interface it came through.
            what: stable word, such as "asked", "approved", "refused", "ended".
            job: the job it belongs to.
            detail: what else is worth knowing, as JSON; no secrets, no contents of files.
        """
        values = {"at": self._clock.now(), "who": who, "via": via, "what": what, "job": job, "detail": detail}
        await self._store.transact(lambda c: c.execute(audit.insert().values(**values)))

    async def last(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest rows, newest first."""
        return await self._store.rows(sa.select(audit).order_by(audit.c.id.desc()).limit(limit))
