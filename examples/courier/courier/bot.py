"""The bot: one connection, many errands at once."""

import asyncio
import contextlib
import json
from typing import Any

from courier.claims import Claims
from courier.words import Words

_AGAIN_S = 0.2
_LOOK_S = 0.25
_BYE_S = 1.0


def duration(text: str) -> float:
    """Seconds that an errand takes: "carry 1.5 a letter" takes one and a half."""
    words = text.split()
    with contextlib.suppress(ValueError, IndexError):
        return min(float(words[1]), 60.0) if words[0] == "carry" else 0.0
    return 0.0


def answer(text: str) -> str:
    """What is said when it is done."""
    words = text.split(maxsplit=2)
    return f"carried {words[2]}" if words[:1] == ["carry"] and len(words) == 3 else "say: carry SECONDS THING"


class Courier:
    """Takes events from the platform, claims them, acknowledges them, and answers when the errand is done.

    Args:
        host, port: of the platform.
        claims: the table that outlives the process.
        words: orders and reports.
    """

    def __init__(self, host: str, port: int, claims: Claims, words: Words) -> None:
        self._address = (host, port)
        self._claims, self._words = claims, words
        self._errands: set[asyncio.Task[None]] = set()
        self._line: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._gone = asyncio.Event()

    async def run(self) -> None:
        """Obey until told to exit, and until all that was taken is done."""
        if self._words.starts_paused:
            self._words.say(READY="1", X_STATE="armed")
        else:
            self._words.orders.put_nowait("connect")
        while (order := await self._words.orders.get()) != "exit":
            if order == "hangup":
                await self._hang_up()
                self._say_how_far()
            elif self._line is None:
                self._line = asyncio.create_task(self._stay_connected())
            elif self._writer is not None:
                self._words.say(X_STATE="connected")
        self._words.say(STOPPING="1")
        await self._hang_up()
        self._say_how_far()
        await asyncio.gather(*self._errands)

    def _say_how_far(self) -> None:
        self._words.say(X_STATE="draining" if self._errands else "drained")

    # The connection

    async def _stay_connected(self) -> None:
        while True:
            with contextlib.suppress(OSError, ValueError):
                await self._listen()
            await asyncio.sleep(_AGAIN_S)

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            await _send(writer, {"connect": self._claims.me})
            while text := await reader.readline():
                message = json.loads(text)
                if "welcome" in message:
                    self._gone.clear()
                    self._writer = writer
                    self._words.say(READY="1", X_STATE="connected")
                    adopting = asyncio.create_task(self._adopt())
                elif "event" in message:
                    if self._claims.take(message["event"], message["text"]):
                        self._begin(message["event"], message["text"])
                    await _send(writer, {"ack": message["event"]})
                elif "bye" in message:
                    return
        finally:
            if self._writer is writer:
                self._writer = None
                adopting.cancel()
            self._gone.set()
            writer.close()

    async def _hang_up(self) -> None:
        """Take nothing more. The platform's own `bye` comes after the last event that it gave us."""
        if self._line is None:
            return
        if self._writer is not None:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_BYE_S):
                    await _send(self._writer, {"bye": self._claims.me})
                    await self._gone.wait()
        self._line.cancel()
        await asyncio.gather(self._line, return_exceptions=True)
        self._line = None

    async def _adopt(self) -> None:
        """While connected, finish what the dead have begun."""
        while True:
            for event, text in self._claims.adopt():
                self._begin(event, text)
            await asyncio.sleep(_LOOK_S)

    # The errands

    def _begin(self, event: str, text: str) -> None:
        errand = asyncio.create_task(self._carry(event, text))
        self._errands.add(errand)
        errand.add_done_callback(self._ended)

    def _ended(self, errand: asyncio.Task[None]) -> None:
        self._errands.discard(errand)
        if not self._errands and self._line is None:
            self._words.say(X_STATE="drained")

    async def _carry(self, event: str, text: str) -> None:
        await asyncio.sleep(duration(text))
        while True:
            try:
                await self._tell({"answer": event, "text": answer(text), "key": event})
                break
            except (OSError, ValueError):
                await asyncio.sleep(_AGAIN_S)
        self._claims.done(event)

    async def _tell(self, message: dict[str, Any]) -> None:
        """Answers have a connection of their own, so they go out after the bot has hung up as well."""
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            await _send(writer, message)
            json.loads(await reader.readline())
        finally:
            writer.close()


async def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()
