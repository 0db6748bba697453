"""Messages received: on disk before they are acknowledged, handled once, however often delivered (F5, F33, F34)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import sqlalchemy as sa
import structlog

from regrow.channels.base import Address, Incoming
from regrow.clock import Clock, SystemClock
from regrow.events import Events
from regrow.store import Store, inbox

log = structlog.get_logger("inbox")

_LOOK_AGAIN_S = 30.0
_HANDLE_S = 120.0  # handling begins a job and does not wait for it


def fingerprint(message: Incoming) -> str:
    """What makes a message the same one under a new id: chat, sender, the platform's time and the text (F34)."""
    parts = (message.address.chat, message.sender, f"{message.created_at:.3f}", message.text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Inbox:
    """The queue between channels and conversations."""

    def __init__(self, store: Store, events: Events, clock: Clock | None = None) -> None:
        self._store = store
        self._events = events
        self._clock = clock or SystemClock()

    async def take(self, message: Incoming) -> bool:
        """Make a message durable.

        Returns:
            Whether it is new. A known message id, or the same message under a new id, is not. What people say to one
            another is not kept.
        """
        if not message.addressed:
            return False
        values = {
            "channel": message.address.channel,
            "message": message.address.message,
            "chat": message.address.chat,
            "sender": message.sender,
            "sender_name": message.sender_name,
            "text": message.text,
            "fingerprint": fingerprint(message),
            "created_at": message.created_at,
            "received_at": self._clock.now(),
        }

        def insert(connection: sa.Connection) -> bool:
            same = sa.or_(
                inbox.c.message == values["message"],
                inbox.c.fingerprint == values["fingerprint"],
            )
            known = sa.select(inbox.c.id).where(inbox.c.channel == values["channel"], same)
            if connection.execute(known).first() is not None:
                return False
            connection.execute(inbox.insert().values(**values))
            return True

        new = await self._store.transact(insert)
        if new:
            self._events.touch("inbox")
        return new

    async def newest(self, channel: str) -> dict[str, float]:
        """The chats of a channel ever heard of, each with the time of its newest message in seconds since 1970."""
        query = sa.select(inbox.c.chat, sa.func.max(inbox.c.created_at).label("newest")).group_by(inbox.c.chat)
        rows = await self._store.rows(query.where(inbox.c.channel == channel))
        return {row["chat"]: row["newest"] for row in rows}

    async def run(self, handle: Callable[[Incoming], Awaitable[None]]) -> None:
        """Hand every message to `handle`, in order per chat, until cancelled; one chat does not wait for another.

        A message that breaks its handling, or hangs in it, is set aside with its reason and does not stop the others
        (F33).
        """
        busy: set[tuple[str, str]] = set()

        def free(chat: tuple[str, str]) -> None:
            busy.discard(chat)
            self._events.touch("inbox")  # for what came meanwhile

        async with asyncio.TaskGroup() as group:
            async for _ in self._events.ticks("inbox", at_least_every_s=_LOOK_AGAIN_S):
                # As it is before the look: what ends during it may have handled what the look still shows.
                held = set(busy)
                waiting = sa.select(inbox).where(inbox.c.handled_at.is_(None)).order_by(inbox.c.id)
                chats: dict[tuple[str, str], list[dict[str, object]]] = {}
                for row in await self._store.rows(waiting):
                    chats.setdefault((row["channel"], row["chat"]), []).append(row)
                for chat, rows in chats.items():
                    if chat in held:
                        continue
                    busy.add(chat)
                    task = group.create_task(self._handle(rows, handle))
                    task.add_done_callback(lambda _, chat=chat: free(chat))  # type: ignore[misc]

    async def _handle(self, rows: list[dict[str, object]], handle: Callable[[Incoming], Awaitable[None]]) -> None:
        for row in rows:
            failure = None
            message = Incoming(
                address=Address(str(row["channel"]), str(row["chat"]), str(row["message"])),
                sender=str(row["sender"]),
                sender_name=str(row["sender_name"]),
                text=str(row["text"]),
                created_at=float(str(row["created_at"])),
            )
            try:
                async with asyncio.timeout(_HANDLE_S):
                    await handle(message)
            except Exception as error:
                log.exception("a message could not be handled", action="inbox_failure", message=row["message"])
                failure = f"{type(error).__name__}: {error}"
            done = {"handled_at": self._clock.now(), "failure": failure}
            where = inbox.c.id == row["id"]
            await self._store.transact(lambda c, w=where, d=done: c.execute(inbox.update().where(w).values(**d)))  # type: ignore[misc]
