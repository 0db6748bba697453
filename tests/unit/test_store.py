"""A new store is what all migrations together make, and one cut short while it is made is made again.

A transaction is there or not, whatever it shared a commit with, and a store that fails ends the process instead of
becoming the outcome of a job.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from regrow.audit import Audit, Verdict
from regrow.errors import StoreError
from regrow.store import SCHEMA_HEAD, STORE_ERROR_EXIT, Store, cursors


def schema(path: Path) -> dict[str, str]:
    """The statements that made a database, by name."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("select name, sql from sqlite_master where sql is not null")
        return {name: " ".join(sql.split()) for name, sql in rows}


def version(path: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("select version_num from alembic_version").fetchall()


def test_a_new_store_is_what_the_migrations_make(tmp_path: Path) -> None:
    new, migrated = tmp_path / "new.db", tmp_path / "migrated.db"
    with closing(sqlite3.connect(migrated)) as connection:
        # A table of versions without a version sends the store through every migration.
        connection.execute(
            "CREATE TABLE alembic_version ("
            "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        connection.commit()
    Store(new).close()
    Store(migrated).close()
    assert schema(new) == schema(migrated)
    assert version(new) == version(migrated) == [(SCHEMA_HEAD,)]


async def test_a_store_of_the_first_schema_is_migrated_and_keeps_what_it_holds(tmp_path: Path) -> None:
    new, old = tmp_path / "new.db", tmp_path / "old.db"
    Store(new).close()
    Store(old).close()
    with closing(sqlite3.connect(old)) as connection:
        # As the first version made it.
        connection.execute("drop index audit_by_job")
        for trigger in ("audit_no_update", "audit_no_delete"):
            connection.execute(f"drop trigger {trigger}")
        for column in ("person", "hash"):
            connection.execute(f"alter table audit drop column {column}")
        connection.executemany("insert into audit values (?, 1.5, 'ada', 'web', 'asked', ?, '{}')", [(3, 1), (7, 2)])
        for table in ("forwards", "people", "pairings", "barred", "notices", "lives", "freezes"):
            connection.execute(f"drop table {table}")
        for column in ("person", "channel", "chat"):
            connection.execute(f"alter table approvals drop column {column}")
        connection.execute("alter table jobs drop column kept_by")
        connection.execute("alter table releases drop column schema")
        connection.execute("alter table releases drop column snapshot")
        connection.execute("drop table snapshots")
        connection.execute(
            "create table snapshots (id integer not null primary key, service text not null, job integer not null, "
            "directory text not null, files json not null, bytes integer not null, at float not null, "
            "unique (service, job))"
        )
        connection.execute("insert into snapshots values (7, 'claw', 3, '/d', '[]', 5, 1.5)")
        connection.execute("drop index inbox_waiting")
        connection.execute("drop index outbox_waiting")
        connection.execute("update alembic_version set version_num = '0001'")
        connection.execute("insert into cursors values ('one', 1)")
        connection.commit()
    migrated = Store(old)
    try:
        assert [row["job"] for row in await Audit(migrated).last()] == [2, 1]
        assert await Audit(migrated).verify() == Verdict(2)
    finally:
        migrated.close()
    assert schema(old) == schema(new)
    assert version(old) == [(SCHEMA_HEAD,)]
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("select * from cursors").fetchall() == [("one", 1)]
        kept = connection.execute("select id, service, job, reason, directory, bytes, at from snapshots").fetchall()
        assert kept == [(7, "claw", 3, "change", "/d", 5, 1.5)]


def test_a_store_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "regrow.db"
    Store(path).close()
    before = schema(path)
    Store(path).close()
    assert schema(path) == before


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "regrow.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
        connection.commit()
    with pytest.raises(StoreError) as caught:
        Store(path)
    assert caught.value.kind == "store_newer"
    assert "install that version again" in str(caught.value)
    assert version(path) == [("9999",)]  # and it is as it was


@pytest.mark.parametrize("damage", ["not a database", "cut off", "a page of noise"])
def test_a_corrupt_store_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "regrow.db"
    Store(path).close()
    content = path.read_bytes()
    if damage == "not a database":
        path.write_bytes(b"this is no database, however long it may be" * 100)
    elif damage == "cut off":
        path.write_bytes(content[:5000])
    else:
        path.write_bytes(content[:100] + b"\xff" * 3996 + content[4096:])
    before = path.read_bytes()
    with pytest.raises(StoreError, match="restore it from a backup or move it away") as caught:
        Store(path, on_fatal=lambda _: pytest.fail("at start-up a person reads the error"))
    assert caught.value.kind == "store_corrupt"
    assert path.read_bytes() == before


@pytest.fixture
def fatal() -> list[str]:
    """For what reasons the store would have ended the process."""
    return []


@pytest.fixture
def failing(tmp_path: Path, fatal: list[str]) -> Iterator[Store]:
    """A store whose next connections meet the driver's own errors: a full disk, and no patience with locks."""
    made = Store(tmp_path / "regrow.db", on_fatal=fatal.append)
    made.engine.dispose()

    def tighten(connection: sqlite3.Connection, _: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        connection.execute("PRAGMA busy_timeout=0")

    event.listen(made.engine, "connect", tighten)
    yield made
    made.close()


def put(connection: sa.Connection, name: str = "one", value: int = 1) -> None:
    connection.execute(cursors.insert().values(name=name, value=value))


async def names(store: Store) -> list[str]:
    return [row["name"] for row in await store.rows(sa.select(cursors).order_by(cursors.c.name))]


async def test_nothing_of_a_transaction_that_breaks_remains(store: Store) -> None:
    def work(connection: sa.Connection) -> None:
        put(connection)
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await store.transact(work)
    assert await names(store) == []
    await store.transact(put)
    assert await store.row(sa.select(cursors)) == {"name": "one", "value": 1}
    assert await store.row(sa.select(cursors).where(cursors.c.name == "two")) is None


async def test_what_was_read_holds_until_it_is_written(store: Store) -> None:
    await store.transact(lambda c: put(c, value=0))

    def add_one(connection: sa.Connection) -> None:
        value = connection.execute(sa.select(cursors.c.value)).scalar_one()
        connection.execute(cursors.update().values(value=value + 1))

    await asyncio.gather(*(store.transact(add_one) for _ in range(40)))
    assert await store.read(lambda c: c.execute(sa.select(cursors.c.value)).scalar_one()) == 40


async def together(store: Store, *works: Callable[[sa.Connection], object]) -> list[object]:
    """What came of works that wait while another is being written, and so share the next commit."""
    begun, go = threading.Event(), threading.Event()

    def hold(_: sa.Connection) -> None:
        begun.set()
        go.wait(30)

    first = asyncio.ensure_future(store.transact(hold))
    await asyncio.to_thread(begun.wait, 30)
    others = [asyncio.ensure_future(store.transact(work)) for work in works]
    await asyncio.sleep(0)  # each has said what it wants
    go.set()
    await first
    return await asyncio.gather(*others, return_exceptions=True)


def commits(store: Store) -> list[int]:
    """Grows by one with each commit."""
    seen: list[int] = []
    event.listen(store.engine, "commit", lambda _: seen.append(1))
    return seen


async def test_what_waits_shares_a_commit(store: Store) -> None:
    seen = commits(store)
    works = [lambda c, n=n: put(c, name=f"{n:02}", value=n) or n for n in range(20)]  # type: ignore[misc]
    assert await together(store, *works) == list(range(20))
    assert len(await names(store)) == 20
    assert len(seen) == 2  # the one that held the others up, and theirs


async def test_a_work_that_breaks_takes_nothing_of_its_neighbours_with_it(store: Store) -> None:
    def breaks(connection: sa.Connection) -> None:
        put(connection, name="half")
        raise ValueError("inside")

    outcomes = await together(
        store,
        lambda c: put(c, name="before"),
        breaks,
        lambda c: put(c, name="before"),  # a conflict
        lambda c: put(c, name="odd", value=object()),  # type: ignore[arg-type]  what the driver does not know
        lambda c: put(c, name="after"),
    )
    expected = [type(None), ValueError, sa.exc.IntegrityError, sa.exc.DBAPIError, type(None)]
    assert all(isinstance(outcome, kind) for outcome, kind in zip(outcomes, expected, strict=True)), outcomes
    assert await names(store) == ["after", "before"]


async def test_a_commit_that_fails_fails_for_all_that_shared_it(failing: Store, fatal: list[str]) -> None:
    outcomes = await together(failing, put, lambda c: put(c, name="x" * 50_000), lambda c: put(c, name="y"))
    assert all(isinstance(outcome, sa.exc.OperationalError) for outcome in outcomes)
    assert "database or disk is full" in fatal
    assert await names(failing) == []


async def test_a_work_nobody_waits_for_any_more_is_not_done(store: Store) -> None:
    async def impatient(work: Callable[[sa.Connection], object]) -> None:
        task = asyncio.ensure_future(store.transact(work))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    begun, go = threading.Event(), threading.Event()
    first = asyncio.ensure_future(store.transact(lambda _: (begun.set(), go.wait(30))))
    await asyncio.to_thread(begun.wait, 30)
    await impatient(put)
    go.set()
    await first
    assert await names(store) == []


async def test_what_waits_when_the_store_is_closed_is_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "regrow.db")
    waiting = [asyncio.ensure_future(store.transact(lambda c, n=n: put(c, name=str(n)))) for n in range(9)]  # type: ignore[misc]
    await asyncio.sleep(0)
    store.close()
    await asyncio.gather(*waiting)
    with closing(sqlite3.connect(tmp_path / "regrow.db")) as other:
        assert other.execute("select count(*) from cursors").fetchall() == [(9,)]


async def test_a_transaction_that_was_in_the_way_is_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the database calls a conflict; nothing of the first try remains."""
    monkeypatch.setattr(store.database, "conflict", lambda error: "refused" in str(error))
    tries: list[int] = []

    def work(connection: sa.Connection) -> int:
        put(connection, name=f"try {len(tries)}")
        tries.append(1)
        if len(tries) < 3:
            raise sa.exc.OperationalError("select", {}, ValueError("refused"))
        return len(tries)

    assert await store.transact(work) == 3
    assert await names(store) == ["try 2"]


async def test_a_conflict_without_an_end_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.database, "conflict", lambda _: True)
    tries: list[int] = []

    def work(connection: sa.Connection) -> None:
        tries.append(1)
        raise sa.exc.OperationalError("select", {}, ValueError("refused"))

    with pytest.raises(sa.exc.OperationalError, match="refused"):
        await store.transact(work)
    assert len(tries) > 1


async def test_numbers_and_texts_come_back_as_they_were(store: Store) -> None:
    """Larger than 32 bits, and a NUL in the middle, which PostgreSQL keeps in no text."""
    await store.transact(lambda c: put(c, name="a\0b", value=2**40))
    (row,) = await store.rows(sa.select(cursors))
    assert row["value"] == 2**40
    assert row["name"] in {"a\0b", "a\N{REPLACEMENT CHARACTER}b"}
    assert await store.row(sa.select(cursors).where(cursors.c.name == "a\0b")) == row


async def test_a_full_disk_is_fatal_and_nothing_remains(failing: Store, fatal: list[str]) -> None:
    await failing.transact(put)
    assert fatal == []
    with pytest.raises(sa.exc.OperationalError, match="full"):
        await failing.transact(lambda c: put(c, name="x" * 50_000))
    assert fatal == ["database or disk is full"]
    assert await names(failing) == ["one"]


async def test_damage_met_later_is_fatal(tmp_path: Path, fatal: list[str]) -> None:
    store = Store(tmp_path / "regrow.db", on_fatal=fatal.append)
    try:
        await store.transact(put)
        store.engine.dispose()
        path = tmp_path / "regrow.db"
        # Everything but the head and the table of tables.
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
        with pytest.raises(sa.exc.DatabaseError):
            await names(store)
        assert "malformed" in fatal[0]
    finally:
        store.close()


async def test_a_conflict_is_an_answer_and_not_fatal(failing: Store, fatal: list[str]) -> None:
    await failing.transact(put)
    with pytest.raises(sa.exc.IntegrityError):
        await failing.transact(put)
    assert fatal == []


WRITE_UNTIL_FULL = """
import asyncio, pathlib, resource, sys
from regrow.store import Store, cursors

async def main():
    path = pathlib.Path(sys.argv[1])
    store = Store(path)
    await store.transact(lambda c: c.execute(cursors.insert().values(name="kept", value=1)))
    wal = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal, wal))  # the kernel refuses every byte more
    print("full", flush=True)
    await store.transact(lambda c: c.execute(cursors.insert().values(name="x" * 9000, value=1)))
    print("went on")

asyncio.run(main())
"""


async def test_a_store_that_cannot_write_ends_the_process(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", WRITE_UNTIL_FULL, str(tmp_path / "regrow.db")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (STORE_ERROR_EXIT, "full\n")
    assert done.stderr.startswith("cannot go on: the store failed: ")
    store = Store(tmp_path / "regrow.db")
    try:
        assert await names(store) == ["kept"]
    finally:
        store.close()
