"""A call that is ready to run in a local pool."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TypeAlias

from deployments.plan import PoolPlan
from replicas.engine import Chunk, Generation
from replicas.errors import InvalidRequest
from replicas.tools.reader import CallReader
from router.chain.tried import Tried
from router.journal.record import Record
from router.origin import NOBODY, Origin
from router.policy.decision import Decision


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that is ready to run: which pool and why, and the generation with its prompt as token ids."""

    pool: PoolPlan
    generation: Generation
    reader: Callable[[], CallReader | None] = lambda: None  # a new one for each run
    blamed: Callable[[InvalidRequest], InvalidRequest] = lambda refusal: refusal  # in words about what was sent
    decision: Decision | None = None  # None: what is asked can be done by one pool alone
    origin: Origin = NOBODY
    record: Record | None = None  # None: the decision is another one's, of which this is a part

    @property
    def id(self) -> str:
        """The call's."""
        return self.generation.id

    @property
    def model(self) -> str:
        """Who answers."""
        return self.pool.model

    @property
    def prompt_tokens(self) -> int:
        """How long the prompt is."""
        return len(self.generation.prompt)

    @property
    def tries(self) -> tuple[Tried, ...]:
        """None: there is one pool to ask."""
        return ()


Run: TypeAlias = Callable[[Prepared], AsyncGenerator[list[Chunk], None]]
"""Runs what is prepared, on whatever conditions the caller has."""
