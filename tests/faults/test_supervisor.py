"""What the supervisor promises while things die: named after the field failures where there is one."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import regrow.supervisor
from regrow.services.base import CandidateFailed, Restart, ServiceError
from regrow.supervisor.processes import start_time
from regrow.testing import tiny_service
from regrow.testing.fault_runs import copies
from regrow.testing.service_driver import wait_event
from regrow.testing.service_system import ServiceSystem

MAIN = Path(regrow.supervisor.__file__).with_name("__main__.py")


@pytest.fixture
async def system(tmp_path):
    system = ServiceSystem(tmp_path)
    yield system
    await system.service.close(keep_service=False)
    assert copies(tmp_path / "logs") == [], "a process of the service outlived its supervisor"


async def kill_supervisor(system):
    """SIGKILL it, and wait for the one that the driver starts in its place."""
    status = await system.service.status()
    os.kill(status.supervisor_pid, signal.SIGKILL)
    event = await wait_event(system.service, status.seq, "supervisor_started")
    assert event.data["pid"] != status.supervisor_pid
    return event


async def gone(pid):
    """Wait until a process that is not our child has ended."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            done = asyncio.Event()
            asyncio.get_running_loop().add_reader(pidfd, done.set)
            await asyncio.wait_for(done.wait(), 20)
        finally:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)


# The supervisor is killed (design 4.2)


async def test_killed_after_promote(system):
    first = await system.service.start(system.release("1"), "active", "a")
    async with system.traffic() as seen:
        event = await kill_supervisor(system)
        status = await system.service.status()
        assert (status.active.pid, status.active.adopted) == (first.pid, True)
        assert event.data["sockets_lost"] == []
        await system.service.start(system.release("2"), "candidate", "b")
        await system.service.switch("b", 0, 60)
        await system.service.promote("b")
        await gone(first.pid)
    assert (seen.refused, seen.cut) == (0, 0)
    assert copies(system.root / "logs") == [(await system.service.status()).active.pid]


async def test_killed_with_no_escrow_takes_the_socket_from_the_service(system):
    first = await system.service.start(system.release("1"), "active", "a")
    status = await system.service.status()
    await system.service.close(keep_service=True)
    os.kill(status.supervisor_pid, signal.SIGKILL)
    await gone(status.supervisor_pid)
    system.service = system.driver()
    async with system.traffic() as seen:
        event = await wait_event(system.service, status.seq, "supervisor_started")
        assert event.data["sockets_lost"] == []
        await system.service.start(system.release("2"), "candidate", "b")
        await system.service.switch("b", 0, 60)
        await system.service.promote("b")
        await gone(first.pid)
    assert (seen.refused, seen.cut) == (0, 0)


async def test_killed_while_candidate_starts(system):
    await system.service.start(system.release("1"), "active", "a")
    seq = (await system.service.status()).seq
    argv = ("/bin/sh", "-c", f"cat {system.root}/gate && exec {sys.executable} -I -S {tiny_service.__file__}")
    os.mkfifo(system.root / "gate")
    async with system.traffic() as seen:
        starting = asyncio.create_task(system.service.start(system.release("2", argv=argv), "candidate", "b"))
        await wait_event(system.service, seq, "starting")
        before = (await system.service.status()).candidate
        await kill_supervisor(system)
        await asyncio.to_thread((system.root / "gate").write_text, "")
        candidate = await asyncio.wait_for(starting, 30)
    assert (candidate.pid, candidate.state) == (before.pid, "proved")
    assert (seen.refused, seen.cut) == (0, 0)
    assert len(copies(system.root / "logs")) == 2


@pytest.mark.parametrize("then", ["promote", "die", "wait"])
async def test_killed_in_bake(system, then):
    first = await system.service.start(system.release("1"), "active", "a")
    second = await system.service.start(system.release("2"), "candidate", "b")
    await system.service.switch("b", 0, 3 if then == "wait" else 60)
    async with system.traffic() as seen:
        await kill_supervisor(system)
        status = await system.service.status()
        assert (status.active.pid, status.standby.pid) == (second.pid, first.pid)
        assert status.trial["remaining_s"] < status.trial["confirm_within_s"]
        assert sorted(copies(system.root / "logs")) == sorted([first.pid, second.pid])
        if then == "promote":
            await system.service.promote("b")
            await gone(first.pid)
        else:
            if then == "die":
                os.kill(second.pid, signal.SIGKILL)
            await wait_event(system.service, status.seq, "fell_back")
            await gone(second.pid)
            assert (await system.service.status()).active.pid == first.pid
    assert seen.refused == 0
    assert seen.cut <= (3 if then == "die" else 0)


