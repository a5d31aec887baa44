"""Who is under way: requests come in from any thread, wait, and leave with a last chunk.

Everything that more than one thread touches is behind the one lock here. The loop's thread takes waiting requests out,
ends them and hands their chunks over; its own work (`Call`) comes in by the same door.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from replicas.engine import Chunk, Finish, Priority, Sink
from replicas.errors import DeadlineExceeded, EngineFailed, InvalidRequest, Overloaded, ShoalError
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.deadlines import Deadlines
from replicas.slot.step.tally import Tally
from replicas.slot.step.waiting import Waiting

_logger = logging.getLogger(__name__)

Call = Callable[[], object]
"""Something to be done on the loop's thread, between two steps."""


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Sizes of a loop. `model` names it in errors and in the thread's name."""

    model: str
    slots: int
    prefill_chunk: int
    queue_limit: int
    stall_ratio: float = 1.8


class Requests:
    """The requests of one loop. `submit`, `cancel`, `call` and `close` may be called from any thread."""

    def __init__(self, limits: LoopLimits, tally: Tally, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._tally = tally
        self.clock = clock
        self._wake = threading.Condition()  # guards the next six
        self._waiting = Waiting()
        self._under_way: dict[str, Sequence] = {}
        self._cancelled: deque[Sequence] = deque()
        self._deadlines = Deadlines()
        self._calls: deque[tuple[Call, Future[object]]] = deque()
        self._is_closing = False
        self._outbox: list[tuple[Sink, Chunk]] = []

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def interactive_waiting(self) -> int:
        return self._waiting.interactive

    def has_adapter(self, name: str) -> bool:
        """Whether a request for an adapter is under way."""
        with self._wake:
            return any(sequence.request.adapter == name for sequence in self._under_way.values())

    def submit(self, sequence: Sequence) -> None:
        """Queue `sequence`. Raises InvalidRequest (its id is under way), Overloaded, EngineFailed (closed)."""
        id_ = sequence.request.id
        with self._wake:
            self._check_open()
            if id_ in self._under_way:
                raise InvalidRequest(f"a request with the id {id_!r} is under way; ids are unique", "id")
            if self._is_full_for(sequence.request.priority):
                raise Overloaded(self._limits.model, self._tally.retry_after_s(len(self._waiting)))
            sequence.submit(self.clock())
            self._under_way[id_] = sequence
            self._waiting.put(sequence)
            self._deadlines.put(sequence)
            self._wake.notify()

    def cancel(self, sequence: Sequence) -> None:
        with self._wake:
            if not sequence.is_done:
                self._cancelled.append(sequence)
                self._wake.notify()

    def call(self, call: Call) -> Future[object]:
        """Have `call` made on the loop's thread. Raises EngineFailed (closed)."""
        future: Future[object] = Future()
        with self._wake:
            self._check_open()
            self._calls.append((call, future))
            self._wake.notify()
        return future

    def close(self) -> None:
        with self._wake:
            self._is_closing = True
            self._wake.notify()

    def await_work(self) -> bool:
        """Sleep until there is something to do; False to end the thread."""
        with self._wake:
            while not (self._is_closing or self._under_way or self._calls):
                self._wake.wait()
            return not self._is_closing

    def make_calls(self) -> None:
        """Do what was asked of the loop's thread."""
        while self._calls:
            call, future = self._calls.popleft()
            if not future.set_running_or_notify_cancel():
                continue  # who asked did not wait so long
            try:
                future.set_result(call())
            except Exception as error:
                _logger.info("a call failed; its caller gets the error", exc_info=True)
                future.set_exception(error)

    def pop(self) -> Sequence | None:
        """The next to get a slot."""
        with self._wake:
            return self._waiting.pop(self.clock())

    def put_back(self, sequence: Sequence) -> None:
        """`sequence` gave up its row: it is the next of its class to get one."""
        with self._wake:
            if not sequence.is_done:
                self._waiting.put_back(sequence)

    def sweep(self) -> None:
        """End what was cancelled and what ran out of time."""
        with self._wake:
            cancelled = list(self._cancelled)
            self._cancelled.clear()
            expired = self._deadlines.expired(self.clock())
        for sequence in cancelled:
            self.end(sequence, Finish.CANCELLED, sequence.answer.rest())
        for sequence in expired:
            self.fail(sequence, DeadlineExceeded(sequence.request.deadline_s))

    def tell(self, sequence: Sequence, text: str) -> None:
        """Queue a chunk with `text`, if there is any."""
        if text:
            self._outbox.append((sequence.sink, sequence.chunk(text)))

    def fail(self, sequence: Sequence, error: ShoalError) -> None:
        """End `sequence` with `error`."""
        self.end(sequence, Finish.ERROR, sequence.answer.rest(), error)

    def end(self, sequence: Sequence, finish: Finish, text: str, error: ShoalError | None = None) -> None:
        """Queue the last chunk of `sequence`, once; its row goes with the next `compact`."""
        with self._wake:
            if sequence.is_done:
                return
            sequence.is_done = True
            del self._under_way[sequence.request.id]
            self._waiting.remove(sequence)
        final = sequence.final(finish, self.clock(), error)
        sequence.saved = None
        if finish is not Finish.ERROR:
            self._tally.finished(final.timings.prefill_s + final.timings.decode_s)
        self._outbox.append((sequence.sink, sequence.chunk(text, final)))

    def end_all(self) -> None:
        """Nobody submits any more: cancel what is left."""
        for sequence in list(self._under_way.values()):
            self.end(sequence, Finish.CANCELLED, sequence.answer.rest())
        while self._calls:
            _, future = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(EngineFailed(f"the engine of {self._limits.model} is closed"))

    def deliver(self) -> None:
        """Hand over what was queued."""
        outbox, self._outbox = self._outbox, []
        for sink, chunk in outbox:
            try:
                sink(chunk)
            except Exception:
                _logger.exception("a sink raised; its request goes on", extra={"model": self._limits.model})

    def _check_open(self) -> None:
        if self._is_closing:
            raise EngineFailed(f"the engine of {self._limits.model} is closed")

    def _is_full_for(self, priority: Priority) -> bool:
        """Whether one more is too many. Batch requests leave half of the queue to interactive ones."""
        queue = self._limits.queue_limit
        most = queue // 2 if priority is Priority.BATCH else queue
        return len(self._under_way) >= self._limits.slots + most
