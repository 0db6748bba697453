"""What people say to the service: in order per chat, through every failure, and answered exactly once (F33)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from regrow.channels.base import Address, Incoming
from regrow.config import ChatSection
from regrow.events import Events
from regrow.forwarding import Forwarding
from regrow.outbox import Outbox
from regrow.redact import Redactor
from regrow.store import Store, cursors, forwards
from regrow.testing.manual_clock import ManualClock
from regrow.testing.memory_channel import MemoryChannel
from regrow.testing.ports import free_ports

DEADLINE_S = 15.0
Answer = tuple[int, bytes] | None
SECRET = secrets.token_hex(16)


class Bot:
    """A service on a port of its own: answers as `answer` says; None cuts the connection."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.got: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.answer: Callable[[dict[str, Any]], Awaitable[Answer]] = self.echo
        self.says: list[dict[str, Any]] = []
        self.bad: list[bytes] = []
        self.asked: list[str] = []
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[Any]] = set()

    @staticmethod
    async def echo(body: dict[str, Any]) -> Answer:
        return 200, json.dumps({"answer": f"re {body['text']}"}).encode()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        with (
            contextlib.closing(writer),
            contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError),
        ):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
            path = head.split()[1]
            answer: Answer
            if path.startswith("/outbox"):
                self.asked.append(path)
                after = int(path.rpartition("=")[2])
                said = [one for one in self.says if one["id"] > after]
                answer = 200, self.bad.pop() if self.bad else json.dumps({"messages": said}).encode()
            else:
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.got.append(body)
                self.keys.append(headers["idempotency-key"])
                answer = await self.answer(body)
            if answer is not None:
                lines = f"HTTP/1.1 {answer[0]} -\r\nContent-Length: {len(answer[1])}\r\nConnection: close\r\n\r\n"
                writer.write(lines.encode() + answer[1])
                await writer.drain()


class Life:
    """Forwarding and outbox at work on one store, as in one life of the daemon."""

    def __init__(self, store: Store, events: Events, clock: ManualClock, bot: Bot, **settings: Any) -> None:
        url = f"http://127.0.0.1:{bot.port}"
        self.store = store
        self.clock = clock
        self.channel = MemoryChannel("mem")
        self.outbox = Outbox(store, events, clock)
        self.forwarding = Forwarding(
            service="claw",
            settings=ChatSection.model_validate({"forward": f"{url}/chat", "outbox": f"{url}/outbox", **settings}),
            store=store,
            outbox=self.outbox,
            events=events,
            redactor=Redactor([SECRET], home=Path("/home/ada")),
            clock=clock,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, *, poll: bool = False) -> None:
        parts = [self.forwarding.run(), self.outbox.run({"mem": self.channel})]
        parts += [self.forwarding.poll()] if poll else []
        self._tasks = [asyncio.ensure_future(part) for part in parts]

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def put(self, text: str, chat: str = "c", message: str = "") -> None:
        address = Address("mem", chat, message or f"id of {text}")
        await self.forwarding.put(Incoming(address, "ou_1", "Ada", text, self.clock.now()), "en")

    async def shows(self, *texts: str, chat: str = "") -> None:
        """Wait until exactly this is to be read."""
        with contextlib.suppress(TimeoutError):
            await self.channel.until(lambda: len(self.channel.texts(chat)) >= len(texts), DEADLINE_S)
        assert self.channel.texts(chat) == list(texts)

    async def passes(self, seconds: float) -> None:
        """Let time pass, and who slept go on."""
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def states(self) -> dict[str, str]:
        return {row["text"]: row["state"] for row in await self.store.rows(sa.select(forwards))}


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    made = Bot()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def life(store: Store, events: Events, clock: ManualClock, bot: Bot) -> AsyncIterator[Life]:
    made = Life(store, events, clock, bot)
    made.begin()
    yield made
    await made.end()


async def test_a_message_is_posted_and_its_answer_goes_where_it_came_from(life: Life, bot: Bot) -> None:
    await life.put("hello", message="m7")
    await life.shows("re hello")
    at = life.clock.now()
    assert bot.got == [{"chat": "mem:c", "sender": "ou_1", "name": "Ada", "text": "hello", "id": "m7", "at": at}]
    assert bot.keys == ["mem:m7"]
    (shown,) = life.channel.shown.values()
    assert shown.address == Address("mem", "c", "m7")


