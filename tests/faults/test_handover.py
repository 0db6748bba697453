"""An overlap switch whose parts do not do their part, and one whose supervisor is killed at every point of it."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from regrow.services.base import CandidateFailed, Probe, Restart, ServiceError
from regrow.services.embedded import EmbeddedService
from regrow.testing import mortal_supervisor, tiny_service
from regrow.testing.chat_platform import ChatPlatform
from regrow.testing.courier_system import CourierSystem
from regrow.testing.fault_runs import copies
from regrow.testing.service_driver import wait_event
from regrow.testing.service_system import ServiceSystem

EXAMPLE = Path(__file__).parents[2] / "examples" / "courier"


@pytest.fixture
async def system(tmp_path):
    system = ServiceSystem(tmp_path)
    yield system
    await system.service.close(keep_service=False)


def release(system, version, env=None, **changes):
    """A service without sockets that writes down its words."""
    words = {"TINY_WORDS": str(system.root / "words")}
    wanted = {"handover": "overlap", "sockets": (), "probe_socket": False, "probes": (), "start_timeout_s": 10.0}
    return system.release(version, words | (env or {}), **{**wanted, **changes})


def words(system):
    return (system.root / "words").read_text().splitlines()


async def said(system, line, seconds=20):
    """Wait until a service has written this down."""
    async with asyncio.timeout(seconds):
        while not (system.root / "words").exists() or line not in words(system):
            await asyncio.sleep(0.01)


# The order


@pytest.mark.parametrize(
    ("standby", "order"),
    [
        ("paused", ["1 draining", "1 drained", "2 connected"]),
        ("none", ["1 draining", "1 drained", "2 connected"]),
        ("running", ["2 connected"]),
    ],
)
async def test_the_old_one_hangs_up_before_the_new_one_connects(system, standby, order):
    await system.service.start(release(system, "1", standby=standby), "active", "a")
    await system.service.start(release(system, "2", standby=standby), "candidate", "b")
    await system.service.switch("b", 0, 60)
    taken = words(system)
    assert taken[: 2 + len(order)] == ["1 connected", "2 armed", *order]
    await system.service.promote("b")
    assert (await wait_event(system.service, 0, "ended")).data["token"] == "a"
    assert words(system)[-1] == "1 drained"


async def test_fallback_tells_the_parked_one_to_connect(system):
    first = await system.service.start(release(system, "1"), "active", "a")
    await system.service.start(release(system, "2", {"TINY_DIE_AFTER": "0.2"}), "candidate", "b")
    seq = (await system.service.status()).seq
    await system.service.switch("b", 0, 60)
    await wait_event(system.service, seq, "fell_back")
    assert words(system)[-1] == "1 connected", "it was told before it was so"
    assert (await system.service.status()).active.pid == first.pid


@pytest.mark.parametrize(("standby", "stays"), [("running", True), ("paused", False), ("none", False)])
async def test_one_that_does_not_speak_is_never_sent_a_signal_it_does_not_know(system, standby, stays):
    """SIGUSR1 or SIGUSR2 would end it."""
    mute = {"argv": ("/bin/sleep", "1000"), "ready": "started", "standby": standby}
    first = await system.service.start(release(system, "1", **mute), "active", "a")
    await system.service.start(release(system, "2", **mute), "candidate", "b")
    seq = (await system.service.status()).seq
    await system.service.switch("b", 0, 60)
    status = await system.service.status()
    assert (status.state, status.active.release) == ("running", "r2")
    assert (await wait_event(system.service, seq, "switched")).data["standby"] == ("running" if stays else "none")
    if stays:
        assert status.standby.pid == first.pid
        await system.service.promote("b")
    assert (await wait_event(system.service, seq, "ended")).data["cause"] == "killed by SIGTERM"


async def test_one_that_speaks_only_after_the_switch_is_told_to_connect(system):
    await system.service.start(release(system, "1"), "active", "a")
    late = release(system, "2", {"TINY_INIT": "0.5"}, ready="started")
    await system.service.start(late, "candidate", "b")
    await system.service.switch("b", 0, 60)
    await said(system, "2 connected")


async def test_a_start_that_died_with_its_supervisor_is_begun_anew_and_believed_nothing(system):
    """READY had been heard and the probe had not passed; the process that said so is gone."""
    gate = system.root / "gate"
    probe = Probe("gate", "command", ("/bin/sh", "-c", f"test -e {gate}"), interval_s=0.05)
    starting = asyncio.create_task(system.service.start(release(system, "1", probes=(probe,)), "active", "a"))
    async with asyncio.timeout(20):
        while not (now := (await system.service.status()).active) or not now.ready:
            await asyncio.sleep(0.01)
    assert now.state == "starting"
    await system.service.signal("a", "SIGUSR1")  # a word puts on disk what is known: that it is ready, too
    async with asyncio.timeout(20):
        while (await system.service.status()).active.said != "drained":
            await asyncio.sleep(0.01)
    status = await system.service.status()
    os.kill(status.supervisor_pid, signal.SIGSTOP)  # so that it does not see the other's end
    os.kill(now.pid, signal.SIGKILL)
    os.kill(status.supervisor_pid, signal.SIGKILL)
    gate.touch()
    started = await asyncio.wait_for(starting, 30)
    assert (started.state, started.said) == ("active", "connected")
    assert started.pid != now.pid


# Parts that do not do their part


async def test_candidate_that_is_never_armed(system):
    first = await system.service.start(release(system, "1"), "active", "a")
    with pytest.raises(CandidateFailed, match="no READY"):
        await system.service.start(release(system, "2", {"TINY_HANG": "1"}, start_timeout_s=0.3), "candidate", "b")
    assert words(system) == ["1 connected"]
    assert (await system.service.status()).active.pid == first.pid


async def test_candidate_that_never_connects(system):
    """F23: a live process that takes nothing fails the switch."""
    first = await system.service.start(release(system, "1"), "active", "a")
    deaf = release(system, "2", {"TINY_MUTE": "connected"}, start_timeout_s=1.0)
    await system.service.start(deaf, "candidate", "b")
    with pytest.raises(CandidateFailed) as failed:
        await system.service.switch("b", 0, 60)
    assert failed.value.cause == "not connected in 1 s"
    status = await system.service.status()
    assert (status.state, status.active.pid, status.active.said) == ("running", first.pid, "connected")
    assert [pin["id"] for pin in status.pins] == ["r2"]


async def test_candidate_that_dies_when_it_is_told_to_connect(system):
    first = await system.service.start(release(system, "1"), "active", "a")
    await system.service.start(
        release(system, "2", {"TINY_DIE_AFTER": "0", "TINY_MUTE": "connected"}), "candidate", "b"
    )
    with pytest.raises(CandidateFailed, match="was told to die"):
        await system.service.switch("b", 0, 60)
    assert (await system.service.status()).active.pid == first.pid


async def test_old_one_that_does_not_answer_is_not_waited_for_long(system):
    await system.service.start(release(system, "1", {"TINY_MUTE": "draining drained"}), "active", "a")
    await system.service.start(release(system, "2"), "candidate", "b")
    await system.service.switch("b", 0, 60)
    assert (await system.service.status()).active.said == "connected"


async def test_old_one_that_dies_when_it_is_told_to_hang_up(system):
    """F25: the way back is gone, and the switch goes on."""
    code = (
        "import os, runpy, signal; real = signal.signal;"
        "signal.signal = lambda n, h: real(n, (lambda *_: os._exit(3)) if n == signal.SIGUSR1 else h);"
        f" runpy.run_path({tiny_service.__file__!r}, run_name='__main__')"
    )
    argv = (sys.executable, "-I", "-S", "-c", code)
    await system.service.start(release(system, "1", argv=argv), "active", "a")
    await system.service.start(release(system, "2"), "candidate", "b")
    await system.service.switch("b", 0, 60)
    status = await system.service.status()
    assert (status.active.said, status.standby) == ("connected", None)
    await system.service.promote("b")


async def test_parked_one_that_does_not_come_back_is_started_cold(system):
    first = await system.service.start(
        release(system, "1", {"TINY_MUTE": "connected"}, start_timeout_s=1.0, restart=Restart(backoff_s=0.01)),
        "active",
        "a",
    )
    await system.service.signal("a", "SIGUSR1")  # it speaks, and falls silent when it is to connect again
    async with asyncio.timeout(20):
        while (await system.service.status()).active.said != "drained":
            await asyncio.sleep(0.01)
    second = await system.service.start(release(system, "2"), "candidate", "b")
    await system.service.switch("b", 0, 60)
    status = await system.service.status()
    assert status.standby.pid == first.pid
    os.kill(second.pid, signal.SIGKILL)
    crashed = await wait_event(system.service, status.seq, "crashed")
    assert crashed.data["cause"].startswith("not connected again in 1 s")
    await wait_event(system.service, status.seq, "fell_back")
    status = await system.service.status()
    assert (status.state, status.active.release) == ("running", "r1")
    assert status.active.pid != first.pid


async def test_whoever_quits_does_not_wait_for_a_long_drain(system):
    never = {"TINY_MUTE": "drained"}
    await system.service.start(release(system, "1", never, drain_timeout_s=600.0), "active", "a")
    await system.service.start(release(system, "2"), "candidate", "b")
    await system.service.switch("b", 0, 60)
    await system.service.promote("b")
    await asyncio.wait_for(system.service.close(keep_service=False), 60)
    assert copies(system.root / "logs") == []


async def test_promote_while_nobody_has_connected_yet_is_refused(system):
    await system.service.start(release(system, "1"), "active", "a")
    await system.service.start(release(system, "2", {"TINY_MUTE": "connected"}, start_timeout_s=5.0), "candidate", "b")
    switching = asyncio.create_task(system.service.switch("b", 0, 60))
    await said(system, "2 connected")
    assert (await system.service.status()).state == "switching"
    with pytest.raises(ServiceError) as refused:
        await system.service.promote("b")
    assert refused.value.kind == "not_on_trial"
    await system.service.fall_back("a person asked")
    with pytest.raises(CandidateFailed, match="a person asked"):
        await switching


# The supervisor is killed at every point: just before and just after each record and each signal


class MortalService(EmbeddedService):
    """The driver of a supervisor that can be told when to die."""

    program = Path(mortal_supervisor.__file__)


class Mortal:
    """Of a system: its supervisor, and how many points it has left."""

    def driver(self):
        return MortalService("tiny", self.directory, self.runtime)

    def die_after(self, points):
        (self.directory / mortal_supervisor.FILE).write_text(str(points))

    def points_used(self, points):
        left = self.directory / mortal_supervisor.FILE
        return points - int(left.read_text()) if left.exists() else points

    def live(self):
        (self.directory / mortal_supervisor.FILE).unlink(missing_ok=True)


class MortalCourier(Mortal, CourierSystem):
    pass


class MortalTiny(Mortal, ServiceSystem):
    pass


async def end_in_bake(system, second):
    """Killed in bake; whoever killed the supervisor meanwhile changes nothing about it."""
    seq = (await system.service.status()).seq
    os.kill(second, signal.SIGKILL)
    await wait_event(system.service, seq, "fell_back")


async def story(root, standby, ends, points):
    """A switch, and its promotion or its way back, with the supervisor killed once on the way. Returns how many points
    there are; afterwards exactly one release is connected and runs, and nothing was lost or answered twice."""
    async with ChatPlatform(keeps=True) as platform:
        system = MortalCourier(root, EXAMPLE, platform)
        try:
            await system.service.start(system.courier("1", standby=standby), "active", "a")
            await platform.connected("r1")
            platform.say("carry 0.3 parcel")
            second = await system.service.start(system.courier("2", standby=standby), "candidate", "b")
            assert second.pid is not None
            system.die_after(points)
            await system.service.switch("b", 0, 60)
            platform.say("carry 0.3 letter")
            if ends == "promoted":
                await system.service.promote("b")
                await wait_event(system.service, 0, "ended")
            else:
                await end_in_bake(system, second.pid)
            kept, pid = ("r2", second.pid) if ends == "promoted" else ("r1", None)
            await platform.connected(kept)
            platform.say("carry 0 flower")
            await platform.quiet(30)
            status = await system.service.status()
            assert (status.state, status.active.release, status.standby, status.trial) == ("running", kept, None, None)
            assert pid in {None, status.active.pid}
            assert (platform.lost, platform.doubled) == ([], [])
            if standby == "paused":
                assert platform.most_lines == 1
            return system.points_used(points)
        finally:
            system.live()
            await system.service.close(keep_service=False)


@pytest.mark.parametrize("ends", ["promoted", "fell_back"])
@pytest.mark.parametrize("standby", ["paused", "running"])
async def test_f04_supervisor_killed_at_every_point_of_an_overlap_switch(tmp_path, standby, ends):
    await at_every_point(lambda points: story(tmp_path / str(points), standby, ends, points))


async def at_every_point(tell):
    """Tell a story once undisturbed, and then once for each of its points with the supervisor killed there."""
    total = await tell(10_000)
    assert total > 8
    for first in range(1, total + 1, 3):  # three at a time: most of a story is waiting
        await asyncio.gather(*(tell(points) for points in range(first, min(first + 3, total + 1))))


async def exclusive_story(root, dies, points):
    """A switch where only one may run. Afterwards one does, the right one."""
    system = MortalTiny(root)
    port = {"TINY_PORT": str(system.port)}
    common = {"handover": "exclusive", "sockets": (), "probe_socket": False, "probes": (), "start_timeout_s": 2.0}
    try:
        await system.service.start(system.release("1", port, **common), "active", "a")
        bad = {"TINY_DIE_AT_START": "1"} if dies else {}
        assert (await system.service.start(system.release("2", port | bad, **common), "candidate", "b")).state == "held"
        system.die_after(points)
        if dies:
            with pytest.raises(CandidateFailed, match="no such table: users"):
                await system.service.switch("b", 0, 60)
        else:
            await system.service.switch("b", 0, 60)
            await system.service.promote("b")
        kept = "1" if dies else "2"
        assert await asyncio.wait_for(system.ask(), 20) == kept
        status = await system.service.status()
        assert (status.state, status.active.release, status.trial, status.standby) == (
            "running",
            f"r{kept}",
            None,
            None,
        )
        assert [pin["id"] for pin in status.pins] == (["r2"] if dies else [])
        assert copies(root / "logs") == [status.active.pid]
        return system.points_used(points)
    finally:
        system.live()
        await system.service.close(keep_service=False)


@pytest.mark.parametrize("dies", [False, True])
async def test_f04_supervisor_killed_at_every_point_of_an_exclusive_switch(tmp_path, dies):
    await at_every_point(lambda points: exclusive_story(tmp_path / str(points), dies, points))
