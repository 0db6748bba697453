"""What a job waits for can be called off until it has had its turn."""

from __future__ import annotations

import pytest

from regrow.channels.base import Address
from regrow.events import Events
from regrow.jobs.ledger import WAITING_FOR_IDLE, WAITING_FOR_QUIET, WAITING_FOR_TURN, Ledger, Record
from regrow.store import Store
from regrow.testing.manual_clock import ManualClock

PLAN = ["check", "build", "turn", "switch"]


@pytest.fixture
def ledger(store: Store, events: Events, clock: ManualClock) -> Ledger:
    return Ledger(store, events, clock)


async def opened(ledger: Ledger, **args: str) -> Record:
    address = Address("memory", "main", "m")
    known = {"service": "tiny", "kind": "deploy", "plan": PLAN, "args": args, "key": "", "language": "en"}
    record, _ = await ledger.open(**known, asked_by="ada", person="ada", address=address)  # type: ignore[arg-type]
    return record


async def test_a_job_is_hurried_before_and_while_it_waits_and_not_after(ledger: Ledger) -> None:
    building = await opened(ledger, commit="a")
    assert await ledger.hurry(building.id)
    waiting = await opened(ledger, commit="b", when="idle")
    await ledger.step(waiting.id, 2, status="waiting", waiting_for=WAITING_FOR_IDLE)
    assert await ledger.hurry(waiting.id)
    assert (await ledger.get(waiting.id)).args == {"commit": "b", "when": "now"}
    past = await opened(ledger, commit="c")
    await ledger.step(past.id, 2, status="done")
    assert not await ledger.hurry(past.id)
    await ledger.change(building.id, status="cancelled")
    assert not await ledger.hurry(building.id)


@pytest.mark.parametrize(
    ("waiting_for", "found"), [(WAITING_FOR_QUIET, True), (WAITING_FOR_IDLE, True), (WAITING_FOR_TURN, False)]
)
async def test_the_equal_job_that_waits_for_its_time(ledger: Ledger, waiting_for: str, found: bool) -> None:
    made = await opened(ledger, commit="a", when="idle")
    await ledger.step(made.id, 2, status="waiting", waiting_for=waiting_for)
    assert await ledger.put_off("tiny", "deploy", {"commit": "other", "when": "now"}) is None
    same = await ledger.put_off("tiny", "deploy", {"commit": "a", "when": "now"})
    assert (same is not None and same.id == made.id) is found