async def test_the_same_message_again_is_not_posted_again(life: Life, bot: Bot) -> None:
    for _ in range(3):
        await life.put("hello")
    await life.put("last")
    await life.shows("re hello", "re last")
    assert [one["text"] for one in bot.got] == ["hello", "last"]


async def test_text_and_silence_are_answers_too(life: Life, bot: Bot) -> None:
    bodies = {"text": b"plain \xe2\x9c\x93", "none": b"", "object": b'{"queued": true}', "list": b"[1]"}

    async def answer(body: dict[str, Any]) -> Answer:
        return 200, bodies[body["text"]]

    bot.answer = answer
    for text in bodies:
        await life.put(text)
    await life.shows("plain ✓", "[1]")
    assert set((await life.states()).values()) == {"answered"}


@pytest.mark.parametrize("failure", [500, 503, 429, 408, 409, "reset", "refused"])
async def test_it_is_tried_until_it_is_answered_and_nothing_overtakes_it(
    life: Life, bot: Bot, failure: int | str
) -> None:
    left = [1, 1, 1]

    async def answer(body: dict[str, Any]) -> Answer:
        if left and body["text"] == "first":
            left.pop()
            return (int(failure), b"busy") if isinstance(failure, int) else None
        return await Bot.echo(body)

    bot.answer = answer
    if failure == "refused":
        await bot.stop()
    await life.put("first")
    await life.put("second")
    for _ in range(3):
        await life.clock.asleep()
        if failure == "refused":
            left.pop()
            if not left:
                await bot.start()
        await life.passes(2.0)
    await life.shows("re first", "re second")
    assert len(set(bot.keys)) == 2


async def test_what_came_late_is_posted_before_what_was_said_after_it(life: Life, bot: Bot) -> None:
    # F33: an event that was repeated; the one that is being tried stays the first.
    busy = True

    async def answer(body: dict[str, Any]) -> Answer:
        return (503, b"busy") if busy else await Bot.echo(body)

    bot.answer = answer
    await life.put("first")
    await life.clock.asleep()
    said = life.clock.now()
    for text, at in (("third", said + 2), ("second", said + 1)):
        await life.forwarding.put(Incoming(Address("mem", "c", text), "ou_1", "Ada", text, at), "en")
    busy = False
    await life.passes(2.0)
    await life.shows("re first", "re second", "re third")


async def test_a_try_that_takes_too_long_is_given_up(
    store: Store, events: Events, clock: ManualClock, bot: Bot
) -> None:
    hangs = [1]

    async def answer(body: dict[str, Any]) -> Answer:
        if hangs:
            hangs.pop()
            await asyncio.Event().wait()
        return await Bot.echo(body)

    bot.answer = answer
    life = Life(store, events, clock, bot, forward_timeout="100ms")
    life.begin()
    await life.put("hello")
    await clock.asleep()
    await life.passes(2.0)
    await life.shows("re hello")
    assert bot.keys == ["mem:id of hello"] * 2
    await life.end()


async def test_a_poisoned_message_stops_no_other_chat_and_its_own_not_for_ever(life: Life, bot: Bot) -> None:
    async def answer(body: dict[str, Any]) -> Answer:
        return (500, b"a bug") if body["text"] == "poison" else await Bot.echo(body)

    bot.answer = answer
    await life.put("poison", "one")
    await life.put("behind it", "one")
    await life.clock.asleep()
    await life.put("elsewhere", "two")
    await life.shows("re elsewhere", chat="two")
    assert life.channel.texts("one") == []
    await life.passes(599.0)
    await life.clock.asleep()
    assert (await life.states())["poison"] == "waiting"
    await life.passes(2.0)
    told = "⚠️ claw did not answer this message in time. Send it again if it still matters."
    await life.shows(told, "re behind it", chat="one")
    assert await life.states() == {"poison": "expired", "behind it": "answered", "elsewhere": "answered"}


async def test_a_refusal_is_told_once_and_not_tried_again(life: Life, bot: Bot) -> None:
    async def answer(body: dict[str, Any]) -> Answer:
        return (400, b"no such thing") if body["text"] == "bad" else await Bot.echo(body)

    bot.answer = answer
    await life.put("bad")
    await life.put("good")
    await life.shows("⚠️ claw did not accept this message.", "re good")
    assert [one["text"] for one in bot.got] == ["bad", "good"]


