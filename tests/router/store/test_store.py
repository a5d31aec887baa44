"""Keys, usage and migrations."""

import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from replicas.errors import NotFound, SettingsError, ShoalError, Unavailable
from router.keys import Key, Limits, Scope, StoredKey
from router.store import Store, StoreAddress, Use, open_store
from router.store.database import Database
from router.store.tables import metadata

LIMITED = StoredKey(
    Key("a1", "crawler", 5.0, frozenset({Scope.SWARM}), Limits(60, 9000, 4), 2.5, is_private=True), "d" * 64
)
PLAIN = StoredKey(Key("b2", "Ω", 7.25), "e" * 64)


def use(key: str = "a1", model: str = "m", tokens: int = 10) -> Use:
    return Use(key, "2026-01-31", model, 1, tokens, tokens // 2, 3)


def at_once(work: Callable[[], object], count: int) -> list[ShoalError]:
    """`work` in `count` threads that begin together; the errors."""
    barrier, errors = threading.Barrier(count), list[ShoalError]()

    def run() -> None:
        barrier.wait(30)
        try:
            work()
        except ShoalError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def test_keys_come_back_as_they_were_kept_oldest_first(store: Store) -> None:
    store.keys.add(PLAIN)
    store.keys.add(LIMITED)
    assert store.keys.all() == [LIMITED, PLAIN]


def test_a_revoked_key_stays_and_keeps_the_time_of_the_first_revocation(store: Store) -> None:
    store.keys.add(PLAIN)
    store.keys.revoke("b2", 100.0)
    store.keys.revoke("b2", 200.0)
    assert [stored.key.revoked_at for stored in store.keys.all()] == [100.0]


def test_a_key_that_is_not_there_cannot_be_revoked(store: Store) -> None:
    with pytest.raises(NotFound, match="b2"):
        store.keys.revoke("b2", 1.0)


def test_usage_adds_up_within_a_batch_and_over_batches(store: Store) -> None:
    store.usage.add([use(), use("b2"), use()])
    store.usage.add([use(model="other"), use()])
    assert store.usage.totals() == {"a1": (4, 52, "2026-01-31"), "b2": (1, 13, "2026-01-31")}


def test_no_usage_is_lost_when_many_add_at_once(store: Store) -> None:
    def add() -> None:
        for _ in range(10):
            store.usage.add([use("b2"), use("a1")])

    assert at_once(add, 4) == []
    assert {key: found[0] for key, found in store.usage.totals().items()} == {"a1": 40, "b2": 40}


def test_processes_that_start_together_find_one_set_of_tables(address: StoreAddress) -> None:
    assert at_once(lambda: open_store(address).close(), 6) == []
    store = open_store(address)
    assert store.keys.all() == []
    store.close()


def test_the_migrations_make_the_tables_that_the_code_expects(address: StoreAddress) -> None:
    open_store(address).close()
    database = Database(address.resolved())
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
    database.close()


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(address: StoreAddress) -> None:
    open_store(address).close()
    database = Database(address.resolved())
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match="another version of Shoal"):
        open_store(address)
    with database.reading() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    database.close()


def test_a_migration_that_breaks_leaves_nothing_behind(address: StoreAddress) -> None:
    database = Database(address.resolved())
    with database.writing() as connection:
        connection.execute(sa.text("CREATE TABLE usage (x INTEGER)"))  # the second table of the first step
    with pytest.raises(Unavailable, match="usage"):
        open_store(address)
    with database.reading() as connection:
        assert sa.inspect(connection).get_table_names() == ["usage"]
    database.close()


def test_only_its_owner_reads_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "below" / "shoal.sqlite"
    open_store(StoreAddress.of_file(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_store_that_is_not_there_says_so_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "geheim")
    with pytest.raises(Unavailable, match="the store at postgresql") as raised:
        open_store(StoreAddress(f"postgresql://shoal@/x?host={tmp_path}", "STORE_PASSWORD"))
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("here", "no database URL"),
        ("mysql://host/x", "known are sqlite and postgresql"),
        ("postgresql://user:geheim@host/x", "store.password_env"),
        ("sqlite:///relative.sqlite", "from the root"),
        ("sqlite://", "from the root"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused_with_the_fix(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as raised:
        StoreAddress(url).checked()
    assert "geheim" not in str(raised.value)


def test_a_password_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORE_PASSWORD", raising=False)
    with pytest.raises(SettingsError, match="STORE_PASSWORD"):
        StoreAddress("postgresql://user@host/x", "STORE_PASSWORD").resolved()


def test_a_password_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "geheim")
    url = StoreAddress("postgresql://user@host/x", "STORE_PASSWORD").resolved()
    assert (url.password, url.drivername) == ("geheim", "postgresql+psycopg")
