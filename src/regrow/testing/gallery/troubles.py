"""What goes wrong by itself, and what is offered or done about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from regrow.care import Care
from regrow.channels.base import Address, Incoming
from regrow.heal import Heal
from regrow.incidents import Incident, Seen
from regrow.jobs import holds
from regrow.jobs.ledger import Record
from regrow.notices import Notices
from regrow.services.base import Service, ServiceEvent
from regrow.testing.gallery.stage import Stage

_TRACE = """\
Traceback (most recent call last):
  File "claw/scheduler.py", line 44, in due
    return self.reminders[key]
KeyError: {name!r}"""
_HOUR_S = 3600.0


class _Journal:
    """A service that tells of one event."""

    def __init__(self, event: ServiceEvent) -> None:
        self._event = event

    async def events(self, _: int) -> AsyncIterator[ServiceEvent]:
        """That event."""
        yield self._event


class _Trouble:
    """Incidents of a service, and who looks after them.

    Args:
        stage: where it is told of.

    Attributes:
        release: that serves.
    """

    def __init__(self, stage: Stage) -> None:
        parts = stage.parts
        self._stage, self._seq = stage, 0
        self.release = parts.service.now.active.release if parts.service.now.active else ""
        notices = Notices(
            store=parts.store,
            outbox=parts.outbox,
            events=parts.events,
            permissions=parts.permissions,
            channels=("memory",),
            chats=(),
            language=stage.language,
            window_s=0.0,
            clean=lambda text: text,
            clock=parts.clock,
        )
        self.heal = Heal(
            cares={"tiny": parts.care},
            incidents=parts.incidents,
            ledger=parts.ledger,
            requests=parts.requests,
            notices=notices,
            events=parts.events,
            language=stage.language,
            may_heal=_may_heal,
            clock=parts.clock,
        )

    async def seen(self, event: str, **data: Any) -> Incident:
        """Something happens to the service, as its journal tells."""
        parts = self._stage.parts
        self._seq += 1
        told = ServiceEvent(self._seq, parts.clock.now(), event, {"release": self.release, **data})
        await parts.incidents.follow(replace(parts.care, service=cast(Service, _Journal(told))))
        return await self._newest()

    async def crashes(self, name: str, cause: str = "") -> Incident:
        """The service crashes for want of a name."""
        said = _TRACE.format(name=name)
        return await self.seen("crashed", cause=cause or f"exit code 1: KeyError: {name!r}", log_tail=said)

    async def errors(self) -> Incident:
        """There are suddenly more errors in the log."""
        cause = "ERROR mail: connection refused"
        lines = (cause, "ERROR mail: will try again in 30 s")
        now = self._stage.parts.clock.now()
        seen = Seen("errors", cause, cause, now, self.release, lines, count=12, pending=True)
        await self._stage.parts.incidents.count("tiny", [seen], {})
        return await self._newest()

    async def _newest(self) -> Incident:
        found = await self._stage.parts.incidents.last("tiny")
        return max(found, key=lambda one: (one.last_at, one.id))

    async def decides(self, title: str, seen: Callable[[], Awaitable[Incident]], after_s: float = 60.0) -> Incident:
        """It happens, time goes by, and what is told because of it is shown."""
        incident = await seen()
        self._stage.parts.clock.advance(after_s)  # type: ignore[attr-defined]
        await self.looks(title)
        return incident

    async def looks(self, title: str) -> None:
        """What waits for a decision is decided about."""
        parts = self._stage.parts
        before = {row.key for row in await parts.outgoing()}
        await self.heal.look(parts.care)
        new = [row for row in await parts.outgoing() if row.key not in before and row.key.startswith("notice-")]
        if new:
            self._stage.show(title, new[-1].content)

    async def repair(self) -> Record:
        """The job that was asked for unasked."""
        return (await self._stage.parts.ledger.last(1))[0]

    async def ends(self, status: str) -> None:
        """The newest job is over, and a while goes by."""
        parts = self._stage.parts
        await parts.ledger.change((await self.repair()).id, status=status, ended_at=parts.clock.now())
        parts.clock.advance(2 * _HOUR_S)  # type: ignore[attr-defined]


async def _may_heal(care: Care) -> str:
    return "frozen" if await holds.freeze_of(care, "repair") is not None else ""


async def incidents(stage: Stage) -> None:
    """Offers, repairs that nobody asked for, and why there is none."""
    stage.section("What goes wrong by itself")
    parts, now = stage.parts, stage.parts.clock
    await stage.says("incidents, when there were none", "最近的故障", "incidents")
    await stage.serve(candidate=None, standby=None, trial=None)
    trouble = _Trouble(stage)
    parts.clock.advance(60)  # type: ignore[attr-defined]
    first = await trouble.decides("an offer", lambda: trouble.crashes("due"))
    await stage.says("ignored", f"忽略 #I{first.id}", f"ignore #I{first.id}")
    stage.settings("heal", auto="repair", cool_down=0.0, jobs_a_day=100)
    await trouble.decides("repaired unasked", lambda: trouble.crashes("next"))
    await stage.tell("the job that repairs it", await trouble.repair())
    await stage.says("the state, while it is repaired", "状态", "status")
    await _list(stage, "incidents, while one is repaired")
    await trouble.ends("done")
    await _list(stage, "incidents, when one is repaired")
    await trouble.decides("not repaired: came_back", lambda: trouble.crashes("next"))
    await trouble.decides("another one", lambda: trouble.crashes("zone"))
    await trouble.ends("failed")
    await trouble.decides("not repaired: tried", lambda: trouble.crashes("zone"))
    for why, values in (
        ("cooling", {"cool_down": 86400.0}),
        ("budget_jobs", {"cool_down": 0.0, "jobs_a_day": 1}),
        ("budget_money", {"jobs_a_day": 100, "budget_a_day": 5.0}),
    ):
        stage.settings("heal", **values)
        if why == "budget_money":
            stage.part(models=SimpleNamespace(usage=_spent))
        await trouble.decides(f"not repaired: {why}", lambda why=why: trouble.crashes(why))  # type: ignore[misc]
    stage.part(models=None)
    memory = "killed by SIGKILL (out of memory: the limit of its control group)"
    await trouble.decides("not repaired: memory", lambda: trouble.seen("crashed", cause=memory))
    await parts.care.freezes.begin("tiny", stage.spoken("发版窗口已关闭", "release window closed"), "Ada")
    await trouble.decides("not repaired: frozen", lambda: trouble.crashes("frozen"))
    await parts.care.freezes.end("tiny")
    for why in ("late", "refused"):
        if why == "refused":
            trouble.release = "r99"  # whose files are gone by now
            parts.service.shows(active=None, good=None)
        await parts.incidents.decide_heal(await trouble.crashes(why))
        if why == "late":
            now.advance(_HOUR_S)  # type: ignore[attr-defined]
        await trouble.looks(f"not repaired: {why}")
    await stage.serve("77aa88b")
    await stage.clear()
    await _list(stage, "incidents")
    await stage.says("the state, with open incidents", "状态", "status")
    now.advance(9 * 86400)  # type: ignore[attr-defined]
    await _list(stage, "incidents of more than a week ago")
    await _all_kinds(stage, trouble)


async def _all_kinds(stage: Stage, trouble: _Trouble) -> None:
    for event, data in (
        ("start_failed", {"cause": "exit code 2: no such option: --zone"}),
        ("unhealthy", {"probe": "health", "cause": "HTTP 500"}),
        ("crashed", {"cause": "killed by SIGTERM"}),
        ("crashed", {"cause": "exit code 0"}),
        ("crashed", {"cause": "it died while no supervisor ran"}),
        ("crashed", {"cause": "the machine was started anew"}),
        ("fell_back", {"cause": "probe health: HTTP 500", "reason": "probe failed"}),
        ("fell_back", {"cause": "exit code 1", "reason": "crash loop"}),
        ("standby_died", {"cause": "exit code 3"}),
    ):
        await trouble.seen(event, **data)
        stage.parts.clock.advance(60)  # type: ignore[attr-defined]
    await trouble.errors()
    await _list(stage, "every kind there is")


async def _list(stage: Stage, title: str) -> None:
    stage.show(title, await stage.parts.views.incidents_text(stage.parts.care, stage.language))


async def _spent(job: str) -> Any:
    return SimpleNamespace(cost=2.6)


async def told(stage: Stage) -> None:
    """Who is told of it."""
    stage.section("Who is told unasked")
    await stage.says("be told", "通知我", "notify me")
    await stage.says("no more", "不用通知我", "don't notify me")
    words = stage.spoken("通知我", "notify me")
    at = Address("web", "main", "notify")
    await stage.parts.conversations.handle(Incoming(at, "web", "web", words, stage.parts.clock.now()))
    stage.show("asked for on the page", (await stage.parts.outgoing())[-1].content)


SCENES = (incidents, told)
