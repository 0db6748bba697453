"""The daemon's own database: tables, migrations, transactions.

It lives in a SQLite file or on a PostgreSQL server, see `regrow.databases`; the same engine serves DBOS. A database
error that is no answer ends the process with exit code 75: a store that cannot be trusted must never become the outcome
of a job; whoever started the daemon starts it again.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

from regrow.databases.base import Database
from regrow.databases.sqlite import Sqlite
from regrow.errors import StoreError

T = TypeVar("T")

STORE_ERROR_EXIT = 75
SCHEMA_HEAD = "0007"
_MOST_TOGETHER = 128
_TRIES = 10  # of a transaction that others are in the way of
_TRY_AGAIN_S = 0.02

metadata = sa.MetaData()

_JSON = sa.JSON(none_as_null=True)
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite's integers are all as long as they need to be

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("key", sa.Text, unique=True),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("args", _JSON, nullable=False),
    sa.Column("plan", _JSON, nullable=False),
    sa.Column("steps", _JSON, nullable=False),
    sa.Column("result", _JSON, nullable=False),
    sa.Column("error", _JSON),
    sa.Column("asked_by", sa.Text, nullable=False),
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("chat", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("waiting_for", sa.Text, nullable=False, server_default=""),
    sa.Column("cancelled_by", sa.Text, nullable=False, server_default=""),
    sa.Column("kept_by", sa.Text, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("service", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("commit", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("bytes", _BIG, nullable=False),
    sa.Column("built_at", sa.Float, nullable=False),
    sa.Column("build_seconds", sa.Float, nullable=False),
    sa.Column("job", sa.Integer, nullable=False),
    sa.Column("promoted_at", sa.Float),
    sa.Column("pruned_at", sa.Float),
    sa.Column("schema", _JSON),
    sa.Column("snapshot", sa.Integer),
    sa.UniqueConstraint("service", "job"),
)

builds = sa.Table(
    "builds",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("lines", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("chat", sa.Text, nullable=False),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("sender_name", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("handled_at", sa.Float),
    sa.Column("failure", sa.Text),
    sa.UniqueConstraint("channel", "message"),
    sa.UniqueConstraint("channel", "fingerprint"),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("job", sa.Integer),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("chat", sa.Text, nullable=False),
    sa.Column("reply_to", sa.Text, nullable=False),
    sa.Column("content", _JSON, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("sent_revision", sa.Integer, nullable=False),
    sa.Column("platform_id", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("failure", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("chat", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("mine", sa.Boolean, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("job", sa.Integer),
    sa.Column("buttons", _JSON, nullable=False),
    sa.Column("bar", sa.Float),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sqlite_autoincrement=True,
)

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("job", sa.Integer, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("files", _JSON, nullable=False),
    sa.Column("diff", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("decided_at", sa.Float),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("person", sa.Text, nullable=False, server_default=""),
    sa.Column("channel", sa.Text, nullable=False, server_default=""),
    sa.Column("chat", sa.Text, nullable=False, server_default=""),
)

turns = sa.Table(
    "turns",
    metadata,
    sa.Column("service", sa.Text, primary_key=True),
    sa.Column("job", sa.Integer, nullable=False),
)

snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("job", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False, server_default="change"),
    sa.Column("directory", sa.Text, nullable=False),
    sa.Column("files", _JSON, nullable=False),
    sa.Column("schema", _JSON),
    sa.Column("bytes", _BIG, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.UniqueConstraint("service", "job", "reason"),
    sqlite_autoincrement=True,
)

# One row for what goes wrong in the same way again and again: see incidents.py.
incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("lines", _JSON, nullable=False),
    sa.Column("probe", sa.Text, nullable=False),
    sa.Column("first_at", sa.Float, nullable=False),
    sa.Column("last_at", sa.Float, nullable=False),
    sa.Column("count", _BIG, nullable=False),
    sa.Column("recent", _JSON, nullable=False),
    sa.Column("releases", _JSON, nullable=False),
    sa.Column("pending_at", sa.Float),
    sa.Column("offers", sa.Integer, nullable=False),
    sa.Column("offered_at", sa.Float),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("job", sa.Integer),
    sa.Column("ignored_until", sa.Float),
    sa.Column("ignored_rate", sa.Float, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.UniqueConstraint("service", "fingerprint"),
    sqlite_autoincrement=True,
)

# What Regrow has decided to repair by itself: written before it is asked for.
heals = sa.Table(
    "heals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("incident", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("job", sa.Integer),
    sa.UniqueConstraint("incident", "attempt"),
)

# How far a service's log was read for errors, and how many there were when.
log_watches = sa.Table(
    "log_watches",
    metadata,
    sa.Column("service", sa.Text, primary_key=True),
    sa.Column("state", _JSON, nullable=False),
)


def _ddl(statement: str) -> sa.DDL:
    return sa.DDL(statement)  # type: ignore[no-untyped-call]


# Whoever wants to change what is written there has to take these away first.
ONLY_ADDED = (
    *(
        _ddl(
            f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'rows of the audit log are only ever added'); END"
        ).execute_if(dialect="sqlite")
        for verb in ("UPDATE", "DELETE")
    ),
    _ddl(
        "CREATE FUNCTION audit_only_added() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
        "'rows of the audit log are only ever added' USING ERRCODE = 'integrity_constraint_violation'; END $$"
    ).execute_if(dialect="postgresql"),
    _ddl(
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_only_added()"
    ).execute_if(dialect="postgresql"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("via", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("job", sa.Integer),
    sa.Column("detail", _JSON, nullable=False),
    sa.Column("person", sa.Text, nullable=False, server_default=""),
    sa.Column("hash", sa.Text, nullable=False, server_default=""),
    sa.Index("audit_by_job", "job"),
    listeners=[("after_create", statement) for statement in ONLY_ADDED],
)

forwards = sa.Table(
    "forwards",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("chat", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("sender_name", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("failure", sa.Text, nullable=False),
    sa.UniqueConstraint("channel", "message"),
    sa.Index("forwards_by_chat", "service", "channel", "chat", "id"),
)

# What waits is looked for all the time, among all that ever was.
WAITING = tuple(
    sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)
    for name, columns, where in (
        ("forwards_waiting", (forwards.c.channel, forwards.c.chat), forwards.c.state == "waiting"),
        ("inbox_waiting", (inbox.c.id,), inbox.c.handled_at.is_(None)),
        ("outbox_waiting", (outbox.c.id,), outbox.c.state == "waiting"),
    )
)

people = sa.Table(
    "people",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("admitted_by", sa.Text, nullable=False),
    sa.Column("admitted_at", sa.Float, nullable=False),
    sa.UniqueConstraint("channel", "identity"),
)

pairings = sa.Table(
    "pairings",
    metadata,
    sa.Column("code", sa.Text, primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("chat", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
)

# Identities whose rights have ended, whatever the settings say.
barred = sa.Table(
    "barred",
    metadata,
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("identity", sa.Text, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
)

# Services that nobody may change for now.
freezes = sa.Table(
    "freezes",
    metadata,
    sa.Column("service", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("event", sa.Text, nullable=False, unique=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("window", sa.Integer, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("values", _JSON, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("choices", _JSON),
    sa.Index("notices_by_subject", "subject", "at"),
)

# Who has asked to be told, or not to be told, what Regrow says unasked.
listeners = sa.Table(
    "listeners",
    metadata,
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("identity", sa.Text, primary_key=True),
    sa.Column("wants", sa.Boolean, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

lives = sa.Table(
    "lives",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("boot", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("began_at", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("memory_kills", _BIG),
    sqlite_autoincrement=True,
)

cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", _BIG, nullable=False),
)


def check(database: Database) -> None:
    """Look whether this version can take a store over from another one, and change nothing.

    Raises:
        StoreError: kind "store_newer", "store_corrupt" or "store_away", as for `Store`; "store_older" when its form
            would be changed and nobody could bring the old one back.
    """
    version = database.version()
    if version is not None and version > SCHEMA_HEAD:
        raise _newer(database, version)
    if version is not None and version < SCHEMA_HEAD and not database.restorable:
        raise StoreError(
            f"cannot take over the store {database.title} while it is in use: its form changes (schema {version} to "
            f"{SCHEMA_HEAD}); run `regrow down --keep-services`, back it up with pg_dump, then upgrade and `regrow up`",
            kind="store_older",
        )


def _newer(database: Database, version: str) -> StoreError:
    return StoreError(
        f"cannot use the store {database.title}: a newer Regrow wrote it (schema {version}, this one knows "
        f"{SCHEMA_HEAD}); install that version again or use another state directory",
        kind="store_newer",
    )


class Store:
    """An open database.

    Args:
        where: the database, or the path of a SQLite file; made when it is new.
        on_fatal: called with the reason when the database itself fails; the default ends the process with code 75.

    Raises:
        StoreError: kind "store_newer" when a newer Regrow wrote it, "store_corrupt" when it cannot be read,
            "store_away" when its server cannot be reached.
        Refused: kind "locked", when another daemon uses it.
    """

    def __init__(self, where: Database | Path, on_fatal: Callable[[str], None] | None = None) -> None:
        self.database = database = Sqlite(where) if isinstance(where, Path) else where
        self._on_fatal = on_fatal or self._stop_the_daemon
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="store")
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store write")
        self._writes: deque[_Write] = deque()
        self.engine = database.engine
        try:
            database.hold(self._on_fatal)
            self._migrate()
        except sa.exc.DatabaseError as error:
            self.close()
            raise database.refusal(error) from error
        except BaseException:
            self.close()
            raise
        # From here on: at start-up a person reads the error; later only an exit is safe.
        event.listen(self.engine, "handle_error", self._handle_error)

    def _stop_the_daemon(self, reason: str) -> None:
        told = f"cannot go on: the store failed: {' '.join(reason.split())}; {self.database.remedy}, then start again\n"
        try:
            sys.stderr.write(told)
            sys.stderr.flush()
        finally:
            os._exit(STORE_ERROR_EXIT)  # also when the log is on the same full disk

    def _migrate(self) -> None:
        with self.engine.connect() as connection:
            known = sa.inspect(connection).has_table("alembic_version")
            version = connection.execute(sa.text("select version_num from alembic_version")).scalar() if known else None
        if version == SCHEMA_HEAD:
            return
        if version is not None and version > SCHEMA_HEAD:
            raise _newer(self.database, version)
        if not known:
            self._create()
            return
        from alembic import command  # imported only when there is something to migrate: it stays in memory
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        with self.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _create(self) -> None:
        """A new store needs no history: the tables as they are, and the number from which later versions migrate."""
        with self.engine.begin() as connection:
            self.database.begin(connection)
            metadata.create_all(connection)
            connection.exec_driver_sql(
                "CREATE TABLE alembic_version ("
                "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
            connection.execute(sa.text("insert into alembic_version values (:head)"), {"head": SCHEMA_HEAD})

    def _handle_error(self, context: sa.engine.ExceptionContext) -> None:
        if self.database.fatal(context.original_exception, context.is_disconnect):
            self._on_fatal(str(context.original_exception))

    async def transact(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a durable write transaction, in a thread; nothing of it remains when it raises.

        Works that wait at the same time are run one after the other and share one commit, so one fsync; each returns
        after it. One that raises takes nothing of the others with it.
        """
        loop = asyncio.get_running_loop()
        write = _Write(work, loop, loop.create_future())
        self._writes.append(write)
        self._writer.submit(self._commit_what_waits)
        result: T = await write.done
        return result

    def _commit_what_waits(self) -> None:
        """Run what came while the last commit was being made; a later call finds nothing left."""
        found = [self._writes.popleft() for _ in range(min(len(self._writes), _MOST_TOGETHER))]
        writes = [write for write in found if not write.done.cancelled()]
        if not writes:
            return
        try:
            self._commit(writes)
        except BaseException as error:
            for write in writes:
                write.error = error
        for loop in {write.loop for write in writes if not write.loop.is_closed()}:
            loop.call_soon_threadsafe(_tell, [write for write in writes if write.loop is loop])

    def _commit(self, writes: list[_Write]) -> None:
        """Run works in one transaction; all of them again when another one was in the way."""
        for left in reversed(range(_TRIES)):
            for write in writes:
                write.result = write.error = None
            try:
                with self.engine.begin() as connection:
                    self.database.begin(connection)
                    if len(writes) == 1:
                        writes[0].result = writes[0].work(connection)
                    else:
                        for write in writes:
                            self._run_apart(write, connection)
                return
            except sa.exc.DBAPIError as error:
                if not left or error.orig is None or not self.database.conflict(error.orig):
                    raise
            time.sleep(random.uniform(0, _TRY_AGAIN_S))  # noqa: S311  so that two do not meet again

    def _run_apart(self, write: _Write, connection: sa.Connection) -> None:
        connection.exec_driver_sql("SAVEPOINT work")
        try:
            write.result = write.work(connection)
        except Exception as error:
            lost = (
                isinstance(error, sa.exc.DBAPIError) and error.orig is not None and self.database.conflict(error.orig)
            )
            if lost or not self.database.stands(connection):
                raise
            write.error = error
            connection.exec_driver_sql("ROLLBACK TO work")
        connection.exec_driver_sql("RELEASE work")

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work`, which only reads, in a thread."""

        def inside() -> T:
            with self.engine.connect() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._pool, inside)

    async def rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        """All rows of `query`, each by column name."""
        return await self.read(lambda c: [dict(row) for row in c.execute(query).mappings()])

    async def row(self, query: sa.Select[Any]) -> dict[str, Any] | None:
        """The first row of `query`."""
        return next(iter(await self.rows(query.limit(1))), None)

    def close(self) -> None:
        """Give back threads and connections."""
        self._writer.shutdown(wait=True)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.database.close()


@dataclass(eq=False)
class _Write:
    """One work on its way to a commit, and what came of it."""

    work: Callable[[sa.Connection], Any]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


def _tell(writes: list[_Write]) -> None:
    """On their loop: let those who wait go on."""
    for write in writes:
        if write.done.done():
            continue  # cancelled meanwhile
        if write.error is None:
            write.done.set_result(write.result)
        else:
            write.done.set_exception(write.error)