async def test_both_killed_in_bake(system):
    first = await system.service.start(system.release("1"), "active", "a")
    second = await system.service.start(system.release("2"), "candidate", "b")
    await system.service.switch("b", 0, 60)
    status = await system.service.status()
    await system.service.close(keep_service=True)
    os.kill(status.supervisor_pid, signal.SIGKILL)
    os.kill(second.pid, signal.SIGKILL)
    await gone(status.supervisor_pid)
    await gone(second.pid)
    system.service = system.driver()
    event = await wait_event(system.service, status.seq, "fell_back")
    assert (event.data["from"], event.data["to"]) == ("r2", "r1")
    assert (await system.service.status()).active.pid == first.pid
    assert await system.ask() == "1"


async def test_another_boot_in_bake_runs_the_last_good_one_and_pins(system):
    await system.service.start(system.release("1"), "active", "a")
    await system.service.start(system.release("2"), "candidate", "b")
    await system.service.switch("b", 0, 60)
    status = await system.service.status()
    pids = copies(system.root / "logs")
    await system.service.close(keep_service=True)
    for pid in [status.supervisor_pid, *pids]:
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
    record = system.directory / "supervisor.json"
    record.write_text(record.read_text().replace(system.record()["boot"], "another-boot"))
    system.service = system.driver()
    await wait_event(system.service, status.seq, "fell_back")
    status = await system.service.status()
    assert (status.active.release, status.active.adopted) == ("r1", False)
    assert [pin["id"] for pin in status.pins] == ["r2"]


async def killed_in_bake(system):
    """Two releases in bake and no supervisor; the record may now be put back to any instant of a switch."""
    first = await system.service.start(system.release("1"), "active", "a")
    second = await system.service.start(system.release("2"), "candidate", "b")
    await system.service.switch("b", 0, 60)
    status = await system.service.status()
    await system.service.close(keep_service=True)
    os.kill(status.supervisor_pid, signal.SIGKILL)
    await gone(status.supervisor_pid)
    system.service = system.driver()
    return first, second, status.seq


async def test_killed_between_the_record_of_a_switch_and_its_signals(system):
    first, second, _ = await killed_in_bake(system)
    os.kill(second.pid, signal.SIGUSR1)  # as it was before the switch: the old one serves, the new one is paused
    os.kill(first.pid, signal.SIGUSR2)
    async with asyncio.timeout(20):
        in_a_row = 0  # signals are taken when the process comes to it
        while in_a_row < 10:
            in_a_row = in_a_row + 1 if await system.ask() == "1" else 0
    assert (await system.service.status()).active.pid == second.pid
    async with asyncio.timeout(20):
        while await system.ask() != "2":
            await asyncio.sleep(0)


@pytest.mark.parametrize("event", ["proved", "switched", "promoted"])
async def test_killed_between_the_record_and_the_journal(system, event):
    """The record has the change and its event; the journal has not. Whoever waits for the event still gets it."""
    _, _, seq = await killed_in_bake(system)
    record = system.record()
    record["untold"] = [{"event": event, "token": "b", "release": "r2"}]
    (system.directory / "supervisor.json").write_text(json.dumps(record))
    told = await wait_event(system.service, seq, event)
    assert told.data["token"] == "b"
    assert system.record()["untold"] == []


async def test_killed_between_the_record_of_a_fallback_and_its_signals(system):
    first, second, seq = await killed_in_bake(system)
    record = system.record()
    falling = {"from": "r2", "to": "r1", "reason": "died", "cause": "by hand", "noticed": 1.0}
    record |= {"active": "a", "standby": None, "trial": None, "falling": falling}
    record["instances"]["a"]["state"], record["instances"]["b"]["state"] = "active", "stopping"
    (system.directory / "supervisor.json").write_text(json.dumps(record))
    event = await wait_event(system.service, seq, "fell_back")
    assert event.data["cause"] == "by hand"
    await gone(second.pid)
    assert await asyncio.wait_for(system.ask(), 10) == "1"
    assert copies(system.root / "logs") == [first.pid]


