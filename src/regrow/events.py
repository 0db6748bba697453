"""What changed, told inside the daemon to whoever watches: pages, the live messages in chat, waiting steps.

Nothing here is durable: a watcher that was not there reads the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable, Iterator
from contextlib import contextmanager


class Watch:
    """A watcher's own view of one topic: set when something changed since it last looked."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def touch(self) -> None:
        """Say that something changed."""
        self._changed.set()

    async def changed(self, within_s: float | None = None) -> bool:
        """Wait for a change; many changes between two looks are one.

        Args:
            within_s: the longest wait in seconds; None waits for ever.

        Returns:
            False when the time passed without a change.
        """
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True


class Events:
    """Topics and who watches them. A topic is any hashable value, such as ("job", 7) or ("chat", "web", "main")."""

    def __init__(self) -> None:
        self._watches: dict[Hashable, set[Watch]] = {}

    def touch(self, *topics: Hashable) -> None:
        """Wake everyone who watches one of `topics`."""
        for topic in topics:
            for watch in self._watches.get(topic, ()):
                watch.touch()

    @contextmanager
    def watch(self, *topics: Hashable) -> Iterator[Watch]:
        """Watch `topics` for the length of the block; look at the store once after entering."""
        watch = Watch()
        for topic in topics:
            self._watches.setdefault(topic, set()).add(watch)
        try:
            yield watch
        finally:
            for topic in topics:
                self._watches[topic].discard(watch)
                if not self._watches[topic]:
                    del self._watches[topic]

    async def ticks(self, *topics: Hashable, at_least_every_s: float) -> AsyncGenerator[None, None]:
        """Yield at once, then after each change of `topics`, and at least every so often."""
        with self.watch(*topics) as watch:
            while True:
                yield
                await watch.changed(at_least_every_s)
