"""The supervisor alone brings data and code back together (F21, F22): whoever dies, and whenever.

The tiny service writes into each row which schema it knew and which one it found, so a mixed state leaves a trace.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from regrow.services.base import CandidateFailed, Exchange, Probe, ReleaseSpec, ServiceError
from regrow.testing.service_driver import wait_event
from regrow.testing.service_system import ServiceSystem

Row = tuple[str, int, int]


class System(ServiceSystem):
    """A tiny service with a database."""

    def __init__(self, root: Path, handover: str = "socket") -> None:
        super().__init__(root)
        self.handover = handover
        self.data = root / "data"
        self.database = self.data / "tiny.db"
        self.aside = self.data / "displaced" / "job-7"
        self.data.mkdir()

    def with_data(self, version: str, migration: int = 1, put: Path | None = None, **env: str) -> ReleaseSpec:
        """A release that brings the database to a schema; a later one takes the data along."""
        given = {"REGROW_STATE": str(self.data), "TINY_DB": "tiny.db", "TINY_MIGRATION": str(migration)}
        changes: dict[str, Any] = {}
        if self.handover == "overlap":
            changes = {"handover": "overlap", "standby": "running"}
        elif self.handover == "trap":
            given["TINY_PORT"] = str(self.port)
            health = Probe("health", "http", f"http://127.0.0.1:{self.port}/health", 0.05, version_json="version")
            changes = {"trap_bind": True, "standby": "running", "probe_socket": False, "probes": (health,)}
        exchange = Exchange((str(self.database),), str(self.aside), str(put) if put else None)
        return self.release(version, given | env, exchange=exchange if version != "1" else None, **changes)

    async def write(self, text: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET /note/{text} HTTP/1.0\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()

    def rows(self, path: Path | None = None) -> list[Row]:
        with closing(sqlite3.connect(path or self.database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            found: list[Row] = connection.execute("select text, known, found from notes order by rowid").fetchall()
        assert all(known >= schema for _, known, schema in found), f"old code wrote into newer data: {found}"
        return found

    def texts(self, path: Path | None = None) -> list[str]:
        return [text for text, _, _ in self.rows(path)]

    def schema(self) -> int:
        with closing(sqlite3.connect(self.database)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """Whoever moves the data waits until the block ends."""
        self.aside.parent.mkdir(exist_ok=True)
        with Path(f"{self.aside}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    async def moving(self) -> None:
        """Wait until somebody waits for that."""
        async with asyncio.timeout(20):
            inode = Path(f"{self.aside}.lock").stat().st_ino
            while not any(
                " -> " in line and line.split()[6].endswith(f":{inode}")
                for line in Path("/proc/locks").read_text().splitlines()
            ):
                await asyncio.sleep(0.01)

    async def kill_supervisor(self) -> int:
        """SIGKILL the supervisor, whose driver starts another; returns the number of the last event before."""
        status = await self.service.status()
        assert status.supervisor_pid is not None
        os.kill(status.supervisor_pid, signal.SIGKILL)
        await wait_event(self.service, status.seq, "supervisor_started")
        return status.seq


@pytest.fixture
async def system(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[System]:
    made = System(tmp_path, getattr(request, "param", "socket"))
    yield made
    await made.service.close(keep_service=False)


async def migrated(system: System, **env: str) -> int:
    """Release 1 has written, release 2 has migrated and serves on trial; returns the last event's number."""
    await system.service.start(system.with_data("1"), "active", "a")
    await system.write("by-1")
    assert (await system.service.status()).exchanges
    held = await system.service.start(system.with_data("2", 2, **env), "candidate", "b")
    assert (held.state, held.pid) == ("held", None)
    await system.write("while-it-is-held")
    await system.service.switch("b", 0, 60)
    assert await system.ask() == "2"
    assert system.schema() == 2
    return (await system.service.status()).seq


OLD = ["start 1", "by-1", "while-it-is-held"]


@pytest.mark.parametrize("system", ["socket", "overlap", "trap"], indirect=True)
@pytest.mark.parametrize("end", ["dies", "not promoted", "asked"])
async def test_f21_migrates_at_open_then_fails_its_bake(system: System, end: str) -> None:
    """With nobody but the supervisor: the data is what it was when the old release ended, to the last row."""
    seq = await migrated(system)
    await system.write("by-2")
    status = await system.service.status()
    assert status.active is not None
    assert status.active.pid is not None
    if end == "asked":
        await system.service.fall_back("a person asked")
    else:
        await system.service.close(keep_service=True)  # the daemon is gone
        number = {"dies": signal.SIGKILL, "not promoted": signal.SIGTERM}[end]
        os.kill(status.active.pid, number)
        system.service = system.driver()
    fell_back = await wait_event(system.service, seq, "fell_back")
    assert (fell_back.data["to"], fell_back.data["data"]) == ("r1", True)
    assert await system.ask() == "1"
    assert system.schema() == 1
    assert system.texts() == [*OLD, "start 1"]
    assert system.texts(system.aside.with_name("job-7.left") / "tiny.db") == [*OLD, "start 2", "by-2"]
    assert not system.aside.exists()


