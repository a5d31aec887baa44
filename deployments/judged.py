"""A backend whose answers another model judges: what the verdicts on an answer cost is a part of what it costs."""

from collections.abc import AsyncGenerator

from replicas.engine import Chunk
from router.chain.backend import Backend


class JudgedBackend:
    """`backend`, with what the verdicts on its last answer have cost."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._verdicts_usd = 0.0

    def ask(self, left_s: float) -> AsyncGenerator[list[Chunk], None]:
        """Its answer. Raises ShoalErrors."""
        self._verdicts_usd = 0.0
        return self._backend.ask(left_s)

    def judged(self, cost_usd: float) -> None:
        """A verdict on the answer has cost so much."""
        self._verdicts_usd += cost_usd

    def spent_usd(self) -> float:
        """What the last ask has cost, and its verdicts."""
        return self._backend.spent_usd() + self._verdicts_usd
