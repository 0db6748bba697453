"""C21, C23, C25: presses are answered in time, once, and lock their card no longer than that."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from regrow.channels.base import Press, Pressed
from regrow.channels.feishu.clicks import Clicks


class Reader:
    def identity(self, open_id: str, union_id: str, outside: bool = False) -> tuple[str, str]:
        return (f"outside:{open_id}" if outside else open_id), open_id


def event(**header: str) -> dict[str, Any]:
    return {
        "header": {"event_id": "e1", "tenant_key": "t", **header},
        "event": {
            "operator": {"open_id": "ou_1", "tenant_key": "t"},
            "action": {"value": {"action": "approve:1:d", "key": "k"}},
            "context": {"open_message_id": "om_1", "open_chat_id": "oc_1"},
        },
    }


def clicks(take: Any, answer_s: float = 5.0) -> Clicks:
    return Clicks(Reader(), take, lambda pressed, message: None, answer_s)  # type: ignore[arg-type]


async def test_a_press_is_taken_with_all_that_decides_and_locks_until_the_answer_is_out() -> None:
    taken: list[Press] = []

    async def take(press: Press) -> Pressed:
        taken.append(press)
        assert one.locked("om_1")
        return Pressed(False, "no")

    one = clicks(take)
    answer = await one.handle(event())
    assert taken == [Press("feishu", "oc_1", "om_1", "ou_1", "ou_1", "approve:1:d")]
    assert answer.data == {"toast": {"type": "error", "content": "no"}}
    assert one.locked("om_1")
    assert answer.sent is not None
    answer.sent()
    assert not one.locked("om_1")


async def test_c23_two_deliveries_of_one_event_are_one_press() -> None:
    count = 0

    async def take(press: Press) -> Pressed:
        nonlocal count
        count += 1
        await asyncio.sleep(0)
        return Pressed(True, f"press {count}")

    one = clicks(take)
    first, second = await asyncio.gather(one.handle(event()), one.handle(event()))
    third = await one.handle(event(event_id="e2"))
    assert first.data == second.data
    assert third.data is not None
    assert third.data["toast"]["content"] == "press 2"
    # An event without an id cannot be told from another: each is a press.
    await asyncio.gather(one.handle(event(event_id="")), one.handle(event(event_id="")))
    assert count == 4


async def test_c21_what_takes_longer_is_answered_and_goes_on() -> None:
    go, ended = asyncio.Event(), asyncio.Event()

    async def take(press: Press) -> Pressed:
        await go.wait()
        ended.set()
        return Pressed(True, "done")

    one = clicks(take, 0.01)
    answer = await one.handle(event())
    assert answer.data is not None
    assert answer.data["toast"]["type"] == "info"
    go.set()
    async with asyncio.timeout(10):
        await ended.wait()
    await one.close()


async def test_c25_a_press_cut_off_unlocks_its_card() -> None:
    async def take(press: Press) -> Pressed:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    one = clicks(take)
    task = asyncio.create_task(one.handle(event()))
    while not one.locked("om_1"):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not one.locked("om_1")
    one._answer_s = 0.01
    await one.close()


@pytest.mark.parametrize("value", [None, "approve:1:d", {"action": 5}, []])
async def test_a_value_that_is_not_ours_is_no_action(value: Any) -> None:
    taken: list[Press] = []

    async def take(press: Press) -> Pressed:
        taken.append(press)
        return Pressed(False, "no")

    strange = event()
    strange["event"]["action"]["value"] = value
    await clicks(take).handle(strange)
    assert taken[0].action in {"", "5"}


async def test_f37_a_guest_presses_as_nobody() -> None:
    taken: list[Press] = []

    async def take(press: Press) -> Pressed:
        taken.append(press)
        return Pressed(False, "no")

    guest = event()
    guest["event"]["operator"]["tenant_key"] = "elsewhere"
    await clicks(take).handle(guest)
    assert taken[0].sender == "outside:ou_1"
