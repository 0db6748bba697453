"""People admitted from a chat, notices, the lives of the daemon, and who of the list decided."""

import sqlalchemy as sa
from alembic import op

from regrow.store import barred, lives, notices, pairings, people

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what is not there: the first migration makes a new store as it is declared today."""
    connection = op.get_bind()
    for table in (people, pairings, barred, notices, lives):
        table.create(connection, checkfirst=True)
    if "person" not in {column["name"] for column in sa.inspect(connection).get_columns("approvals")}:
        op.add_column("approvals", sa.Column("person", sa.Text, nullable=False, server_default=""))
