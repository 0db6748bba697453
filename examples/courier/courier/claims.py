"""Which events have been taken, by whom, and which are done: on disk before an event is acknowledged.

A process that dies leaves its claims open. Any living one may adopt them, and one only: nothing that was taken is lost,
and nothing is worked on by two.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

_TABLE = """
create table if not exists claims (
    event text primary key,
    text text not null,
    owner text not null,
    done integer not null default 0
)"""


def owner(release: str, pid: int | None = None) -> str:
    """The name of a process for ever: release, pid, start in clock ticks, boot."""
    pid = pid or os.getpid()
    return f"{release} {pid} {_start(pid)} {_boot()}"


def lives(name: str) -> bool:
    """Whether the process of this name still runs; another process may have its pid by now."""
    _, pid, start, boot = name.rsplit(" ", 3)
    return boot == _boot() and _start(int(pid)) == start


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


class Claims:
    """The table, as one process sees it."""

    def __init__(self, path: Path, me: str) -> None:
        self.me = me
        # Two releases share the file through a switch: each waits for the other's transaction, for some seconds.
        self._db = sqlite3.connect(path, timeout=10.0, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.execute(_TABLE)

    def take(self, event: str, text: str) -> bool:
        """Claim an event; False if it was claimed before, by whomever. On disk when this returns."""
        row = (event, text, self.me)
        return self._db.execute("insert or ignore into claims (event, text, owner) values (?, ?, ?)", row).rowcount == 1

    def done(self, event: str) -> None:
        """The work is done and its answer taken."""
        self._db.execute("update claims set done = 1 where event = ?", (event,))

    def adopt(self) -> list[tuple[str, str]]:
        """Claim what the dead have left open; returns it as (event, text)."""
        left = self._db.execute("select event, text, owner from claims where done = 0 and owner != ?", (self.me,))
        found = [row for row in left.fetchall() if not lives(row[2])]
        # "and owner = ?" lets one of several living win.
        change = "update claims set owner = ? where event = ? and owner = ? and done = 0"
        return [
            (event, text) for event, text, dead in found if self._db.execute(change, (self.me, event, dead)).rowcount
        ]

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
