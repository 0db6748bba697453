"""What is done about an incident: people are asked whether to repair it, or Regrow asks for the repair itself.

The rules are a function of what is known at one moment (`decide`); everything that would make a second harm of the
first is one of them. A decision to act is on disk before it is acted upon, and the job's key is made from the incident
and the attempt: a daemon that is killed in between asks for the same job again, never for a second one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from regrow.api import types
from regrow.asking import Asked
from regrow.care import Care
from regrow.catalogue import Language, say, say_fitting, span_text, time_text
from regrow.channels.base import Choice
from regrow.clock import Clock, SystemClock
from regrow.errors import NotFound, RegrowError
from regrow.events import Events
from regrow.incidents import MENDABLE, Incident, Incidents
from regrow.intents import Args, Intent
from regrow.jobs.ledger import Ledger, Record
from regrow.notices import Notices
from regrow.permissions import REGROW
from regrow.requests import Requests
from regrow.story import plain

log = structlog.get_logger("heal")

_DAY_S = 86400.0
_LOOK_S = 2.0
_QUIET_S = 60.0
_STALE_S = 600.0
_SHOWN_LINES = 8
_FLAPS = 3

MayHeal = Callable[[Care], Awaitable[str]]
"""Says why a service may not be changed now, "" when it may: it is frozen, for instance."""


@dataclass(frozen=True)
class Situation:
    """What is known about an incident and its service at one moment.

    Attributes:
        auto: the setting.
        kind: of the incident.
        settled: whether it was long enough ago that what explains it has been seen.
        over: a failed probe that holds again, and has not failed often.
        serves: whether the release in which it was seen is what serves, or would.
        on_trial: a release is on trial: the fallback rule decides there.
        busy: a job of the service is under way; `repairing`: one that repairs this.
        ignored: somebody wants to hear nothing of it.
        told: it was offered not long ago, and nothing has changed since.
        attempts: repairs that it has had; `mended`: the last one had gone well, and it came back.
        frozen: why nothing may be changed.
        today: repairs that Regrow has begun by itself within a day, of `most`.
        spent: what they cost, of `budget`; 0 is no limit.
        cooling: the last one was not long ago.
    """

    auto: Literal["off", "propose", "repair"] = "propose"
    kind: str = "crash"
    settled: bool = True
    over: bool = False
    serves: bool = True
    on_trial: bool = False
    busy: bool = False
    repairing: bool = False
    ignored: bool = False
    told: bool = False
    attempts: int = 0
    mended: bool = False
    frozen: str = ""
    today: int = 0
    most: int = 3
    spent: float = 0.0
    budget: float = 0.0
    cooling: bool = False


@dataclass(frozen=True)
class Decision:
    """What to do: wait and look again, nothing, propose, or repair; and why, as a word of the catalogue."""

    act: Literal["wait", "nothing", "propose", "repair"]
    why: str = ""


def decide(now: Situation) -> Decision:
    """The rules; the first that fits decides."""
    quiet = Decision("nothing", "told") if now.told else None
    if now.auto == "off":
        return Decision("nothing", "off")
    if now.kind not in MENDABLE:
        return Decision("nothing", "not_mendable")
    if now.repairing:
        return Decision("nothing", "repairing")
    if now.ignored:
        return Decision("nothing", "ignored")
    if not now.settled or now.on_trial or now.busy:
        return Decision("wait")
    if not now.serves:
        return Decision("nothing", "replaced")
    if now.over:
        return Decision("nothing", "over")
    if now.auto == "propose":
        return quiet or Decision("propose", "asked")
    for applies, why in (
        (bool(now.frozen), "frozen"),
        (now.kind == "memory", "memory"),
        (now.mended, "came_back"),
        (now.attempts > 0, "tried"),
        (now.today >= now.most, "budget_jobs"),
        (bool(now.budget) and now.spent >= now.budget, "budget_money"),
        (now.cooling, "cooling"),
    ):
        if applies:
            return quiet or Decision("propose", why)
    return Decision("repair", "healing")


class Heal:
    """Looks after incidents that wait for a decision.

    Args:
        cares: the services.
        incidents, ledger, requests, notices: what it reads, and what it acts through.
        events: say that there is something to decide.
        language: of what it says.
        may_heal: whether something forbids a change of a service now.
    """

    def __init__(
        self,
        *,
        cares: Mapping[str, Care],
        incidents: Incidents,
        ledger: Ledger,
        requests: Requests,
        notices: Notices,
        events: Events,
        language: Language,
        may_heal: MayHeal,
        clock: Clock | None = None,
    ) -> None:
        self._cares = cares
        self._incidents = incidents
        self._ledger = ledger
        self._requests = requests
        self._notices = notices
        self._events = events
        self._language = language
        self._may_heal = may_heal
        self._clock = clock or SystemClock()

    async def run(self) -> None:
        """Decide until cancelled."""
        with self._events.watch("incidents", "jobs") as watch:
            while True:
                waits = False
                for care in self._cares.values():
                    waits = await self.look(care) or waits
                await watch.changed(_LOOK_S if waits else _QUIET_S)

    async def look(self, care: Care) -> bool:
        """Decide what can be decided about one service; returns whether something has to wait."""
        waits = await self._finish(care)
        for incident in await self._incidents.pending(care.name):
            try:
                decision = decide(await self._situation(care, incident))
            except (RegrowError, OSError) as error:
                log.warning("nothing can be decided now", action="heal_wait", service=care.name, error=str(error))
                return True
            match decision.act:
                case "wait":
                    waits = True
                case "nothing":
                    await self._incidents.decided(incident.id, decision.why)
                case "propose":
                    await self._propose(care, incident, decision.why)
                case "repair":
                    await self._incidents.decide_heal(incident)
                    await self._finish(care)
        return waits

    async def _situation(self, care: Care, incident: Incident) -> Situation:
        settings, heal, now = care.config.incidents, care.config.heal, self._clock.now()
        status = await care.service.status()
        live = await self._ledger.live(care.name)
        last = await self._job(incident.job)
        begun = [one for one in await self._incidents.heals(care.name, now - _DAY_S) if one["state"] == "asked"]
        at = max((one["at"] for one in begun), default=0.0)
        mended = last is not None and last.status == "done"
        ended = last.ended_at or 0.0 if last is not None else 0.0
        since = incident.offered_at or 0.0
        probe = status.active.probes.get(incident.probe) if status.active is not None and incident.probe else None
        serving = status.active.release if status.active is not None else str((status.good or {}).get("id", ""))
        return Situation(
            auto=heal.auto,
            kind=incident.kind,
            settled=now - (incident.pending_at or now) >= settings.settle,
            over=probe is not None and not probe["strikes"] and incident.hourly(now) < _FLAPS,
            serves=incident.release == serving,
            on_trial=status.trial is not None or status.candidate is not None,
            busy=bool(live),
            repairing=last is not None and not last.ended,
            ignored=incident.ignored(now, settings.factor),
            # Came back after a repair, or after it was ignored: that is news.
            told=bool(since) and now - since < settings.again and ended < since and incident.ignored_until is None,
            attempts=incident.attempts,
            mended=mended,
            frozen=await self._may_heal(care),
            today=len(begun),
            most=heal.jobs_a_day,
            spent=await self._spent(care, [one["job"] for one in begun]),
            budget=heal.budget_a_day if care.models is not None else 0.0,
            cooling=now - at < heal.cool_down,
        )

    async def _job(self, number: int | None) -> Record | None:
        try:
            return None if number is None else await self._ledger.get(number)
        except NotFound:
            return None  # an older store was brought back

    async def _spent(self, care: Care, jobs: list[int | None]) -> float:
        """What the model has cost in these jobs, in its currency."""
        if care.models is None:
            return 0.0
        found = [await care.models.usage(f"job-{job}") for job in jobs if job is not None]
        return sum(float(usage.cost or 0.0) for usage in found)

    # Asking people

    async def _propose(self, care: Care, incident: Incident, why: str) -> None:
        """Ask, once: a daemon killed before it wrote down that it has asked asks under the same name."""
        now, language, number = self._clock.now(), self._language, incident.id
        lines = [line.replace("```", "'''") for line in incident.lines]
        shown = [*lines[:2], "...", *lines[-_SHOWN_LINES + 3 :]] if len(lines) > _SHOWN_LINES else lines
        span = span_text(language, care.config.incidents.ignore)
        reason = "" if why == "asked" else say(language, f"heal.{why}")
        await self._notices.tell(
            f"incident {number} offer {incident.offers + 1}",
            f"service {care.name}",
            "offer",
            (
                Choice(say(language, "incident.fix", incident=number), f"fix:{number}", "primary"),
                Choice(say(language, "incident.ignore", incident=number, time=span), f"ignore:{number}"),
            ),
            service=care.name,
            incident=number,
            title=title(incident, language),
            count=incident.count,
            release=incident.release or "-",
            first=time_text(incident.first_at, now=now),
            last=time_text(incident.last_at, now=now),
            lines="\n".join(shown),
            reason=f"\n{reason}" if reason else "",
        )
        await self._incidents.decided(number, why, offered=True)

    # Repairing by itself

    async def _finish(self, care: Care) -> bool:
        """Act upon what was decided; also in a daemon whose predecessor was killed before it could. Returns whether
        something has to wait."""
        now, waits = self._clock.now(), False
        for heal in await self._incidents.heals(care.name, now - 2 * _DAY_S):
            if heal["state"] == "decided":
                waits = await self._act(care, heal, now) or waits
        return waits

    async def _act(self, care: Care, heal: Mapping[str, Any], now: float) -> bool:
        number = int(heal["id"])
        incident = await self._incidents.get(int(heal["incident"]))
        if incident.attempts >= heal["attempt"]:  # asked for already; only this row was not written
            await self._incidents.heal_ended(number, "asked", incident.job)
            return False
        frozen = await self._may_heal(care)
        if frozen or now - heal["at"] > _STALE_S:
            await self._incidents.heal_ended(number, "dropped")
            await self._propose(care, incident, "frozen" if frozen else "late")
            return False
        if any(job.args.get("incident") != str(incident.id) for job in await self._ledger.live(care.name)):
            return True  # never beside another one
        name = f"incident:{incident.id}:{int(heal['attempt'])}"
        asked = Asked(REGROW, REGROW.name, await self._notices.home(), self._language, name)
        try:
            done = await self._requests.carry_out(Intent.repair, Args(incident=incident.id), asked, care.name)
        except RegrowError as error:
            log.warning("a repair was refused", action="heal_refused", incident=incident.id, error=str(error))
            await self._incidents.heal_ended(number, "dropped")
            await self._propose(care, incident, "refused")
            return False
        job = done.job if isinstance(done, types.Accepted) else None
        await self._incidents.heal_ended(number, "asked", job)
        await self._notices.tell(
            f"incident {incident.id} heal {int(heal['attempt'])}",
            f"service {care.name}",
            "healing",
            service=care.name,
            incident=incident.id,
            title=title(incident, self._language),
            job=job or "-",
        )
        return False


def title(incident: Incident, language: Language) -> str:
    """What goes wrong, in one line."""
    return say_fitting(language, f"incident.{incident.kind}", cause=plain(language, incident.cause))
