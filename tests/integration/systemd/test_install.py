"""`regrow install`: the daemon and its services under a real systemd, and away from it again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from regrow.services import units
from regrow.testing import managers
from regrow.testing.world import World, eventually


class Installed:
    """A world whose daemon is systemd's to run: that of a person, or the system's."""

    def __init__(self, root: Path, manager: managers.Kind, **service: Any) -> None:
        self.manager = manager
        self.shown = {name: value for name, value in managers.ENVIRONMENT[manager].items() if name != "HOME"}
        self.world = World(root, {"service": {"scope": manager} | service})

    async def regrow(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line of this world."""
        return await self.world.cli(*words, env=self.shown)

    async def install(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`regrow install` of the world's service."""
        return await self.regrow("install", f"--{self.manager}", "--config", str(self.world.config), *words)

    async def up(self) -> None:
        """Install, start, and wait until the first release serves."""
        done = await self.install("--yes")
        assert done.returncode == 0, done.stderr
        await self.systemctl("start", units.DAEMON)
        await self.world.settled()

    async def systemctl(self, *words: str, check: bool = True) -> str:
        """What systemctl prints."""
        argv = [*units.manager_argv(self.manager), *words]
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=60, check=check)
        return str(done.stdout).strip()

    @property
    def units(self) -> list[Path]:
        """Every file of ours that the manager finds, links to enabled ones too."""
        return sorted(units.directory(self.manager).glob("**/regrow*"))

    async def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return await self.systemctl("show", "--value", f"--property={name}", unit)

    async def serving(self) -> int:
        """The pid that serves, as the service itself says."""
        return int(json.loads(await asyncio.to_thread(_ask, self.world.port))["pid"])

    async def close(self) -> None:
        """End everything, and leave the manager as it was."""
        await self.systemctl("stop", "regrow*", check=False)
        await self.world.close()
        for path in self.units:
            path.unlink()
        await self.systemctl("reset-failed")
        await self.systemctl("daemon-reload")


def _ask(port: int) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        return str(answer.read().decode())


@pytest.fixture
async def installed(inside: managers.Kind, tmp_path: Path) -> AsyncIterator[Installed]:
    one = Installed(tmp_path / "world", inside)
    yield one
    await one.close()


@pytest.mark.both_managers
@pytest.mark.parametrize("driver", ["embedded", "systemd"])
async def test_f01_whatever_happens_to_the_daemons_unit_the_service_serves_on(inside, tmp_path, driver):
    one = Installed(tmp_path / "world", inside, driver=driver)
    try:
        await one.up()
        served = await one.serving()
        groups = [Path(f"/proc/{served}/cgroup").read_text(), await one.show(units.DAEMON, "ControlGroup")]
        assert groups[1] not in groups[0]

        daemon = (await one.world.status()).daemon.pid
        await one.systemctl("kill", "--signal=SIGKILL", units.DAEMON)

        async def another() -> bool:
            return (await one.world.status()).daemon.pid != daemon

        await eventually(another, "systemd starts the daemon again")
        assert await one.serving() == served
        await one.systemctl("stop", units.DAEMON)
        assert await one.serving() == served
        await one.systemctl("start", units.DAEMON)
        assert await one.serving() == served

        job = await one.world.ended(await one.world.request("restart"))
        assert job.status == "done", job.error
        assert await one.serving() != served

        down = await one.regrow("down")
        assert down.returncode == 0, down.stderr
        left = await one.systemctl("list-units", "--plain", "--no-legend", "--state=active,activating", "regrow*")
        assert left == ""
        removed = await one.regrow("uninstall", f"--{inside}", "--yes")
        assert removed.returncode == 0, removed.stderr
        assert one.units == []
    finally:
        await one.close()


@pytest.mark.both_managers
async def test_a_killed_supervisor_is_systemds_to_start_also_without_a_daemon(installed):
    await installed.up()
    served = await installed.serving()
    supervisor = units.supervisor_name("tiny")
    pid = await installed.show(supervisor, "MainPID")
    await installed.systemctl("stop", units.DAEMON)
    os.kill(int(pid), signal.SIGKILL)

    async def another() -> bool:
        return (await installed.show(supervisor, "MainPID")) not in ("0", pid)

    await eventually(another, "systemd starts the supervisor again")
    assert await installed.serving() == served
    await installed.systemctl("start", units.DAEMON)
    status = (await installed.world.status()).services[0]
    assert status.active is not None
    assert status.active.pid == served


