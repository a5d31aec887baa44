"""Continuous batching: one thread owns the model and repeats one step.

A step sweeps out what was cancelled or ran out of time, decodes all active rows in one call, and spends what is left
of a token budget on the next prompt, so a long prompt never holds up running streams for long. Chunks go out at the
end of the step, when the slots of finished requests are free already. Which model runs is behind `Passes`: SlotEngine
and EchoEngine share everything here.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from replicas.engine import Chunk, Finish, Priority, Sink
from replicas.errors import DeadlineExceeded, EngineFailed, InvalidRequest, Overloaded, ShoalError
from replicas.slot.deadlines import Deadlines
from replicas.slot.rows import Rows
from replicas.slot.sampler import Choice
from replicas.slot.sequence import Sequence
from replicas.slot.tally import Tally
from replicas.slot.waiting import Waiting

_logger = logging.getLogger(__name__)


class Passes(Protocol):
    """A model that chooses tokens for rows. Called by the loop's thread alone."""

    def prefill(self, row: int, sequence: Sequence, tokens: int) -> Choice | None:
        """Put the next `tokens` of the prompt into `row`; the first new token if that was all of it."""
        ...

    def decode(self, sequences: list[Sequence]) -> list[Choice]:
        """Append each sequence's last token to its row (its place in the list) and choose the next."""
        ...

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` positions of a row over another."""
        ...


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Sizes of a loop. `model` names it in errors and in the thread's name."""

    model: str
    slots: int
    prefill_chunk: int
    queue_limit: int


class Loop:
    """Runs `passes` for everyone who submits. `release` is called on its thread at the very end."""

    def __init__(
        self,
        passes: Passes,
        limits: LoopLimits,
        *,
        release: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._passes = passes
        self._limits = limits
        self._release = release
        self._clock = clock
        self._wake = threading.Condition()  # guards the next five
        self._waiting = Waiting()
        self._under_way: dict[str, Sequence] = {}
        self._cancelled: deque[Sequence] = deque()
        self._deadlines = Deadlines()
        self._is_closing = False
        self._outbox: list[tuple[Sink, Chunk]] = []
        self._failures_in_a_row = 0
        self.rows = Rows(limits.slots, passes.move)
        self.tally = Tally(limits.slots)
        self._thread = threading.Thread(target=self._run, name=f"shoal-{limits.model}", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def is_healthy(self) -> bool:
        """False once two runs of the model in a row failed, until one works again."""
        return self._failures_in_a_row < 2

    def submit(self, sequence: Sequence) -> None:
        """Queue `sequence`. Raises InvalidRequest (its id is under way), Overloaded, EngineFailed (closed)."""
        id_ = sequence.request.id
        with self._wake:
            if self._is_closing:
                raise EngineFailed(f"the engine of {self._limits.model} is closed")
            if id_ in self._under_way:
                raise InvalidRequest(f"a request with the id {id_!r} is under way; ids are unique", "id")
            if self._is_full_for(sequence.request.priority):
                raise Overloaded(self._limits.model, self.tally.retry_after_s(len(self._waiting)))
            sequence.submit(self._clock())
            self._under_way[id_] = sequence
            self._waiting.put(sequence)
            self._deadlines.put(sequence)
            self._wake.notify()

    def _is_full_for(self, priority: Priority) -> bool:
        """Whether one more is too many. Batch requests leave half of the queue to interactive ones."""
        queue = self._limits.queue_limit
        most = queue // 2 if priority is Priority.BATCH else queue
        return len(self._under_way) >= self._limits.slots + most

    def cancel(self, sequence: Sequence) -> None:
        with self._wake:
            if not sequence.is_done:
                self._cancelled.append(sequence)
                self._wake.notify()

    def close(self) -> None:
        """Cancel everything and wait for the thread, unless called on it."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while self._await_work():
            try:
                self._step()
            except Exception as error:
                # A bug of ours or a move that failed: the rows cannot be trusted, the queue can.
                _logger.exception("engine step failed", extra={"model": self._limits.model})
                self._fail(self.rows.clear(), error)
            self._deliver()
        for sequence in list(self._under_way.values()):  # nobody submits any more
            self._end(sequence, Finish.CANCELLED, sequence.answer.rest())
        self.rows.clear()
        self._deliver()
        self._release()

    def _await_work(self) -> bool:
        """Sleep until there is something to do; False to end the thread."""
        with self._wake:
            while not (self._is_closing or self._under_way):
                self._wake.wait()
            return not self._is_closing

    def _step(self) -> None:
        self._sweep()
        self.rows.compact()
        self._decode()
        self.rows.compact()
        self._prefill()
        self.rows.compact()
        self.tally.steps += 1

    def _sweep(self) -> None:
        with self._wake:
            cancelled = list(self._cancelled)
            self._cancelled.clear()
            expired = self._deadlines.expired(self._clock())
        for sequence in cancelled:
            self._end(sequence, Finish.CANCELLED, sequence.answer.rest())
        for sequence in expired:
            error = DeadlineExceeded(sequence.request.deadline_s)
            self._end(sequence, Finish.ERROR, sequence.answer.rest(), error)

    def _decode(self) -> None:
        active = self.rows.active
        if not active:
            return
        try:
            choices = self._passes.decode(active)
        except Exception as error:
            _logger.exception("decode failed", extra={"model": self._limits.model, "rows": len(active)})
            self._fail(active, error)
            return
        self._failures_in_a_row = 0
        self.tally.decoded(len(active))
        now_s = self._clock()
        for sequence, choice in zip(active, choices, strict=True):
            sequence.length += 1
            self._take(sequence, choice, now_s)

    def _prefill(self) -> None:
        budget = max(2, self._limits.prefill_chunk - len(self.rows.active))
        while budget >= 2:
            if self.rows.has_room:
                self._admit()
            sequence = self.rows.filling
            if sequence is None:
                return
            tokens = next_chunk(len(sequence.prompt) - sequence.length, budget)
            budget -= tokens
            self._prefill_chunk(sequence, tokens)

    def _admit(self) -> None:
        with self._wake:
            sequence = self._waiting.pop()
        if sequence is not None:
            sequence.begin_prefill(self._clock())
            self.rows.begin(sequence)

    def _prefill_chunk(self, sequence: Sequence, tokens: int) -> None:
        try:
            choice = self._passes.prefill(self.rows.filling_row, sequence, tokens)
        except Exception as error:
            _logger.exception("prefill failed", extra={"model": self._limits.model, "tokens": tokens})
            self._fail([sequence], error)
        else:
            self._failures_in_a_row = 0
            sequence.length += tokens
            self.tally.prompt_tokens += tokens
            if choice is None:
                return
            self._take(sequence, choice, self._clock())
        if sequence.is_done:
            self.rows.compact()
        else:
            self.rows.activate()

    def _take(self, sequence: Sequence, choice: Choice, now_s: float) -> None:
        if math.isnan(choice.logprob):
            error = EngineFailed("the model's output is not a number")
            self._end(sequence, Finish.ERROR, sequence.answer.rest(), error)
            return
        text, finish = sequence.take(choice.token, choice.logprob, now_s)
        self.tally.generated_tokens += 1
        if finish is not None:
            self._end(sequence, finish, text)
        elif text:
            self._outbox.append((sequence.sink, sequence.chunk(text)))

    def _fail(self, sequences: list[Sequence], error: Exception) -> None:
        self._failures_in_a_row += 1
        for sequence in sequences:
            self._end(sequence, Finish.ERROR, sequence.answer.rest(), EngineFailed(str(error)))

    def _end(self, sequence: Sequence, finish: Finish, text: str, error: ShoalError | None = None) -> None:
        """Queue the last chunk of `sequence`, once; its row goes with the next `compact`."""
        with self._wake:
            if sequence.is_done:
                return
            sequence.is_done = True
            del self._under_way[sequence.request.id]
            self._waiting.remove(sequence)
        final = sequence.final(finish, self._clock(), error)
        if finish is not Finish.ERROR:
            self.tally.finished(final.timings.prefill_s + final.timings.decode_s)
        self._outbox.append((sequence.sink, sequence.chunk(text, final)))

    def _deliver(self) -> None:
        outbox, self._outbox = self._outbox, []
        for sink, chunk in outbox:
            try:
                sink(chunk)
            except Exception:
                _logger.exception("a sink raised; its request goes on", extra={"model": self._limits.model})


def next_chunk(remaining: int, budget: int) -> int:
    """How many of a prompt's `remaining` tokens to prefill now: about `budget`, never one and never all but one.

    A chunk of one token takes another attention kernel, whose results differ in the last bits: how a prompt is cut
    would show. Only a prompt of one token is prefilled by one; it always is. At most max(budget, 3).
    """
    if remaining <= max(budget, 3):
        return remaining
    return budget if remaining - budget != 1 else max(2, budget - 1)
