"""SQLite files from outside: copied while they are written, checked, compared. Nothing here knows whose they are."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from regrow.errors import Refused

_BUSY_S = 30.0
_PAGES_A_STEP = 1000
_COUNTING_S = 2.0
_LOOK_EVERY = 10_000  # instructions of SQLite's machine between two looks at the clock


def copy_database(source: Path, target: Path) -> dict[str, Any]:
    """Copy a live SQLite database by the online backup API, checked and durable (F22).

    Returns:
        name, user_version, schema (see `schema`), sha256 and wal (whether it keeps a write-ahead log) of the copy.

    Raises:
        Refused: kind "snapshot_failed", when it is not a database or the copy is damaged.
    """
    try:
        with closing(_read(source)) as live, closing(sqlite3.connect(target)) as copy:
            (mode,) = live.execute("PRAGMA journal_mode").fetchone()
            if mode == "wal":
                # One moment is read throughout, and writers go on; else each write makes the copy begin anew.
                live.execute("BEGIN")
                live.execute("SELECT 1 FROM sqlite_master").fetchone()
            live.backup(copy, pages=_PAGES_A_STEP, progress=_patient, sleep=0.005)
            copy.execute("PRAGMA journal_mode=DELETE")
            (version,) = copy.execute("PRAGMA user_version").fetchone()
        # By a connection that remembers nothing: what is checked is the file.
        verdict = integrity(target)
    except sqlite3.Error as error:
        raise Refused(
            f"cannot take a snapshot of {source.name}: {error}; nothing was changed", kind="snapshot_failed"
        ) from error
    if verdict != "ok":
        raise Refused(
            f"cannot take a snapshot of {source.name}: it is damaged ({verdict}); restore it first",
            kind="snapshot_failed",
        )
    return {
        "name": source.name,
        "user_version": version,
        "schema": schema(target),
        "sha256": _sha256(target),
        "wal": mode == "wal",
    }


def _patient(status: int, _remaining: int, _total: int) -> None:
    """Each step waits for a lock as long as the connection says; the copying itself would then try for ever."""
    if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise sqlite3.OperationalError("database is locked")


def _read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def integrity(path: Path) -> str:
    """SQLite's own verdict on a file: "ok", or the first thing that is wrong with it."""
    with closing(_read(path)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def _verdict(path: Path) -> str:
    try:
        return integrity(path)
    except sqlite3.Error as error:
        return str(error)


def lay_out(entry: dict[str, Any], source: Path, target: Path) -> None:
    """Put a copy that `copy_database` made where a program can open it, if it is still what was copied.

    Args:
        entry: what `copy_database` said of it.
        source: the copy, which stays untouched.
        target: a file that does not exist; its directory does.

    Raises:
        Refused: kind "snapshot_damaged".
    """
    shutil.copyfile(source, target)
    # The copy is what is looked at, so that nothing can happen to it in between.
    verdict = "its bytes have changed" if _sha256(target) != entry["sha256"] else _verdict(target)
    if verdict != "ok":
        target.unlink()
        raise Refused(
            f"cannot use the snapshot of {entry['name']} in {source.parent}: it is damaged ({verdict}); "
            "use another one",
            kind="snapshot_damaged",
        )
    if entry.get("wal"):
        with closing(sqlite3.connect(target)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # programs that rely on it need not ask for it themselves
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def schema(path: Path) -> str:
    """Names the schema of a database: its user_version and a hash of what it consists of, whatever the white space.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    with closing(_read(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        query = "select type, name, tbl_name, sql from sqlite_master where name not like 'sqlite\\_%' escape '\\'"
        parts = sorted(tuple(" ".join(str(word or "").split()) for word in row) for row in connection.execute(query))
    return f"{version}:{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def rows(path: Path) -> dict[str, int] | None:
    """Number of rows of each table, or None where counting takes longer than two seconds or cannot be done."""
    deadline = time.monotonic() + _COUNTING_S
    try:
        with closing(_read(path)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _LOOK_EVERY)
            query = "select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\'"
            names = [name for (name,) in connection.execute(query)]
            return {
                name: connection.execute(f'select count(*) from "{name.replace(chr(34), 2 * chr(34))}"').fetchone()[0]  # noqa: S608
                for name in names
            }
    except sqlite3.Error:
        return None


def gained(newer: Path, older: Path) -> dict[str, int] | None:
    """How many rows more the tables of `newer` have than those of `older`; tables with none are left out.

    None where it cannot be told cheaply. Changed rows are not seen, and deleted ones count against new ones.
    """
    new, old = rows(newer), rows(older)
    if new is None or old is None:
        return None
    return {name: more for name, count in new.items() if (more := count - old.get(name, 0)) > 0}
