"""Releases: immutable built versions, each in a directory of its own, known by number, commit and digest.

A release is built under a temporary name, made durable, and appears by one rename (F10). Nothing is ever overwritten;
what runs, the last two good ones and what a job still works on are never pruned (F11, F25).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from regrow import files
from regrow.clock import Clock, SystemClock
from regrow.errors import NotFound, Refused
from regrow.pool import in_thread
from regrow.store import Store, releases

KEEP_GOOD = 2


@dataclass(frozen=True)
class Release:
    """A release as recorded.

    Attributes:
        service: whose it is.
        number: counts up from 1 within the service; never used again.
        version: what the running program is expected to report.
        commit: full commit id.
        subject: the commit's first line.
        digest: "sha256:..." over names, modes and contents of all files.
        bytes: size of all files.
        built_at: seconds since 1970.
        build_seconds: how long the build took.
        job: the job that built it.
        promoted_at: when it was first proved good; None before.
        directory: where its files are.
        schema: of the data it works with, as it was when it last served; None before, or without databases.
        snapshot: the number of the snapshot of the data as it was before this release first opened it.
    """

    service: str
    number: int
    version: str
    commit: str
    subject: str
    digest: str
    bytes: int
    built_at: float
    build_seconds: float
    job: int
    promoted_at: float | None
    directory: Path
    schema: dict[str, str] | None = None
    snapshot: int | None = None

    @property
    def id(self) -> str:
        """The name people use: r7."""
        return f"r{self.number}"


def digest_tree(root: Path) -> str:
    """Digest of every file, link and executable bit below `root`, independent of times and owners."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*"), key=lambda p: p.relative_to(root).as_posix()):
        info = path.lstat()
        name = path.relative_to(root).as_posix()
        if stat.S_ISLNK(info.st_mode):
            entry = ("link", name, os.readlink(path))  # noqa: PTH115  the bytes of the link are the content
        elif stat.S_ISREG(info.st_mode):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            entry = ("exec" if info.st_mode & 0o100 else "file", name, content)
        else:
            continue
        total.update(json.dumps(entry).encode() + b"\n")
    return f"sha256:{total.hexdigest()}"


