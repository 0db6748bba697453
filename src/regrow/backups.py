"""Copies of the daemon's own store, in `backups/` beside it: taken while it is written to, checked, kept for a while.

Nothing here needs the store to be open, so that a store that cannot be opened can be restored.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import re
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from regrow import files
from regrow.errors import NotFound, Refused
from regrow.pool import in_thread

if TYPE_CHECKING:
    from regrow.api import types

log = structlog.get_logger("backups")

_NAME = re.compile(r"regrow-(\d{8}-\d{6})(?:-(\d+))?\.db")
_SIDES = ("", "-wal", "-shm", "-journal")
_BUSY_S = 30.0
_PAGES_A_STEP = 1000
_FIRST_S = 60.0
_GAP = 1000
_NOTE = "restored.json"
NOT_HERE = "PostgreSQL has its own tools for that; use pg_dump and pg_restore"


@dataclass(frozen=True)
class Restored:
    """What a restoration did.

    Attributes:
        backup: the file that is the store now.
        displaced: what was the store before, or None when there was none.
        lost: numbers of the jobs that only the displaced one knows; None when it could not be read.
    """

    backup: Path
    displaced: Path | None
    lost: list[int] | None


def directory(state: Path) -> Path:
    """Where the backups of a state directory are."""
    return state / "backups"


def found(state: Path) -> list[Path]:
    """Every backup, newest first: their names are the times at which they were taken."""
    with contextlib.suppress(OSError):
        named = [(match, path) for path in directory(state).iterdir() if (match := _NAME.fullmatch(path.name))]
        named.sort(key=lambda one: (one[0][1], int(one[0][2] or 1)), reverse=True)
        return [path for _, path in named]
    return []


def copy(source: Path, target: Path) -> None:
    """Copy a SQLite store as it is at one moment, also while it is written to; durable, and checked.

    Raises:
        Refused: kind "backup_failed"; `target` is not there.
    """
    staged = target.with_name(f".{target.name}.taking")
    try:
        with (
            contextlib.closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
            ) as live,
            contextlib.closing(sqlite3.connect(staged)) as taken,
        ):
            staged.chmod(0o600)
            live.execute("BEGIN")  # one moment is read throughout, and writers go on
            live.execute("SELECT 1 FROM sqlite_master").fetchone()
            live.backup(taken, pages=_PAGES_A_STEP)
            taken.execute("PRAGMA journal_mode=DELETE")
        if wrong := damage(staged):
            raise Refused(f"cannot back up {source}: it is damaged ({wrong}); restore it", kind="backup_failed")
        staged.replace(target)
        files.sync_directory(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise Refused(f"cannot back up {source}: {error}; nothing was changed", kind="backup_failed") from error
    finally:
        for side in _SIDES:
            staged.with_name(staged.name + side).unlink(missing_ok=True)


def damage(path: Path) -> str:
    """What is wrong with a SQLite file, "" when it is whole."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            verdict = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    return "" if verdict == "ok" else verdict


def take(store: Path, keep: int) -> Path:
    """Take a backup of a store, and delete the oldest beyond `keep`.

    Raises:
        Refused: kind "backup_failed", or "disk_full" before anything is written.
    """
    root = files.private_directory(directory(store.parent))
    need = 2 * sum(path.stat().st_size for side in _SIDES if (path := store.with_name(store.name + side)).exists())
    if files.free_bytes(root) < need:
        raise Refused(f"cannot back up: {need} bytes are needed on {root}; free some space", kind="disk_full")
    target = root / _next_name(found(store.parent))
    copy(store, target)
    for old in found(store.parent)[keep:]:
        old.unlink(missing_ok=True)
    return target


def _next_name(taken: list[Path]) -> str:
    """The time, made later than the newest name where a second or a clock that was set back would not make it so."""
    now = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    newest = _NAME.fullmatch(taken[0].name) if taken else None
    if newest is None or newest[1] < now:
        return f"regrow-{now}.db"
    return f"regrow-{newest[1]}-{int(newest[2] or 1) + 1}.db"


def _due_s(store: Path, every_s: float) -> float:
    newest = next(iter(found(store.parent)), None)
    if newest is None:
        return min(_FIRST_S, every_s)
    return min(max(0.0, newest.stat().st_mtime + every_s - time.time()), every_s)


