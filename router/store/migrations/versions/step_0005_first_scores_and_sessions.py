"""The first score of an answer, what of experiments is not kept any more, and digests of sessions under a secret.

Digests that are there are digested once more, under the secret: what was one session stays one, and its name can no
longer be guessed at.
"""

from hashlib import blake2b
from secrets import token_bytes

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

SECRET_BYTES = 32
SESSION_BYTES = 16
PAGE = 1_000


def upgrade() -> None:
    """Add the columns and both tables, make the secret, and key what is there."""
    for name in ("first_score", "first_at"):
        op.add_column("feedback", sa.Column(name, sa.Double()))
    op.create_table(
        "experiment_cuts",
        sa.Column("experiment", sa.String(64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("experiment", name="pk_experiment_cuts"),
    )
    secrets = op.create_table(
        "secrets",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )
    secret = token_bytes(SECRET_BYTES)
    op.bulk_insert(secrets, [{"name": "sessions", "value": secret.hex()}])
    _key_sessions(secret)


def _key_sessions(secret: bytes) -> None:
    decisions = sa.table("decisions", sa.column("id", sa.String), sa.column("session", sa.String))
    named = sa.select(decisions.c.id, decisions.c.session).where(decisions.c.session != "").order_by(decisions.c.id)
    keyed = sa.update(decisions).where(decisions.c.id == sa.bindparam("whose")).values(session=sa.bindparam("keyed"))
    connection, last = op.get_bind(), ""
    while rows := connection.execute(named.where(decisions.c.id > last).limit(PAGE)).all():
        digests = [blake2b(row.session.encode(), key=secret, digest_size=SESSION_BYTES).hexdigest() for row in rows]
        told = zip(rows, digests, strict=True)
        connection.execute(keyed, [{"whose": row.id, "keyed": digest} for row, digest in told])
        last = rows[-1].id
