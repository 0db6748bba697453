"""What was said while nobody listened: the history of known chats, read through the same inbox, in its order.

An event that was not acknowledged on a lost connection comes again seconds or hours later, behind what was said after
it. So after each connect the history of a chat is read before what comes live from it is handled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Protocol

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
_AT_ONCE = 6
_TOGETHER = 50
_SETTLING_S = 60.0
"""After a connect: so long a chat that was not looked at is looked at before anything live of it is handled. The
platform repeats an event for the first time after 15 s."""
_LOOK_S = 8.0
"""Longest time of a look: what is said in the chat meanwhile is on disk, and waits for it."""
_REMEMBERED = 5000

Known = Callable[[], Awaitable[Mapping[str, float]]]


class Take(Protocol):
    """The way of messages of one chat, in their order."""

    async def __call__(self, *spoken: Said) -> None:
        """Put them on disk; one that cannot be put there does not keep the others from it."""


class CatchUp:
    """Fills gaps.

    Args:
        api: for the history.
        known: the chats that were ever heard of, each with the time of its newest message in seconds since 1970.
        take: the way of every message; it knows what it has.
        clock: for durations.
        every_s: seconds between two looks when nothing was lost.
        settle_s: seconds for which a message is left to its event, when only that tells who its sender is.
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
        self._newest: asyncio.Task[Mapping[str, float]] | None = None
        self._looks: dict[str, asyncio.Future[None]] = {}
        self._until = 0.0
        self._left_out = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._private: dict[str, bool] = {}
        self._people: dict[str, tuple[str, bool]] = {}
        self._closed: dict[str, str] = {}
        self.looks = 0

    def wake(self) -> None:
        """Look at every chat: the connection is new."""
        self._looks, self._newest = {}, None
        self._until = self._clock.monotonic() + _SETTLING_S
        self._due.set()

    def heard(self, said: Said) -> asyncio.Future[None] | None:
        """Remember what the history does not tell: what kind of chat it was, and who spoke.

        Returns:
            The look at its chat that the message has to wait for, if there is one.
        """
        self._private[said.chat] = said.private
        self._people[said.sender_open] = (said.sender_union, said.outside)
        if len(self._people) > _REMEMBERED:
            del self._people[next(iter(self._people))]
        look = self._looks.get(said.place)
        if look is None and self._clock.monotonic() < self._until:
            look = self._begin(said.place)
        return None if look is None or look.done() else look

    def missed(self, said: Said) -> None:
        """A message could not be taken and comes again: what is said in its chat meanwhile has to wait for it."""
        self._until = self._clock.monotonic() + _SETTLING_S
        if said.place in self._looks and self._looks[said.place].done():
            del self._looks[said.place]

    async def run(self) -> None:
        """Look after every connect, and now and then, until cancelled."""
        try:
            while True:
                # What was left out is looked for again once its event must have come.
                left_out, self._left_out = self._left_out, False
                pause = min(self._every_s, max(0.1, self._settle_s)) if left_out else self._every_s
                try:
                    async with asyncio.timeout(pause):
                        await self._due.wait()
                except TimeoutError:
                    if not left_out:
                        self._newest = None
                        self._looks = {place: look for place, look in self._looks.items() if not look.done()}
                self._due.clear()
                await self._round()
                self.looks += 1
        finally:
            tasks = [*self._tasks, *([self._newest] if self._newest else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _round(self) -> None:
        """Look at all chats, those of late first."""
        now = self._api.now()
        newest = await self._known_chats()
        recent = sorted(newest, key=lambda chat: -newest[chat])[:_MOST_CHATS]
        # A thread's history has no time, so only topics of late are read.
        chats = [chat for chat in recent if not messages.place(chat)[1] or newest[chat] > now - _FARTHEST_S]
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(chat: str) -> None:
            async with turns:
                if chat not in self._looks:  # else somebody spoke there meanwhile
                    await asyncio.wait({self._begin(chat)})

        await asyncio.gather(*(one(chat) for chat in chats))
        await asyncio.gather(*self._tasks)

    async def _known_chats(self) -> Mapping[str, float]:
        """Chats and topics with the time of their newest message, asked for once a connection."""
        if self._newest is None:
            self._newest = asyncio.create_task(self._ask(), name="feishu chats")
        try:
            return await asyncio.shield(self._newest)
        except Exception:
            self._newest = None
            raise

    async def _ask(self) -> Mapping[str, float]:
        found = dict(await self._known())
        for chat, newest in list(found.items()):
            room, _ = messages.place(chat)
            found[room] = max(found.get(room, 0.0), newest)
        return found

    def _begin(self, chat: str) -> asyncio.Future[None]:
        look = self._looks[chat] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._look(chat), name="feishu look")
        self._tasks.add(task)

        def end(_: object) -> None:
            # However it ended, and also when it never began: what waits for it is handled then.
            self._tasks.discard(task)
            look.set_result(None)

        task.add_done_callback(end)
        return look

    async def _look(self, chat: str) -> None:
        """Take what is new in a chat."""
        try:
            async with asyncio.timeout(_LOOK_S):
                newest = (await self._known_chats()).get(chat, self._api.now())
                found = await self._read(chat, max(newest - _OVERLAP_S, self._api.now() - _FARTHEST_S))
                ready = [said for said in found if self._told(said)]
                if len(ready) < len(found):
                    self._left_out = True
                    self._looks.pop(chat, None)
                for first in range(0, len(ready), _TOGETHER):
                    await self._try(chat, ready[first : first + _TOGETHER])
        except (FeishuError, TimeoutError) as error:
            # Most often the permission to read groups; once a chat is enough to say so.
            kind = error.kind if isinstance(error, FeishuError) else "slow"
            if self._closed.get(chat) != kind:
                self._closed[chat] = kind
                reason = str(error) or f"it takes longer than {_LOOK_S:g} s"
                log.warning("a chat's history cannot be read", action="feishu_no_history", error=reason)
        except Exception:
            log.exception("a chat's history broke", action="feishu_history")

    async def _read(self, chat: str, since: float) -> list[Said]:
        """What people said since then, oldest first; of too much the newest."""
        room, thread = messages.place(chat)
        private = await self._is_private(room)
        found: list[Said] = []
        page = ""
        for _ in range(_MOST_PAGES):
            kind, name = ("thread", thread) if thread else ("chat", room)
            items, page = await self._api.history(kind, name, since, page)
            for item in items:
                said = messages.of_history(item, private)
                if said is not None and said.created_at >= since:
                    union, outside = self._people.get(said.sender_open, ("", False))
                    found.append(replace(said, sender_union=union, outside=outside))
            if not page:
                break
        return found[::-1]

    def _told(self, said: Said) -> bool:
        """Whether it is known who spoke, or too late to leave it to the message's event."""
        return said.sender_open in self._people or said.created_at <= self._api.now() - self._settle_s

    async def _try(self, chat: str, spoken: list[Said]) -> None:
        try:
            await self._take(*spoken)
        except Exception:
            # One that cannot be taken must not end the connection; the next look meets it again.
            log.exception("a message of the history could not be taken", action="feishu_history", chat=chat)

    async def _is_private(self, chat: str) -> bool:
        if chat not in self._private:
            self._private[chat] = await self._api.is_private(chat)
        return self._private[chat]
