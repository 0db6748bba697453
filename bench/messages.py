"""Messages through forwarding while everything in between is upgraded, killed and cut.

People talk with a service over Feishu (the emulator) and the web channel. Meanwhile the service is upgraded, the daemon
is killed with -9 and the connection to the platform is cut, spread over all of it.

sent           messages that people sent
lost           of these, the ones whose answer never came
doubled        answers that came more often than once
reordered      answers that came before the answer to an earlier message of the same chat
intake_per_s   messages over Feishu that the daemon acknowledged a second, each on disk by then, for some seconds on end
               while it also forwards them and answers; `answers_per_s` are the answers that came meanwhile
ready_ms       of the Feishu channel, from its start to connected and subscribed; the median of five
client_rss_mib what the daemon holds more at rest with the channel connected than without it; medians of three starts
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from bench import lines
from bench.world import resident_mib
from regrow.channels.base import Press, Pressed
from regrow.channels.feishu import feishu_channel
from regrow.config import FeishuSection
from regrow.intents import ROLES
from regrow.permissions import Permissions
from regrow.testing.feishu import FeishuEmulator, Settings
from regrow.testing.world import World, eventually

CASE = "forwarding"
STARTS, MEMORY_STARTS = 5, 3
WINDOW = 64
"""Messages that are on their way at once while the intake is measured."""
WEB_CHATS, FEISHU_CHATS, INTAKE_CHATS = 20, 10, 60
SETTLE_S = 2.0
DRAIN_S = 300.0


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        intake_s: seconds for which messages come over Feishu as fast as they are taken.
        feishu, web: messages during the disturbances.
        upgrades, kills, cuts: the disturbances.
    """

    intake_s: float
    feishu: int
    web: int
    upgrades: int
    kills: int
    cuts: int


SIZES = {
    "smoke": Size(intake_s=0.5, feishu=20, web=60, upgrades=1, kills=1, cuts=2),
    "default": Size(intake_s=8.0, feishu=200, web=2200, upgrades=6, kills=6, cuts=15),
    "nightly": Size(intake_s=20.0, feishu=2000, web=8000, upgrades=20, kills=20, cuts=50),
}


@dataclass
class Talk:
    """One chat: what was said in it, and how to say more and to read the answers."""

    say: Callable[[str], Awaitable[None]]
    heard: Callable[[], Awaitable[list[str]]]
    said: list[str] = field(default_factory=list)


