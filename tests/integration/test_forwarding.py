"""People talk with the service through Regrow while everything in between is switched, killed and held up (F33)."""

from __future__ import annotations

import asyncio
import bisect
import os
import signal
from pathlib import Path
from typing import Any

from regrow.testing.mortal import DIED, POINTS
from regrow.testing.world import World, eventually


async def talkative(make_world: Any, **settings: Any) -> tuple[World, Path]:
    """A world whose chat is forwarded, and the file of what the service was told."""
    world = await make_world(up=False)
    told = world.forward(**settings)
    await world.bring_up()
    return world, told


class Chat:
    """A person who says one thing after the other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = world.new_chat()
        self._said: list[tuple[int, str]] = []
        self.first: Any = None

    async def say(self, text: str) -> None:
        message = await self.world.tell(text, self.name)
        self.first = self.first or message
        # Two may be said at once: their order is that in which they were stored.
        bisect.insort(self._said, (message.id, text))

    @property
    def said(self) -> list[str]:
        return [text for _, text in self._said]

    async def answered(self) -> None:
        """Wait for the last answer; by then each message has exactly one, in order."""

        async def all_there() -> list[str] | None:
            heard = self.world.heard_of(self.first)
            return heard if len(heard) >= len(self.said) else None

        heard = await eventually(all_there, f"{len(self.said)} answers in {self.name}")
        assert heard == [f"re {text}" for text in self.said]

    async def quiet(self) -> None:
        """Nothing was said here but the answers, now that nothing is under way."""
        await self.world.settled()
        await self.answered()


async def talk(chat: Chat, over: asyncio.Event) -> None:
    while not over.is_set():
        await chat.say(f"message {len(chat.said)} of {chat.name}")
        await asyncio.sleep(0.03)  # a person's pace, not a wait for anything


async def test_what_is_for_regrow_is_not_for_the_service(make_world: Any) -> None:
    world, told = await talkative(make_world)
    chat = Chat(world)
    await chat.say("我的航班是什么")
    await chat.answered()
    assert "tiny" in await world.answer("status")
    assert "重启" in await world.answer("帮助")
    assert [line.partition("\t")[2] for line in told.read_text().splitlines()] == ["我的航班是什么"]


async def test_a_conversation_goes_on_through_restarts(make_world: Any) -> None:
    world, _ = await talkative(make_world)
    chats, over = [Chat(world) for _ in range(3)], asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for chat in chats:
            group.create_task(talk(chat, over))
        for _ in range(3):
            assert "运行正常" in await world.say("重启一下")
        over.set()
    for chat in chats:
        await chat.quiet()
        assert len(chat.said) > 3


async def test_a_service_that_dies_and_one_that_hangs_lose_nothing(make_world: Any) -> None:
    world, _ = await talkative(make_world, forward_timeout="500ms")
    chats, over = [Chat(world) for _ in range(2)], asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for chat in chats:
            group.create_task(talk(chat, over))
        for number in (signal.SIGKILL, signal.SIGSTOP):
            before = await world.pid()
            os.kill(before, number)
            for chat in chats:
                await chat.say(f"is anybody there after {number.name}")
            if number == signal.SIGSTOP:
                os.kill(before, signal.SIGCONT)
            await eventually(world.pid, "the service answers")
        over.set()
    for chat in chats:
        await chat.quiet()


async def test_a_daemon_killed_under_load_answers_each_message_once(make_world: Any) -> None:
    world, _ = await talkative(make_world)
    chats, over = [Chat(world) for _ in range(3)], asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for chat in chats:
            group.create_task(talk(chat, over))
        for _ in range(3):
            said = [len(chat.said) for chat in chats]

            async def more(said: list[int] = said) -> bool:
                return all(len(chat.said) > count + 3 for chat, count in zip(chats, said, strict=True))

            await eventually(more, "people talk")
            await world.kill_daemon()
            await world.start_daemon()
        over.set()
    for chat in chats:
        await chat.quiet()


async def test_a_daemon_killed_between_the_answer_and_its_record_asks_again_and_sends_once(
    make_world: Any, tmp_path: Path
) -> None:
    world, told = await talkative(make_world)
    await world.kill_daemon(signal.SIGTERM)
    await world.start_daemon({POINTS: "forward:post:end", DIED: str(tmp_path)}, "regrow.testing.mortal")
    chat = Chat(world)
    await chat.say("hello")
    assert await world.daemon_ended() == -signal.SIGKILL
    assert world.rows("select state from forwards") == [("waiting",)]
    assert world.rows("select key from outbox where key like 'forward:%'") == []
    await world.start_daemon()
    await chat.quiet()
    lines = told.read_text().splitlines()
    assert lines == [f"web:{chat.first.id}\thello"] * 2, "asked twice, under one key"