async def test_what_waited_while_nobody_was_there_is_still_tried(
    store: Store, events: Events, clock: ManualClock, bot: Bot
) -> None:
    before = Life(store, events, clock, bot)
    await before.put("hello")
    clock.advance(7200.0)
    life = Life(store, events, clock, bot)
    life.begin()
    await life.shows("re hello")
    await life.end()


async def test_a_daemon_that_dies_before_it_wrote_the_answer_down_asks_again_and_sends_once(
    store: Store, events: Events, clock: ManualClock, bot: Bot
) -> None:
    answered = asyncio.Event()

    async def answer(body: dict[str, Any]) -> Answer:
        answered.set()
        return await Bot.echo(body)

    bot.answer = answer
    first = Life(store, events, clock, bot)
    write = store.transact

    async def dies(work: Callable[[sa.Connection], Any]) -> Any:
        if answered.is_set():
            await asyncio.Event().wait()  # nothing is written any more
        return await write(work)

    store.transact = dies  # type: ignore[method-assign, assignment]
    first.begin()
    await first.put("hello")
    await asyncio.wait_for(answered.wait(), DEADLINE_S)
    await first.end()
    store.transact = write  # type: ignore[method-assign]
    assert await first.states() == {"hello": "waiting"}
    second = Life(store, events, clock, bot)
    second.begin()
    await second.shows("re hello")
    assert bot.keys == ["mem:id of hello"] * 2
    await second.end()


async def test_an_answer_shows_no_known_secret_and_is_otherwise_left_alone(life: Life, bot: Bot) -> None:
    text = f"it is {SECRET} in /home/ada/claw, password=none-of-ours"

    async def answer(body: dict[str, Any]) -> Answer:
        return 200, json.dumps({"answer": text}).encode()

    bot.answer = answer
    await life.put("tell me")
    await life.channel.until(lambda: bool(life.channel.shown), DEADLINE_S)
    (shown,) = life.channel.texts()
    assert SECRET not in shown
    assert shown.endswith(" in /home/ada/claw, password=none-of-ours")


async def test_an_endless_answer_is_cut(life: Life, bot: Bot) -> None:
    async def answer(body: dict[str, Any]) -> Answer:
        return 200, b"x" * 3_000_000

    bot.answer = answer
    await life.put("tell me")
    await life.channel.until(lambda: bool(life.channel.shown), DEADLINE_S)
    (shown,) = life.channel.texts()
    assert shown == "x" * 19_999 + "…"


async def test_what_the_service_says_of_itself_comes_once_and_only_to_chats_that_spoke_to_it(
    store: Store, events: Events, clock: ManualClock, bot: Bot
) -> None:
    life = Life(store, events, clock, bot)
    life.begin(poll=True)
    await life.put("hello")
    await life.shows("re hello")
    bot.says = [
        {"id": 3, "chat": "mem:c", "text": "⏰ tea"},
        {"id": 4, "chat": "mem:stranger", "text": "⏰ spam"},
        {"id": 5, "chat": "mem:c", "text": "⏰ bed"},
    ]
    await clock.asleep()
    await life.passes(5.0)
    await life.shows("re hello", "⏰ tea", "⏰ bed")
    await life.end()

    after = Life(store, events, clock, bot)
    after.channel = life.channel
    after.begin(poll=True)
    await clock.asleep()
    assert bot.asked[-1] == "/outbox?after=5"
    assert after.channel.texts() == ["re hello", "⏰ tea", "⏰ bed"]
    assert [row["value"] for row in await store.rows(sa.select(cursors))] == [5]
    await after.end()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"messages": [{"id": "x"}]}', b'{"messages": [7]}'])
async def test_an_outbox_that_cannot_be_read_is_asked_again(
    store: Store, events: Events, clock: ManualClock, bot: Bot, body: bytes
) -> None:
    bot.bad = [body]
    life = Life(store, events, clock, bot)
    life.begin(poll=True)
    await life.put("hello")
    await life.shows("re hello")
    await clock.asleep()
    bot.says = [{"id": 1, "chat": "mem:c", "text": "⏰ tea"}]
    await life.passes(5.0)
    await life.shows("re hello", "⏰ tea")
    assert bot.bad == []
    await life.end()
