"""Which files of a tree read as empty in a box that could carry their contents away: an agent's, whose words go to a
model, and a build's that has a way out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

from regrow.gate import SECRET_FILES
from regrow.git import Repository

INDEX = "agent-index"
"""The index of a git directory that was made for an agent; other ones have an index that is somebody's."""
_COMMITS = 500
"""How much of the history an agent sees."""
# What is masked for its name and may lie in a history all the same: patterns to copy from, and what is public.
_WITHOUT_SECRETS = (".env.example", ".env.sample", ".env.template", ".env.dist", "regrow.toml")


def secret_files(tree: Path) -> tuple[Path, ...]:
    """The files of a tree that hold secrets by convention, at any depth and in any case; of a link with such a name,
    what it leads to, when that is in the tree.

    Args:
        tree: a real path. Nothing is followed out of it, and a tree deeper than a path is long is left out there.
    """
    secret = GitIgnoreSpec.from_lines(pattern.lower() for pattern in SECRET_FILES)
    found: dict[Path, None] = {}
    for entry in _below(tree):
        if not secret.match_file(os.path.relpath(entry.path, tree).lower()):
            continue
        real = Path(os.path.realpath(entry.path))
        if tree in real.parents and real.is_file():
            found[real] = None
    return tuple(found)


async def shown_git(repository: Repository, commit: str, tree: Path, values: Iterable[str], directory: Path) -> Path:
    """Make the git directory that an agent sees. The repository's own is not shown: what is masked in the tree could be
    read out of its objects, those too that no branch leads to any more.

    It holds the history of the commit that the agent's tree was made from. Where a file of a secret's name was ever in
    that history, or a known value is anywhere in it, it holds that one commit alone, without its past, with those files
    empty that are empty in the box.

    Args:
        repository: the service's.
        commit: full id.
        tree: an export of it.
        values: known secrets, in every form.
        directory: where to make it; what is there is taken as it is.
    """
    if await asyncio.to_thread(directory.exists):
        return directory
    with tempfile.TemporaryDirectory(prefix=".building-git-", dir=directory.parent) as name:
        made = Path(name) / "whole"
        await asyncio.to_thread(made.mkdir)
        await repository.copy_history(commit, made, most=_COMMITS)
        shown = Repository(made)
        if await shown.ever_held(SECRET_FILES, _WITHOUT_SECRETS) or await shown.holds(values):
            made = Path(name) / "alone"
            await asyncio.to_thread(made.mkdir)
            emptied = [path.relative_to(tree).as_posix() for path in await asyncio.to_thread(secret_files, tree)]
            await repository.copy_tree(commit, made, emptied)
            shown = Repository(made)
        await shown.index("HEAD", made / INDEX)
        await asyncio.to_thread(_for_others, made)
        with contextlib.suppress(OSError):  # another attempt of the same job was first
            await asyncio.to_thread(made.rename, directory)
    return directory


def _for_others(directory: Path) -> None:
    """The user of the box is none that the daemon's umask thinks of."""
    directory.chmod(0o755)
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o444)


def _below(root: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a directory but directories; a loop and not a recursion, which a deep tree would break."""
    waiting = [str(root)]
    while waiting:
        try:
            entries = sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                yield entry
