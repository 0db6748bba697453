"""People admitted from a chat, notices, the lives of the daemon, and who decided and kept."""

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
    for grown, name in (("approvals", "person"), ("jobs", "kept_by")):
        if name not in {column["name"] for column in sa.inspect(connection).get_columns(grown)}:
            op.add_column(grown, sa.Column(name, sa.Text, nullable=False, server_default=""))
