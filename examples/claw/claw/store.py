"""The database: one SQLite file in WAL mode, used from threads, migrated forward when opened."""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BUSY_TIMEOUT_S = 5.0

# Migrations only add. Two releases share the file while one takes over from the other, and the older one
# must still find what it knows.
MIGRATIONS = (
    """
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY, chat TEXT NOT NULL, sender TEXT NOT NULL, text TEXT NOT NULL, at REAL NOT NULL
    );
    CREATE INDEX messages_by_chat ON messages (chat, id);
    """,
    """
    CREATE TABLE memories (
        chat TEXT NOT NULL, sender TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (chat, sender, name)
    );
    """,
    """
    CREATE TABLE answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL, at REAL NOT NULL);
    """,
    """
    CREATE TABLE reminders (
        id INTEGER PRIMARY KEY AUTOINCREMENT, chat TEXT NOT NULL, sender TEXT NOT NULL, text TEXT NOT NULL,
        cron TEXT NOT NULL, zone TEXT NOT NULL, due INTEGER NOT NULL
    );
    CREATE INDEX reminders_by_due ON reminders (due);
    CREATE TABLE outgoing (
        id INTEGER PRIMARY KEY AUTOINCREMENT, reminder INTEGER NOT NULL, due INTEGER NOT NULL,
        chat TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (reminder, due)
    );
    """,
)


class Store:
    """Runs work on the database off the event loop: reads beside each other, writes one after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = ThreadPoolExecutor(1, "claw-write")
        self._readers = ThreadPoolExecutor(2, "claw-read")
        self._of_thread = threading.local()
        self._connections: list[sqlite3.Connection] = []

    @classmethod
    def open(cls, directory: Path) -> "Store":
        """Open, and create or migrate where needed, the database in a directory. Blocks."""
        directory.mkdir(parents=True, exist_ok=True)
        store = cls(directory / "claw.db")
        try:
            with _alone(directory):
                store._writer.submit(store._prepare).result()
        except BaseException:
            store.close()
            raise
        return store

    async def read(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, lambda: work(self._connection()))

    async def write(self, work: Work[T]) -> T:
        """Run work in one transaction: all of it is kept, or none of it."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._transact, work)

    def close(self) -> None:
        """Wait for the work that has begun, then close the file."""
        self._writer.shutdown()
        self._readers.shutdown()
        for connection in self._connections:
            connection.close()

    def _prepare(self) -> None:
        self._connection().execute("PRAGMA journal_mode = WAL")
        self._transact(_migrate)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            # close() is called from another thread, after this one has ended.
            connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connections.append(connection)
            connection.row_factory = sqlite3.Row
            # An answer that somebody has seen survives a power cut.
            connection.execute("PRAGMA synchronous = FULL")
            self._of_thread.connection = connection
        return connection

    def _transact(self, work: Work[T]) -> T:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold a lock on a directory: of two that make a file a WAL at the same time, SQLite refuses one."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _migrate(db: sqlite3.Connection) -> None:
    (done,) = db.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(MIGRATIONS[done:], start=done + 1):
        for statement in filter(str.strip, script.split(";")):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
