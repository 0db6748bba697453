"""Three times of one clock, moved apart; and limits on it."""

from __future__ import annotations

import asyncio
import time

import pytest

from regrow.testing.feishu.clock import EmulatorClock, Limit


async def test_a_stopped_clock_moves_only_when_it_is_moved() -> None:
    clock = EmulatorClock(running=False)
    before = (clock.now(), clock.monotonic(), clock.timeline())
    assert (clock.now(), clock.monotonic(), clock.timeline()) == before
    clock.advance(7)
    assert [round(time, 6) for time in (clock.now() - before[0], clock.monotonic(), clock.timeline())] == [7, 7, 7]


async def test_sleepers_wake_when_their_time_is_skipped() -> None:
    clock = EmulatorClock(running=False)
    woken: list[int] = []

    async def sleep(seconds: int) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        tasks = {seconds: group.create_task(sleep(seconds)) for seconds in (15, 300)}
        await asyncio.sleep(0)
        clock.advance(14)
        await asyncio.sleep(0)
        assert woken == []
        clock.advance(1)
        await tasks[15]
        assert woken == [15]
        clock.advance(285)
    assert woken == [15, 300]


async def test_only_the_timeline_is_sped_up() -> None:
    clock = EmulatorClock(speed=1_000_000)
    async with asyncio.timeout(10):
        await clock.sleep(21_600)
    assert clock.timeline() >= 21_600
    assert clock.monotonic() < 21_600
    assert abs(clock.now() - time.time()) < 21_600


def test_only_the_wall_clock_is_put_wrong() -> None:
    clock = EmulatorClock(running=False)
    before = clock.now()
    clock.skew(-600)
    assert (clock.now() - before, clock.monotonic(), clock.timeline()) == (-600, 0, 0)


def test_the_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="cannot move the clock back"):
        EmulatorClock().advance(-1)


def test_a_limit_says_how_long_to_wait_by_key() -> None:
    clock = EmulatorClock(running=False)
    limit = Limit(clock, lambda: 2, 1.0)
    assert limit.take("a") == 0
    clock.advance(0.25)
    assert limit.take("a") == 0
    assert limit.take("a") == pytest.approx(0.75)
    assert limit.take("b") == 0
    clock.advance(0.75)
    assert limit.take("a") == 0
    assert limit.take("a") == pytest.approx(0.25)