async def test_nobody_is_refused_while_the_data_changes_hands(system: System) -> None:
    """The socket is the supervisor's: who comes in between waits."""
    await system.service.start(system.with_data("1"), "active", "a")
    async with system.traffic() as seen:
        await system.service.start(system.with_data("2", 2), "candidate", "b")
        await system.service.switch("b", 0, 60)
        await system.service.fall_back("a person asked")
    assert seen.refused == 0
    assert system.texts()[-1] == "start 1"


async def test_promoted_data_is_never_brought_back_by_itself(system: System) -> None:
    """A crash loop of the newer release is no reason to start older code on newer data."""
    await migrated(system)
    await system.service.promote("b")
    status = await system.service.status()
    assert status.previous is None
    assert system.record()["exchange"] is None
    assert system.record()["good"]["exchange"] is None
    with pytest.raises(ServiceError) as refused:
        await system.service.fall_back("a person asked")
    assert refused.value.kind == "no_fallback"
    assert system.aside.exists(), "what was set aside is the daemon's to keep"
    assert status.active is not None
    assert status.active.pid is not None
    os.kill(status.active.pid, signal.SIGKILL)
    await wait_event(system.service, status.seq, "up")
    assert system.schema() == 2


async def test_a_snapshot_goes_with_an_older_release_and_comes_off_with_it(system: System) -> None:
    """The way back in both directions: the restored data did not work out, and the newer data is there again."""
    await migrated(system)
    await system.service.promote("b")
    put = system.data / "put"
    system.aside.rename(put)
    old = system.with_data("3", 1, put, TINY_VERSION="3", TINY_REFUSES="1")
    await system.service.start(old, "candidate", "c")
    await system.write("by-2")
    await system.service.switch("c", 0, 60)
    assert system.texts() == [*OLD, "start 3"]
    await system.service.fall_back("a person asked")
    assert await system.ask() == "2"
    assert system.texts() == [*OLD, "start 2", "by-2", "start 2"]


async def test_a_release_that_does_not_start_on_its_data(system: System) -> None:
    await system.service.start(system.with_data("1"), "active", "a")
    await system.service.start(system.with_data("2", 2, TINY_PORT="no number"), "candidate", "b")
    with pytest.raises(CandidateFailed):
        await system.service.switch("b", 0, 60)
    assert system.texts() == ["start 1", "start 1"]
    assert system.schema() == 1


async def test_data_that_cannot_be_set_aside_is_not_met_by_the_new_release(system: System) -> None:
    (system.data / "displaced").write_text("in the way")
    await system.service.start(system.with_data("1"), "active", "a")
    await system.service.start(system.with_data("2", 2), "candidate", "b")
    with pytest.raises(CandidateFailed, match="cannot move the data: "):
        await system.service.switch("b", 0, 60)
    assert await system.ask() == "1"
    assert system.texts() == ["start 1", "start 1"]
    assert not (await system.service.status()).pins, "a full disk says nothing against a release"


@pytest.mark.parametrize("where", ["set_aside", "bring_back"])
async def test_the_supervisor_is_killed_while_the_data_changes_hands(system: System, where: str) -> None:
    if where == "set_aside":
        await system.service.start(system.with_data("1"), "active", "a")
        await system.service.start(system.with_data("2", 2), "candidate", "b")
        act: Any = system.service.switch("b", 0, 60)
    else:
        await migrated(system)
        act = system.service.fall_back("a person asked")
    with system.held_up():
        acting = asyncio.create_task(act)
        await system.moving()
        await system.kill_supervisor()
    await asyncio.wait_for(acting, 30)
    if where == "set_aside":
        assert await system.ask() == "2"
        assert system.texts() == ["start 1", "start 2"]
        await system.service.fall_back("a person asked")
        assert system.texts() == ["start 1", "start 1"]
    else:
        assert await system.ask() == "1"
        assert system.texts() == [*OLD, "start 1"]
    assert system.schema() == 1


@pytest.mark.parametrize("how", ["stop", "SIGTERM", "boot"])
async def test_a_trial_that_is_stopped_ends_with_its_data(system: System, how: str) -> None:
    seq = await migrated(system)
    status = await system.service.status()
    assert status.supervisor_pid is not None
    assert status.active is not None
    assert status.active.pid is not None
    if how == "stop":
        await system.service.stop()
        assert system.texts() == OLD, "what was on trial is over, and its data is there"
        await system.service.start(system.with_data("1"), "active", "d")
    else:
        await system.service.close(keep_service=True)
        if how == "SIGTERM":
            os.kill(status.supervisor_pid, signal.SIGTERM)
            await gone(status.supervisor_pid)
            assert system.texts() == OLD
        else:
            for pid in (status.supervisor_pid, status.active.pid):
                os.kill(pid, signal.SIGKILL)
                await gone(pid)
            record = system.directory / "supervisor.json"
            record.write_text(record.read_text().replace(system.record()["boot"], "another-boot"))
        system.service = system.driver()
        await wait_event(system.service, seq, "proved")
    assert await system.ask() == "1"
    assert system.texts() == [*OLD, "start 1"]
    assert system.schema() == 1


async def gone(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        done = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, done.set)
        await asyncio.wait_for(done.wait(), 20)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
