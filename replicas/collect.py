"""An answer without callbacks, for the command line, tests and benches: iterate over its chunks, or wait for all."""

import queue
from collections.abc import Iterator
from dataclasses import dataclass

from replicas.engine import Chunk, Engine, Final, Generation, TokenScore
from replicas.errors import EngineFailed

# The engine ends a request at its deadline; this much later it is broken.
_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Completed:
    """A whole answer."""

    text: str
    final: Final
    scores: tuple[TokenScore, ...] = ()


def iterate(engine: Engine, request: Generation) -> Iterator[Chunk]:
    """The chunks of `request` as they come. Leaving the iteration cancels it. Raises what `submit` raises, and
    EngineFailed if the engine lets the deadline pass in silence.
    """
    chunks: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
    stream = engine.submit(request, chunks.put)
    try:
        while True:
            try:
                chunk = chunks.get(timeout=request.deadline_s + _GRACE_S)
            except queue.Empty:
                raise EngineFailed(f"no answer within {request.deadline_s + _GRACE_S:g} s") from None
            yield chunk
            if chunk.final is not None:
                return
    finally:
        stream.cancel()


def collect(engine: Engine, request: Generation) -> Completed:
    """The whole answer to `request`; see `iterate`. An error is in its `final`."""
    chunks = list(iterate(engine, request))
    final = chunks[-1].final
    assert final is not None
    scores = tuple(score for chunk in chunks for score in chunk.scores)
    return Completed("".join(chunk.text for chunk in chunks), final, scores)
