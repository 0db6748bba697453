"""What a survey reads of a repository: files of one commit, through git, bounded in number and size."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from regrow.git import EXECUTABLE, REGULAR, Repository
from regrow.surveys.base import Tree

_MANIFESTS = frozenset(
    (
        *("pyproject.toml", "requirements.txt", "setup.py", "setup.cfg", "manage.py", "package.json", "go.mod"),
        *("Cargo.toml", "Procfile", "Dockerfile", "Containerfile", "Makefile", "makefile", "GNUmakefile"),
    )
)
_SOURCE = re.compile(r"\.(py|js|mjs|cjs|ts|mts|go|rs|service)$|(^|/)\.(flask)?env[\w.-]*$")
_DEEPEST = 6
_FILES = 600
_FILE_BYTES = 256 * 1024
_ALL_BYTES = 8 * 1024 * 1024


async def read(repository: Repository, commit: str) -> Tree:
    """The tree of a commit: every path, and the texts of manifests and of sources, the least deep first.

    Args:
        repository: any; its working directory is not looked at.
        commit: full id.

    Returns:
        At most 600 texts of at most 256 KiB, 8 MiB together; links and submodules are left out.
    """
    entries = {
        path: entry for path, entry in (await repository.entries(commit)).items() if entry.mode in (REGULAR, EXECUTABLE)
    }
    wanted, room = dict[str, str](), _ALL_BYTES
    for path in sorted(entries, key=lambda path: (PurePosixPath(path).name not in _MANIFESTS, path.count("/"), path)):
        size = entries[path].size
        named = PurePosixPath(path).name in _MANIFESTS or _SOURCE.search(path)
        if named and path.count("/") < _DEEPEST and size <= min(_FILE_BYTES, room) and len(wanted) < _FILES:
            wanted[path] = entries[path].id
            room -= size
    texts = await repository.blobs(list(wanted.values()))
    return Tree(
        {path: entry.size for path, entry in entries.items()}, {path: texts[one] for path, one in wanted.items()}
    )
