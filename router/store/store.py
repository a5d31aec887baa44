"""The store, opened: its tables are there and up to date."""

from router.store.address import StoreAddress
from router.store.budgets import BudgetTable
from router.store.database import Database
from router.store.decisions import DecisionTable
from router.store.feedback import FeedbackTable
from router.store.keys import KeyTable
from router.store.ledger import LedgerTable
from router.store.secret import SecretTable
from router.store.usage import UsageTable


class Store:
    """The tables of one database. For any thread; every call blocks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.keys = KeyTable(database)
        self.usage = UsageTable(database)
        self.budgets = BudgetTable(database)
        self.ledger = LedgerTable(database)
        self.decisions = DecisionTable(database)
        self.feedback = FeedbackTable(database)
        self.secrets = SecretTable(database)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()


def join_store(address: StoreAddress) -> Store:
    """The store, which another process has opened and keeps open. It is reached when it is used first. Raises
    SettingsError, Unavailable."""
    return Store(Database(address.resolved()))


def open_store(address: StoreAddress) -> Store:
    """Connect, and run the migrations that are missing. Raises SettingsError, Unavailable."""
    from router.store.migrating import migrate  # late: Alembic takes a while to import

    database = Database(address.resolved())
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return Store(database)
