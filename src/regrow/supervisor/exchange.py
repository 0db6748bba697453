"""Data that changes hands with the code (F21): the program that moves it, while nothing of the service runs.

    python -I -S exchange.py set_aside|bring_back JSON

JSON: `files`, the databases by their real paths; `aside`, the directory that gets what is there now; `put`, a directory
with what is to be there instead, or null. `set_aside` fills `aside`, and puts. `bring_back` takes it all back and keeps
what it finds in `aside` + LEFT; where nothing was set aside there is nothing to do.

Either may be killed at any instant and run again: a directory has its name only once it is complete, a database is
replaced by a rename, and the write-ahead log of other data never lies beside it (F22). Only the copy for `aside` costs
time and space: everything else are hard links, so the way back needs neither.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import sys
from typing import Any

Json = dict[str, Any]
LOGS = ("-wal", "-journal")  # what a database of nobody consists of beside its file; -shm is made anew
STALE = (*LOGS, "-shm")
LEFT = ".left"
UNFINISHED = ".unfinished"
_CHUNK = 1 << 30


def set_aside(exchange: Json) -> None:
    """Keep the data as it is, and put the other in its place if there is one."""
    # What is replaced by other files may be linked; what the new code goes on writing must be copied.
    _save(exchange["files"], exchange["aside"], copy=exchange["put"] is None)
    if exchange["put"] is not None:
        _put(exchange["put"], exchange["files"])


def bring_back(exchange: Json) -> None:
    """Put what was set aside in its place again, and keep what was there meanwhile."""
    if os.path.exists(exchange["aside"]):  # noqa: PTH110
        _save(exchange["files"], exchange["aside"] + LEFT, copy=False)
        _put(exchange["aside"], exchange["files"])
        # From here on these are the service's own files again: once more would take away what it writes now.
        over = exchange["aside"] + UNFINISHED
        shutil.rmtree(over, ignore_errors=True)
        os.rename(exchange["aside"], over)  # noqa: PTH104
        _sync(os.path.dirname(over))  # noqa: PTH120
        shutil.rmtree(over, ignore_errors=True)


def _save(files: list[str], directory: str, copy: bool) -> None:
    if os.path.exists(directory):  # noqa: PTH110
        return
    unfinished = directory + UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    os.makedirs(unfinished, mode=0o700)  # noqa: PTH103
    for path in files:
        for source in (path, *(path + end for end in LOGS)):
            with contextlib.suppress(FileNotFoundError):
                _make(source, os.path.join(unfinished, os.path.basename(source)), copy)  # noqa: PTH118, PTH119
    _sync(unfinished)
    os.rename(unfinished, directory)  # noqa: PTH104
    _sync(os.path.dirname(directory))  # noqa: PTH120


def _put(directory: str, files: list[str]) -> None:
    for path in files:
        source = os.path.join(directory, os.path.basename(path))  # noqa: PTH118, PTH119
        for end in STALE:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + end)  # noqa: PTH108
        for end in (*LOGS, ""):  # the database last: until then it is the other one, whole
            if os.path.exists(source + end):  # noqa: PTH110
                _replace(source + end, path + end)
            elif not end:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108 - there was no such database then
        _sync(os.path.dirname(path))  # noqa: PTH120


def _replace(source: str, path: str) -> None:
    temporary = path + ".regrow"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # noqa: PTH108
    _make(source, temporary, copy=False)
    with contextlib.suppress(FileNotFoundError):
        before = os.stat(path)  # noqa: PTH116 - whoever could read and write it still can (F15)
        os.chmod(temporary, before.st_mode & 0o7777)  # noqa: PTH101
        if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(temporary, before.st_uid, before.st_gid)
    os.rename(temporary, path)  # noqa: PTH104


def _make(source: str, target: str, copy: bool) -> None:
    """A second name for a file where that will do and can be had, otherwise a copy; durable."""
    if not copy:
        try:
            os.link(source, target)
            return
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
    with open(source, "rb") as reading, open(target, "xb") as writing:  # noqa: PTH123
        try:
            while os.copy_file_range(reading.fileno(), writing.fileno(), _CHUNK):  # shares blocks where it can
                pass
        except OSError:
            for file in (reading, writing):
                file.seek(0)
            shutil.copyfileobj(reading, writing, 1 << 20)
        about = os.fstat(reading.fileno())
        os.fchmod(writing.fileno(), about.st_mode & 0o7777)
        if (about.st_uid, about.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(writing.fileno(), about.st_uid, about.st_gid)
        writing.flush()
        os.fsync(writing.fileno())


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def main(words: list[str]) -> int:
    """Do it; 1 with one line on standard output when it cannot be done."""
    what, exchange = words[0], json.loads(words[1])
    parent = os.path.dirname(exchange["aside"])  # noqa: PTH120
    lock_path, create = exchange["aside"] + ".lock", 0
    try:
        if what == "set_aside":
            os.makedirs(parent, mode=0o700, exist_ok=True)  # noqa: PTH103
            create = os.O_CREAT
        try:
            lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC | create, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            if what == "bring_back":  # nobody came as far as setting anything aside: the disk may be full
                return 0
            raise
        fcntl.flock(lock, fcntl.LOCK_EX)  # one that a killed supervisor has left behind finishes first (F42)
        {"set_aside": set_aside, "bring_back": bring_back}[what](exchange)
    except OSError as error:
        sys.stdout.write(f"cannot move the data: {error.strerror or error}: {error.filename or parent}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
