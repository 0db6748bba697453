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
_AT_ONCE = 50
# Not the bare columns: this keeps SQLite from the indexes that hold all that ever came; what waits has one of its own.
_channel: sa.ColumnElement[str] = sa.literal_column("inbox.channel || ''")
_chat: sa.ColumnElement[str] = sa.literal_column("inbox.chat || ''")
_HANDLE_S = 120.0  # handling begins a job and does not wait for it
# Made once: to build a statement takes longer than to run it, and this is run for every message.
_HANDLED = inbox.update().where(inbox.c.id == sa.bindparam("number"))


def fingerprint(message: Incoming) -> str:
    """What makes a message the same one under a new id: chat, sender, the platform's time and the text (F34)."""
    parts = (message.address.chat, message.sender, f"{message.created_at:.3f}", message.text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Inbox:
    """The queue between channels and conversations."""

    def __init__(self, store: Store, events: Events, clock: Clock | None = None) -> None:
        self._store = store
        self._insert = store.database.insert_new(inbox)  # made once, run for every message
        self._events = events
        self._clock = clock or SystemClock()
        self._after: dict[tuple[str, str], asyncio.Future[None]] = {}

    async def take(self, message: Incoming, after: asyncio.Future[None] | None = None, /) -> bool:
        """Make a message durable; those taken at the same time become so in the order of the calls.

        Args:
            message: what was said.
            after: until it is done nothing of the chat is handled: something said earlier may be on its way.

        Returns:
            Whether it is new. A known message id, or the same message under a new id, is not. What people say to one
            another is not kept.
        """
        if not message.addressed:
            return False
        lane = (message.address.channel, message.address.chat)
        if after is not None and self._after.get(lane) is not after:
            self._after[lane] = after
            after.add_done_callback(lambda _: self._events.touch("inbox"))
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

        new = await self._store.transact(lambda connection: connection.execute(self._insert, values).rowcount == 1)
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

        def free(lane: tuple[str, str]) -> None:
            busy.discard(lane)
            self._events.touch("inbox")  # for what came meanwhile

        # Not the messages themselves: there may be many, and those of a busy chat would be read in vain.
        waiting = sa.select(_channel, _chat, sa.func.min(inbox.c.id)).where(inbox.c.handled_at.is_(None))
        chats = waiting.group_by(_channel, _chat)
        async with asyncio.TaskGroup() as group:
            async for _ in self._events.ticks("inbox", at_least_every_s=_LOOK_AGAIN_S):
                # As it is before the look: what ends during it may have handled what the look still shows.
                held = set(busy)
                for channel, chat, first in await self._store.read(lambda c: c.execute(chats).all()):
                    lane = (channel, chat)
                    if lane in held or self._waits(lane):
                        continue
                    busy.add(lane)
                    task = group.create_task(self._handle(lane, first, handle))
                    task.add_done_callback(lambda _, lane=lane: free(lane))  # type: ignore[misc]

    async def _handle(self, lane: tuple[str, str], first: int, handle: Callable[[Incoming], Awaitable[None]]) -> None:
        """Handle messages of one chat, one after the other."""
        # One that came late goes before what was said after it, where that is not handled yet.
        order = (inbox.c.created_at, inbox.c.id)
        here = (inbox.c.handled_at.is_(None), inbox.c.id >= first, _channel == lane[0], _chat == lane[1])
        for row in await self._store.rows(sa.select(inbox).where(*here).order_by(*order).limit(_AT_ONCE)):
            if self._waits(lane):
                return
            failure = None
            message = Incoming(
                address=Address(row["channel"], row["chat"], row["message"]),
                sender=row["sender"],
                sender_name=row["sender_name"],
                text=row["text"],
                created_at=row["created_at"],
            )
            try:
                async with asyncio.timeout(_HANDLE_S):
                    await handle(message)
            except Exception as error:
                log.exception("a message could not be handled", action="inbox_failure", message=row["message"])
                failure = f"{type(error).__name__}: {error}"
            done = {"number": row["id"], "handled_at": self._clock.now(), "failure": failure}
            await self._store.transact(lambda connection, done=done: connection.execute(_HANDLED, done))  # type: ignore[misc]

    def _waits(self, lane: tuple[str, str]) -> bool:
        """Whether a chat has to wait for what was said earlier."""
        after = self._after.get(lane)
        if after is not None and after.done():
            del self._after[lane]
        return lane in self._after
