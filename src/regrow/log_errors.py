"""Errors in a log: what belongs together as one, and when there are suddenly more of them than before.

Nothing here reads a file. What is kept is bounded: a flood of lines, of ever new errors or of one error without end
costs no more memory than a quiet log.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regrow.fingerprints import signature

LONGEST_LINE = 1000
_HEAD, _TAIL = 20, 40
_SIGNATURES = 200
_PARTS = 10
ALL = "*"
"""Stands for errors of every kind together."""

# Lines that go on with what began before, wherever they stand.
_GOES_ON = re.compile(
    r"\s|Caused by: |goroutine \d|created by |exit status |note: |stack backtrace"
    r"|\.\.\. \d+ more|Require stack|Emitted |[}\])]"
)
_CHAINED = re.compile(
    r"During handling of the above exception|The above exception was the direct cause|Traceback \(most recent"
)
_TRACEBACK = re.compile(r"[ |+-]*(?:Exception Group )?Traceback \(most recent call last\):")
_PANIC = re.compile(r"thread '.*' .*panicked at .*:$")


@dataclass(frozen=True)
class Block:
    """Lines that tell of one error.

    Attributes:
        lines: the first ones and the last ones, when there are very many.
        signature: what it is known by.
        key: a short name for that.
    """

    lines: tuple[str, ...]
    signature: str

    @property
    def key(self) -> str:
        return hashlib.sha256(self.signature.encode()).hexdigest()[:16]


class Blocks:
    """Holds the lines of one error together.

    Args:
        patterns: regular expressions; a line in which one is found begins an error.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._begins = [re.compile(pattern) for pattern in patterns]
        self._open: list[str] = []
        self._in_trace = False
        self._blank = False

    def feed(self, lines: Iterable[str]) -> list[Block]:
        """Take the next lines; returns the errors that are whole by now."""
        whole = list[Block]()
        for one in lines:
            line = one[:LONGEST_LINE].rstrip()
            if self._open and self._belongs(line):
                self._add(line)
                continue
            whole += self.flush()
            if any(pattern.search(line) for pattern in self._begins):
                self._open, self._in_trace, self._blank = [line], bool(_TRACEBACK.match(line)), False
        return whole

    def flush(self) -> list[Block]:
        """The error that nothing more belongs to: nothing was printed for a while."""
        lines = self._open
        self._open = []
        while lines and not lines[-1]:
            lines.pop()
        return [Block(tuple(lines), signature(lines))] if lines else []

    def _add(self, line: str) -> None:
        self._open.append(line)
        if len(self._open) > _HEAD + _TAIL:
            del self._open[_HEAD]

    def _belongs(self, line: str) -> bool:
        if not line:
            self._blank = True
            return True
        blank, self._blank = self._blank, False
        if _TRACEBACK.match(line):
            # Of what was logged a line before, or of what was raised while the first was handled.
            follows = not blank or bool(_CHAINED.match(next((one for one in reversed(self._open) if one), "")))
            self._in_trace = self._in_trace or follows
            return follows
        if self._in_trace:
            self._in_trace = line.startswith((" ", "|", "\t"))
            return True
        if blank:
            return bool(_CHAINED.match(line) or line.startswith(("goroutine ", "stack backtrace")))
        return bool(_GOES_ON.match(line)) or (len(self._open) == 1 and bool(_PANIC.match(self._open[0])))


class Rates:
    """How often each error was printed, in parts of the window; says which came more often than before.

    Args:
        window_s: seconds that count as "now".
        baseline_s: seconds before that, with which now is compared.
        least: fewer errors in a window are never a jump.
        factor: how many times as many as before are one.
    """

    def __init__(self, window_s: float, baseline_s: float, least: int, factor: float) -> None:
        self._window_s, self._baseline_s, self._least, self._factor = window_s, baseline_s, least, factor
        self._part_s = max(window_s / _PARTS, 1e-3)
        self._counts: OrderedDict[str, dict[int, int]] = OrderedDict()
        self._began: float | None = None

    def watched(self, now: float) -> None:
        """The log is looked at, whether something is in it or not: the time before is known from here on."""
        self._began = now if self._began is None else min(self._began, now)

    def count(self, key: str, at: float, number: int = 1) -> None:
        """Errors of one kind were printed at a time (seconds since 1970)."""
        self.watched(at)
        part = math.floor(at / self._part_s)
        oldest = part - math.ceil((self._window_s + self._baseline_s) / self._part_s)
        for name in (key, ALL):
            parts = self._counts.setdefault(name, {})
            self._counts.move_to_end(name)
            parts[part] = parts.get(part, 0) + number
            if len(parts) > _PARTS and min(parts) < oldest:
                self._counts[name] = {one: n for one, n in parts.items() if one >= oldest}
        while len(self._counts) > _SIGNATURES:
            self._counts.popitem(last=False)

    def recent(self, key: str, now: float) -> int:
        """How many in the window."""
        first = math.floor((now - self._window_s) / self._part_s) + 1
        return sum(number for part, number in self._counts.get(key, {}).items() if part >= first)

    def expected(self, key: str, now: float) -> float:
        """How many there would be in the window, were it as before; 0 where there is no time before."""
        first = math.floor((now - self._window_s) / self._part_s) + 1
        known_s = min(self._baseline_s, now - self._window_s - (now if self._began is None else self._began))
        if known_s < self._window_s:
            return 0.0
        oldest = math.floor((now - self._window_s - known_s) / self._part_s)
        before = sum(number for part, number in self._counts.get(key, {}).items() if oldest <= part < first)
        return before * self._window_s / known_s

    def jumped(self, key: str, now: float) -> bool:
        """Whether an error comes far more often than before."""
        recent = self.recent(key, now)
        return recent >= self._least and recent > self._factor * self.expected(key, now)

    def to_json(self) -> dict[str, Any]:
        """What another life goes on from."""
        counts = {name: {str(part): n for part, n in parts.items()} for name, parts in self._counts.items()}
        return {"began": self._began, "part_s": self._part_s, "counts": counts}

    def restore(self, value: Mapping[str, Any]) -> None:
        """Go on; what was counted with another window is forgotten."""
        if value.get("part_s") != self._part_s:
            return
        self._began = value["began"]
        for name, parts in value["counts"].items():
            self._counts[name] = {int(part): int(number) for part, number in parts.items()}
