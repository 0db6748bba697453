"""Events that come in several frames: collected as bytes, joined once complete, forgotten when the rest never comes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import structlog

from regrow.channels.feishu.frames import Frame
from regrow.clock import Clock

log = structlog.get_logger("feishu")

_KEEP_S = 10.0  # after the latest part; the official clients keep them 5 to 20 s
_MOST_EVENTS = 64
_MOST_PARTS = 1024
_MOST_BYTES = 16 * 1024**2


@dataclass
class _Event:
    total: int
    latest: float
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(map(len, self.parts.values()))


class Parts:
    """What has come of events that are not complete yet. Time, number and bytes are bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: OrderedDict[str, _Event] = OrderedDict()

    def __len__(self) -> int:
        return len(self._events)

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(event.size for event in self._events.values())

    def add(self, frame: Frame) -> bytes | None:
        """Take one data frame.

        Returns:
            The whole payload when this frame completes it, else None. A part may end inside a character, so the bytes
            are joined before anyone decodes them. A frame with impossible figures is logged and dropped.
        """
        self._forget()
        key = frame.header("message_id")
        total, index = _number(frame.header("sum") or "1"), _number(frame.header("seq") or "0")
        if total is None or index is None or not 0 < total <= _MOST_PARTS or not index < total:
            log.warning("a part with impossible figures", action="feishu_bad_part", message=key)
            return None
        payload = frame.payload or b""
        if total == 1:
            self._events.pop(key, None)
            return payload
        event = self._events.get(key)
        if event is None:
            event = self._events[key] = _Event(total, 0.0)
        elif event.total != total:
            log.warning("a part of another number of parts", action="feishu_bad_part", message=key)
            return None
        event.parts[index] = payload
        event.latest = self._clock.monotonic()
        self._events.move_to_end(key)
        if len(event.parts) == total:
            del self._events[key]
            return b"".join(event.parts[number] for number in range(total))
        while len(self._events) > _MOST_EVENTS or self.size > _MOST_BYTES:
            self._drop(next(iter(self._events)))
        return None

    def _forget(self) -> None:
        before = self._clock.monotonic() - _KEEP_S
        for key in [key for key, event in self._events.items() if event.latest < before]:
            self._drop(key)

    def _drop(self, key: str) -> None:
        event = self._events.pop(key)
        log.warning("an event never came whole", action="feishu_parts_lost", message=key, parts=len(event.parts))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
