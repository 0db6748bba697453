"""Changing versions under load: what clients see of good releases and of bad ones.

A service that needs 0.5 s to start is upgraded by the embedded driver and its supervisor while four workers ask 200
times a second, each time on a new connection, from a process of their own. Per case:

failed_requests   refused, cut or late, of all runs together; `resets` are the cut ones
longest_gap_ms    between two answers one after the other, whoever got them; `baseline_gap_ms` without an upgrade
first_new_ms      from the order to start the candidate to the first answer of the new version
down_ms           all gaps longer than 50 ms together
went_back         1 when the old version alone serves at the end
served_by_dead    answers of a candidate that was never switched to
notice_ms         from the exit of a candidate to its `candidate_failed` event in the hands of the daemon's driver
fallback_ms       from a death in bake to the first answer of the old version

Times are medians of the runs and have their worst case beside them as `worst`. Peers (`bench/peers`)
are measured in the same run, and `python -m bench.table` makes the comparison out of its lines.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import client, comparison, lines
from regrow.services.base import CandidateFailed, Probe, ReleaseSpec
from regrow.testing.service_system import ServiceSystem

RATE = 200.0
WORKERS = 4
INIT_S = 0.5
GAP_S = 0.05
BAKE_S = 1.0
LONG_S = 60.0
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Size:
    """How often and how long. `settle` seconds of plain traffic stand before and after each upgrade."""

    runs: int
    settle: float
    dies_in_bake: float
    peer_runs: int


SIZES = {"smoke": Size(1, 0.3, 1.5, 1), "default": Size(3, 1.0, 5.0, 1), "nightly": Size(25, 2.0, 5.0, 5)}


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


@dataclass
class Run:
    """One upgrade: the traffic and the moments that count."""

    traffic: Traffic
    ordered: float
    went_back: bool
    died: float | None = None
    noticed: float | None = None

    def fallback_ms(self) -> float:
        """From the death to the first answer of the old version."""
        assert self.died is not None
        return (self.traffic.first("1", self.died) - self.died) * 1000


@contextlib.asynccontextmanager
async def traffic(port: int) -> AsyncIterator[Traffic]:
    """The client's process for the length of the block."""
    seen = Traffic()
    argv = [sys.executable, client.__file__, str(port), str(WORKERS), str(RATE)]
    process = await asyncio.create_subprocess_exec(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**26)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)
        # Its first round: from here on a gap is the service's.
        await asyncio.sleep(2 * WORKERS / RATE)
        seen.began = time.monotonic()
        yield seen
    finally:
        seen.ended = time.monotonic()
        process.stdin.close()
        told = await asyncio.wait_for(process.stdout.read(), DEADLINE_S)
        await process.wait()
        rows = [tuple(json.loads(line)) for line in told.splitlines()]
        seen.rows = [row for row in rows if row[1] >= seen.began]


class Upgrade:
    """One service in a directory of its own, version 1 proved and promoted, and one upgrade to version 2."""

    def __init__(self, root: Path, standby: str) -> None:
        self.system = ServiceSystem(root)
        self.note = root / "death"
        self.standby = standby

    def release(self, version: str, **env: str) -> ReleaseSpec:
        """A release with the settings that a service has unless it says otherwise."""
        wanted = {"TINY_INIT": str(INIT_S), "TINY_DEATH_NOTE": str(self.note), **env}
        health = Probe("health", "http", "/health", interval_s=1.0, strikes=3, version_json="version")
        return self.system.release(version, wanted, standby=self.standby, probes=(health,))

    async def __aenter__(self) -> Upgrade:
        await self.system.service.start(self.release("1"), "active", "first")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.system.service.close(keep_service=False)

    async def _noticed(self, name: str) -> float:
        async with contextlib.aclosing(self.system.service.events(0)) as events:
            async for event in events:
                if event.event == name:
                    return time.monotonic()
        raise AssertionError("the events ended")

    async def _back(self) -> bool:
        status = await self.system.service.status()
        return status.active is not None and status.active.release == "r1" and status.state == "running"

    async def baseline(self, seconds: float) -> Traffic:
        """Traffic and nothing else."""
        async with traffic(self.system.port) as seen:
            await asyncio.sleep(seconds)
        return seen

    async def good(self, settle: float) -> Run:
        """Upgrade, bake, promote."""
        service = self.system.service
        async with traffic(self.system.port) as seen:
            await asyncio.sleep(settle)
            ordered = time.monotonic()
            await service.start(self.release("2"), "candidate", "second")
            await service.switch("second", BAKE_S, LONG_S)
            await asyncio.sleep(BAKE_S)
            await service.promote("second")
            await asyncio.sleep(settle)
        return Run(seen, ordered, await self._back())

    async def unproved(self, settle: float, killed: bool) -> Run:
        """A candidate that dies before anything is switched: by itself at once, or killed when it is proved."""
        service = self.system.service
        died = 0.0
        async with traffic(self.system.port) as seen:
            await asyncio.sleep(settle)
            ordered = time.monotonic()
            noticing = asyncio.create_task(self._noticed("candidate_failed"))
            await asyncio.sleep(0)
            env = {} if killed else {"TINY_DIE_AT_START": "1", "TINY_INIT": "0"}
            with contextlib.suppress(CandidateFailed):
                candidate = await service.start(self.release("2", **env), "candidate", "second")
                await asyncio.sleep(settle)
                assert killed, "it was to die at once"
                assert candidate.pid is not None
                died = time.monotonic()
                os.kill(candidate.pid, signal.SIGKILL)
            noticed = await asyncio.wait_for(noticing, DEADLINE_S)
            await asyncio.sleep(settle)
        return Run(seen, ordered, await self._back(), died or float(self.note.read_text()), noticed)

    async def dies(self, settle: float, after: float) -> Run:
        """A release that is proved, takes traffic, and dies `after` seconds later, in bake."""
        service = self.system.service
        async with traffic(self.system.port) as seen:
            await asyncio.sleep(settle)
            ordered = time.monotonic()
            back = asyncio.create_task(self._noticed("fell_back"))
            await service.start(self.release("2", TINY_DIE_AFTER=str(after)), "candidate", "second")
            await service.switch("second", LONG_S, 2 * LONG_S)
            await asyncio.wait_for(back, DEADLINE_S)
            await asyncio.sleep(settle)
        return Run(seen, ordered, await self._back(), float(self.note.read_text()))


