"""Snapshots of a service's SQLite files, taken by the online backup API before new code opens them (F21, F22)."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from regrow import files
from regrow.clock import Clock, SystemClock
from regrow.errors import Refused
from regrow.pool import in_thread
from regrow.store import Store, snapshots

_BUSY_S = 30.0
_PAGES_A_STEP = 1000


@dataclass(frozen=True)
class Snapshot:
    """A copy of the service's databases.

    Attributes:
        job: the job it was taken for.
        directory: where the copies are, by their own names.
        files: name, schema version (`PRAGMA user_version`) and sha256 of each.
        bytes: size of all.
        at: seconds since 1970.
    """

    job: int
    directory: Path
    files: list[dict[str, Any]]
    bytes: int
    at: float


def copy_database(source: Path, target: Path) -> dict[str, Any]:
    """Copy a live SQLite database, checked and durable.

    Returns:
        name, user_version and sha256 of the copy.

    Raises:
        Refused: kind "snapshot_failed", when it is not a database or the copy is damaged.
    """
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            (mode,) = live.execute("PRAGMA journal_mode").fetchone()
            if mode == "wal":
                # One moment is read throughout, and writers go on; else each write makes the copy begin anew.
                live.execute("BEGIN")
                live.execute("SELECT 1 FROM sqlite_master").fetchone()
            live.backup(copy, pages=_PAGES_A_STEP, progress=_patient, sleep=0.005)
            copy.execute("PRAGMA journal_mode=DELETE")
            (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
            (version,) = copy.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise Refused(
            f"cannot take a snapshot of {source.name}: {error}; nothing was changed", kind="snapshot_failed"
        ) from error
    if verdict != "ok":
        raise Refused(
            f"cannot take a snapshot of {source.name}: it is damaged ({verdict}); restore it first",
            kind="snapshot_failed",
        )
    with target.open("rb") as file:
        return {
            "name": source.name,
            "user_version": version,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _patient(status: int, _remaining: int, _total: int) -> None:
    """Each step waits for a lock as long as the connection says; the copying itself would then try for ever."""
    if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise sqlite3.OperationalError("database is locked")


class Snapshots:
    """The snapshots of one service; the only writer of `root`."""

    def __init__(self, store: Store, root: Path, service: str, clock: Clock | None = None) -> None:
        self._store = store
        self._root = root
        self._service = service
        self._clock = clock or SystemClock()

    async def take(self, job: int, databases: Sequence[Path]) -> Snapshot | None:
        """Copy `databases` for `job`. Safe to repeat; unchanged data is not copied again (F14).

        Returns:
            The snapshot that now holds this data, or None when none of the files exists yet.

        Raises:
            Refused: kind "snapshot_failed" or "disk_full".
        """
        existing = [path for path in databases if path.exists()]
        if not existing:
            return None
        if (row := await self._store.row(self._select().where(snapshots.c.job == job))) is not None:
            return _snapshot(row)
        names = [path.name for path in existing]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise Refused(
                f"cannot take a snapshot: two databases are called {twice}; rename one in [state] sqlite",
                kind="snapshot_failed",
            )
        need = 2 * sum(path.stat().st_size for path in existing)
        files.private_directory(self._root)
        if files.free_bytes(self._root) < need:
            raise Refused(
                f"cannot take a snapshot: {need} bytes are needed on {self._root}; free some space", kind="disk_full"
            )
        target = self._root / f"job-{job}"
        staged = self._root / f".taking-{job}"
        copied = await in_thread(self._copy, existing, staged)
        last = await self._store.row(self._select().order_by(snapshots.c.id.desc()))
        if last is not None and last["files"] == copied and await in_thread(Path(last["directory"]).exists):
            await in_thread(files.remove_tree, staged)
            return _snapshot(last)
        await in_thread(self._publish, staged, target)
        values = {
            "service": self._service,
            "job": job,
            "directory": str(target),
            "files": copied,
            "bytes": files.tree_bytes(target),
            "at": self._clock.now(),
        }
        await self._store.transact(lambda c: c.execute(snapshots.insert().values(**values)))
        row = await self._store.row(self._select().where(snapshots.c.job == job))
        assert row is not None
        return _snapshot(row)

    @staticmethod
    def _copy(databases: Sequence[Path], staged: Path) -> list[dict[str, Any]]:
        files.remove_tree(staged)
        files.private_directory(staged)
        try:
            return [copy_database(path, staged / path.name) for path in databases]
        except BaseException:
            files.remove_tree(staged)  # the job fails, and comes by here no more
            raise

    def _publish(self, staged: Path, target: Path) -> None:
        files.sync_tree(staged)
        files.remove_tree(target)
        staged.rename(target)
        files.sync_directory(self._root)

    def _select(self) -> sa.Select[Any]:
        return sa.select(snapshots).where(snapshots.c.service == self._service)

    async def all(self) -> list[Snapshot]:
        """Every snapshot, newest first."""
        return [_snapshot(row) for row in await self._store.rows(self._select().order_by(snapshots.c.id.desc()))]

    async def prune(self, keep: int) -> None:
        """Delete the oldest beyond `keep`."""
        for snapshot in (await self.all())[keep:]:
            await in_thread(shutil.rmtree, snapshot.directory, ignore_errors=True)
            await self._forget(snapshot.job)

    async def _forget(self, job: int) -> None:
        where = (snapshots.c.service == self._service, snapshots.c.job == job)
        await self._store.transact(lambda c: c.execute(snapshots.delete().where(*where)))


def _snapshot(row: dict[str, Any]) -> Snapshot:
    return Snapshot(row["job"], Path(row["directory"]), row["files"], row["bytes"], row["at"])
