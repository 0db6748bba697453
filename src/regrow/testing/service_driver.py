"""One walk through the whole life of a service, for any driver."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

from regrow.services.base import CandidateFailed, ReleaseSpec, Service, ServiceError, ServiceEvent
from regrow.testing.service_system import ServiceSystem

_DEADLINE_S = 30.0
_LONG_S = 600.0


async def wait_event(service: Service, after: int, *names: str, seconds: float = _DEADLINE_S) -> ServiceEvent:
    """The first event after `after` that has one of the names; fails after `seconds`."""
    events = service.events(after)
    try:
        async with asyncio.timeout(seconds):
            async for event in events:
                if event.event in names:
                    return event
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            with contextlib.suppress(RuntimeError):
                await close()
    raise AssertionError(f"the events ended without {names}")


async def drive_service(service: Service, good: ReleaseSpec, better: ReleaseSpec, dies: ReleaseSpec) -> None:
    """Walk a driver through a first start, a switch that is promoted, one that falls back, a restart and a stop.

    Args:
        service: a driver with nothing started.
        good, better: two releases that work; with different digests.
        dies: a release that is proved, and dies by itself soon after it takes traffic.

    Raises:
        AssertionError: the driver does not keep a promise of `Service`.
    """
    status = await service.status()
    assert status.state == "stopped"
    assert status.active is None

    first = await service.start(good, "active", "first")
    assert first.state == "active"
    assert first.pid is not None
    assert (await service.start(good, "active", "first")).pid == first.pid, "the same token started a second copy"
    await refused(service, better, "active", "other", "busy")

    exclusive = better.handover == "exclusive"
    second = await service.start(better, "candidate", "second")
    assert second.state == ("held" if exclusive else "proved")
    status = await service.status()
    assert status.active is not None
    assert status.active.pid == first.pid
    await service.switch("second", 0.0, _LONG_S)
    await service.switch("second", 0.0, _LONG_S)
    status = await service.status()
    assert status.active is not None
    assert status.active.release == better.id
    assert status.active.pid != first.pid
    assert status.trial is not None
    await service.promote("second")
    await service.promote("second")
    status = await service.status()
    assert status.trial is None
    assert status.good is not None
    assert status.good["id"] == better.id
    serving = status.active and status.active.pid

    candidate = await service.start(good, "candidate", "thrown-away")
    assert candidate.release == good.id
    await service.discard("thrown-away")
    status = await service.status()
    assert status.candidate is None
    assert status.active is not None
    assert status.active.pid == serving

    await service.start(dies, "candidate", "third")
    seq = (await service.status()).seq
    await service.switch("third", 0.0, _LONG_S)
    fell_back = await wait_event(service, seq, "fell_back")
    assert fell_back.data["to"] == better.id
    assert fell_back.data["from"] == dies.id
    status = await service.status()
    assert status.state == "running"
    assert status.active is not None
    assert status.active.release == better.id
    assert dies.digest in {pin["digest"] for pin in status.pins}
    await refused(service, dies, "candidate", "again", "pinned")

    again = dataclasses.replace(better)
    await service.start(again, "candidate", "restart")
    await service.switch("restart", 0.0, _LONG_S)
    seq = (await service.status()).seq
    await service.fall_back("a person asked")
    assert (await wait_event(service, seq, "fell_back")).data["cause"] == "a person asked"
    status = await service.status()
    assert better.digest not in {pin["digest"] for pin in status.pins}, "a restart pinned the good release"

    await service.stop()
    status = await service.status()
    assert status.state == "stopped"
    assert status.active is None


async def drive_switch(system: ServiceSystem) -> None:
    """Switch a service that is being asked without end, and promote: every request is answered, by the right release.

    Args:
        system: with a driver that has nothing started, and a service that shares its socket and can be paused.

    Raises:
        AssertionError: a request was refused or cut, or a candidate answered before the switch.
    """
    await system.service.start(system.release("1"), "active", "a")
    async with system.traffic() as seen:
        await system.service.start(system.release("2"), "candidate", "b")
        assert set(seen.answers) == {"1"}, "a candidate took traffic before the switch"
        await system.service.switch("b", 0, 60)
        await system.service.promote("b")
        seq = (await system.service.status()).seq
        await wait_event(system.service, seq - 3, "ended")
    assert (seen.refused, seen.cut) == (0, 0)
    assert seen.answers["2"] > 0


async def refused(service: Service, spec: ReleaseSpec, role: str, token: str, kind: str) -> None:
    """Check that a start is refused with this kind."""
    try:
        await service.start(spec, "active" if role == "active" else "candidate", token)
    except CandidateFailed as error:
        raise AssertionError(f"started and failed instead of {kind}: {error}") from error
    except ServiceError as error:
        assert error.kind == kind, f"refused as {error.kind}, not {kind}: {error}"
        return
    raise AssertionError(f"not refused as {kind}")
