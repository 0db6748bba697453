"""The first schema: everything `regrow.store` declares."""

from alembic import op

from regrow.store import metadata

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables."""
    metadata.create_all(op.get_bind())
