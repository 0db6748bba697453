"""Files below a directory, opened for an agent by the daemon: never through a symbolic link, never anything but a file.

Each part of a path is opened in the one before it with O_NOFOLLOW. So whatever the agent makes of its tree meanwhile,
what is opened lies below the directory; a look at the real path before the open could be overtaken.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from regrow.errors import Refused

_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read(root: str, path: str, *, longest: int) -> bytes:
    """The content of the file `path` of `root`.

    Args:
        root: real path of a directory.
        path: relative to it.
        longest: bytes; a longer file is refused.

    Raises:
        Refused: kind "agent_path".
    """
    with _opened(root, path, make=False) as (directory, name):
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
        except OSError as error:
            raise _refusal("read", path, error) from error
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or status.st_size > longest:
                raise Refused(f"cannot read {path}: it is no file, or too long; read another", kind="agent_path")
            content = b""
            while len(content) < longest and (chunk := os.read(file, longest - len(content))):
                content += chunk
            return content
        finally:
            os.close(file)


def write(root: str, path: str, content: bytes) -> None:
    """Give the file `path` of `root` this content, with its directories; what is there keeps its permissions.

    Raises:
        Refused: kind "agent_path".
    """
    with _opened(root, path, make=True) as (directory, name):
        mode = 0o644
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISREG(there.st_mode):
                raise Refused(f"cannot write {path}: it is no file; write another", kind="agent_path")
            mode = stat.S_IMODE(there.st_mode) & 0o777
        beside = f".regrow-{secrets.token_hex(8)}"
        try:
            file = os.open(
                beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
            )
            try:
                with os.fdopen(file, "wb") as opened:
                    opened.write(content)
                    owner = os.fstat(directory)
                    if os.geteuid() == 0:  # the agent may be another user, and goes on with the file
                        os.fchown(opened.fileno(), owner.st_uid, owner.st_gid)
                    os.fchmod(opened.fileno(), mode)
                os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(beside, dir_fd=directory)
                raise
        except OSError as error:
            raise _refusal("write", path, error) from error


@contextmanager
def _opened(root: str, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
    """The directory that the file is in, and its name there."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise Refused(f"cannot use {path[:200]!r}: it is no path of the workspace; name one", kind="agent_path")
    try:
        at = os.open(root, _DIRECTORY)
    except OSError as error:
        raise _refusal("open", root, error) from error
    try:
        for part in parts[:-1]:
            try:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=at)
                below = os.open(part, _DIRECTORY, dir_fd=at)
            except OSError as error:
                raise _refusal("open", path, error) from error
            os.close(at)
            at = below
        yield at, parts[-1]
    finally:
        os.close(at)


def _refusal(doing: str, path: str, error: OSError) -> Refused:
    return Refused(f"cannot {doing} {path[:200]}: {error.strerror}; use a file of the workspace", kind="agent_path")
