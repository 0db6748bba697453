"""Space on disk: what a job will need, measured on the file systems it will write to, before it begins (F14)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from regrow import files

SPARE_BYTES = 64 * 1024**2
"""What must be left on every file system after all: logs, records and the store need it too."""


@dataclass(frozen=True)
class Need:
    """Bytes that something will take.

    Attributes:
        what: for people: "release", "workspace", "snapshot".
        path: a directory on the file system it goes to; it may not exist yet.
        size: bytes.
    """

    what: str
    path: Path
    size: int


@dataclass(frozen=True)
class Shortage:
    """A file system on which there is too little."""

    path: Path
    free: int
    needed: int
    what: tuple[str, ...]


def shortage(needs: Iterable[Need]) -> Shortage | None:
    """The first file system that has too little for all that goes to it, or None."""
    by_device: dict[int, list[Need]] = {}
    for need in needs:
        by_device.setdefault(_there(need.path).stat().st_dev, []).append(need)
    for group in by_device.values():
        place = _there(group[0].path)
        free, needed = files.free_bytes(place), sum(need.size for need in group) + SPARE_BYTES
        if free < needed:
            return Shortage(place, free, needed, tuple(need.what for need in group if need.size))
    return None


def database_bytes(database: Path) -> int:
    """What a SQLite file and its log take; 0 when there is none."""
    size = 0
    for path in (database, database.with_name(database.name + "-wal")):
        try:
            size += path.stat().st_size
        except OSError:
            continue
    return size


def _there(path: Path) -> Path:
    """The nearest directory that exists."""
    return next(one for one in (path, *path.parents) if one.exists())
