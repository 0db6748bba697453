"""What goes wrong outside any job, and the end of it: crashes, a deaf channel, a full disk, the daemon's own death.

Jobs tell their own story in the chat that asked; nobody asked for what is told here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import sqlalchemy as sa
import structlog

from regrow import __version__, files
from regrow.care import Care
from regrow.catalogue import Language, duration_text
from regrow.channels.base import Channel
from regrow.clock import Clock, SystemClock
from regrow.incidents import IN_TRIAL, kind_of
from regrow.notices import Notices
from regrow.outbox import Outbox
from regrow.process import boot_id, memory_kills
from regrow.services.base import ServiceEvent
from regrow.store import Store, lives
from regrow.story import plain
from regrow.versions import Versions

log = structlog.get_logger("lookout")

_LOOK_S = 15.0
_SEEN_S = 60.0
_UNWELL_S = 60.0
"""A channel reconnects by itself within seconds; after this long people should know."""
_LOW_BYTES = 512 * 1024**2
_HIGH_BYTES = 2 * _LOW_BYTES
_DEATHS = {
    "memory": "memory",
    "killed": "killed_service",
    "ended": "ended",
    "lost": "lost",
    "reboot": "service_rebooted",
}
"""Notices of a death that is no crash, by the kind of the incident."""


class Lookout:
    """Watches what no job watches.

    Args:
        versions: of Regrow itself.
        store: the lives of the daemon.
        notices: tells people.
        outbox: what could not be told.
        cares: the services.
        channels: the ways to talk.
        language: of the notices.
        memory_kills: how many processes of this machine the kernel has ended for want of memory.
    """

    def __init__(
        self,
        *,
        versions: Versions,
        store: Store,
        notices: Notices,
        outbox: Outbox,
        cares: Mapping[str, Care],
        channels: Mapping[str, Channel],
        language: Language,
        memory_kills: Callable[[], int] = memory_kills,
        clock: Clock | None = None,
    ) -> None:
        self._versions = versions
        self._store = store
        self._notices = notices
        self._outbox = outbox
        self._cares = cares
        self._channels = channels
        self._language = language
        self._memory_kills = memory_kills
        self._clock = clock or SystemClock()
        self._life = 0
        self._seen = 0.0
        self._unwell: dict[str, float] = {}
        self._told: set[str] = set()
        self._looked: set[str] = set()

    # The service

    async def service_event(self, care: Care, event: ServiceEvent) -> None:
        """Tell of one line of a supervisor's journal, where no job does."""
        data, name = event.data, care.name
        cause = plain(self._language, str(data.get("cause") or ""))
        told = {"service": name, "cause": cause}
        match event.event:
            case "crashed":
                key = _DEATHS.get(kind_of(event), "crashed")
                await self._tell_of(care, event, key, **(told if key != "service_rebooted" else {"service": name}))
            case "up":
                down = self._duration(float(data.get("down_ms") or 0) / 1000)
                await self._tell_of(care, event, "up", service=name, down=down)
            case "fell_back" if str(data.get("reason")) not in IN_TRIAL:
                down = self._duration(float(data.get("down_ms") or 0) / 1000)
                releases = {"release": str(data.get("from")), "back": str(data.get("to"))}
                await self._tell_of(care, event, "fell_back", **told, **releases, down=down)
            case "start_failed":
                await self._tell_of(care, event, "start_failed", **told)

    async def _tell_of(self, care: Care, event: ServiceEvent, key: str, **values: object) -> None:
        await self._notices.tell(f"{care.name} event {event.seq}", f"service {care.name}", key, **values)

    def _duration(self, seconds: float) -> str:
        return duration_text(self._language, seconds)

    # The daemon itself

    async def begin(self) -> None:
        """Compare this start with the last end, and tell of it exactly once (F28)."""
        now, boot = self._clock.now(), boot_id()
        last = await self._store.row(sa.select(lives).order_by(lives.c.id.desc()))
        mine = {"boot": boot, "version": __version__, "pid": os.getpid(), "began_at": now, "seen_at": now, "reason": ""}
        mine["memory_kills"] = ended_for_memory = self._memory_kills()

        def write(connection: sa.Connection) -> int:
            return int(connection.execute(lives.insert().values(**mine)).inserted_primary_key[0])  # type: ignore[index]

        self._life, self._seen = await self._store.transact(write), self._clock.monotonic()
        if refused := self._versions.refused():
            await self._notices.tell(f"life {self._life} refused", "daemon", "upgrade_failed", **refused)
        if last is None:
            return
        away = self._duration(max(0.0, now - (last["ended_at"] or last["seen_at"])))
        if last["boot"] != boot:
            key = "rebooted"
        elif last["version"] != __version__:
            key = "upgraded"
        elif last["ended_at"] is not None:
            key = "restarted"
        else:
            # Of a process that is gone the kernel tells nothing; that it ended one for memory since is a good guess.
            known = last["memory_kills"]
            key = "killed" if known is None or ended_for_memory <= known else "killed_memory"
        values = {"version": __version__} if key == "upgraded" else {}
        await self._notices.tell(f"life after {last['id']}", "daemon", key, away=away, **values)

    async def end(self) -> None:
        """Write down that this life ends as it should."""
        values = {"ended_at": self._clock.now(), "reason": "stopped"}
        await self._store.transact(lambda c: c.execute(lives.update().where(lives.c.id == self._life).values(**values)))

    # What has no journal

    async def run(self) -> None:
        """Look at channels and disks now and then, until cancelled."""
        while True:
            for name, channel in self._channels.items():
                health = channel.health()
                await self._look(f"channel {name}", health.healthy, "deaf", "hears", channel=name, detail=health.detail)
            for care in self._cares.values():
                free = files.free_bytes(care.directory)
                # Two marks, so that a disk that hovers at one is told of once.
                low = free < (_HIGH_BYTES if f"disk {care.name}" in self._unwell else _LOW_BYTES)
                await self._look(f"disk {care.name}", not low, "disk_low", "disk_well", free=f"{free / 1e9:.1f}GB")
            for message, where in await self._outbox.expired():
                if not message.startswith("notice-"):  # of a notice that could not be told, the console knows
                    await self._notices.tell(f"expired {message}", "outbox", "expired", message=message, channel=where)
            await self._be_seen()
            await self._clock.sleep(_LOOK_S)

    async def _look(self, subject: str, well: bool, bad: str, good: str, **values: str) -> None:
        """Tell when something has been unwell for a while, and when it is well again."""
        now = self._clock.monotonic()
        if not well:
            began = self._unwell.setdefault(subject, now)
            if now - began >= _UNWELL_S and subject not in self._told and await self._notices.last(subject) != bad:
                await self._notices.tell(f"{subject} {bad} {self._clock.now()}", subject, bad, **values)
                self._told.add(subject)
            return
        self._unwell.pop(subject, None)
        # The first look of a life also ends what an earlier life has told of.
        if subject in self._told or subject not in self._looked:
            if await self._notices.last(subject) == bad:
                await self._notices.tell(f"{subject} {good} {self._clock.now()}", subject, good, **values)
            self._told.discard(subject)
        self._looked.add(subject)

    async def _be_seen(self) -> None:
        """How long a killed daemon was away is known from this to a minute."""
        if self._clock.monotonic() - self._seen >= _SEEN_S:
            self._seen = self._clock.monotonic()
            values = {"seen_at": self._clock.now(), "memory_kills": self._memory_kills()}
            await self._store.transact(
                lambda c: c.execute(lives.update().where(lives.c.id == self._life).values(**values))
            )
