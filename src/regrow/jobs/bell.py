"""A bell for the engine's queue: a job begins when it is asked for, not at the next poll.

DBOS finds enqueued jobs by polling alone. A short poll costs processor time for ever (4 ms each, and a quarter of a
second between them was 1.4 % of a core), a long one makes every person wait. Its threads sleep on the event that ends
them; here that event can also be rung, and the poll stays as the net below.
"""

from __future__ import annotations

import threading

from dbos import DBOS


class Bell:
    """Wakes the threads that wait on the engine's events."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self._count = 0
        self._heard = threading.local()

    def hang(self, engine: DBOS) -> None:
        """Make the engine's threads hear this bell. To be called before its launch."""
        # Where another version of the engine keeps its events elsewhere, nobody hears it and the poll does the work.
        engine.background_thread_stop_events = _Events(self)

    def ring(self) -> None:
        """Wake every thread; one that is busy looks once more before it sleeps."""
        with self._rung:
            self._count += 1
            self._rung.notify_all()

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Wait for `event`, for a ring not heard yet by this thread, or for `timeout` seconds.

        Returns:
            Whether the event is set; false after a ring.
        """
        with self._rung:
            if not event.is_set() and getattr(self._heard, "count", 0) == self._count:
                self._rung.wait(timeout)
            self._heard.count = self._count
            return event.is_set()


class _Event(threading.Event):
    """An event of the engine's whose waiters hear the bell."""

    bell: Bell

    def wait(self, timeout: float | None = None) -> bool:
        return self.bell.wait(self, timeout)

    def set(self) -> None:
        super().set()
        self.bell.ring()


class _Events(list[threading.Event]):
    """The engine's list of events; it keeps the event itself as well, so the event changes and is not replaced."""

    def __init__(self, bell: Bell) -> None:
        super().__init__()
        self._bell = bell

    def append(self, event: threading.Event, /) -> None:
        """Take an event in before a thread waits on it."""
        event.__class__ = _Event
        assert isinstance(event, _Event)
        event.bell = self._bell
        super().append(event)
