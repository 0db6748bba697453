"""Snapshots without a job, and the schema of the data with each snapshot and release."""

import sqlalchemy as sa
from alembic import op

from regrow.store import snapshots

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is not there: the first migration makes a new store as it is declared today."""
    connection = op.get_bind()
    known = {column["name"] for column in sa.inspect(connection).get_columns("releases")}
    for column in (sa.Column("schema", sa.JSON(none_as_null=True)), sa.Column("snapshot", sa.Integer)):
        if column.name not in known:
            op.add_column("releases", column)
    old = {column["name"] for column in sa.inspect(connection).get_columns("snapshots")}
    if "reason" in old:
        return
    if connection.dialect.name == "sqlite":
        # Two constraints change, which SQLite does only by a new table.
        op.rename_table("snapshots", "snapshots_before")
        snapshots.create(connection)
        op.execute(
            "insert into snapshots (id, service, job, directory, files, bytes, at) "
            "select id, service, job, directory, files, bytes, at from snapshots_before"
        )
        op.drop_table("snapshots_before")
        return
    op.add_column("snapshots", sa.Column("reason", sa.Text, nullable=False, server_default="change"))
    op.add_column("snapshots", sa.Column("schema", sa.JSON(none_as_null=True)))
    op.alter_column("snapshots", "job", nullable=True)
    for constraint in sa.inspect(connection).get_unique_constraints("snapshots"):
        op.drop_constraint(str(constraint["name"]), "snapshots", type_="unique")
    op.create_unique_constraint(None, "snapshots", ["service", "job", "reason"])
