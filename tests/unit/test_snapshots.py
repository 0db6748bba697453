"""Copies of live databases: everything that was committed, whoever writes meanwhile, and never a damaged one."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from regrow import files, sqlite_files
from regrow.errors import NotFound, Refused
from regrow.snapshots import Snapshot, Snapshots
from regrow.sqlite_files import copy_database
from regrow.store import Store
from regrow.testing.manual_clock import ManualClock

PAGE = "x" * 4000


@pytest.fixture
def taken(tmp_path: Path, store: Store, clock: ManualClock) -> Snapshots:
    return Snapshots(store, tmp_path / "snapshots", "claw", clock)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A service's connection to its database: write-ahead log, nothing ever moved to the main file."""
    with closing(sqlite3.connect(tmp_path / "claw.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA user_version=7")
        connection.execute("create table notes (text)")
        connection.execute("insert into notes values ('first')")
        yield connection


def notes(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [text for (text,) in connection.execute("select text from notes order by rowid")]


async def test_what_only_the_log_holds_is_in_the_snapshot(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection, clock: ManualClock
) -> None:
    # F22: a copy of the main file alone would be an empty database.
    made = await taken.take(1, [tmp_path / "claw.db"])
    assert made is not None
    assert (made.job, made.at, made.directory) == (1, clock.now(), tmp_path / "snapshots/job-1")
    assert [(f["name"], f["user_version"], f["wal"]) for f in made.files] == [("claw.db", 7, True)]
    assert made.schema == {"claw.db": sqlite_files.schema(tmp_path / "claw.db")}
    assert notes(made.directory / "claw.db") == ["first"]
    assert [p.name for p in made.directory.iterdir()] == ["claw.db"]  # no log beside it that a restore would replay
    assert made.bytes == (made.directory / "claw.db").stat().st_size
    assert (tmp_path / "snapshots").stat().st_mode & 0o777 == 0o700


async def test_an_open_transaction_of_the_service_is_not_in_it(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection
) -> None:
    live.execute("BEGIN IMMEDIATE")
    live.execute("insert into notes values ('not yet')")
    made = await taken.take(1, [tmp_path / "claw.db"])
    live.execute("COMMIT")
    assert made is not None
    assert notes(made.directory / "claw.db") == ["first"]
    assert notes(tmp_path / "claw.db") == ["first", "not yet"]


async def test_a_service_that_never_stops_writing_is_copied_and_not_held_up(
    tmp_path: Path, live: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.execute("PRAGMA busy_timeout=0")  # a writer that finds a lock fails at once
    live.executemany("insert into notes values (?)", [(PAGE,)] * 5)
    steps: list[int] = []

    def write_in_between(status: int, remaining: int, total: int) -> None:
        live.execute("insert into notes values ('in between')")
        steps.append(remaining)
        assert len(steps) < 100, "it begins anew after every write"

    monkeypatch.setattr(sqlite_files, "_PAGES_A_STEP", 1)
    monkeypatch.setattr(sqlite_files, "_patient", write_in_between)
    copy_database(tmp_path / "claw.db", tmp_path / "copy.db")
    assert len(steps) > 5
    assert "in between" not in notes(tmp_path / "copy.db")
    assert notes(tmp_path / "claw.db").count("in between") == len(steps)


async def test_a_locked_database_is_refused_in_time(
    tmp_path: Path, live: sqlite3.Connection, taken: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite's own copying tries for ever.
    monkeypatch.setattr(sqlite_files, "_BUSY_S", 0.05)
    live.execute("PRAGMA journal_mode=DELETE")
    live.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Refused, match="locked") as caught:
        await taken.take(1, [tmp_path / "claw.db"])
    assert caught.value.kind == "snapshot_failed"
    live.execute("ROLLBACK")
    assert await taken.take(1, [tmp_path / "claw.db"]) is not None


@pytest.mark.parametrize("damage", ["no database", "a page of noise", "cut off", "a broken index"])
async def test_a_damaged_database_is_refused(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection, damage: str
) -> None:
    path = tmp_path / "claw.db"
    live.executemany("insert into notes values (?)", [(PAGE,)] * 5)
    live.execute("create index by_text on notes (text)")
    if damage == "a broken index":
        live.execute("PRAGMA writable_schema=ON")
        live.execute("update sqlite_master set sql = 'CREATE INDEX by_text ON notes (text) WHERE text > 5'")
    live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    live.close()
    content = path.read_bytes()
    if damage == "no database":
        path.write_bytes(b"no database" * 1000)
    elif damage == "a page of noise":
        path.write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])
    elif damage == "cut off":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Refused, match=r"cannot take a snapshot of claw\.db: ") as caught:
        await taken.take(1, [path])
    assert caught.value.kind == "snapshot_failed"
    assert await taken.all() == []
    assert list((tmp_path / "snapshots").iterdir()) == []  # a failing job leaves no copies behind (F14)


