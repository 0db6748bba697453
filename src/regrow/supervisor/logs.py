"""Logs: a service writes straight into its file, and full parts are taken away from the file's head while it writes.

The supervisor is never between a service and its log. The head of the file, up to the end of a line, is copied to
LOG.1 and made durable; then exactly those bytes are freed (a hole), and the hole is cut out where the file system can.
What the service appends meanwhile lies behind them and is touched by none of it: the kernel does each of these calls,
and each append, under the lock of the file. A kill at any instant leaves every line in LOG or in LOG.1.

Nothing is looked at while nothing is written: the kernel tells of the first write after a silence (inotify, one shot),
and while the file grows a timer looks again.
"""

import contextlib
import ctypes
import errno
import os
import struct
import time
from collections.abc import Callable

from .loop import Loop, Timer

KEPT_TAIL = 64 * 1024  # stays in the file, for whoever reads or follows its end
_PIECE = 1024 * 1024  # copied in one turn of the loop
_LONGEST_LINE = 64 * 1024
_LONGEST_READ = 4096  # of one line, for a pattern
# A log that grows is looked at this often, in seconds: the sooner, the sooner it will be full.
_SOONEST_S, _LATEST_S, _BLIND_S = 0.5, 5.0, 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_KEEP_SIZE, _PUNCH_HOLE, _COLLAPSE_RANGE = 1, 2, 8
_IN_MODIFY, _IN_ONESHOT = 0x2, 0x80000000
_EVENT = struct.Struct("iIII")


class Logs:
    """The logs in use, by path.

    Args:
        loop: of the supervisor.
        moved: called with a path and by how many bytes everything in that file has moved towards its start.
        tell: called with a path and, in words, why lines could not be kept.
    """

    def __init__(self, loop: Loop, moved: Callable[[str, int], None], tell: Callable[[str, str], None]) -> None:
        self.loop, self.moved, self.tell = loop, moved, tell
        self._logs: dict[str, Log] = {}
        self._alarms: dict[int, Log] = {}
        self._inotify = -1

    def use(self, path: str, limit: int, keep: int, fresh: bool) -> None:
        """Keep the log at `path` below about `limit` bytes, beside `keep` older parts of as many, until `leave`.

        Args:
            path, limit, keep: see above.
            fresh: a process is about to be started, so that a log without other users is written by nobody.

        Raises OSError: its directory cannot be made.
        """
        log = self._logs.get(path)
        if log is None:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
            log = self._logs[path] = Log(self, path)
            log.limit, log.keep = max(limit, 1), keep
            log.begin(fresh)
        log.users += 1

    def leave(self, path: str) -> None:
        """One process less writes to it."""
        log = self._logs.get(path)
        if log is not None:
            log.users -= 1
            if log.users <= 0:
                log.end()
                self._alarms = {number: other for number, other in self._alarms.items() if other is not log}
                del self._logs[path]

    def call_at_next_write(self, log: "Log") -> bool:
        """Call `log.stirred` when it is written to; False where the kernel cannot tell."""
        libc = ctypes.CDLL(None, use_errno=True)
        if self._inotify < 0:
            self._inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._inotify < 0:
                return False
            self.loop.watch(self._inotify, self._written)
        number = libc.inotify_add_watch(self._inotify, os.fsencode(log.path), ctypes.c_uint32(_IN_MODIFY | _IN_ONESHOT))
        if number >= 0:
            self._alarms[number] = log
        return bool(number >= 0)

    def _written(self) -> None:
        data = os.read(self._inotify, 4096)
        while len(data) >= _EVENT.size:
            number, mask, _, length = _EVENT.unpack_from(data)
            data = data[_EVENT.size + length :]
            if mask & _IN_MODIFY and (log := self._alarms.pop(number, None)) is not None:
                log.stirred()


