"""Decisions and feedback in the store: what is kept comes back as it was, and only whose answer it was has a say."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from sqlalchemy.dialects import sqlite

from replicas.errors import Unavailable
from router.journal.archive import DAY_S, PURGE_EVERY_S, Archive, Retention
from router.journal.entry import Feedback, JournalEntry
from router.store import Store, StoreAddress, open_store
from router.store import decisions as module
from router.store.database import Database
from router.store.journal_tables import decisions, feedback
from tests.router.decisions import ENTRIES, ENTRY, entry
from tests.router.store.test_store import at_once

GOOD, BAD = Feedback(1.0, "right", 200.0), Feedback(0.25, "", 300.0)


def kept(store: Store, at: float = 0.0, experiment: str | None = None) -> list[JournalEntry]:
    return list(store.decisions.since(at, experiment))


def emptied(address: StoreAddress) -> Store:
    """The store without what an earlier example has left."""
    opened, database = open_store(address), Database(address.resolved())
    with database.writing() as connection:
        connection.execute(delete(decisions))
    database.close()
    return opened


@given(st.lists(ENTRIES, max_size=5, unique_by=lambda one: one.id))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_kept_comes_back_as_it_was_in_order_of_time(
    address: StoreAddress, entries: list[JournalEntry]
) -> None:
    store = emptied(address)
    store.decisions.add(entries)
    found = kept(store)
    assert sorted(found, key=lambda one: one.id) == sorted(entries, key=lambda one: one.id)
    assert [one.at for one in found] == sorted(one.at for one in entries)
    store.close()


def test_it_is_read_page_by_page_and_no_row_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    entries = [entry(f"msg_{number:02}", at=float(number // 4)) for number in range(14)]
    store.decisions.add(entries)
    assert kept(store) == entries
    assert kept(store, 1.0) == entries[4:]
    assert kept(store, 99.0) == []


@pytest.mark.parametrize("experiment", [None, "e"])
def test_each_page_begins_in_the_index_where_the_last_one_ended(tmp_path: Path, experiment: str | None) -> None:
    address = StoreAddress.of_file(tmp_path / "shoal.sqlite")
    open_store(address).close()
    database = Database(address.resolved())
    page = module.wanted((90.0, "msg_1"), experiment).compile(dialect=sqlite.dialect())
    with database.reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {page}", tuple(page.params.values())).all()
    assert "(at,id)>(?,?)" in str(plan[0])
    database.close()


def test_the_decisions_of_an_experiment_can_be_read_alone(store: Store) -> None:
    tried = entry("msg_2", experiment="e", variant="a")
    store.decisions.add([ENTRY, tried])
    assert kept(store, experiment="e") == [tried]


def test_of_two_with_one_id_the_first_stays(store: Store) -> None:
    store.decisions.add([ENTRY])
    store.decisions.add([replace(ENTRY, rule="another"), entry("msg_2")])
    assert kept(store) == [ENTRY, entry("msg_2")]


def test_writers_that_meet_lose_nothing(store: Store) -> None:
    entries = [entry(f"msg_{number}") for number in range(20)]
    assert at_once(lambda: store.decisions.add(entries[::-1]), 4) == []
    assert len(kept(store)) == 20


def test_the_last_word_of_whose_answer_it_was_counts(store: Store) -> None:
    store.decisions.add([ENTRY])
    assert store.feedback.give("msg_1", "k1", GOOD) == "small"
    assert store.feedback.give("msg_1", "k1", BAD) == "small"
    assert [one.feedback for one in kept(store)] == [BAD]


def test_of_a_private_answer_the_score_alone_is_kept(store: Store) -> None:
    store.decisions.add([replace(ENTRY, is_private=True)])
    assert store.feedback.give("msg_1", "k1", GOOD) == "small"
    assert [one.feedback for one in kept(store)] == [replace(GOOD, label="")]


@pytest.mark.parametrize(("id_", "key_id"), [("msg_1", "k2"), ("msg_1", ""), ("msg_9", "k1")])
def test_for_another_key_an_answer_does_not_exist(store: Store, id_: str, key_id: str) -> None:
    store.decisions.add([ENTRY])
    store.feedback.give("msg_1", "k1", GOOD)
    assert store.feedback.give(id_, key_id, BAD) is None
    assert [one.feedback for one in kept(store)] == [GOOD]


def test_what_is_too_old_goes_with_its_feedback(
    address: StoreAddress, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    store.decisions.add([entry(f"msg_{number}", at=float(number)) for number in range(7)])
    assert [store.feedback.give(id_, "k1", GOOD) for id_ in ("msg_1", "msg_6")] == ["small"] * 2
    assert store.decisions.purge(5.0, 100, 100) == 5
    assert [one.id for one in kept(store)] == ["msg_5", "msg_6"]
    database = Database(address.resolved())
    with database.reading() as connection:
        assert connection.execute(select(feedback.c.decision_id)).scalars().all() == ["msg_6"]
    database.close()


def test_more_than_so_many_are_not_kept(store: Store) -> None:
    store.decisions.add([entry(f"msg_{number}", at=float(number)) for number in range(7)])
    assert store.decisions.purge(0.0, 7, 100) == 0
    assert store.decisions.purge(0.0, 3, 100) == 4
    assert [one.id for one in kept(store)] == ["msg_4", "msg_5", "msg_6"]
    assert store.decisions.purge(6.0, 3, 100) == 2


def test_it_drops_the_oldest_so_many_at_a_time(store: Store) -> None:
    store.decisions.add([entry(f"msg_{number}", at=float(number)) for number in range(7)])
    assert [store.decisions.purge(5.0, 100, 3) for _ in range(3)] == [3, 2, 0]
    assert [one.id for one in kept(store)] == ["msg_5", "msg_6"]


def test_what_is_too_old_for_one_turn_goes_in_the_next_ones(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.journal.archive.DROPPED_AT_ONCE", 2)
    archive = Archive(store, Retention(1.0), lambda _: pytest.fail("nothing may be lost"), lambda: 2 * DAY_S)
    store.decisions.add([entry(f"old_{number}") for number in range(3)])
    for id_ in ("new_1", "new_2"):
        archive.put(entry(id_, at=2 * DAY_S))
        assert archive.give(id_, "k1", GOOD) == "small"
    archive.close()
    assert [one.id for one in kept(store)] == ["new_1", "new_2"]


def test_decisions_are_written_though_old_ones_cannot_be_dropped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []

    def purge(*_: object) -> int:
        turns.append(1)
        raise Unavailable("the store", "canceling statement due to statement timeout")

    monkeypatch.setattr(store.decisions, "purge", purge)
    archive = Archive(store, Retention(30.0), lambda _: pytest.fail("nothing may be lost"), lambda: ENTRY.at)
    for id_ in ("msg_1", "msg_2"):
        archive.put(entry(id_))
        assert archive.give(id_, "k1", GOOD) == "small"
    archive.close()
    assert (len(kept(store)), len(turns)) == (2, 1)


def test_without_a_retention_it_drops_nothing(store: Store) -> None:
    archive = Archive(store, None, lambda _: pytest.fail("nothing may be lost"), lambda: 1e9)
    archive.put(ENTRY)
    archive.close()
    assert kept(store) == [ENTRY]


def test_the_archive_drops_what_is_too_old_once_an_hour(store: Store) -> None:
    now = [10 * DAY_S]
    archive = Archive(store, Retention(2.0), lambda _: pytest.fail("nothing may be lost"), lambda: now[0])
    archive.put(entry("old", at=now[0] - 3 * DAY_S))
    assert archive.give("old", "k1", GOOD) is None  # written and dropped at once
    archive.put(entry("new", at=now[0] - 1.99 * DAY_S))
    now[0] += PURGE_EVERY_S - 1
    archive.put(entry("newer", at=now[0]))
    assert archive.give("newer", "k1", GOOD) == "small"
    assert [one.id for one in kept(store)] == ["new", "newer"]
    now[0] += 2
    archive.put(entry("newest", at=now[0]))
    archive.close()
    assert [one.id for one in kept(store)] == ["newer", "newest"]


def test_feedback_waits_for_a_decision_that_is_being_written(store: Store) -> None:
    archive = Archive(store, Retention(30.0), lambda _: pytest.fail("nothing may be lost"), lambda: ENTRY.at)
    archive.put(ENTRY)
    assert archive.give("msg_1", "k1", GOOD) == "small"
    archive.close()
    assert [one.feedback for one in kept(store)] == [GOOD]
