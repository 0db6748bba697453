"""A bot with an outbound connection changes releases: the example Courier, a toy platform, the real supervisor."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from regrow.services.base import CandidateFailed
from regrow.testing.chat_platform import ChatPlatform
from regrow.testing.courier_system import CourierSystem
from regrow.testing.service_driver import drive_service, wait_event

EXAMPLE = Path(__file__).parents[2] / "examples" / "courier"


@pytest.fixture(params=["unkind", "keeps"])
async def platform(request):
    async with ChatPlatform(keeps=request.param == "keeps") as platform:
        yield platform


@pytest.fixture
async def system(tmp_path, platform):
    system = CourierSystem(tmp_path, EXAMPLE, platform)
    yield system
    await system.service.close(keep_service=False)


@contextlib.asynccontextmanager
async def talk(platform, work=0.4):
    """Somebody says something fifty times a second for the length of the block."""

    async def speak():
        while True:
            platform.say(f"carry {work} parcel")
            await asyncio.sleep(0.02)

    speaking = asyncio.create_task(speak())
    try:
        yield
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)


async def test_both_connected_lose_and_double_nothing(system, platform):
    await system.service.start(system.courier("1", standby="running"), "active", "a")
    await platform.connected("r1")
    async with talk(platform):
        second = await system.service.start(system.courier("2", standby="running"), "candidate", "b")
        assert second.said == "armed"
        await platform.connected("r1")
        seq = (await system.service.status()).seq
        await system.service.switch("b", 0, 60)
        assert (await wait_event(system.service, seq, "switched")).data["standby"] == "running"
        await platform.connected("r1", "r2")
        await system.service.promote("b")
        await wait_event(system.service, seq, "ended")
        await platform.connected("r2")
    await platform.quiet(30)
    assert (platform.lost, platform.doubled, platform.repeats) == ([], [], 0)
    assert platform.offline_s == 0


async def test_parked_hangs_up_first_and_two_are_never_connected(system, platform):
    first = await system.service.start(system.courier("1"), "active", "a")
    await platform.connected("r1")
    async with talk(platform):
        await system.service.start(system.courier("2"), "candidate", "b")
        seq = (await system.service.status()).seq
        await system.service.switch("b", 0, 60)
        assert (await wait_event(system.service, seq, "switched")).data["standby"] == "paused"
        await platform.connected("r2")
        parked = (await system.service.status()).standby
        assert (parked.pid, parked.paused) == (first.pid, True)
        assert parked.said in {"draining", "drained"}
        await system.service.promote("b")
        await wait_event(system.service, seq, "ended")
    await platform.quiet(30)
    assert set(platform.lost) <= set(platform.unheard), "something was lost that had been taken"
    assert platform.doubled == []
    assert platform.most_lines == 1


@pytest.mark.parametrize("standby", ["running", "paused"])
async def test_killed_in_bake_the_old_one_has_it_all(system, platform, standby):
    """What v2 had taken is adopted; what it had not acknowledged comes again."""
    first = await system.service.start(system.courier("1", standby=standby), "active", "a")
    await platform.connected("r1")
    async with talk(platform):
        second = await system.service.start(system.courier("2", standby=standby), "candidate", "b")
        await system.service.switch("b", 0, 60)
        platform.say("carry 1 piano")
        await platform.connected("r2", *(["r1"] if standby == "running" else []))
        seq = (await system.service.status()).seq
        os.kill(second.pid, signal.SIGKILL)
        event = await wait_event(system.service, seq, "fell_back")
        assert event.data["reason"] == "died"
        await platform.connected("r1")
    status = await system.service.status()
    assert (status.active.pid, status.active.said) == (first.pid, "connected")
    assert [pin["id"] for pin in status.pins] == ["r2"]
    await platform.quiet(30)
    assert set(platform.lost) <= set(platform.unheard)
    assert platform.doubled == []
    if standby == "running":
        assert platform.unheard == []


async def test_an_old_one_that_never_drains_is_ended_and_its_claims_adopted(system, platform):
    """F32: a turn that is cut is not lost."""
    slow = {"drain_timeout_s": 0.2, "stop_timeout_s": 0.2}
    first = await system.service.start(system.courier("1", **slow), "active", "a")
    await platform.connected("r1")
    event = platform.say("carry 5 piano")
    await system.service.start(system.courier("2", **slow), "candidate", "b")
    await system.service.switch("b", 0, 60)
    seq = (await system.service.status()).seq
    assert (await system.service.status()).standby.said == "draining"
    await system.service.promote("b")
    ended = await wait_event(system.service, seq, "ended")
    assert ended.data["cause"].startswith("killed by SIGKILL")
    assert not Path(f"/proc/{first.pid}").exists()
    assert platform.lost == [event], "the old one has finished it: this test says nothing"
    await platform.quiet(30)
    assert platform.shown == {event: ["carried piano"]}


async def test_courier_through_the_whole_life(system):
    # Released by a signal of its own, so that it dies on trial and not before.
    dies = ("/bin/sh", "-c", "sleep 2 & wait; exit 1")
    good, better = (system.courier(version) for version in "12")
    bad = system.courier("3", argv=dies, ready="started")
    await drive_service(system.service, good, better, bad)


async def test_candidate_without_its_settings_fails_and_nothing_hangs_up(system, platform):
    await system.service.start(system.courier("1"), "active", "a")
    await platform.connected("r1")
    with pytest.raises(CandidateFailed, match="set COURIER_PLATFORM to HOST:PORT"):
        await system.service.start(system.courier("2", env={}), "candidate", "b")
    await platform.connected("r1")
    assert platform.offline_s == 0
