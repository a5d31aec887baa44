"""The SQL store: keys, usage, money, decisions. SQLite in a file, or PostgreSQL by URL; nobody else knows SQL."""

from router.store.address import StoreAddress
from router.store.decisions import Kept
from router.store.ledger import Entry
from router.store.store import Store, join_store, open_store
from router.store.usage import Use
from router.store.write_behind import WriteBehind

__all__ = ["Entry", "Kept", "Store", "StoreAddress", "Use", "WriteBehind", "join_store", "open_store"]
