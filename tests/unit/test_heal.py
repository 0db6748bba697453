"""When Regrow asks whether to repair, when it repairs by itself, and that it does neither twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from regrow.care import Care
from regrow.config import HealSection, IncidentsSection
from regrow.heal import Decision, Heal, Situation, decide
from regrow.incidents import Seen
from regrow.intents import Args, Intent
from regrow.store import incidents as incidents_table
from regrow.testing.manual_clock import ManualClock
from regrow.testing.parts import Parts

REPAIR = Situation(auto="repair")


@pytest.mark.parametrize(
    ("now", "act", "why"),
    [
        (Situation(auto="off"), "nothing", "off"),
        (Situation(), "propose", "asked"),
        (Situation(told=True), "nothing", "told"),
        (Situation(kind="killed"), "nothing", "not_mendable"),
        (Situation(kind="trial"), "nothing", "not_mendable"),
        (Situation(repairing=True), "nothing", "repairing"),
        (Situation(ignored=True), "nothing", "ignored"),
        (Situation(settled=False), "wait", ""),
        (Situation(on_trial=True), "wait", ""),
        (Situation(busy=True), "wait", ""),
        (Situation(serves=False), "nothing", "replaced"),
        (Situation(kind="probe", over=True), "nothing", "over"),
        (REPAIR, "repair", "healing"),
        (replace(REPAIR, kind="errors"), "repair", "healing"),
        (replace(REPAIR, told=True), "repair", "healing"),
        (replace(REPAIR, frozen="a release is due"), "propose", "frozen"),
        (replace(REPAIR, kind="memory"), "propose", "memory"),
        (replace(REPAIR, attempts=1, mended=True), "propose", "came_back"),
        (replace(REPAIR, attempts=1), "propose", "tried"),
        (replace(REPAIR, attempts=1, told=True), "nothing", "told"),
        (replace(REPAIR, today=3, most=3), "propose", "budget_jobs"),
        (replace(REPAIR, today=2, most=3), "repair", "healing"),
        (replace(REPAIR, spent=4.99, budget=5.0), "repair", "healing"),
        (replace(REPAIR, spent=5.0, budget=5.0), "propose", "budget_money"),
        (replace(REPAIR, spent=9.0, budget=0.0), "repair", "healing"),
        (replace(REPAIR, cooling=True), "propose", "cooling"),
        (replace(REPAIR, on_trial=True), "wait", ""),
        (replace(REPAIR, busy=True), "wait", ""),
        (replace(REPAIR, serves=False), "nothing", "replaced"),
    ],
)
def test_the_rules(now: Situation, act: str, why: str) -> None:
    assert decide(now) == Decision(cast(Any, act), why)


class Healing:
    """A healer around the parts."""

    def __init__(self, parts: Parts, clock: ManualClock, **heal: Any) -> None:
        self.parts, self.clock, self.frozen = parts, clock, ""
        settings = {"incidents": IncidentsSection(settle=10), "heal": HealSection(**heal)}
        self.care: Care = replace(parts.care, config=parts.care.config.model_copy(update=settings))
        self.heal = Heal(
            cares={"tiny": self.care},
            incidents=parts.incidents,
            ledger=parts.ledger,
            requests=parts.requests,
            notices=parts.notices,
            events=parts.events,
            language="en",
            may_heal=self.may_heal,
            clock=clock,
        )

    async def may_heal(self, care: Care) -> str:
        assert care is self.care
        return self.frozen

    async def happens(self, signature: str = "RuntimeError: boom", kind: str = "crash", release: str = "r1") -> int:
        """It is seen once, and time goes by until it is decided about."""
        at = self.clock.now()
        seen = Seen(kind, signature, signature, at, release, ["Traceback", signature], pending=True)
        await self.parts.incidents._keep(self.care, f"test {at} {signature}", 1, seen)
        self.clock.advance(11)
        await self.heal.look(self.care)
        row = await self.parts.store.row(sa.select(incidents_table).where(incidents_table.c.signature == signature))
        assert row is not None
        return int(row["id"])

    async def ends(self, job: int, status: str) -> None:
        await self.parts.ledger.change(job, status=status, ended_at=self.clock.now())

    async def texts(self) -> list[str]:
        return [row["text"] for row in await self.parts.sent() if "-memory-" in row["key"]]

    async def buttons(self) -> list[str]:
        (row,) = [row for row in await self.parts.sent() if row["key"].startswith("notice-1-memory")]
        return [choice["action"] for choice in row["choices"]]

    async def jobs(self) -> list[int]:
        return [record.id for record in await self.parts.ledger.last() if record.kind == "repair"]


@pytest.fixture
async def served(parts: Parts) -> Parts:
    parts.serve(await parts.release())
    return parts


async def test_it_is_offered_once_with_the_evidence_and_again_after_a_day(served: Parts, clock: ManualClock) -> None:
    healing = Healing(served, clock)
    number = await healing.happens()
    assert await healing.buttons() == [f"fix:{number}", f"ignore:{number}"]
    assert "Traceback\nRuntimeError: boom" in (await healing.texts())[0]
    before = await served.incidents.get(number)
    await healing.happens()
    assert (await served.incidents.get(number)).offers == before.offers == 1
    clock.advance(86400)
    await healing.happens()
    assert (await served.incidents.get(number)).offers == 2


async def test_f29_many_crashes_of_many_kinds_are_one_message_a_window(served: Parts, clock: ManualClock) -> None:
    healing = Healing(served, clock)
    for number in range(48):
        await served.notices.tell(f"tiny event {number}", "service tiny", "crashed", service="tiny", cause="boom")
        await healing.happens(f"Error of kind {chr(97 + number % 2)}")
        clock.advance(1800 - 11)
    sent = [row for row in await served.sent() if row["key"].startswith("notice-") and "-memory-" in row["key"]]
    assert len(sent) == 24
    assert len(await served.incidents.last("tiny")) == 2


async def test_an_offer_told_by_a_daemon_that_was_killed_is_told_once(served: Parts, clock: ManualClock) -> None:
    healing = Healing(served, clock)
    number = await healing.happens()
    values = {"pending_at": clock.now() - 60, "offers": 0, "offered_at": None}
    await served.store.transact(lambda c: c.execute(incidents_table.update().values(**values)))
    await healing.heal.look(healing.care)
    assert await healing.buttons() == [f"fix:{number}", f"ignore:{number}"]
    assert (await healing.texts())[0].count("Repair it?") == 1


async def test_it_heals_once_and_proposes_what_failed(served: Parts, clock: ManualClock) -> None:
    healing = Healing(served, clock, auto="repair", cool_down=0)
    number = await healing.happens()
    (job,) = await healing.jobs()
    record = await served.ledger.get(job)
    assert (record.person, record.asked_by, record.args["incident"]) == ("regrow", "regrow", str(number))
    assert record.address.chat == "owner", "an owner is told of it, and asked to approve"
    await healing.happens()
    assert await healing.jobs() == [job], "it is under way"
    await healing.ends(job, "failed")
    await healing.happens()
    assert await healing.jobs() == [job]
    assert "a repair of it has failed" in (await healing.texts())[0]


@pytest.mark.parametrize("when", ["before the job", "after the job", "after the incident knows"])
async def test_a_daemon_killed_while_it_heals_asks_for_one_job(served: Parts, clock: ManualClock, when: str) -> None:
    healing = Healing(served, clock, auto="repair")
    number = await healing.happens()
    (job,) = await healing.jobs()
    # What the store held when it was killed.
    await served.store.transact(lambda c: c.exec_driver_sql("update heals set state = 'decided', job = null"))
    if when != "after the incident knows":
        await served.store.transact(lambda c: c.exec_driver_sql("update incidents set attempts = 0, job = null"))
    if when == "before the job":
        await served.store.transact(lambda c: c.exec_driver_sql("delete from jobs"))
    again = Healing(served, clock, auto="repair")
    await again.heal.look(again.care)
    await again.heal.look(again.care)
    jobs = await healing.jobs()
    assert len(jobs) == 1
    assert jobs == [job] or when == "before the job"
    incident = await served.incidents.get(number)
    assert (incident.attempts, incident.job) == (1, jobs[0])
    (row,) = await served.incidents.heals("tiny", 0)
    assert (row["state"], row["job"]) == ("asked", jobs[0])


async def test_a_decision_that_was_long_ago_is_only_proposed(served: Parts, clock: ManualClock) -> None:
    healing = Healing(served, clock, auto="repair")
    await healing.happens()
    await served.store.transact(lambda c: c.exec_driver_sql("update heals set state = 'decided', job = null"))
    await served.store.transact(lambda c: c.exec_driver_sql("update incidents set attempts = 0, job = null"))
    await served.store.transact(lambda c: c.exec_driver_sql("delete from jobs"))
    clock.advance(3600)
    await healing.heal.look(healing.care)
    assert await healing.jobs() == []
    assert "was away too long" in (await healing.texts())[-1]


async def test_never_two_at_once_nor_beside_another_job(served: Parts, clock: ManualClock) -> None:
    healing = Healing(served, clock, auto="repair", cool_down=0)
    await served.requests.carry_out(Intent.restart, Args(), served.asked("operator"))
    await healing.happens("one")
    assert await healing.jobs() == []
    (restart,) = await served.ledger.last()
    await healing.ends(restart.id, "done")
    await healing.happens("two")
    assert len(await healing.jobs()) == 1, "the other one waits"
    await healing.ends((await healing.jobs())[0], "done")
    await healing.heal.look(healing.care)
    assert len(await healing.jobs()) == 2


async def test_the_budget_of_a_day_and_the_time_between(served: Parts, clock: ManualClock) -> None:
    healing = Healing(served, clock, auto="repair", jobs_a_day=2, cool_down=3600)
    for name in ("one", "two", "three", "four"):
        await healing.happens(name)
        for job in await healing.jobs():
            await healing.ends(job, "done")
        if name != "one":
            clock.advance(3600)
    # "two" came too soon after "one", and "four" is one too many.
    assert len(await healing.jobs()) == 2
    clock.advance(86400)
    await healing.happens("five")
    assert len(await healing.jobs()) == 3


async def test_what_is_frozen_is_not_healed(served: Parts, clock: ManualClock) -> None:
    healing = Healing(served, clock, auto="repair")
    healing.frozen = "a release is due"
    await healing.happens()
    assert await healing.jobs() == []
    assert "nothing may be changed now" in (await healing.texts())[0]


async def test_a_release_on_trial_is_the_rules_business(served: Parts, clock: ManualClock) -> None:
    healing = Healing(served, clock, auto="repair")
    served.service.shows(trial={"token": "t", "release": "r1"})
    number = await healing.happens()
    assert (await served.incidents.get(number)).pending_at is not None
    served.service.shows(trial=None)
    await healing.heal.look(healing.care)
    (job,) = await healing.jobs()
    await healing.ends(job, "done")
    await healing.happens("of a release that fell back", release="r9")
    last = await served.incidents.last("tiny")
    assert [one.why for one in last if one.release == "r9"] == ["replaced"]


async def test_ignored_is_quiet_until_it_is_over_or_much_worse(served: Parts, clock: ManualClock) -> None:
    healing = Healing(served, clock)
    number = await healing.happens()
    answer = await served.requests.carry_out(Intent.ignore, Args(incident=number), served.asked("operator"))
    assert "7 days" in str(answer)
    assert await healing.buttons() == []
    await healing.happens()
    assert (await served.incidents.get(number)).offers == 1
    for _ in range(6):
        await healing.happens()
    assert (await served.incidents.get(number)).offers == 2, "it comes seven times an hour now"
    await served.incidents.ignore(number, 86400)
    clock.advance(86401)
    await healing.happens()
    assert (await served.incidents.get(number)).offers == 3
