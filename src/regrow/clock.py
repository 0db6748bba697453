"""Time: the monotonic clock for durations, the wall clock for records. Tests put a manual clock in its place."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the rest of Regrow knows of time."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean something."""

    def now(self) -> float:
        """Seconds since 1970, for records and for people."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    def now(self) -> float:
        """Seconds of `time.time`."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """`asyncio.sleep`."""
        await asyncio.sleep(seconds)
