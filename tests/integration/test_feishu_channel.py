"""The Feishu channel against the emulator: the checklist C1 to C38 of a good client, as a whole channel shows it.

What only concerns one file (frames, parts, cards, single calls) is in tests/unit/channels/feishu/.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
import structlog

from regrow.channels.base import Address, Choice, Content, Incoming, Press, Pressed
from regrow.channels.feishu.api import App
from regrow.channels.feishu.channel import FeishuChannel
from regrow.channels.feishu.connection import Timing
from regrow.errors import ConfigError, Refused, StoreError
from regrow.events import Events
from regrow.inbox import Inbox
from regrow.outbox import Outbox
from regrow.secret import Secret
from regrow.store import Store, inbox
from regrow.testing.feishu import FeishuEmulator, Message, Settings

SRC = Path(__file__).resolve().parents[2] / "src"
DEADLINE_S = 15.0
QUICK = Timing(endpoint=2.0, opening=2.0, backoff=0.05, backoff_most=0.2, crowded=0.2)


async def until(found: Callable[[], Any], what: str, within_s: float = DEADLINE_S) -> Any:
    """Wait until `found()` is true."""
    deadline = time.monotonic() + within_s
    while not (value := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"cannot see {what} within {within_s} s")
        await asyncio.sleep(0.01)
    return value


class Bot:
    """A channel between a real inbox and a real outbox; what is heard is kept, and answered by `answer`."""

    def __init__(self, feishu: FeishuEmulator, path: Path, **options: Any) -> None:
        self.feishu = feishu
        self.path = path
        self.options = options
        self.heard: list[Incoming] = []
        self.answer: Callable[[Incoming], Awaitable[None]] | None = None
        self.press: Callable[[Press], Awaitable[Pressed]] | None = None
        self.pressed: list[Press] = []
        self.refuse_store = 0
        self.names: dict[str, str] = {}

    async def start(self, wait: bool = True) -> Bot:
        """Open the store and run."""
        self.events = Events()
        self.store = Store(self.path)
        self.inbox, self.outbox = Inbox(self.store, self.events), Outbox(self.store, self.events)
        app = App(self.feishu.app.app_id, Secret(self.feishu.app.secret), self.feishu.base_url)
        options: dict[str, Any] = {"timing": QUICK, "catch_up_s": 3600.0} | self.options
        self.channel = FeishuChannel(
            app,
            name_of=self.names.get,
            press=self._press,
            known=lambda: self.inbox.newest("feishu"),
            **options,
        )
        self.running = asyncio.create_task(self.channel.run(self._take))
        self.tasks = [
            self.running,
            asyncio.create_task(self.inbox.run(self._handle)),
            asyncio.create_task(self.outbox.run({"feishu": self.channel})),
        ]
        if wait:
            await self.feishu.connected()
            await until(lambda: self.channel.connection.connected, "the connection")
        return self

    async def stop(self) -> None:
        """Stop as the daemon does."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.channel.close()
        self.store.close()

    async def nothing_waits(self) -> None:
        """Wait until what was heard is written down as handled: who stops before that hears it again."""
        waiting = sa.select(inbox.c.id).where(inbox.c.handled_at.is_(None))
        async with asyncio.timeout(30):
            while await self.store.row(waiting) is not None:
                await asyncio.sleep(0.005)

    async def say(self, key: str, chat: str, text: str, *choices: Choice, reply_to: str = "", job: int = 1) -> None:
        await self.outbox.put(key, Address("feishu", chat, reply_to), Content(text, choices), job)

    async def _take(self, message: Incoming, after: asyncio.Future[None] | None = None, /) -> bool:
        if self.refuse_store:
            self.refuse_store -= 1
            raise StoreError("cannot write: the disk is full; free it")
        return await self.inbox.take(message, after)

    async def _handle(self, message: Incoming) -> None:
        self.heard.append(message)
        if self.answer is not None:
            await self.answer(message)

    async def _press(self, press: Press) -> Pressed:
        self.pressed.append(press)
        return await self.press(press) if self.press else Pressed(True, "ok")


@pytest.fixture
async def feishu() -> AsyncIterator[FeishuEmulator]:
    async with FeishuEmulator() as emulator:
        yield emulator


@pytest.fixture
async def bot(feishu: FeishuEmulator, tmp_path: Path) -> AsyncIterator[Bot]:
    one = await Bot(feishu, tmp_path / "regrow.db").start()
    yield one
    await one.stop()


# The straight path


async def test_a_conversation_in_group_private_chat_and_topic(bot: Bot, feishu: FeishuEmulator) -> None:
    """Section 9.7: everything once."""
    tom, ann = feishu.user("Tom"), feishu.user("Ann")
    group = feishu.group("ops", [tom, ann])

    async def answer(message: Incoming) -> None:
        await bot.outbox.put(f"a:{message.address.message}", message.address, Content(f"heard {message.text}"), 1)

    bot.answer = answer
    first = await tom.say(group, "@bot 重启一下")
    card = await feishu.wait_for(group, "heard 重启一下")
    assert (card.kind, card.parent) == ("interactive", first)
    unmentioned = await tom.say(group, "just talking to @Ann")
    assert feishu.deliveries(unmentioned) == []
    await ann.say(ann.private(), "状态")
    await feishu.wait_for(ann.private(), "heard 状态")
    root = await tom.say(group, "@bot 部署 @Ann 的分支", thread=first)
    in_topic = await feishu.wait_for(group, "heard 部署 @Ann 的分支")
    assert in_topic.thread_id == root.thread_id != ""
    assert bot.heard[2].address.chat == f"{group.id}/{root.thread_id}"
    feishu.shard_next(5, shuffled=True)
    await tom.say(group, "@bot 中文中文中文" * 30)
    await feishu.wait_for(group, "heard 中文中文中文")
    feishu.reset()
    await feishu.disconnected()
    await feishu.connected()
    await tom.say(group, "@bot 还在吗")
    await feishu.wait_for(group, "heard 还在吗")
    assert all(message.sender == tom.open_id() for message in bot.heard if message.address.chat.startswith(group.id))
    feishu.verify(allow_codes={230027})


