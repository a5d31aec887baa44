"""Secrets that all processes of a service share and nobody else has: digests that are kept are made under them."""

from secrets import token_bytes

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from router.store.database import Database
from router.store.journal_tables import secrets

SECRET_BYTES = 32


class SecretTable:
    """The secrets in `database`. Methods block, and raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, name: str) -> bytes:
        """The secret called `name`, the same for everybody; made where there is none."""
        insert = sqlite.insert(secrets) if self._database.is_sqlite else postgresql.insert(secrets)
        made = insert.values(name=name, value=token_bytes(SECRET_BYTES).hex()).on_conflict_do_nothing()
        with self._database.writing() as connection:
            connection.execute(made)
            found = connection.execute(select(secrets.c.value).where(secrets.c.name == name)).scalar_one()
        return bytes.fromhex(found)
