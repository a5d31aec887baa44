"""Continuous batching: one thread owns the model and repeats one step.

A step sweeps out what was cancelled or ran out of time, decodes all active rows, writes what a grammar dictated, and
spends what is left of a token budget on the next prompt, so a long prompt never holds up running streams for long.
Chunks go out at the end of the step, when the slots of finished requests are free already. Which model runs is behind
`Passes`: SlotEngine and EchoEngine share everything here.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from replicas.errors import EngineFailed
from replicas.slot.request.sequence import Sequence
from replicas.slot.step.decoding import Decoding
from replicas.slot.step.extending import Extending
from replicas.slot.step.memory import NoPrefixes, Prefixes, RowMemory
from replicas.slot.step.pace import LEAST, Pace
from replicas.slot.step.passes import Extension, Passes
from replicas.slot.step.prefilling import Prefilling
from replicas.slot.step.requests import Call, LoopLimits, Requests
from replicas.slot.step.rows import Rows
from replicas.slot.step.tally import Tally
from replicas.slot.step.work import Work

_logger = logging.getLogger(__name__)

STUCK_S = 300.0
"""A step that takes longer is taken for a run of the model that never returns: the replica should be replaced."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a loop drives. `extension` None: no grammars and no drafts. `release` is called at the very end."""

    passes: Passes
    memory: RowMemory
    prefixes: Prefixes = field(default_factory=NoPrefixes)
    extension: Extension | None = None
    is_drafting: bool = False
    release: Callable[[], None] = lambda: None


class Loop:
    """Runs `machine` for everyone who submits."""

    def __init__(self, machine: Machine, limits: LoopLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._release = machine.release
        self.tally = Tally(limits.slots)
        self._requests = Requests(limits, self.tally, clock)
        self.rows = Rows(limits.slots, machine.memory)
        pace = Pace(limits.prefill_chunk, limits.stall_ratio)
        work = Work(limits, self._requests, self.rows, machine.memory, machine.prefixes, self.tally, pace)
        self._work = work
        self._decoding = Decoding(work, machine.passes)
        self._prefilling = Prefilling(work, machine.passes)
        self._extending: Extending | None = None
        if machine.extension is not None:
            self._extending = Extending(work, machine.extension, is_drafting=machine.is_drafting)
        self._step_began_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"shoal-{limits.model}", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        return self._requests.queued

    @property
    def is_healthy(self) -> bool:
        """False once two runs of the model in a row failed, until one works again, and while one does not return."""
        began_s = self._step_began_s
        is_stuck = began_s is not None and self._clock() - began_s > STUCK_S
        return self._work.failures_in_a_row < 2 and not is_stuck

    def is_adapter_used(self, name: str) -> bool:
        """Whether a request for an adapter is under way."""
        return self._requests.has_adapter(name)

    def submit(self, sequence: Sequence) -> None:
        """Queue `sequence`. Raises InvalidRequest (its id is under way), Overloaded, EngineFailed (closed)."""
        self._requests.submit(sequence)

    def cancel(self, sequence: Sequence) -> None:
        self._requests.cancel(sequence)

    def call(self, call: Call) -> Future[object]:
        """Have `call` made between two steps, on the loop's thread. Raises EngineFailed (closed)."""
        return self._requests.call(call)

    def close(self) -> None:
        """Cancel everything and wait for the thread, unless called on it."""
        self._requests.close()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while self._requests.await_work():
            self._step_began_s = self._clock()
            try:
                self._step()
            except Exception as error:
                # A bug of ours or a move that failed: the rows cannot be trusted, the queue can.
                _logger.exception("engine step failed", extra={"model": self._limits.model})
                self._restart(self.rows.clear() or self._first_waiting(), error)
            self._requests.deliver()
            self._step_began_s = None
        self._requests.end_all()
        self.rows.clear()
        self._requests.deliver()
        self._release()

    def _step(self) -> None:
        work = self._work
        self._requests.make_calls()
        self._requests.sweep()
        self.rows.compact()
        self.rows.sort()
        self._decoding.step()
        self.rows.compact()
        budget = self._budget()
        if self._extending is not None:
            left = self._extending.step(max(LEAST, budget))
            budget = max(LEAST, left) if budget else 0  # runs do not keep prompts waiting for good
            self.rows.compact()
        self._prefilling.step(budget)
        self.rows.compact()
        work.tally.steps += 1

    def _budget(self) -> int:
        """Tokens of prompts and of runs for this step."""
        rows, requests = self.rows, self._requests
        streaming = sum(not sequence.is_batch for sequence in rows.active)
        is_reading = rows.filling is not None and not rows.filling.is_batch
        return self._work.pace.budget(streaming=streaming, prompts=requests.interactive_waiting + is_reading)

    def _first_waiting(self) -> list[Sequence]:
        """Steps must not fail for ever: where nobody has a row, the next to get one pays."""
        sequence = self._requests.pop()
        return [] if sequence is None else [sequence]

    def _restart(self, sequences: list[Sequence], error: Exception) -> None:
        """What was in the rows begins again, once; who fails twice is to blame or has bad luck: it gets the error."""
        self._work.failures_in_a_row += 1
        sequences.sort(key=lambda sequence: sequence.submitted_s)
        for sequence in reversed(sequences):  # each is put back before the one behind it
            if sequence.is_done:
                continue
            sequence.restarts += 1
            sequence.saved = None
            sequence.unseat()
            if sequence.restarts > 1:
                self._requests.fail(sequence, EngineFailed(str(error)))
            else:
                self.tally.restarts += 1
                self._requests.put_back(sequence)
