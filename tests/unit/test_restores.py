"""Which data goes with a release: not moved, code alone; moved, both or a loud refusal (F21)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from regrow import restores
from regrow.care import Care
from regrow.config import load
from regrow.errors import Refused
from regrow.releases import Release
from regrow.snapshots import Snapshot
from regrow.testing.parts import Parts


@pytest.fixture
async def care(parts: Parts) -> Care:
    """A service with a database."""
    path = parts.care.config.path
    path.write_text(path.read_text() + '[state]\nsqlite = ["tiny.db"]\n')
    parts.care = replace(parts.care, config=load(path))
    parts.care.state.mkdir(parents=True)
    execute(parts.care, "create table notes (text)")
    return parts.care


def execute(care: Care, statement: str) -> None:
    with closing(sqlite3.connect(care.state / "tiny.db", isolation_level=None)) as connection:
        connection.execute(statement)


async def migrated(parts: Parts, care: Care) -> tuple[Release, Release, Snapshot]:
    """An old release and a newer one that serves, the schema moved in between, and the snapshot from before that."""
    old = await parts.release()
    await care.releases.served_with(old.number, await care.schema())
    taken = await care.snapshots.take(1, care.databases)
    assert taken is not None
    parts.checkout.commit("Second", {"src/answer.txt": "better\n"})
    new = await parts.release()
    await care.releases.opened_after(new.number, taken.id)
    execute(care, "alter table notes add column more")
    execute(care, "insert into notes values ('a', 1)")
    await care.releases.served_with(new.number, await care.schema())
    parts.serve(new)
    return await care.releases.get(old.id), await care.releases.get(new.id), taken


async def refused(care: Care, release: Release, data: bool = False, number: int | None = None) -> Refused:
    with pytest.raises(Refused) as raised:
        await restores.choose(care, release, data, number)
    assert str(raised.value).startswith("cannot ")
    return raised.value


async def test_a_schema_that_has_not_moved_leaves_the_data_alone(parts: Parts, care: Care) -> None:
    old = await parts.release()
    await care.releases.served_with(old.number, await care.schema())
    execute(care, "insert into notes values ('a')")
    assert await restores.choose(care, await care.releases.get(old.id)) is None


async def test_a_moved_one_is_refused_with_what_the_data_is_worth(parts: Parts, care: Care) -> None:
    old, new, taken = await migrated(parts, care)
    error = await refused(care, old)
    assert error.kind == "schema_moved"
    assert error.values["rows"] == "notes +1"
    assert error.values["snapshot"] == taken.id
    assert f"{old.id} alone" in str(error)
    assert await restores.choose(care, old, data=True) == taken
    assert await restores.choose(care, new) is None


async def test_without_a_snapshot_from_then_nothing_is_done(parts: Parts, care: Care) -> None:
    old, _, taken = await migrated(parts, care)
    await care.snapshots.take(None, care.databases, reason="asked")
    await care.snapshots.prune(1, 0)
    assert taken.id not in {one.id for one in await care.snapshots.all()}
    assert (await refused(care, old)).kind == "no_snapshot"
    assert (await refused(care, old, data=True)).kind == "no_snapshot"


async def test_data_back_without_a_move_is_what_was_there_before_the_newer_release(parts: Parts, care: Care) -> None:
    old = await parts.release()
    await care.releases.served_with(old.number, await care.schema())
    taken = await care.snapshots.take(1, care.databases)
    assert taken is not None
    parts.checkout.commit("Second", {"src/answer.txt": "better\n"})
    new = await parts.release()
    parts.serve(new)
    old = await care.releases.get(old.id)
    assert (await refused(care, old, data=True)).kind == "no_snapshot_left"
    await care.releases.opened_after(new.number, taken.id)
    execute(care, "insert into notes values ('spoilt')")
    assert await restores.choose(care, old, data=True) == taken


async def test_a_named_snapshot_goes_with_a_release_that_works_with_it(parts: Parts, care: Care) -> None:
    old, new, taken = await migrated(parts, care)
    assert await restores.release_for(care, taken) == old
    assert await restores.choose(care, old, number=taken.id) == taken
    assert (await refused(care, new, number=taken.id)).kind == "other_schema"
    newer = await care.snapshots.take(None, care.databases, reason="asked")
    assert newer is not None
    assert await restores.release_for(care, newer) == new


async def test_snapshots_from_before_what_may_be_needed_are_needed(parts: Parts, care: Care) -> None:
    _, _, taken = await migrated(parts, care)
    assert await restores.needed(care) == {taken.id}


async def test_a_service_without_databases_has_no_data_to_restore(parts: Parts) -> None:
    release = await parts.release()
    assert await restores.choose(parts.care, release) is None
    assert (await refused(parts.care, release, data=True)).kind == "no_snapshot"


async def test_a_command_may_name_the_schema(parts: Parts, care: Care, tmp_path: Path) -> None:
    path = care.config.path
    path.write_text(path.read_text() + 'schema_command = ["/bin/sh", "-c", "cat $0/schema", "{state}"]\n')
    care = replace(care, config=load(path))
    (care.state / "schema").write_text("12 \n")
    assert await care.schema() == {"command": "12"}
    (care.state / "schema").unlink()
    with pytest.raises(Refused) as raised:
        await care.schema()
    assert raised.value.kind == "no_schema"
