"""Threads and batch ceiling, measured on this machine with this model before it serves, and kept on disk.

Decode steps of 1, 2, 4, ... rows are timed in rounds, so that a disturbance hits all sizes alike, and medians count.
The ceiling is the row count past which a step brings hardly more tokens per second. Thread counts are tried on light
models alone, in turns on sessions that are open together: a heavy one would be loaded twice. Near ties go to more rows
and to the first thread count, the physical cores. The time is bounded; what was not reached counts as growing.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import median
from typing import Protocol

_logger = logging.getLogger(__name__)

CONTEXT_TOKENS = 64
"""Tokens a row that a `Pass` must have room for."""

_ROUNDS = 3
_BUDGET_S = 1.6
_HELD_TOKENS = 48  # of each row while decode steps are timed
_CHUNKS = (16, 64)
_LEAST_GAIN = 1.03  # a doubling of rows that brings less is not worth the longer step
_THREADS_GAIN = 1.05  # another thread count must beat the default by this
_LEAST_CEILING = 4  # so many agents share steps even where that brings nothing
_THREAD_ROWS = (1, 8)


class Pass(Protocol):
    """A model with room for some rows: as much of `Forward` as is timed."""

    def decode(self, row: int, tokens: Sequence[int], lengths: Sequence[int]) -> object: ...
    def prefill(self, row: int, tokens: Sequence[int], start: int) -> object: ...
    def close(self) -> None: ...


Open = Callable[[int], Pass]
"""The model on so many threads."""
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was chosen, and the medians behind it: (rows, seconds a decode step), (tokens, seconds a prefill chunk)."""

    threads: int
    batch_ceiling: int
    decode_s: tuple[tuple[int, float], ...]
    prefill_s: tuple[tuple[int, float], ...]


def calibrate(open_: Open, threads: Sequence[int], most_rows: int, clock: Clock = time.perf_counter) -> Calibration:
    """Measure a model with `most_rows` rows. `threads` are the counts to try, the default first."""
    began_s = clock()
    with ExitStack() as stack:
        models = {count: stack.enter_context(closing(open_(count))) for count in threads}
        chosen = _best_threads(models, min(most_rows, max(_THREAD_ROWS)), clock) if len(models) > 1 else threads[0]
        meter = _Meter(models[chosen], clock, until_s=clock() + _BUDGET_S)
        sizes = _doublings(most_rows)
        decode_s = meter.decodes(sizes)
        calibration = Calibration(chosen, ceiling(decode_s, sizes), decode_s, meter.prefills())
    _logger.info(
        "calibrated in %.1f s: %d threads, at most %d rows a step",
        *(clock() - began_s, chosen, calibration.batch_ceiling),
        extra={"decode_s": calibration.decode_s, "prefill_s": calibration.prefill_s},
    )
    return calibration


def ceiling(decode_s: Sequence[tuple[int, float]], sizes: Sequence[int]) -> int:
    """The row count past which tokens/s hardly grow. Sizes that were not measured any more count as growing."""
    best, best_rate = sizes[0], 0.0
    for rows, step_s in decode_s:
        rate = rows / step_s
        if rate >= best_rate * _LEAST_GAIN:
            best, best_rate = rows, rate
    is_growing = bool(decode_s) and best == decode_s[-1][0]
    return max(min(_LEAST_CEILING, sizes[-1]), sizes[-1] if is_growing else best)


def _doublings(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `most` itself."""
    return (*(1 << power for power in range(most.bit_length()) if 1 << power < most), most)


def _best_threads(models: Mapping[int, Pass], most_rows: int, clock: Clock) -> int:
    """The count whose steps are shortest, with one row and with several alike; the first unless clearly beaten."""
    took: dict[int, dict[int, list[float]]] = {count: {} for count in models}
    for _ in range(_ROUNDS):
        for count, model in models.items():
            meter = _Meter(model, clock, until_s=0.0)
            for rows in (rows for rows in _THREAD_ROWS if rows <= most_rows):
                meter.decode(rows)  # the threads of the model before are still spinning
                took[count].setdefault(rows, []).append(meter.decode(rows))
    default = next(iter(models))

    def gain(count: int) -> float:
        ratios = [median(took[default][rows]) / median(samples) for rows, samples in took[count].items()]
        return sum(ratios) / len(ratios)

    best = max(models, key=gain)
    return best if gain(best) >= _THREADS_GAIN else default


class _Meter:
    """Times passes of one model. It starts nothing new after `until_s`."""

    def __init__(self, model: Pass, clock: Clock, until_s: float) -> None:
        self._model = model
        self._clock = clock
        self._until_s = until_s

    def decode(self, rows: int) -> float:
        """Seconds of one step."""
        began_s = self._clock()
        self._model.decode(0, [0] * rows, [_HELD_TOKENS] * rows)
        return self._clock() - began_s

    def prefill(self, tokens: int) -> float:
        """Seconds of one chunk."""
        began_s = self._clock()
        self._model.prefill(0, [0] * tokens, 0)
        return self._clock() - began_s

    def decodes(self, sizes: Sequence[int]) -> tuple[tuple[int, float], ...]:
        """(rows, median seconds) ascending, one row at least, up to where two doublings brought nothing."""
        self.decode(sizes[0])  # the first call of a session allocates
        samples: dict[int, list[float]] = {}
        for rows in sizes:
            if samples and self._is_over():
                break
            self.decode(rows)
            samples[rows] = [self.decode(rows)]
            if _is_flat([(known, times[0]) for known, times in samples.items()]):
                break
        for _ in range(_ROUNDS - 1):
            for rows, times in samples.items():
                if not self._is_over():
                    times.append(self.decode(rows))
        return tuple((rows, median(times)) for rows, times in samples.items())

    def prefills(self) -> tuple[tuple[int, float], ...]:
        """(tokens, seconds, the better of two) ascending; more than the first only while there is time."""
        taken: list[tuple[int, float]] = []
        for tokens in _CHUNKS:
            if not taken or not self._is_over():
                taken.append((tokens, min(self.prefill(tokens), self.prefill(tokens))))
        return tuple(taken)

    def _is_over(self) -> bool:
        return self._clock() >= self._until_s


def _is_flat(measured: Sequence[tuple[int, float]]) -> bool:
    """Whether the last two sizes both brought less than the one before them."""
    if len(measured) < 3:
        return False
    before, *last = [rows / step_s for rows, step_s in measured[-3:]]
    return all(rate < before for rate in last)
