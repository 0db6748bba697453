"""Backups are whole while others write, few, and lead back to a store that goes on counting."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from regrow import backups, files
from regrow.errors import NotFound, Refused
from regrow.store import Store, cursors

JOB = "insert into jobs (service, kind, status, language, args, plan, steps, result, asked_by, person, channel, chat, "
JOB += "message, created_at) values ('s', 'restart', 'done', 'en', '{}', '[]', '[]', '{}', 'a', 'a', 'web', 'c', '', 1)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one job, which nobody has open."""
    made = tmp_path / "regrow.db"
    Store(made).close()
    add_job(made)
    return made


@pytest.fixture
def open_store(path: Path) -> Iterator[Store]:
    """The same, open."""
    made = Store(path, on_fatal=pytest.fail)
    yield made
    made.close()


def add_job(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(JOB).lastrowid or 0


def jobs(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("select id from jobs")]


async def test_a_backup_while_it_is_written_to_is_whole(open_store: Store, path: Path) -> None:
    over = asyncio.Event()

    async def write() -> int:
        count = 0
        while not over.is_set() or count == 0:
            await open_store.transact(lambda c, n=count: c.execute(cursors.insert().values(name=f"{n}", value=1)))  # type: ignore[misc]
            count += 1
        return count

    writing = asyncio.create_task(write())
    taken = [await asyncio.to_thread(backups.take, path, 10) for _ in range(3)]
    over.set()
    assert await writing > 0
    assert [backups.damage(one) for one in taken] == ["", "", ""]
    assert jobs(taken[-1]) == [1]
    assert backups.found(path.parent) == taken[::-1]
    assert {oct(one.stat().st_mode & 0o777) for one in taken} == {"0o600"}
    assert {one.name for one in backups.directory(path.parent).iterdir()} == {one.name for one in taken}


def test_only_the_newest_are_kept(path: Path) -> None:
    other = files.private_directory(backups.directory(path.parent)) / "mine.db"
    other.touch()
    taken = [backups.take(path, keep=2) for _ in range(12)]  # more than nine within a second
    assert backups.found(path.parent) == [taken[-1], taken[-2]]
    assert other.exists(), "what is none of ours"


def test_a_damaged_store_is_no_backup(path: Path) -> None:
    good = backups.take(path, keep=5)
    content = bytearray(path.read_bytes())
    content[-4096 * 3 :] = b"\xff" * 4096 * 3
    path.write_bytes(content)
    with pytest.raises(Refused) as caught:
        backups.take(path, keep=1)
    assert caught.value.kind == "backup_failed"
    assert [one.name for one in backups.directory(path.parent).iterdir()] == [good.name]


def test_f14_a_full_disk_is_refused_before_anything_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _: 1000)
    with pytest.raises(Refused) as caught:
        backups.take(path, keep=1)
    assert caught.value.kind == "disk_full"
    assert list(backups.directory(path.parent).iterdir()) == []


def test_the_way_back(path: Path) -> None:
    taken = backups.take(path, keep=5)
    lost = [add_job(path), add_job(path)]
    done = backups.restore(path, taken.name)
    assert done.backup == taken
    assert done.lost == lost
    assert done.displaced is not None
    assert jobs(done.displaced) == [1, *lost]
    assert jobs(path) == [1]
    assert add_job(path) > lost[-1], "a number names one job for ever"
    assert backups.note(path.parent) == {
        "by": backups.note(path.parent)["by"],  # type: ignore[index]
        "backup": str(taken),
        "displaced": str(done.displaced),
        "lost_jobs": lost,
    }
    backups.forget_note(path.parent)
    assert backups.note(path.parent) is None
    Store(path).close()


def test_the_way_back_from_ruins(path: Path) -> None:
    taken = backups.take(path, keep=5)
    path.write_bytes(b"no database" * 1000)
    done = backups.restore(path, str(taken))
    assert done.lost is None
    assert add_job(path) == 1002, "nobody knows how many there were: a gap is left"


def test_the_way_back_from_nothing(path: Path) -> None:
    taken = backups.take(path, keep=5)
    path.unlink()
    assert backups.restore(path, taken.name) == backups.Restored(taken, None, [])
    assert jobs(path) == [1]


@pytest.mark.parametrize("what", ["missing", "noise", "another database"])
def test_what_is_no_backup_changes_nothing(path: Path, tmp_path: Path, what: str) -> None:
    given = tmp_path / "given.db"
    if what == "noise":
        given.write_bytes(os.urandom(10_000))
    elif what == "another database":
        with closing(sqlite3.connect(given)) as connection, connection:
            connection.execute("create table other (id)")
    before = path.read_bytes()
    with pytest.raises((Refused, NotFound)) as caught:
        backups.restore(path, str(given))
    assert caught.value.kind == ("no_such_backup" if what == "missing" else "backup_failed")
    assert path.read_bytes() == before
    assert backups.note(tmp_path) is None


async def test_they_are_taken_when_it_is_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one a minute after the first start, and the next counted from the newest, over restarts."""
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)
        if len(waited) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(backups.asyncio, "sleep", sleep)

    async def failed(reason: str) -> None:
        pytest.fail(reason)

    with pytest.raises(asyncio.CancelledError):
        await backups.Backups(path, "it", 3600.0, 7).run(failed)
    assert waited == [60.0, 3600.0, 3600.0]
    assert len(backups.found(path.parent)) == 2
    waited.clear()
    old = backups.found(path.parent)[0].stat().st_mtime - 1800
    os.utime(backups.found(path.parent)[0], (old, old))
    with pytest.raises(asyncio.CancelledError):
        await backups.Backups(path, "it", 3600.0, 7).run(failed)
    assert 0 < waited[0] <= 1800


async def test_a_failure_is_told_and_the_next_one_is_tried(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = asyncio.Queue[str]()
    path.write_bytes(b"no database" * 1000)

    async def failed(reason: str) -> None:
        await told.put(reason)

    monkeypatch.setattr(backups, "_FIRST_S", 0.0)
    running = asyncio.create_task(backups.Backups(path, "it", 0.01, 7).run(failed))
    try:
        async with asyncio.timeout(60):
            for _ in range(2):
                assert (await told.get()).startswith(f"cannot back up {path}: ")
    finally:
        running.cancel()


async def test_a_store_on_a_server_is_left_to_its_own_tools() -> None:
    copies = backups.Backups(None, "postgresql://db/regrow", 3600.0, 7)
    for ask in (copies.all, copies.take):
        with pytest.raises(Refused, match="pg_dump") as caught:
            await ask()
        assert caught.value.kind == "not_here"

    async def failed(_: str) -> None: ...

    await copies.run(failed)  # returns at once
