"""The ledger in the store: rows add up, whoever writes them, and any name that a caller makes up can be kept."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.label import LIMIT, label
from router.store import Entry, Store, WriteBehind
from router.store.ledger import SUMS
from tests.router.store.test_store import at_once

ONE = Entry("2026-01-31", "k", "j", "a", "rule r", "m", 1, 10, 4, 3, 0, 7)


def times(entry: Entry, count: int) -> Entry:
    return replace(entry, **{name: count * getattr(entry, name) for name in SUMS})


def test_answers_of_one_name_add_up_within_a_batch_and_over_batches(store: Store) -> None:
    other = replace(ONE, rule="policy cheapest", cost_nano=5)
    store.ledger.add([ONE, other, ONE])
    store.ledger.add([ONE])
    assert store.ledger.since("2026-01-31") == [other, times(ONE, 3)]


def test_earlier_days_are_left_out(store: Store) -> None:
    later = replace(ONE, day="2026-02-01")
    store.ledger.add([ONE, later])
    assert store.ledger.since("2026-02-01") == [later]


def test_no_answer_is_lost_when_many_write_at_once(store: Store) -> None:
    other = replace(ONE, agent="b")

    def add() -> None:
        for _ in range(10):
            store.ledger.add([other, ONE])

    assert at_once(add, 4) == []
    assert store.ledger.since("") == [times(ONE, 40), times(other, 40)]


def test_what_is_put_is_in_the_store_after_closing(store: Store) -> None:
    queue = WriteBehind[Entry](store.ledger.add, lambda _: None)
    for _ in range(50):
        queue.put(ONE)
    queue.close()
    assert store.ledger.since("") == [times(ONE, 50)]


@given(st.text(max_size=2 * LIMIT) | st.text(st.characters(categories=("Cs", "Cc")), max_size=5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_can_be_kept_once_it_is_a_label(store: Store, text: str) -> None:
    entry = replace(ONE, agent=label(text))
    before = {one.agent: one.answers for one in store.ledger.since("")}
    store.ledger.add([entry])
    assert {one.agent: one.answers for one in store.ledger.since("")} == before | {
        entry.agent: before.get(entry.agent, 0) + 1
    }
