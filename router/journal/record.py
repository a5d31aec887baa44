"""Follows the answer to one decision to its end, and says what came of it.

It passes chunks on as they come and only counts them. However the answer ends, by itself, in an error or because its
reader goes away, its end is told once, when whoever made it has closed.
"""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from replicas.engine import Chunk, Final
from replicas.errors import ShoalError
from router.budget.money import nano_of
from router.call import Call
from router.chain.failure import Reason, failed, reading
from router.chain.tried import Tried
from router.journal.entry import Outcome, Result, Try
from router.policy.decision import Decision


class Work(Protocol):
    """An answer under way."""

    @property
    def model(self) -> str | None:
        """Who answers; None before the first content, where there are several to ask."""
        ...

    @property
    def tries(self) -> Sequence[Tried]:
        """Those asked so far, where there are several to ask."""
        ...


@dataclass(frozen=True, slots=True)
class Made:
    """A decision as it was made, at seconds since 1970, with the state of the budget then."""

    call: Call
    decision: Decision
    budget: str
    at: float


class Record:
    """Of the decision `made`; `told` hears what came of it. Its times count from now."""

    def __init__(
        self, made: Made, told: Callable[[Made, Result], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._made = made
        self._told = told
        self._clock = clock
        self._began_s = clock()
        self._first_s: float | None = None
        self._final: Final | None = None
        self._error: BaseException | None = None
        self._generated = 0

    async def follow(self, work: Work, chunks: AsyncGenerator[list[Chunk], None]) -> AsyncGenerator[list[Chunk], None]:
        """`chunks` of `work`, as they come. Once only."""
        try:
            async with aclosing(chunks) as stream:
                async for some in stream:
                    self._count(some)
                    yield some
        except Exception as error:
            self._error = error
            raise
        finally:
            self._told(self._made, self._result(work))

    def _count(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            self._generated += chunk.tokens
            self._final = self._final or chunk.final
        if chunks and self._first_s is None and (self._final is None or failed(self._final) is None):
            self._first_s = self._clock() - self._began_s

    def _result(self, work: Work) -> Result:
        final, who = self._final, work.model or ""
        outcome, reason = self._end(work, who)
        usage = None if final is None else final.usage
        return Result(
            outcome=outcome,
            answered_by="" if self._first_s is None else who,
            reason=reason,
            tries=tuple(map(_try, work.tries)) or (Try(who, self._alone().value),),
            prompt=0 if usage is None else usage.prompt,
            cached=0 if usage is None else usage.cached,
            generated=self._generated if usage is None else usage.generated,
            latency_s=self._clock() - self._began_s,
            ttft_s=self._first_s,
            cost_nano=nano_of(sum(tried.cost_usd for tried in work.tries)),
            mean_logprob=None if final is None else final.mean_logprob,
            min_logprob=None if final is None else final.min_logprob,
        )

    def _end(self, work: Work, who: str) -> tuple[Outcome, str]:
        error = self._broken
        if error is not None:
            return Outcome.FAILED, type(error).__name__
        if self._final is None:
            return Outcome.LEFT, ""
        faults = [one.fault.check for one in work.tries if one.fault is not None and one.pool == who]
        return (Outcome.BELOW_BAR, faults[0]) if faults else (Outcome.ANSWERED, "")

    def _alone(self) -> Reason:
        """How the only try ended, of an answer that one model alone was asked for."""
        error = self._broken
        if error is None:
            return Reason.LEFT if self._final is None else Reason.ANSWERED
        return reading(error).reason if isinstance(error, ShoalError) else Reason.BROKEN

    @property
    def _broken(self) -> BaseException | None:
        """What the answer failed with."""
        return self._error or (None if self._final is None else failed(self._final))


def _try(tried: Tried) -> Try:
    return Try(tried.pool, tried.reason.value, "" if tried.fault is None else tried.fault.check)
