"""The audit log is a chain: what was changed, taken away or cut off is found, and the database refuses it first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from regrow.audit import RESTORED, SHORTENED, Audit, Verdict, digest
from regrow.errors import Refused
from regrow.intents import Args, Intent
from regrow.store import Store, audit
from regrow.testing.manual_clock import ManualClock
from regrow.testing.parts import Parts


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """Where the end of the chain is kept."""
    return tmp_path / "audit.head"


@pytest.fixture
async def log(store: Store, clock: ManualClock, head: Path) -> Audit:
    """A log of five rows, a second apart."""
    made = Audit(store, clock, head)
    for number in range(1, 6):
        await made.write("Ada", "web", "asked", number, person="ada", intent="restart", args={"é": [1, 2.5, None]})
        clock.advance(1)
    return made


async def behind(store: Store, statement: sa.Executable) -> None:
    """Change rows as somebody could who owns the database, past its triggers."""

    def work(connection: sa.Connection) -> None:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER audit_no_update")
            connection.exec_driver_sql("DROP TRIGGER audit_no_delete")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.execute(statement)

    await store.transact(work)


async def test_a_whole_chain(log: Audit, store: Store, clock: ManualClock, head: Path) -> None:
    assert await log.verify() == Verdict(5)
    rows = await log.find()
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5]
    assert len({row["hash"] for row in rows}) == 5
    assert json.loads(head.read_text()) == {"id": 5, "hash": rows[-1]["hash"]}
    await Audit(store, clock, head).begin()  # the next life finds all of it, and adds nothing
    assert await log.verify() == Verdict(5)


@pytest.mark.parametrize(
    "statement", [audit.update().values(who="Eve"), audit.delete(), audit.delete().where(audit.c.id == 5)]
)
async def test_the_database_refuses_what_is_no_new_row(log: Audit, store: Store, statement: sa.Executable) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="only ever added"):
        await store.transact(lambda c: c.execute(statement))
    assert await log.verify() == Verdict(5)


@pytest.mark.parametrize(
    "changed",
    [
        {"who": "Eve"},
        {"person": "eve"},
        {"via": "feishu"},
        {"what": "refused"},
        {"job": 7},
        {"at": 1.5},
        {"detail": {"intent": "deploy"}},
        {"hash": "0" * 64},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_changed_row_is_named(log: Audit, store: Store, changed: dict[str, Any]) -> None:
    await behind(store, audit.update().where(audit.c.id == 3).values(**changed))
    verdict = await log.verify()
    assert verdict.broken == 3
    assert "was changed" in verdict.reason


async def test_a_row_that_was_changed_together_with_its_hash_does_not_fit_the_next(log: Audit, store: Store) -> None:
    rows = await log.find()
    forged = {**rows[2], "who": "Eve"}
    forged["hash"] = digest(forged, rows[1]["hash"])
    await behind(store, audit.update().where(audit.c.id == 3).values(**forged))
    assert (await log.verify()).broken == 4


async def test_a_row_taken_from_the_middle_is_named(log: Audit, store: Store) -> None:
    await behind(store, audit.delete().where(audit.c.id.in_((2, 3))))
    assert await log.verify() == Verdict(4, 4, "the rows 2 to 3 are missing before it")


async def test_numbers_that_were_moved_up_do_not_hide_a_gap(log: Audit, store: Store) -> None:
    def work(connection: sa.Connection) -> None:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER audit_no_update")
            connection.exec_driver_sql("DROP TRIGGER audit_no_delete")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.execute(audit.delete().where(audit.c.id == 2))
        for number in (3, 4, 5):
            connection.execute(audit.update().where(audit.c.id == number).values(id=number - 1))

    await store.transact(work)
    verdict = await log.verify()
    assert verdict.broken == 2


async def test_an_end_that_was_cut_off_is_found_by_the_head(log: Audit, store: Store) -> None:
    await behind(store, audit.delete().where(audit.c.id > 3))
    assert await Audit(store).verify() == Verdict(3), "the chain alone cannot know"
    assert await log.verify() == Verdict(3, 4, "the log had reached row 5, and that one is gone")


async def test_a_log_that_begins_anew_is_not_the_one_that_was_written(log: Audit, store: Store, head: Path) -> None:
    await behind(store, audit.delete())
    forged = Audit(store)
    for number in range(6):
        await forged.write("Ada", "web", "asked", number)
    assert await log.verify() == Verdict(6, 5, "row 5 is another one than was written")


async def test_the_next_life_writes_down_that_the_end_is_missing(
    log: Audit, store: Store, clock: ManualClock, head: Path
) -> None:
    await behind(store, audit.delete().where(audit.c.id > 3))
    later = Audit(store, clock, head)
    await later.begin()
    await later.write("Ada", "web", "asked", 9)
    assert [(row["what"], row["detail"].get("id")) for row in (await later.find())[3:]] == [
        (SHORTENED, 5),
        ("asked", None),
    ]
    verdict = await later.verify()
    assert (verdict.broken, "had reached row 5" in verdict.reason) == (4, True)


async def test_a_restoration_explains_a_missing_end(log: Audit, store: Store, clock: ManualClock, head: Path) -> None:
    await behind(store, audit.delete().where(audit.c.id > 3))
    later = Audit(store, clock, head)
    await later.begin({"by": "ada", "backup": "regrow-1.db"})
    (row,) = (await later.find())[3:]
    assert (row["who"], row["what"], row["detail"]["had"]["id"]) == ("ada", RESTORED, 5)
    assert row["detail"]["known"] == {"backup": "regrow-1.db"}
    assert await later.verify() == Verdict(4)


@pytest.mark.parametrize("damage", ["", "no json", "{}", '{"id": 5}', "[1]"])
async def test_a_head_that_cannot_be_read_is_no_head(log: Audit, head: Path, damage: str) -> None:
    head.write_text(damage)
    verdict = await log.verify()
    assert verdict == Verdict(5) or verdict.broken is not None


async def test_many_at_once_are_one_chain(store: Store, head: Path) -> None:
    log = Audit(store, head=head)
    await asyncio.gather(*(log.write("Ada", "web", "asked", number) for number in range(40)))
    assert await log.verify() == Verdict(40)
    assert json.loads(head.read_text())["id"] == 40


async def test_what_may_be_written_twice_is_written_once(log: Audit) -> None:
    for _ in range(3):
        await log.write("regrow", "job", "ended", 4, once=True, status="done")
    await log.write("regrow", "job", "ended", 5, once=True)
    assert [row["job"] for row in await log.find() if row["what"] == "ended"] == [4, 5]


async def test_names_and_details_that_databases_do_not_like(log: Audit) -> None:
    await log.write("a\0b", "web", "refused", intent="x\0y", lone=["\ud800"], pair=("a", 1), deep={"k": 1e300})
    assert await log.verify() == Verdict(6)
    (row,) = await log.last(1)
    assert row["who"] == "a\N{REPLACEMENT CHARACTER}b"


async def test_rows_are_found_by_time_person_and_job(log: Audit, clock: ManualClock) -> None:
    await log.write("Bob", "feishu", "cancelled", 3, person="bob")
    numbers = [[row["id"] for row in rows] for rows in (
        await log.find(since=clock.now() - 1.5),
        await log.find(who="bob"),
        await log.find(who="Ada", limit=2),
        await log.find(job=3),
        await log.find(after=0, limit=2),
        await log.find(after=4),
        await log.find(limit=2),
    )]  # fmt: skip
    assert numbers == [[5, 6], [6], [4, 5], [3, 6], [1, 2], [5, 6], [5, 6]]


# Who writes what


async def words(parts: Parts, job: int | None = None) -> list[tuple[str, str, str]]:
    return [(row["what"], row["person"], row["via"]) for row in await parts.audit.find(job=job)]


async def test_what_people_do_is_written_down_with_their_id_and_channel(parts: Parts) -> None:
    parts.serve(await parts.release())
    carry_out: Callable[..., Awaitable[Any]] = parts.requests.carry_out
    with pytest.raises(Refused):
        await carry_out(Intent.restart, Args(), parts.asked("viewer"))
    job = (await carry_out(Intent.restart, Args(), parts.asked("operator"))).job
    await carry_out(Intent.restart, Args(), parts.asked("operator"))
    await carry_out(Intent.restart, Args(), parts.asked("owner"))
    await parts.approvals.ask(job, "sha256:abc", "a change", ["a"], "+a", within_s=60)
    await carry_out(Intent.approve, Args(job=job, target="sha256:abc"), parts.asked("maintainer"))
    await carry_out(Intent.cancel, Args(job=job), parts.asked("operator"))
    assert await words(parts) == [
        ("refused", "viewer", "memory"),
        ("asked", "operator", "memory"),
        ("joined", "owner", "memory"),
        ("approved", "maintainer", "memory"),
        ("cancelled", "operator", "memory"),
    ]
    rows = {row["what"]: row for row in await parts.audit.find()}
    assert rows["approved"]["detail"] == {"chat": "main", "digest": "sha256:abc"}
    assert rows["refused"]["detail"] == {"chat": "main", "intent": "restart"}
    assert await parts.audit.verify() == Verdict(5)


@pytest.mark.parametrize("who", ["viewer", "operator", ""])
async def test_only_maintainers_may_read_it(parts: Parts, who: str) -> None:
    with pytest.raises(Refused) as caught:
        await parts.requests.audit(parts.asked(who))
    assert caught.value.kind == "forbidden"
    assert await words(parts) == [("refused", who, "memory")]


@pytest.mark.parametrize("who", ["maintainer", "owner"])
async def test_maintainers_may_read_it(parts: Parts, who: str) -> None:
    assert await parts.requests.audit(parts.asked(who)) is parts.audit
