"""Upgrades while the accept queue is never empty: more clients than the service can answer, each on new connections."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path

from bench import lines
from bench.traffic import traffic
from regrow.testing.service_system import ServiceSystem

WORKERS = 64
WORK_S = 0.004
AT_ONCE = 1_000_000.0
LONG_S = 600.0
LOOK_S = 0.02
SETTLE_S = 0.2
CASE = "regrow/saturated"
_LISTEN = "0A"


def waiting(port: int) -> int:
    """Connections in the accept queue of a listening socket."""
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            return int(fields[4].rpartition(":")[2], 16)
    raise AssertionError(f"nobody listens on {port}")


async def measure(out: lines.Lines, upgrades: int) -> None:
    """So many upgrades, one after the other, each promoted at once."""
    with tempfile.TemporaryDirectory(prefix="regrow-bench-") as root:
        system = ServiceSystem(Path(root))
        queue: list[int] = []

        async def look() -> None:
            while True:
                queue.append(waiting(system.port))
                await asyncio.sleep(LOOK_S)

        env = {"TINY_WORK": str(WORK_S)}
        # A private probe socket stands in the same queue of work, not of connections: it is asked seldom.
        try:
            await system.service.start(system.release("1", env, probes=()), "active", "0")
            async with traffic(system.port, WORKERS, AT_ONCE) as seen:
                await asyncio.sleep(SETTLE_S)
                looking = asyncio.create_task(look())
                for number in range(1, upgrades + 1):
                    release = system.release(str(1 + number % 2), env, probes=())
                    await system.service.start(release, "candidate", str(number))
                    await system.service.switch(str(number), 0.0, LONG_S)
                    await asyncio.sleep(SETTLE_S)
                    await system.service.promote(str(number))
                looking.cancel()
        finally:
            await system.service.close(keep_service=False)
    out.put(CASE, "upgrades", upgrades, "times")
    out.put(CASE, "requests", len(seen.rows), "requests")
    out.put(CASE, "resets", seen.failures("reset"), "requests")
    out.put(CASE, "failed_requests", seen.failures(), "requests")
    out.put(CASE, "queue", statistics.median(queue), "connections", least=min(queue))
