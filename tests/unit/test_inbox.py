"""Messages are handled once, in the order of their chat, however often they come and whatever one of them breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from regrow import inbox as inbox_module
from regrow.channels.base import Address, Incoming
from regrow.events import Events
from regrow.inbox import Inbox
from regrow.store import Store
from regrow.store import inbox as table
from regrow.testing.manual_clock import ManualClock
from regrow.testing.memory_channel import MemoryChannel


@pytest.fixture
def inbox(store: Store, events: Events, clock: ManualClock) -> Inbox:
    return Inbox(store, events, clock)


class Handler:
    """Remembers what was handled; breaks at what it is told to."""

    def __init__(self, *poison: str) -> None:
        self.seen: list[tuple[str, str]] = []
        self._poison = poison
        self._came = asyncio.Event()

    async def __call__(self, message: Incoming) -> None:
        self.seen.append((message.address.chat, message.text))
        self._came.set()
        if message.text in self._poison:
            raise ValueError(f"cannot read {message.text}")

    async def until(self, true: Callable[[list[tuple[str, str]]], bool]) -> None:
        async with asyncio.timeout(20):
            while not true(self.seen):
                self._came.clear()
                await self._came.wait()


def message(text: str, number: str, chat: str = "main", at: float = 1.0) -> Incoming:
    return Incoming(Address("memory", chat, number), "u1", "Ada", text, at)


@pytest.fixture
async def running(inbox: Inbox) -> AsyncIterator[Callable[[Handler], asyncio.Task[None]]]:
    """Starts the handling; ended with the test."""
    tasks: list[asyncio.Task[None]] = []

    def start(handle: Handler) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(inbox.run(handle)))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def handled(store: Store, events: Events, count: int) -> list[tuple[str, str | None]]:
    """Wait until that many are marked as handled; texts and failures in the order of arrival."""
    query = sa.select(table.c.text, table.c.failure).where(table.c.handled_at.is_not(None)).order_by(table.c.id)
    async with asyncio.timeout(20):
        while len(rows := await store.rows(query)) < count:
            await asyncio.sleep(0)
    return [(row["text"], row["failure"]) for row in rows]


Running = Callable[[Handler], "asyncio.Task[None]"]


async def test_a_message_is_on_disk_before_it_is_acknowledged(store: Store, inbox: Inbox) -> None:
    assert await inbox.take(message("deploy", "1"))
    store.engine.dispose()  # and so what is found is what a new process would find after a kill at this moment (F33)
    (row,) = await store.rows(sa.select(table))
    assert (row["text"], row["message"], row["handled_at"]) == ("deploy", "1", None)


async def test_the_same_id_is_one_message(inbox: Inbox) -> None:
    assert await inbox.take(message("deploy", "1"))
    for _ in range(10):
        assert not await inbox.take(message("deploy", "1"))
    assert not await inbox.take(message("edited meanwhile", "1"))


async def test_the_same_message_under_a_new_id_is_no_new_one(inbox: Inbox, clock: ManualClock) -> None:
    # F34: the platform tries again after 5 minutes, 1 hour and 6 hours, each time with another id.
    first = message("deploy", "1", at=clock.now())
    assert await inbox.take(first)
    for number, after_s in enumerate((300, 3600, 6 * 3600)):
        clock.advance(after_s)
        assert not await inbox.take(replace(first, address=Address("memory", "main", f"again-{number}")))


@pytest.mark.parametrize(
    "other",
    [
        message("deploy", "2", at=2.0),  # said again by the person
        message("restart", "2"),
        message("deploy", "2", chat="other"),
        replace(message("deploy", "2"), sender="u2"),
        replace(message("deploy", "1"), address=Address("elsewhere", "main", "1")),
    ],
)
async def test_what_is_another_message(inbox: Inbox, other: Incoming) -> None:
    assert await inbox.take(message("deploy", "1"))
    assert await inbox.take(other)


async def test_redelivery_through_ten_lives_is_handled_once(store: Store, events: Events, clock: ManualClock) -> None:
    # F5: the platform delivers the restart again after each boot.
    handler, channel = Handler(), MemoryChannel()
    for _ in range(10):
        inbox = Inbox(store, events, clock)
        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(inbox.run(handler)), group.create_task(channel.run(inbox.take))]
            await channel.until(lambda: channel.health().healthy)
            await channel.say("restart", message="evt-1", at=1.0)
            await handled(store, events, 1)
            for part in parts:
                part.cancel()
        clock.advance(120)
    assert handler.seen == [("main", "restart")]


async def test_all_of_a_message_arrives(inbox: Inbox, running: Running) -> None:
    got: list[Incoming] = []

    class Keep(Handler):
        async def __call__(self, message: Incoming) -> None:
            got.append(message)
            await super().__call__(message)

    handler = Keep()
    running(handler)
    sent = Incoming(Address("memory", "a/thread", "m-1"), "u7", "小明", "重启一下\n谢谢", 1_700_000_000.123)
    await inbox.take(sent)
    await handler.until(lambda seen: len(seen) == 1)
    assert got == [sent]


async def test_what_was_not_meant_for_us_stays_so(inbox: Inbox, running: Running, store: Store, events: Events) -> None:
    # In a group people say "restart it" to one another; passing through the disk must not make it an order.
    handler = Handler()
    assert await inbox.take(replace(message("restart it", "1"), addressed=False)) is False
    assert await inbox.take(message("status", "2"))
    running(handler)
    await handled(store, events, 1)
    assert handler.seen == [("main", "status")]


async def test_a_poisoned_message_is_set_aside_and_the_others_are_handled(
    inbox: Inbox, running: Running, store: Store, events: Events
) -> None:
    handler = Handler("poison")
    for number, (text, chat) in enumerate([("one", "a"), ("poison", "a"), ("two", "a"), ("three", "b")]):
        await inbox.take(message(text, str(number), chat))
    running(handler)
    assert await handled(store, events, 4) == [
        ("one", None),
        ("poison", "ValueError: cannot read poison"),
        ("two", None),
        ("three", None),
    ]
    await inbox.take(message("later", "9", "a"))  # intake is open as before
    await handler.until(lambda seen: ("a", "later") in seen)
    assert [text for chat, text in handler.seen if chat == "a"] == ["one", "poison", "two", "later"]


async def test_a_message_whose_handling_hangs_is_set_aside(
    inbox: Inbox, running: Running, store: Store, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "_HANDLE_S", 0.05)

    class Hang(Handler):
        async def __call__(self, message: Incoming) -> None:
            await super().__call__(message)
            if message.text == "hang":
                await asyncio.get_running_loop().create_future()

    handler = Hang()
    await inbox.take(message("hang", "1"))
    await inbox.take(message("after", "2"))
    running(handler)
    (hung, after) = await handled(store, events, 2)
    assert hung[1] is not None
    assert hung[1].startswith("TimeoutError")
    assert after == ("after", None)


async def test_the_order_of_a_chat_is_kept_and_chats_do_not_wait_for_one_another(
    inbox: Inbox, running: Running
) -> None:
    let_a_go = asyncio.Event()

    class Slow(Handler):
        async def __call__(self, message: Incoming) -> None:
            await super().__call__(message)
            if message.text == "a1":
                await let_a_go.wait()

    handler = Slow()
    running(handler)
    await inbox.take(message("a1", "1", "a"))
    await handler.until(lambda seen: len(seen) == 1)
    # While a1 is being handled: a2 must wait for it, b1 and b2 must not.
    for number, (text, chat) in enumerate([("a2", "a"), ("b1", "b"), ("b2", "b")], 2):
        await inbox.take(message(text, str(number), chat))
    await handler.until(lambda seen: len(seen) == 3)
    assert handler.seen == [("a", "a1"), ("b", "b1"), ("b", "b2")]
    let_a_go.set()
    await handler.until(lambda seen: len(seen) == 4)
    assert handler.seen[-1] == ("a", "a2")


async def test_what_was_taken_before_is_handled_in_the_next_life(inbox: Inbox, running: Running) -> None:
    await inbox.take(message("one", "1"))
    cut_off, handler = asyncio.Event(), Handler()

    class Killed(Handler):
        async def __call__(self, message: Incoming) -> None:
            cut_off.set()
            await asyncio.get_running_loop().create_future()

    first = running(Killed())
    async with asyncio.timeout(20):
        await cut_off.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await inbox.take(message("two", "2"))
    running(handler)
    await handler.until(lambda seen: len(seen) == 2)
    assert [text for _, text in handler.seen] == ["one", "two"]


async def test_a_chat_waits_for_what_was_said_earlier_and_is_handled_in_the_order_of_speaking(
    inbox: Inbox, running: Running
) -> None:
    # F33: after a lost connection an earlier message may be in the platform's history only.
    handler, look = Handler(), asyncio.get_running_loop().create_future()
    running(handler)
    assert await inbox.take(message("b2", "2", "b", at=2.0), look)  # on disk at once, so it can be acknowledged
    await inbox.take(message("a1", "3", "a", at=3.0))
    await handler.until(lambda seen: len(seen) == 1)
    await inbox.take(message("b1", "4", "b", at=1.0))
    await inbox.take(message("a2", "5", "a", at=4.0))
    await handler.until(lambda seen: len(seen) == 2)
    assert handler.seen == [("a", "a1"), ("a", "a2")]
    look.set_result(None)
    await handler.until(lambda seen: len(seen) == 4)
    assert handler.seen[2:] == [("b", "b1"), ("b", "b2")]