class Releases:
    """The releases of one service.

    Args:
        store: where they are recorded.
        root: their directory; this object is its only writer.
        service: the service's name.
    """

    def __init__(self, store: Store, root: Path, service: str, clock: Clock | None = None) -> None:
        self._store = store
        self._root = root
        self._service = service
        self._clock = clock or SystemClock()

    async def served_with(self, number: int, schema: dict[str, str]) -> None:
        """Record the schema of the data that a release works with; the last time counts."""
        await self._set(number, schema=schema)

    async def opened_after(self, number: int, snapshot: int) -> None:
        """Record the snapshot of the data as it was before a release first opened it."""
        await self._set(number, snapshot=snapshot)

    async def _set(self, number: int, **values: Any) -> None:
        where = (*self._mine(), releases.c.number == number)
        await self._store.transact(lambda c: c.execute(releases.update().where(*where).values(**values)))

    def _row(self, row: dict[str, Any]) -> Release:
        known = {k: v for k, v in row.items() if k != "pruned_at"}
        return Release(**known, directory=self._root / f"r{row['number']}")

    async def adopt(self) -> list[str]:
        """Write down releases that are on disk and not in the store, which was brought back to an earlier state.

        Returns:
            Their ids. Whether one was ever proved good is forgotten, and so none of them is fallen back to.
        """
        known = sa.select(releases.c.number).where(*self._mine())
        numbers = {row["number"] for row in await self._store.rows(known)}
        found = [record for record in await in_thread(self._records) if record["number"] not in numbers]
        if found:
            await self._store.transact(lambda c: c.execute(releases.insert(), found))
        return [f"r{record['number']}" for record in found]

    def _records(self) -> list[dict[str, Any]]:
        """What each release's own record says, as it was when it was sealed."""
        found = [json.loads(path.read_text()) for path in self._root.glob("r*.json") if path.with_suffix("").is_dir()]
        return [record for record in found if record["service"] == self._service]

    def staging(self, job: int) -> Path:
        """An empty directory for the build of `job` to write into."""
        path = self._root / f".building-{job}"
        files.remove_tree(path)
        path.mkdir(parents=True, mode=0o755)
        return path

    def discard_staging(self, job: int) -> None:
        """Forget what an unfinished build of `job` wrote."""
        files.remove_tree(self._root / f".building-{job}")

    async def seal(self, job: int, *, version: str, commit: str, subject: str, build_seconds: float) -> Release:
        """Make what `job` has built a release. Safe to repeat: a job has one release.

        Args:
            job: the job; its staging directory holds the files.
            version: what the program will report.
            commit: full commit id it was built from.
            subject: that commit's first line.
            build_seconds: how long the build took.

        Raises:
            Refused: kind "empty_build", when the build left no file.
        """
        staged = self._root / f".building-{job}"
        row = await self._store.row(sa.select(releases).where(*self._mine(), releases.c.job == job))
        if row is None:
            if not any(p.is_file() for p in staged.rglob("*")):
                raise Refused(
                    "cannot make a release: the build command wrote nothing into {out}; correct [build] command",
                    kind="empty_build",
                )
            digest = await in_thread(digest_tree, staged)
            size = await in_thread(files.tree_bytes, staged)

            def insert(connection: sa.Connection) -> None:
                last = connection.execute(sa.select(sa.func.max(releases.c.number)).where(*self._mine())).scalar() or 0
                connection.execute(
                    releases.insert().values(
                        service=self._service,
                        number=last + 1,
                        version=version,
                        commit=commit,
                        subject=subject,
                        digest=digest,
                        bytes=size,
                        built_at=self._clock.now(),
                        build_seconds=build_seconds,
                        job=job,
                    )
                )

            await self._store.transact(insert)
            row = await self._store.row(sa.select(releases).where(*self._mine(), releases.c.job == job))
            assert row is not None
        release = self._row(row)
        if not release.directory.exists():
            await in_thread(self._publish, staged, release)
        return release

    def _publish(self, staged: Path, release: Release) -> None:
        for path in staged.rglob("*"):
            if not path.is_symlink() and path.is_file():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
        files.sync_tree(staged)
        record = {k: v for k, v in release.__dict__.items() if k != "directory"}
        files.write_atomic(self._root / f"{release.id}.json", json.dumps(record, indent=2).encode(), 0o644)
        staged.rename(release.directory)
        files.sync_directory(self._root)

    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        return (releases.c.service == self._service,)

    async def all(self) -> list[Release]:
        """Every release still on disk, newest first."""
        query = sa.select(releases).where(*self._mine(), releases.c.pruned_at.is_(None))
        found = [self._row(row) for row in await self._store.rows(query.order_by(releases.c.number.desc()))]
        # A job that ended between the record and the rename has left a record of nothing.
        return [release for release in found if release.directory.exists()]

    async def get(self, name: str) -> Release:
        """The release called `name`: its id ("r7" or "7"), its version, or the start of its commit id.

        Raises:
            NotFound: kind "no_such_release".
        """
        wanted = name.strip().lower()
        found = await self.all()
        by_name = [r for r in found if wanted in {r.id, str(r.number), r.version.lower()}]
        by_commit = [r for r in found if len(wanted) >= 4 and r.commit.startswith(wanted)]
        if best := [*by_name, *by_commit]:
            return best[0]
        known = ", ".join(f"{r.id} ({r.version})" for r in found[:5]) or "none yet"
        raise NotFound(f"cannot find the release {name}; known are {known}", kind="no_such_release")

    async def of_commit(self, commit: str) -> Release | None:
        """The newest release built from exactly `commit`."""
        return next((r for r in await self.all() if r.commit == commit), None)

    async def promoted(self, number: int) -> None:
        """Record that a release was proved good; the first time counts."""
        await self._mark(number, promoted_at=self._clock.now())

    async def _mark(self, number: int, **at: float) -> None:
        (column,) = at
        where = (*self._mine(), releases.c.number == number, releases.c[column].is_(None))
        await self._store.transact(lambda c: c.execute(releases.update().where(*where).values(**at)))

    async def good(self) -> list[Release]:
        """Releases that were once proved good, newest first."""
        return [release for release in await self.all() if release.promoted_at is not None]

    async def prune(self, keep: int, in_use: Collection[str]) -> list[str]:
        """Delete the oldest releases beyond `keep`.

        Args:
            keep: how many to keep at least.
            in_use: ids that must stay: what runs, what it falls back to, what a job works on.

        Returns:
            The ids that were deleted.
        """
        protected = set(in_use) | {release.id for release in (await self.good())[:KEEP_GOOD]}
        gone = [release for release in (await self.all())[keep:] if release.id not in protected]
        for release in gone:
            # The record first: a half-deleted directory must never look like a release.
            await self._mark(release.number, pruned_at=self._clock.now())
        pruned = sa.select(releases).where(*self._mine(), releases.c.pruned_at.is_not(None))
        # With those that were marked before and, the process being killed, not deleted.
        await in_thread(self._delete, [self._row(row) for row in await self._store.rows(pruned)])
        return [release.id for release in gone]

    def _delete(self, gone: list[Release]) -> None:
        for release in gone:
            files.remove_tree(release.directory)
            (self._root / f"{release.id}.json").unlink(missing_ok=True)
