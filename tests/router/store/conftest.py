"""Every test that takes `address` or `store` runs on SQLite and on PostgreSQL, each time with an empty database."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.store import Store, StoreAddress, open_store
from tests.postgres import new_database, postgres

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Path]:
    with postgres() as folder:
        yield folder


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> StoreAddress:
    if request.param == "sqlite":
        return StoreAddress.of_file(tmp_path / "shoal.sqlite")
    return StoreAddress(new_database(request.getfixturevalue("server"), f"store{next(NUMBERS)}"))


@pytest.fixture
def store(address: StoreAddress) -> Iterator[Store]:
    opened = open_store(address)
    yield opened
    opened.close()