@pytest.mark.both_managers
async def test_f01_a_daemon_started_by_hand_does_not_have_the_supervisor_in_its_group(installed):
    assert (await installed.install("--yes")).returncode == 0
    await installed.world.start_daemon(env=installed.shown)
    await installed.world.settled()
    supervisor = (await installed.world.status()).services[0].supervisor_pid
    assert str(supervisor) == await installed.show(units.supervisor_name("tiny"), "MainPID")


async def test_a_daemon_that_hangs_is_killed_and_started_again(installed):
    override = units.directory(installed.manager) / f"{units.DAEMON}.d"
    override.mkdir()
    (override / "soon.conf").write_text("[Service]\nWatchdogSec=3\nWatchdogSignal=SIGKILL\n")
    try:
        await installed.up()
        fed = await installed.show(units.DAEMON, "WatchdogTimestampMonotonic")

        async def again() -> bool:
            return await installed.show(units.DAEMON, "WatchdogTimestampMonotonic") != fed

        await eventually(again, "the daemon feeds its watchdog")
        daemon = (await installed.world.status()).daemon.pid
        os.kill(daemon, signal.SIGSTOP)

        async def another() -> bool:
            return (await installed.world.status()).daemon.pid != daemon

        await eventually(another, "systemd starts another daemon")
    finally:
        (override / "soon.conf").unlink()
        override.rmdir()


async def test_settings_that_cannot_be_used_are_not_tried_for_ever(installed):
    assert (await installed.install("--yes")).returncode == 0
    installed.world.config.write_text("[servise]\n")
    await installed.systemctl("start", units.DAEMON, check=False)
    assert await installed.show(units.DAEMON, "ExecMainStatus") == "78"
    assert await installed.show(units.DAEMON, "ActiveState") == "failed"


@pytest.mark.both_managers
async def test_it_shows_every_file_and_asks_before_it_writes(installed):
    shown = await installed.install("--dry-run")
    assert shown.returncode == 0
    assert "+ExecStart=" in shown.stdout
    asked = await installed.install()
    assert asked.returncode == 64
    assert "add --yes or --dry-run" in asked.stderr
    assert list(units.directory(installed.manager).glob("regrow*")) == []
    done = json.loads((await installed.install("--yes", "--json")).stdout)
    assert [Path(one["path"]).name for one in done["files"]] == [units.DAEMON, units.supervisor_name("tiny")]
    assert done["notes"] == ([{"kind": "linger", "user": "root"}] if installed.manager == "user" else [])
    assert (await installed.systemctl("is-enabled", units.DAEMON)) == "enabled"
    assert json.loads((await installed.install("--yes", "--json")).stdout)["files"] == []


@pytest.mark.both_managers
async def test_what_others_wrote_is_neither_replaced_nor_removed(installed):
    where = units.directory(installed.manager)
    foreign = where / units.DAEMON
    foreign.write_text("[Service]\nExecStart=/bin/true\n")
    refused = await installed.install("--yes")
    assert (refused.returncode, foreign.read_text()) == (5, "[Service]\nExecStart=/bin/true\n")
    assert "was not written by Regrow" in refused.stderr
    foreign.unlink()
    assert (await installed.install("--yes")).returncode == 0
    mine = where / "regrow-helper.service"
    mine.write_text("[Service]\nExecStart=/bin/true\n")
    assert (await installed.regrow("uninstall", f"--{installed.manager}", "--yes")).returncode == 0
    assert [path.name for path in where.glob("regrow*")] == [mine.name]
    mine.unlink()


async def test_a_unit_is_not_taken_from_under_what_runs(installed):
    await installed.up()
    refused = await installed.regrow("uninstall", f"--{installed.manager}", "--yes")
    assert refused.returncode == 5
    assert "run `regrow down` first" in refused.stderr
    assert (units.directory(installed.manager) / units.DAEMON).exists()
    installed.world.configure({"service": {"name": "other"}})
    assert (await installed.install("--yes")).returncode == 5
    installed.world.configure({"service": {"name": "tiny"}})


async def test_a_unit_that_systemd_cannot_read_is_not_written(installed):
    installed.world.configure({"service": {"driver": "systemd", "stop_signal": "SIGNOSUCH"}})
    refused = await installed.install("--yes")
    assert refused.returncode == 78
    assert "Failed to parse signal name, ignoring: SIGNOSUCH" in refused.stderr
    assert list(units.directory(installed.manager).glob("regrow*")) == []


async def test_without_a_manager_it_says_so(installed):
    refused = await installed.world.cli("install", "--user", "--config", str(installed.world.config), "--yes")
    assert refused.returncode == 5
    assert "cannot reach the user manager of systemd" in refused.stderr
    missing = await installed.world.cli("install", "--user", env={"PATH": "/nonexistent"})
    assert "there is no systemd on this machine" in missing.stderr