async def test_killed_while_an_exclusive_switch_waits_for_the_old_one(system):
    port = {"TINY_PORT": str(system.port), "TINY_IGNORE_TERM": "1"}
    common = {"handover": "exclusive", "sockets": (), "probe_socket": False, "probes": (), "stop_timeout_s": 0.5}
    first = await system.service.start(system.release("1", port, drain_timeout_s=0.5, **common), "active", "a")
    await system.service.start(system.release("2", port, **common), "candidate", "b")
    switching = asyncio.create_task(system.service.switch("b", 0, 60))
    async with asyncio.timeout(20):
        while (await system.service.status()).state != "switching":
            await asyncio.sleep(0.01)
    await kill_supervisor(system)
    await asyncio.wait_for(switching, 30)
    await gone(first.pid)
    assert await asyncio.wait_for(system.ask(), 10) == "2"
    assert len(copies(system.root / "logs")) == 1


# The candidate and the release on trial


async def test_candidate_dies_at_start(system):
    await system.service.start(system.release("1"), "active", "a")
    async with system.traffic() as seen:
        with pytest.raises(CandidateFailed) as failed:
            await system.service.start(system.release("2", {"TINY_DIE_AT_START": "1"}), "candidate", "b")
    assert failed.value.cause == "exit code 1: RuntimeError: no such table: users"
    assert "Traceback" in failed.value.log_tail
    assert set(seen.answers) == {"1"}
    assert (seen.refused, seen.cut) == (0, 0)


async def test_program_that_is_not_there(system):
    with pytest.raises(CandidateFailed, match="cannot run /no/such: No such file or directory"):
        await system.service.start(system.release("1", argv=("/no/such",)), "active", "a")


async def test_candidate_hangs_in_init(system):
    await system.service.start(system.release("1"), "active", "a")
    hangs = system.release("2", {"TINY_HANG": "1"}, start_timeout_s=0.5)
    async with system.traffic() as seen:
        with pytest.raises(CandidateFailed, match=r"not ready in .* s \(no READY\)"):
            await system.service.start(hangs, "candidate", "b")
    assert set(seen.answers) == {"1"}
    assert (seen.refused, seen.cut) == (0, 0)
    assert len(copies(system.root / "logs")) == 1


async def test_dies_in_bake(system):
    first = await system.service.start(system.release("1"), "active", "a")
    await system.service.start(system.release("2", {"TINY_DIE_AFTER": "0.3"}), "candidate", "b")
    seq = (await system.service.status()).seq
    async with system.traffic() as seen:
        await system.service.switch("b", 0, 60)
        event = await wait_event(system.service, seq, "fell_back")
        record = system.record()
    assert (event.data["from"], event.data["to"], event.data["reason"]) == ("r2", "r1", "died")
    assert event.data["cause"] == "exit code 1: RuntimeError: version 2 was told to die"
    assert record["pins"][system.release("2").digest]["cause"] == event.data["cause"]
    assert seen.refused == 0
    assert seen.cut <= 3, "more was lost than what was in flight on the dead one"
    assert (await system.service.status()).active.pid == first.pid


async def test_f09_pinned_before_the_way_back_begins(system):
    """The supervisor is killed between pin and restore: the record already pins, and the way back goes on."""
    await system.service.start(system.release("1"), "active", "a")
    bad = await system.service.start(system.release("2"), "candidate", "b")
    await system.service.switch("b", 0, 60)
    # The good one stops listening to its resume: only a cold start can bring it back, which leaves time to look.
    status = await system.service.status()
    os.kill(status.standby.pid, signal.SIGKILL)
    await wait_event(system.service, status.seq, "standby_died")
    os.kill(bad.pid, signal.SIGKILL)
    await wait_event(system.service, status.seq, "starting")
    assert [pin["id"] for pin in system.record()["pins"].values()] == ["r2"]
    await kill_supervisor(system)
    event = await wait_event(system.service, status.seq, "fell_back")
    assert event.data["to"] == "r1"
    assert len(copies(system.root / "logs")) == 1
    with pytest.raises(ServiceError) as refused:
        await system.service.start(system.release("2"), "candidate", "c")
    assert refused.value.kind == "pinned"
    assert (await system.service.start(system.release("2"), "candidate", "d", force=True)).state == "proved"
    await system.service.discard("d")
    assert await system.service.unpin(system.release("2").digest)
    assert (await system.service.start(system.release("3"), "candidate", "e")).state == "proved"


