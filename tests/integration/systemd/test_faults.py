"""What goes wrong under systemd, and that the service is up again by itself."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from regrow.services import units
from regrow.services.base import CandidateFailed, Exchange, Restart
from regrow.testing.service_driver import wait_event
from regrow.testing.unit_system import UnitSystem

SUPERVISOR = units.supervisor_name("tiny")


async def on_trial(system, within=600.0, **changes):
    """r1 is good, r2 serves on trial; returns the instance of r2."""
    await system.service.start(system.release("1"), "active", "a")
    started = await system.service.start(system.release("2", **changes), "candidate", "b")
    await system.service.switch("b", 0, within)
    return started


async def leave(system):
    """Neither the daemon nor the supervisor runs; the service does."""
    await system.service._ask("shutdown", keep_service=True)
    await system.service._gone.wait()
    await system.service.close(keep_service=True)
    system.await_state(SUPERVISOR, "inactive")


async def came_back(system, seq=0):
    await system.reopen()
    event = await wait_event(system.service, seq, "fell_back")
    status = await system.service.status()
    assert (status.state, status.active.release) == ("running", "r1")
    return event, status


@pytest.mark.both_managers
@pytest.mark.parametrize("standby", ["paused", "none"])
async def test_f4_a_release_killed_in_bake_is_replaced_by_the_good_one(system, standby):
    trial = await on_trial(system, standby=standby)
    os.kill(trial.pid, signal.SIGKILL)
    event, status = await came_back(system)
    assert event.data["cause"].startswith("killed by SIGKILL")
    assert [pin["id"] for pin in status.pins] == ["r2"]
    assert await system.ask() == "1"


@pytest.mark.both_managers
async def test_f4_on_failure_brings_the_good_one_back_when_nothing_of_regrow_runs(system):
    trial = await on_trial(system)
    await leave(system)
    os.kill(trial.pid, signal.SIGKILL)
    system.await_state(SUPERVISOR, "active")
    event, status = await came_back(system)
    assert event.data["to"] == "r1"
    assert [pin["id"] for pin in status.pins] == ["r2"]


async def test_f4_a_trial_that_nobody_promotes_ends_without_the_daemon(system):
    await on_trial(system, within=2.0)
    await system.service.close(keep_service=True)
    system.systemctl("kill", "--signal=SIGKILL", SUPERVISOR)
    event, _ = await came_back(system)
    assert event.data["reason"] == "not promoted in time"


async def test_f8_a_release_that_dies_again_and_again_never_latches_its_unit(system):
    await system.service.start(system.release("1"), "active", "a")
    for _ in range(8):  # systemd's own limit is five starts in ten seconds
        with pytest.raises(CandidateFailed, match="exit code 1: RuntimeError"):
            await system.service.start(system.release("2", {"TINY_DIE_AT_START": "1"}), "candidate", "b")
    assert (await system.service.start(system.release("3"), "candidate", "b")).state == "proved"


async def test_f8_a_crash_loop_ends_at_the_release_before(system):
    flag = system.root / "fails"
    argv = ("/bin/sh", "-c", f'test ! -e {flag} || exit 1; exec "$0" "$@"', *system.release("2").argv)
    limits = Restart(backoff_s=0.01, limit=3)
    await system.service.start(system.release("1"), "active", "a")
    await system.service.start(system.release("2", argv=argv, restart=limits), "candidate", "b")
    await system.service.switch("b", 0, 600)
    await system.service.promote("b")
    flag.touch()
    os.kill((await system.service.status()).active.pid, signal.SIGKILL)
    event, _ = await came_back(system)
    assert event.data["reason"] == "crash loop"


@pytest.mark.both_managers
async def test_f8_a_unit_latched_by_hand_is_started(system):
    override = units.directory(system.manager) / f"{units.releases_name('tiny')}.d"
    override.mkdir()
    (override / "latch.conf").write_text("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n")
    system.systemctl("daemon-reload")
    await system.service.ensure()
    system.systemctl("start", system.unit("a"), check=False)  # nobody asked for it: the launcher is refused
    tried = system.show(system.unit("a"), "ExecMainPID")
    system.systemctl("start", system.unit("a"), check=False)
    assert system.show(system.unit("a"), "ExecMainPID") == tried, "the unit is not latched"
    try:
        assert (await system.service.start(system.release("1"), "active", "a")).state == "active"
    finally:
        (override / "latch.conf").unlink()
        override.rmdir()


async def test_f12_a_start_that_returns_0_and_does_nothing_is_no_success(tmp_path, inside, monkeypatch):
    lies = tmp_path / "lies" / "systemctl"
    lies.parent.mkdir()
    lies.write_text('#!/bin/sh\ncase "$*" in *" start regrow-tiny@"*) exit 0;; esac\nexec /usr/bin/systemctl "$@"\n')
    lies.chmod(0o700)
    monkeypatch.setenv("PATH", f"{lies.parent}:{os.environ['PATH']}")
    system = UnitSystem(tmp_path, scope=inside)
    system.install()  # the supervisor's unit keeps the PATH of whoever installs it
    try:
        with pytest.raises(CandidateFailed, match="has started, and no process of it came"):
            await system.service.start(system.release("1"), "active", "a")
    finally:
        await system.close()


async def test_f4_a_silent_release_is_ended_by_the_watchdog_and_replaced(tmp_path, inside):
    system = UnitSystem(tmp_path, scope=inside, watchdog=1.0)
    system.install()
    try:
        await on_trial(system, env={"TINY_SILENT": "1"}, probes=())
        event, _ = await came_back(system)
        assert event.data["cause"].startswith("it did not say WATCHDOG=1 in time")
    finally:
        await system.close()


async def test_f1_a_killed_supervisor_is_back_with_its_sockets_though_the_service_died_too(system):
    started = await system.service.start(system.release("1"), "active", "a")
    seq = (await system.service.status()).seq
    await system.service.close(keep_service=True)  # and with it the daemon's own copies of the sockets
    async with system.traffic() as seen:
        system.systemctl("kill", "--signal=SIGKILL", SUPERVISOR, system.unit("a"))
        system.service = system.driver()
        await wait_event(system.service, seq, "up")
    assert seen.refused == 0
    assert (await system.service.status()).active.pid != started.pid


async def test_f41_a_stopped_unit_is_started_again_and_a_stranger_is_told_nothing(system):
    await system.service.start(system.release("1"), "active", "a")
    seq = (await system.service.status()).seq
    system.systemctl("stop", system.unit("a"))
    await wait_event(system.service, seq, "up")
    serving = (await system.service.status()).active
    system.systemctl("start", system.unit("stranger"), check=False)
    assert system.show(system.unit("stranger"), "ExecMainStatus") == "127"
    assert (await system.service.status()).active.pid == serving.pid
    assert Path(f"/proc/{serving.pid}").exists()


@pytest.mark.both_managers
async def test_f21_data_goes_back_with_the_good_one_when_nothing_of_regrow_runs(system):
    data = system.root / "data"
    data.mkdir()
    aside = data / "displaced" / "job-7"

    def with_data(version, schema, exchange=None):
        env = {"REGROW_STATE": str(data), "TINY_DB": "tiny.db", "TINY_MIGRATION": str(schema), "TINY_REFUSES": "1"}
        return system.release(version, env, exchange=exchange)

    def schema():
        with closing(sqlite3.connect(data / "tiny.db")) as connection:
            return connection.execute("PRAGMA user_version").fetchone()[0]

    await system.service.start(with_data("1", 1), "active", "a")
    assert (await system.service.status()).exchanges
    new = with_data("2", 2, Exchange((str(data / "tiny.db"),), str(aside)))
    assert (await system.service.start(new, "candidate", "b")).state == "held"
    await system.service.switch("b", 0, 600)
    status = await system.service.status()
    assert (await system.ask(), schema()) == ("2", 2)
    await leave(system)
    os.kill(status.active.pid, signal.SIGKILL)
    system.await_state(SUPERVISOR, "active")
    await came_back(system)
    assert (await system.ask(), schema()) == ("1", 1)
    assert not aside.exists()
