"""The end of a log that grows, and whose head is taken away while it is read (see `supervisor/logs.py`)."""

from __future__ import annotations

import os
from pathlib import Path

_MARK = 256


def end_of(path: Path, size: int) -> str:
    """The last `size` bytes of a log as text, without the hole in front of them; "" if there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - size, 0))
            return file.read(size).lstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""


class Follower:
    """Reads what is added to a log. It remembers the last bytes that it gave, and finds its place by them after
    everything has moved.

    Args:
        path: of the log.
        from_end: begin with what comes next, and not with what is there.
        place: go on from the `place` of an earlier one instead, whatever has happened to the file since.
    """

    def __init__(self, path: Path, *, from_end: bool, place: tuple[int, bytes] | None = None) -> None:
        self.path = path
        self._at, self._mark = place or (0, b"")
        if from_end and place is None:
            self.read(whole=False)

    @property
    def place(self) -> tuple[int, bytes]:
        """Where it is, and the bytes before that, by which the place is found again."""
        return self._at, self._mark

    def skip(self, keep: int) -> int:
        """Leave out what is more than `keep` bytes before the end; returns how many bytes that are."""
        try:
            with self.path.open("rb") as file:
                end = os.fstat(file.fileno()).st_size
                self._find_place(file.fileno(), end)
                if end - self._at <= keep:
                    return 0
                at = end - keep
                around = os.pread(file.fileno(), _MARK + keep, max(at - _MARK, 0))
        except OSError:
            return 0
        before = at - max(at - _MARK, 0)
        line = around.find(b"\n", before)
        after = line + 1 if line >= 0 else before  # the next whole line
        skipped = at - before + after - self._at
        self._at += skipped
        self._mark = around[max(after - _MARK, 0) : after]
        return skipped

    def read(self, size: int = 256 * 1024, *, whole: bool = True) -> str:
        """The next whole lines, at most about `size` bytes of them.

        Args:
            size: see above.
            whole: False: go to the end, and give nothing.
        """
        try:
            with self.path.open("rb") as file:
                end = os.fstat(file.fileno()).st_size
                if not whole:
                    self._at = end
                else:
                    self._find_place(file.fileno(), end)
                start = max(self._at - _MARK, 0)
                before = os.pread(file.fileno(), self._at - start, start)
                chunk = os.pread(file.fileno(), size, self._at) if whole else b""
        except OSError:
            return ""
        lines = chunk[: chunk.rfind(b"\n") + 1] or (chunk if len(chunk) == size else b"")
        self._at += len(lines)
        self._mark = (before + lines)[-_MARK:]
        return lines.lstrip(b"\0").decode(errors="replace")

    def _find_place(self, fd: int, end: int) -> None:
        start = self._at - len(self._mark)
        if self._at <= end and os.pread(fd, len(self._mark), start) == self._mark:
            return
        # What was given last is farther to the front by now, or gone with the head: then all that is left is new.
        left = os.pread(fd, self._at, 0)
        found = left.rfind(self._mark) if self._mark else -1
        self._at = found + len(self._mark) if found >= 0 else 0
