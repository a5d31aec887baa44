"""Keys in the store. A revoked key stays: its usage has a name, and an instance that had keys never turns open."""

from dataclasses import asdict

from sqlalchemy import Row, insert, select, update

from replicas.errors import NotFound
from router.keys.key import Key, Limits, Scope, StoredKey
from router.store.database import Database
from router.store.tables import keys


class KeyTable:
    """The keys of `database`. Methods block, and raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, stored: StoredKey) -> None:
        """Keep a new key."""
        key = stored.key
        row = {
            "id": key.id,
            "name": key.name,
            "digest": stored.digest,
            "scopes": sorted(key.scopes),
            **asdict(key.limits),
            "weight": key.weight,
            "is_private": key.is_private,
            "created_at": key.created_at,
            "revoked_at": key.revoked_at,
        }
        with self._database.writing() as connection:
            connection.execute(insert(keys).values(row))

    def all(self) -> list[StoredKey]:
        """Every key, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id)).all()
        return [_stored(row) for row in rows]

    def revoke(self, id_: str, at: float) -> None:
        """The key is good for nothing from `at` (seconds since 1970) on. Again changes nothing. Raises NotFound."""
        with self._database.writing() as connection:
            wanted = update(keys).where(keys.c.id == id_, keys.c.revoked_at.is_(None)).values(revoked_at=at)
            is_known = connection.execute(select(keys.c.id).where(keys.c.id == id_)).one_or_none() is not None
            connection.execute(wanted)
        if not is_known:
            raise NotFound("key", id_, "`shoal keys list` shows the ids")


def _stored(row: Row[tuple[object, ...]]) -> StoredKey:
    found = row._asdict()
    limits = Limits(found["requests_per_minute"], found["tokens_per_minute"], found["concurrency"])
    key = Key(
        id=found["id"],
        name=found["name"],
        created_at=found["created_at"],
        scopes=frozenset(Scope(scope) for scope in found["scopes"]),
        limits=limits,
        weight=found["weight"],
        is_private=found["is_private"],
        revoked_at=found["revoked_at"],
    )
    return StoredKey(key, found["digest"])