async def test_health_fails_in_bake(system):
    first = await system.service.start(system.release("1"), "active", "a")
    await system.service.start(system.release("2", {"TINY_FAIL_FILE": str(system.root / "fail")}), "candidate", "b")
    await system.service.switch("b", 0, 60)
    seq = (await system.service.status()).seq
    async with system.traffic() as seen:
        (system.root / "fail").touch()
        event = await wait_event(system.service, seq, "fell_back")
    assert (event.data["reason"], event.data["cause"]) == ("probe failed", "probe health: status 500")
    assert (seen.refused, seen.cut) == (0, 0)
    assert (await system.service.status()).active.pid == first.pid


async def test_f24_a_promoted_release_is_not_killed_for_its_probe(system):
    fail = system.root / "fail"
    first = await system.service.start(system.release("1", {"TINY_FAIL_FILE": str(fail)}), "active", "a")
    seq = (await system.service.status()).seq
    fail.touch()
    event = await wait_event(system.service, seq, "unhealthy")
    fail.unlink()
    await wait_event(system.service, event.seq, "healthy")
    assert (await system.service.status()).active.pid == first.pid


async def test_f04_not_promoted_in_time_with_the_daemon_gone(system):
    first = await system.service.start(system.release("1"), "active", "a")
    await system.service.start(system.release("2", {"TINY_IGNORE_TERM": "1"}, stop_timeout_s=0.2), "candidate", "b")
    await system.service.switch("b", 0.1, 0.6)
    seq = (await system.service.status()).seq
    await system.service.close(keep_service=True)
    journal = system.directory / "events.jsonl"
    async with asyncio.timeout(20):
        while "fell_back" not in journal.read_text():
            await asyncio.sleep(0.02)
    system.service = system.driver()
    event = await wait_event(system.service, seq, "fell_back")
    assert event.data["reason"] == "not promoted in time"
    await wait_event(system.service, event.seq, "ended")
    assert copies(system.root / "logs") == [first.pid]
    assert await system.ask() == "1"


async def test_standby_dies_then_the_trial_dies(system):
    """F25: the way back itself is gone, and the last good release is started cold."""
    first = await system.service.start(system.release("1"), "active", "a")
    second = await system.service.start(system.release("2"), "candidate", "b")
    await system.service.switch("b", 0, 60)
    seq = (await system.service.status()).seq
    async with system.traffic() as seen:
        os.kill(first.pid, signal.SIGKILL)
        os.kill(second.pid, signal.SIGKILL)
        await wait_event(system.service, seq, "fell_back", "up")
        while (await system.service.status()).state != "running":
            await asyncio.sleep(0.02)
        assert await asyncio.wait_for(system.ask(), 10) == "1"
    assert seen.refused == 0
    assert [pin["id"] for pin in (await system.service.status()).pins] == ["r2"]
    assert len(copies(system.root / "logs")) == 1


# A proven release that dies


async def test_f08_crash_loop_is_limited_and_falls_back_to_the_release_before(system):
    loops = Restart(backoff_s=0.01, backoff_max_s=0.05, limit=3, window_s=60)
    await system.service.start(system.release("1"), "active", "a")
    await system.service.start(system.release("2", restart=loops), "candidate", "b")
    await system.service.switch("b", 0, 60)
    await system.service.promote("b")
    seq = (await system.service.status()).seq
    for _ in range(3):
        status = await system.service.status()
        while status.state != "running":
            await asyncio.sleep(0.02)
            status = await system.service.status()
        assert status.active.release == "r2"
        os.kill(status.active.pid, signal.SIGKILL)
        await wait_event(system.service, status.seq, "crashed")
    event = await wait_event(system.service, seq, "fell_back")
    assert (event.data["from"], event.data["to"], event.data["reason"]) == ("r2", "r1", "crash loop")
    assert "killed by SIGKILL" in event.data["cause"]
    assert await asyncio.wait_for(system.ask(), 10) == "1"


