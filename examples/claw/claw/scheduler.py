"""The alarm clock: looks for due reminders while it is on."""

import asyncio
import logging
import sqlite3

from claw import reminders
from claw.message import now
from claw.store import Store

log = logging.getLogger("claw")


class Scheduler:
    def __init__(self, store: Store, period_s: float = 1.0) -> None:
        self._store = store
        self._period_s = period_s
        self._on = asyncio.Event()

    def on(self) -> None:
        self._on.set()

    def off(self) -> None:
        """Begin nothing new; a transaction that has begun is finished."""
        self._on.clear()

    async def run(self) -> None:
        while True:
            await self._on.wait()
            try:
                fired = await self._fire()
            except sqlite3.OperationalError as error:
                # The other release may hold the file for a moment, the disk may be full for an hour.
                log.warning("cannot look for due reminders, trying again: %s", error)
                fired = 0
            if not fired:
                await asyncio.sleep(self._period_s)

    async def _fire(self) -> int:
        at = now()
        if not await self._store.read(lambda db: reminders.pending(db, at)):
            return 0
        return await self._store.write(lambda db: reminders.fire(db, at))
