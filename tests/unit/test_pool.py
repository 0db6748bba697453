"""Blocking work in threads of our own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from regrow.pool import in_thread


async def test_work_runs_in_a_thread_of_ours_and_its_result_comes_back() -> None:
    def work(left: int, *, right: int) -> tuple[int, str]:
        return left + right, threading.current_thread().name

    total, name = await in_thread(work, 1, right=2)
    assert total == 3
    assert name.startswith("blocking")


async def test_an_error_comes_back() -> None:
    def work() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await in_thread(work)


async def test_the_default_executor_being_full_holds_nothing_up() -> None:
    loop, release = asyncio.get_running_loop(), threading.Event()
    full = [loop.run_in_executor(None, release.wait, 30) for _ in range(64)]
    try:
        async with asyncio.timeout(20):
            assert await in_thread(lambda: "done") == "done"
    finally:
        release.set()
        await asyncio.gather(*full)


async def test_the_loop_goes_on_while_work_blocks() -> None:
    release = threading.Event()
    blocked = asyncio.create_task(in_thread(release.wait, 30))
    asyncio.get_running_loop().call_soon(release.set)  # only a running loop gets here
    async with asyncio.timeout(20):
        assert await blocked
