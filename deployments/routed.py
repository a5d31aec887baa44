"""A call that several may answer: its way along the chain, and what may be told of it once somebody does.

Calls that one local model alone is for never come here: they go straight to its pool.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from replicas.engine import Chunk
from router.call import Call
from router.chain.backend import Asked
from router.chain.chain import Chain
from router.chain.failure import Reason
from router.chain.run import Run
from router.chain.tried import Tried
from router.journal.record import Record
from router.policy.decision import Decision
from router.policy.features import tokens_in


@dataclass
class Routed:
    """A call that is ready to go along its route. Its prompt is counted exactly only by whoever answers."""

    call: Call
    asked: Asked
    chain: Chain
    first: Decision
    record: Record | None = None
    _run: Run | None = field(default=None, init=False)

    @property
    def id(self) -> str:
        """The call's."""
        return self.call.id

    @property
    def prompt_tokens(self) -> int:
        """About how long the prompt is."""
        return tokens_in(self.call)

    @property
    def model(self) -> str | None:
        """Who answers; None before the first content."""
        return None if self._run is None else self._run.answered_by

    @property
    def decision(self) -> Decision:
        """What was decided, less those who have been tried in vain, each with how its last try ended."""
        found, last = self.first, {tried.pool: tried for tried in self.tries}
        for tried in last.values():
            if tried.reason is not Reason.ANSWERED and tried.pool != self.model:
                found = found.without(tried.pool, tried.why)
        return found

    @property
    def tries(self) -> Sequence[Tried]:
        """Those asked so far."""
        return () if self._run is None else self._run.tries

    async def chunks(self) -> AsyncGenerator[list[Chunk], None]:
        """The answer from its first content on, and empty lists while there is none for long. Raises ShoalErrors."""
        run = self._run = self.chain.run(self.asked)
        is_admitted = False
        async with aclosing(run.chunks()) as stream:
            async for chunks in stream:
                if chunks or is_admitted:
                    yield chunks
                is_admitted = True
