"""Chats that Regrow itself hosts: the console's page and the terminal. The store is their platform.

A message has an id the moment it is stored, so sending here is exactly once: the outbox's key is unique.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import sqlalchemy as sa

from regrow.api import types
from regrow.channels.base import Address, Content, Health, Incoming, Outgoing, Receive
from regrow.clock import Clock, SystemClock
from regrow.errors import NotFound
from regrow.events import Events
from regrow.store import Store, messages

AUTHOR = "regrow"


class HostedChannel:
    """A channel named `web` or `terminal`."""

    def __init__(self, name: str, store: Store, events: Events, clock: Clock | None = None) -> None:
        self.name = name
        self._store = store
        self._events = events
        self._clock = clock or SystemClock()
        self._receive: Receive | None = None
        self._newest = 0.0
        self._open = asyncio.Event()

    async def run(self, receive: Receive) -> None:
        """Be open until cancelled; people speak through `say`."""
        self._receive = receive
        self._open.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._open.clear()
            self._receive = None

    def health(self) -> Health:
        """Open or not; there is no network in between."""
        return Health(self._open.is_set(), "" if self._open.is_set() else "closed")

    async def say(self, chat: str, text: str, key: str, sender: str, name: str) -> types.Message:
        """Take what a person said.

        Args:
            chat: which chat.
            text: their words.
            key: the same for a repeated call; "" when each call is a message.
            sender: the person's id.
            name: what people call them.

        Returns:
            The message as stored; by then it is in the inbox, durably.
        """
        async with asyncio.timeout(10):
            await self._open.wait()
        assert self._receive is not None
        number, at = await self._insert(
            chat, author=name, mine=True, text=text, key=f"{self.name}:{chat}:said:{key}" if key else ""
        )
        # After a crash between the two the sender's retry comes by here again, and the inbox knows the id. Nothing is
        # waited for in between, so that what was stored first is taken first.
        await self._receive(
            Incoming(
                address=Address(self.name, chat, str(number)), sender=sender, sender_name=name, text=text, created_at=at
            )
        )
        return await self.get(number)

    async def send(self, message: Outgoing) -> str:
        """Show a message; repeating it changes nothing."""
        number, _ = await self._insert(
            message.address.chat,
            author=AUTHOR,
            mine=False,
            text="",
            key=message.key,
            content=message.content,
            job=message.job,
        )
        return str(number)

    async def edit(self, platform_id: str, message: Outgoing) -> None:
        """Show other content in the same message."""
        content = message.content
        values = {"text": content.text, "buttons": _buttons(content), "bar": content.bar}
        where = messages.c.id == int(platform_id)
        changed = {**values, "revision": messages.c.revision + 1}
        await self._store.transact(lambda c: c.execute(messages.update().where(where).values(**changed)))
        self._events.touch(("chat", self.name, message.address.chat))

    async def after(self, chat: str, number: int, limit: int = 500) -> list[types.Message]:
        """Messages of a chat with a higher id, oldest first; the newest `limit` when there are more."""
        query = sa.select(messages).where(
            messages.c.channel == self.name, messages.c.chat == chat, messages.c.id > number
        )
        rows = await self._store.rows(query.order_by(messages.c.id.desc()).limit(limit))
        return [_message(row) for row in reversed(rows)]

    async def get(self, number: int) -> types.Message:
        """One message.

        Raises:
            NotFound: kind "no_such_message".
        """
        row = await self._store.row(sa.select(messages).where(messages.c.channel == self.name, messages.c.id == number))
        if row is None:
            raise NotFound(f"cannot find message {number}", kind="no_such_message")
        return _message(row)

    async def _insert(
        self,
        chat: str,
        *,
        author: str,
        mine: bool,
        text: str,
        key: str,
        content: Content | None = None,
        job: int | None = None,
    ) -> tuple[int, float]:
        """Store a message, once for a key; its id and its time."""
        # The order of a chat is that of its times, also when the machine's clock is put back; and no two are the same.
        now = self._newest = max(self._newest + 0.001, self._clock.now())

        def insert(connection: sa.Connection) -> tuple[int, float]:
            if key:
                known = connection.execute(sa.select(messages.c.id, messages.c.at).where(messages.c.key == key)).first()
                if known is not None:
                    return known.id, known.at
            values: dict[str, Any] = {
                "channel": self.name,
                "chat": chat,
                "author": author,
                "mine": mine,
                "text": content.text if content else text,
                "at": now,
                "revision": 0,
                "job": job,
                "buttons": _buttons(content) if content else [],
                "bar": content.bar if content else None,
                "key": key or secrets.token_hex(16),
            }
            made = connection.execute(messages.insert().values(**values)).inserted_primary_key
            assert made is not None
            return int(made[0]), now

        stored = await self._store.transact(insert)
        self._events.touch(("chat", self.name, chat))
        return stored


def _buttons(content: Content) -> list[dict[str, Any]]:
    return [vars(choice) for choice in content.choices]


def _message(row: dict[str, Any]) -> types.Message:
    buttons = [types.Button(**button) for button in row["buttons"]]
    return types.Message(**{k: v for k, v in row.items() if k not in {"key", "buttons"}}, buttons=buttons)
