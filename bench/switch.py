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

The cases without a shared socket, and the one with a queue that is never empty, are in `bench/cases`:

lost_events       events of a bot with an outbound connection that nobody answered; `doubled_events` were answered twice
offline_ms        of all runs together, in which no release was connected; what comes then is lost
program_ms        of a service of which only one may run: its own stop and start by hand, beside `down_ms` by Regrow
queue             connections that waited in the accept queue, a median over the upgrades

Times are medians of the runs and have their worst case beside them as `worst`. Peers (`bench/peers`)
are measured in the same run, and `python -m bench.table` makes the comparison out of its lines.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench import comparison, lines
from bench.cases import exclusive, outbound, saturated
from bench.traffic import DEADLINE_S, Traffic, traffic
from regrow.services.base import CandidateFailed, Probe, ReleaseSpec
from regrow.testing.service_system import ServiceSystem

INIT_S = 0.5
GAP_S = 0.05
BAKE_S = 1.0
LONG_S = 60.0


@dataclass(frozen=True)
class Size:
    """How often and how long. `settle` seconds of plain traffic stand before and after each upgrade."""

    runs: int
    settle: float
    dies_in_bake: float
    outbound: outbound.Size
    saturated: int
    peer_runs: int


SIZES = {
    "smoke": Size(1, 0.3, 1.5, outbound.Size(runs=1, events=25, longest=0.5, dies=0.5), saturated=2, peer_runs=1),
    "default": Size(3, 1.0, 5.0, outbound.Size(runs=2, events=60, longest=3.0, dies=1.5), saturated=20, peer_runs=1),
    "nightly": Size(25, 2.0, 5.0, outbound.Size(runs=5, events=149, longest=6.0, dies=1.5), saturated=100, peer_runs=5),
}


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

    await outbound.measure(out, size.outbound)
    await exclusive.measure(out, size.runs, size.settle)
    await saturated.measure(out, size.saturated)
    from bench.cases import foreign  # it builds on this module

    await foreign.measure(out, size)


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
