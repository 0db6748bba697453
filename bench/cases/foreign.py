"""Cases of the switch bench: a program that binds a hard-coded port itself and knows nothing of Regrow.

It is the same service, told its port and nothing else: no socket is passed, it says no READY, no probe asks it. It is
proved when it listens, and both versions answer from then on, through bake.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from bench import lines, switch
from regrow.services.base import ReleaseSpec

DIES_AFTER_S = 1.0


class Foreign(switch.Upgrade):
    """One upgrade of a program whose bind is trapped."""

    def release(self, version: str, **env: str) -> ReleaseSpec:
        """A release of which nothing is known but that it runs."""
        wanted = {
            "TINY_INIT": str(switch.INIT_S),
            "TINY_DEATH_NOTE": str(self.note),
            "TINY_PORT": str(self.system.port),
            **env,
        }
        return self.system.release(
            version, wanted, standby=self.standby, trap_bind=True, ready="started", probes=(), probe_socket=False
        )


@contextlib.asynccontextmanager
async def upgrade() -> AsyncIterator[Foreign]:
    """A service of its own for each run."""
    with tempfile.TemporaryDirectory(prefix="regrow-bench-") as root:
        async with Foreign(Path(root), "running") as one:
            yield one


async def measure(out: lines.Lines, size: switch.Size) -> None:
    """A good upgrade, and one to a version that dies in bake."""
    case = "regrow/foreign"
    runs = []
    for _ in range(size.runs):
        async with upgrade() as one:
            if not runs:
                quiet = await one.baseline(2 * size.settle + switch.INIT_S + switch.BAKE_S)
                out.put(case, "baseline_gap_ms", max(quiet.gaps()) * 1000, "ms")
            runs.append(await one.good(size.settle))
    switch.put(out, case, runs)
    firsts = [(run.traffic.first("2", run.ordered) - run.ordered) * 1000 for run in runs]
    switch.put_times(out, case, "first_new_ms", firsts)

    case = "regrow/foreign_dies_in_bake"
    runs = []
    for _ in range(size.runs):
        async with upgrade() as one:
            runs.append(await one.dies(size.settle, DIES_AFTER_S))
    switch.put(out, case, runs)
    switch.put_times(out, case, "fallback_ms", [run.fallback_ms() for run in runs])
