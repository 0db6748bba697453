"""What the nouns stand on: a real store, real topics, and a clock that a test moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from regrow.databases.base import Database
from regrow.databases.postgres import Postgres
from regrow.databases.sqlite import Sqlite
from regrow.events import Events
from regrow.store import Store, metadata
from regrow.testing.manual_clock import ManualClock
from regrow.testing.parts import Parts
from regrow.testing.postgres import Server

ON_ONE = frozenset({"test_requests", "test_conversations", "test_keep", "test_dialogues", "test_cautions"})
"""Modules about what people may ask for and are told: hundreds of tests that say nothing new of the store."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What needs a store runs on both kinds of it."""
    chosen = any(mark.args[0] == "database" for mark in metafunc.definition.iter_markers("parametrize"))
    if "database" in metafunc.fixturenames and not chosen:
        kinds = ["sqlite"] if metafunc.module.__name__.rpartition(".")[2] in ON_ONE else ["sqlite", "postgres"]
        metafunc.parametrize("database", kinds, indirect=True)


@pytest.fixture(scope="session")
def postgres_url(postgres: Server) -> str:
    """One database for all tests; each finds its tables empty."""
    url = postgres.database()
    Store(Postgres(url, "unit")).close()
    return url


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Where the store of a test is."""
    if request.param == "sqlite":
        return Sqlite(tmp_path / "regrow.db")
    url = request.getfixturevalue("postgres_url")
    with request.getfixturevalue("postgres").connect(url) as connection:
        names = [f"regrow_unit.{table.name}" for table in metadata.tables.values()]
        # A "replica" fires no triggers: the audit log can be emptied. Far quicker than making the tables anew.
        empty = "".join(f"DELETE FROM {name};" for name in names)
        connection.execute(f"BEGIN; SET LOCAL session_replication_role = replica; {empty} COMMIT")
        begin = "select setval(quote_ident(schemaname) || '.' || sequencename, 1, false) from pg_sequences"
        connection.execute(begin)
    return Postgres(url, "unit")


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    """A new store; a test during which it would have ended the process fails."""
    fatal: list[str] = []
    made = Store(database, on_fatal=fatal.append)
    yield made
    made.close()
    assert fatal == []


@pytest.fixture
def events() -> Events:
    """Topics that nobody watches yet."""
    return Events()


@pytest.fixture
def clock() -> ManualClock:
    """Stands still until a test moves it."""
    return ManualClock()


@pytest.fixture
async def parts(tmp_path: Path, store: Store, events: Events, clock: ManualClock) -> Parts:
    """Everything around one service, without a process."""
    return await Parts.make(tmp_path, store, events, clock)