async def test_rich_text_quotes_and_images_are_words_and_evidence(bot: Bot, feishu: FeishuEmulator) -> None:
    feishu.app.scopes.add("im:message.group_msg")
    tom = feishu.user("Tom")
    group = feishu.group("ops", [tom])
    log = await tom.say(group, "Traceback:\n```sh\nrm -rf /\n```")
    await tom.say(group, "@bot 修一下这个bug\n第二行", quote=log, kind="post")
    image = await tom.send(group, "image", {"image_key": "img_1"})
    await tom.say(group, "@bot 看图", quote=image)
    await until(lambda: len(bot.heard) == 2, "both messages")
    assert bot.heard[0].text == "修一下这个bug\n第二行\n> Traceback:\n> '''sh\n> rm -rf /\n> '''"
    assert bot.heard[1].text == "看图\n> [image]"


async def test_f37_a_guest_of_another_tenant_is_nobody(bot: Bot, feishu: FeishuEmulator) -> None:
    guest, tom = feishu.user("Guest", guest=True), feishu.user("Tom")
    bot.names = {guest.open_id(): "Guest", tom.union_id: "Tom the owner"}
    bot.channel._reader._name_of = bot.names.get
    group = feishu.group("ops", [guest, tom])
    await guest.say(group, "@bot 重启")
    await tom.say(group, "@bot 状态")
    await until(lambda: len(bot.heard) == 2, "both messages")
    by_text = {message.text: message for message in bot.heard}
    assert by_text["重启"].sender == f"outside:{guest.open_id()}"
    # Known by union_id, though the event leads with the open_id.
    assert (by_text["状态"].sender, by_text["状态"].sender_name) == (tom.union_id, "Tom the owner")


# Wire


async def test_c2_c11_pings_at_once_and_by_the_interval_of_the_last_pong(
    feishu: FeishuEmulator, tmp_path: Path
) -> None:
    feishu.settings.ping_interval = 120
    bot = await Bot(feishu, tmp_path / "db").start()
    assert feishu.gateway.connections[0].pings == 1
    assert bot.channel.health().healthy
    assert bot.channel.connection.silence_s < DEADLINE_S
    feishu.settings.ping_interval = 1
    config = feishu.settings.client_config()
    from regrow.channels.feishu.frames import Frame

    await feishu.send_garbage(
        Frame(headers=(("type", "pong"),), service=1, payload=json.dumps(config).encode()).encode()
    )
    await feishu.journal.wait(lambda: feishu.gateway.connections[0].pings >= 2, for_what="a second ping")
    # Senseless settings change nothing.
    for payload in (b"{", b"[]", b'{"PingInterval": -1}', b'{"PingInterval": "x"}', b'{"PingInterval": 1e99}', b"{}"):
        await feishu.send_garbage(Frame(headers=(("type", "pong"),), payload=payload).encode())
    await feishu.journal.wait(lambda: feishu.gateway.connections[0].pings >= 4, for_what="more pings")
    assert bot.channel.connection.connects == 1
    await bot.stop()


