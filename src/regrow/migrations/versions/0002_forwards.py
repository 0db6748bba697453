"""Messages on their way to the service, and indexes of what waits."""

from alembic import op

from regrow.store import WAITING, forwards

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what is not there: the first migration makes a new store as it is declared today."""
    connection = op.get_bind()
    forwards.create(connection, checkfirst=True)
    for index in WAITING:
        index.create(connection, checkfirst=True)
