"""Snapshots on a schedule (`[snapshots] every`): between jobs, and of unchanged data none."""

from __future__ import annotations

import structlog

from regrow.care import Care
from regrow.clock import Clock, SystemClock
from regrow.errors import RegrowError
from regrow.jobs import data
from regrow.jobs.ledger import Ledger
from regrow.notices import Notices

log = structlog.get_logger("timetable")

_LATER_S = 60.0
"""A job changes the service, or it went wrong: look again after this long."""


async def run(care: Care, ledger: Ledger, notices: Notices, clock: Clock | None = None) -> None:
    """Take snapshots of one service, until cancelled.

    Args:
        care: the service.
        ledger: knows whether a job changes it; a snapshot that is one release's half is of no use to anybody.
        notices: tells people of data that cannot be copied.
    """
    clock = clock or SystemClock()
    every = care.config.snapshots.every
    if not every or not care.databases:
        return
    taken = next(iter(await care.snapshots.all()), None)
    due = max(0.0, taken.at + every - clock.now()) if taken else 0.0
    while True:
        await clock.sleep(min(due, every))
        turn = await ledger.turn(care.name)
        if turn is not None and not (await ledger.get(turn)).ended:
            due = _LATER_S
            continue
        try:
            await care.snapshots.take(None, care.databases, reason="schedule")
            await data.prune(care)
            due = every
        except (RegrowError, OSError) as error:
            log.warning("no snapshot could be taken", action="snapshot_failure", service=care.name, error=str(error))
            event = f"{care.name} snapshot {clock.now():.0f}"
            await notices.tell(event, f"snapshots {care.name}", "snapshot_failed", service=care.name, cause=str(error))
            due = max(every, _LATER_S)
