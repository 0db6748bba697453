"""SQLite by the rules of durable jobs: WAL, `synchronous=FULL` (one fsync a commit), IMMEDIATE transactions."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import sqlite

from regrow import backups
from regrow.errors import StoreError

_SUBSECONDS_SINCE = (3, 42, 0)


class Sqlite:
    """A store in one file of the state directory, whose kernel lock the daemon holds.

    Args:
        path: the file; created when it is first opened.
    """

    scope = ""
    remedy = "free the disk or restore it"
    restorable = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.title = str(path)
        self.engine = sa.create_engine(f"sqlite:///{path}", pool_size=8, max_overflow=24)
        event.listen(self.engine, "connect", _prepare)

    def hold(self, lost: Callable[[str], None]) -> None:
        """Nothing to do: whoever has the directory has the file."""

    def version(self) -> str | None:
        """As `Database.version`. Raises StoreError, kind "store_corrupt"."""
        if not self.path.exists():
            return None
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
                row = connection.execute("select version_num from alembic_version").fetchone()
        except sqlite3.Error as error:
            raise self._corrupt(error) from error
        return str(row[0]) if row else None

    def begin(self, connection: sa.Connection) -> None:
        """The driver itself would begin only at the first write, after what the decision was read from."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def insert_new(self, table: sa.Table) -> sa.Insert:
        """`ON CONFLICT DO NOTHING`."""
        return sqlite.insert(table).on_conflict_do_nothing()

    def stands(self, connection: sa.Connection) -> bool:
        """Whether the transaction is still there."""
        driver = connection.connection.driver_connection
        return driver is not None and bool(driver.in_transaction)

    def fatal(self, error: BaseException, disconnected: bool) -> bool:
        """Everything but an answer (a broken constraint), a mistake in a statement, and a lock that others hold."""
        if not isinstance(error, sqlite3.DatabaseError):
            return False
        return not isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError) and "locked" not in str(error)

    def conflict(self, error: BaseException) -> bool:
        """Never: an IMMEDIATE transaction waits for the other one."""
        return False

    def refusal(self, error: sa.exc.DBAPIError) -> StoreError:
        """As `Database.refusal`, with the newest backup."""
        return self._corrupt(error.orig)

    def _corrupt(self, reason: BaseException | None) -> StoreError:
        newest = next(iter(backups.found(self.path.parent)), None)
        how = f"restore it with `regrow backup restore {newest}`" if newest else "restore it from a backup"
        return StoreError(f"cannot read the store {self.path}: {reason}; {how} or move it away", kind="store_corrupt")

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = "IMMEDIATE"
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
    if sqlite3.sqlite_version_info < _SUBSECONDS_SINCE:
        # Under Python 3.12 and later the engine's tables have unixepoch('subsec') as the default of times that may not
        # be null, also where SQLite is older than that word and answers null: Debian 12's is 3.40.
        connection.create_function("unixepoch", 1, _unixepoch)


def _unixepoch(word: str) -> float:
    """What SQLite answers from 3.42 on; nothing of ours asks for another time than now."""
    if word != "subsec":
        raise ValueError(f"cannot tell unixepoch({word!r})")
    return round(time.time(), 3)
