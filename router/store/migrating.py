"""Brings the tables to the state that this version expects, at every start: all steps in one transaction, and only one
process at a time (SQLite's write lock, an advisory lock in PostgreSQL)."""

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import text

from replicas.errors import SettingsError
from router.store.database import Database

LOCK = 0x5F0A1  # of no meaning but its own


def migrate(database: Database) -> None:
    """Run the steps that are missing. Raises SettingsError if a newer version of Shoal wrote the store, Unavailable."""
    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        config = Config()
        config.set_main_option("script_location", "router.store:migrations")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SettingsError(
                f"the store at {database.words} was written by another version of Shoal ({error}): "
                "run that version, or name another store in store.url"
            ) from error
