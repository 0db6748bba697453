"""Chats that Regrow hosts: their messages have an order of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from regrow.channels.base import Incoming
from regrow.channels.hosted import HostedChannel
from regrow.events import Events
from regrow.inbox import fingerprint
from regrow.store import Store
from regrow.testing.manual_clock import ManualClock


class Wound(ManualClock):
    """A clock that can be put back."""

    back_s = 0.0

    def now(self) -> float:
        return super().now() - self.back_s


@pytest.fixture
def got() -> list[Incoming]:
    return []


@pytest.fixture
async def channel(store: Store, events: Events, got: list[Incoming]) -> AsyncIterator[tuple[HostedChannel, Wound]]:
    clock = Wound()
    made = HostedChannel("web", store, events, clock)

    async def receive(message: Incoming) -> bool:
        got.append(message)
        return True

    running = asyncio.create_task(made.run(receive))
    yield made, clock
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_times_of_messages_grow_also_when_the_clock_is_put_back(
    channel: tuple[HostedChannel, Wound], got: list[Incoming]
) -> None:
    hosted, clock = channel
    for number in range(6):
        clock.back_s = 600.0 * (number % 2)
        await hosted.say("main", "status", "", "u1", "Ada")
    times = [message.created_at for message in got]
    assert times == sorted(times)
    # The same words again are another message, and not the first one under a new id (F34).
    assert len({fingerprint(message) for message in got}) == 6
