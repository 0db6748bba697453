"""The store in a file: its pragmas hold, a lock of others is waited for, and damage is refused with the way back."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from regrow import backups
from regrow.databases.sqlite import Sqlite
from regrow.errors import StoreError
from regrow.store import SCHEMA_HEAD, Store, check, cursors


def put(connection: sa.Connection, name: str = "one") -> None:
    connection.execute(cursors.insert().values(name=name, value=1))


async def test_a_written_transaction_is_durable(tmp_path: Path) -> None:
    store = Store(tmp_path / "regrow.db", on_fatal=pytest.fail)
    try:
        await store.transact(put)
        with closing(sqlite3.connect(tmp_path / "regrow.db")) as other:
            assert other.execute("select name from cursors").fetchall() == [("one",)]
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        values = await store.read(lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas])
        assert values == ["wal", 2, 1]
    finally:
        store.close()


async def test_a_lock_of_others_is_not_fatal(tmp_path: Path) -> None:
    store = Store(tmp_path / "regrow.db", on_fatal=pytest.fail)

    def impatient(connection: sa.Connection) -> None:
        put(connection)

    try:
        await store.read(lambda c: c.exec_driver_sql("PRAGMA busy_timeout=0"))  # stays with the pooled connection
        with closing(sqlite3.connect(tmp_path / "regrow.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(sa.exc.OperationalError, match="locked"):
                await store.transact(impatient)
            other.execute("ROLLBACK")
        await store.transact(impatient)
    finally:
        store.close()


def test_a_corrupt_store_is_refused_with_the_newest_backup(tmp_path: Path) -> None:
    path = tmp_path / "regrow.db"
    Store(path).close()
    backups.take(path, keep=3)
    newest = backups.take(path, keep=3)
    path.write_bytes(b"no database" * 1000)
    for refused in (lambda: Store(path), lambda: check(Sqlite(path))):
        with pytest.raises(StoreError) as caught:
            refused()
        assert caught.value.kind == "store_corrupt"
        assert f"`regrow backup restore {newest}`" in str(caught.value)
    backups.restore(path, newest.name)
    Store(path).close()
    assert backups.schema(path) == SCHEMA_HEAD


def test_looking_makes_nothing(tmp_path: Path) -> None:
    check(Sqlite(tmp_path / "regrow.db"))
    assert list(tmp_path.iterdir()) == []


def test_the_engine_gets_its_times_also_from_an_old_sqlite(tmp_path: Path) -> None:
    # The default that the engine gives its tables under Python 3.12 and later; SQLite knows it since 3.42.
    store = Store(tmp_path / "new.db")
    before = time.time()
    try:
        with store.engine.connect() as connection:
            now = connection.execute(sa.text("select unixepoch('subsec') * 1000")).scalar()
    finally:
        store.close()
    assert before * 1000 - 1 <= now <= time.time() * 1000 + 1
