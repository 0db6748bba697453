"""The platform's time: one that a test can speed up, move forward or stop."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable


class EmulatorClock:
    """A `regrow.clock.Clock` that can also be given to the client under test.

    Three times are kept apart, because they are sped up apart:

    * `now()`: the wall clock, for the times in messages; moved by `advance` and `skew` only, so that a client with the
      machine's clock finds fresh messages fresh;
    * `monotonic()`: for rate limits and the life of tokens; moved by `advance`, never sped up;
    * `timeline()`: for the retry schedule and the life of streaming; moved by `advance` and `speed` times as fast.

    Args:
        speed: how many seconds of the timeline pass in a second.
        running: False stops all three; only `advance` moves them then.
    """

    def __init__(self, *, speed: float = 1.0, running: bool = True) -> None:
        self.speed = speed
        self.running = running
        self._wall = time.time()
        self._start = time.monotonic()
        self._moved = 0.0
        self._sleepers: set[asyncio.Event] = set()

    def _passed(self) -> float:
        return time.monotonic() - self._start if self.running else 0.0

    def now(self) -> float:
        """Seconds since 1970, as the platform sees it."""
        return self._wall + self._passed() + self._moved

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.now() * 1000)

    def monotonic(self) -> float:
        """Seconds for rate limits."""
        return self._passed() + self._moved

    def timeline(self) -> float:
        """Seconds for schedules; passes `speed` times as fast."""
        return self._passed() * self.speed + self._moved

    def advance(self, seconds: float) -> None:
        """Move every time forward by `seconds`; whoever sleeps past its end wakes up."""
        if seconds < 0:
            raise ValueError("cannot move the clock back: time only goes forward")
        self._moved += seconds
        for event in self._sleepers:
            event.set()

    def skew(self, seconds: float) -> None:
        """Put the wall clock wrong by so much more, forward or back; nothing else moves."""
        self._wall += seconds

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` of the timeline have passed or been skipped."""
        due = self.timeline() + seconds
        event = asyncio.Event()
        self._sleepers.add(event)
        try:
            while (left := due - self.timeline()) > 0:
                event.clear()
                try:
                    await asyncio.wait_for(event.wait(), left / self.speed if self.running else None)
                except TimeoutError:
                    continue
        finally:
            self._sleepers.discard(event)


class Limit:
    """At most `most` in any `seconds` of a clock's `monotonic`, by key."""

    def __init__(self, clock: EmulatorClock, most: Callable[[], int], seconds: float) -> None:
        self._clock = clock
        self._most = most
        self.seconds = seconds
        self._taken: defaultdict[object, deque[float]] = defaultdict(deque)

    def take(self, key: object) -> float:
        """Take one. `most` is asked each time, so that a test can change it.

        Returns:
            0 when it was free, else the seconds until one is free (nothing is taken then).
        """
        now = self._clock.monotonic()
        taken = self._taken[key]
        while taken and taken[0] <= now - self.seconds:
            taken.popleft()
        most = self._most()
        if len(taken) >= most:
            return taken[len(taken) - most] + self.seconds - now
        taken.append(now)
        return 0.0
