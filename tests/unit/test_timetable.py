"""Snapshots on a schedule: between jobs, of unchanged data none, and told when the data cannot be copied."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Any, cast

import pytest

from regrow import timetable
from regrow.care import Care
from regrow.channels.base import Address
from regrow.config import load
from regrow.notices import Notices
from regrow.testing.manual_clock import ManualClock
from regrow.testing.parts import Parts

HOUR_S = 3600.0


class Told:
    """Keeps what people would be told."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def tell(self, event: str, subject: str, key: str, **values: object) -> None:
        self.keys.append(f"{subject}: {key}: {values['cause']}")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def care(parts: Parts) -> Care:
    """A service whose data is copied every hour."""
    path = parts.care.config.path
    path.write_text(path.read_text() + '[state]\nsqlite = ["tiny.db"]\n[snapshots]\nevery = "1h"\nkeep = 3\n')
    made = replace(parts.care, config=load(path))
    made.state.mkdir(parents=True)
    write(made, "create table notes (text)")
    return made


@asynccontextmanager
async def running(parts: Parts, care: Care, told: Told) -> AsyncIterator[None]:
    task = asyncio.create_task(timetable.run(care, parts.ledger, cast(Notices, told), parts.clock))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def write(care: Care, statement: str) -> None:
    with closing(sqlite3.connect(care.state / "tiny.db", isolation_level=None)) as connection:
        connection.execute(statement)


async def after(clock: ManualClock, seconds: float, care: Care) -> int:
    """Let this much time pass, wait until it sleeps again, and count the snapshots."""
    await clock.asleep()
    clock.advance(seconds)
    await asyncio.sleep(0)  # whoever was woken is no sleeper any more
    await clock.asleep()
    return len(await care.snapshots.all())


async def test_one_at_once_and_then_one_an_hour_of_what_has_changed(
    parts: Parts, care: Care, clock: ManualClock, told: Told
) -> None:
    async with running(parts, care, told):
        assert await after(clock, 0, care) == 1
        for number in range(5):
            write(care, f"insert into notes values ('{number}')")
            assert await after(clock, HOUR_S, care) == min(number + 2, 3)
        assert await after(clock, HOUR_S, care) == 3, "unchanged data was copied again (F14)"
    found = await care.snapshots.all()
    assert {one.reason for one in found} == {"schedule"}
    assert [one.at for one in found] == sorted((one.at for one in found), reverse=True)


async def test_none_while_a_job_changes_the_service(parts: Parts, care: Care, clock: ManualClock, told: Told) -> None:
    number = await begun(parts)
    async with running(parts, care, told):
        assert await after(clock, 60, care) == 0
        await parts.ledger.change(number, status="done")
        assert await after(clock, 60, care) == 1


async def test_after_a_restart_it_goes_on_where_it_was(
    parts: Parts, care: Care, clock: ManualClock, told: Told
) -> None:
    async with running(parts, care, told):
        assert await after(clock, 0, care) == 1
    write(care, "insert into notes values ('more')")
    async with running(parts, care, told):
        assert await after(clock, HOUR_S / 2, care) == 1
        assert await after(clock, HOUR_S / 2, care) == 2


async def begun(parts: Parts) -> int:
    record, _ = await parts.ledger.open(
        service="tiny",
        kind="deploy",
        plan=["check"],
        args={},
        key="",
        language="en",
        asked_by="owner",
        person="owner",
        address=Address("memory", "main", "m"),
    )
    await parts.ledger.take_turn("tiny", record.id)
    return record.id


async def test_f22_data_that_is_damaged_is_told_of(parts: Parts, care: Care, clock: ManualClock, told: Told) -> None:
    (care.state / "tiny.db").write_bytes(b"no database" * 1000)
    async with running(parts, care, told):
        assert await after(clock, 0, care) == 0
    (said,) = told.keys
    assert said.startswith("snapshots tiny: snapshot_failed: cannot take a snapshot of tiny.db: ")


async def test_an_empty_setting_is_off(parts: Parts, told: Told, clock: ManualClock) -> None:
    path = parts.care.config.path
    path.write_text(path.read_text() + '[state]\nsqlite = ["tiny.db"]\n[snapshots]\nevery = ""\n')
    made: Any = replace(parts.care, config=load(path))
    await asyncio.wait_for(timetable.run(made, parts.ledger, cast(Notices, told), clock), 10)
