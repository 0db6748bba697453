"""What clients see of a service while something is done to it: a client in a process of its own, and its answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bench import client

RATE = 200.0
WORKERS = 4
DEADLINE_S = 60.0


@dataclass
class Traffic:
    """What the client saw, filled in when its process has ended."""

    rows: list[client.Row] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0

    def failures(self, *kinds: str) -> int:
        """Requests that failed, or failed in one of these ways."""
        return sum(1 for row in self.rows if row[3] and (not kinds or row[3] in kinds))

    def gaps(self) -> list[float]:
        """Seconds between answers, the edges of the watch included."""
        ends = sorted(row[1] for row in self.rows if not row[3])
        marks = [self.began, *ends, max([self.ended, *ends[-1:]])]
        return [after - before for before, after in itertools.pairwise(marks)]

    def answers(self, version: str) -> list[float]:
        """When this version answered."""
        return sorted(row[1] for row in self.rows if row[2] == version)

    def first(self, version: str, after: float) -> float:
        """The first answer of a version after a moment; infinity when there is none."""
        return next((end for end in self.answers(version) if end > after), float("inf"))


@contextlib.asynccontextmanager
async def traffic(port: int, workers: int = WORKERS, rate: float = RATE) -> AsyncIterator[Traffic]:
    """The client's process for the length of the block: so many workers, so many requests a second together."""
    seen = Traffic()
    argv = [sys.executable, client.__file__, str(port), str(workers), str(rate)]
    process = await asyncio.create_subprocess_exec(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**26)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)
        # Its first round: from here on a gap is the service's.
        await asyncio.sleep(2 * workers / rate)
        seen.began = time.monotonic()
        yield seen
    finally:
        seen.ended = time.monotonic()
        process.stdin.close()
        told = await asyncio.wait_for(process.stdout.read(), DEADLINE_S)
        await process.wait()
        rows = [tuple(json.loads(line)) for line in told.splitlines()]
        seen.rows = [row for row in rows if row[1] >= seen.began]
