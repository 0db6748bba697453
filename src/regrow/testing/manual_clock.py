"""A clock that goes only when a test says so: hours pass in no time, and nothing depends on how busy the machine is."""

from __future__ import annotations

import asyncio


class ManualClock:
    """A `regrow.clock.Clock` under the control of a test.

    Args:
        now: where the wall clock stands, seconds since 1970.
    """

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self._wall = now
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._fell_asleep = asyncio.Event()

    def monotonic(self) -> float:
        """Seconds that `advance` let pass."""
        return self._elapsed

    def now(self) -> float:
        """Where the wall clock stands."""
        return self._wall

    async def sleep(self, seconds: float) -> None:
        """Return once that much time was let pass; at once when it is none."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self._elapsed + seconds, woken)
        self._sleepers.append(entry)
        self._fell_asleep.set()
        try:
            await woken
        finally:
            self._sleepers.remove(entry)

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks and wake who has slept long enough."""
        self._elapsed += seconds
        self._wall += seconds
        for until, woken in self._sleepers:
            if until <= self._elapsed and not woken.done():
                woken.set_result(None)

    def set_wall(self, now: float) -> None:
        """Set the wall clock alone, also back: what an administrator or a time server does."""
        self._wall = now

    async def asleep(self, count: int = 1, within_s: float = 10.0) -> None:
        """Wait until `count` callers sleep.

        Raises:
            TimeoutError: they did not within `within_s` real seconds.
        """
        async with asyncio.timeout(within_s):
            while len(self._sleepers) < count:
                self._fell_asleep.clear()
                await self._fell_asleep.wait()
