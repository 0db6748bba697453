"""Everything that happened on the platform, in order: what a test asserts on."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIMIT = 200_000


@dataclass(frozen=True)
class Entry:
    """One thing that happened.

    Args:
        kind: `http`, `frame`, `bad_frame`, `connection`, `message`, `delivery`, `click` or `note`.
        at: seconds since 1970 by the platform's clock.
        what: the facts; never a secret, a token or the query of an address.
    """

    kind: str
    at: float
    what: dict[str, Any]


class Journal:
    """An append-only record that can be waited on. It keeps the newest `LIMIT` entries; counts are of all."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.entries: deque[Entry] = deque(maxlen=LIMIT)
        self.counts: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def record(self, kind: str, /, **what: Any) -> Entry:
        """Append an entry and wake everyone who waits."""
        entry = Entry(kind, self._now(), what)
        self.entries.append(entry)
        self.counts[kind] += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return entry

    def of(self, kind: str, /, **facts: Any) -> list[Entry]:
        """The entries of a kind whose facts are those given."""
        return [
            entry
            for entry in self.entries
            if entry.kind == kind and all(entry.what.get(key) == value for key, value in facts.items())
        ]

    async def wait(self, found: Callable[[], Any], *, timeout: float = 10.0, for_what: str = "") -> Any:
        """Wait until `found()` is true after something happened; the result is its value.

        Args:
            found: asked now and after every entry.
            timeout: seconds of real time.
            for_what: words for the error.

        Raises:
            TimeoutError: it did not come true; the text ends with the newest entries.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            changed = self._changed
            if value := found():
                return value
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                newest = "\n".join(f"  {entry.kind} {entry.what}" for entry in list(self.entries)[-12:])
                raise TimeoutError(
                    f"cannot see {for_what or 'what was waited for'} within {timeout} s; newest:\n{newest}"
                ) from None

    @property
    def bad_frames(self) -> list[Entry]:
        """Frames and acknowledgements that are not as the protocol says."""
        return self.of("bad_frame")

    @property
    def unknown_paths(self) -> list[str]:
        """`METHOD path` of calls that the platform does not have."""
        return [entry.what["call"] for entry in self.of("http", unknown=True)]

    @property
    def api_errors(self) -> list[Entry]:
        """Calls that were answered with a code other than 0 without a test having asked for it."""
        return [
            entry
            for entry in self.of("http")
            if entry.what["code"] != 0 and not entry.what.get("injected") and not entry.what.get("unknown")
        ]

    @property
    def silent_connections(self) -> list[str]:
        """Names of connections over which no ping ever came."""
        opened = [entry.what["connection"] for entry in self.of("connection", did="opened")]
        pinged = {entry.what["connection"] for entry in self.of("frame", did="ping")}
        return [name for name in opened if name not in pinged]

    def verify(self, *, allow_codes: frozenset[int] = frozenset()) -> None:
        """Say what must hold at the end of every conversation: no bad frames, no unknown paths, no API errors, and at
        least one ping per connection.

        Args:
            allow_codes: codes of API errors that the test expects.

        Raises:
            AssertionError: with one line for each thing that does not hold.
        """
        wrong = [f"bad frame: {entry.what}" for entry in self.bad_frames]
        wrong += [f"unknown path: {call}" for call in self.unknown_paths]
        wrong += [f"API error: {entry.what}" for entry in self.api_errors if entry.what["code"] not in allow_codes]
        wrong += [f"no ping: {name}" for name in self.silent_connections]
        if wrong:
            raise AssertionError("\n".join(wrong))
