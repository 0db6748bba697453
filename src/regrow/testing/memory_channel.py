"""A channel without a platform: people speak by `say`, and what they would see is in `shown`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from regrow.channels.base import Address, Content, Health, Incoming, Outgoing, Receive
from regrow.errors import RegrowError


class MemoryChannel:
    """A `regrow.channels.base.Channel` that can edit, and that knows idempotency keys as a good platform does.

    Args:
        name: the channel's name.
        honours_keys: whether a key that was sent before gives the message that it gave then; else people see it twice.

    Attributes:
        keys: the key of every send that reached the platform, repeated ones too.
        edits: platform id and content of every edit that reached it.
        shown: what people see, by platform id, in the order in which it appeared.
        refused: how many sends and edits were refused.
    """

    def __init__(self, name: str = "memory", *, honours_keys: bool = True) -> None:
        self.name = name
        self.keys: list[str] = []
        self.edits: list[tuple[str, Content]] = []
        self.shown: dict[str, Outgoing] = {}
        self.refused = 0
        self._honours_keys = honours_keys
        self._refuse = 0
        self._error: Callable[[], Exception] = _not_connected
        self._receive: Receive | None = None
        self._changed = asyncio.Event()

    def refuse(self, times: int, error: Callable[[], Exception] | None = None) -> None:
        """Take nothing for the next `times` sends or edits; 0: take everything again.

        Args:
            times: how many.
            error: makes what is raised; a RegrowError unless given.
        """
        self._refuse = times
        self._error = error or _not_connected

    async def run(self, receive: Receive) -> None:
        """Hear until cancelled."""
        self._receive = receive
        self._changed.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._receive = None

    def health(self) -> Health:
        """Whether it is heard and would take a message."""
        if self._receive is None:
            return Health(False, "closed")
        return Health(not self._refuse, "not connected" if self._refuse else "")

    async def say(
        self,
        text: str,
        *,
        message: str,
        chat: str = "main",
        sender: str = "u1",
        name: str = "Ada",
        at: float = 0.0,
        addressed: bool = True,
    ) -> bool:
        """Deliver what a person said; `message` is the platform's id of it, the same for a redelivery.

        Returns:
            Whether it was new.
        """
        assert self._receive is not None, "the channel is run first"
        return await self._receive(Incoming(Address(self.name, chat, message), sender, name, text, at, addressed))

    async def send(self, message: Outgoing) -> str:
        """Show a message."""
        self._take()
        self.keys.append(message.key)
        known = next((number for number, one in self.shown.items() if one.key == message.key), None)
        number = known if known is not None and self._honours_keys else f"m{len(self.shown) + 1}"
        self.shown.setdefault(number, message)
        self._changed.set()
        return number

    async def edit(self, platform_id: str, message: Outgoing) -> None:
        """Show other content in a message that was sent."""
        self._take()
        self.edits.append((platform_id, message.content))
        self.shown[platform_id] = replace(self.shown[platform_id], content=message.content)
        self._changed.set()

    def texts(self, chat: str = "") -> list[str]:
        """What people read now, in one chat or in all."""
        return [one.content.text for one in self.shown.values() if chat in {"", one.address.chat}]

    async def until(self, true: Callable[[], bool], within_s: float = 10.0) -> None:
        """Wait for something to become true by what the channel took or refused.

        Raises:
            TimeoutError: it did not within `within_s` seconds.
        """
        async with asyncio.timeout(within_s):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    def _take(self) -> None:
        if self._refuse:
            self._refuse -= 1
            self.refused += 1
            self._changed.set()
            raise self._error()


def _not_connected() -> Exception:
    return RegrowError("cannot send: the platform is not connected; it is tried again", kind="not_connected")
