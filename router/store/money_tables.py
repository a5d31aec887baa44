"""The tables of money, in nano-dollars: what is taken of each budget, by which calls under way, and what for."""

from sqlalchemy import BigInteger, Column, Double, Index, String, Table

from router.store.tables import metadata

budgets = Table(
    "budgets",
    metadata,
    Column("account", String(200), primary_key=True),
    Column("period", String(10), primary_key=True),  # 2026-01-31, 2026-01 or all
    Column("taken_nano", BigInteger, nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account", String(200), primary_key=True),
    Column("period", String(10), primary_key=True),
    Column("nano", BigInteger, nullable=False),
    Column("ends_at", Double, nullable=False),
    Index("ix_reservations_account", "account", "period"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("day", String(10), primary_key=True),  # 2026-01-31, UTC
    Column("key_id", String(32), primary_key=True),
    Column("job", String(200), primary_key=True),
    Column("agent", String(200), primary_key=True),
    Column("rule", String(200), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("answers", BigInteger, nullable=False),
    Column("prompt", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("generated", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("baseline_nano", BigInteger, nullable=False),
)
