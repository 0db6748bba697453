"""Which files of a tree read as empty in a box that could carry their contents away: an agent's, whose words go to a
model, and a build's that has a way out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pathspec import GitIgnoreSpec

from regrow.gate import SECRET_FILES
from regrow.git import Repository

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


async def shown_git(repository: Repository) -> Path:
    """The git directory that an agent may see: the repository's, or one that is not there when a secret file was ever
    committed, since what is masked in the tree could be read out of the objects."""
    if await repository.ever_held(SECRET_FILES, _WITHOUT_SECRETS):
        return repository.git_dir / "not-shown"
    return repository.git_dir


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
