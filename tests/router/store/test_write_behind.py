"""The queue before the store: callers never wait, order holds, and what is lost is counted."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from replicas.errors import Unavailable
from router.store import Store, Use, WriteBehind
from router.store.write_behind import BATCH

WAIT_S = 30.0


class Sink:
    """Takes batches when its gate is open; fails `failures` times first."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.failures: list[Exception] = []
        self.lost = 0

    def write(self, batch: Sequence[int]) -> None:
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        if self.failures:
            raise self.failures.pop()
        self.batches.append(list(batch))

    def lose(self, count: int) -> None:
        self.lost += count

    @property
    def written(self) -> list[int]:
        return [record for batch in self.batches for record in batch]


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.gate.set()


def test_records_are_written_in_order_and_in_batches(sink: Sink) -> None:
    queue = WriteBehind(sink.write, sink.lose)
    for number in range(2 * BATCH):
        queue.put(number)
    sink.gate.set()
    assert queue.flush(WAIT_S)
    assert sink.written == list(range(2 * BATCH))
    assert len(sink.batches) < 2 * BATCH
    queue.close()


def test_what_was_put_is_seen_to_be_written_though_more_comes_all_the_time(sink: Sink) -> None:
    def write(batch: Sequence[int]) -> None:
        queue.put(max(batch) + 1)  # before this one has ended: the queue is never empty
        sink.write(batch)

    sink.gate.set()
    queue = WriteBehind(write, sink.lose)
    queue.put(0)
    assert queue.flush(WAIT_S)
    assert sink.written[0] == 0
    queue.close()


def test_a_full_queue_loses_what_comes_and_says_how_much(sink: Sink) -> None:
    queue = WriteBehind(sink.write, sink.lose, limit=3)
    queue.put(0)
    assert sink.entered.wait(WAIT_S)  # the thread has taken it and stands before the gate
    for number in range(1, 6):
        queue.put(number)
    sink.gate.set()
    queue.close()
    assert (sink.written, sink.lost) == ([0, 1, 2, 3], 2)


def test_a_batch_that_could_not_be_written_is_tried_again_before_later_ones(sink: Sink) -> None:
    sink.failures = [Unavailable("the store")]
    queue = WriteBehind(sink.write, sink.lose)
    queue.put(1)
    assert sink.entered.wait(WAIT_S)
    queue.put(2)
    sink.gate.set()
    assert queue.flush(WAIT_S)
    queue.close()
    assert (sink.written, sink.lost) == ([1, 2], 0)


def test_a_store_that_stays_away_past_the_end_costs_the_records(sink: Sink) -> None:
    sink.gate.set()
    sink.failures = [Unavailable("the store")] * 10
    queue = WriteBehind(sink.write, sink.lose)
    queue.put(1)
    assert sink.entered.wait(WAIT_S)
    queue.close()
    queue.put(2)
    assert (sink.written, sink.lost) == ([], 2)


def test_a_bug_in_one_batch_does_not_end_the_thread(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    sink.gate.set()
    sink.failures = [ZeroDivisionError()]
    queue = WriteBehind(sink.write, sink.lose)
    queue.put(1)
    assert queue.flush(WAIT_S)
    queue.put(2)
    queue.close()
    assert (sink.written, sink.lost) == ([2], 1)
    assert "ZeroDivisionError" in caplog.text


def test_one_record_that_cannot_be_written_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    written: list[int] = []
    lost: list[int] = []
    gate = threading.Event()

    def write(batch: Sequence[int]) -> None:
        assert gate.wait(WAIT_S)
        if 7 in batch:
            raise OverflowError("too large")
        written.extend(batch)

    queue = WriteBehind(write, lost.append)
    for number in range(20):
        queue.put(number)
    gate.set()
    assert queue.flush(WAIT_S)
    queue.close()
    assert (written, lost) == ([number for number in range(20) if number != 7], [1])
    assert "OverflowError" in caplog.text


def test_a_number_that_no_column_holds_costs_no_other_record(store: Store) -> None:
    lost: list[int] = []
    queue = WriteBehind[Use](store.usage.add, lost.append)
    for count in (1, 10**30, 2):
        queue.put(Use("a", "2026-01-31", "m", count, 2, 0, 3))
    queue.close()
    assert store.usage.totals()["a"][0] == 3
    assert lost == [1]


def test_usage_that_is_put_is_in_the_store_after_closing(store: Store) -> None:
    queue = WriteBehind[Use](store.usage.add, lambda _: None)
    for _ in range(50):
        queue.put(Use("a", "2026-01-31", "m", 1, 2, 0, 3))
    queue.close()
    assert store.usage.totals() == {"a": (50, 250, "2026-01-31")}


def test_where_records_are_wanted_one_by_one_each_is_a_batch(sink: Sink) -> None:
    queue = WriteBehind(sink.write, sink.lose, batch=1)
    for number in range(20):
        queue.put(number)
    sink.gate.set()
    queue.close()
    assert sink.batches == [[number] for number in range(20)]
