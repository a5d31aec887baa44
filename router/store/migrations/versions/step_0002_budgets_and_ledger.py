"""Budgets, what is reserved of them, and a ledger of every answer."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "budgets",
        sa.Column("account", sa.String(200), nullable=False),
        sa.Column("period", sa.String(10), nullable=False),
        sa.Column("taken_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "period", name="pk_budgets"),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("account", sa.String(200), nullable=False),
        sa.Column("period", sa.String(10), nullable=False),
        sa.Column("nano", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", "account", "period", name="pk_reservations"),
    )
    op.create_index("ix_reservations_account", "reservations", ["account", "period"])
    _make_ledger()


def _make_ledger() -> None:
    names = ("key_id", "job", "agent", "rule", "model")
    sums = ("answers", "prompt", "cached", "generated", "cost_nano", "baseline_nano")
    op.create_table(
        "ledger",
        sa.Column("day", sa.String(10), nullable=False),
        *(sa.Column(name, sa.String(32 if name == "key_id" else 200), nullable=False) for name in names),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in sums),
        sa.PrimaryKeyConstraint("day", *names, name="pk_ledger"),
    )
