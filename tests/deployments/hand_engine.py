"""An engine that is moved by hand: a test decides when a chunk comes, and sees what was cancelled."""

import threading

from replicas.engine import Chunk, EngineStats, Final, Finish, Generation, Sink, Usage
from replicas.errors import ShoalError


class HandStream:
    """A generation under way. `cancelled` is set by `cancel`, and the last chunk follows as a real engine sends it."""

    def __init__(self, engine: "HandEngine", request: Generation, sink: Sink) -> None:
        self.engine = engine
        self.request = request
        self.cancelled = threading.Event()
        self._sink = sink
        self._is_done = False

    def say(self, text: str) -> None:
        self._sink(Chunk(self.request.id, text, 1))

    def end(self, finish: Finish = Finish.END, error: ShoalError | None = None) -> None:
        if not self._is_done:
            self._is_done = True
            self.engine.under_way.discard(self)
            usage = Usage(len(self.request.prompt), 1)
            self._sink(Chunk(self.request.id, "", 0, Final(finish, usage, error=error)))

    def cancel(self) -> None:
        self.cancelled.set()
        self.end(Finish.CANCELLED)


class HandEngine:
    """Takes every request but those for which `refusal` is set; `submitted` is released once for each."""

    def __init__(self) -> None:
        self.streams: list[HandStream] = []
        self.under_way: set[HandStream] = set()
        self.refusal: ShoalError | None = None
        self.submitted = threading.Semaphore(0)

    def submit(self, request: Generation, sink: Sink) -> HandStream:
        if self.refusal is not None:
            raise self.refusal
        stream = HandStream(self, request, sink)
        self.streams.append(stream)
        self.under_way.add(stream)
        self.submitted.release()
        return stream

    def next(self) -> HandStream:
        """The latest request, once one more has come."""
        assert self.submitted.acquire(timeout=10)
        return self.streams[-1]

    def stats(self) -> EngineStats:
        return EngineStats("hand", "hand", "none", 4, len(self.under_way), 0, 0, 0.0, 100, 0, 0, 0, ())

    def close(self) -> None:
        for stream in list(self.under_way):
            stream.cancel()