async def test_c3_c4_events_in_parts_are_acknowledged_once_each(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    chat = tom.private()
    said = []
    for number in range(10):
        feishu.shard_next(3 + number, shuffled=bool(number % 2))
        said.append(await tom.say(chat, f"消息{number}"))
    await until(lambda: len(bot.heard) == 10, "ten messages")
    for message in said:
        (delivery,) = await feishu.delivered(message)
        assert (delivery.attempts, delivery.acks) == (["200"], 1)
    feishu.shard_next(3, incomplete=True)
    again = await tom.say(chat, "晚到的")
    (delivery,) = await feishu.delivered(again, timeout=20)
    assert delivery.attempts == ["timeout", "200"]
    await until(lambda: len(bot.heard) == 11, "the late one")
    assert [m.text for m in bot.heard].count("晚到的") == 1
    feishu.verify()


async def test_c5_c10_strange_events_are_acknowledged_and_strange_bytes_survived(
    bot: Bot, feishu: FeishuEmulator
) -> None:
    feishu.settings.clicks_as_card_frames = True
    strange: list[tuple[str, dict[str, Any]]] = [
        ("im.message.reaction.created_v1", {"message_id": "om_1"}),
        ("nobody.knows_v9", {}),
        ("im.message.receive_v1", {}),
        ("im.message.receive_v1", {"message": {"message_id": "../x"}, "sender": {"sender_type": "user"}}),
        ("im.message.receive_v1", {"message": {"mentions": 7}, "sender": 5}),
        ("card.action.trigger", {}),
    ]
    for kind, event in strange:
        delivery = feishu.inject(kind, event)
        async with asyncio.timeout(DEADLINE_S):
            await delivery.done.wait()
        assert delivery.attempts == ["200"], kind
    for garbage in (
        b"",
        b"\x00",
        b"\xff" * 50,
        bytes.fromhex("18f68180102a0c0a0474797065120470696e67"),
        os.urandom(900),
    ):
        await feishu.send_garbage(garbage)
    tom = feishu.user("Tom")
    await tom.say(tom.private(), "noch da?")
    await until(lambda: bot.heard, "a message after the garbage")
    assert bot.channel.connection.connects == 1
    bot.press = None
    await bot.say("k", tom.private().id, "x\ny", Choice("Go", "cancel:1", "plain"))
    card = await feishu.wait_for(tom.private(), "Go")
    assert (await tom.click(card, "Go")).shown == "toast"
    feishu.verify()


async def test_c10_huge_payloads_end_nothing(bot: Bot, feishu: FeishuEmulator) -> None:
    """The longest text is taken; a frame that no platform sends costs the connection, not the channel."""
    tom = feishu.user("Tom")
    feishu.shard_next(7)
    await tom.say(tom.private(), "长" * 49_000)
    await until(lambda: bot.heard, "the long message")
    assert bot.heard[0].text == "长" * 49_000
    for payload in (b'{"a":' * 100_000, b"[" * 2_000_000):
        headers = {"type": "event", "message_id": "m", "sum": "1", "seq": "0", "trace_id": "t"}
        from regrow.channels.feishu.frames import Frame

        frame = Frame(headers=tuple(headers.items()), method=1, payload=payload)
        await feishu.send_garbage(frame.encode())
    await tom.say(tom.private(), "still there?")
    await until(lambda: len(bot.heard) == 2, "a message after them")
    assert bot.channel.connection.connects == 1
    await feishu.send_garbage(bytes(9 * 2**20))
    await until(lambda: bot.channel.connection.connects == 2, "a new connection")
    await tom.say(tom.private(), "and now?")
    await until(lambda: len(bot.heard) == 3, "a message over the new connection")


# Staying alive


async def test_c6_a_frozen_connection_is_replaced(bot: Bot, feishu: FeishuEmulator) -> None:
    began = time.monotonic()
    assert feishu.freeze() == 1
    await feishu.connected(timeout=30)
    assert bot.channel.connection.connects == 2
    assert "no longer answers" in bot.channel.connection.error or bot.channel.connection.connected
    # Pings every second: noticed after two more seconds of silence.
    assert time.monotonic() - began < 30
    # The platform would give an event to either of the two it has open.
    for dead in [connection for connection in feishu.gateway.connections if connection.frozen]:
        dead.socket.transport.abort()
    await feishu.journal.wait(lambda: len(feishu.gateway.connections) == 1)
    tom = feishu.user("Tom")
    await tom.say(tom.private(), "hello")
    await until(lambda: bot.heard, "a message over the new connection")


async def test_c6_an_open_socket_without_pongs_is_replaced(bot: Bot, feishu: FeishuEmulator) -> None:
    feishu.settings.answer_pings = False
    await until(lambda: bot.channel.connection.connects >= 2, "another connection")
    feishu.settings.answer_pings = True
    await until(lambda: bot.channel.health().healthy, "health")


async def test_c7_a_hanging_endpoint_ends_by_its_timeout(feishu: FeishuEmulator, tmp_path: Path) -> None:
    feishu.hang_next("POST /callback/ws/endpoint")
    bot = Bot(feishu, tmp_path / "db", timing=Timing(endpoint=0.3, backoff=0.05))
    await bot.start()
    assert bot.channel.connection.connects == 1
    await bot.stop()


@pytest.mark.parametrize("code", [1, 1000040343, 1000040350])
async def test_c8_c9_codes_that_are_retried(feishu: FeishuEmulator, tmp_path: Path, code: int) -> None:
    feishu.fail_next("POST /callback/ws/endpoint", 200, code, count=3)
    bot = Bot(feishu, tmp_path / "db")
    with structlog.testing.capture_logs() as logs:
        await bot.start()
    assert any("another process" in entry["event"] for entry in logs) == (code == 1000040350)
    await bot.stop()


@pytest.mark.parametrize("status", [500, 400])
async def test_c8_c29_an_endpoint_that_answers_html_is_retried(
    feishu: FeishuEmulator, tmp_path: Path, status: int
) -> None:
    feishu.fail_next("POST /callback/ws/endpoint", status, raw="<html>oops</html>")
    bot = await Bot(feishu, tmp_path / "db").start()
    await bot.stop()


@pytest.mark.parametrize(("code", "status"), [(403, 200), (514, 200), (1000040351, 400), (1000040345, 200)])
async def test_c8_codes_that_end_it(feishu: FeishuEmulator, tmp_path: Path, code: int, status: int) -> None:
    feishu.fail_next("POST /callback/ws/endpoint", status, code, msg="no")
    bot = await Bot(feishu, tmp_path / "db").start(wait=False)
    with pytest.raises(ConfigError, match=str(code)):
        async with asyncio.timeout(DEADLINE_S):
            await bot.running
    assert not bot.channel.health().healthy
    assert str(code) in bot.channel.health().detail
    await bot.stop()


async def test_c8_a_403_at_a_reconnect_ends_it_too(bot: Bot, feishu: FeishuEmulator) -> None:
    feishu.app.enabled = False
    feishu.reset()
    with pytest.raises(ConfigError):
        async with asyncio.timeout(DEADLINE_S):
            await bot.running
    health = bot.channel.health()
    assert not health.healthy
    assert "the platform forbids it" in health.detail


@pytest.mark.parametrize(("off_s", "told"), [(-600.0, "ahead of"), (600.0, "behind")])
async def test_f33_a_clock_ten_minutes_off_loses_nothing_and_is_told_of(
    feishu: FeishuEmulator, tmp_path: Path, off_s: float, told: str
) -> None:
    feishu.clock.skew(off_s)
    bot = await Bot(feishu, tmp_path / "db").start()
    tom = feishu.user("Tom")
    await tom.say(tom.private(), "one")
    await until(lambda: bot.heard, "the message")
    feishu.lose_next()
    await tom.say(tom.private(), "two")
    feishu.reset()
    await until(lambda: len(bot.heard) == 2, "what was lost")
    health = bot.channel.health()
    assert not health.healthy
    assert f"{told} the platform's; set it" in health.detail
    feishu.clock.skew(-off_s)
    bot.channel.catch_up.wake()
    await until(lambda: bot.channel.health().healthy, "health, once the clock is right")
    await bot.stop()


async def test_c10_refused_handshakes(feishu: FeishuEmulator, tmp_path: Path) -> None:
    feishu.refuse_next_handshake(514, "stale ticket", 1000040342)
    feishu.refuse_next_handshake(514, "too many", 1000040350)
    feishu.refuse_next_handshake(500, "server")
    bot = await Bot(feishu, tmp_path / "db").start()
    await bot.stop()
    feishu.refuse_next_handshake(514, "no", count=2)
    bot = await Bot(feishu, tmp_path / "db").start(wait=False)
    with pytest.raises(ConfigError, match="514"):
        async with asyncio.timeout(DEADLINE_S):
            await bot.running
    await bot.stop()


async def test_c9_c10_closes_and_resets_are_survived_with_a_fresh_address_each(
    bot: Bot, feishu: FeishuEmulator
) -> None:
    tom = feishu.user("Tom")
    for number in range(6):
        if number % 2:
            feishu.reset()
        else:
            await feishu.drop_connections(code=(1000, 1001, 1011)[number // 2])
        await feishu.disconnected()
        await feishu.connected()
        await tom.say(tom.private(), f"after {number}")
        await until(lambda number=number: len(bot.heard) == number + 1, "the message")
    assert bot.channel.connection.connects == 7
    # A used address is refused by the emulator with 514.
    assert feishu.journal.of("connection", did="refused") == []


async def test_c12_stopping_acknowledges_what_is_being_stored(bot: Bot, feishu: FeishuEmulator) -> None:
    entered, go = asyncio.Event(), asyncio.Event()
    original = bot.inbox.take

    async def slow(message: Incoming, after: asyncio.Future[None] | None = None, /) -> bool:
        entered.set()
        await go.wait()
        return await original(message, after)

    bot.inbox.take = slow  # type: ignore[method-assign]
    tom = feishu.user("Tom")
    said = await tom.say(tom.private(), "last words")
    await entered.wait()
    bot.running.cancel()
    await asyncio.sleep(0)
    go.set()
    began = time.monotonic()
    await asyncio.gather(bot.running, return_exceptions=True)
    assert time.monotonic() - began < DEADLINE_S
    (delivery,) = await feishu.delivered(said)
    assert delivery.attempts == ["200"]
    await feishu.disconnected()
    assert feishu.journal.of("connection", did="closed")[-1].what["code"] == 1000
    left = {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("feishu")}
    assert left == set()


async def test_c13_two_clients_in_one_process(feishu: FeishuEmulator, tmp_path: Path, bot: Bot) -> None:
    async with FeishuEmulator() as other_platform:
        other = await Bot(other_platform, tmp_path / "other.db").start()
        for platform in (feishu, other_platform):
            tom = platform.user("Tom")
            await tom.say(tom.private(), "hi")
        await until(lambda: bot.heard and other.heard, "both")
        await other.stop()


# Events


async def test_c14_a_message_that_is_not_on_disk_is_not_acknowledged(bot: Bot, feishu: FeishuEmulator) -> None:
    bot.refuse_store = 2  # as event and as history: the chat is a new one, and looked at before it is heard
    tom = feishu.user("Tom")
    said = await tom.say(tom.private(), "重启")
    (delivery,) = await feishu.delivered(said)
    assert delivery.attempts == ["500", "200"]
    await until(lambda: bot.heard, "the message")
    assert len(bot.heard) == 1


@pytest.mark.parametrize("new_id", [False, True], ids=["same id", "new id"])
async def test_c16_f34_redelivery_over_six_hours_and_restarts_is_handled_once(tmp_path: Path, new_id: bool) -> None:
    """The documented retries at 15 s, 5 min, 1 h and 6 h on the movable clock, with a restart before each."""
    async with FeishuEmulator(Settings(speed=1.0, ping_interval=1)) as feishu:
        bot = await Bot(feishu, tmp_path / "regrow.db").start()
        tom = feishu.user("Tom")
        feishu.ignore_next_ack(2 if new_id else 1, attempts=4)
        if new_id:
            feishu.duplicate(new_id=True)
        await tom.say(tom.private(), "重启")
        await until(lambda: bot.heard, "the message")
        heard = len(bot.heard)
        deliveries = feishu.gateway.deliveries
        for number, wait in enumerate((15, 300, 3600, 21600), 1):
            await until(lambda n=number: all(len(d.attempts) == n for d in deliveries), f"attempt {number}")
            await bot.stop()
            heard += len(bot.heard) if number > 1 else 0
            bot = await Bot(feishu, tmp_path / "regrow.db").start()
            feishu.advance(wait)
        await until(lambda: all(d.done.is_set() for d in deliveries), "the end of all deliveries")
        assert [d.attempts for d in deliveries] == [["timeout"] * 4 + ["200"]] * (2 if new_id else 1)
        assert heard + len(bot.heard) == 1
        await bot.stop()


async def test_c16_duplicates_after_success_are_handled_once(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    for options in ({}, {"new_event_id": True}, {"new_id": True}):
        feishu.duplicate(**options)
        await tom.say(tom.private(), f"mit {options}")
    await until(lambda: len(bot.heard) >= 3, "three messages")
    await until(lambda: all(d.done.is_set() for d in feishu.gateway.deliveries), "the end of all deliveries")
    assert len(feishu.gateway.deliveries) == 6
    assert len(bot.heard) == 3


async def test_c17_slow_work_does_not_hold_up_acknowledgements(bot: Bot, feishu: FeishuEmulator) -> None:
    release = asyncio.Event()

    async def slow(message: Incoming) -> None:
        await release.wait()

    bot.answer = slow
    tom = feishu.user("Tom")
    said = [await tom.say(tom.private(), f"m{n}") for n in range(20)]
    for message in said:
        (delivery,) = await feishu.delivered(message)
        assert delivery.attempts == ["200"]
    await until(lambda: bot.heard, "the first one")
    assert len(bot.heard) == 1
    release.set()
    await until(lambda: len(bot.heard) == 20, "all of them")
    assert [message.text for message in bot.heard] == [f"m{n}" for n in range(20)]


async def test_c19_a_lost_event_is_found_in_the_history_once(feishu: FeishuEmulator, tmp_path: Path) -> None:
    feishu.app.scopes.add("im:message.group_msg")
    bot = Bot(feishu, tmp_path / "db")
    await bot.start()
    bot.channel.catch_up._settle_s = -5.0
    tom = feishu.user("Tom")
    group = feishu.group("ops", [tom])
    first = await tom.say(group, "@bot one")
    await tom.say(tom.private(), "eins")
    topic = await tom.say(group, "@bot in the topic", thread=first)
    await until(lambda: len(bot.heard) == 3, "the chats")
    feishu.lose_next(4)
    await tom.say(group, "@bot two")
    await tom.say(tom.private(), "zwei")
    await tom.say(group, "@bot more of the topic", thread=topic)
    looks = bot.channel.catch_up.looks
    feishu.reset()
    await until(lambda: len(bot.heard) >= 6, "what was lost")
    await until(lambda: bot.channel.catch_up.looks > looks, "the end of the look")
    assert sorted(message.text for message in bot.heard) == sorted(
        ["one", "eins", "in the topic\n> @bot one", "two", "zwei", "more of the topic\n> @bot one"]
    )
    assert {message.sender for message in bot.heard} == {tom.open_id()}
    bot.channel.catch_up.wake()
    await until(lambda: bot.channel.catch_up.looks > looks + 1, "another look")
    assert len(bot.heard) == 6
    await bot.stop()


async def test_c19_what_was_said_while_the_process_was_away_is_found(feishu: FeishuEmulator, tmp_path: Path) -> None:
    tom = feishu.user("Tom")
    bot = await Bot(feishu, tmp_path / "db").start()
    await tom.say(tom.private(), "eins")
    await until(lambda: bot.heard, "the first message")
    await bot.nothing_waits()
    await bot.stop()
    feishu.lose_next()
    await tom.say(tom.private(), "zwei")
    again = Bot(feishu, tmp_path / "db")
    await again.start()
    again.channel.catch_up._settle_s = -5.0
    again.channel.catch_up.wake()
    # That the chat is a private one is asked of the platform: no event of this process has told.
    await until(lambda: again.heard, "what was said meanwhile")
    assert [message.text for message in again.heard] == ["zwei"]
    await again.stop()


async def test_c19_groups_without_the_permission_are_told_of_once(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    group = feishu.group("ops", [tom])
    with structlog.testing.capture_logs() as logs:
        await tom.say(group, "@bot one")
        await until(lambda: bot.heard, "the message")
        for _ in range(3):
            looks = bot.channel.catch_up.looks
            bot.channel.catch_up.wake()
            await until(lambda looks=looks: bot.channel.catch_up.looks > looks, "a look")
    assert len([entry for entry in logs if entry["action"] == "feishu_no_history"]) == 1


async def test_f33_what_a_cut_took_comes_before_what_is_said_after_it(bot: Bot, feishu: FeishuEmulator) -> None:
    """Its event comes again only after the time of the acknowledgement and the platform's first wait."""
    feishu.app.scopes.add("im:message.group_msg")
    tom = feishu.user("Tom")
    group = feishu.group("ops", [tom])
    chats = (group, "@bot "), (tom.private(), "")
    for chat, to in chats:
        await tom.say(chat, f"{to}0")
    await until(lambda: len(bot.heard) == 2, "the chats")
    feishu.reset()
    cut = [await tom.say(chat, f"{to}1") for chat, to in chats]  # on a connection that is no more
    await feishu.disconnected()
    await feishu.connected()
    for number in (2, 3):
        for chat, to in chats:
            await tom.say(chat, f"{to}{number}")
    for message in cut:
        (delivery,) = await feishu.delivered(message)
        assert delivery.attempts == ["timeout", "200"]
    for chat, _ in chats:
        heard = [message.text for message in bot.heard if message.address.chat == chat.id]
        assert heard == ["0", "1", "2", "3"]


async def test_f33_a_new_chat_keeps_its_order_across_a_cut_too(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    feishu.reset()
    await tom.say(tom.private(), "first")
    await feishu.disconnected()
    await feishu.connected()
    await tom.say(tom.private(), "second")
    await until(lambda: len(bot.heard) == 2, "both messages")
    assert [message.text for message in bot.heard] == ["first", "second"]


async def test_f33_what_was_said_while_away_has_its_order_and_its_sender(
    feishu: FeishuEmulator, tmp_path: Path
) -> None:
    """The history knows nobody's union_id: who is known by it is told by an event of theirs."""
    tom = feishu.user("Tom")
    bot = Bot(feishu, tmp_path / "db")
    bot.names = {tom.union_id: "Tom the owner"}
    await bot.start()
    await tom.say(tom.private(), "0")
    await until(lambda: bot.heard, "the chat")
    await bot.stop()
    await feishu.disconnected()
    feishu.lose_next()
    await tom.say(tom.private(), "1")
    again = Bot(feishu, tmp_path / "db")
    again.names = bot.names
    await again.start()
    await until(lambda: again.channel.catch_up.looks, "a look")

    def new() -> list[tuple[str, str]]:
        # The first life may have ended before it wrote down that it had handled what it heard.
        return [(message.text, message.sender) for message in again.heard if message.text != "0"]

    assert new() == []  # too young to be taken from a stranger
    await tom.say(tom.private(), "2")
    await until(lambda: len(new()) == 2, "both messages")
    assert new() == [("1", tom.union_id), ("2", tom.union_id)]
    await again.stop()


async def test_f33_a_history_that_hangs_holds_nothing_up_for_long(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    feishu.hang_next("GET /im/v1/messages", count=3)
    said = [await tom.say(tom.private(), text) for text in "abc"]
    for message in said:
        (delivery,) = await feishu.delivered(message)
        assert delivery.attempts == ["200"]
    await until(lambda: len(bot.heard) == 3, "the messages")
    assert [message.text for message in bot.heard] == ["a", "b", "c"]


async def test_f33_the_history_waits_behind_no_answers(bot: Bot, feishu: FeishuEmulator) -> None:
    feishu.hang_next("POST /im/v1/messages", count=20)
    with structlog.testing.capture_logs() as logs:
        for number in range(20):
            user = feishu.user(f"U{number}")
            await bot.say(f"k{number}", user.private().id, "an answer\nx")
        await until(bot.channel.api._speaking.locked, "all that may speak at once")
        tom = feishu.user("Tom")
        await tom.say(tom.private(), "hi")
        await until(lambda: bot.heard, "the message")
    assert not [entry for entry in logs if entry["action"] == "feishu_no_history"]


async def test_f33_a_message_that_could_not_be_stored_is_waited_for(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    await tom.say(tom.private(), "0")
    await until(lambda: bot.heard, "the chat")
    bot.refuse_store = 1
    refused = await tom.say(tom.private(), "1")
    await until(lambda: not bot.refuse_store, "the refusal")
    await until(lambda: feishu.deliveries(refused)[0].attempts, "the end of the attempt")
    await tom.say(tom.private(), "2")
    await until(lambda: len(bot.heard) == 3, "all of them")
    assert [message.text for message in bot.heard] == ["0", "1", "2"]


async def test_c20_a_second_process_does_not_start(bot: Bot, feishu: FeishuEmulator, tmp_path: Path) -> None:
    second = await Bot(feishu, tmp_path / "second.db").start(wait=False)
    with pytest.raises(Refused, match=f"process {os.getpid()}") as error:
        await second.running
    assert error.value.kind == "locked"
    assert not second.channel.health().healthy
    await second.stop()
    assert len(feishu.gateway.connections) == 1


# Clicks


async def card_with_button(bot: Bot, feishu: FeishuEmulator) -> tuple[Any, Message]:
    tom = feishu.user("Tom")
    await bot.say("live", tom.private().id, "Fix web\nwaiting", Choice("批准", "approve:1:d1", "primary"))
    card = await feishu.wait_for(tom.private(), "批准")
    await until_recorded(bot, "live")
    return tom, card


async def until_recorded(bot: Bot, key: str) -> None:
    import sqlalchemy as sa

    from regrow.store import outbox

    deadline = time.monotonic() + DEADLINE_S
    query = sa.select(outbox.c.platform_id).where(outbox.c.key == key, outbox.c.state == "sent")
    while await bot.store.row(query) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_c21_a_quick_press_gets_its_toast_and_the_new_card_in_the_answer(
    bot: Bot, feishu: FeishuEmulator
) -> None:
    tom, card = await card_with_button(bot, feishu)

    async def press(press: Press) -> Pressed:
        await bot.say("live", tom.private().id, "Fix web\napproved by Tom")
        return Pressed(True, "已批准", await bot.outbox.shown("feishu", press.message))

    bot.press = press
    dialog = await tom.click(card, "批准")
    assert (dialog.shown, bot.pressed) == ("dialog", [])
    click = await tom.click(card, "批准", confirm=True)
    assert (click.shown, click.text, click.changed) == ("toast", "已批准", True)
    assert click.toast is not None
    assert click.toast["type"] == "success"
    assert "approved by Tom" in card.text
    assert bot.pressed == [Press("feishu", tom.private().id, card.id, tom.open_id(), tom.open_id(), "approve:1:d1")]
    await until_recorded(bot, "live")
    # C25: nothing was patched between press and answer.
    assert all(
        entry.what["code"] == 0 for entry in feishu.journal.of("http", api="PATCH /open-apis/im/v1/messages/:id")
    )


async def test_c21_c25_a_slow_press_is_answered_in_time_and_the_card_changed_later(
    bot: Bot, feishu: FeishuEmulator
) -> None:
    tom, card = await card_with_button(bot, feishu)
    release = asyncio.Event()

    async def press(press: Press) -> Pressed:
        await bot.say("live", tom.private().id, "Fix web\nat work")
        await release.wait()
        await bot.say("live", tom.private().id, "Fix web\ndone")
        return Pressed(True, "done")

    bot.press = press
    click = await tom.click(card, "批准", confirm=True)
    assert click.toast is not None
    assert (click.shown, click.toast["type"]) == ("toast", "info")
    assert set(click.toast["i18n"]) == {"zh_cn", "en_us"}
    release.set()
    await feishu.journal.wait(lambda: "done" in card.text, for_what="the card's end")
    feishu.verify()


async def test_c23_the_same_press_twice_is_one_and_two_presses_are_two(bot: Bot, feishu: FeishuEmulator) -> None:
    tom, card = await card_with_button(bot, feishu)
    feishu.repeat_clicks()
    click = await tom.click(card, "批准", confirm=True)
    assert click.again is not None
    assert click.again.answer == click.delivery.answer
    assert len(bot.pressed) == 1
    await tom.click(card, "批准", confirm=True)
    assert len(bot.pressed) == 2


async def test_c24_a_press_that_breaks_is_told_of_and_acknowledged(bot: Bot, feishu: FeishuEmulator) -> None:
    tom, card = await card_with_button(bot, feishu)

    async def press(press: Press) -> Pressed:
        raise RuntimeError("broken")

    bot.press = press
    click = await tom.click(card, "批准", confirm=True)
    assert click.toast is not None
    assert (click.shown, click.code, click.toast["type"]) == ("toast", 0, "error")


# Calls


async def test_c26_rate_limits_lose_nothing_and_keep_the_order(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    group = feishu.group("ops", [tom])
    feishu.another_bot_talks(group)
    feishu.fail_next("POST /im/v1/messages", 429, 99991400, headers={"x-ogw-ratelimit-reset": "1"}, count=2)
    for number in range(12):
        await bot.say(f"k{number}", group.id, f"number {number}\nx")
    await feishu.wait_for(group, "number 11", timeout=40)
    assert [message.text.split("\n")[0] for message in feishu.sent(group)] == [f"# number {n}" for n in range(12)]


async def test_c26_a_storm_of_refusals_deafens_nobody(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    await tom.say(tom.private(), "0")
    await until(lambda: bot.heard, "the chat")
    for call in ("POST /im/v1/messages", "GET /im/v1/messages", "GET /bot/v3/info"):
        feishu.fail_next(call, 429, 99991400, headers={"x-ogw-ratelimit-reset": "1"}, count=4)
    feishu.reset()
    await feishu.disconnected()
    await feishu.connected()
    await bot.say("k", tom.private().id, "result\nx")
    said = await tom.say(tom.private(), "1")
    (delivery,) = await feishu.delivered(said)
    assert delivery.attempts == ["200"]
    await feishu.wait_for(tom.private(), "result", timeout=40)
    await until(lambda: len(bot.heard) == 2, "the message, once its chat's history was given up")
    assert bot.channel.health().healthy


async def test_c27_tokens_that_were_forgotten_are_renewed(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    await bot.say("a", tom.private().id, "first\nx")
    await feishu.wait_for(tom.private(), "first")
    feishu.expire_tokens()
    await bot.say("b", tom.private().id, "second\nx")
    await feishu.wait_for(tom.private(), "second")
    feishu.verify(allow_codes={99991663})


async def test_c28_a_lost_answer_is_one_message(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    asking = await tom.say(tom.private(), "x")
    feishu.lose_next_answer("POST /im/v1/messages/:id/reply")
    await bot.say("a", tom.private().id, "once\nonly", reply_to=asking.id)
    await feishu.wait_for(tom.private(), "once")
    await until_recorded(bot, "a")
    assert len(feishu.sent(tom.private())) == 1


async def test_c30_many_changes_are_few_edits_and_the_last_one_shows(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    began = time.monotonic()
    for number in range(200):
        await bot.say("live", tom.private().id, f"step\nnumber {number}")
    await feishu.wait_for(tom.private(), "number 199")
    (card,) = feishu.sent(tom.private())
    seconds = time.monotonic() - began
    assert len(card.versions) <= 3 + seconds
    feishu.verify()


async def test_c30_the_final_state_arrives_after_an_outage(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    await bot.say("live", tom.private().id, "step\nbegun")
    card = await feishu.wait_for(tom.private(), "begun")
    feishu.fail_next("PATCH /im/v1/messages/:id", 502, raw="<html>bad gateway</html>", count=2)
    await bot.say("live", tom.private().id, "step\nended")
    await feishu.journal.wait(lambda: "ended" in card.text, timeout=30, for_what="the final state")


async def test_c31_a_refused_card_is_shrunk_then_said_plainly(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    refused = {"msg": "Failed to create card content, ext=ErrCode: 11310; ErrMsg: element exceeds the limit;"}
    feishu.fail_next("POST /im/v1/messages", 400, 230099, count=2, **refused)
    await bot.say("a", tom.private().id, "as text\nsecond line")
    text = await feishu.wait_for(tom.private(), "as text")
    assert text.kind == "text"
    await bot.say("b", tom.private().id, "card\nworking")
    card = await feishu.wait_for(tom.private(), "working")
    feishu.fail_next("PATCH /im/v1/messages/:id", 400, 230025, count=2)
    await bot.say("b", tom.private().id, "card ended\nlong")
    await feishu.journal.wait(lambda: "card ended" in card.text, for_what="a smaller card")


async def test_c32_what_is_gone_is_left_alone(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    group = feishu.group("ops", [tom])
    await bot.say("a", group.id, "card\n1")
    card = await feishu.wait_for(group, "card")
    card.recalled = True
    with structlog.testing.capture_logs() as logs:
        for number in range(2, 5):
            await bot.say("a", group.id, f"card\n{number}")
            await until_state(bot, "a", "failed")
        group.dissolved = True
        for number in range(3):
            await bot.say(f"b{number}", group.id, "more\nwords")
            await until_state(bot, f"b{number}", "failed")
    assert len([entry for entry in logs if entry["action"] == "feishu_gone"]) == 2
    assert len(feishu.journal.of("http", code=230011)) == 1
    assert len(feishu.journal.of("http", code=232009)) == 1


async def until_state(bot: Bot, key: str, state: str) -> None:
    import sqlalchemy as sa

    from regrow.store import outbox

    deadline = time.monotonic() + DEADLINE_S
    query = sa.select(outbox.c.id).where(outbox.c.key == key, outbox.c.state == state)
    while await bot.store.row(query) is None:
        assert time.monotonic() < deadline, f"{key} is not {state}"
        await asyncio.sleep(0.01)


async def test_c33_without_quota_progress_stops_and_results_are_tried(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    await bot.say("live", tom.private().id, "step\n1")
    await feishu.wait_for(tom.private(), "step")
    feishu.fail_next("PATCH /im/v1/messages/:id", 400, 99991403, count=99)
    await bot.say("live", tom.private().id, "step\n2")
    await until(lambda: not bot.channel.health().healthy, "the operator to be told")
    assert "used up" in bot.channel.health().detail
    for number in range(3, 6):
        await bot.say("live", tom.private().id, f"step\n{number}")
    await bot.say("result", tom.private().id, "result\nx")
    await feishu.wait_for(tom.private(), "result")
    assert len(feishu.journal.of("http", code=99991403)) <= 2


async def test_c34_a_card_too_old_is_followed_by_a_new_one(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    await bot.say("live", tom.private().id, "step\nold")
    old = await feishu.wait_for(tom.private(), "old")
    await until_recorded(bot, "live")
    feishu.advance(15 * 86400)
    await bot.say("live", tom.private().id, "step\nnew")
    new = await feishu.wait_for(tom.private(), "new", timeout=20)
    assert new is not old
    await bot.say("live", tom.private().id, "step\nnewest")
    await feishu.journal.wait(lambda: "newest" in new.text, for_what="a change of the new card")
    assert len(feishu.sent(tom.private())) == 2


async def test_c35_untrusted_text_calls_nobody(bot: Bot, feishu: FeishuEmulator) -> None:
    tom = feishu.user("Tom")
    evil = '<at id=all></at> <at user_id="all">x</at> @_all ```\n<at id=all></at>\n```\n**b** [x](http://e)'
    group = feishu.group("ops", [tom])
    await bot.say("card", group.id, f"job\n{evil}\n```\n{evil}")
    await bot.outbox.put("text", Address("feishu", group.id), Content(f"answer {evil}".replace("```", "")))
    await feishu.wait_for(group, "job")
    await feishu.wait_for(group, lambda message: message.kind == "text")
    assert [message.alerts_all for message in feishu.sent(group)] == [False, False]
    assert [message.mentions for message in feishu.sent(group)] == [[], []]


async def test_c36_secrets_are_in_no_log_and_no_error(feishu: FeishuEmulator, tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        bot = await Bot(feishu, tmp_path / "db").start()
        tom, card = await card_with_button(bot, feishu)
        click = await tom.click(card, "批准", confirm=True)
        feishu.fail_next("PATCH /im/v1/messages/:id", 400, 4711, msg=feishu.app.secret)
        await bot.say("live", tom.private().id, "step\nx")
        await until_state(bot, "live", "sent")
        feishu.refuse_next_handshake(500, feishu.app.secret)
        feishu.reset()
        await feishu.disconnected()
        await feishu.connected()
        feishu.app.enabled = False
        feishu.fail_next("POST /callback/ws/endpoint", 200, 403, msg=feishu.app.secret)
        feishu.reset()
        with pytest.raises(ConfigError) as error:
            async with asyncio.timeout(DEADLINE_S):
                await bot.running
        await bot.stop()
    told = json.dumps(logs, default=str) + str(error.value) + bot.channel.health().detail
    assert len(logs) > 3
    for value in (feishu.app.secret, click.token, "ticket=", "access_key="):
        assert value not in told
    assert "Bearer" not in told


async def test_c37_the_environment_s_proxy_is_not_asked(
    feishu: FeishuEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    bot = await Bot(feishu, tmp_path / "db").start()
    tom = feishu.user("Tom")
    await bot.say("a", tom.private().id, "x\ny")
    await feishu.wait_for(tom.private(), "x")
    await bot.stop()


CLIENT = """
import asyncio, os, sys, time
began = time.process_time()
from regrow.channels.feishu.api import App
from regrow.channels.feishu.channel import FeishuChannel
took = time.process_time() - began
import psutil
from regrow.secret import Secret

async def main():
    async def nothing(*_): return {}
    app = App(sys.argv[1], Secret(os.environ["APP_SECRET"]), sys.argv[2])
    channel = FeishuChannel(app, name_of=lambda _: None, press=nothing, known=nothing)
    task = asyncio.create_task(channel.run(nothing))
    while not channel.connection.connected:
        await asyncio.sleep(0.01)
    print(took, psutil.Process().memory_info().rss, flush=True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await channel.close()

asyncio.run(main())
"""


async def test_c38_light(feishu: FeishuEmulator) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, feishu.app.app_id, feishu.base_url),
        env={**os.environ, "PYTHONPATH": str(SRC), "APP_SECRET": feishu.app.secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    assert errors == b""
    took, resident = out.splitlines()[-1].split()
    # Processor time, which other work on the machine does not lengthen much.
    assert float(took) < 1.0
    assert int(resident) < 60 * 2**20
    assert psutil.Process().is_running()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
