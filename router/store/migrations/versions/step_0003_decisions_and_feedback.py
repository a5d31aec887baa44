"""The journal of decisions, and what callers say of the answers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("session", sa.String(32), nullable=False),
        sa.Column("decided_by", sa.String(16), nullable=False),
        sa.Column("rule", sa.String(200), nullable=False),
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("variant", sa.String(64), nullable=False),
        sa.Column("is_private", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("features", "options", "tries")),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("answered_by", sa.String(200), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("prompt", "cached", "generated")),
        sa.Column("latency_s", sa.Double(), nullable=False),
        sa.Column("ttft_s", sa.Double()),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.Column("mean_logprob", sa.Double()),
        sa.Column("min_logprob", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
    )
    op.create_index("ix_decisions_at", "decisions", ["at", "id"])
    op.create_index("ix_decisions_experiment", "decisions", ["experiment", "at", "id"])
    op.create_table(
        "feedback",
        sa.Column("decision_id", sa.String(200), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name="pk_feedback"),
    )
