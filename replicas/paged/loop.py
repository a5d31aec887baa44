"""One step, repeated on the thread that owns the model's turns: sweep, end, admit, run, deliver.

The queue, its bounds, deadlines and cancelling are the slot engine's own (`Requests`); batching is the model's. A turn
that is over holds its memory until it is ended here, so that comes first. Once the model reports that it is broken it
stays so: all get the error, those that come later too, and the engine is unhealthy until its replica is replaced.
"""

import logging
import threading
import time
from collections.abc import Callable

from replicas.engine import Finish
from replicas.errors import EngineFailed
from replicas.paged.genai import Event, Refused, Turn, Turns
from replicas.slot.request.choice import Choice
from replicas.slot.request.record import Record
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.loop import STUCK_S
from replicas.slot.step.requests import LoopLimits, Requests
from replicas.slot.step.tally import Tally

_logger = logging.getLogger(__name__)

_SEED_MASK = 2**64 - 1
_BLOCKED_S = 0.002  # between two steps that did nothing: every turn waits for room in the KV cache


class Unscored(Record):
    """A record without log-probabilities: GenAI does not tell them."""

    @property
    def mean_logprob(self) -> float | None:
        return None

    @property
    def min_logprob(self) -> float | None:
        return None


class PagedLoop:
    """Runs `turns` for everyone who submits, on the thread that calls `run`. `release` is called at the very end."""

    def __init__(
        self,
        turns: Turns,
        limits: LoopLimits,
        *,
        is_seedable: bool,
        release: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._turns = turns
        self._limits = limits
        self._is_seedable = is_seedable
        self._release = release
        self._clock = clock
        self.tally = Tally(limits.slots)
        self._requests = Requests(limits, self.tally, clock)
        self._running: dict[int, Sequence] = {}
        self._broken: str | None = None  # why
        self._step_began_s: float | None = None
        self._blocked = threading.Event()  # never set: a wait that needs no clock

    @property
    def queued(self) -> int:
        return self._requests.queued

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def tokens(self) -> int:
        """Tokens of the turns that run. A thread other than the loop's gets a recent value."""
        return sum(len(sequence.tokens) for sequence in list(self._running.values()))

    @property
    def is_healthy(self) -> bool:
        """False once the model broke, and while a step does not return."""
        began_s = self._step_began_s
        return self._broken is None and not (began_s is not None and self._clock() - began_s > STUCK_S)

    def submit(self, sequence: Sequence) -> None:
        """Queue `sequence`. Raises InvalidRequest (its id is under way), Overloaded, EngineFailed (closed, broken)."""
        if self._broken is not None:
            raise EngineFailed(self._broken)
        sequence.record = Unscored()
        self._requests.submit(sequence)

    def cancel(self, sequence: Sequence) -> None:
        self._requests.cancel(sequence)

    def close(self) -> None:
        """Have `run` cancel everything and return."""
        self._requests.close()

    def run(self) -> None:
        """Serve until `close`."""
        while self._requests.await_work():
            self._step_began_s = self._clock()
            try:
                self._step()
            except Exception as error:
                _logger.exception("engine broken", extra={"model": self._limits.model})
                self._broken = error.reason if isinstance(error, EngineFailed) else str(error)
                self._fail_all(self._broken)
            self._requests.deliver()
            self._step_began_s = None
        self._requests.end_all()
        if self._broken is None:
            self._end_done()
        self._requests.deliver()
        self._release()

    def _step(self) -> None:
        self._requests.sweep()
        if self._broken is not None:
            self._fail_all(self._broken)
            return
        self._end_done()
        self._admit()
        if not self._running:
            return
        began_s = self._clock()
        events = self._turns.run()
        took_s = self._clock() - began_s
        self._count(events, took_s)
        for event in events:
            self._take(event)
        self._end_done()
        if not events and took_s < _BLOCKED_S:
            self._blocked.wait(_BLOCKED_S)

    def _admit(self) -> None:
        while len(self._running) < self._limits.slots:
            sequence = self._requests.pop()
            if sequence is None:
                return
            sequence.record.begun(self._clock())
            try:
                number = self._turns.begin(self._turn(sequence))
            except Exception as error:
                self._requests.fail(sequence, EngineFailed(str(error)))
                if not isinstance(error, Refused):
                    raise
            else:
                self._running[number] = sequence

    def _turn(self, sequence: Sequence) -> Turn:
        limit = sequence.answer.left
        seed = sequence.seed & _SEED_MASK if self._is_seedable else None
        return Turn(sequence.prompt, limit, sequence.sampling, seed, sequence.request.grammar)

    def _take(self, event: Event) -> None:
        sequence = self._running[event.turn]
        if sequence.is_done:
            return
        sequence.cached = event.cached  # told with the end
        self.tally.cached_tokens += event.cached
        text, finish = "", None
        if event.token is not None:
            self.tally.generated_tokens += 1
            text, finish = sequence.take(Choice(event.token, 0.0), self._clock())
        if event.ending == "failed":
            self._requests.fail(sequence, EngineFailed(f"GenAI reports {event.error}"))
        elif finish is None and event.ending is not None:
            self._finish(sequence, event, text)
        elif finish is not None:
            self._requests.end(sequence, finish, text)
        else:
            self._requests.tell(sequence, text)

    def _finish(self, sequence: Sequence, event: Event, text: str) -> None:
        """The model ended the turn; the answer would have gone on."""
        rest, finish = sequence.answer.end(text)
        endings = {"length": Finish.LENGTH, "cancelled": Finish.CANCELLED}
        self._requests.end(sequence, endings.get(event.ending or "", finish), rest)

    def _count(self, events: list[Event], seconds: float) -> None:
        """Note a step. The first token of a turn comes from its prompt, the others from decoding."""
        self.tally.steps += 1
        first = [self._running[event.turn] for event in events if not self._running[event.turn].generated]
        for sequence in first:
            self.tally.prefilled(len(sequence.prompt), 0.0)
        decoded = len({event.turn for event in events}) - len(first)
        if first:
            self.tally.prefill_s += seconds
        if decoded:
            self.tally.decoded(decoded, 0.0 if first else seconds)

    def _end_done(self) -> None:
        """Free what finished, cancelled and expired requests hold."""
        done = [number for number, sequence in self._running.items() if sequence.is_done]
        for number in done:
            del self._running[number]
            self._turns.end(number)

    def _fail_all(self, reason: str) -> None:
        """Nothing works any more: those that run and those that wait get an error each."""
        for sequence in self._running.values():
            self._requests.fail(sequence, EngineFailed(reason))
        self._running.clear()
        while (waiting := self._requests.pop()) is not None:
            self._requests.fail(waiting, EngineFailed(reason))