class Log:
    """One file that processes append to."""

    def __init__(self, logs: Logs, path: str) -> None:
        self._logs, self.path = logs, path
        self.limit, self.keep, self.users = 1, 0, 0
        self._timer: Timer | None = None
        self._looked, self._size = 0.0, 0  # when, and how large it was
        self._files: list[int] = []  # while a part is copied: the log itself and the copy
        self._unable = False  # the file system cannot free the head of a file

    def begin(self, fresh: bool) -> None:
        """Somebody writes to it, or is about to; what a killed supervisor left half done is finished first."""
        with contextlib.suppress(OSError):
            directory, name = os.path.split(self.path)
            for other in os.listdir(directory):  # noqa: PTH208
                kind, _, end = other.removeprefix(f"{name}.").partition("-")
                if kind == "copying":
                    os.unlink(os.path.join(directory, other))  # noqa: PTH108, PTH118
                elif kind == "copied" and end.isdigit():
                    with open(self.path, "r+b") as live:  # noqa: PTH123
                        self._take_away(live.fileno(), int(end))
        if fresh and size(self.path) > self.limit:
            with contextlib.suppress(OSError):  # nobody writes to it: it goes as a whole, hole and all
                self._shift(self.path)
        self._look_in(_SOONEST_S)

    def end(self) -> None:
        """Nobody writes to it any more."""
        self._cancel()
        self._close()

    # When to look

    def stirred(self) -> None:
        """It has been written to after a silence."""
        self._looked, self._size = time.monotonic(), size(self.path)
        self._look_in(_SOONEST_S)

    def _look_in(self, seconds: float) -> None:
        self._cancel()
        self._timer = self._logs.loop.after(seconds, self._look)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now, before = time.monotonic(), self._size
        self._size = size(self.path)
        left = self.limit + KEPT_TAIL - (self._size - first_byte(self.path))
        if left < 0 and not self._unable:
            self._rotate()
        elif self._size != before:
            full_in = left * (now - self._looked) / max(self._size - before, 1)
            self._look_in(min(max(full_in / 2, _SOONEST_S), _LATEST_S))
        elif not self._logs.call_at_next_write(self):
            self._look_in(_BLIND_S)
        elif size(self.path) != self._size:  # between the look and the alarm
            self._look_in(_SOONEST_S)
        self._looked = now

    # Taking the head away

    def _rotate(self) -> None:
        try:
            live = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            self._files = [live]
            end = os.fstat(live).st_size - KEPT_TAIL
            # What would be deleted as too old as soon as it was copied is not copied first.
            start = max(first_byte(self.path), _line_before(live, end - self.limit * self.keep))
            end = _line_before(live, min(end, start + self.limit))
            if end > start:
                self._files.append(os.open(f"{self.path}.copying", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        except OSError as error:
            self._failed(error)
        else:
            self._copy(start, end)

    def _copy(self, at: int, end: int) -> None:
        """A piece a turn of the loop, which must not wait for a slow disk."""
        try:
            live = self._files[0]
            if at < end:
                at += os.sendfile(self._files[1], live, at, min(_PIECE, end - at))
                os.fdatasync(self._files[1])
                self._timer = self._logs.loop.after(0, lambda: self._copy(at, end))
                return
            if len(self._files) > 1:
                os.rename(f"{self.path}.copying", f"{self.path}.copied-{end}")  # noqa: PTH104
            self._take_away(live, end)
        except OSError as error:
            self._failed(error)
        else:
            self._close()
            self._look_in(0)

    def _take_away(self, live: int, end: int) -> None:
        """Free the bytes before `end`, of which there is a copy. Doing it twice does no harm before the copy has got
        its last name; after that nothing depends on whether the hole was cut out."""
        copied = f"{self.path}.copied-{end}"
        try:
            _fallocate(live, _PUNCH_HOLE | _KEEP_SIZE, 0, end)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(copied)  # noqa: PTH108 - nothing was freed
            raise
        block = os.fstatvfs(live).f_bsize
        rest = end % block
        if rest:
            os.pwrite(live, b" " * (rest - 1) + b"\n", end - rest)  # an empty line, where zeros would disturb readers
        if os.path.exists(copied):  # noqa: PTH110
            self._shift(copied)
        with contextlib.suppress(OSError):  # ext4 and xfs can; elsewhere the file only looks large
            _fallocate(live, _COLLAPSE_RANGE, 0, end - rest)
            self._size -= end - rest
            self._logs.moved(self.path, end - rest)

    def _shift(self, newest: str) -> None:
        """Make `newest` the first of the older parts; the last one makes room."""
        numbers = range(1, self.keep)
        free = next((number for number in numbers if not os.path.exists(f"{self.path}.{number}")), self.keep)  # noqa: PTH110
        for number in range(free, 1, -1):
            os.rename(f"{self.path}.{number - 1}", f"{self.path}.{number}")  # noqa: PTH104
        if self.keep:
            os.rename(newest, f"{self.path}.1")  # noqa: PTH104
        else:
            os.unlink(newest)  # noqa: PTH108

    def _failed(self, error: OSError) -> None:
        """Make room on a full disk, the oldest part first and then the head itself (F14); else say so, once."""
        live = self._files[0] if self._files else None
        with contextlib.suppress(OSError):
            os.unlink(f"{self.path}.copying")  # noqa: PTH108
        again = False
        if error.errno in _FULL and live is not None:
            older = [f"{self.path}.{number}" for number in range(self.keep, 0, -1)]
            oldest = next((path for path in older if os.path.exists(path)), None)  # noqa: PTH110
            with contextlib.suppress(OSError):
                if oldest is not None:
                    os.unlink(oldest)  # noqa: PTH108
                else:
                    self._take_away(live, _line_before(live, os.fstat(live).st_size - KEPT_TAIL))
                again = True
            self._logs.tell(self.path, "the disk is full: the oldest part of the log was deleted")
        else:
            self._unable = True
            self._logs.tell(self.path, f"cannot rotate the log before the next start: {os.strerror(error.errno or 0)}")
        self._close()
        self._look_in(0 if again else _BLIND_S)

    def _close(self) -> None:
        for fd in self._files:
            os.close(fd)
        self._files = []


class Reading:
    """What a log gains, line by line.

    Attributes:
        at: bytes of the file that have been read.
        behind: there is more than one reading takes.
        found: for the probe that reads: what it waits for has appeared.
    """

    def __init__(self, path: str, at: int, found: bool = False) -> None:
        self.path, self.at, self.found = path, at, found
        self.behind = False

    def lines(self) -> list[str]:
        """The whole lines since the last time, a bounded number of bytes of them."""
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123
                end = os.fstat(file.fileno()).st_size
                self.at = max(min(self.at, end), first_byte(self.path))
                file.seek(self.at)
                data = file.read(_PIECE)
        except OSError:
            return []
        whole = data.rfind(b"\n") + 1 or (len(data) if len(data) == _PIECE else 0)
        self.at += whole
        self.behind = len(data) == _PIECE
        return [line[:_LONGEST_READ].decode("utf-8", "replace") for line in data[:whole].splitlines()]


def opened(path: str) -> int:
    """Open a log for a process to append to. On a full disk it writes nowhere rather than that it is not started (F14).

    Raises OSError for other reasons.
    """
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def size(path: str) -> int:
    """How long a log looks, in bytes; 0 if it is not there."""
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return 0


def first_byte(path: str) -> int:
    """Where the text of a log begins: behind what was taken away, where its hole could not be cut out."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return os.lseek(file.fileno(), 0, os.SEEK_DATA)
    except OSError as error:
        return size(path) if error.errno == errno.ENXIO else 0


def _line_before(live: int, at: int) -> int:
    """The end of the last line that ends at `at` or before; `at` itself within a line longer than all reason."""
    start = max(at - _LONGEST_LINE, 0)
    found = os.pread(live, max(at - start, 0), start).rfind(b"\n")
    return start + found + 1 if found >= 0 else max(at, 0)


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if length and ctypes.CDLL(None, use_errno=True).fallocate(
        fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)
    ):  # fmt: skip
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
