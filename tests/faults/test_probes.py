"""Probes of real processes: what proves a release, what ends its trial, what must never end a healthy service."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regrow.services.base import CandidateFailed, Probe, Restart, ServiceError
from regrow.testing import tiny_service
from regrow.testing.service_driver import wait_event
from regrow.testing.service_system import ServiceSystem

HEALTH = Probe("health", "http", "/health", interval_s=0.05, version_json="version")


def exists(name, path, **changes):
    return Probe(name, "command", ("/bin/test", "-e", str(path)), **{"interval_s": 0.05, **changes})


def script(text):
    """The tiny service behind a few lines of shell, which tell the supervisor things by `say`."""
    # The barrier: only what a living process of the service says is believed, so it waits until it was heard.
    say = (
        "import os,socket,sys;s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM);s.connect(os.environ['NOTIFY_SOCKET']);"
        "s.send(sys.argv[1].encode());r,w=os.pipe();socket.send_fds(s,[b'BARRIER=1'],[w]);os.close(w);os.read(r,1)"
    )
    run = f"{sys.executable} -I -S"
    return ("/bin/sh", "-c", f'say() {{ {run} -c "{say}" "$1"; }}\n{text}\nexec {run} {tiny_service.__file__}')


@pytest.fixture
async def system(tmp_path):
    system = ServiceSystem(tmp_path)
    yield system
    await system.service.close(keep_service=False)


async def eventually(look):
    """Wait until `look` gives something true."""
    async with asyncio.timeout(30):
        while not (found := await look()):
            await asyncio.sleep(0.02)
    return found


# A new release is at least as alive as the one it replaces (F23)


async def test_f23_a_release_that_never_answers_one_of_two_probes_does_not_replace_one_that_does(system):
    there = system.root / "there"
    there.touch()
    second = exists("second", there)
    first = await system.service.start(system.release("1", probes=(HEALTH, second)), "active", "a")
    there.unlink()
    with pytest.raises(CandidateFailed, match="probe second: exit code 1") as failed:
        # Alive and ready, and its health path answers; only the second probe never passes.
        await system.service.start(
            system.release("2", probes=(HEALTH, exists("second", system.root / "never")), start_timeout_s=1.0),
            "candidate",
            "b",
        )
    assert "health" not in failed.value.cause
    assert (await system.service.status()).active.pid == first.pid


async def test_f23_a_service_whose_probe_fails_already_can_be_repaired(system):
    there = system.root / "there"
    there.touch()
    probes = (HEALTH, exists("second", there))
    await system.service.start(system.release("1", probes=probes), "active", "a")
    seq = (await system.service.status()).seq
    there.unlink()
    await wait_event(system.service, seq, "unhealthy")
    second = await system.service.start(system.release("2", probes=probes, start_timeout_s=5.0), "candidate", "b")
    required = {name: probe["required"] for name, probe in second.probes.items()}
    assert required == {"health": True, "second": False}
    await system.service.switch("b", 0, 60)

    async def struck():
        return (await system.service.status()).active.probes["second"]["failing"]

    await eventually(struck)  # more strikes than would end the trial of a required one
    await system.service.promote("b")
    assert (await system.service.status()).good["id"] == "r2"
    # And what was not required once is required again as soon as it holds.
    there.touch()

    async def holds():
        return not (await system.service.status()).active.probes["second"]["failing"]

    await eventually(holds)
    third = await system.service.start(system.release("3", probes=probes), "candidate", "c")
    assert third.probes["second"]["required"]


async def test_f23_what_is_required_may_be_named(system):
    probes = (HEALTH, exists("second", system.root / "never"))
    started = await system.service.start(system.release("1", probes=probes, required=("health",)), "active", "a")
    assert started.state == "active"
    assert not started.probes["second"]["required"]


async def test_f23_a_service_that_fails_its_only_probe_is_replaced_when_the_new_one_lives(system):
    probes = (exists("second", system.root / "there"),)
    (system.root / "there").touch()
    await system.service.start(system.release("1", probes=probes, ready="probe"), "active", "a")
    seq = (await system.service.status()).seq
    (system.root / "there").unlink()
    await wait_event(system.service, seq, "unhealthy")
    second = system.release("2", probes=probes, ready="probe", start_timeout_s=0.5)
    assert (await system.service.start(second, "candidate", "b")).state == "proved"
    dies = {"TINY_DIE_AT_START": "1"}
    await system.service.discard("b")
    with pytest.raises(CandidateFailed, match="no such table: users"):
        await system.service.start(
            system.release("3", dies, probes=probes, ready="probe", start_timeout_s=20.0), "candidate", "c"
        )


async def test_f23_it_is_not_promoted_while_a_required_probe_fails(system):
    """Fewer strikes than end a trial, a bake shorter than they need: not promoted all the same."""
    fail = system.root / "fail"
    slow = Probe("health", "http", "/health", interval_s=0.05, strikes=100)
    await system.service.start(system.release("1", probes=(slow,)), "active", "a")
    await system.service.start(system.release("2", {"TINY_FAIL_FILE": str(fail)}, probes=(slow,)), "candidate", "b")
    await system.service.switch("b", 0, 60)
    fail.touch()

    async def refused():
        try:
            await system.service.promote("b")
        except ServiceError as error:
            return error
        return None

    # The first asking may come before the first look; a promoted release cannot be asked again.
    async def struck():
        return (await system.service.status()).active.probes["health"]["strikes"]

    await eventually(struck)
    error = await refused()
    assert error.kind == "not_well"
    assert "probe health: status 500" in str(error)
    fail.unlink()

    async def promoted():
        return await refused() is None

    await eventually(promoted)
    assert (await system.service.status()).good["id"] == "r2"


# Grace, strikes, migrations, and a watchdog that stands down (F24)


async def test_f24_failures_within_the_grace_do_not_count(system):
    fail = system.root / "fail"
    patient = Probe("health", "http", "/health", interval_s=0.05, strikes=1, grace_s=3600.0)
    await system.service.start(system.release("1", probes=(patient,)), "active", "a")
    second = system.release("2", {"TINY_FAIL_FILE": str(fail)}, probes=(patient,))
    await system.service.start(second, "candidate", "b")
    await system.service.switch("b", 0, 60)
    fail.touch()

    async def failed():
        return (await system.service.status()).active.probes["health"]["passed"] is False

    await eventually(failed)
    status = await system.service.status()
    assert (status.active.release, status.active.probes["health"]["strikes"]) == ("r2", 0)
    assert not [event for event in journal(system) if event == "unhealthy"]


async def test_f24_a_migration_that_reports_progress_is_waited_for_and_failing_probes_do_not_count(system):
    """The start takes longer than its time-out, and than the driver waits of itself; the http probe cannot pass."""
    os.mkfifo(system.root / "gate")
    argv = script(f'say "EXTEND_TIMEOUT_USEC=60000000"\nread x < {system.root}/gate')
    release = system.release("1", argv=argv, ready="probe", start_timeout_s=5.0)
    starting = asyncio.create_task(system.service.start(release, "active", "a"))

    async def extended():
        active = (await system.service.status()).active
        return active and (active.start_left_s or 0) > 30 and active.probes["health"]["cause"]

    await eventually(extended)
    assert not starting.done()
    await asyncio.to_thread((system.root / "gate").write_text, "\n")
    assert (await asyncio.wait_for(starting, 30)).state == "active"


async def test_f24_a_hang_after_the_last_extension_ends(system):
    argv = script('say "EXTEND_TIMEOUT_USEC=1500000"\nexec sleep 3600')
    with pytest.raises(CandidateFailed, match="not ready in"):
        await system.service.start(system.release("1", argv=argv, start_timeout_s=0.5), "active", "a")


async def test_f24_an_extension_never_takes_time_away(system):
    argv = script('say "EXTEND_TIMEOUT_USEC=1"\nsleep 0.3')
    assert (await system.service.start(system.release("1", argv=argv), "active", "a")).state == "active"


async def test_f24_nothing_is_said_of_the_release_that_a_job_replaces(system):
    fail = system.root / "fail"
    await system.service.start(system.release("1", {"TINY_FAIL_FILE": str(fail)}), "active", "a")
    await system.service.start(system.release("2"), "candidate", "b")
    fail.touch()

    async def failing():
        return (await system.service.status()).active.probes["health"]["failing"]

    await eventually(failing)
    assert "unhealthy" not in journal(system)
    await system.service.discard("b")  # the job is over: now it is told
    await eventually(lambda: asyncio.sleep(0, "unhealthy" in journal(system)))
    assert (await system.service.status()).active.release == "r1"


def journal(system):
    return [json.loads(line)["event"] for line in (system.directory / "events.jsonl").read_text().splitlines()]


# Kinds of probes


async def test_log_a_line_proves_it(system):
    log = Probe("said", "log", r"listening on \d+", interval_s=0.05)
    argv = script("echo starting\nread x < $GATE\necho listening on 8000")
    os.mkfifo(system.root / "gate")
    release = system.release("1", {"GATE": str(system.root / "gate")}, argv=argv, ready="probe", probes=(log,))
    starting = asyncio.create_task(system.service.start(release, "active", "a"))

    async def tried():
        active = (await system.service.status()).active
        return active and active.probes["said"]["cause"]

    assert "no line of the log matches" in await eventually(tried)
    await asyncio.to_thread((system.root / "gate").write_text, "\n")
    assert (await asyncio.wait_for(starting, 30)).state == "active"


async def test_log_lines_of_failure_end_the_trial(system):
    log = Probe("said", "log", "", interval_s=0.05, strikes=1, fail="ERROR .* lost")
    await system.service.start(system.release("1", probes=(log,)), "active", "a")
    second = system.release("2", probes=(log,))
    await system.service.start(second, "candidate", "b")
    await system.service.switch("b", 0, 60)
    seq = (await system.service.status()).seq
    with Path(second.log).open("a") as file:
        file.write("ERROR all connections lost\n")
    event = await wait_event(system.service, seq, "fell_back")
    assert event.data["cause"] == "probe said: the log says: ERROR all connections lost"


async def test_ready_a_watchdog_that_falls_silent_ends_the_trial(system):
    silent = system.root / "silent"
    watchdog = Probe("alive", "ready", "", interval_s=0.5, strikes=2)
    await system.service.start(system.release("1", probes=(watchdog,)), "active", "a")
    second = system.release("2", {"TINY_WATCHDOG": str(silent)}, probes=(watchdog,))
    await system.service.start(second, "candidate", "b")
    await system.service.switch("b", 0, 60)
    seq = (await system.service.status()).seq
    silent.touch()
    event = await wait_event(system.service, seq, "fell_back")
    assert event.data["cause"] == "probe alive: no WATCHDOG=1 in 0.5 s"


async def test_ready_a_service_that_never_sends_it_is_left_alone(system):
    watchdog = Probe("alive", "ready", "", interval_s=0.01, strikes=1)
    await system.service.start(system.release("1", probes=(watchdog, HEALTH)), "active", "a")

    async def looked():
        return (await system.service.status()).active.probes["health"]["passed"]

    await eventually(looked)
    assert (await system.service.status()).active.probes["alive"] == {
        "passed": True, "strikes": 0, "cause": "", "failing": False, "required": True,
    }  # fmt: skip


# Starts that fail by what is around them


async def test_f13_a_program_that_may_not_be_run_is_named_with_its_mode_and_the_uid(system):
    program = system.root / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    facts = rf"cannot run {program}: Permission denied \(mode 0644, owner uid \d+; it is run by uid {os.geteuid()}\)"
    with pytest.raises(CandidateFailed, match=facts):
        await system.service.start(system.release("1", argv=(str(program),)), "active", "a")


async def test_f13_a_missing_interpreter_is_named(system):
    program = system.root / "program"
    program.write_text("#!/no/such/python\n")
    program.chmod(0o755)
    with pytest.raises(CandidateFailed, match="interpreter named in its first line is not: #!/no/such/python"):
        await system.service.start(system.release("1", argv=(str(program),)), "active", "a")


async def test_f11_a_deleted_release_is_named_and_the_one_before_takes_over(system):
    home = system.root / "r2"
    home.mkdir()
    loops = Restart(backoff_s=0.01, backoff_max_s=0.05, limit=2, window_s=60)
    await system.service.start(system.release("1"), "active", "a")
    await system.service.start(system.release("2", cwd=str(home), restart=loops), "candidate", "b")
    await system.service.switch("b", 0, 60)
    await system.service.promote("b")
    status = await system.service.status()
    shutil.rmtree(home)
    os.kill(status.active.pid, signal.SIGKILL)
    event = await wait_event(system.service, status.seq, "fell_back")
    assert (
        event.data["cause"]
        == f"2 crashes: cannot enter {home}: the directory of the release is gone; deploy another release"[:300]
    )
    assert await asyncio.wait_for(system.ask(), 10) == "1"


@pytest.mark.parametrize("scenario", ["restart", "chatty"])
def test_f14_a_full_disk(scenario, tmp_path):
    """In a namespace of its own, where a small file system can be mounted without being root."""
    inside = ["unshare", "--user", "--map-root-user", "--mount"]
    argv = [*inside, sys.executable, str(Path(__file__).with_name("full_disk.py")), scenario, str(tmp_path)]
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
