"""What a database driver is to the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import sqlalchemy as sa

from regrow.errors import StoreError


class Database(Protocol):
    """One database, not opened before it is used.

    Attributes:
        title: what people are told it is called; never with a password in it.
        scope: put before names that daemons on one server share, such as the engine's ids of jobs; "" where one daemon
            has all of it.
        remedy: what a person does when it fails.
        restorable: whether Regrow itself can copy it and bring the copy back.
        engine: where connections come from; the durable-jobs engine uses the same.
    """

    title: str
    scope: str
    remedy: str
    restorable: bool
    engine: sa.Engine

    def hold(self, lost: Callable[[str], None]) -> None:
        """Make sure that no other daemon uses this store; to be called once, before anything is read.

        Args:
            lost: called with the reason, from another thread, when that can no longer be said.

        Raises:
            Refused: kind "locked".
        """

    def version(self) -> str | None:
        """The number of the schema that is there, or None when there is none yet. Changes nothing."""

    def begin(self, connection: sa.Connection) -> None:
        """Begin a transaction that writes: what is read in it holds until its end."""

    def insert_new(self, table: sa.Table) -> sa.Insert:
        """An insert that does nothing where the row is there already: its `rowcount` is 0 then."""

    def stands(self, connection: sa.Connection) -> bool:
        """Whether the transaction is still there after an error in it, so that a savepoint can be returned to."""

    def fatal(self, error: BaseException, disconnected: bool) -> bool:
        """Whether the driver's `error` says that the database itself has failed, and is no answer to a statement."""

    def conflict(self, error: BaseException) -> bool:
        """Whether the same transaction, begun again, may well succeed."""

    def refusal(self, error: sa.exc.DBAPIError) -> StoreError:
        """What a person is told when the store cannot be opened."""

    def close(self) -> None:
        """Give back all connections, and what `hold` took."""
