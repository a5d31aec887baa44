"""All sides on the same work, in turns: the median of alternating runs for each number of streams.

A round gives every side the same prompts and arrivals, and starts with another side each time. Sides that rest use no
CPU: their processes wait on a pipe. Staggered arrivals are a Poisson process whose mean gap is half of what a stream
costs the first side that runs when all come at once, so that the same work arrives about twice as fast as it is done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from bench.engine.measures import Figures, figures, medians
from bench.engine.work import Answers, Sizes, Work, at_once, poisson, work

Arrival: TypeAlias = Literal["at once", "Poisson"]


class Runner(Protocol):
    """A side with its name."""

    name: str

    def run(self, work: Work) -> Answers:
        """Answer every stream."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one side at one number of streams."""

    arrival: Arrival
    streams: int
    side: str
    figures: Figures


def race(sides: Sequence[Runner], streams: Sequence[int], sizes: Sizes, rounds: int) -> Iterator[Row]:
    """Rows for every number of streams and, from two up, both arrivals."""
    for count in streams:
        arrivals = [at_once(count)] * rounds
        together = list(_rows("at once", sides, arrivals, sizes))
        yield from together
        if count > 1:
            gap_s = sizes.answer_tokens / together[0].figures.total_tokens_s / 2
            staggered = [poisson(count, gap_s, seed=count * rounds + turn) for turn in range(rounds)]
            yield from _rows("Poisson", sides, staggered, sizes)


def _rows(
    arrival: Arrival, sides: Sequence[Runner], arrivals: Sequence[tuple[float, ...]], sizes: Sizes
) -> Iterator[Row]:
    runs: dict[str, list[Figures]] = {side.name: [] for side in sides}
    for turn, arrivals_s in enumerate(arrivals):
        task = work(sizes, arrivals_s, seed=1 + turn + 100 * len(arrivals_s) + 10000 * (arrival == "Poisson"))
        first = turn % len(sides)
        for side in (*sides[first:], *sides[:first]):
            runs[side.name].append(figures(task, side.run(task)))
    for side in sides:
        yield Row(arrival, len(arrivals[0]), side.name, medians(runs[side.name]))
