"""Follows the log of the release that serves, for errors that come more often than before.

The place in the log is kept with what was counted, so a killed daemon goes on where it was; lines that were printed
while it was away are spread over that time. Reading is bounded in bytes a second, and what a flood prints beyond that
is left out: what matters of a flood is that it is one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from regrow.care import Care
from regrow.clock import Clock, SystemClock
from regrow.errors import RegrowError
from regrow.events import Events
from regrow.fingerprints import decisive
from regrow.incidents import PATTERNS, Incidents, Seen, cleaned
from regrow.log_errors import ALL, Block, Blocks, Rates
from regrow.pool import in_thread
from regrow.tail import Follower

log = structlog.get_logger("log_watch")

_LOOK_S = 1.0
_ASK_S = 30.0
_SAVE_S = 2.0
_SAVE_LATEST_S = 60.0
_PIECE = 256 * 1024
_PIECES = 2
"""A look: at most so many pieces, half a megabyte a second, which costs some milliseconds."""
_BEHIND = 4 * 1024**2
_KEEP = 1024**2
_PLACES = 10


@dataclass
class _Found:
    """Errors of one kind since the last time they were written down."""

    block: Block
    count: int
    at: float


class LogWatch:
    """Watches one service's log.

    Args:
        care: the service.
        incidents: get what was found.
        events: say when another release may serve.
    """

    def __init__(self, care: Care, incidents: Incidents, events: Events, clock: Clock | None = None) -> None:
        settings = care.config.incidents
        self._care = care
        self._incidents = incidents
        self._events = events
        self._clock = clock or SystemClock()
        self._blocks = Blocks(settings.patterns if settings.patterns else PATTERNS)
        self._rates = Rates(settings.window, settings.baseline, settings.least, settings.factor)
        self._follower: Follower | None = None
        self._release = ""
        self._places: dict[str, list[Any]] = {}
        self._looked_at = 0.0
        self._size = -1
        self._found: dict[str, _Found] = {}
        self._dirty = False
        self._saved = time.monotonic() - _SAVE_S

    async def run(self) -> None:
        """Watch until cancelled."""
        state = await self._incidents.watched(self._care.name)
        self._looked_at = self._clock.now()
        if state is not None:
            self._rates.restore(state["rates"])
            self._places, self._looked_at = dict(state["places"]), float(state["looked_at"])
        asked = 0.0
        with self._events.watch(("service", self._care.name)) as watch:
            while True:
                if not asked or time.monotonic() - asked >= _ASK_S or await watch.changed(0):
                    # What runs already when a log is watched for the first time has a past that nobody asks about.
                    await self._find_log(first=state is None and not asked)
                    asked = time.monotonic()
                await self.look()
                await self._clock.sleep(_LOOK_S)

    async def _find_log(self, *, first: bool) -> None:
        try:
            active = (await self._care.service.status()).active
        except (RegrowError, OSError):
            return
        if active is None or active.release == self._release:
            return
        if self._follower is not None:
            await self.look()  # what the one before has said last
            self._keep_place()
        self._release, path = active.release, self._care.release_log(active.release)
        self._follower, self._size = await in_thread(_follower, path, first, self._places.get(active.release)), -1

    def _keep_place(self) -> None:
        if self._follower is not None:
            at, mark = self._follower.place
            self._places.pop(self._release, None)
            self._places[self._release] = [at, mark.hex()]
            for old in list(self._places)[:-_PLACES]:
                del self._places[old]

    async def look(self) -> None:
        """Read what is new, count it, and write down what has to be known for ever."""
        now = self._clock.now()
        self._rates.watched(min(now, self._looked_at))
        if self._follower is not None:
            size = _size(self._follower.path)
            if size != self._size:
                self._size = size
                await self._read(self._follower, now)
            else:
                self._count(self._blocks.flush(), now)
        self._looked_at = now
        await self._save(now)

    async def _read(self, follower: Follower, now: float) -> None:
        began, place = self._looked_at, follower.place[0]
        if skipped := await in_thread(follower.skip, _BEHIND if self._size - place <= _BEHIND else _KEEP):
            log.warning(
                "a log grows faster than it is read", action="log_skipped", service=self._care.name, bytes=skipped
            )
        start = follower.place[0]
        for _ in range(_PIECES):
            text = await in_thread(follower.read, _PIECE)
            if not text:
                break
            blocks = await in_thread(self._blocks.feed, text.splitlines())
            self._dirty = True
            # What was printed while nobody looked was printed all along, and not at once.
            part = (follower.place[0] - start) / max(self._size - start, 1)
            self._count(blocks, now if now - began < 2 * _LOOK_S else began + (now - began) * min(max(part, 0.0), 1.0))
        if follower.place[0] < self._size and text:
            self._size = -1  # there is more: look again next time

    def _count(self, blocks: list[Block], at: float) -> None:
        for block in blocks:
            self._dirty = True
            self._rates.count(block.key, at)
            found = self._found.setdefault(block.key, _Found(block, 0, at))
            found.block, found.count, found.at = block, found.count + 1, max(found.at, at)

    async def _save(self, now: float) -> None:
        due = time.monotonic() - self._saved >= _SAVE_S
        late = time.monotonic() - self._saved >= _SAVE_LATEST_S
        if not due or not (self._dirty or late):
            return
        jumped = [key for key in self._found if self._rates.jumped(key, now)]
        if not jumped and self._found and self._rates.jumped(ALL, now):
            # None of them alone: the one that comes most often stands for all.
            jumped = [max(self._found, key=lambda key: self._rates.recent(key, now))]
        self._saved, self._dirty = time.monotonic(), False
        self._keep_place()
        seen = [self._seen(key, one, key in jumped, now) for key, one in self._found.items()]
        self._found = {}
        state = {"places": self._places, "looked_at": self._looked_at, "rates": self._rates.to_json()}
        await self._incidents.count(self._care.name, seen, state)

    def _seen(self, key: str, one: _Found, jumped: bool, now: float) -> Seen:
        lines = cleaned(self._care, one.block.lines)
        return Seen(
            kind="errors",
            signature=self._care.redactor.redact(one.block.signature),
            cause=cleaned(self._care, [decisive(one.block.lines)])[0],
            at=one.at,
            release=self._release,
            lines=lines,
            count=one.count,
            pending=jumped,
            before=max(self._rates.recent(key, now) - one.count, 0),
        )


def _follower(path: Path, first: bool, place: list[Any] | None) -> Follower:
    """Where it was read before, it goes on; the very first log of all is followed from its end."""
    known = None if place is None else (int(place[0]), bytes.fromhex(place[1]))
    return Follower(path, from_end=first, place=known)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
