"""Decisions and feedback in the store: what is kept comes back as it was, and only whose answer it was has a say."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from sqlalchemy.dialects import sqlite

from router.journal.entry import Feedback, JournalEntry, Score
from router.store import Kept, Store, StoreAddress, open_store
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


def test_the_last_word_of_whose_answer_it_was_counts_and_the_first_score_stays(store: Store) -> None:
    store.decisions.add([ENTRY])
    assert store.feedback.give("msg_1", "k1", GOOD) == "small"
    assert store.feedback.give("msg_1", "k1", BAD) == "small"
    first = Score(GOOD.score, GOOD.at)
    assert [one.feedback for one in kept(store)] == [replace(BAD, first=first)]
    assert store.feedback.give("msg_1", "k1", replace(GOOD, at=400.0)) == "small"
    assert [one.feedback for one in kept(store)] == [replace(GOOD, at=400.0, first=first)]


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
    assert store.decisions.purge(Kept(5.0, 100), 100) == 5
    assert [one.id for one in kept(store)] == ["msg_5", "msg_6"]
    database = Database(address.resolved())
    with database.reading() as connection:
        assert connection.execute(select(feedback.c.decision_id)).scalars().all() == ["msg_6"]
    database.close()


def test_more_than_so_many_are_not_kept(store: Store) -> None:
    store.decisions.add([entry(f"msg_{number}", at=float(number)) for number in range(7)])
    assert store.decisions.purge(Kept(0.0, 7), 100) == 0
    assert store.decisions.purge(Kept(0.0, 3), 100) == 4
    assert [one.id for one in kept(store)] == ["msg_4", "msg_5", "msg_6"]
    assert store.decisions.purge(Kept(6.0, 3), 100) == 2


def test_it_drops_the_oldest_so_many_at_a_time(store: Store) -> None:
    store.decisions.add([entry(f"msg_{number}", at=float(number)) for number in range(7)])
    assert [store.decisions.purge(Kept(5.0, 100), 3) for _ in range(3)] == [3, 2, 0]
    assert [one.id for one in kept(store)] == ["msg_5", "msg_6"]


def in_turn(count: int, *experiments: str) -> list[JournalEntry]:
    """So many rows, one a second, of each of these experiments in turn."""
    return [
        entry(f"msg_{n:02}", float(n), experiment=experiments[n % len(experiments)], variant="a") for n in range(count)
    ]


def test_rows_of_experiments_that_are_under_way_outlive_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    store.decisions.add(in_turn(12, "", "e", "gone"))
    assert store.decisions.purge(Kept(9.0, 100, ("e",), 4.0), 100) == 7
    assert [one.id for one in kept(store)] == ["msg_04", "msg_07", "msg_09", "msg_10", "msg_11"]
    assert (store.decisions.cut_at("e"), store.decisions.cut_at("gone"), store.decisions.cut_at("")) == (1.0, 8.0, None)


def test_of_experiments_too_there_are_no_more_than_so_many(store: Store) -> None:
    store.decisions.add(in_turn(12, "", "e", "f"))
    assert store.decisions.purge(Kept(0.0, 6, ("e", "f"), 0.0), 100) == 4
    assert [one.id for one in kept(store)] == [f"msg_{n:02}" for n in (4, 5, 6, 7, 8, 9, 10, 11)]
    assert (store.decisions.cut_at("e"), store.decisions.cut_at("f")) == (1.0, 2.0)


def test_what_of_an_experiment_is_gone_stays_known_and_moves_forward_only(store: Store) -> None:
    store.decisions.add(in_turn(6, "e"))
    assert store.decisions.cut_at("e") is None
    assert store.decisions.purge(Kept(3.0, 100), 100) == 3
    store.decisions.add([entry("late", 1.0, experiment="e", variant="a")])
    assert store.decisions.purge(Kept(3.0, 100), 100) == 1
    assert store.decisions.cut_at("e") == 2.0


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "e", "f"])), max_size=12),
    st.integers(0, 10),
    st.integers(1, 8),
    st.integers(0, 10),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_dropped_was_to_be_dropped_and_the_bounds_hold(
    address: StoreAddress, made: list[tuple[int, str]], since: int, rows: int, experiments_since: int
) -> None:
    store = emptied(address)
    store.decisions.add(
        [entry(f"m{n:02}", float(at), experiment=name, variant=name) for n, (at, name) in enumerate(made)]
    )
    before = kept(store)
    store.decisions.purge(Kept(float(since), rows, ("e",), float(experiments_since)), 100)
    left = {one.id for one in kept(store)}
    for spared in (False, True):
        of_kind = [one for one in before if (one.experiment == "e") is spared]
        among = of_kind if spared else before
        oldest = sorted((one.at for one in among), reverse=True)[rows - 1] if len(among) >= rows else 0.0
        bound = max(float(experiments_since if spared else since), oldest)
        assert {one.id for one in of_kind if one.at >= bound} == left & {one.id for one in of_kind}
    store.close()
