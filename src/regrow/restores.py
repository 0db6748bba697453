"""Which data goes with a release: its own schema, or a snapshot from when it had that (F21)."""

from __future__ import annotations

import time
from pathlib import Path

from regrow import sqlite_files
from regrow.care import Care
from regrow.errors import Refused
from regrow.pool import in_thread
from regrow.releases import Release
from regrow.snapshots import Snapshot


async def choose(care: Care, release: Release, data: bool = False, number: int | None = None) -> Snapshot | None:
    """The snapshot that is restored together with `release`; None when the data stays as it is.

    Args:
        care: the service.
        release: what is to serve.
        data: whether somebody said that the data goes back, too.
        number: the snapshot that somebody named.

    Raises:
        Refused: kinds "schema_moved" (the data must go back, and nobody has said so), "no_snapshot" and
            "other_schema"; its values say what the data is worth.
        NotFound: kind "no_such_snapshot".
    """
    if not care.databases:
        if data or number is not None:
            raise Refused("cannot restore data: [state] sqlite names no database", kind="no_snapshot")
        return None
    if number is not None:
        named = await care.snapshots.get(number)
        if release.schema and named.schema and named.schema != release.schema:
            raise Refused(
                f"cannot restore snapshot {number} for {release.id}: its data has another schema; "
                f"name the release it was taken under, `regrow releases` lists them",
                kind="other_schema",
                release=release.id,
                snapshot=number,
            )
        return named
    moved = bool(release.schema) and release.schema != await care.schema()
    if not moved and not data:
        return None
    found = await _before(care, release, moved)
    if found is None:
        raise Refused(
            f"cannot roll back to {release.id}: the data has had another schema since, and no snapshot from before is "
            "left; deploy its commit by name, which is tried on a copy of the data first"
            if moved
            else f"cannot roll back to {release.id} with data: no snapshot from before is left",
            kind="no_snapshot" if moved else "no_snapshot_left",
            version=release.version,
        )
    if not data:
        at, rows = when(found.at), rows_text(await worth(care, found))
        raise Refused(
            f"cannot roll back to {release.id} alone: the data has had another schema since. Say --with-data to "
            f"restore snapshot {found.id} of {at} with it; what was written since is set aside: {rows}",
            kind="schema_moved",
            version=release.version,
            snapshot=found.id,
            at=at,
            rows=rows,
        )
    return found


async def _before(care: Care, release: Release, moved: bool) -> Snapshot | None:
    """The data as `release` knew it: the newest with its schema, or what was there before that which serves now."""
    taken = await care.snapshots.all()
    if moved:
        return next((snapshot for snapshot in taken if snapshot.schema == release.schema), None)
    serving = await care.serving()
    wanted = serving.snapshot if serving is not None else None
    fitting = (one for one in taken if not release.schema or not one.schema or one.schema == release.schema)
    return next((snapshot for snapshot in fitting if snapshot.id == wanted), None)


async def release_for(care: Care, snapshot: Snapshot) -> Release:
    """The release that works with a snapshot's data: the one that serves, if it does, else the newest good one.

    Raises:
        Refused: kind "other_schema".
    """
    serving = await care.serving()
    for release in [*([serving] if serving else []), *await care.releases.good()]:
        if not release.schema or not snapshot.schema or release.schema == snapshot.schema:
            return release
    raise Refused(
        f"cannot restore snapshot {snapshot.id}: no release that is left works with its schema",
        kind="other_schema",
        release="",
        snapshot=snapshot.id,
    )


async def worth(care: Care, snapshot: Snapshot) -> dict[str, int] | None:
    """Rows that were written after a snapshot, by table; None where it cannot be told cheaply."""
    return await worth_of({path.name: path for path in care.databases}, snapshot)


async def worth_of(newer: dict[str, Path], snapshot: Snapshot) -> dict[str, int] | None:
    """The same of databases elsewhere, by their names."""
    total: dict[str, int] = {}
    for entry in snapshot.files:
        path = newer.get(entry["name"])
        if path is None or not path.exists():
            return None
        more = await in_thread(sqlite_files.gained, path, snapshot.directory / entry["name"])
        if more is None:
            return None
        total |= {
            (f"{path.stem}.{table}" if len(snapshot.files) > 1 else table): count for table, count in more.items()
        }
    return total


def rows_text(worth: dict[str, int] | None) -> str:
    """Rows by table, the most first: "notes +3, users +1"; "?" where it is not known."""
    if worth is None:
        return "?"
    most = sorted(worth.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{table} +{count}" for table, count in most[:5]) or "0"


def when(at: float) -> str:
    """A time as people of this machine read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


async def needed(care: Care) -> set[int]:
    """The snapshots from before what runs, stands by and is fallen back to: without them there is no way back."""
    status = await care.service.status()
    ids = {copy.release for copy in (status.active, status.standby, status.candidate) if copy}
    ids |= {str(known["id"]) for known in (status.good, status.previous) if known}
    return {release.snapshot for release in await care.releases.all() if release.id in ids and release.snapshot}
