"""A service that binds its own port, so that only one may run: the gap, beside that of a stop and start by hand."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench import lines
from bench.traffic import DEADLINE_S, Traffic, traffic
from regrow.testing import tiny_service
from regrow.testing.service_system import ServiceSystem

INIT_S = 0.5
LONG_S = 600.0
CASE = "regrow/exclusive"


def gap_ms(seen: Traffic, new: str) -> float:
    """From the last answer of the old version to the first of the new one."""
    first = seen.answers(new)[0]
    return (first - max(end for end in seen.answers("1") if end < first)) * 1000


async def by_hand(port: int, settle: float) -> float:
    """The program's own stop and start: the next one begins the moment the one before has ended."""

    async def start(version: str) -> asyncio.subprocess.Process:
        env = {**os.environ, "TINY_VERSION": version, "TINY_INIT": str(INIT_S), "TINY_PORT": str(port)}
        return await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", tiny_service.__file__, env=env)

    process = await start("1")
    try:
        await answers(port)
        async with traffic(port) as seen:
            await asyncio.sleep(settle)
            process.terminate()
            await process.wait()
            process = await start("2")
            await answers(port)
            await asyncio.sleep(settle)
    finally:
        process.kill()
        await process.wait()
    return gap_ms(seen, "2")


async def answers(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    raise AssertionError("nobody listens")


async def by_regrow(root: Path, settle: float) -> tuple[float, ServiceSystem]:
    """The same by a switch."""
    system = ServiceSystem(root)
    env = {"TINY_INIT": str(INIT_S), "TINY_PORT": str(system.port)}
    common = {"handover": "exclusive", "sockets": (), "probe_socket": False, "probes": ()}
    try:
        await system.service.start(system.release("1", env, **common), "active", "first")
        async with traffic(system.port) as seen:
            await asyncio.sleep(settle)
            await system.service.start(system.release("2", env, **common), "candidate", "second")
            await system.service.switch("second", 0.0, LONG_S)
            await system.service.promote("second")
            await asyncio.sleep(settle)
    finally:
        await system.service.close(keep_service=False)
    return gap_ms(seen, "2"), system


async def measure(out: lines.Lines, runs: int, settle: float) -> None:
    """Both, one after the other on the same port."""
    down, program = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="regrow-bench-") as root:
            took, system = await by_regrow(Path(root), settle)
            down.append(took)
            program.append(await by_hand(system.port, settle))
    for metric, values in (("down_ms", down), ("program_ms", program)):
        out.put(CASE, metric, statistics.median(values), "ms", worst=round(max(values), 2))
    out.put(CASE, "overhead_ms", statistics.median(down) - statistics.median(program), "ms")
