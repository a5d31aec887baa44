"""Transactions on SQLite and PostgreSQL that behave alike, and errors that say what an operator can do.

SQLite: a transaction that writes takes the write lock when it begins (else two that read first and then write would end
each other), and Python's driver must not begin or commit by itself, so that migrations are all or nothing.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from replicas.errors import Unavailable

BUSY_WAIT_S = 10
CONNECT_WAIT_S = 5
STATEMENT_WAIT_MS = 30_000
CONNECTIONS = 4  # a process has a writer, a reader and little more
READS = "reads"


class Database:
    """Connections to the database at `url`, made when they are needed. For any thread."""

    def __init__(self, url: URL) -> None:
        self.words = url.render_as_string(hide_password=True)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            _make_private(Path(url.database or ""))
            arguments: dict[str, object] = {"timeout": BUSY_WAIT_S}
        else:
            arguments = {"connect_timeout": CONNECT_WAIT_S, "options": f"-c statement_timeout={STATEMENT_WAIT_MS}"}
        self._engine = create_engine(url, connect_args=arguments, pool_size=CONNECTIONS, pool_pre_ping=True)
        if self.is_sqlite:
            event.listen(self._engine, "connect", _set_pragmas)
            event.listen(self._engine, "begin", _begin)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block, rolled back on an error. Raises Unavailable; where the way
        to the database breaks in the very commit nobody knows whether it was, and a second try may do it twice."""
        with self._told(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state and changes nothing. Raises Unavailable."""
        with self._told(), self._engine.connect().execution_options(**{READS: True}) as connection:
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
            raise Unavailable(f"the store at {self.words}", lines[0]) from error
        except PoolTimeout as error:
            raise Unavailable(f"the store at {self.words}", "every connection is busy") from error


def _make_private(path: Path) -> None:
    """A new file that only its owner reads; SQLite gives its journals the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise Unavailable(f"the store at {path}", str(error.strerror)) from error


def _set_pragmas(raw: sqlite3.Connection, _record: object) -> None:
    raw.isolation_level = None
    cursor = raw.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get(READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
