"""Telling what changed: many changes are one, and none is missed."""

from __future__ import annotations

import asyncio

import pytest

from regrow.events import Events


async def test_a_change_wakes_its_watchers_and_nobody_else() -> None:
    events = Events()
    with events.watch(("job", 1)) as first, events.watch(("job", 1), "jobs") as both, events.watch("chat") as other:
        events.touch(("job", 1))
        assert await first.changed(10)
        assert await both.changed(10)
        assert not await other.changed(0)
        events.touch("jobs")
        assert await both.changed(10)
        assert not await first.changed(0)


async def test_many_changes_are_one_look() -> None:
    events = Events()
    with events.watch("topic") as watch:
        for _ in range(5):
            events.touch("topic")
        assert await watch.changed(10)
        assert not await watch.changed(0)


async def test_a_change_between_two_waits_is_not_missed() -> None:
    # The watcher looks at the store while something changes: its next wait must return at once.
    events = Events()
    with events.watch("topic") as watch:
        assert not await watch.changed(0)
        events.touch("topic")
        assert await watch.changed(10)


async def test_no_wake_up_is_lost_between_a_writer_and_a_reader() -> None:
    events, written, read = Events(), 0, 0

    async def write() -> None:
        nonlocal written
        for _ in range(500):
            written += 1
            events.touch("topic")
            await asyncio.sleep(0)  # a turn for the reader, at any point of its own loop

    async with asyncio.timeout(20):
        with events.watch("topic") as watch:
            writer = asyncio.create_task(write())
            while read < 500:
                assert await watch.changed(10)
                read = written
            await writer


async def test_a_wait_that_is_cancelled_keeps_the_change() -> None:
    events = Events()
    with events.watch("topic") as watch:
        waiting = asyncio.create_task(watch.changed())
        await asyncio.sleep(0)
        waiting.cancel()
        events.touch("topic")
        await asyncio.gather(waiting, return_exceptions=True)
        assert await watch.changed(0.01)


async def test_nobody_watches_after_the_block() -> None:
    events = Events()
    with pytest.raises(ValueError, match="inside"), events.watch("one", "two"):
        raise ValueError("inside")
    assert events._watches == {}
    events.touch("one", "nobody ever watched this")


async def test_ticks_come_at_once_at_each_change_and_when_nothing_changes() -> None:
    events = Events()
    ticks = events.ticks("topic", at_least_every_s=3600)
    async with asyncio.timeout(20):
        await anext(ticks)  # at once: what was there before is looked at
        events.touch("topic")
        await anext(ticks)
        waiting = asyncio.ensure_future(anext(ticks))
        await asyncio.sleep(0)
        assert not waiting.done()
        events.touch("topic")
        await waiting
    await ticks.aclose()
    async with asyncio.timeout(20):
        often = events.ticks("topic", at_least_every_s=0.001)
        for _ in range(3):
            await anext(often)
    await often.aclose()
    assert events._watches == {}
