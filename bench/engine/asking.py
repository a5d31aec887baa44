"""Asks an engine of this process, and tells when each token of the answer was there."""

import threading
import time
from dataclasses import dataclass, field

from replicas.engine import Chunk, Engine, Final, Generation

DEADLINE_S = 600.0


@dataclass(slots=True)
class Heard:
    """A sink. Times are those of `time.perf_counter`; `tokens` are there if the request asked for scores."""

    asked_s: float = field(default_factory=time.perf_counter)
    times_s: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    final: Final | None = None
    has_begun: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def __call__(self, chunk: Chunk) -> None:
        self.times_s.extend([time.perf_counter()] * chunk.tokens)
        self.texts.append(chunk.text)
        self.tokens.extend(score.chosen.token for score in chunk.scores)
        if self.times_s:
            self.has_begun.set()
        if chunk.final is not None:
            self.final = chunk.final
            self.has_begun.set()
            self.done.set()

    @property
    def ttft_s(self) -> float:
        return self.times_s[0] - self.asked_s


def ask(engine: Engine, request: Generation) -> Heard:
    """The whole answer. Raises RuntimeError if it failed or did not come in time."""
    heard = Heard()
    engine.submit(request, heard)
    if not heard.done.wait(DEADLINE_S):
        raise RuntimeError(f"{request.id} was not answered within {DEADLINE_S:g} s")
    if heard.final is None or heard.final.error is not None or not heard.times_s:
        raise RuntimeError(f"{request.id} failed: {heard.final}")
    return heard
