"""All sides on the same work, in turns: the median of alternating runs for each number of streams.

A round opens every side anew, for one process of a model is faster than the next by up to a tenth, by where its memory
came to lie. It gives every side the same prompts and arrivals, and starts with another side each time. Sides that rest
use no CPU: their processes wait on a pipe. Staggered arrivals are a Poisson process whose mean gap is half of what a
stream costs the first side when all come at once, so that the same work arrives about twice as fast as it is done.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
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


Opened: TypeAlias = Callable[[], AbstractContextManager[Sequence[Runner]]]


def race(opened: Opened, streams: Sequence[int], sizes: Sizes, rounds: int) -> list[Row]:
    """Rows for every number of streams and, from two up, both arrivals, of sides that `opened` opens for a round."""
    runs: dict[tuple[Arrival, int, str], list[Figures]] = {}
    gaps_s: dict[int, float] = {}
    for turn in range(rounds):
        with opened() as sides:
            first = turn % len(sides)
            ordered = (*sides[first:], *sides[:first])
            for count in streams:
                _run("at once", ordered, work(sizes, at_once(count), seed=1 + turn + 100 * count), runs)
                if count == 1:
                    continue
                if count not in gaps_s:
                    speed = runs["at once", count, sides[0].name][0].total_tokens_s
                    gaps_s[count] = sizes.answer_tokens / speed / 2
                staggered = poisson(count, gaps_s[count], seed=count * rounds + turn)
                _run("Poisson", ordered, work(sizes, staggered, seed=10001 + turn + 100 * count), runs)
    return [Row(*key, medians(found)) for key, found in runs.items()]


def _run(
    arrival: Arrival, sides: Sequence[Runner], task: Work, runs: dict[tuple[Arrival, int, str], list[Figures]]
) -> None:
    for side in sides:
        runs.setdefault((arrival, task.streams, side.name), []).append(figures(task, side.run(task)))
