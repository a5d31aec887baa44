"""The tables of the journal of decisions: tables.py says the rest."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Index, String, Table

from router.store.tables import metadata

decisions = Table(
    "decisions",
    metadata,
    Column("id", String(200), primary_key=True),  # of the answer, as its caller got it
    Column("at", Double, nullable=False),  # seconds since 1970
    Column("key_id", String(32), nullable=False),
    Column("session", String(32), nullable=False),  # keyed digest
    Column("decided_by", String(16), nullable=False),
    Column("rule", String(200), nullable=False),
    Column("experiment", String(64), nullable=False),
    Column("variant", String(64), nullable=False),
    Column("is_private", Boolean, nullable=False),
    Column("features", JSON, nullable=False),  # by name
    Column("options", JSON, nullable=False),  # [name, propensity] of each, in order
    Column("tries", JSON, nullable=False),  # [name, reason, check] of each, in order
    Column("outcome", String(16), nullable=False),
    Column("answered_by", String(200), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("prompt", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("generated", BigInteger, nullable=False),
    Column("latency_s", Double, nullable=False),
    Column("ttft_s", Double),
    Column("cost_nano", BigInteger, nullable=False),
    Column("mean_logprob", Double),
    Column("min_logprob", Double),
    Index("ix_decisions_at", "at", "id"),
    Index("ix_decisions_experiment", "experiment", "at", "id"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("decision_id", String(200), primary_key=True),
    Column("score", Double, nullable=False),
    Column("label", String(200), nullable=False),
    Column("at", Double, nullable=False),
    Column("first_score", Double),  # what was said before anything else, where something was said since
    Column("first_at", Double),
)

experiment_cuts = Table(
    "experiment_cuts",
    metadata,
    Column("experiment", String(64), primary_key=True),
    Column("at", Double, nullable=False),  # of the newest of its decisions that is not kept any more
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),  # 32 bytes in hex
)
