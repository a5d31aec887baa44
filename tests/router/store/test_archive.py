"""The archive: decisions are worded and written behind the answers, old ones go, sessions cannot be guessed at."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from replicas.errors import Unavailable
from router.journal.archive import DAY_S, PURGE_EVERY_S, Archive, Retention
from router.journal.entry import Feedback, JournalEntry
from router.journal.session import KEYED_BY, digest, sealed
from router.store import Kept, Store, StoreAddress, join_store
from tests.router.decisions import ENTRY, entry
from tests.router.store.test_store import at_once

GOOD = Feedback(1.0, "right", 200.0)


def kept(store: Store) -> list[JournalEntry]:
    return list(store.decisions.since(0.0))


def archive_of(store: Store, retention: Retention | None = None, now: float = ENTRY.at) -> Archive:
    return Archive(store, retention, lambda _: pytest.fail("nothing may be lost"), lambda: now)


def put(archive: Archive, told: JournalEntry) -> None:
    archive.put(told.id, lambda: told)


def test_what_is_too_old_for_one_turn_goes_in_the_next_ones(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.journal.archive.DROPPED_AT_ONCE", 2)
    archive = archive_of(store, Retention(1.0), 2 * DAY_S)
    store.decisions.add([entry(f"old_{number}") for number in range(3)])
    for id_ in ("new_1", "new_2"):
        put(archive, entry(id_, at=2 * DAY_S))
        assert archive.give(id_, "k1", GOOD) == "small"
    archive.close()
    assert [one.id for one in kept(store)] == ["new_1", "new_2"]


def test_decisions_are_written_though_old_ones_cannot_be_dropped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []

    def purge(*_: object) -> int:
        turns.append(1)
        raise Unavailable("the store", "canceling statement due to statement timeout")

    monkeypatch.setattr(store.decisions, "purge", purge)
    archive = archive_of(store, Retention(30.0))
    for id_ in ("msg_1", "msg_2"):
        put(archive, entry(id_))
        assert archive.give(id_, "k1", GOOD) == "small"
    archive.close()
    assert (len(kept(store)), len(turns)) == (2, 1)


def test_without_a_retention_it_drops_nothing(store: Store) -> None:
    archive = archive_of(store, None, 1e9)
    put(archive, ENTRY)
    archive.close()
    assert kept(store) == [ENTRY]


def test_the_archive_drops_what_is_too_old_once_an_hour(store: Store) -> None:
    now = [10 * DAY_S]
    archive = Archive(store, Retention(2.0), lambda _: pytest.fail("nothing may be lost"), lambda: now[0])
    put(archive, entry("old", at=now[0] - 3 * DAY_S))
    assert archive.give("old", "k1", GOOD) is None  # written and dropped at once
    put(archive, entry("new", at=now[0] - 1.99 * DAY_S))
    now[0] += PURGE_EVERY_S - 1
    put(archive, entry("newer", at=now[0]))
    assert archive.give("newer", "k1", GOOD) == "small"
    assert [one.id for one in kept(store)] == ["new", "newer"]
    now[0] += 2
    put(archive, entry("newest", at=now[0]))
    archive.close()
    assert [one.id for one in kept(store)] == ["newer", "newest"]


def test_experiments_that_are_under_way_are_kept_for_longer_but_not_for_good() -> None:
    told = Retention(2.0, 5, ("size",), 10.0)
    assert told.at(100 * DAY_S) == Kept(98 * DAY_S, 5, ("size",), 90 * DAY_S)
    assert replace(told, days=30.0).at(100 * DAY_S).experiments_since == 70 * DAY_S


def test_feedback_waits_for_a_decision_that_is_being_worded_and_written(store: Store) -> None:
    archive, begun, goes_on = archive_of(store), threading.Event(), threading.Event()

    def word() -> JournalEntry:
        begun.set()
        assert goes_on.wait(30)
        return ENTRY

    archive.put("msg_1", word)
    assert begun.wait(30)
    said = threading.Thread(target=archive.give, args=("msg_1", "k1", GOOD))
    said.start()
    goes_on.set()
    said.join(30)
    archive.close()
    assert [one.feedback for one in kept(store)] == [GOOD]


def test_whoever_puts_a_decision_words_nothing_himself(store: Store) -> None:
    archive, worded = archive_of(store), list[str]()

    def word() -> JournalEntry:
        worded.append(threading.current_thread().name)
        return ENTRY

    archive.put("msg_1", word)
    archive.close()
    assert worded == ["write-behind"]
    assert kept(store) == [ENTRY]


def test_while_the_store_is_away_decisions_are_worded_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, back, all_worded = store.decisions.add, threading.Event(), threading.Event()

    def adding(entries: Sequence[JournalEntry]) -> None:
        assert back.wait(30)
        add(entries)

    def last() -> JournalEntry:
        all_worded.set()
        return entry("last")

    monkeypatch.setattr(store.decisions, "add", adding)
    archive = archive_of(store)
    for number in range(50):
        put(archive, entry(f"msg_{number}"))
    archive.put("last", last)
    assert all_worded.wait(30)
    back.set()
    archive.close()
    assert len(kept(store)) == 51


def test_a_decision_that_cannot_be_worded_is_lost_alone_and_nobody_waits_for_it(store: Store) -> None:
    lost: list[int] = []
    archive = Archive(store, None, lost.append)

    def word() -> JournalEntry:
        raise ZeroDivisionError

    put(archive, entry("msg_1"))
    archive.put("msg_2", word)
    put(archive, entry("msg_3"))
    assert archive.give("msg_3", "k1", GOOD) == "small"
    assert archive.give("msg_2", "k1", GOOD) is None
    archive.close()
    assert ([one.id for one in kept(store)], lost) == (["msg_1", "msg_3"], [1])


def test_a_session_is_told_from_others_and_its_name_cannot_be_tried_out(address: StoreAddress, store: Store) -> None:
    names = ["k1/jane", "k1/jane", "k1/john", ""]
    beside = join_store(address)
    for number, (name, where) in enumerate(zip(names, (store, beside, store, store), strict=True)):
        archive = archive_of(where)
        put(archive, entry(f"msg_{number}", session=digest(name) if name else ""))
        archive.close()
    beside.close()
    first, second, other, none = (one.session for one in kept(store))
    assert (first, none) == (second, "")
    assert len({first, other, digest("k1/jane"), digest("k1/john")}) == 4
    assert first == sealed(digest("k1/jane"), store.secrets.of(KEYED_BY))


def test_all_who_ask_for_a_secret_at_once_get_the_same(store: Store) -> None:
    found: list[bytes] = []
    assert at_once(lambda: found.append(store.secrets.of("new")), 6) == []
    assert (len(found), len(set(found)), len(found[0])) == (6, 1, 32)
    assert store.secrets.of("other") != found[0]