class Bench:
    """One run."""

    def __init__(self, world: World, feishu: FeishuEmulator, size: Size) -> None:
        self.world = world
        self.feishu = feishu
        self.size = size
        self.talks: list[Talk] = []
        self.done = 0
        self.sent = 0

    async def run(self) -> dict[str, float]:
        """Everything; the figures by metric."""
        intake, answers = await self._intake()
        steps = _mixed((self._upgrade, self.size.upgrades), (self._kill, self.size.kills), (self._cut, self.size.cuts))
        total = self.size.feishu + self.size.web
        allowed = total // (len(steps) + 1)

        async def disturb() -> None:
            upgrade: asyncio.Future[None] | None = None
            for number, step in enumerate(steps, 1):
                await self._spoken(number * allowed)
                if step == self._upgrade:
                    # The daemon is killed and the connection cut while it is under way.
                    if upgrade is not None:
                        await upgrade
                    upgrade = asyncio.ensure_future(step())
                else:
                    await step()
                self.done += 1
            if upgrade is not None:
                await upgrade

        async def speak(talk: Talk, count: int) -> None:
            for _ in range(count):
                # As much of what is to be said as has been disturbed, and a little ahead of it.
                while self.done < len(steps) and self.sent >= (self.done + 1) * allowed + allowed // 2:
                    await asyncio.sleep(0.01)
                self.sent += 1
                await talk.say(f"message {len(talk.said)}")

        web, chat = [self._web() for _ in range(WEB_CHATS)], [self._feishu(f"U{n}") for n in range(FEISHU_CHATS)]
        async with asyncio.TaskGroup() as group:
            for talks, count in ((web, self.size.web), (chat, self.size.feishu)):
                for talk, share in zip(talks, _shares(count, len(talks)), strict=True):
                    group.create_task(speak(talk, share))
            group.create_task(disturb())
        return {**await self._count(), "intake_per_s": intake, "answers_per_s": answers}

    # What happens

    async def _upgrade(self) -> None:
        self.world.commit({"src/count.txt": uuid.uuid4().hex}, "Change")
        number = await eventually(lambda: self.world.request("deploy"), "a deploy is taken", 60.0)
        # Through all the deaths of the daemon that does it.
        job = await eventually(lambda: self._ended(number), f"job {number} ends", 120.0)
        assert job.status == "done", job.error

    async def _ended(self, number: int) -> Any:
        job = await self.world.job(number)
        return job if job.status in {"done", "failed", "undone", "cancelled"} else None

    async def _kill(self) -> None:
        await self.world.kill_daemon()
        await self.world.start_daemon()

    async def _cut(self) -> None:
        await self.feishu.connected(timeout=60.0)
        self.feishu.reset()

    async def _spoken(self, count: int) -> None:
        """Wait until people have said so much."""
        async with asyncio.timeout(DRAIN_S):
            while self.sent < count:
                await asyncio.sleep(0.01)

    # Who talks

    def _web(self) -> Talk:
        name = self.world.new_chat()
        first: list[Any] = []

        async def say(text: str) -> None:
            talk.said.append(text)
            first.append(await self.world.tell(text, name))

        async def heard() -> list[str]:
            return self.world.heard_of(first[0]) if first else []

        talk = Talk(say, heard)
        self.talks.append(talk)
        return talk

    def _feishu(self, name: str) -> Talk:
        user = self.feishu.user(name)

        async def say(text: str) -> None:
            talk.said.append(text)
            await user.say(user.private(), text)
            # A person's pace.
            await asyncio.sleep(0.2)

        async def heard() -> list[str]:
            return [message.text for message in self.feishu.sent(user.private())]

        talk = Talk(say, heard)
        self.talks.append(talk)
        return talk

    async def _intake(self) -> tuple[float, float]:
        """Acknowledged messages a second, with so many on their way, and the answers that came meanwhile."""
        window = asyncio.Semaphore(WINDOW)
        users = [self.feishu.user(f"B{number}") for number in range(INTAKE_CHATS)]
        talks = [self._feishu(user.name) for user in users]
        acknowledged = 0

        async def one(number: int) -> None:
            nonlocal acknowledged
            user, text = users[number % INTAKE_CHATS], f"burst {number}"
            talks[number % INTAKE_CHATS].said.append(text)
            await user.say(user.private(), text)
            delivery = self.feishu.gateway.deliveries[-1]
            await delivery.done.wait()
            assert delivery.outcome == "acknowledged", delivery.attempts
            acknowledged += 1
            window.release()

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                await window.acquire()
                if time.monotonic() - began > self.size.intake_s:
                    break
                group.create_task(one(number))
                await asyncio.sleep(0)  # so that it is said before the next one
            seconds = time.monotonic() - began
            taken, answered = acknowledged, len(self.feishu.sent())
        return taken / seconds, answered / seconds

    # What came of it

    async def _count(self) -> dict[str, float]:
        """Wait for the answers, then compare what came with what was said."""
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            missing = 0
            for talk in self.talks:
                missing += len(set(talk.said) - {text.removeprefix("re ") for text in await talk.heard()})
            if not missing:
                break
            await asyncio.sleep(0.5)
        await eventually(self.world.settled, "nothing is under way", 120.0)
        lost = doubled = reordered = 0
        for talk in self.talks:
            heard = [text.removeprefix("re ") for text in await talk.heard()]
            lost += len(set(talk.said) - set(heard))
            doubled += len(heard) - len(set(heard))
            places = [talk.said.index(text) for text in dict.fromkeys(heard) if text in talk.said]
            reordered += sum(later < earlier for earlier, later in itertools.pairwise(places))
        sent = sum(len(talk.said) for talk in self.talks)
        return {"sent": sent, "lost": lost, "doubled": doubled, "reordered": reordered}


