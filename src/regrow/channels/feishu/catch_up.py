"""What was said while nobody listened: the history of known chats, read through the same inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from regrow.channels.feishu import messages
from regrow.channels.feishu.api import Api
from regrow.channels.feishu.messages import Said
from regrow.channels.feishu.refusals import FeishuError
from regrow.clock import Clock

log = structlog.get_logger("feishu")

_EVERY_S = 180.0
_OVERLAP_S = 300.0
_FARTHEST_S = 24 * 3600.0
_MOST_CHATS = 100
_MOST_PAGES = 20

Known = Callable[[], Awaitable[Mapping[str, float]]]
Take = Callable[[Said], Awaitable[None]]


class CatchUp:
    """Fills gaps.

    Args:
        api: for the history.
        known: the chats that were ever heard of, each with the time of its newest message in seconds since 1970.
        take: the way of every message; it knows what it has.
        clock: for the present.
        every_s: seconds between two looks when nothing was lost.
        settle_s: seconds after the newest event that are left out: that message may still be on its way.
    """

    def __init__(
        self, api: Api, known: Known, take: Take, clock: Clock, *, every_s: float = _EVERY_S, settle_s: float = 5.0
    ) -> None:
        self._api = api
        self._known = known
        self._take = take
        self._clock = clock
        self._every_s = every_s
        self._settle_s = settle_s
        self._due = asyncio.Event()
        self._private: dict[str, bool] = {}
        self._closed: dict[str, str] = {}
        self.looks = 0

    def wake(self) -> None:
        """Look soon: the connection is new."""
        self._due.set()

    def heard(self, said: Said) -> None:
        """Remember what kind of chat it was: the history does not tell."""
        self._private[said.chat] = said.private

    async def run(self) -> None:
        """Look after every connect, and now and then, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._every_s):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            await self._look()
            self.looks += 1

    async def _look(self) -> None:
        now = self._clock.now()
        recent = sorted((await self._known()).items(), key=lambda item: -item[1])[:_MOST_CHATS]
        rooms: dict[str, float] = {}
        threads: dict[str, float] = {}
        for chat, newest in recent:
            room, thread = messages.place(chat)
            rooms[room] = max(rooms.get(room, 0.0), newest)
            if thread:
                threads[chat] = newest
        # A thread's history has no time, so only topics of late are read.
        topics = [(c, n) for c, n in threads.items() if n > now - _FARTHEST_S]
        for chat, newest in [*rooms.items(), *topics]:
            try:
                await self._read(chat, max(newest - _OVERLAP_S, now - _FARTHEST_S), now)
            except FeishuError as error:
                # Most often the permission to read groups; once a chat is enough to say so.
                if self._closed.get(chat) != error.kind:
                    self._closed[chat] = error.kind
                    log.warning("a chat's history cannot be read", action="feishu_no_history", error=str(error))

    async def _read(self, chat: str, since: float, now: float) -> None:
        room, thread = messages.place(chat)
        private = await self._is_private(room)
        page = ""
        for _ in range(_MOST_PAGES):
            kind, name = ("thread", thread) if thread else ("chat", room)
            items, page = await self._api.history(kind, name, since, page)
            for item in items:
                said = messages.of_history(item, private)
                if said is not None and since <= said.created_at <= now - self._settle_s:
                    await self._try(said)
            if not page:
                return

    async def _try(self, said: Said) -> None:
        try:
            await self._take(said)
        except Exception:
            # One that cannot be taken must not end the connection; the next look meets it again.
            log.exception("a message of the history could not be taken", action="feishu_history", message=said.message)

    async def _is_private(self, chat: str) -> bool:
        if chat not in self._private:
            self._private[chat] = await self._api.is_private(chat)
        return self._private[chat]
