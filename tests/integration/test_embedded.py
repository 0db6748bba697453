"""The embedded driver through its whole life, once for each way of handing over."""

import asyncio

import pytest

from regrow.services.base import CandidateFailed, Probe, ServiceError
from regrow.testing.service_driver import drive_service, drive_switch, wait_event
from regrow.testing.service_system import ServiceSystem

DIES = {"TINY_DIE_AFTER": "0.3"}


@pytest.fixture
async def system(tmp_path):
    system = ServiceSystem(tmp_path)
    yield system
    await system.service.close(keep_service=False)


@pytest.mark.parametrize("standby", ["paused", "running", "none"])
async def test_life_with_a_shared_socket(system, standby):
    # With standby running or none the candidate serves before the switch, so it is given time to be switched to.
    dies = DIES if standby == "paused" else {"TINY_DIE_AFTER": "2"}
    good, better, bad = (
        system.release(version, env, standby=standby) for version, env in (("1", {}), ("2", {}), ("3", dies))
    )
    await drive_service(system.service, good, better, bad)


@pytest.mark.parametrize("standby", ["paused", "none"])
async def test_life_with_overlap(system, standby):
    good, better, bad = (
        system.release(version, env, handover="overlap", standby=standby, sockets=())
        for version, env in (("1", {}), ("2", {}), ("3", {"TINY_DIE_AFTER": "2"}))
    )
    await drive_service(system.service, good, better, bad)


async def test_life_of_an_exclusive_service(system):
    health = Probe("health", "http", f"http://127.0.0.1:{system.port}/health", interval_s=0.05, version_json="version")
    port = {"TINY_PORT": str(system.port)}
    good, better, bad = (
        system.release(version, port | env, handover="exclusive", sockets=(), probe_socket=False, probes=(health,))
        for version, env in (("1", {}), ("2", {}), ("3", DIES))
    )
    await drive_service(system.service, good, better, bad)


async def test_exclusive_release_that_dies_at_start_gives_the_old_one_back(system):
    port = {"TINY_PORT": str(system.port)}
    common = {"handover": "exclusive", "sockets": (), "probe_socket": False, "probes": ()}
    await system.service.start(system.release("1", port, **common), "active", "a")
    held = await system.service.start(system.release("2", {"TINY_DIE_AT_START": "1"}, **common), "candidate", "b")
    assert held.state == "held"
    assert held.pid is None
    with pytest.raises(CandidateFailed) as failed:
        await system.service.switch("b", 0, 60)
    assert failed.value.cause == "exit code 1: RuntimeError: no such table: users"
    status = await system.service.status()
    assert (status.state, status.active.release) == ("running", "r1")
    assert [pin["id"] for pin in status.pins] == ["r2"]


async def test_switch_and_promote_fail_no_request(system):
    await drive_switch(system)


async def test_candidate_that_reports_another_version_fails(system):
    """F12."""
    with pytest.raises(CandidateFailed, match="reports version 1, not 2"):
        await system.service.start(system.release("2", {"TINY_VERSION": "1"}), "active", "a")
    assert (await system.service.status()).state == "stopped"


async def test_command_and_tcp_probes(system):
    probes = (
        Probe("port", "tcp", f"127.0.0.1:{system.port}"),
        Probe("check", "command", ("/bin/sh", "-c", "test -n $REGROW_RELEASE")),
    )
    instance = await system.service.start(system.release("1", probes=probes, ready="probe"), "active", "a")
    assert instance.state == "active"
    bad = (Probe("check", "command", ("/bin/sh", "-c", "exit 7")),)
    with pytest.raises(CandidateFailed, match=r"probe check: exit code 7"):
        await system.service.start(system.release("2", probes=bad, start_timeout_s=0.5), "candidate", "b")


async def test_secrets_are_resolved_at_start_and_never_stored(system, tmp_path):
    value = "v" + "x".join(str(n) for n in range(9))
    (tmp_path / "value").write_text(value + "\n")
    argv = ("/bin/sh", "-c", 'echo "with $TOKEN"; exit 3')
    named = {"TOKEN": f"file:{tmp_path / 'value'}"}
    release = system.release("1", argv=argv, secrets=named, probes=())
    with pytest.raises(CandidateFailed) as failed:
        await system.service.start(release, "active", "a")
    assert failed.value.cause == "exit code 3: with [TOKEN]"
    for path in system.directory.iterdir():
        assert value not in path.read_text()


async def test_two_drivers_share_one_supervisor(system):
    await system.service.start(system.release("1"), "active", "a")
    other = system.driver()
    assert (await other.status()).active.release == "r1"
    await other.close(keep_service=True)
    assert (await system.service.status()).active.release == "r1"


async def test_stopped_service_stays_stopped_and_signal_reaches_the_instance(system):
    await system.service.start(system.release("1"), "active", "a")
    await system.service.signal("a", "SIGUSR1")
    with pytest.raises(ServiceError) as refused:
        await system.service.signal("nobody", "SIGUSR1")
    assert refused.value.kind == "unknown_token"
    await system.service.stop()
    assert system.record()["desired"] == "stopped"
    seq = (await system.service.status()).seq
    await system.service.close(keep_service=False)
    system.service = system.driver()
    await wait_event(system.service, seq, "supervisor_started")
    assert (await system.service.status()).state == "stopped"


async def test_long_socket_path(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    system = ServiceSystem(deep)
    try:
        assert (await system.service.start(system.release("1"), "active", "a")).state == "active"
        assert await asyncio.wait_for(system.ask(), 10) == "1"
    finally:
        await system.service.close(keep_service=False)
