"""The store on a server: one daemon a host, errors told apart by SQLSTATE, the end of a connection noticed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
import sqlalchemy as sa

from regrow.databases import database
from regrow.databases.postgres import Postgres
from regrow.errors import ConfigError, Refused, StoreError
from regrow.places import Places
from regrow.store import SCHEMA_HEAD, Store, check, cursors, metadata, snapshots
from regrow.testing.postgres import Server

TERMINATE = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and "
HOLDERS = "pid in (select pid from pg_locks where locktype = 'advisory')"
OTHERS = "pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def url(postgres: Server) -> str:
    """A database of this module's own."""
    return postgres.database()


@pytest.fixture
def fatal() -> list[str]:
    """For what reasons the store would have ended the process."""
    return []


@pytest.fixture
def on_server(url: str, fatal: list[str]) -> Iterator[Store]:
    """A store that others may tear at."""
    made = Store(Postgres(url, "torn"), on_fatal=fatal.append)
    yield made
    made.close()


def put(connection: sa.Connection, name: str) -> None:
    connection.execute(cursors.insert().values(name=name, value=1))


def raising(state: str) -> Callable[[sa.Connection], None]:
    """Work during which the server raises an error of this SQLSTATE."""
    return lambda c: c.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{state}'; END $$") and None


@pytest.mark.parametrize(
    "state", ["53100", "53200", "53300", "57P01", "57P02", "57P03", "58030", "08006", "XX001", "25006"]
)
async def test_an_error_of_the_server_itself_is_fatal(on_server: Store, fatal: list[str], state: str) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        await on_server.transact(raising(state))
    assert len(fatal) == 1
    assert fatal[0].startswith("so")


@pytest.mark.parametrize("state", ["23505", "22012", "42601", "55P03", "P0001"])
async def test_an_answer_is_not_fatal(on_server: Store, fatal: list[str], state: str) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        await on_server.transact(raising(state))
    assert fatal == []


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_conflict_is_tried_again(on_server: Store, fatal: list[str], state: str) -> None:
    tries: list[str] = []

    def work(connection: sa.Connection) -> None:
        tries.append(state)
        put(connection, f"{state} {len(tries)}")
        if len(tries) == 1:
            raising(state)(connection)

    await on_server.transact(work)
    assert fatal == []
    found = await on_server.rows(sa.select(cursors).where(cursors.c.name.startswith(state)))
    assert [row["name"] for row in found] == [f"{state} 2"]


