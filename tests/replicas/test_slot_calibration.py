"""Threads and batch ceiling come from measured steps, once per model and machine, whatever the noise."""

import errno
import itertools
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnxruntime as ort
import pytest

from replicas.host import Host
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.place import CPU
from replicas.slot.start import fitting, kept
from replicas.slot.start.calibration import Calibration, calibrate, ceiling
from replicas.slot.start.fitting import Fit, Question, fitted
from replicas.slot.start.providers import open_session
from replicas.slot.start.sizing import Wanted
from tests.replicas.engines import tiny

SIZES = (1, 2, 4, 8, 16, 32)
Cost = Callable[[int, int], float]
"""Seconds of a step with (threads, rows)."""


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Timed:
    """A model whose steps take what `cost` says."""

    clock: Clock
    cost: Cost
    threads: int
    closed: list[int] = field(default_factory=list)

    def decode(self, row: int, tokens: Sequence[int], lengths: Sequence[int]) -> None:
        self.clock.now_s += self.cost(self.threads, len(tokens))

    def prefill(self, row: int, tokens: Sequence[int], start: int) -> None:
        self.clock.now_s += self.cost(self.threads, 1) * len(tokens) / 16

    def close(self) -> None:
        self.closed.append(self.threads)


def measured(cost: Cost, threads: Sequence[int] = (2,), most_rows: int = 32) -> Calibration:
    clock, closed = Clock(), list[int]()
    found = calibrate(lambda count: Timed(clock, cost, count, closed), threads, most_rows, clock)
    assert sorted(closed) == sorted(threads)
    return found


def saturating(at: int, step_s: float = 1e-3) -> Cost:
    """A step is as long for one row as for `at` rows, and grows in proportion from there."""
    return lambda threads, rows: step_s * max(1.0, rows / at)


@pytest.mark.parametrize("at", SIZES)
def test_the_ceiling_is_where_more_rows_bring_nothing(at: int) -> None:
    assert measured(saturating(at)).batch_ceiling == max(4, at)


def test_rows_that_still_pay_a_little_are_taken() -> None:
    assert measured(lambda threads, rows: 1e-3 * rows**0.9).batch_ceiling == 32


def test_a_limit_between_two_doublings_is_measured_itself() -> None:
    found = measured(saturating(32), most_rows=11)
    assert (found.batch_ceiling, [rows for rows, _ in found.decode_s]) == (11, [1, 2, 4, 8, 11])


def test_a_slow_model_stops_in_time_and_what_was_not_reached_counts_as_growing() -> None:
    clock = Clock()
    found = calibrate(lambda count: Timed(clock, saturating(8, 0.5), count), (2,), 32, clock)
    assert found.batch_ceiling == 32
    assert [rows for rows, _ in found.decode_s] == [1, 2]
    assert clock.now_s < 5


@pytest.mark.parametrize("seed", range(20))
def test_disturbed_steps_do_not_move_the_choice(seed: int) -> None:
    noise = random.Random(seed)

    def disturbed(threads: int, rows: int) -> float:
        quiet = saturating(16)(threads, rows) * (0.8 if threads == 4 else 1.0)
        return quiet * noise.uniform(1.0, 1.01)

    found = measured(disturbed, threads=(2, 4))
    assert (found.threads, found.batch_ceiling) == (4, 16)


def test_another_thread_count_must_be_clearly_better_than_the_default() -> None:
    by_threads = {2: 1.0, 4: 0.98, 1: 1.5}
    assert measured(lambda threads, rows: 1e-3 * by_threads[threads], threads=(2, 4, 1)).threads == 2
    by_threads[4] = 0.8
    assert measured(lambda threads, rows: 1e-3 * by_threads[threads], threads=(2, 4, 1)).threads == 4


def test_one_slow_sample_does_not_lower_the_ceiling() -> None:
    ticks = itertools.count()

    def hiccup(threads: int, rows: int) -> float:
        return 1.0 if next(ticks) == 9 else saturating(32, 1e-3)(threads, rows)

    assert measured(hiccup).batch_ceiling == 32
    assert ceiling([(1, 1.0), (2, 1.0), (4, 9.0), (8, 1.0)], (1, 2, 4, 8)) == 8


@pytest.fixture
def question(tmp_path: Path) -> Question:
    return Question(tiny(), CPU, Wanted(max_len=128), folder=tmp_path / "calibration")


