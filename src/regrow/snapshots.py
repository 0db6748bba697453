"""Snapshots of a service's SQLite files: from before new code opens them, of a schedule, and of displaced data."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from regrow import files
from regrow.clock import Clock, SystemClock
from regrow.errors import NotFound, Refused
from regrow.pool import in_thread
from regrow.sqlite_files import copy_database, lay_out
from regrow.store import Store, snapshots

Reason = Literal["change", "schedule", "asked", "displaced"]
Schema = dict[str, str]
"""Names the schema of every database, by its file's name; {} where there is none yet."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of the service's databases.

    Attributes:
        id: its number.
        job: the job it was taken for, if one did.
        reason: change (before a job changes what runs), schedule, asked (somebody did), displaced (what other data
            took the place of).
        directory: where the copies are, by their own names.
        files: what `copy_database` says of each.
        schema: of the data, as it was.
        bytes: size of all.
        at: seconds since 1970.
    """

    id: int
    job: int | None
    reason: Reason
    directory: Path
    files: list[dict[str, Any]]
    schema: Schema
    bytes: int
    at: float


class Snapshots:
    """The snapshots of one service; the only writer of `root`."""

    def __init__(self, store: Store, root: Path, service: str, clock: Clock | None = None) -> None:
        self._store = store
        self._root = root
        self._service = service
        self._clock = clock or SystemClock()

    async def take(
        self,
        job: int | None,
        databases: Sequence[Path],
        schema: Schema | None = None,
        *,
        reason: Reason = "change",
        again: bool = False,
    ) -> Snapshot | None:
        """Copy `databases`. A job has one snapshot for one reason; unchanged data is not copied again (F14).

        Args:
            job: for which job; None for none.
            databases: the files; those that do not exist are left out.
            schema: what names the schema, where that is not the databases themselves.
            reason: why.
            again: take it although the job has one, which it then replaces.

        Returns:
            The snapshot that now holds this data, or None when none of the files exists yet.

        Raises:
            Refused: kind "snapshot_failed" or "disk_full".
        """
        existing = [path for path in databases if path.exists()]
        if not existing:
            return None
        mine = self._select().where(snapshots.c.job == job, snapshots.c.reason == reason)
        known = None if job is None else await self._store.row(mine)
        if known is not None and not again:
            return _snapshot(known)
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
        staged = self._root / f".taking-{reason if job is None else job}"
        copied = await in_thread(self._copy, existing, staged)
        last = await self._store.row(self._select().order_by(snapshots.c.id.desc()))
        if last is not None and last["files"] == copied and await in_thread(Path(last["directory"]).exists):
            await in_thread(files.remove_tree, staged)
            return _snapshot(last)
        target = self._root / self._name(job, reason)
        await in_thread(self._publish, staged, target)
        values = {
            "service": self._service,
            "job": job,
            "reason": reason,
            "directory": str(target),
            "files": copied,
            "schema": schema or {entry["name"]: entry["schema"] for entry in copied},
            "bytes": files.tree_bytes(target),
            "at": self._clock.now(),
        }

        def write(connection: sa.Connection) -> int:
            if known is not None:
                connection.execute(snapshots.delete().where(snapshots.c.id == known["id"]))
            return int(connection.execute(snapshots.insert().values(**values)).inserted_primary_key[0])  # type: ignore[index]

        return await self.get(await self._store.transact(write))

    def _name(self, job: int | None, reason: Reason) -> str:
        if job is not None:
            return f"job-{job}" if reason == "change" else f"job-{job}-{reason}"
        stamp = f"{reason}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(self._clock.now()))}"
        names = [stamp, *(f"{stamp}-{number}" for number in range(2, 1000))]
        return next(name for name in names if not (self._root / name).exists())

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

    async def of(self, job: int, reason: Reason = "change") -> Snapshot | None:
        """The snapshot that was taken for a job and a reason, if it has one of its own."""
        row = await self._store.row(self._select().where(snapshots.c.job == job, snapshots.c.reason == reason))
        return None if row is None else _snapshot(row)

    async def get(self, number: int) -> Snapshot:
        """The snapshot of that number.

        Raises:
            NotFound: kind "no_such_snapshot".
        """
        row = await self._store.row(self._select().where(snapshots.c.id == number))
        if row is None:
            raise NotFound(f"cannot find snapshot {number}; `regrow snapshots` lists them", kind="no_such_snapshot")
        return _snapshot(row)

    @staticmethod
    async def lay_out(snapshot: Snapshot, target: Path, names: Sequence[str] = ()) -> Path:
        """Copy a snapshot's files into a new directory, where a program may open and change them.

        Args:
            snapshot: which; it stays as it is.
            target: the directory; what is there already is deleted.
            names: paths below `target` that the files shall have; their own names otherwise.

        Returns:
            `target`.

        Raises:
            Refused: kind "snapshot_damaged", when a file is not any more what was copied (F22), or "disk_full".
        """
        places = {Path(name).name: target / name for name in names}

        def work() -> Path:
            files.remove_tree(target)
            files.private_directory(target)
            if files.free_bytes(target) < snapshot.bytes:
                raise Refused(
                    f"cannot lay out a snapshot: {snapshot.bytes} bytes are needed on {target}; free some space",
                    kind="disk_full",
                )
            for entry in snapshot.files:
                place = places.get(entry["name"], target / entry["name"])
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                try:
                    lay_out(entry, snapshot.directory / entry["name"], place)
                except FileNotFoundError:
                    raise Refused(
                        f"cannot use snapshot {snapshot.id}: {entry['name']} is missing in {snapshot.directory}; "
                        "use another one",
                        kind="snapshot_damaged",
                    ) from None
            return target

        return await in_thread(work)

    async def prune(self, keep: int, keep_bytes: int, protected: Collection[int] = ()) -> list[int]:
        """Delete the oldest beyond `keep` snapshots or `keep_bytes` bytes (0: no limit); the newest always stays.

        Args:
            keep: how many.
            keep_bytes: of all together.
            protected: numbers that must stay; they count, too.

        Returns:
            The numbers that were deleted.
        """
        gone, count, size = [], 0, 0
        for snapshot in await self.all():
            count, size = count + 1, size + snapshot.bytes
            beyond = count > keep or (keep_bytes and size > keep_bytes)
            if beyond and count > 1 and snapshot.id not in protected:
                count, size = count - 1, size - snapshot.bytes
                gone.append(snapshot)
        for snapshot in gone:
            where = snapshots.c.id == snapshot.id
            # The record first: a half-deleted directory must never look like a snapshot.
            await self._store.transact(lambda c, where=where: c.execute(snapshots.delete().where(where)))  # type: ignore[misc]
            await in_thread(files.remove_tree, snapshot.directory)
        return [snapshot.id for snapshot in gone]


def _snapshot(row: dict[str, Any]) -> Snapshot:
    known = {name: value for name, value in row.items() if name != "service"}
    return Snapshot(**{**known, "directory": Path(row["directory"]), "schema": row["schema"] or {}})
