"""Quiet hours: the times of day in which nothing that can wait changes a service.

A period is two instants, found once from the clock on the wall: where that clock is put back in the middle of the
night, the hours that come twice are no second period, and a period is as long as its two times say or an hour more or
less.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

_HOURS = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]):([0-5]\d)")


def period(text: str) -> tuple[time, time]:
    """The two times of "23:00-07:00"; one that ends before it begins goes past midnight.

    Raises:
        ValueError: it is written otherwise, or both times are the same.
    """
    found = _HOURS.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'hours look like "23:00-07:00", not "{text}"')
    numbers = [int(number) for number in found.groups()]
    begin, end = time(numbers[0], numbers[1]), time(numbers[2], numbers[3])
    if begin == end:
        raise ValueError(f'the hours "{text}" begin when they end; leave them out, or name another end')
    return begin, end


class Quiet:
    """The quiet hours of one service.

    Args:
        hours: "23:00-07:00" and the like; none: it is never quiet.
        zone: the name of their time zone, such as "Asia/Shanghai"; "": the machine's own.

    Raises:
        ValueError: as `period`, or for a zone that this machine does not know.
    """

    def __init__(self, hours: Sequence[str] = (), zone: str = "") -> None:
        self._periods = [period(text) for text in hours]
        self._zone = ZoneInfo(zone) if zone else None

    def until(self, now: float) -> float | None:
        """When the quiet hours that last now are over, both in seconds since 1970; None when it is not quiet."""
        today = datetime.fromtimestamp(now, self._zone).date()
        ends = []
        for begin, end in self._periods:
            for day in (today - timedelta(days=1), today):
                last = day if begin < end else day + timedelta(days=1)
                if self._at(datetime.combine(day, begin)) <= now < (over := self._at(datetime.combine(last, end))):
                    ends.append(over)
        if not ends:
            return None
        # Where one period ends another may go on.
        return self.until(max(ends)) or max(ends)

    def _at(self, wall: datetime) -> float:
        return wall.replace(tzinfo=self._zone).timestamp()

    def clock(self, when: float) -> str:
        """What the clock on the wall shows at an instant, "07:00"."""
        return f"{datetime.fromtimestamp(when, self._zone):%H:%M}"

    def date(self, when: float) -> str:
        """The same with its day, "2026-01-31 07:00"."""
        return f"{datetime.fromtimestamp(when, self._zone):%Y-%m-%d %H:%M}"
