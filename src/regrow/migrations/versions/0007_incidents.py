"""Incidents by fingerprint, what Regrow heals by itself, who wants to be told, and buttons under notices."""

import sqlalchemy as sa
from alembic import op

from regrow.store import heals, incidents, listeners, log_watches

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is not there: the first migration makes a new store as it is declared today."""
    connection = op.get_bind()
    inspector = sa.inspect(connection)
    if "fingerprint" not in {column["name"] for column in inspector.get_columns("incidents")}:
        # One row an event, which nobody was ever shown; what is known by its fingerprint begins anew.
        op.drop_table("incidents")
        incidents.create(connection)
    for table in (heals, log_watches, listeners):
        table.create(connection, checkfirst=True)
    for name, column in (
        ("notices", sa.Column("choices", sa.JSON(none_as_null=True))),
        ("lives", sa.Column("memory_kills", sa.BigInteger)),
    ):
        if column.name not in {known["name"] for known in inspector.get_columns(name)}:
            op.add_column(name, column)
