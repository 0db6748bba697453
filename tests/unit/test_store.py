"""A new store is what all migrations together make, and one cut short while it is made is made again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from regrow.errors import StoreError
from regrow.store import SCHEMA_HEAD, Store


def schema(path: Path) -> dict[str, str]:
    """The statements that made a database, by name."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("select name, sql from sqlite_master where sql is not null")
        return {name: " ".join(sql.split()) for name, sql in rows}


def version(path: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("select version_num from alembic_version").fetchall()


def test_a_new_store_is_what_the_migrations_make(tmp_path: Path) -> None:
    new, migrated = tmp_path / "new.db", tmp_path / "migrated.db"
    with closing(sqlite3.connect(migrated)) as connection:
        # A table of versions without a version sends the store through every migration.
        connection.execute(
            "CREATE TABLE alembic_version ("
            "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        connection.commit()
    Store(new).close()
    Store(migrated).close()
    assert schema(new) == schema(migrated)
    assert version(new) == version(migrated) == [(SCHEMA_HEAD,)]


def test_a_store_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "regrow.db"
    Store(path).close()
    before = schema(path)
    Store(path).close()
    assert schema(path) == before


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "regrow.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
        connection.commit()
    with pytest.raises(StoreError) as caught:
        Store(path)
    assert caught.value.kind == "store_newer"
