"""The store fails, by a full disk, a stopped server, a lost connection or damage; jobs do not (F14, F26, F42).

A daemon whose store has failed ends with 75 and writes no outcome. Started again once the store is well, it goes on:
the job has ended, and there is one release and one confirmation.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from regrow import backups
from regrow.api.types import ENDED
from regrow.jobs.plans import plan
from regrow.store import STORE_ERROR_EXIT
from regrow.testing import mortal
from regrow.testing.postgres import Server
from regrow.testing.world import DEADLINE_S, World, eventually

FULL = ["limit", *(["tmpfs"] if os.geteuid() == 0 else [])]
"""Ways to a full disk: the kernel's limit of a process's files, and a small file system, which takes root to make."""
counter = iter(range(10_000))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world with its store in a file, up."""
    made = World(tmp_path)
    try:
        await made.bring_up()
        yield made
    finally:
        await made.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that a test may stop."""
    made = Server()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
async def served(tmp_path: Path, server: Server) -> AsyncIterator[World]:
    """A world with its store on that server, up."""
    made = World(tmp_path, database=server.database())
    try:
        await made.bring_up()
        yield made
    finally:
        await made.close()


def change(world: World) -> str:
    return world.commit({"src/count.txt": f"{next(counter)}\n", "src/answer.txt": "good\n", "faults": ""})


async def in_a_build(world: World) -> tuple[str, int]:
    """A deploy that waits in its build: the commit and the job."""
    made = change(world)
    world.hold("build")
    number = await world.asked("build and restart")
    await world.step(number, "build", "doing")
    return made, number


async def whole(world: World, number: int, made: str) -> None:
    """The job went well, and all it did it did once."""
    job = await world.ended(number)
    assert (job.status, job.error) == ("done", None)
    assert await world.version() == world.short(made)
    assert len(world.rows(f"select * from releases where job = {number}")) == 1
    assert len(world.rows(f"select * from audit where job = {number} and what = 'ended'")) == 1
    assert len(await world.said(number)) == 2
    assert (await world.cli("audit", "--verify")).returncode == 0


async def at_every_record(world: World) -> None:
    """The database fails at the very statement by which the engine writes down each step of a job."""
    made = change(world)
    died = world.root / "died"
    died.mkdir()
    points = [f"deploy:{step}:record" for step in plan("deploy", data=False)]
    env = {mortal.POINTS: ",".join(points), mortal.DIED: str(died)}
    await world.start_daemon(env, "regrow.testing.mortal")
    number = await world.asked_of_the_dying("build and restart")
    ends = 0

    async def next_life() -> bool:
        nonlocal ends
        assert world.process is not None
        if world.process.poll() is not None:
            assert await world.daemon_ended() == STORE_ERROR_EXIT
            ends += 1
            world.process = world.launch(env, "regrow.testing.mortal")
            return False
        job = await world.job(number)
        if job.status in ENDED:
            assert job.status == "done", job.error
            return True
        return False

    await eventually(next_life, "the job has ended after all failures", 5 * DEADLINE_S)
    assert {path.name for path in died.iterdir()} == set(points)
    assert ends == len(points), "a failure of the store was taken for something else"
    await whole(world, number, made)


async def test_the_disk_is_full_at_the_record_of_every_step(world: World) -> None:
    await at_every_record(world)
    assert "cannot go on: the store failed: " in world.log.read_text()


async def test_the_server_is_lost_at_the_record_of_every_step(served: World) -> None:
    await at_every_record(served)
    assert "terminating connection due to administrator command" in served.log.read_text()


@contextmanager
def small_disk(where: Path) -> Iterator[None]:
    """A file system of 160 MB at `where`: less is refused before a job begins."""
    where.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=700", "tmpfs", where], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", where], check=True, timeout=60)


@pytest.mark.parametrize("how", FULL)
async def test_f14_a_full_disk_in_the_middle_of_a_job(tmp_path: Path, how: str) -> None:
    world = World(tmp_path)
    if how == "limit":
        await full_disk(world, how)
        return
    with small_disk(world.state):
        await full_disk(world, how)


async def full_disk(world: World, how: str) -> None:
    filler = world.state / "filler"
    try:
        await world.bring_up()
        made, number = await in_a_build(world)
        assert world.process is not None
        if how == "limit":
            resource.prlimit(world.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
        else:
            with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
        world.let_go("build")
        assert await world.daemon_ended() == STORE_ERROR_EXIT
        if how == "tmpfs":
            again = world.launch()
            assert await asyncio.to_thread(again.wait, 60) == STORE_ERROR_EXIT, "nor can one begin"
        filler.unlink(missing_ok=True)
        await world.start_daemon()
        await whole(world, number, made)
    finally:
        filler.unlink(missing_ok=True)
        await world.close()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_the_server_stops_in_the_middle_of_a_job(served: World, server: Server, mode: str) -> None:
    made, number = await in_a_build(served)
    async with served.traffic() as seen:
        server.stop(mode)
        assert await served.daemon_ended() == STORE_ERROR_EXIT
        refused = served.launch()
        assert await asyncio.to_thread(refused.wait, 60) == STORE_ERROR_EXIT
        assert "cannot open the store postgresql://" in served.log.read_text().splitlines()[-1]
        served.let_go("build")
        server.start()
        await served.start_daemon()
        await whole(served, number, made)
    assert (seen.refused, seen.cut) == (0, 0)


async def test_every_connection_is_ended_in_the_middle_of_a_job(served: World, server: Server) -> None:
    made, number = await in_a_build(served)
    with server.connect(served.database) as other:
        other.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    assert await served.daemon_ended() == STORE_ERROR_EXIT
    served.let_go("build")
    await served.start_daemon()
    await whole(served, number, made)


async def test_a_store_of_ruins_is_restored_from_its_backup(world: World) -> None:
    change(world)
    await world.say("build and restart")
    taken = json.loads((await world.cli("backup", "now", "--json")).stdout)
    change(world)
    lost = await world.asked("build and restart")
    await world.said(lost)
    refused = await world.cli("backup", "restore", taken["path"])
    assert (refused.returncode, "cannot start a second daemon" in refused.stderr) == (5, True)
    await world.kill_daemon()
    store = world.places.database
    for path in (store, *store.parent.glob("regrow.db-*")):
        path.write_bytes(b"\xff" * 65536)
    process = world.launch()
    assert await asyncio.to_thread(process.wait, 60) == STORE_ERROR_EXIT
    assert f"`regrow backup restore {taken['path']}`" in world.log.read_text().splitlines()[-1]
    done = await world.cli("backup", "restore", Path(taken["path"]).name)
    assert done.returncode == 0, done.stderr
    (displaced,) = world.state.glob("regrow.db.*[0-9]")
    assert displaced.read_bytes()[:4] == b"\xff" * 4
    await world.start_daemon()
    assert lost not in {job.id for job in await world.jobs()}
    version = await world.version()
    assert version in await world.say("重启一下"), "the release that runs is known again"
    made = change(world)
    number = await world.asked("build and restart")
    assert number > lost
    await whole(world, number, made)
    done = await world.cli("audit", "--verify")
    assert done.returncode == 0, done.stdout
    (row,) = json.loads((await world.cli("audit", "--json", "--who", await me(world))).stdout)
    assert row["what"] == "restored"
    assert row["detail"]["known"]["backup"] == taken["path"]


async def me(world: World) -> str:
    """The name of the user who runs the command line."""
    return (await world.run("-c", "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name, end='')")).stdout


async def test_a_restoration_says_which_jobs_are_lost(world: World) -> None:
    change(world)
    await world.say("build and restart")
    assert (await world.cli("backup", "now")).returncode == 0
    change(world)
    lost = await world.asked("build and restart")
    await world.said(lost)
    await world.kill_daemon()
    (newest,) = backups.found(world.state)
    done = json.loads((await world.cli("backup", "restore", newest.name, "--json")).stdout)
    assert done["lost_jobs"] == [lost]
    assert Path(done["displaced"]).exists()


async def test_an_audit_log_that_lost_its_end_says_so(world: World) -> None:
    """Whoever takes the triggers away can delete rows; the head file and the next row tell of it."""
    await world.say("重启一下")
    await world.kill_daemon()
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('drop trigger audit_no_delete'); "
        "c.execute('delete from audit where id > 2'); c.commit()"
    )
    assert (await world.run("-c", script, str(world.places.database))).returncode == 0
    await world.start_daemon()
    done = await world.cli("audit", "--verify")
    assert done.returncode == 1
    assert "row 3 of the audit log does not fit" in done.stdout
    assert "the audit log was shortened" in world.log.read_text()
