"""The seam of the benchmark: whoever can run a piece of work. Each side lives in a worker process of its own."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.engine.work import Answers, Work


@dataclass(frozen=True, slots=True)
class Place:
    """What a side opens: the export's folder (or the GGUF file), its threads, the most streams, tokens of a stream."""

    model: Path
    threads: int
    streams: int
    max_len: int


class Side(Protocol):
    """Runs work with one model."""

    def run(self, work: Work) -> Answers:
        """Answer every stream, none before it arrives."""
        ...


class Arrivals:
    """Who has come by now, in order. Time counts from the making of this object."""

    def __init__(self, work: Work) -> None:
        self._began_s = time.perf_counter()
        self._arrivals_s = work.arrivals_s
        self._order = sorted(range(work.streams), key=lambda stream: (work.arrivals_s[stream], stream))

    def __bool__(self) -> bool:
        """Whether any are still to be taken."""
        return bool(self._order)

    def now_s(self) -> float:
        return time.perf_counter() - self._began_s

    def take(self, room: int) -> list[int]:
        """At most `room` streams that have come."""
        now_s, taken = self.now_s(), list[int]()
        while self._order and len(taken) < room and self._arrivals_s[self._order[0]] <= now_s:
            taken.append(self._order.pop(0))
        return taken

    def wait(self) -> None:
        """Until the next one comes."""
        time.sleep(max(0.0, self._arrivals_s[self._order[0]] - self.now_s()))
