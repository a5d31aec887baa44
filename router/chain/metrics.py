"""What chains count, by pool and reason; names of pools come from the settings, so the labels are closed sets."""

from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from router.chain.breaker import State
from router.chain.tried import Tried

By: TypeAlias = Literal["first", "other", "below_bar", "nobody", "broken", "left"]
"""Who answered a request: the first of its route, another one, one below the bar, nobody; or its answer broke off, or
its caller left."""

FIRST_CONTENT_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STATES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


class ChainMetrics:
    """Every metric of chains, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tries = Counter(
            "shoal_chain_tries",
            "Tries of a pool, by how they ended",
            ["pool", "reason"],
            registry=registry,
        )
        self.try_time = Counter(
            "shoal_chain_try_seconds",
            "Seconds that tries took",
            ["pool", "reason"],
            registry=registry,
        )
        self.cost = Counter(
            "shoal_chain_cost_usd", "What tries cost, by how they ended", ["pool", "reason"], registry=registry
        )
        self.first_content = Histogram(
            "shoal_chain_first_content_seconds",
            "From asking a pool to the first content that went out",
            ["pool"],
            buckets=FIRST_CONTENT_BUCKETS_S,
            registry=registry,
        )
        self.rejections = Counter(
            "shoal_chain_rejections", "Answers that the gate kept back, by check", ["pool", "check"], registry=registry
        )
        self.hedges = Counter("shoal_chain_hedges", "Second models asked beside the first", registry=registry)
        self.answers = Counter(
            "shoal_chain_answers",
            "Requests by who answered, or that nobody did",
            ["by"],
            registry=registry,
        )
        self.breaker_state = Gauge("shoal_breaker_state", "0 closed, 1 half-open, 2 open", ["pool"], registry=registry)
        self.breaker_changes = Counter(
            "shoal_breaker_changes",
            "Changes of breakers, by the new state",
            ["pool", "state"],
            registry=registry,
        )

    def observe(self, tried: Tried) -> None:
        """A try has ended."""
        self.tries.labels(tried.pool, tried.reason.value).inc()
        self.try_time.labels(tried.pool, tried.reason.value).inc(tried.wall_s)
        self.cost.labels(tried.pool, tried.reason.value).inc(max(0.0, tried.cost_usd))
        if tried.first_content_s is not None:
            self.first_content.labels(tried.pool).observe(tried.first_content_s)
        if tried.fault is not None:
            self.rejections.labels(tried.pool, tried.fault.check).inc()

    def moved(self, pool: str, state: State) -> None:
        """A breaker has a new state."""
        self.breaker_state.labels(pool).set(_STATES[state])
        self.breaker_changes.labels(pool, state.value).inc()
