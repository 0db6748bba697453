"""What names a schema, and what was written since."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from regrow import sqlite_files


def make(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def test_rows_and_white_space_do_not_move_a_schema(tmp_path: Path) -> None:
    one = make(tmp_path / "1.db", "create table notes (text, at)", "create index by_at on notes (at)")
    two = make(
        tmp_path / "2.db",
        "create  table notes (text,\n   at)",
        "insert into notes values ('a', 1)",
        "create index by_at\non notes (at)",
        "VACUUM",
    )
    assert sqlite_files.schema(one) == sqlite_files.schema(two)


@pytest.mark.parametrize(
    "statement",
    [
        "alter table notes add column more",
        "create table other (a)",
        "drop index by_at",
        "create trigger t after insert on notes begin select 1; end",
        "create view v as select 1",
        "PRAGMA user_version=2",
    ],
)
def test_what_newer_code_does_moves_it(tmp_path: Path, statement: str) -> None:
    path = make(tmp_path / "1.db", "create table notes (text, at)", "create index by_at on notes (at)")
    before = sqlite_files.schema(path)
    make(path, statement)
    assert sqlite_files.schema(path) != before


def test_statistics_and_sequences_do_not(tmp_path: Path) -> None:
    path = make(tmp_path / "1.db", "create table notes (id integer primary key autoincrement, text)")
    before = sqlite_files.schema(path)
    make(path, "insert into notes (text) values ('a')", "create index by_text on notes (text)", "ANALYZE")
    make(path, "drop index by_text")
    assert sqlite_files.schema(path) == before


def test_rows_written_since_by_table(tmp_path: Path) -> None:
    tables = ("create table notes (text)", 'create table "odd ""name" (a)', "create table gone (a)")
    old = make(tmp_path / "1.db", *tables, "insert into notes values ('a')", "insert into gone values (1)")
    new = make(tmp_path / "2.db", *tables, "insert into notes values ('a'), ('b'), ('c')", "create table new (a)")
    make(new, "insert into new values (1)", 'insert into "odd ""name" values (1)')
    assert sqlite_files.gained(new, old) == {"notes": 2, "new": 1, 'odd "name': 1}


def test_what_cannot_be_counted_in_time_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "1.db", "create table notes (text)")
    make(
        path,
        "insert into notes with recursive n(i) as (select 1 union all select i + 1 from n limit 99999) select i from n",
    )
    monkeypatch.setattr(sqlite_files, "_COUNTING_S", -1.0)
    monkeypatch.setattr(sqlite_files, "_LOOK_EVERY", 10)
    assert sqlite_files.rows(path) is None
    assert sqlite_files.gained(path, path) is None
    assert sqlite_files.rows(tmp_path / "absent.db") is None
