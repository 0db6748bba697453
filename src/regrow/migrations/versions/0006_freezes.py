"""Services that nobody may change for now, and where an approval was given."""

import sqlalchemy as sa
from alembic import op

from regrow.store import freezes

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is not there: the first migration makes a new store as it is declared today."""
    connection = op.get_bind()
    freezes.create(connection, checkfirst=True)
    known = {column["name"] for column in sa.inspect(connection).get_columns("approvals")}
    for name in ("channel", "chat"):
        if name not in known:
            op.add_column("approvals", sa.Column(name, sa.Text, nullable=False, server_default=""))
