"""Incidents: crashes, failed probes and fallbacks, written down from the supervisor's journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa

from regrow.care import Care
from regrow.events import Events
from regrow.services.base import ServiceEvent
from regrow.store import Store, cursors, incidents

KINDS = frozenset({"crashed", "fell_back", "candidate_failed", "down", "unhealthy", "standby_died", "start_failed"})


Tell = Callable[[Care, ServiceEvent], Awaitable[None]]


class Incidents:
    """The incidents of all services.

    Args:
        tell: tells people of an event, each event once however often it is called.
    """

    def __init__(self, store: Store, events: Events, tell: Tell) -> None:
        self._store = store
        self._events = events
        self._tell = tell

    async def follow(self, care: Care) -> None:
        """Read a service's journal from where the last daemon stopped, until cancelled, and wake who watches it."""
        name = f"events:{care.name}"
        row = await self._store.row(sa.select(cursors).where(cursors.c.name == name))
        async for event in care.service.events(int(row["value"]) if row else 0):
            await self._tell(care, event)  # before the cursor moves: a kill in between leaves nothing untold
            await self._keep(care, name, event)
            self._events.touch(("service", care.name))

    async def _keep(self, care: Care, cursor: str, event: ServiceEvent) -> None:
        values = {
            "service": care.name,
            "event": event.seq,
            "at": event.at,
            "kind": event.event,
            "release": str(event.data.get("release") or event.data.get("from") or ""),
            "cause": care.redactor.redact(str(event.data.get("cause") or "")),
            "detail": {
                k: v for k, v in event.data.items() if isinstance(v, int | float | bool) or k in {"to", "reason"}
            },
        }

        def write(connection: sa.Connection) -> None:
            same = (incidents.c.service == care.name, incidents.c.event == event.seq)
            known = connection.execute(sa.select(incidents.c.id).where(*same)).first()
            if event.event in KINDS and known is None:
                connection.execute(incidents.insert().values(**values))
            connection.execute(cursors.delete().where(cursors.c.name == cursor))
            connection.execute(cursors.insert().values(name=cursor, value=event.seq))

        await self._store.transact(write)

    async def last(self, service: str, limit: int = 50) -> list[dict[str, Any]]:
        """The newest incidents of a service, newest first."""
        query = sa.select(incidents).where(incidents.c.service == service)
        return await self._store.rows(query.order_by(incidents.c.id.desc()).limit(limit))
