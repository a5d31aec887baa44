"""What all requests of a process share: the breakers of the pools, the metrics, clock and chance."""

import logging
import random
import time
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from router.chain.backend import Asked
from router.chain.breaker import Breaker, Limits, State
from router.chain.lane import Race
from router.chain.metrics import ChainMetrics
from router.chain.run import Run

logger = logging.getLogger(__name__)


class Chain:
    """Runs requests along their links. Lives on one event loop, whose timers `clock` should agree with."""

    def __init__(
        self,
        registry: CollectorRegistry,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self.metrics = ChainMetrics(registry)
        self.clock = clock
        self.chance = chance or random.Random()  # noqa: S311 - spreads waits
        self.breakers: dict[str, Breaker] = {}
        self._limits = limits or Limits()

    def run(self, asked: Asked) -> Run:
        """One request, of which nothing is asked yet; its deadline counts from now."""
        assert asked.links, "somebody must be there to ask"
        ends_at_s = self.clock() + asked.deadline_s
        observe = self.metrics.observe
        race = Race(deque(asked.links), asked.retries, ends_at_s, self.clock, self.chance, self.breaker, observe)
        return Run(asked, race, self.metrics)

    def breaker(self, pool: str) -> Breaker:
        """The breaker of `pool`."""
        found = self.breakers.get(pool)
        if found is None:
            found = self.breakers[pool] = Breaker(pool, self._limits, self.clock, self.chance, self._moved)
            self.metrics.breaker_state.labels(pool).set(0)
        return found

    def _moved(self, pool: str, state: State) -> None:
        logger.warning("the breaker of %s is %s", pool, state.value)
        self.metrics.moved(pool, state)