async def test_unchanged_data_is_copied_once(tmp_path: Path, taken: Snapshots, live: sqlite3.Connection) -> None:
    # F14: ten boots in a crash loop are one snapshot.
    first = await taken.take(1, [tmp_path / "claw.db"])
    for job in range(2, 12):
        assert await taken.take(job, [tmp_path / "claw.db"]) == first
    assert [p.name for p in (tmp_path / "snapshots").iterdir()] == ["job-1"]
    live.execute("insert into notes values ('second')")
    second = await taken.take(12, [tmp_path / "claw.db"])
    assert second is not None
    assert second.directory.name == "job-12"
    assert notes(second.directory / "claw.db") == ["first", "second"]
    assert await taken.all() == [second, first]


async def test_a_snapshot_that_somebody_deleted_is_taken_again(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection
) -> None:
    first = await taken.take(1, [tmp_path / "claw.db"])
    assert first is not None
    files.remove_tree(first.directory)
    again = await taken.take(2, [tmp_path / "claw.db"])
    assert again is not None
    assert notes(again.directory / "claw.db") == ["first"]


async def test_a_job_has_one_snapshot(tmp_path: Path, taken: Snapshots, live: sqlite3.Connection) -> None:
    first = await taken.take(1, [tmp_path / "claw.db"])
    live.execute("insert into notes values ('after')")  # the new release has opened it already
    assert await taken.take(1, [tmp_path / "claw.db"]) == first
    assert first is not None
    assert notes(first.directory / "claw.db") == ["first"]


TAKE_AND_DIE = """
import asyncio, os, pathlib, signal, sys
from regrow.snapshots import Snapshots
from regrow.store import Store

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    state = pathlib.Path(sys.argv[1])
    store = Store(state / "regrow.db")
    if sys.argv[2] == "before the rename":
        pathlib.Path.rename = die
    else:
        store.transact = die
    await Snapshots(store, state / "snapshots", "claw").take(1, [state / "claw.db"])

asyncio.run(main())
"""


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("where", ["before the rename", "before the record"])
async def test_a_kill_while_it_is_taken_is_made_good(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection, where: str
) -> None:
    argv = [sys.executable, "-c", TAKE_AND_DIE, str(tmp_path), where]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (-9, "")
    assert await taken.all() == []
    made = await taken.take(1, [tmp_path / "claw.db"])
    assert made is not None
    assert notes(made.directory / "claw.db") == ["first"]
    assert [p.name for p in (tmp_path / "snapshots").iterdir()] == ["job-1"]


async def test_databases_of_one_name_in_two_directories(tmp_path: Path, taken: Snapshots) -> None:
    paths = [tmp_path / name / "data.db" for name in ("mail", "news")]
    for path in paths:
        path.parent.mkdir()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("create table notes (text)")
            connection.execute("insert into notes values (?)", (path.parent.name,))
    with pytest.raises(Refused, match=r"two databases are called data\.db") as caught:
        await taken.take(1, paths)
    assert caught.value.kind == "snapshot_failed"


@pytest.mark.parametrize("name", ["a b.db", "what?.db", "50%25.db", "#1.db", "消息.db"])
async def test_any_name_can_be_copied(tmp_path: Path, taken: Snapshots, name: str) -> None:
    with closing(sqlite3.connect(tmp_path / name, isolation_level=None)) as connection:
        connection.execute("create table notes (text)")
        connection.execute("insert into notes values ('kept')")
    made = await taken.take(1, [tmp_path / name])
    assert made is not None
    assert notes(made.directory / name) == ["kept"]


async def test_nothing_there_is_no_snapshot(tmp_path: Path, taken: Snapshots) -> None:
    assert await taken.take(1, []) is None
    assert await taken.take(1, [tmp_path / "not-yet.db"]) is None
    assert not (tmp_path / "snapshots").exists()


async def test_too_little_room_is_refused_before_the_first_copy(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _: 10)
    with pytest.raises(Refused, match="free some space") as caught:
        await taken.take(1, [tmp_path / "claw.db"])
    assert caught.value.kind == "disk_full"
    assert list((tmp_path / "snapshots").iterdir()) == []


async def taken_of(taken: Snapshots, live: sqlite3.Connection, path: Path, count: int) -> list[Snapshot]:
    """So many snapshots, each with a row more than the one before."""
    for job in range(1, count + 1):
        live.execute("insert into notes values (?)", (str(job),))
        await taken.take(job, [path])
    return list(reversed(await taken.all()))


