"""The peers under the same client, with the same service and the same bad releases as Regrow in `bench.switch`.

failed_requests, longest_gap_ms, first_new_ms, down_ms and went_back are what they are there. A peer that does not go
back is down for as long as somebody watches, so the lines say that as `watched_s`, seconds from the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import lines
from bench.peers import PEERS, Missing, Peer
from bench.peers.base import home, write_release
from bench.traffic import DEADLINE_S, Traffic, traffic
from regrow.testing.ports import free_port

INIT_S = 0.5
GAP_S = 0.05
FIRST_S = 1.0
LAST_S = 1.0


@dataclass(frozen=True)
class Case:
    """A release 2 by its faults, and the seconds for which it is watched after the order."""

    name: str
    faults: dict[str, str]
    watch_s: float


@dataclass
class Run:
    """What the client saw, and the moment of the order."""

    traffic: Traffic
    ordered: float

    def went_back(self) -> bool:
        """Whether in the last second version 1 answered, and nothing else did."""
        last = [row for row in self.traffic.rows if row[1] > self.traffic.ended - LAST_S]
        return bool(last) and all(row[2] == "1" for row in last)


def cases(dies_in_bake: float) -> tuple[Case, ...]:
    """The good one and three bad ones."""
    return (
        Case("good", {}, 4.5),
        Case("crash_at_once", {"TINY_DIE_AT_START": "1"}, 7.0),
        Case("crash_1s", {"TINY_DIE_AFTER": "1"}, 8.0),
        Case("dies_in_bake", {"TINY_DIE_AFTER": str(dies_in_bake)}, dies_in_bake + 5.0),
    )


async def first_answer(port: int) -> None:
    """Wait until version 1 answers. Raises TimeoutError."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                answered = await reader.read()
                writer.close()
                if b"version" in answered:
                    return
            await asyncio.sleep(0.02)


async def change(kind: type[Peer], case: Case) -> Run:
    """One service of a peer, one change of version, and its end."""
    with tempfile.TemporaryDirectory(prefix="rb-") as directory:
        root, port = Path(directory), free_port()
        write_release(root, "1", port, INIT_S, {})
        peer = kind(root, port)
        try:
            await peer.start()
            await first_answer(port)
            async with traffic(port) as seen:
                await asyncio.sleep(FIRST_S)
                write_release(root, "2", port, INIT_S, case.faults)
                ordered = time.monotonic()
                upgrading = asyncio.create_task(peer.upgrade())
                await asyncio.sleep(case.watch_s)
            await upgrading
        finally:
            await peer.stop()
        return Run(seen, ordered)


def put(out: lines.Lines, case: str, runs: list[Run], watched_s: float) -> None:
    """The lines of a case."""
    gaps = [run.traffic.gaps() for run in runs]
    down = [sum(gap for gap in each if gap > GAP_S) * 1000 for each in gaps]
    firsts = [(run.traffic.first("2", run.ordered) - run.ordered) * 1000 for run in runs]
    out.put(case, "requests", sum(len(run.traffic.rows) for run in runs), "requests")
    out.put(case, "failed_requests", sum(run.traffic.failures() for run in runs), "requests", runs=len(runs))
    for metric, values in (("longest_gap_ms", [max(each) * 1000 for each in gaps]), ("down_ms", down)):
        worst = round(max(values), 2)
        out.put(case, metric, statistics.median(values), "ms", worst=worst, watched_s=watched_s)
    if all(first < float("inf") for first in firsts):
        out.put(case, "first_new_ms", statistics.median(firsts), "ms", worst=round(max(firsts), 2))
    out.put(case, "went_back", int(all(run.went_back() for run in runs)), "bool")


async def measure(out: lines.Lines, runs: int, dies_in_bake: float) -> None:
    """Every peer that can be had here; why another cannot is said on stderr."""
    for kind in PEERS:
        try:
            await asyncio.to_thread(kind.install, home())
            for case in cases(dies_in_bake):
                found = [await change(kind, case) for _ in range(runs)]
                put(out, f"{kind.name}/{case.name}", found, case.watch_s)
        except (Missing, OSError, RuntimeError) as error:
            print(f"{kind.name} is left out: {error}", file=sys.stderr)
