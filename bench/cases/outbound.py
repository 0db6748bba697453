"""A bot with an outbound connection: events ten times a second, on a platform that drops what it cannot deliver.

`outbound` has both releases connected through bake, `outbound_parked` one at a time; `_dies` is a release that is
killed in bake. Two events of three come during and after the switch.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench import lines
from regrow.testing.chat_platform import ChatPlatform
from regrow.testing.courier_system import CourierSystem
from regrow.testing.service_driver import wait_event

EXAMPLE = Path(__file__).parents[2] / "examples" / "courier"
RATE = 10.0
SHORTEST_S = 0.2
BAKE_S = 1.0
LONG_S = 600.0


@dataclass(frozen=True)
class Size:
    """How much.

    Attributes:
        runs: of each case.
        events: of each run.
        longest: seconds that an errand takes at the most.
        dies: seconds after its switch at which the bad release is killed.
    """

    runs: int
    events: int
    longest: float
    dies: float


@dataclass
class Seen:
    """What the platform's ledger says of all runs of a case."""

    events: int = 0
    lost: int = 0
    doubled: int = 0
    repeats: int = 0
    offline_s: float = 0.0
    went_back: bool = True

    def add(self, platform: ChatPlatform, offline_s: float, went_back: bool) -> None:
        """One run more."""
        self.events += len(platform.said)
        self.lost += len(platform.lost)
        self.doubled += len(platform.doubled)
        self.repeats += platform.repeats
        self.offline_s += offline_s
        self.went_back = self.went_back and went_back


async def run(root: Path, platform: ChatPlatform, size: Size, standby: str, dies: bool) -> tuple[float, bool]:
    """Events all the time and one upgrade; returns how long nobody was connected, and whether the old release serves
    at the end."""
    system = CourierSystem(root, EXAMPLE, platform)
    service = system.service
    work = random.Random(len(standby) + dies)
    upgrading = asyncio.Event()

    async def talk() -> None:
        for number in range(size.events):
            platform.say(f"carry {work.uniform(SHORTEST_S, size.longest):.2f} parcel")
            if number >= size.events / 3:
                upgrading.set()
            await asyncio.sleep(1 / RATE)

    try:
        await service.start(system.courier("1", standby=standby), "active", "first")
        await platform.connected("r1")
        talking = asyncio.create_task(talk())
        await upgrading.wait()
        second = await service.start(system.courier("2", standby=standby), "candidate", "second")
        assert second.pid is not None
        seq = (await service.status()).seq
        await service.switch("second", BAKE_S, LONG_S)
        if dies:
            await asyncio.sleep(size.dies)
            os.kill(second.pid, signal.SIGKILL)
            await wait_event(service, seq, "fell_back")
        else:
            await asyncio.sleep(BAKE_S)
            await service.promote("second")
        await talking
        await platform.quiet(2 * size.longest + 5.0)
        status = await service.status()
        return platform.offline_s, status.active is not None and status.active.release == "r1"
    finally:
        await service.close(keep_service=False)


async def measure(out: lines.Lines, size: Size) -> None:
    """Both kinds of standby, with a good release and with one that dies."""
    for name, standby in (("outbound", "running"), ("outbound_parked", "paused")):
        for dies in (False, True):
            case = f"regrow/{name}_dies" if dies else f"regrow/{name}"
            seen = Seen()
            for _ in range(size.runs):
                with tempfile.TemporaryDirectory(prefix="regrow-bench-") as root:
                    async with ChatPlatform() as platform:
                        seen.add(platform, *await run(Path(root), platform, size, standby, dies))
            out.put(case, "events", seen.events, "events")
            out.put(case, "lost_events", seen.lost, "events")
            out.put(case, "doubled_events", seen.doubled, "events")
            out.put(case, "repeated_answers", seen.repeats, "events")
            out.put(case, "offline_ms", seen.offline_s * 1000, "ms")
            out.put(case, "went_back", int(seen.went_back), "bool")
