"""The daemon at rest: how fast it is ready, what it holds, what it burns, how fast it answers.

ready_ms            from the start of its process to READY=1, seen from outside, its service up and its state written
first_ready_ms      the same in an empty state directory
rss_mib             resident memory of the idle daemon, started anew; `rss_after_job_mib` after it has done a deploy
supervisor_rss_mib  resident memory of the supervisor
supervisor_wakeups  how often the supervisor wakes in a second of nothing, of a service without probes and of one with a
                    probe a second (`no_probes`, `one_probe`); `supervisor_rss_mib` there too, without a daemon
idle_cpu_pct        the daemon's own processor time over the idle seconds, in per cent of one core
status_ms           `regrow status` as a program, from its start to its end

Beside the times that a person waits stands the processor time in them, `ready_cpu_ms` and `status_cpu_ms`: it does not
grow much when the machine is busy with something else.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import lines
from bench.world import cpu_s, resident_mib, world
from regrow.services.base import Probe
from regrow.testing.service_system import ServiceSystem


@dataclass(frozen=True)
class Size:
    """Starts, seconds of idling, calls of `regrow status`."""

    starts: int
    idle_s: float
    calls: int


SIZES = {"smoke": Size(1, 1.0, 1), "default": Size(5, 30.0, 10), "nightly": Size(20, 300.0, 50)}
SETTLE_S = 2.0


def children_cpu_s() -> float:
    """Processor seconds of the programs that were run and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(out: lines.Lines, size: Size) -> None:
    """One world, one case."""
    with tempfile.TemporaryDirectory(prefix="rb-") as root, world(Path(root), bake_s=1.0) as here:
        out.put("idle", "first_ready_ms", here.start() * 1000, "ms")
        here.idle()
        here.publish(here.tip)
        here.ask("deploy", target="latest")
        here.idle()
        assert here.process is not None
        time.sleep(SETTLE_S)
        out.put("idle", "rss_after_job_mib", resident_mib(here.process.pid), "MiB")
        starts, worked = [], []
        for _ in range(size.starts):
            here.stop()
            starts.append(here.start() * 1000)
            worked.append(cpu_s(here.process.pid) * 1000)
        out.put("idle", "ready_ms", statistics.median(starts), "ms", worst=round(max(starts), 2))
        out.put("idle", "ready_cpu_ms", statistics.median(worked), "ms")
        time.sleep(SETTLE_S)
        pid, before, began = here.process.pid, cpu_s(here.process.pid), time.monotonic()
        time.sleep(size.idle_s)
        used = (cpu_s(pid) - before) / (time.monotonic() - began)
        out.put("idle", "idle_cpu_pct", used * 100, "%")
        out.put("idle", "rss_mib", resident_mib(pid), "MiB")
        before = children_cpu_s()
        calls = [here.run("status") * 1000 for _ in range(size.calls)]
        worked_s = children_cpu_s() - before
        out.put("idle", "status_ms", statistics.median(calls), "ms", worst=round(max(calls), 2))
        out.put("idle", "status_cpu_ms", worked_s / size.calls * 1000, "ms")
        status = here.client.status()
        supervisor = status.services[0].supervisor_pid
        assert supervisor is not None
        out.put("idle", "supervisor_rss_mib", resident_mib(supervisor), "MiB")


def wakeups(pid: int) -> int:
    """How often a process has gone to sleep of itself."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


async def measure_supervisor(out: lines.Lines, size: Size) -> None:
    """A supervisor alone with a service that does nothing."""
    probe = Probe("health", "http", "/health", interval_s=1.0)
    for case, probes in (("no_probes", ()), ("one_probe", (probe,))):
        with tempfile.TemporaryDirectory(prefix="rb-") as root:
            system = ServiceSystem(Path(root))
            try:
                await system.service.start(system.release("1", probes=probes), "active", "a")
                pid = (await system.service.status()).supervisor_pid
                assert pid is not None
                await asyncio.sleep(SETTLE_S)
                before, began = wakeups(pid), time.monotonic()
                await asyncio.sleep(size.idle_s)
                per_s = (wakeups(pid) - before) / (time.monotonic() - began)
                out.put(case, "supervisor_wakeups", per_s, "1/s")
                out.put(case, "supervisor_rss_mib", resident_mib(pid), "MiB")
            finally:
                await system.service.close(keep_service=False)


def main() -> None:
    """Print the lines."""
    size, out = SIZES[lines.size(__doc__ or "")], lines.Lines("daemon")
    asyncio.run(measure_supervisor(out, size))
    measure(out, size)


if __name__ == "__main__":
    main()
