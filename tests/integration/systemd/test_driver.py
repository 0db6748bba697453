"""The systemd driver through its whole life, once for each way of handing over, and what is its own."""

import asyncio
import json
from pathlib import Path

import pytest

from regrow.services import units
from regrow.services.base import CandidateFailed, Probe, ServiceError
from regrow.services.embedded import EmbeddedService
from regrow.testing.service_driver import drive_service, drive_switch, wait_event
from regrow.testing.unit_system import UnitSystem

pytestmark = pytest.mark.both_managers
DIES = {"TINY_DIE_AFTER": "0.3"}


@pytest.mark.parametrize("standby", ["paused", "running", "none"])
async def test_life_with_a_shared_socket(system, standby):
    # With standby running or none the candidate serves before the switch, so it is given time to be switched to.
    dies = DIES if standby == "paused" else {"TINY_DIE_AFTER": "2"}
    good, better, bad = (
        system.release(version, env, standby=standby) for version, env in (("1", {}), ("2", {}), ("3", dies))
    )
    await drive_service(system.service, good, better, bad)


async def test_life_with_overlap(system):
    good, better, bad = (
        system.release(version, env, handover="overlap", standby="running", sockets=())
        for version, env in (("1", {}), ("2", {}), ("3", {"TINY_DIE_AFTER": "2"}))
    )
    await drive_service(system.service, good, better, bad)


async def test_life_of_an_exclusive_service_that_says_nothing_to_systemd(system):
    health = Probe("health", "http", f"http://127.0.0.1:{system.port}/health", interval_s=0.05, version_json="version")
    port = {"TINY_PORT": str(system.port)}
    changes = {"handover": "exclusive", "sockets": (), "probe_socket": False, "probes": (health,), "ready": "probe"}
    good, better, bad = (
        system.release(version, port | env, **changes) for version, env in (("1", {}), ("2", {}), ("3", DIES))
    )
    await drive_service(system.service, good, better, bad)


async def test_a_release_is_in_a_control_group_of_its_own(system):
    """F1."""
    started = await system.service.start(system.release("1"), "active", "a")
    supervisor = (await system.service.status()).supervisor_pid
    groups = [Path(f"/proc/{pid}/cgroup").read_text().strip() for pid in (started.pid, supervisor)]
    assert [group.rpartition("/")[2] for group in groups] == ["regrow-tiny@a.service", "regrow-tiny.supervisor.service"]
    assert system.show(system.unit("a"), "MainPID") == str(started.pid)


async def test_switch_and_promote_fail_no_request(system):
    await drive_switch(system)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"env": {"TINY_DIE_AT_START": "1"}}, "exit code 1: RuntimeError: no such table: users"),
        ({"argv": ("/nonexistent/program",)}, "exit code 127: cannot run /nonexistent/program: No such file"),
        ({"env": {"TINY_VERSION": "1"}}, "it reports version 1, not 2"),
        ({"secrets": {"TOKEN": "file:/nonexistent"}}, "cannot start: [Errno 2]"),
        ({"argv": ("/bin/true",)}, "it ended before READY=1"),
        ({"argv": ("/bin/sh", "-c", "kill -SEGV $$")}, "killed by SIGSEGV"),
    ],
)
async def test_a_candidate_that_fails_says_why_and_leaves_nothing_behind(system, changes, cause):
    """F12, F16."""
    await system.service.start(system.release("1"), "active", "a")
    with pytest.raises(CandidateFailed) as failed:
        await system.service.start(system.release("2", **changes), "candidate", "b")
    assert failed.value.cause.startswith(cause)
    assert (await system.service.status()).active.release == "r1"
    system.await_state(system.unit("b"), "inactive")


async def test_a_release_that_is_never_ready_is_ended_by_systemd(tmp_path, inside):
    system = UnitSystem(tmp_path, scope=inside, start_timeout=0.5)
    system.install()
    try:
        with pytest.raises(CandidateFailed, match="not ready in time"):
            await system.service.start(system.release("1", {"TINY_HANG": "1"}, start_timeout_s=0.5), "active", "a")
        assert (await system.service.status()).state == "stopped"
    finally:
        await system.close()


async def test_a_start_can_be_thrown_away_before_it_is_ready(system):
    await system.service.start(system.release("1"), "active", "a")
    seq = (await system.service.status()).seq
    hangs = system.release("2", {"TINY_HANG": "1"})
    waiting = asyncio.create_task(system.service.start(hangs, "candidate", "b"))
    await wait_event(system.service, seq, "starting")
    await system.service.discard("b")
    assert (await wait_event(system.service, seq, "ended")).data["token"] == "b"
    waiting.cancel()
    await asyncio.wait({waiting})
    assert (await system.service.status()).active.release == "r1"


async def test_secrets_are_resolved_at_start_and_never_stored(system, tmp_path):
    value = "v" + "x".join(str(n) for n in range(9))
    (tmp_path / "value").write_text(value + "\n")
    argv = ("/bin/sh", "-c", 'echo "with $TOKEN"; exit 3')
    release = system.release("1", argv=argv, secrets={"TOKEN": f"file:{tmp_path / 'value'}"}, probes=())
    with pytest.raises(CandidateFailed) as failed:
        await system.service.start(release, "active", "a")
    assert failed.value.cause == "exit code 3: with [TOKEN]"
    for path in system.directory.iterdir():
        assert value not in path.read_text()


async def test_a_token_that_cannot_name_a_unit_is_refused(system):
    with pytest.raises(ServiceError) as refused:
        await system.service.start(system.release("1"), "active", "../a b")
    assert refused.value.kind == "bad_request"
    assert json.loads((system.directory / "supervisor.json").read_text())["instances"] == {}


async def test_units_of_other_settings_are_refused(system):
    path = units.directory(system.manager) / units.releases_name("tiny")
    path.write_text(path.read_text().replace("KillMode=mixed", "KillMode=none"))
    with pytest.raises(ServiceError, match=r"is of other settings; run `regrow install --") as refused:
        await system.service.ensure()
    assert refused.value.kind == "units"
    path.unlink()
    with pytest.raises(ServiceError, match="is not there"):
        await system.service.ensure()
    system.install()


async def test_the_driver_is_not_changed_under_a_running_service(system):
    await system.service.start(system.release("1"), "active", "a")
    embedded = EmbeddedService("tiny", system.directory, system.runtime)
    with pytest.raises(ServiceError) as refused:
        await embedded.ensure()
    assert refused.value.kind == "driver_changed"
    await embedded.close(keep_service=True)
