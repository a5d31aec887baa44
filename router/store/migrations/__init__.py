"""Alembic's scripts: `env` runs them on the connection that the store opened, `versions` holds a step each."""
