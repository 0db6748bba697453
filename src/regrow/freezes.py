"""A freeze: nobody changes the service until it is lifted. Its reason, who said so and since when are in the store, so
that it outlives the daemon."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from regrow.clock import Clock, SystemClock
from regrow.errors import Refused
from regrow.events import Events
from regrow.store import Store, freezes

LONGEST_REASON = 300
"""Characters of a reason; it is told in each refusal."""


@dataclass(frozen=True)
class Freeze:
    """One freeze.

    Attributes:
        service: what nobody may change.
        reason: why, in the words of who said so; may be empty.
        by: who said so.
        at: since when, in seconds since 1970.
    """

    service: str
    reason: str
    by: str
    at: float


class Freezes:
    """The freezes of all services.

    Args:
        store: where they are.
        events: jobs that wait are told of a change.
    """

    def __init__(self, store: Store, events: Events, clock: Clock | None = None) -> None:
        self._store = store
        self._events = events
        self._clock = clock or SystemClock()

    async def of(self, service: str) -> Freeze | None:
        """The freeze of a service, or None."""
        row = await self._store.row(sa.select(freezes).where(freezes.c.service == service))
        return None if row is None else Freeze(**row)

    async def begin(self, service: str, reason: str, by: str) -> Freeze:
        """Freeze a service; a new reason takes the place of an old one, and the time stays.

        Args:
            service: its name.
            reason: why; cut to `LONGEST_REASON`.
            by: who says so.
        """
        reason, now = " ".join(reason.split())[:LONGEST_REASON], self._clock.now()

        def write(connection: sa.Connection) -> None:
            since = connection.execute(sa.select(freezes.c.at).where(freezes.c.service == service)).scalar()
            connection.execute(freezes.delete().where(freezes.c.service == service))
            row = {"service": service, "reason": reason, "by": by, "at": now if since is None else since}
            connection.execute(freezes.insert().values(**row))

        await self._store.transact(write)
        self._events.touch("jobs", ("turn", service))
        found = await self.of(service)
        assert found is not None
        return found

    async def end(self, service: str) -> Freeze:
        """Lift a freeze, and return what it was.

        Raises:
            Refused: kind "not_frozen".
        """
        found = await self.of(service)
        gone = await self._store.transact(
            lambda c: c.execute(freezes.delete().where(freezes.c.service == service)).rowcount
        )
        if found is None or not gone:
            raise Refused(f"cannot unfreeze {service}: it is not frozen", kind="not_frozen", service=service)
        self._events.touch("jobs", ("turn", service))
        return found
