"""The tables as the code of this version sees them. A change here needs a migration; a test compares the two."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, MetaData, String, Table, false

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of the secret, in hex
    Column("scopes", JSON, nullable=False),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("concurrency", Integer),
    Column("weight", Double, nullable=False),
    Column("is_private", Boolean, nullable=False, server_default=false()),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

usage = Table(
    "usage",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("day", String(10), primary_key=True),  # 2026-01-31, UTC
    Column("model", String(200), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("generated", BigInteger, nullable=False),
)
