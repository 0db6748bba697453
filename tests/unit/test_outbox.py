"""The queue to the platforms: chats do not wait for one another, order is kept, the newest content wins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from regrow.channels.base import Address, Content, Health, Outgoing, Receive
from regrow.errors import NotFound, RegrowError
from regrow.events import Events
from regrow.outbox import Outbox
from regrow.store import Store, outbox

DEADLINE_S = 15.0


class Platform:
    """Keeps what it is told; `fault` may refuse, `gate` holds up a chat."""

    name = "mem"

    def __init__(self) -> None:
        self.shown: dict[str, list[str]] = {}
        self.order: list[str] = []
        self.fault: Callable[[Outgoing], None] = lambda message: None
        self.gates: dict[str, asyncio.Event] = {}
        self.pause = 0.0
        self.moves_to = ""

    async def run(self, receive: Receive) -> None:
        return None

    def health(self) -> Health:
        return Health(True)

    def wait_s(self, platform_id: str) -> float:
        return self.pause

    async def send(self, message: Outgoing) -> str:
        if gate := self.gates.get(message.address.chat):
            await gate.wait()
        self.fault(message)
        self.order.append(message.content.text)
        self.shown[message.key] = [message.content.text]
        return f"id-{message.key}"

    async def edit(self, platform_id: str, message: Outgoing) -> str | None:
        self.fault(message)
        self.shown[message.key].append(message.content.text)
        return self.moves_to or None


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[tuple[Outbox, Platform, Store]]:
    store, platform = Store(tmp_path / "db"), Platform()
    box = Outbox(store, Events())
    task = asyncio.create_task(box.run({"mem": platform}))
    yield box, platform, store
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    store.close()


async def put(box: Outbox, key: str, text: str, chat: str = "c") -> None:
    await box.put(key, Address("mem", chat), Content(text))


async def until(found: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not found():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def state(store: Store, key: str, wanted: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while await store.row(sa.select(outbox.c.id).where(outbox.c.key == key, outbox.c.state == wanted)) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_a_chat_that_hangs_does_not_hold_up_another(parts: tuple[Outbox, Platform, Store]) -> None:
    box, platform, _ = parts
    platform.gates["slow"] = asyncio.Event()
    await put(box, "a", "held up", "slow")
    await put(box, "b", "goes on", "quick")
    await until(lambda: "b" in platform.shown)
    assert "a" not in platform.shown
    platform.gates["slow"].set()
    await until(lambda: "a" in platform.shown)


async def test_c26_a_message_that_fails_is_not_overtaken_in_its_chat(parts: tuple[Outbox, Platform, Store]) -> None:
    box, platform, _ = parts
    failures = [1, 1]

    def fault(message: Outgoing) -> None:
        if message.key == "k0" and failures:
            failures.pop()
            raise RegrowError("cannot send: busy; wait")

    platform.fault = fault
    for number in range(5):
        await put(box, f"k{number}", f"m{number}")
    await until(lambda: len(platform.order) == 5)
    assert platform.order == [f"m{number}" for number in range(5)]


async def test_c30_what_lies_between_two_looks_is_never_sent(parts: tuple[Outbox, Platform, Store]) -> None:
    box, platform, store = parts
    await put(box, "live", "0")
    await state(store, "live", "sent")
    platform.pause = 0.3
    for number in range(1, 50):
        await put(box, "live", str(number))
    assert platform.shown["live"] == ["0"]
    platform.pause = 0.0
    await until(lambda: platform.shown["live"][-1] == "49")
    assert len(platform.shown["live"]) <= 4


async def test_c32_what_is_gone_is_not_tried_again(parts: tuple[Outbox, Platform, Store]) -> None:
    box, platform, store = parts
    calls = []

    def fault(message: Outgoing) -> None:
        calls.append(message.key)
        raise NotFound("cannot send: the chat is gone", kind="gone")

    platform.fault = fault
    await put(box, "a", "x")
    await state(store, "a", "failed")
    await put(box, "b", "y", "other")
    await state(store, "b", "failed")
    assert calls == ["a", "b"]


async def test_c34_a_message_that_moved_is_changed_where_it_is_now(parts: tuple[Outbox, Platform, Store]) -> None:
    box, platform, store = parts
    await put(box, "a", "x")
    await state(store, "a", "sent")
    assert (await box.shown("mem", "id-a")) is not None
    platform.moves_to = "id-new"
    await put(box, "a", "y")
    await until(lambda: platform.shown["a"] == ["x", "y"])
    await state(store, "a", "sent")
    assert await box.shown("mem", "id-a") is None
    moved = await box.shown("mem", "id-new")
    assert moved is not None
    assert moved.content.text == "y"
    assert await box.shown("mem", "") is None


async def test_a_message_that_breaks_its_channel_is_tried_again_and_stops_nobody(
    parts: tuple[Outbox, Platform, Store],
) -> None:
    box, platform, store = parts

    def fault(message: Outgoing) -> None:
        if message.key == "bad":
            raise KeyError("a bug")

    platform.fault = fault
    await put(box, "bad", "x", "one")
    await put(box, "good", "y", "two")
    await state(store, "good", "sent")
    assert await box.waiting() == 1
