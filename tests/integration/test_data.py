"""Data goes with the code (F21, F22): a migration is rehearsed, taken back with its release, and restored on request.

The tiny service writes into each row which schema it knew and which one it found.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from regrow.testing.world import World, eventually

MakeWorld = Callable[..., Awaitable[World]]
counter = iter(range(10_000))


def database(world: World) -> Path:
    return world.directory / "data" / "tiny.db"


def rows(world: World, path: Path | None = None) -> list[str]:
    """The texts in the database; none was written by older code into newer data."""
    with closing(sqlite3.connect(path or database(world))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = connection.execute("select text, known, found from notes order by rowid").fetchall()
    assert all(known >= schema for _, known, schema in found), f"old code wrote into newer data: {found}"
    return [text for text, _, _ in found]


def schema(world: World) -> int:
    with closing(sqlite3.connect(database(world))) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


async def write(world: World, text: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(f"GET /note/{text} HTTP/1.0\r\n\r\n".encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


def change(world: World, faults: str = "") -> str:
    new = {"src/count.txt": f"{next(counter)}\n", "src/answer.txt": "good\n", "faults": faults}
    return world.commit(new, "Change")


async def make(make_world: MakeWorld, **settings: Any) -> World:
    given = {"state": {"sqlite": ["tiny.db"]}, "service__env": {"TINY_DB": "tiny.db"}, **settings}
    return await make_world(**given)


async def migrated(world: World) -> str:
    """A release with another schema serves; returns its version."""
    await write(world, "by-the-old")
    made = change(world, "TINY_MIGRATION=2\nTINY_REFUSES=1\n")
    text = await world.say("build and restart")
    assert await world.version() == world.short(made), text
    assert schema(world) == 2
    assert "The schema of the data has moved" in text
    await write(world, "by-the-new")
    return world.short(made)


async def test_a_deploy_that_leaves_the_schema_alone_is_a_switch_as_ever(make_world: MakeWorld) -> None:
    world = await make(make_world)
    made = change(world)
    async with world.traffic() as seen:
        text = await world.say("build and restart")
    assert await world.version() == world.short(made), text
    assert (seen.refused, seen.cut) == (0, 0)
    job = (await world.jobs())[0]
    assert {"rehearsed": "passed", "schema_moves": False}.items() <= world.facts(job.id).items()
    assert "schema" not in text
    assert not (world.directory / "rehearsals" / f"job-{job.id}").exists()


async def test_f21_a_migration_is_rehearsed_and_taken_back_with_its_release(make_world: MakeWorld) -> None:
    """It migrates at its start and dies in its bake: the data is what it was, to the last row before the switch."""
    world = await make(make_world, switch={"bake": "60s"})
    before = await world.version()
    await write(world, "by-the-old")
    change(world, "TINY_MIGRATION=2\nTINY_DIE_AFTER=2\n")
    async with world.traffic() as seen:
        number = await world.asked("build and restart")
        await world.step(number, "bake", "doing")
        await write(world, "by-the-new")
        job = await world.ended(number)
    assert (job.status, job.error.kind if job.error else "") == ("undone", "fell_back")
    assert seen.refused == 0
    assert await world.version() == before
    assert schema(world) == 1
    texts = rows(world)
    assert "by-the-old" in texts
    assert "by-the-new" not in texts
    told = (await world.said(number))[-1].text
    assert "The data is what it was before the switch; the notes +2 that the new version wrote are snapshot #" in told
    kept = next(one for one in await world.snapshots() if one.reason == "displaced")
    assert "by-the-new" in rows(world, world.directory / "snapshots" / f"job-{number}-displaced" / "tiny.db")
    assert kept.job == number
    assert not list((database(world).parent / "displaced").iterdir())


async def test_f21_a_release_that_cannot_open_the_data_never_meets_it(make_world: MakeWorld) -> None:
    world = await make(make_world)
    await migrated(world)
    before, pid = rows(world), await world.pid()
    change(world, "TINY_MIGRATION=1\nTINY_REFUSES=1\n")
    text = await world.say("build and restart")
    job = (await world.jobs())[0]
    assert job.error is not None
    assert (job.status, job.error.kind, job.error.step) == ("failed", "rehearsal_failed", "rehearse")
    cause = "RuntimeError: the database has schema 2, this version knows 1"
    assert f"the new version does not start: {cause} (on a copy of the data; the data itself was not touched)" in text
    assert (rows(world), await world.pid()) == (before, pid)


async def test_f21_a_rollback_over_a_migration_is_refused_with_the_choice_and_done_with_data(
    make_world: MakeWorld,
) -> None:
    world = await make(make_world)
    old = await world.version()
    new = await migrated(world)
    refused = await world.answer("回滚")
    assert refused.startswith(
        f"⛔ 数据库结构已经变了，{old} 不能直接用现在的数据，所以没有回滚。要连数据一起，请说“回滚并恢复数据”"
    )
    assert refused.endswith("notes +2"), refused
    assert await world.version() == new
    async with world.traffic() as seen:
        text = await world.say("回滚并恢复数据")
    assert text.startswith(f"✅ 已回滚并上线，版本: {old}"), text
    assert "- 数据: 已恢复到快照 #" in text
    assert "- 之后写入的数据没有丢，另存为快照 #" in text
    assert seen.refused == 0
    assert await world.version() == old
    assert schema(world) == 1
    assert "by-the-old" in rows(world)
    assert "by-the-new" not in rows(world)
    await write(world, "by-the-old-again")

    job = await world.ended(await world.request("undo"))
    assert job.status == "done", job.error
    assert await world.version() == new
    assert schema(world) == 2
    assert rows(world)[-2:] == ["by-the-new", f"start {new}"]


async def test_f21_one_tap_undoes_a_deploy_with_the_data_that_it_moved(make_world: MakeWorld) -> None:
    """Code and data of before the job come back together; what was written since is kept as a snapshot."""
    world = await make(make_world)
    old = await world.version()
    await migrated(world)
    deploy = next(job for job in await world.jobs() if job.kind == "deploy")
    await world.press(deploy.id, "undo")
    (undo,) = [job for job in await world.settled() if job.kind == "rollback"]
    assert undo.status == "done", undo.error
    assert (await world.version(), schema(world)) == (old, 1)
    assert "by-the-old" in rows(world)
    assert "by-the-new" not in rows(world)
    assert (undo.result["undoes"], undo.result["displaced"]) == (deploy.id, (await world.snapshots())[0].id)


async def test_always_means_restarts_too(make_world: MakeWorld) -> None:
    world = await make(make_world, state={"sqlite": ["tiny.db"], "rehearse": "always"})
    number = await world.request("restart")
    job = await world.ended(number)
    assert job.status == "done", job.error
    assert {"rehearsed": "passed", "schema_moves": False}.items() <= world.facts(number).items()


LOOK = """
import os, sqlite3, sys
path = os.path.join(os.environ["REGROW_STATE"], "tiny.db")
if not os.path.exists(path):
    sys.exit(0)  # the first start has no data
