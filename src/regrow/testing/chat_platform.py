"""A toy chat platform for bots that hold a connection to it: JSON lines over TCP, one event to one random connection.

    bot       {"connect": "who"}                      platform  {"welcome": "who"}
    platform  {"event": "e1", "text": "carry ..."}    bot       {"ack": "e1"}
    bot       {"bye": "who"}                          platform  {"bye": "who"}      nothing comes after it
    bot       {"answer": "e1", "text": "...", "key": "e1"}      {"taken": "e1"}     on a connection of its own

It is as unkind as the field: an event that comes while nobody is connected is lost, unless it `keeps` them. It is as
kind as the field, too: an event that was not acknowledged when its connection broke is handed to another one, and an
answer whose key was used before is taken and not shown again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(eq=False)
class Line:
    """One bot's connection, and what it was given and has not acknowledged."""

    who: str
    writer: asyncio.StreamWriter
    unacknowledged: dict[str, str] = field(default_factory=dict)


class ChatPlatform:
    """The platform and its ledger.

    Args:
        keeps: hold an event while nobody is connected, as a mailbox does; otherwise it is lost.

    Attributes:
        lines: who is connected now.
        said: events by id, with their text.
        shown: the answers that people see, by event.
        unheard: events that came, or came back, while nobody was connected, and were not kept.
        repeats: answers whose key had been used before.
        most_lines: how many were connected at once, at most.
    """

    def __init__(self, keeps: bool = False) -> None:
        self.keeps = keeps
        self.lines: list[Line] = []
        self.said: dict[str, str] = {}
        self.shown: dict[str, list[str]] = {}
        self.unheard: list[str] = []
        self.repeats = 0
        self.most_lines = 0
        self.port = 0
        self._kept: dict[str, str] = {}
        self._keys: set[str] = set()
        self._numbers = itertools.count(1)
        self._random = random.Random(7)  # noqa: S311  the same run twice is worth more than a surprise
        self._offline_since: float | None = None
        self._offline = 0.0
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ChatPlatform:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    # What people do and see

    def say(self, text: str) -> str:
        """Somebody writes; the event goes to one connection. Returns its id."""
        event = f"e{next(self._numbers)}"
        self.said[event] = text
        self._hand(event, text)
        return event

    @property
    def lost(self) -> list[str]:
        """Events that nobody has answered."""
        return [event for event in self.said if not self.shown.get(event)]

    @property
    def doubled(self) -> list[str]:
        """Events whose answer people saw more than once."""
        return [event for event, answers in self.shown.items() if len(answers) > 1]

    @property
    def offline_s(self) -> float:
        """Seconds since the first connection in which nobody was connected."""
        since = self._offline_since
        return self._offline + (time.monotonic() - since if since is not None else 0.0)

    async def connected(self, *who: str, seconds: float = 30.0) -> None:
        """Wait until exactly these are connected, by the first word of their names; fails after `seconds`."""

        def names() -> list[str]:
            return sorted(line.who.partition(" ")[0] for line in self.lines)

        try:
            await self._until(lambda: names() == sorted(who), seconds)
        except TimeoutError:
            raise AssertionError(f"connected are {names()}, not {list(who)}") from None

    async def quiet(self, seconds: float) -> None:
        """Wait until every event that reached somebody is answered, for so long at the most."""
        with contextlib.suppress(TimeoutError):
            await self._until(lambda: set(self.lost) <= set(self.unheard), seconds)

    async def _until(self, true: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    # The connections

    def _hand(self, event: str, text: str) -> None:
        if not self.lines:
            if self.keeps:
                self._kept[event] = text
            else:
                self.unheard.append(event)
                self._changed.set()
            return
        line = self._random.choice(self.lines)
        line.unacknowledged[event] = text
        self._send(line.writer, {"event": event, "text": text})

    @staticmethod
    def _send(writer: asyncio.StreamWriter, message: Json) -> None:
        writer.write(json.dumps(message).encode() + b"\n")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        line: Line | None = None
        try:
            while text := await reader.readline():
                message = json.loads(text)
                if "connect" in message:
                    line = Line(message["connect"], writer)
                    self._send(writer, {"welcome": line.who})
                    self._join(line)
                elif "ack" in message and line is not None:
                    line.unacknowledged.pop(message["ack"], None)
                elif "bye" in message and line is not None:
                    self._leave(line)
                    self._send(writer, {"bye": line.who})
                elif "answer" in message:
                    self._show(message)
                    self._send(writer, {"taken": message["answer"]})
        except (OSError, ValueError):
            pass
        finally:
            self._serving.discard(task)
            if line is not None:
                self._leave(line)
                for event, waiting in line.unacknowledged.items():
                    self._hand(event, waiting)
            writer.close()

    def _join(self, line: Line) -> None:
        if self._offline_since is not None:
            self._offline += time.monotonic() - self._offline_since
            self._offline_since = None
        self.lines.append(line)
        self.most_lines = max(self.most_lines, len(self.lines))
        self._changed.set()
        kept, self._kept = self._kept, {}
        for event, text in kept.items():
            self._hand(event, text)

    def _leave(self, line: Line) -> None:
        if line in self.lines:
            self.lines.remove(line)
            self._changed.set()
            if not self.lines:
                self._offline_since = time.monotonic()

    def _show(self, message: Json) -> None:
        if message.get("key") in self._keys:
            self.repeats += 1
            return
        self._keys.add(message.get("key") or f"none-{len(self._keys)}")
        self.shown.setdefault(message["answer"], []).append(message["text"])
        self._changed.set()
