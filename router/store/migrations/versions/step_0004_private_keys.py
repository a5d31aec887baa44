"""Keys whose requests all stay local."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the mark; no key that is there has it."""
    op.add_column("keys", sa.Column("is_private", sa.Boolean(), nullable=False, server_default=sa.false()))
