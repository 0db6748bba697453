"""How long builds and tests take here, learned from the past ones."""

from __future__ import annotations

import sqlalchemy as sa

from regrow.clock import Clock, SystemClock
from regrow.store import Store, builds

_LOOK_BACK = 10


class Estimates:
    """The durations of what was done before."""

    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()

    async def add(self, service: str, what: str, seconds: float, lines: int) -> None:
        """Record one run that went well.

        Args:
            service: whose.
            what: "build" or "test".
            seconds: how long it took.
            lines: how many lines it printed; a second measure of how far a later run is.
        """
        values = {"service": service, "what": what, "seconds": seconds, "lines": lines, "at": self._clock.now()}
        await self._store.transact(lambda c: c.execute(builds.insert().values(**values)))

    async def past(self, service: str, what: str) -> list[tuple[float, int]]:
        """Seconds and lines of the last runs, newest first."""
        query = sa.select(builds).where(builds.c.service == service, builds.c.what == what)
        rows = await self._store.rows(query.order_by(builds.c.id.desc()).limit(_LOOK_BACK))
        return [(row["seconds"], row["lines"]) for row in rows]

    async def range(self, service: str, what: str) -> tuple[float, float] | None:
        """Shortest and longest of the last runs in seconds; None before the first."""
        seconds = [s for s, _ in await self.past(service, what)]
        return (min(seconds), max(seconds)) if seconds else None
