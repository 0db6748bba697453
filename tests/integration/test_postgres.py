"""Every kind of job to its end with the store on a PostgreSQL server, and two daemons on one server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from regrow.api.types import ENDED
from regrow.testing.postgres import Server
from regrow.testing.world import World, eventually

REPRODUCE = "```sh\ngrep -q good src/answer.txt\n```"
counter = iter(range(10_000))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("shared"), database=postgres.database())
    asyncio.run(world.bring_up())
    yield world
    asyncio.run(world.close())


def change(world: World, message: str = "Change", **files: str) -> str:
    new = {"src/count.txt": f"{next(counter)}\n", "src/answer.txt": "good\n", "faults": ""}
    return world.commit({**new, **files}, message)


async def test_restart(shared: World) -> None:
    before, version = await shared.pid(), await shared.version()
    async with shared.traffic() as seen:
        text = await shared.say("重启一下")
    assert text.startswith("✅ 已重新上线，运行正常")
    assert (await shared.pid() != before, await shared.version()) == (True, version)
    assert (seen.refused, seen.cut) == (0, 0)


async def test_build_deploy_and_roll_back(shared: World) -> None:
    before = await shared.version()
    made = change(shared)
    assert shared.short(made) in await shared.say("build")
    assert shared.short(made) in await shared.say("build and restart")
    assert await shared.version() == shared.short(made)
    assert before in await shared.say("roll back")
    assert await shared.version() == before


async def test_a_deploy_that_fails_is_taken_back(shared: World) -> None:
    before = await shared.pid(), await shared.version()
    change(shared, faults="TINY_DIE_AT_START=1\n")
    number = await shared.asked("build and restart")
    job = await shared.ended(number)
    assert job.status == "failed"
    assert (await shared.pid(), await shared.version()) == before


async def test_repair_with_an_approval(shared: World) -> None:
    change(shared)
    await shared.say("build and restart")
    change(shared, "Break it", **{"src/answer.txt": "bad\n"})
    await shared.say("build and restart")
    number = await shared.asked(f"fix this bug: the answer is wrong\n{REPRODUCE}")
    await shared.step(number, "approve", "waiting")
    await shared.press(number, "approve")
    job = await shared.ended(number)
    assert (job.status, job.error) == ("done", None)
    rows = shared.rows(f"select what, who, person from audit where job = {number} order by id")
    assert [row[0] for row in rows] == ["asked", "approved", "ended"]
    assert {row[1:] for row in rows} == {("local", "local"), ("regrow", "")}


async def test_a_job_that_waits_is_cancelled(shared: World) -> None:
    change(shared)
    shared.hold("build")
    number = await shared.asked("build and restart")
    await shared.step(number, "build", "doing")
    await shared.answer("cancel")
    shared.let_go("build")
    assert (await shared.ended(number)).status == "cancelled"


async def test_the_audit_log_on_a_server_is_whole_and_can_only_grow(shared: World, postgres: Server) -> None:
    done = await shared.cli("audit", "--verify")
    assert (done.returncode, done.stdout[:1]) == (0, "✅"), done
    with postgres.connect(shared.database) as connection:
        connection.execute("set search_path = regrow_local")
        for statement in ("update audit set who = 'nobody'", "delete from audit", "truncate audit"):
            with pytest.raises(Exception, match="only ever added"):
                connection.execute(statement)
        connection.execute("set session_replication_role = replica")  # as whoever owns the server can
        connection.execute("update audit set who = 'nobody' where id = 2")
    done = await shared.cli("audit", "--verify")
    assert done.returncode == 1
    assert "row 2 " in done.stdout


async def test_backups_are_left_to_the_server(shared: World) -> None:
    for words in (("backup", "now"), ("backup", "list"), ("backup",), ("backup", "restore", "regrow-1.db")):
        done = await shared.cli(*words)
        assert done.returncode == 5
        assert "pg_dump" in done.stderr


async def test_no_password_is_needed_in_the_settings(tmp_path: Path, postgres: Server) -> None:
    world = World(tmp_path, {"daemon": {"store": "env:STORE_URL"}}, database=postgres.database())
    world.configure({"daemon": {"store": "env:STORE_URL"}})
    try:
        await world.start_daemon({"STORE_URL": world.database})
        await world.settled()
        assert not world.places.database.exists()
    finally:
        await world.close()


async def test_two_daemons_on_one_server(tmp_path: Path, postgres: Server) -> None:
    """Killed in the middle of their jobs, each takes up its own and nobody else's; a third of the same name is refused
    (F42)."""
    database = postgres.database()
    north, south = (World(tmp_path / host, database=database, host=host) for host in ("north", "south"))
    twin = World(tmp_path / "twin", database=database, host="north")
    try:
        await north.bring_up()
        await south.bring_up()
        jobs = {}
        for world in (north, south):
            change(world)
            world.hold("build")
            jobs[world] = await world.asked("build and restart")
            await world.step(jobs[world], "build", "doing")
        refused = twin.launch()
        assert await asyncio.to_thread(refused.wait, 60) == 5
        assert 'cannot start a second daemon of the host "north"' in twin.log.read_text()
        for world in (north, south):
            await world.kill_daemon()
            world.let_go("build")
        await north.start_daemon()
        assert (await north.ended(jobs[north])).status == "done"
        (waiting,) = south.rows(f"select status from jobs where id = {jobs[south]}")
        assert waiting[0] not in ENDED, "another daemon has taken it up"
        await south.start_daemon()
        assert (await south.ended(jobs[south])).status == "done"
        for world in (north, south):
            assert await world.version() == world.short(world.head())
            assert len(await world.said(jobs[world])) == 2
            assert all(job.status == "done" for job in await world.jobs())

        async def gone() -> bool:
            return twin.process is None

        await eventually(gone, "the third has never run")
    finally:
        for world in (north, south, twin):
            await world.close()