async def test_the_oldest_are_pruned(tmp_path: Path, taken: Snapshots, live: sqlite3.Connection) -> None:
    first, second, *_ = await taken_of(taken, live, tmp_path / "claw.db", 4)
    assert await taken.prune(2, 0) == [second.id, first.id]
    assert [snapshot.job for snapshot in await taken.all()] == [4, 3]
    assert {p.name for p in (tmp_path / "snapshots").iterdir()} == {"job-4", "job-3"}


async def test_what_is_needed_to_go_back_is_never_pruned(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection
) -> None:
    first, *_ = await taken_of(taken, live, tmp_path / "claw.db", 4)
    await taken.prune(2, 0, {first.id})
    assert [snapshot.job for snapshot in await taken.all()] == [4, 3, 1]
    assert notes(first.directory / "claw.db") == ["first", "1"]


async def test_bytes_are_a_limit_too_and_the_newest_always_stays(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection
) -> None:
    _, _, third, fourth = await taken_of(taken, live, tmp_path / "claw.db", 4)
    await taken.prune(20, third.bytes + fourth.bytes)
    assert [snapshot.job for snapshot in await taken.all()] == [4, 3]
    await taken.prune(20, 1)
    assert [snapshot.job for snapshot in await taken.all()] == [4]


async def test_f14_ten_boots_in_a_crash_loop_with_unchanged_data_are_one_snapshot(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection
) -> None:
    live.close()
    for job in range(1, 11):
        # A boot of the service: it opens its database, reads it, and dies without closing it.
        reads = "sqlite3.connect(sys.argv[1]).execute('select * from notes').fetchall()"
        script = f"import os, sqlite3, sys; {reads}; os._exit(1)"
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "claw.db")], check=False, timeout=60)
        await taken.take(job, [tmp_path / "claw.db"])
    assert len(await taken.all()) == 1
    assert len(list((tmp_path / "snapshots").iterdir())) == 1


async def test_one_without_a_job_has_a_name_and_a_reason(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection
) -> None:
    asked = await taken.take(None, [tmp_path / "claw.db"], reason="asked")
    live.execute("insert into notes values ('more')")
    again = await taken.take(None, [tmp_path / "claw.db"], reason="asked")
    assert asked is not None
    assert again is not None
    assert asked.directory != again.directory, "two of the same second took one another's place"
    assert (again.job, again.reason) == (None, "asked")
    assert await taken.get(again.id) == again


async def test_a_better_one_takes_the_place_of_a_jobs_own(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection
) -> None:
    await taken.take(1, [tmp_path / "claw.db"])
    live.execute("insert into notes values ('until the old release ended')")
    better = await taken.take(1, [tmp_path / "claw.db"], again=True)
    assert [snapshot.id for snapshot in await taken.all()] == [better.id if better else 0]
    assert better is not None
    assert notes(better.directory / "claw.db") == ["first", "until the old release ended"]


async def test_laid_out_it_can_be_changed_and_keeps_its_log(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection
) -> None:
    made = await taken.take(1, [tmp_path / "claw.db"])
    assert made is not None
    place = await taken.lay_out(made, tmp_path / "place", ["below/claw.db"])
    with closing(sqlite3.connect(place / "below" / "claw.db", isolation_level=None)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.execute("insert into notes values ('in the copy')")
    assert notes(made.directory / "claw.db") == ["first"]


@pytest.mark.parametrize("at", [0.3, 0.6, 0.99])
async def test_f22_one_flipped_byte_and_it_is_not_used(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection, at: float
) -> None:
    live.executemany("insert into notes values (?)", [(PAGE,)] * 5)
    made = await taken.take(1, [tmp_path / "claw.db"])
    assert made is not None
    content = bytearray((made.directory / "claw.db").read_bytes())
    content[int(len(content) * at)] ^= 1
    (made.directory / "claw.db").write_bytes(content)
    with pytest.raises(Refused) as refused:
        await taken.lay_out(made, tmp_path / "place")
    assert refused.value.kind == "snapshot_damaged"
    assert not (tmp_path / "place" / "claw.db").exists()


async def test_f22_a_missing_file_is_not_used_either(
    tmp_path: Path, taken: Snapshots, live: sqlite3.Connection
) -> None:
    made = await taken.take(1, [tmp_path / "claw.db"])
    assert made is not None
    (made.directory / "claw.db").unlink()
    with pytest.raises(Refused) as refused:
        await taken.lay_out(made, tmp_path / "place")
    assert refused.value.kind == "snapshot_damaged"
    with pytest.raises(NotFound):
        await taken.get(99)
