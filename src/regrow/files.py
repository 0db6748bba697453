"""Files on disk: atomic writes, kernel locks, sizes. Nothing here knows what the files mean."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regrow.errors import Refused


def sync_directory(path: Path) -> None:
    """Make renames and creations inside `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `content` so that a reader, or a crash, sees the old bytes or the new ones.

    Args:
        path: the file; its directory must exist.
        content: all of the new bytes.
        mode: permission bits of the new file.
    """
    # Of this process and this thread: two threads that write one file at once leave one of the two texts, whole.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_like(path: Path, content: bytes, like: os.stat_result) -> None:
    """As `write_atomic`, with another file's mode, and where this is root with its owner: what root edits still belongs
    to whom it belonged (F15)."""
    write_atomic(path, content, stat.S_IMODE(like.st_mode))
    if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
        os.chown(path, like.st_uid, like.st_gid)


def sync_tree(root: Path) -> None:
    """Make every file and directory below `root` durable (a release must survive a power cut, F10)."""
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                sync_file(path)
        sync_directory(Path(directory))


def private_directory(path: Path) -> Path:
    """Create `path` (and its parents) for this user alone and return it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def remove_tree(path: Path) -> None:
    """Delete `path` and everything below it, also where directories were made read-only."""

    def make_writable(directory: str) -> None:
        Path(directory).chmod(0o700)  # before the walk, which does not see into what may not be read
        for root, names, _ in os.walk(directory):
            for name in (os.path.join(root, n) for n in names):  # noqa: PTH118  os.walk gives str
                if not os.path.islink(name):  # noqa: PTH114
                    Path(name).chmod(0o700)

    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        make_writable(str(path))
        shutil.rmtree(path)


def tree_bytes(root: Path) -> int:
    """Bytes of all regular files below `root`."""
    return sum(p.lstat().st_size for p in root.rglob("*") if p.is_file() and not p.is_symlink())


def free_bytes(path: Path) -> int:
    """Bytes an ordinary user can still write on the file system that holds `path`."""
    return shutil.disk_usage(path).free


@contextmanager
def exclusive_lock(path: Path, holder: str) -> Iterator[None]:
    """Hold the kernel lock on `path`; it ends with the process, however that ends (F42).

    Args:
        path: the lock file; created when missing.
        holder: what holds it, for the message to the second comer.

    Raises:
        Refused: kind "locked", when another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise Refused(
                f"cannot start a second {holder}: process {owner} holds {path.parent}; stop it first",
                kind="locked",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
