"""Server-sent events, cut out of a stream of bytes (the HTML standard, section 9.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator

# An empty line ends an event. No form is the beginning of another, so where the stream was cut changes nothing.
_END = re.compile(rb"\n\r?\n|\r\r")
_LINE = re.compile(rb"\r\n|\n|\r")
LARGEST = 8 * 1024 * 1024
"""Bytes of one event; no upstream sends one of more."""


class TooLarge(Exception):
    """An event that does not end."""


class Events:
    """Collects the bytes of a stream and gives its events, whole.

    However the bytes are cut on their way, the events are the same, and together they are all of the bytes.
    """

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, part: bytes) -> Iterator[bytes]:
        """The events that are complete now, each with its end.

        Raises:
            TooLarge: one that is not has grown beyond `LARGEST`.
        """
        at = max(0, len(self._held) - 2)  # the longest end has three bytes
        self._held += part
        begin = 0
        while (end := _END.search(self._held, at)) is not None:
            yield bytes(self._held[begin : end.end()])
            begin = at = end.end()
        del self._held[:begin]
        if len(self._held) > LARGEST:
            raise TooLarge

    def close(self) -> bytes:
        """What came after the last complete event."""
        rest, self._held = bytes(self._held), bytearray()
        return rest


def data(event: bytes) -> str:
    """The data of an event; "" where it has none, as a comment has. Bytes that are no UTF-8 are replaced."""
    lines = [line[5:].removeprefix(b" ") for line in _LINE.split(event) if line.startswith(b"data:")]
    return b"\n".join(lines).decode("utf-8", "replace")


def event(name: str, text: str) -> bytes:
    """An event; without a name where it is ""."""
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()
