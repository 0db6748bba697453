"""PostgreSQL: one server for several daemons, each with a schema of its own, named after its host.

What a SQLite file gives by being one is made here of two advisory locks a host. One is held as long as the daemon
lives, so that a second daemon of the same name is refused (F42): the server gives it up when the connection ends,
however that ends. The other is taken by each transaction that writes, so that what was read holds until it is written,
as under SQLite's IMMEDIATE.
"""

from __future__ import annotations

import hashlib
import os
import select
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import event
from sqlalchemy.dialects import postgresql

from regrow.errors import ConfigError, Refused, StoreError

_SHAPE = "postgresql://USER@HOST/DATABASE"
_CONNECT_S = 10
_HELD_S = 5  # a daemon that was killed this moment may still be on the server's list
_SESSION = {
    "statement_timeout": "60s",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
    # Both ends find out within a minute that the other machine is gone, and a rebooted host gets its lock back.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
_CLIENT = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
_ANSWERS = ("0A", "22", "23", "25P02", "40", "42", "55", "P0")
"""Classes of SQLSTATE that answer a statement: data, constraints, conflicts, mistakes, locks, exceptions of triggers.
All others say that the server cannot go on: 08 and 57P connections, 53 disk and memory, 58 and XX the machine below."""
_CONFLICTS = frozenset({"40001", "40P01"})


class Postgres:
    """A store in one schema of a PostgreSQL database.

    Args:
        url: where it is: postgresql://user@host/database, with or without a password.
        host: the daemon's name among those that share the server.

    Raises:
        ConfigError: it is not such a URL; the text does not repeat it.
    """

    remedy = "look at the server"
    restorable = False

    def __init__(self, url: str, host: str) -> None:
        try:
            given = sa.make_url(url)
        except (sa.exc.ArgumentError, ValueError):
            given = None
        if given is None or given.get_backend_name() not in {"postgresql", "postgres"} or not given.database:
            raise ConfigError(f"cannot use the URL of the store: it looks like {_SHAPE}")
        self.schema = f"regrow_{host.replace('-', '_')}"
        self.scope = f"{host}-"
        self.title = f"postgresql://{given.host or given.query.get('host', '')}/{given.database}"
        self._host = host
        settings = {**_SESSION, "search_path": self.schema, "application_name": f"regrow\\ {host}"}
        options = " ".join([str(given.query.get("options", "")), *(f"-c {k}={v}" for k, v in settings.items())])
        self.engine = sa.create_engine(
            given.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
            pool_size=8,
            max_overflow=24,
            connect_args={"connect_timeout": _CONNECT_S, "options": options.strip(), **_CLIENT},
        )
        event.listen(self.engine, "connect", _prepare)
        self._holding: sa.Connection | None = None
        self._closing = -1
        self._watcher: threading.Thread | None = None

    def hold(self, lost: Callable[[str], None]) -> None:
        """As `Database.hold`, by a lock that the server keeps for one connection; makes the schema when it is new."""
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            connection.exec_driver_sql(f"SET lock_timeout = '{_HELD_S}s'")
            connection.execute(sa.text("select pg_advisory_lock(:key)"), {"key": self._key("daemon")})
            known = sa.text("select 1 from pg_namespace where nspname = :name")
            if connection.execute(known, {"name": self.schema}).scalar() is None:
                connection.exec_driver_sql(f"CREATE SCHEMA {self.schema}")
        except sa.exc.DBAPIError as error:
            holder = self._holder(connection) if _state(error.orig) == "55P03" else ""
            connection.close()
            if holder:
                raise Refused(
                    f'cannot start a second daemon of the host "{self._host}": {holder} holds it in {self.title}; '
                    "stop that one, or set [daemon] host to another name",
                    kind="locked",
                ) from error
            raise
        self._holding = connection
        self._closing = os.eventfd(0, os.EFD_CLOEXEC)
        driver = connection.connection.driver_connection
        self._watcher = threading.Thread(target=self._watch, args=(driver, lost), name="store lock", daemon=True)
        self._watcher.start()

    def _holder(self, connection: sa.Connection) -> str:
        key = self._key("daemon")
        query = sa.text(
            "select coalesce(host(client_addr), 'this machine'), backend_start from pg_stat_activity join pg_locks "
            "using (pid) where locktype = 'advisory' and granted and classid = :high and objid = :low "
            "and datname = current_database()"
        )
        halves = {"high": (key >> 32) & 0xFFFFFFFF, "low": key & 0xFFFFFFFF}
        found = connection.execute(query, halves).first()
        return f"one at {found[0]}, since {found[1]:%Y-%m-%d %H:%M:%S %Z}," if found else "another one"

    def _watch(self, driver: Any, lost: Callable[[str], None]) -> None:
        """Sleep until the server ends the connection that holds the lock: from then on another daemon may begin."""
        poll = select.poll()
        poll.register(self._closing, select.POLLIN)
        poll.register(driver.fileno(), select.POLLIN)
        while True:
            if self._closing in {number for number, _ in poll.poll()}:
                return
            try:
                driver.pgconn.consume_input()  # a parameter that was changed is told of unasked
                while driver.pgconn.notifies():
                    pass
            except psycopg.Error as error:
                lost(f"the connection that holds the lock has ended: {str(error).strip()}")
                return

    def version(self) -> str | None:
        """As `Database.version`."""
        try:
            with self.engine.connect() as connection:
                if not sa.inspect(connection).has_table("alembic_version"):
                    return None
                return connection.execute(sa.text("select version_num from alembic_version")).scalar()
        except sa.exc.DBAPIError as error:
            raise self.refusal(error) from error
        finally:
            self.engine.dispose()

    def begin(self, connection: sa.Connection) -> None:
        """Wait for the one turn to write in this schema; the end of the transaction gives it back."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._key('write')})")

    def _key(self, what: str) -> int:
        digest = hashlib.sha256(f"regrow {what} {self._host}".encode()).digest()
        return int.from_bytes(digest[:8], signed=True)

    def insert_new(self, table: sa.Table) -> sa.Insert:
        """`ON CONFLICT DO NOTHING`."""
        # Inline: an answer with the new number would hide the count, which is else kept for updates alone.
        insert = postgresql.insert(table).on_conflict_do_nothing().inline()
        return insert.execution_options(preserve_rowcount=True)

    def stands(self, connection: sa.Connection) -> bool:
        """Whether the transaction is still there: a savepoint mends a failed statement, not a lost connection."""
        driver = connection.connection.driver_connection
        return driver is not None and driver.info.transaction_status in {
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        }

    def fatal(self, error: BaseException, disconnected: bool) -> bool:
        """A lost connection, and every SQLSTATE that is no answer."""
        if disconnected or not isinstance(error, psycopg.Error):
            return disconnected
        state = _state(error)
        # Without a state it is the connection, or the driver's own word on a value that it cannot send.
        return isinstance(error, psycopg.OperationalError) if not state else not state.startswith(_ANSWERS)

    def conflict(self, error: BaseException) -> bool:
        """Another transaction was in the way, and this one has been undone."""
        return _state(error) in _CONFLICTS

    def refusal(self, error: sa.exc.DBAPIError) -> StoreError:
        """As `Database.refusal`."""
        reason = " ".join(str(error.orig).split())
        return StoreError(
            f"cannot open the store {self.title}: {reason}; see that the server runs and lets this user in, "
            "then start again",
            kind="store_away",
        )

    def close(self) -> None:
        """Give back all connections; the lock goes with the one that holds it."""
        if self._watcher is not None:
            os.eventfd_write(self._closing, 1)
            self._watcher.join()
            os.close(self._closing)
            self._watcher = None
        if self._holding is not None:
            self._holding.invalidate()  # closed, and not put back with the lock still on it
            self._holding.close()
            self._holding = None
        self.engine.dispose()


def _state(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""


class _TextDumper(StrDumperUnknown):
    """PostgreSQL keeps no NUL in a text. People can send one, and their message must not be refused for ever."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


def _prepare(connection: Any, _record: Any) -> None:
    connection.adapters.register_dumper(str, _TextDumper)