async def test_f08_with_nothing_to_return_to_it_goes_on_at_the_slowest_pace(system):
    loops = Restart(backoff_s=0.01, backoff_max_s=0.4, limit=2, window_s=60)
    await system.service.start(system.release("1", {"TINY_DIE_AFTER": "0.1"}, restart=loops), "active", "a")
    times, seen = [], 0
    while len(times) < 5:
        event = await wait_event(system.service, seen, "crashed", "starting")
        seen = event.seq
        times.append((event.event, event.at)) if event.data["token"] != "a" or event.event == "crashed" else None
    pauses = [
        after - before
        for (one, before), (two, after) in itertools.pairwise(times)
        if (one, two) == ("crashed", "starting")
    ]
    assert pauses[1] >= 0.39, "faster than backoff_max after the limit"


# Processes and locks


async def test_f41_a_recorded_pid_that_is_another_process_now(system):
    first = await system.service.start(system.release("1"), "active", "a")
    status = await system.service.status()
    await system.service.close(keep_service=True)
    os.kill(status.supervisor_pid, signal.SIGKILL)
    os.kill(first.pid, signal.SIGKILL)
    await gone(status.supervisor_pid)
    await gone(first.pid)
    decoy = subprocess.Popen([sys.executable, "-I", "-S", tiny_service.__file__], env={"TINY_VERSION": "decoy"})
    try:
        record = system.directory / "supervisor.json"
        record.write_text(record.read_text().replace(f'"pid":{first.pid},', f'"pid":{decoy.pid},'))
        assert system.record()["instances"]["a"]["pid"] == decoy.pid
        system.service = system.driver()
        await wait_event(system.service, status.seq, "proved")
        status = await system.service.status()
        assert status.active.pid not in (decoy.pid, first.pid)
        await system.service.stop()
        assert decoy.poll() is None
    finally:
        decoy.kill()
        decoy.wait()


async def test_f42_second_supervisor_is_refused_and_a_killed_one_leaves_no_lock(system):
    await system.service.start(system.release("1"), "active", "a")
    words = ["--dir", str(system.directory), "--socket", str(system.root / "other.sock"), "--name", "tiny"]
    second = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-I", "-S", str(MAIN), *words], capture_output=True, text=True, timeout=20
    )
    assert second.returncode == 3
    assert second.stderr.startswith("cannot start: another supervisor holds")
    assert await system.ask() == "1"
    await kill_supervisor(system)
    assert (await system.service.status()).active.token == "a"


async def test_f13_text_file_busy_is_retried(system):
    program = system.root / "program"
    program.write_bytes(Path("/bin/sh").read_bytes())
    program.chmod(0o700)
    argv = (str(program), "-c", f"exec {sys.executable} -I -S {tiny_service.__file__}")
    with program.open("r+b"):
        starting = asyncio.create_task(system.service.start(system.release("1", argv=argv), "active", "a"))
        assert (await wait_event(system.service, 0, "starting")).data["token"] == "a"
        await asyncio.sleep(0.2)  # the fault itself: the file stays open for writing this long
        assert not starting.done()
    assert (await asyncio.wait_for(starting, 20)).state == "active"


async def test_f43_a_port_that_stays_busy_is_waited_for(system):
    with socket.create_server(("127.0.0.1", system.port)):
        with pytest.raises(CandidateFailed, match=f"cannot listen on 127.0.0.1:{system.port}: Address already in use"):
            await system.service.start(system.release("1", bind_timeout_s=0.1), "active", "a")
        starting = asyncio.create_task(system.service.start(system.release("1"), "active", "b"))
        seq = (await wait_event(system.service, 0, "stopped")).seq
        await wait_event(system.service, seq, "starting")
    assert (await asyncio.wait_for(starting, 20)).state == "active"


async def test_f43_killed_while_it_waits_for_the_port(system):
    """The start was answered and no process is there yet: the next supervisor must know of it."""
    with socket.create_server(("127.0.0.1", system.port)):
        release = system.release("1", bind_timeout_s=20.0)
        starting = asyncio.create_task(system.service.start(release, "active", "a"))
        await wait_event(system.service, 0, "starting")
        assert (await system.service.status()).active.pid is None
        assert "a" in system.record()["instances"]
        await kill_supervisor(system)
    assert (await asyncio.wait_for(starting, 30)).state == "active"
    assert len(copies(system.root / "logs")) == 1