connection = sqlite3.connect(path)
print("rows", connection.execute("select count(*) from notes").fetchone()[0])
connection.execute("PRAGMA user_version = 7")
assert sys.argv[1] == os.environ["REGROW_STATE"]
sys.exit(open("faults").read().count("REFUSES"))
"""


@pytest.mark.parametrize("faults", ["", "TINY_REFUSES=1\n"])
async def test_a_check_that_migrates_what_it_looks_at_has_changed_a_copy(make_world: MakeWorld, faults: str) -> None:
    """F21: the old release goes on with its data, whether the new one passes its check or not."""
    world = await make(make_world, service={"check": ["{python}", "-c", LOOK, "{state}"]})
    before = await world.version()
    await write(world, "by-the-old")
    made = change(world, faults)
    job = await world.ended(await world.request("deploy"))
    assert job.status == ("failed" if faults else "done"), job.error
    assert await world.version() == (before if faults else world.short(made))
    assert schema(world) != 7
    assert "by-the-old" in rows(world)
    assert "\nrows " in await asyncio.to_thread(world.client().job_log, job.id)
    assert not list(world.directory.glob("checks/*"))


async def test_a_job_is_cancelled_while_its_data_changes_hands(make_world: MakeWorld) -> None:
    """Between the end of the one and the start of the other there is nothing to go back from; soon there is."""
    world = await make(make_world, switch={"bake": "60s"})
    before = await world.version()
    await write(world, "by-the-old")
    change(world, "TINY_MIGRATION=2\n")
    world.hold("start")
    number = await world.asked("build and restart")
    await world.step(number, "rehearse", "doing")
    displaced = database(world).parent / "displaced"
    displaced.mkdir()
    with (displaced / f"job-{number}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        world.let_go("start")
        await world.step(number, "switch", "doing")

        async def switching() -> bool:
            return (await world.status()).services[0].active is None

        await eventually(switching, "the old one has ended")
        await world.answer("cancel")
        await world.step(number, "switch", "undoing", "failed", "undone")
    job = await world.ended(number)
    assert job.status == "cancelled"
    assert await world.version() == before
    assert schema(world) == 1
    assert "by-the-old" in rows(world)


async def test_the_command_line_lists_takes_and_restores(make_world: MakeWorld) -> None:
    world = await make(make_world)
    await write(world, "one")
    taken = await world.cli("snapshots", "take")
    assert taken.returncode == 0, taken.stderr
    number = (await world.snapshots())[0].id
    assert f"#{number}" in taken.stdout
    await write(world, "two")
    listed = await world.cli("snapshots")
    assert f"{number:>4}  " in listed.stdout
    assert "asked for" in listed.stdout
    asks = await world.cli("snapshots", "restore", str(number))
    assert (asks.returncode, asks.stderr) == (
        64,
        "regrow: cannot ask whether to restore: there is no terminal; give --yes\n",
    )
    restored = await world.cli("snapshots", "restore", str(number), "--yes")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert "written since, and set aside as a snapshot of its own: notes +1" in restored.stderr
    assert "one" in rows(world)
    assert "two" not in rows(world)
    undone = await world.cli("undo")
    assert undone.returncode == 0, undone.stdout + undone.stderr
    assert "two" in rows(world)
    assert (await world.cli("rollback", "--with-data")).returncode == 5


async def test_f22_a_damaged_snapshot_is_not_restored(make_world: MakeWorld) -> None:
    world = await make(make_world)
    await world.cli("snapshots", "take")
    one = (await world.snapshots())[0]
    path = next((world.directory / "snapshots").glob("asked-*")) / "tiny.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    await write(world, "later")
    pid = await world.pid()
    done = await world.cli("snapshots", "restore", str(one.id), "--yes")
    assert done.returncode != 0
    assert "damaged" in done.stdout + done.stderr
    assert await world.pid() == pid
    assert "later" in rows(world)


@pytest.mark.parametrize("fault", ["TINY_DIE_AFTER=2", "TINY_PORT=none"])
async def test_where_nothing_is_rehearsed_the_snapshot_is_restored_after_the_fallback(
    make_world: MakeWorld, fault: str
) -> None:
    """`never`: the new release migrates beside the old one. What can be done then is done at once, and told."""
    world = await make(make_world, switch={"bake": "60s"}, state={"sqlite": ["tiny.db"], "rehearse": "never"})
    before = await world.version()
    await write(world, "by-the-old")
    change(world, f"TINY_MIGRATION=2\n{fault}\n")
    number = await world.asked("build and restart")
    job = await world.ended(number)
    assert job.status in {"undone", "failed"}
    assert await world.version() == before
    assert schema(world) == 1
    assert "by-the-old" in rows(world)
    assert "The data is what it was before the switch" in (await world.said(number))[-1].text


async def test_a_release_that_cannot_live_in_the_box_is_switched_to_with_its_data_set_aside(
    make_world: MakeWorld,
) -> None:
    """Nothing is known of it then; so the old one ends first, and whatever happens to the data can be taken back."""
    world = await make(make_world, up=False)
    outside = 'test -e "$1" && exec "$0" -I -S serve.py'
    command = ["/bin/sh", "-c", outside, "{python}", str(world.config)]
    world.configure({"service": {"command": command}, "switch": {"bake": "60s"}})
    await world.bring_up()
    before = await world.version()
    await write(world, "by-the-old")
    change(world, "TINY_MIGRATION=2\nTINY_DIE_AFTER=2\n")
    async with world.traffic() as seen:
        job = await world.ended(await world.asked("build and restart"))
    assert {"rehearsed": "unknown", "schema_moves": "unknown"}.items() <= world.facts(job.id).items()
    assert seen.refused == 0
    assert await world.version() == before
    assert schema(world) == 1
    assert "by-the-old" in rows(world)
