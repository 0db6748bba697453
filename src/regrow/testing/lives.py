"""Lives of a service: a good upgrade and every way in which one goes wrong, in every handover, and what is told of it.

After Mender's table of states: each row says which events are told of each release, in which order, and who serves at
the end. That holds whatever happens to the supervisor in between, see `fault_runs` (F4, F8, F9, F25).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from regrow.services.base import CandidateFailed, Probe, ReleaseSpec, Restart, ServiceError, ServiceEvent, ServiceStatus
from regrow.testing import faulty_supervisor
from regrow.testing.service_driver import wait_event
from regrow.testing.service_system import ServiceSystem

Json = dict[str, Any]
T = TypeVar("T")
DISK = "cannot write the record"
_LONG_S = 600.0
_LOOK_S = 0.02
_NOT_NOW = ("unreachable", "supervisor", "disk")


@dataclass(frozen=True)
class Handover:
    """How a release follows another: the word of the settings, and what the old one does through bake."""

    name: str
    handover: str
    standby: str

    @property
    def keeps(self) -> bool:
        """Whether the old one is there through bake."""
        return self.handover == "socket" and self.standby != "none"


HANDOVERS = {
    each.name: each
    for each in (
        Handover("paused", "socket", "paused"),
        Handover("running", "socket", "running"),
        Handover("none", "socket", "none"),
        Handover("exclusive", "exclusive", "none"),
    )
}


class Service:
    """One service in a directory of its own, asked as a daemon would ask: again, while its supervisor keeps dying."""

    def __init__(self, root: Path, handover: Handover) -> None:
        self.system = ServiceSystem(root, faulty_supervisor.PROGRAM)
        self.directory = self.system.directory
        self.directory.mkdir(parents=True)
        self.handover = handover
        self.refused: set[int] = set()  # events of a life that a full disk ended early
        self.tokens = iter(f"t{number}" for number in range(1000))

    def lift(self) -> None:
        """Have nothing go wrong any more."""
        (self.directory / faulty_supervisor.FAULTS).unlink(missing_ok=True)

    def release(self, version: str, env: dict[str, str] | None = None, **changes: Any) -> ReleaseSpec:
        """A release of this handover."""
        wanted: dict[str, Any] = {"handover": self.handover.handover, "standby": self.handover.standby}
        if self.handover.handover == "exclusive":
            # It binds the port itself: two of them at once cannot be.
            url = f"http://127.0.0.1:{self.system.port}/health"
            probe = Probe("health", "http", url, interval_s=0.05, strikes=3, version_json="version")
            wanted |= {"sockets": (), "probe_socket": False, "probes": (probe,)}
            env = {"TINY_PORT": str(self.system.port), **(env or {})}
        return self.system.release(version, env, **{**wanted, **changes})

    async def asked(self, call: Callable[[], Awaitable[T]]) -> T:
        """The answer of a supervisor that lives long enough to give one."""
        while True:
            try:
                return await call()
            except ServiceError as error:
                if error.kind not in _NOT_NOW:
                    raise
            await asyncio.sleep(_LOOK_S)  # what keeps dying is started again and again meanwhile

    async def status(self) -> ServiceStatus:
        """The service now."""
        return await self.asked(self.system.service.status)

    async def until(self, look: Callable[[ServiceStatus], bool]) -> ServiceStatus:
        """The first status that looks so."""
        while not look(status := await self.status()):  # noqa: ASYNC110 - not every state is told
            await asyncio.sleep(_LOOK_S)
        return status

    async def first(self) -> None:
        """Release 1 serves and is good."""
        token = next(self.tokens)
        await self.asked(lambda: self.system.service.start(self.release("1"), "active", token))

    async def candidate(self, release: ReleaseSpec) -> str:
        """Start a candidate; its token. Raises CandidateFailed."""
        token = next(self.tokens)
        await self.asked(lambda: self.system.service.start(release, "candidate", token))
        return token

    async def switch(self, token: str) -> None:
        """Switch, and wait for the old one's end where it is not kept."""
        await self.asked(lambda: self.system.service.switch(token, 0, _LONG_S))
        if not self.handover.keeps:
            await self.quiet()

    async def promote(self, token: str) -> None:
        """Promote, and wait for the old one's end."""
        await self.asked(lambda: self.system.service.promote(token))
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until nothing starts or ends any more. A candidate of which was told that it failed may be tried once
        more by a supervisor that does not know of that; it fails again."""

        async def states() -> Json:
            return await self.system.service._request("status")

        while _moves(await self.asked(states)):  # noqa: ASYNC110 - the end of what was adopted may be told already
            await asyncio.sleep(_LOOK_S)

    async def back(self, release: str = "r1") -> None:
        """Wait until this release serves by itself, nothing on trial."""
        await self.until(
            lambda s: s.state == "running" and s.trial is None and s.active is not None and s.active.release == release
        )
        await self.quiet()

    async def kill(self, token: str | None = None) -> None:
        """Kill what serves."""
        active = (await self.until(lambda s: s.state == "running")).active
        assert active is not None
        assert active.pid is not None
        assert token in (None, active.token)
        with contextlib.suppress(ProcessLookupError):
            os.kill(active.pid, signal.SIGKILL)

    async def told(self, last: int) -> list[ServiceEvent]:
        """Every event up to this number, without those of a life that was refused."""
        events = []
        async with contextlib.aclosing(self.system.service.events(0)) as told:
            async for event in told:
                if event.seq not in self.refused:
                    events.append(event)
                if event.seq >= last:
                    break
        return events


def _moves(status: Json) -> bool:
    candidate = status["candidate"] or {"state": ""}
    return bool(status["stopping"] or status["state"] in ("starting", "switching", "down")) or (
        candidate["state"] == "starting"
    )


# The lives. Each may be lived a second time by the same service: that is what comes after a refusal.


async def upgrade(service: Service) -> None:
    """A good release is promoted."""
    token = await service.candidate(service.release("2"))
    await service.switch(token)
    await service.promote(token)


async def restart(service: Service) -> None:
    """The release that serves, in a fresh process."""
    token = await service.candidate(service.release("1"))
    await service.switch(token)
    await service.promote(token)


async def dies_at_start(service: Service) -> None:
    """The candidate dies before it is ready."""
    await _fails(service, service.release("2", {"TINY_DIE_AT_START": "1"}))


async def hangs_at_start(service: Service) -> None:
    """The candidate is never ready."""
    await _fails(service, service.release("2", {"TINY_HANG": "1"}, start_timeout_s=0.5))


async def _fails(service: Service, release: ReleaseSpec) -> None:
    try:
        await service.switch(await service.candidate(release))
    except CandidateFailed as error:
        if error.cause.startswith(DISK):
            raise
    else:
        raise AssertionError("a candidate that fails was switched to")
    await service.back()


async def dies_in_bake(service: Service) -> None:
    """The new release dies while it is watched."""
    token = await service.candidate(service.release("2"))
    await service.switch(token)
    await service.kill(token)
    await service.back()


async def fails_its_probe(service: Service) -> None:
    """The new release answers its probe with an error while it is watched."""
    fail = service.system.root / "fail"
    fail.unlink(missing_ok=True)
    token = await service.candidate(service.release("2", {"TINY_FAIL_FILE": str(fail)}))
    await service.switch(token)
    fail.touch()
    await service.back()


async def falls_back_when_asked(service: Service) -> None:
    """A person does not like the new release."""
    token = await service.candidate(service.release("2"))
    await service.switch(token)

    async def ask() -> None:
        status = await service.system.service.status()
        if status.trial and status.trial["token"] == token:
            await service.system.service.fall_back("a person asked")

    await service.asked(ask)
    await service.back()


async def loops(service: Service) -> None:
    """A promoted release crashes until the one before takes over."""
    limit = 3
    release = service.release("2", restart=Restart(backoff_s=0.01, backoff_max_s=0.05, limit=limit, window_s=_LONG_S))
    token = await service.candidate(release)
    await service.switch(token)
    await service.promote(token)
    for _ in range(limit):
        status = await service.until(lambda s: s.state == "running")
        await service.kill()
        await service.asked(lambda after=status.seq: wait_event(service.system.service, after, "crashed"))  # type: ignore[misc]
    await service.back()


@dataclass(frozen=True, eq=False)
class Life:
    """A row of the table.

    Attributes:
        live: what the daemon asks for, after release 1 serves.
        told: the events of each release, in order.
        serves: the release at the end.
        bad: the releases that are pinned bad at the end.
    """

    name: str
    handover: Handover
    live: Callable[[Service], Awaitable[None]]
    told: dict[str, str]
    serves: str = "r1"
    bad: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}-{self.handover.name}"


def _table() -> list[Life]:
    """Every life in every handover in which it is another one."""
    rows = []
    for each in HANDOVERS.values():
        exclusive = each.handover == "exclusive"
        first = "starting proved"
        new = "held proved switched" if exclusive else "starting proved switched"
        # What the old one goes through when the new one is switched to, and on the way back to it.
        leaves = "" if each.keeps else " ended"
        returns = " fell_back" if each.keeps else " ended starting proved fell_back"

        def row(live: Callable[[Service], Awaitable[None]], r1: str, r2: str, **more: Any) -> None:
            told = {"r1": r1, "r2": r2} if r2 else {"r1": r1}
            rows.append(Life(live.__name__, each, live, told, **more))  # noqa: B023

        row(upgrade, f"{first} ended", f"{new} promoted", serves="r2")
        if exclusive:
            row(restart, f"{first} held ended proved switched promoted", "")
            row(dies_at_start, f"{first} ended starting proved fell_back", "held candidate_failed", bad=("r2",))
            row(hangs_at_start, f"{first} ended starting proved fell_back", "held candidate_failed", bad=("r2",))
        else:
            order = " ended promoted" if leaves else " promoted ended"
            row(restart, f"{first} starting proved switched{order}", "")
            row(dies_at_start, first, "starting candidate_failed")
            row(hangs_at_start, first, "starting candidate_failed")
        row(dies_in_bake, f"{first}{returns}", new, bad=("r2",))
        row(fails_its_probe, f"{first}{returns}", f"{new} unhealthy ended", bad=("r2",))
        row(falls_back_when_asked, f"{first}{returns}", f"{new} ended", bad=("r2",))
        again = " crashed down starting proved up"
        loop = f"{new} promoted{again}{again} crashed down"
        row(loops, f"{first} ended starting proved fell_back", loop, bad=("r2",))
    return rows


TABLE = _table()