async def test_a_start_that_the_next_supervisor_knows_nothing_of_is_asked_again(system):
    with socket.create_server(("127.0.0.1", system.port)):
        starting = asyncio.create_task(system.service.start(system.release("1"), "active", "a"))
        await wait_event(system.service, 0, "starting")
        record = system.record()
        record |= {"instances": {}, "active": None, "desired": "stopped"}
        (system.directory / "supervisor.json").write_text(json.dumps(record))
        await kill_supervisor(system)
        await wait_event(system.service, 2, "starting")
    assert (await asyncio.wait_for(starting, 30)).state == "active"
    assert len(copies(system.root / "logs")) == 1


async def test_sigterm_stops_the_service_and_the_next_supervisor_starts_it(system):
    await system.service.start(system.release("1"), "active", "a")
    status = await system.service.status()
    await system.service.close(keep_service=True)
    os.kill(status.supervisor_pid, signal.SIGTERM)
    await gone(status.supervisor_pid)
    assert copies(system.root / "logs") == []
    system.service = system.driver()
    await wait_event(system.service, status.seq, "proved")
    assert await system.ask() == "1"


async def test_workers_do_not_outlive_their_leader(system):
    code = (
        "import os,runpy; os.fork() or os.execlp('sleep', 'sleep', '1000');"
        f" runpy.run_path({tiny_service.__file__!r}, run_name='__main__')"
    )
    forks = (sys.executable, "-c", code)
    first = await system.service.start(system.release("1", argv=forks, restart=Restart(backoff_s=0.01)), "active", "a")
    assert len(copies(system.root / "logs")) == 2
    seq = (await system.service.status()).seq
    os.kill(first.pid, signal.SIGKILL)
    await wait_event(system.service, seq, "up")
    assert len(copies(system.root / "logs")) == 2


# The record


async def test_newer_record_is_refused(system):
    system.directory.mkdir(parents=True)
    (system.directory / "supervisor.json").write_text('{"format": 2, "instances": {}}')
    with pytest.raises(ServiceError, match="has format 2 and this version knows 1"):
        await system.service.status()
    (system.directory / "supervisor.json").unlink()


async def test_torn_record_runs_on_from_the_backup(system):
    first = await system.service.start(system.release("1"), "active", "a")
    status = await system.service.status()
    await system.service.close(keep_service=True)
    os.kill(status.supervisor_pid, signal.SIGKILL)
    await gone(status.supervisor_pid)
    record = system.directory / "supervisor.json"
    record.write_text(record.read_text()[:100])
    system.service = system.driver()
    event = await wait_event(system.service, status.seq, "record_unreadable")
    assert Path(event.data["kept_as"]).stat().st_size == 100
    assert (await system.service.status()).active.pid == first.pid
    assert copies(system.root / "logs") == [first.pid]


@pytest.fixture
def short(monkeypatch):
    """A directory for temporary files whose paths a socket can have, wherever the tests' own are."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


async def test_where_paths_are_too_long_the_next_supervisor_uses_the_same_place_and_leaves_none(tmp_path, short):
    """The service says READY and STOPPING at a path that a socket can have, whatever the runtime directory's is."""
    system = ServiceSystem(tmp_path)
    system.runtime = tmp_path / ("r" * 120)
    system.service = system.driver()
    try:
        await system.service.start(system.release("1", ready="notify"), "active", "a")
        [place] = short.glob("regrow-*")
        await kill_supervisor(system)
        await system.service.start(system.release("2", ready="notify"), "candidate", "b")
        assert list(short.glob("regrow-*")) == [place]
        assert len(list(place.iterdir())) == 2
        last = (await system.service.status()).supervisor_pid
    finally:
        await system.service.close(keep_service=False)
    await gone(last)
    assert not place.exists()


async def test_a_place_of_somebody_else_is_not_used(tmp_path, short):
    system = ServiceSystem(tmp_path)
    system.runtime = tmp_path / ("r" * 120)
    system.service = system.driver()
    name = hashlib.sha256(os.fsencode(system.directory)).hexdigest()[:12]
    (short / f"regrow-{os.getuid()}-{name}").symlink_to(tmp_path)
    with pytest.raises(ServiceError, match="not a directory of this user alone"):
        await system.service.start(system.release("1"), "active", "a")


async def test_control_socket_is_private(system):
    await system.service.status()
    assert stat.S_IMODE(system.service.socket_path.stat().st_mode) == 0o600


async def test_recorded_start_time_is_the_kernels(system):
    first = await system.service.start(system.release("1"), "active", "a")
    assert first.start_time == start_time(first.pid)