def put_times(out: lines.Lines, case: str, metric: str, values: list[float]) -> None:
    """The median, with the worst beside it."""
    out.put(case, metric, statistics.median(values), "ms", worst=round(max(values), 2))


def put(out: lines.Lines, case: str, runs: list[Run]) -> None:
    """The lines that every case has."""
    out.put(case, "requests", sum(len(run.traffic.rows) for run in runs), "requests")
    out.put(case, "failed_requests", sum(run.traffic.failures() for run in runs), "requests")
    out.put(case, "resets", sum(run.traffic.failures("reset") for run in runs), "requests")
    put_times(out, case, "longest_gap_ms", [max(run.traffic.gaps()) * 1000 for run in runs])
    put_times(out, case, "down_ms", [sum(g for g in run.traffic.gaps() if g > GAP_S) * 1000 for run in runs])
    out.put(case, "went_back", int(all(run.went_back for run in runs)), "bool")


async def measure(out: lines.Lines, size: Size) -> None:
    """All cases, one after the other, each run with a service of its own."""

    @contextlib.asynccontextmanager
    async def upgrade(standby: str = "paused") -> AsyncIterator[Upgrade]:
        with tempfile.TemporaryDirectory(prefix="regrow-bench-") as root:
            async with Upgrade(Path(root), standby) as one:
                yield one

    for case, standby in (("regrow/good", "paused"), ("regrow/good_running", "running")):
        runs = []
        for _ in range(size.runs):
            async with upgrade(standby) as one:
                if not runs:
                    quiet = await one.baseline(2 * size.settle + INIT_S + BAKE_S)
                    out.put(case, "baseline_gap_ms", max(quiet.gaps()) * 1000, "ms")
                runs.append(await one.good(size.settle))
        put(out, case, runs)
        firsts = [(run.traffic.first("2", run.ordered) - run.ordered) * 1000 for run in runs]
        put_times(out, case, "first_new_ms", firsts)

    for case, killed in (("regrow/crash_at_once", False), ("regrow/dies_proved", True)):
        runs = []
        for _ in range(size.runs):
            async with upgrade() as one:
                runs.append(await one.unproved(size.settle, killed))
        put(out, case, runs)
        out.put(case, "served_by_dead", sum(len(run.traffic.answers("2")) for run in runs), "requests")
        put_times(out, case, "notice_ms", [((run.noticed or 0) - (run.died or 0)) * 1000 for run in runs])

    for case, after in (("regrow/crash_1s", 1.0), ("regrow/dies_in_bake", size.dies_in_bake)):
        runs = []
        for _ in range(size.runs):
            async with upgrade() as one:
                runs.append(await one.dies(size.settle, after))
        put(out, case, runs)
        put_times(out, case, "fallback_ms", [run.fallback_ms() for run in runs])


def main() -> None:
    """Print the lines."""
    parser = lines.arguments(__doc__ or "")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, help="beside Regrow; default: not in smoke")
    options = parser.parse_args()
    size, out = SIZES[options.size], lines.Lines("switch")
    asyncio.run(measure(out, size))
    if options.peers or (options.peers is None and options.size != "smoke"):
        asyncio.run(comparison.measure(out, size.peer_runs, size.dies_in_bake))


if __name__ == "__main__":
    main()