def restore(store: Path, name: str, *, aside: str = "", by: str = "") -> Restored:
    """Make a backup the store; what was the store before is kept beside it. No daemon may run.

    Args:
        store: the store's file, which need not be readable or there.
        name: of a backup, or the path of one.
        aside: the word under which the old store is kept; the time when not given.
        by: whose decision it is, for the audit log; this user's when not given.

    Raises:
        NotFound: kind "no_such_backup".
        Refused: kind "backup_failed": the backup is damaged; nothing has changed.
    """
    backup = next((path for path in found(store.parent) if path.name == name), Path(name).absolute())
    if not backup.is_file():
        raise NotFound(f"cannot find the backup {name}; `regrow backup list` lists them", kind="no_such_backup")
    if wrong := damage(backup) or ("" if schema(backup) else "it is no store of Regrow"):
        raise Refused(f"cannot restore {backup}: {wrong}; name another one", kind="backup_failed")
    staged = store.with_name(f".{store.name}.restoring")
    shutil.copyfile(backup, staged)
    staged.chmod(0o600)
    mine = _Known.of(store) if store.exists() else _Known((), {})
    lost = None if mine is None else sorted(set(mine.jobs) - set((_Known.of(backup) or mine).jobs))
    _go_on_counting(staged, mine)
    files.sync_file(staged)
    displaced = _displace(store, aside or time.strftime("%Y%m%d-%H%M%S", time.gmtime()))
    note = {"by": by or _user(), "backup": str(backup), "displaced": str(displaced or ""), "lost_jobs": lost}
    files.write_atomic(store.with_name(_NOTE), json.dumps(note).encode())
    staged.replace(store)
    files.sync_directory(store.parent)
    return Restored(backup, displaced, lost)


def note(state: Path) -> dict[str, Any] | None:
    """What the last restoration left for the next daemon to write down; None when there was none since."""
    with contextlib.suppress(OSError, ValueError):
        left = json.loads((state / _NOTE).read_text())
        return left if isinstance(left, dict) else None
    return None


def forget_note(state: Path) -> None:
    """It is written down."""
    (state / _NOTE).unlink(missing_ok=True)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _displace(store: Path, word: str) -> Path | None:
    """Move a store and what belongs to it aside, under its name with `word`; None when there is none."""
    moved = None
    for side in _SIDES:
        path = store.with_name(store.name + side)
        if path.exists():
            aside = store.with_name(f"{store.name}.{word}{side}")
            path.rename(aside)
            moved = moved if side else aside
    return moved


def schema(store: Path) -> str:
    """The version of a store's form, "" when it cannot be read."""
    with (
        contextlib.suppress(sqlite3.Error, TypeError),
        contextlib.closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as connection,
    ):
        return str(connection.execute("select version_num from alembic_version").fetchone()[0])
    return ""


@dataclass(frozen=True)
class _Known:
    """Numbers that a store has given away: of its jobs, and the last one of each table that counts."""

    jobs: tuple[int, ...]
    last: dict[str, int]

    @classmethod
    def of(cls, store: Path) -> _Known | None:
        """What a store knows; None when it cannot be read."""
        try:
            with contextlib.closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                jobs = tuple(row[0] for row in connection.execute("select id from jobs"))
                return cls(jobs, dict(connection.execute("select name, seq from sqlite_sequence")))
        except sqlite3.Error:
            return None


def _go_on_counting(staged: Path, displaced: _Known | None) -> None:
    """A number that was given away since names something that is still there, a release or a log: never give it again.

    Where nobody can say any more how many there were, a gap is left.
    """
    with contextlib.closing(sqlite3.connect(staged)) as connection, connection:
        for name, last in connection.execute("select name, seq from sqlite_sequence").fetchall():
            then = last + _GAP if displaced is None else max(last, displaced.last.get(name, 0))
            connection.execute("update sqlite_sequence set seq = ? where name = ?", (then, name))


class Backups:
    """The backups of a running daemon.

    Args:
        store: the store's file; None where it is on a server, which has tools of its own for that.
        title: what people are told the store is called.
        every_s: seconds between two, counted over restarts; 0: only when asked for.
        keep: how many stay.
    """

    def __init__(self, store: Path | None, title: str, every_s: float, keep: int) -> None:
        self._store = store
        self._title = title
        self._every_s = every_s
        self._keep = keep

    def _file(self) -> Path:
        if self._store is None:
            raise Refused(f"cannot back up {self._title}: {NOT_HERE}", kind="not_here")
        return self._store

    async def all(self) -> list[types.Backup]:
        """Every backup, newest first. Raises Refused, kind "not_here"."""
        return [_shape(path) for path in found(self._file().parent)]

    async def take(self) -> types.Backup:
        """Take one now. Raises Refused, kind "not_here" and as the function `take`."""
        return _shape(await in_thread(take, self._file(), self._keep))

    async def run(self, failed: Callable[[str], Awaitable[object]]) -> None:
        """Take one whenever it is time, until cancelled; returns at once where nothing is to be taken.

        Args:
            failed: told why one could not be taken.
        """
        if self._store is None or not self._every_s:
            return
        wait = _due_s(self._store, self._every_s)
        while True:
            await asyncio.sleep(wait)
            wait = self._every_s
            try:
                log.info("the store is backed up", action="backup", path=(await self.take()).path)
            except Refused as error:
                log.error("the store could not be backed up", action="backup_failure", error=str(error))
                await failed(str(error))


def _shape(path: Path) -> types.Backup:
    from regrow.api import types  # the command line reads this module, and starts faster without

    known = path.stat()
    return types.Backup(path=str(path), bytes=known.st_size, at=known.st_mtime)
