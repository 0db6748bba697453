"""A directory of plain files for every job: made, found again, discarded. Never the live checkout (F17).

    ROOT/7/workspace         files the agent edits: an export of a commit, with no .git inside, so that nothing in it
                             can attack the host's git; further ones of a job have other names
    ROOT/7/workspace.json    which commit it was made from, and in which boot of the machine
    ROOT/7/fresh/NAME        exports for verification, made anew each time
    ROOT/7/notes/NAME.json   what the job's steps have found out, so that they find it again

A workspace is built under another name and renamed, so one that is there is whole. After a power cut the contents of
its files are unknown: one from an earlier boot is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from regrow import files, process
from regrow.errors import ProcessFailed, Refused
from regrow.git import Repository

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_REMOVE_S = 300.0
FIRST = "workspace"
"""The name of a job's workspace that is made from what the job begins with."""
_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Workspace:
    """The files of a job: where they are, the full id of the commit they started from, the job's number."""

    path: Path
    commit: str
    job: int


class Workspaces:
    """The workspaces of one service.

    Args:
        root: their directory, this user's alone; created when missing. The only writer is this process.
        repository: where the commits are.
    """

    def __init__(self, root: Path, repository: Repository) -> None:
        self.root = Path(os.path.realpath(root))
        self.repository = repository

    async def make(self, job: int, commit: str, name: str = FIRST) -> Workspace:
        """A workspace of a job, made from a commit; the one of an earlier call when that is whole.

        Args:
            job: the job's number.
            commit: any name of a commit.
            name: which of the job's: lower-case letters, digits, "-" and "_".

        Raises:
            NotFound: kind "no_such_commit".
            Refused: kind "workspace_taken", when the job has one of another commit.
        """
        if not _NAME.fullmatch(name) or name in ("fresh", "notes"):
            raise Refused(f"cannot name a workspace {name[:40]!r}: use a-z, 0-9, - and _", kind="bad_name")
        commit = await self.repository.resolve(commit)
        found = await asyncio.to_thread(self._find, job, name)
        if found is not None:
            if found.commit == commit:
                return found
            raise Refused(
                f"cannot make the workspace of job {job} from {commit[:10]}: it has one of {found.commit[:10]}; "
                "discard that first",
                kind="workspace_taken",
            )
        home = await asyncio.to_thread(self._home, job)
        # A leftover was left half-made, or before the machine's last start.
        await _remove(home / name)
        record = json.dumps({"commit": commit, "boot": _boot()}).encode()
        await asyncio.to_thread(files.write_atomic, home / f"{name}.json", record)
        await self._build(commit, home / name)
        return Workspace(home / name, commit, job)

    async def anew(self, job: int, commit: str, name: str = FIRST) -> Workspace:
        """A workspace as the commit has it, whatever was done in the one of that name."""
        await _remove(self.root / str(job) / name)
        return await self.make(job, commit, name)

    async def note(self, job: int, name: str) -> Path:
        """Where a job keeps what it has found out; deleted with its workspaces, and written with `write_atomic`."""
        home = await asyncio.to_thread(self._home, job)
        return await asyncio.to_thread(files.private_directory, home / "notes") / f"{name}.json"

    async def fresh(self, job: int, name: str, commit_or_tree: str) -> Path:
        """An export of its own, made anew even if there is one of that name.

        Args:
            job: the job's number.
            name: lower-case letters, digits, "-" and "_".
            commit_or_tree: what to export.
        """
        if not _NAME.fullmatch(name):
            raise Refused(f"cannot name an export {name[:40]!r}: use a-z, 0-9, - and _", kind="bad_name")
        home = await asyncio.to_thread(self._home, job)
        path = home / "fresh" / name
        await _remove(path)
        await self._build(commit_or_tree, path)
        return path

    async def drop(self, path: Path) -> None:
        """Delete one export of `fresh`.

        Raises:
            Refused: kind "not_ours", for any other path.
        """
        if path.parent.name != "fresh" or path.parent.parent.parent != self.root:
            raise Refused(f"cannot delete {path}: it is no export of these workspaces", kind="not_ours")
        await _remove(path)

    async def discard(self, job: int) -> None:
        """Delete all files of a job; nothing happens when there are none."""
        await _remove(self.root / str(job))

    async def list(self) -> tuple[Workspace, ...]:
        """The finished workspaces, by job number."""
        jobs = await asyncio.to_thread(self._jobs)
        found = [await asyncio.to_thread(self._find, job, FIRST) for job in jobs]
        return tuple(workspace for workspace in found if workspace is not None)

    async def prune(self, keep: Iterable[int]) -> tuple[int, ...]:
        """Delete the files of all jobs but those of `keep`, and leftovers of interrupted deletions.

        Returns:
            The jobs whose files were deleted.
        """
        kept = set(keep)
        gone = tuple(job for job in await asyncio.to_thread(self._jobs) if job not in kept)
        for job in gone:
            await self.discard(job)
        for leftover in await asyncio.to_thread(lambda: [*self.root.glob(".gone-*"), *self.root.glob("*/.gone-*")]):
            await _delete(leftover)
        return gone

    def job_of(self, path: Path) -> int:
        """The number of the job that a workspace belongs to.

        Raises:
            Refused: kind "not_ours".
        """
        if path.parent.parent != self.root or not path.parent.name.isdecimal():
            raise Refused(f"cannot use {path}: it is no workspace of {self.root}", kind="not_ours")
        return int(path.parent.name)

    async def of(self, path: Path) -> Workspace:
        """The workspace at a path.

        Raises:
            Refused: kind "not_ours".
        """
        found = await asyncio.to_thread(self._find, self.job_of(path), path.name)
        if found is None or found.path != path:
            raise Refused(f"cannot use {path}: it is no finished workspace; make it first", kind="not_ours")
        return found

    def _home(self, job: int) -> Path:
        files.private_directory(self.root)
        home = files.private_directory(self.root / str(job))
        files.private_directory(home / "fresh")
        return home

    def _jobs(self) -> tuple[int, ...]:
        if not self.root.is_dir():
            return ()
        return tuple(sorted(int(path.name) for path in self.root.iterdir() if path.name.isdecimal()))

    def _find(self, job: int, name: str) -> Workspace | None:
        path = self.root / str(job) / name
        if not path.is_dir():
            return None
        try:
            record = json.loads(path.with_name(f"{name}.json").read_bytes())
            commit, boot = str(record["commit"]), str(record["boot"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Workspace(path, commit, job) if boot == _boot() else None

    async def _build(self, commit_or_tree: str, path: Path) -> None:
        building = path.with_name(f".building-{path.name}")
        await _remove(building)
        await asyncio.to_thread(building.mkdir, 0o700)
        await self.repository.export(commit_or_tree, building)
        await asyncio.to_thread(building.rename, path)


def _boot() -> str:
    return _BOOT.read_text().strip()


async def _remove(path: Path) -> None:
    """Take `path` away at once by renaming it, then delete it."""
    gone = path.with_name(f".gone-{secrets.token_hex(8)}")
    try:
        await asyncio.to_thread(path.rename, gone)
    except FileNotFoundError:
        return
    await _delete(gone)


async def _delete(path: Path) -> None:
    # Programs and not Python: an agent can nest directories deeper than a recursion goes, and take rights away.
    await process.run(("chmod", "-R", "u+rwX", "--", str(path)), timeout_s=_REMOVE_S, env=_ENV)
    done = await process.run(("rm", "-rf", "--one-file-system", "--", str(path)), timeout_s=_REMOVE_S, env=_ENV)
    with contextlib.suppress(ProcessFailed):  # what is left is out of the way, and the next prune tries again
        done.check("delete the files of a job")