async def test_a_statement_that_takes_too_long_is_fatal(on_server: Store, fatal: list[str]) -> None:
    def work(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 1")
        connection.exec_driver_sql("SELECT pg_sleep(60)")

    with pytest.raises(sa.exc.OperationalError):
        await on_server.transact(work)
    assert "statement timeout" in fatal[0]


async def test_a_connection_that_was_ended_is_fatal(
    postgres: Server, url: str, on_server: Store, fatal: list[str]
) -> None:
    await on_server.transact(lambda c: put(c, "before"))
    with postgres.connect(url) as other:
        other.execute(f"{TERMINATE} {OTHERS} and not {HOLDERS}")
    with pytest.raises(sa.exc.OperationalError):
        await on_server.transact(lambda c: put(c, "after"))
    assert fatal


async def test_a_connection_that_cannot_be_made_is_fatal(postgres: Server, fatal: list[str]) -> None:
    store = Store(Postgres(url := postgres.database(), "shut"), on_fatal=fatal.append)
    try:
        store.engine.dispose()  # all but the one that holds the lock
        with postgres.connect() as other:
            other.execute(f'ALTER DATABASE "{sa.make_url(url).database}" ALLOW_CONNECTIONS false')
        with pytest.raises(sa.exc.OperationalError):
            await store.transact(lambda c: put(c, "never"))
        assert "not currently accepting connections" in fatal[0]
    finally:
        store.close()


def test_the_end_of_the_lock_is_noticed_unasked(postgres: Server, url: str) -> None:
    """From that moment on another daemon of the same name could begin (F42)."""
    noticed, reasons = threading.Event(), list[str]()

    def lost(reason: str) -> None:
        reasons.append(reason)
        noticed.set()

    store = Store(Postgres(url, "watched"), on_fatal=lost)
    try:
        with postgres.connect(url) as other:
            other.execute(f"{TERMINATE} {HOLDERS}")
        assert noticed.wait(60)
        assert reasons[0].startswith("the connection that holds the lock has ended: ")
    finally:
        store.close()


def test_a_setting_of_the_server_that_changes_is_no_end(postgres: Server, url: str) -> None:
    """It is told of unasked on every connection."""
    store = Store(Postgres(url, "told"), on_fatal=pytest.fail)
    try:
        with postgres.connect(url) as other:
            other.execute("ALTER SYSTEM SET default_transaction_read_only = off")
            other.execute("select pg_reload_conf()")
        with pytest.raises(Refused):
            Store(Postgres(url, "told"))
    finally:
        store.close()


def test_a_second_daemon_of_one_host_is_refused_and_of_another_is_not(url: str) -> None:
    first = Store(Postgres(url, "north"))
    try:
        with pytest.raises(Refused) as caught:
            Store(Postgres(url, "north"))
        assert caught.value.kind == "locked"
        assert 'cannot start a second daemon of the host "north": one at this machine, since 20' in str(caught.value)
        second = Store(Postgres(url, "south"))
        second.close()
    finally:
        first.close()
    Store(Postgres(url, "north")).close()  # and nothing is left to clean


async def test_two_hosts_see_nothing_of_one_another(url: str) -> None:
    north, south = Store(Postgres(url, "north")), Store(Postgres(url, "south"))
    try:
        await north.transact(lambda c: put(c, "mine"))
        assert [row["name"] for row in await north.rows(sa.select(cursors))] == ["mine"]
        assert await south.rows(sa.select(cursors)) == []
        assert (north.database.scope, south.database.scope) == ("north-", "south-")
    finally:
        north.close()
        south.close()


async def test_one_writes_at_a_time(on_server: Store) -> None:
    """What was read holds until it is written, also against another process of the same host."""
    await on_server.transact(lambda c: put(c, "count"))
    mine = cursors.c.name == "count"

    def add_one(connection: sa.Connection) -> None:
        value = connection.execute(sa.select(cursors.c.value).where(mine)).scalar_one()
        connection.execute(cursors.update().where(mine).values(value=value + 1))

    await asyncio.gather(*(on_server.transact(add_one) for _ in range(40)))
    row = await on_server.row(sa.select(cursors).where(mine))
    assert row is not None
    assert row["value"] == 41


def test_a_new_store_is_what_the_migrations_make(postgres: Server) -> None:
    made, migrated = postgres.database(), postgres.database()
    with postgres.connect(migrated) as connection:
        # A table of versions without a version sends the store through every migration.
        connection.execute(
            "CREATE SCHEMA regrow_one; CREATE TABLE regrow_one.alembic_version (version_num VARCHAR(32))"
        )
    for one in (made, migrated):
        Store(Postgres(one, "one")).close()
    assert shape(postgres, made) == shape(postgres, migrated)


def test_a_store_from_before_the_schema_of_data_is_migrated_and_keeps_its_snapshots(postgres: Server) -> None:
    made, old = postgres.database(), postgres.database()
    for one in (made, old):
        Store(Postgres(one, "one")).close()
    with postgres.connect(old) as connection:
        # As the version before made it.
        connection.execute("SET search_path TO regrow_one")
        for column in ("schema", "snapshot"):
            connection.execute(f"ALTER TABLE releases DROP COLUMN {column}")
        connection.execute("ALTER TABLE snapshots DROP CONSTRAINT snapshots_service_job_reason_key")
        for column in ("reason", "schema"):
            connection.execute(f"ALTER TABLE snapshots DROP COLUMN {column}")
        connection.execute("ALTER TABLE snapshots ALTER COLUMN job SET NOT NULL")
        connection.execute("ALTER TABLE snapshots ADD UNIQUE (service, job)")
        connection.execute(
            "INSERT INTO snapshots (service, job, directory, files, bytes, at) VALUES ('claw', 3, '/d', '[]', 5, 1.5)"
        )
        connection.execute("UPDATE alembic_version SET version_num = '0004'")
    migrated = Store(Postgres(old, "one"))
    try:
        with migrated.engine.begin() as connection:
            new = snapshots.insert().values(service="claw", directory="/e", files=[], bytes=5, at=2.5)
            connection.execute(new)
            kept = connection.execute(sa.select(snapshots.c.job, snapshots.c.reason).order_by(snapshots.c.id)).all()
    finally:
        migrated.close()
    assert [tuple(row) for row in kept] == [(3, "change"), (None, "change")]
    assert shape(postgres, old) == shape(postgres, made)


def shape(postgres: Server, url: str) -> list[tuple[object, ...]]:
    """Columns, indexes and triggers of a store."""
    with postgres.connect(url) as connection:
        found = connection.execute(
            "select table_name, column_name, data_type, is_nullable, column_default from information_schema.columns "
            "where table_schema = 'regrow_one' and table_name <> 'alembic_version'"
        ).fetchall()
        found += connection.execute(
            "select indexname, indexdef, '', '', '' from pg_indexes where schemaname = 'regrow_one' "
            "and tablename <> 'alembic_version'"
        ).fetchall()
        found += connection.execute(
            "select tgname::text, '', '', '', '' from pg_trigger where not tgisinternal"
        ).fetchall()
    assert {str(row[0]) for row in found} >= set(metadata.tables)
    return sorted(found, key=str)


def test_a_newer_and_an_older_store_are_told_apart_before_an_upgrade(postgres: Server, url: str) -> None:
    Store(Postgres(url, "aged")).close()
    check(Postgres(url, "aged"))
    check(Postgres(url, "unknown"))
    with postgres.connect(url) as connection:
        for number, kind in (("9999", "store_newer"), ("0003", "store_older")):
            connection.execute("update regrow_aged.alembic_version set version_num = %s", [number])
            with pytest.raises(StoreError) as caught:
                check(Postgres(url, "aged"))
            assert caught.value.kind == kind
        connection.execute("update regrow_aged.alembic_version set version_num = %s", [SCHEMA_HEAD])
        assert connection.execute("select count(*) from pg_namespace where nspname = 'regrow_unknown'").fetchone() == (
            0,
        )


def test_a_server_that_is_away_is_told_in_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(StoreError) as caught:
        Store(Postgres(f"postgresql://regrow@/none?host={tmp_path_factory.getbasetemp()}/none", "one"))
    assert caught.value.kind == "store_away"
    assert "\n" not in str(caught.value)
    assert "see that the server runs" in str(caught.value)


@pytest.mark.parametrize("wrong", ["mysql://u@h/d", "postgresql://u@h", "nonsense", "postgresql://u@h:port/d"])
def test_what_is_no_url_is_refused_and_not_repeated(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_URL", wrong)
    with pytest.raises(ConfigError) as caught:
        database("env:STORE_URL", Places.of().database, "one")
    assert wrong not in str(caught.value)


def test_a_password_is_in_no_title(monkeypatch: pytest.MonkeyPatch) -> None:
    word = "canary" * 2
    monkeypatch.setenv("STORE_URL", f"postgresql://regrow:{word}@db.internal/regrow")
    found, secret = database("env:STORE_URL", Places.of().database, "one")
    assert found.title == "postgresql://db.internal/regrow"
    assert secret is not None
    assert found.engine.url.password == word
    assert word not in f"{found.engine!r}"


def test_a_driver_without_an_answer_is_told_by_its_class() -> None:
    postgres = Postgres("postgresql://u@h/d", "one")
    assert postgres.fatal(psycopg.OperationalError("consuming input failed"), disconnected=False)
    assert not postgres.fatal(psycopg.DataError("a value that cannot be sent"), disconnected=False)
    assert not postgres.fatal(ValueError("ours"), disconnected=False)
    assert postgres.fatal(ValueError("ours"), disconnected=True)