def _mixed(*kinds: tuple[Callable[[], Awaitable[None]], int]) -> list[Callable[[], Awaitable[None]]]:
    """Each kind as often as said, evenly spread among the others."""
    places = [((number + 0.5) / count, at, kind) for at, (kind, count) in enumerate(kinds) for number in range(count)]
    return [kind for _, _, kind in sorted(places, key=lambda place: place[:2])]


def _shares(count: int, parts: int) -> list[int]:
    return [count // parts + (number < count % parts) for number in range(parts)]


async def ready_ms(feishu: FeishuEmulator, section: FeishuSection) -> float:
    """From the start of the channel to a connection that can hear."""
    times = []
    for _ in range(STARTS):

        async def no_press(_: Press) -> Pressed:
            return Pressed(False, "")

        async def no_newest(_: str) -> dict[str, float]:
            return {}

        async def no_message(*_: Any) -> bool:
            return True

        channel = feishu_channel(section, Permissions([], ROLES), no_press, no_newest)
        began = time.monotonic()
        task = asyncio.create_task(channel.run(no_message))
        while not channel.health().healthy:
            assert not task.done(), task
            await asyncio.sleep(0.001)
        times.append((time.monotonic() - began) * 1000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await channel.close()
        await feishu.disconnected()
    return statistics.median(times)


async def client_rss_mib(root: Path, feishu: FeishuEmulator, section: dict[str, str]) -> float:
    """What the channel costs a daemon at rest."""
    world = World(root)
    held: dict[bool, list[float]] = {False: [], True: []}
    try:
        await world.bring_up()
        for connected in (False, True) * MEMORY_STARTS:
            world.configure({"channels.feishu": section if connected else None})
            await world.start_daemon()
            if connected:
                await feishu.connected(timeout=60.0)
            await asyncio.sleep(SETTLE_S)
            assert world.process is not None
            held[connected].append(resident_mib(world.process.pid))
            await world.kill_daemon()
            await feishu.disconnected()
    finally:
        await world.close()
    return statistics.median(held[True]) - statistics.median(held[False])


async def measure(root: Path, size: Size) -> dict[str, float]:
    """All figures by metric."""
    settings = Settings.quick()
    # What the platform allows is the platform's figure; here it is the daemon's that is asked for.
    settings.per_chat, settings.per_api_second, settings.per_api_minute = 10**6, 10**6, 10**9
    async with FeishuEmulator(settings) as feishu:
        secret = root / "secret"
        secret.write_text(feishu.app.secret)
        section = {"app_id": feishu.app.app_id, "app_secret": f"file:{secret}", "base_url": feishu.base_url}
        ready = await ready_ms(feishu, FeishuSection.model_validate(section))
        memory = await client_rss_mib(root / "memory", feishu, section)
        world = World(root / "world", {"channels.feishu": section})
        world.forward()
        try:
            await world.bring_up()
            await feishu.connected(timeout=60.0)
            return {**await Bench(world, feishu, size).run(), "ready_ms": ready, "client_rss_mib": memory}
        finally:
            await world.close()


def main() -> None:
    """Measure and print."""
    size = SIZES[lines.size(__doc__ or "")]
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    put = lines.Lines("messages").put
    with tempfile.TemporaryDirectory(prefix="regrow-bench-") as root:
        figures = asyncio.run(measure(Path(root), size))
    for metric in ("sent", "lost", "doubled", "reordered"):
        put(CASE, metric, int(figures[metric]), "messages")
    put(CASE, "intake_per_s", figures["intake_per_s"], "1/s")
    put(CASE, "answers_per_s", figures["answers_per_s"], "1/s")
    put(CASE, "ready_ms", figures["ready_ms"], "ms")
    put(CASE, "client_rss_mib", figures["client_rss_mib"], "MiB")
    more = {"upgrades": size.upgrades, "kills": size.kills, "cuts": size.cuts}
    for name, count in more.items():
        put(CASE, name, count, "times")


if __name__ == "__main__":
    main()