def opening(question: Question, opened: list[int]) -> fitting.OpenSession:
    def open_(threads: int) -> ort.InferenceSession:
        opened.append(threads)
        return open_session(question.export, CPU, threads, is_spinning=False)

    return open_


def test_a_real_model_is_measured_once_and_then_remembered(question: Question) -> None:
    opened: list[int] = []
    first = fitted(question, opening(question, opened))
    assert len(opened) >= 1
    opened.clear()
    assert fitted(question, opening(question, opened)).calibration == first.calibration
    assert opened == []
    assert first.calibration is not None
    assert first.sizes.slots == first.calibration.batch_ceiling


def test_two_that_start_together_measure_once(question: Question) -> None:
    opened: list[int] = []
    fits: list[Fit] = []
    threads = [
        threading.Thread(target=lambda: fits.append(fitted(question, opening(question, opened)))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == len(set(opened))
    assert len({fit.calibration for fit in fits}) == 1


def test_who_waits_too_long_for_another_process_measures_beside_it(
    question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "WAIT_S", 0.0)
    assert question.folder is not None
    with kept.exclusive(question.folder):
        assert fitted(question, opening(question, [])).calibration is not None
    assert len(kept.every(question.folder)) == 1


def test_a_file_system_that_cannot_lock_costs_no_start(question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*args: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    assert fitted(question, opening(question, [])).calibration is not None


def test_an_engine_runs_with_what_was_measured(question: Question) -> None:
    config = SlotConfig(slots=None, max_len=128, calibrations=question.folder)
    engine = SlotEngine(tiny(), config)
    stats = engine.stats()
    engine.close()
    assert question.folder is not None
    [entry] = kept.every(question.folder)
    assert (stats.threads, stats.slots) == (entry.calibration.threads, entry.calibration.batch_ceiling)


def test_another_model_or_a_broken_file_is_measured_again(question: Question) -> None:
    assert question.folder is not None
    opened: list[int] = []
    fitted(question, opening(question, opened))
    [file] = question.folder.glob("*.json")
    file.write_text("{")
    assert kept.every(question.folder) == ()
    fitted(question, opening(question, opened))
    [entry] = kept.every(question.folder)
    assert entry.of["model"] == "tiny"
    assert kept.load(question.folder, {**entry.of, "processor": "another"}) is None


def test_many_slots_that_the_operator_set_are_not_all_tried(question: Question) -> None:
    fit = fitted(replace(question, wanted=Wanted(slots=1000, max_len=16)), opening(question, []))
    assert fit.calibration is not None
    assert (fit.sizes.slots, fit.calibration.decode_s[-1][0] <= 32) == (1000, True)


def test_what_the_operator_set_is_not_measured(question: Question) -> None:
    fixed = replace(question, threads=1, wanted=Wanted(slots=3, max_len=64))
    fit = fitted(fixed, lambda threads: pytest.fail("a session was opened"))
    assert (fit.threads, fit.sizes.slots, fit.sizes.max_len, fit.calibration) == (1, 3, 64, None)


def test_without_a_folder_the_physical_cores_and_sixteen_slots_are_taken(question: Question) -> None:
    fit = fitted(replace(question, folder=None), lambda threads: pytest.fail("a session was opened"))
    assert fit == Fit(Host().physical_cores(), fit.sizes)
    assert fit.sizes.slots == 16


def test_an_engine_beside_others_reckons_with_its_share_of_the_memory(question: Question) -> None:
    def cache_bytes(share: float) -> int:
        alone = replace(question, folder=None, memory_share=share)
        return fitted(alone, lambda threads: pytest.fail("a session was opened")).sizes.cache_bytes

    assert cache_bytes(0.25) < 0.5 * cache_bytes(1.0)


def test_an_engine_that_needs_more_than_its_share_takes_the_least_that_works(question: Question) -> None:
    crowded = replace(question, folder=None, memory_share=1e-9)
    fit = fitted(crowded, lambda threads: pytest.fail("a session was opened"))
    assert (fit.sizes.slots, fit.sizes.max_len) == (1, 128)


def test_a_folder_that_cannot_be_written_costs_only_the_memory(question: Question, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fit = fitted(replace(question, folder=tmp_path / "file" / "x"), opening(question, []))
    assert fit.calibration is not None


def test_a_heavy_model_is_opened_once_with_the_physical_cores(
    question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "_LIGHT_BYTES", 0)
    opened: list[int] = []
    fitted(question, opening(question, opened))
    assert opened == [Host().physical_cores()]
