"""Whether a service answers, asked from outside as its users would: what a report says of downtime is measured here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from regrow.config import Config

_EVERY_S = 0.1
_ANSWER_S = 2.0


@dataclass
class Seen:
    """What was seen while asking.

    Attributes:
        asked: how often it was asked.
        failed: how often nothing came back.
        down_ms: time without an answer, from the last good one to the next, in milliseconds; None when nobody could
        ask.
    """

    asked: int = 0
    failed: int = 0
    down_ms: float | None = None


class Availability:
    """Asks the first listening address of a service: its http probe's path where it has one, else a connection."""

    def __init__(self, config: Config) -> None:
        self._address = next(iter(config.service.listen.values()), "")
        paths = (
            probe.target for probe in config.probe.values() if probe.type == "http" and probe.target.startswith("/")
        )
        self._path = next(paths, "")

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[Seen]:
        """Ask ten times a second for the length of the block."""
        seen = Seen()
        if not self._address:
            yield seen
            return
        task = asyncio.create_task(self._watch(seen), name="availability")
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self, seen: Seen) -> None:
        last_good = time.monotonic()
        seen.down_ms = before = 0.0
        while True:
            answered = await self._ask()
            now = time.monotonic()
            seen.asked += 1
            if not answered:
                seen.failed += 1
                seen.down_ms = before + (now - last_good) * 1000
            else:
                if seen.down_ms > before:  # it is back: the gap ends with this answer
                    seen.down_ms = before = before + (now - last_good) * 1000
                last_good = now
            await asyncio.sleep(_EVERY_S)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_S):
                if self._address.startswith("unix:"):
                    reader, writer = await asyncio.open_unix_connection(self._address.removeprefix("unix:"))
                else:
                    host, _, port = self._address.rpartition(":")
                    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                try:
                    if not self._path:
                        return True
                    writer.write(f"GET {self._path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                    return (await reader.read(5)).startswith(b"HTTP/")
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
