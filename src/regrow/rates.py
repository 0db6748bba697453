"""How often one person may ask: requests in a minute, jobs in an hour.

Whoever is over a limit is told when to try again. The local user is under none: who sits at this machine can do all
this without Regrow, and `[service] restart_limit` ends loops of scripts (F6). What leads back to safety is under none
either, or a busy night could end with a person who may not roll back.
"""

from __future__ import annotations

import math
from collections import deque

from regrow.clock import Clock, SystemClock
from regrow.errors import Refused
from regrow.intents import Intent
from regrow.permissions import LOCAL, Person

MINUTE_S, HOUR_S = 60.0, 3600.0
FREE = frozenset(
    {Intent.approve, Intent.reject, Intent.cancel, Intent.rollback, Intent.undo, Intent.keep, Intent.freeze}
)
"""Never refused for a limit: answers to questions, and all ways back."""


class Rates:
    """The requests of the last minute, by person. They are in memory alone: a restart takes longer than they last.

    Args:
        per_minute: requests of one person in a minute; 0: no limit.
        jobs_per_hour: jobs of one person in an hour, counted by the ledger; 0: no limit.
    """

    def __init__(self, per_minute: int = 0, jobs_per_hour: int = 0, clock: Clock | None = None) -> None:
        self._per_minute = per_minute
        self.jobs_per_hour = jobs_per_hour
        self._clock = clock or SystemClock()
        self._asked: dict[str, deque[float]] = {}

    def take(self, person: Person | None, intent: Intent) -> None:
        """Count a request of somebody who may make it.

        Raises:
            Refused: kind "rate", with the seconds until the next one counts.
        """
        if not self._per_minute or person is None or person.id == LOCAL.id or intent in FREE:
            return
        now = self._clock.monotonic()
        asked = self._asked.setdefault(person.id, deque())
        while asked and asked[0] <= now - MINUTE_S:
            asked.popleft()
        if len(asked) >= self._per_minute:
            seconds = math.ceil(asked[0] + MINUTE_S - now)
            raise Refused(
                f"cannot take more than {self._per_minute} requests of one person in a minute; wait {seconds} s",
                kind="rate",
                count=self._per_minute,
                seconds=seconds,
            )
        asked.append(now)
