"""The SQL store: keys and usage. SQLite in a file by default, PostgreSQL by URL. Nothing outside knows SQL."""

from router.store.address import StoreAddress
from router.store.store import Store, open_store
from router.store.usage import Use
from router.store.write_behind import WriteBehind

__all__ = ["Store", "StoreAddress", "Use", "WriteBehind", "open_store"]
