"""What goes wrong outside any job is told once, and its end once more (F28)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from regrow import lookout as module
from regrow.channels.base import Address, Content, Health, Outgoing, Receive
from regrow.events import Events
from regrow.lookout import Lookout
from regrow.notices import Notices
from regrow.outbox import Outbox
from regrow.permissions import Permissions
from regrow.services.base import ServiceEvent
from regrow.store import Store
from regrow.testing.manual_clock import ManualClock
from regrow.testing.parts import Parts
from regrow.versions import Versions

NO_VERSIONS = Path("/nonexistent")


class Mute:
    """A channel whose health a test sets."""

    name = "feishu"
    now = Health(True, "connected")

    async def run(self, receive: Receive) -> None:
        raise NotImplementedError

    async def send(self, message: Outgoing) -> str:
        raise NotImplementedError

    def health(self) -> Health:
        return self.now


class Watch:
    """A lookout, and the keys of what it told."""

    def __init__(
        self, store: Store, events: Events, clock: ManualClock, cares: Mapping[str, Any] | None = None
    ) -> None:
        self._store, self.clock, self.channel = store, clock, Mute()
        self.memory_kills = 3
        outbox = Outbox(store, events, clock)
        notices = Notices(
            store=store,
            outbox=outbox,
            events=events,
            permissions=Permissions([], {}),
            channels=(),
            chats=(),
            language="en",
            window_s=3600.0,
            clean=str,
            clock=clock,
        )
        self.lookout = Lookout(
            versions=Versions(NO_VERSIONS),
            store=store,
            notices=notices,
            outbox=outbox,
            cares=cares or {},
            channels={"feishu": self.channel},
            language="en",
            memory_kills=lambda: self.memory_kills,
            clock=clock,
        )

    async def told(self) -> list[str]:
        def read(connection: Any) -> list[str]:
            return [row[0] for row in connection.exec_driver_sql("select key from notices order by id")]

        return await self._store.read(read)

    async def values(self) -> list[str]:
        def read(connection: Any) -> list[str]:
            return [row[0] for row in connection.exec_driver_sql('select "values" from notices order by id')]

        return await self._store.read(read)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.lookout.run())
        try:
            await self.clock.asleep()
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def passes(self, seconds: float) -> None:
        """Time goes by in the lookout's own paces."""
        for _ in range(int(seconds // 15)):
            self.clock.advance(15)
            await asyncio.sleep(0)
            await self.clock.asleep()


@pytest.fixture
def watch(store: Store, events: Events, clock: ManualClock) -> Watch:
    return Watch(store, events, clock)


async def test_the_first_start_of_all_is_no_news(watch: Watch) -> None:
    await watch.lookout.begin()
    assert await watch.told() == []


@pytest.mark.parametrize("since", [0, 1])
async def test_f28_a_daemon_that_went_while_memory_ran_out_says_so(
    store: Store, events: Events, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, since: int
) -> None:
    monkeypatch.setattr(module, "boot_id", lambda: "b1")
    first = Watch(store, events, clock)
    await first.lookout.begin()
    async with first.running():
        first.memory_kills += 5  # what was ended for memory while it lived on was somebody else
        await first.passes(120)
    second = Watch(store, events, clock)
    second.memory_kills = first.memory_kills + since
    await second.lookout.begin()
    assert await second.told() == ["killed_memory" if since else "killed"]


@pytest.mark.parametrize(
    ("ended", "boot", "version", "key"),
    [
        (True, "b1", "1", "restarted"),
        (False, "b1", "1", "killed"),
        (False, "b2", "1", "rebooted"),
        (True, "b2", "1", "rebooted"),
        (True, "b1", "2", "upgraded"),
    ],
)
async def test_f28_a_start_is_compared_with_the_last_end_and_told_once(
    store: Store,
    events: Events,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    ended: bool,
    boot: str,
    version: str,
    key: str,
) -> None:
    monkeypatch.setattr(module, "boot_id", lambda: "b1")
    monkeypatch.setattr(module, "__version__", "1")
    first = Watch(store, events, clock)
    await first.lookout.begin()
    clock.advance(100)
    if ended:
        await first.lookout.end()
    clock.advance(30)
    monkeypatch.setattr(module, "boot_id", lambda: boot)
    monkeypatch.setattr(module, "__version__", version)
    second = Watch(store, events, clock)
    await second.lookout.begin()
    assert await second.told() == [key]
    (values,) = await second.values()
    assert ("30s" if ended else "2m 10s") in str(values)


async def test_a_channel_that_is_deaf_for_long_is_told_of_once_and_once_when_it_hears(watch: Watch) -> None:
    async with watch.running():
        watch.channel.now = Health(False, "connection refused")
        await watch.passes(45)
        assert await watch.told() == [], "it connects again by itself"
        await watch.passes(3600)
        assert await watch.told() == ["deaf"]
        watch.channel.now = Health(True, "connected")
        await watch.passes(60)
    assert await watch.told() == ["deaf", "hears"]


async def test_a_deaf_channel_is_told_of_once_over_restarts_of_the_daemon(
    store: Store, events: Events, clock: ManualClock
) -> None:
    for _ in range(3):
        watch = Watch(store, events, clock)
        watch.channel.now = Health(False, "forbidden")
        async with watch.running():
            await watch.passes(120)
    assert await watch.told() == ["deaf"]
    healed = Watch(store, events, clock)
    async with healed.running():
        await healed.passes(15)
    assert await healed.told() == ["deaf", "hears"]


async def test_a_disk_that_hovers_at_the_mark_is_told_of_once(
    store: Store, events: Events, clock: ManualClock, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [10**12]

    def free_bytes(_: Path) -> int:
        return free[0]

    monkeypatch.setattr(module.files, "free_bytes", free_bytes)
    watch = Watch(store, events, clock, {"tiny": parts.care})
    async with watch.running():
        for free[0] in (10**6, 600 * 2**20, 10**6, 700 * 2**20):
            await watch.passes(120)
        assert await watch.told() == ["disk_low"]
        free[0] = 10**12
        await watch.passes(30)
    assert await watch.told() == ["disk_low", "disk_well"]


@pytest.mark.parametrize(
    ("event", "data", "key"),
    [
        ("crashed", {"cause": "exit code 1"}, "crashed"),
        ("up", {"down_ms": 600.0}, "up"),
        ("start_failed", {"cause": "exit code 1"}, "start_failed"),
        ("fell_back", {"reason": "crash loop", "from": "r2", "to": "r1", "cause": "x", "down_ms": 1}, "fell_back"),
        ("fell_back", {"reason": "died", "from": "r2", "to": "r1", "cause": "x", "down_ms": 1}, ""),
        ("switched", {"from": "r1", "to": "r2"}, ""),
        ("candidate_failed", {"cause": "x"}, ""),
    ],
)
async def test_an_event_of_the_service_is_told_where_no_job_tells_it(
    watch: Watch, parts: Parts, event: str, data: dict[str, Any], key: str
) -> None:
    for _ in range(2):  # a daemon killed before it moved its cursor sees it again
        await watch.lookout.service_event(parts.care, ServiceEvent(9, 0.0, event, data))
    assert await watch.told() == ([key] if key else [])


async def test_a_message_that_nobody_was_ever_shown_is_reported_once(
    store: Store, events: Events, clock: ManualClock
) -> None:
    outbox = Outbox(store, events, clock)
    for key in ("job-7-result", "notice-1-feishu-ou_x"):
        await outbox.put(key, Address("feishu", "oc_1"), Content("done"))
    await store.transact(lambda c: c.exec_driver_sql("update outbox set state = 'expired' where channel = 'feishu'"))
    for _ in range(2):
        watch = Watch(store, events, clock)
        async with watch.running():
            await watch.passes(30)
    assert await watch.told() == ["expired"]
    assert "job-7-result" in str(await watch.values())
