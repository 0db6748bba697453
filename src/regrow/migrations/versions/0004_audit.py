"""The audit log becomes a chain: each row carries a hash of itself and of the row before, and can only be added."""

import sqlalchemy as sa
from alembic import op

from regrow.audit import chained
from regrow.store import ONLY_ADDED, audit

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Chain the rows that are there, and number them anew where one is missing: nobody can say any more why."""
    connection = op.get_bind()
    if "hash" in {column["name"] for column in sa.inspect(connection).get_columns("audit")}:
        return  # the first migration makes a new store as it is declared today
    for name in ("person", "hash"):
        op.add_column("audit", sa.Column(name, sa.Text, nullable=False, server_default=""))
    op.create_index("audit_by_job", "audit", ["job"])
    rows = connection.execute(sa.select(audit).order_by(audit.c.id)).mappings().all()
    previous = ""
    for number, row in enumerate(rows, 1):
        values = chained({**row, "id": number}, previous)
        connection.execute(audit.update().where(audit.c.id == row["id"]).values(**values))
        previous = values["hash"]
    for statement in ONLY_ADDED:
        statement(audit, connection)
