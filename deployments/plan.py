"""What to deploy, as plain frozen data: the settings tree turned into the smallest pieces each process needs.

A plan is pickled into every deployment; it holds no secrets, only names and numbers.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from replicas.cloud.endpoint import Endpoint
from replicas.cloud.release import CloudKind
from replicas.engine import Determinism
from replicas.slot.start.sizing import MOST_SLOTS
from router.budget import Budget
from router.experiments.experiment import Experiment
from router.journal.archive import Retention
from router.policy.candidate import Candidate
from router.policy.rule import Routing
from router.prices import Price
from router.store.address import StoreAddress

APP_NAME = "shoal"
ASSUMED_SLOTS = 16
"""Of an engine that chooses for itself: a pool grows past so many generations a replica."""

EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How a replica builds its engine. None leaves the choice to the engine."""

    kind: Literal["slot", "paged", "echo"] = "slot"
    slots: int | None = None
    context_tokens: int | None = None
    threads: int | None = None
    prefill_chunk_tokens: int | None = None
    queue_limit: int = 64
    provider: str | None = None
    echo_delay_s: float = 0.0
    is_spinning: bool = True
    determinism: Determinism = "strict"
    speculation: bool = False
    cache_bytes: int | None = None
    stall_ratio: float = 1.8

    @property
    def assumed_slots(self) -> int:
        """The slots that scaling counts with, before an engine has said how many it has."""
        return self.slots or ASSUMED_SLOTS

    @property
    def most_slots(self) -> int:
        """The slots that admission counts with: no engine chooses more for itself."""
        return self.slots or MOST_SLOTS


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """One model on one kind of node: replicas are pinned to nodes that carry the resource `shoal_<node>`."""

    model: str
    path: Path
    engine: EnginePlan
    display_name: str = ""
    created_at: datetime = EPOCH
    context_tokens: int = 4096
    aliases: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()  # LoRA adapters beside the model, by name
    tool_adapter: str | None = None  # the one for requests that bring tools
    node: Literal["cpu", "gpu"] = "cpu"
    min_replicas: int = 1
    max_replicas: int = 1
    cpus_per_replica: float = 1.0
    calibrations: Path | None = None  # where the engine keeps what it measured; None: it measures nothing
    memory_share: float = 1.0  # the part of its machine's memory that a replica may choose its sizes by
    drain_s: float = 600.0  # a replica that is scaled away may finish its answers

    @property
    def deployment(self) -> str:
        """The name of its Serve deployment."""
        return f"OnnxPool-{self.model}-{self.node}"

    @property
    def request_limit(self) -> int:
        """Requests that the pool takes before it refuses: what runs plus what waits, at its largest."""
        return self.max_replicas * (self.engine.most_slots + self.engine.queue_limit)


@dataclass(frozen=True, slots=True)
class HttpPlan:
    """The edge: bounds that hold for each request."""

    host: str = "127.0.0.1"
    port: int = 8000
    body_limit_bytes: int = 4 * 1024 * 1024
    session_limit_bytes: int = 1025 * 1024 * 1024
    request_deadline_s: float = 600.0
    ping_interval_s: float = 10.0
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CloudPlan:
    """A cloud; its models are those candidates of the routing that have its name before a slash."""

    kind: CloudKind
    at: Endpoint


@dataclass(frozen=True, slots=True)
class AppPlan:
    """The whole application. `routing` None: the pools alone, by the ready-made policy."""

    pools: tuple[PoolPlan, ...]
    default_model: str
    http: HttpPlan = HttpPlan()
    store: StoreAddress | None = None  # None: no keys, and nothing is written
    routing: Routing | None = None
    clouds: tuple[CloudPlan, ...] = ()
    budgets: tuple[Budget, ...] = ()
    baseline: Price | None = None  # what savings are counted against
    experiments: tuple[Experiment, ...] = ()
    journal: Retention | None = None  # None: decisions are not kept

    @property
    def routes(self) -> Routing:
        """Who may answer, and by which rules."""
        if self.routing is not None:
            return self.routing
        pools = sorted(self.pools, key=lambda pool: self.default_model not in (pool.model, *pool.aliases))
        return Routing(tuple(Candidate(p.model, True, p.aliases, p.context_tokens) for p in pools))

    def pool(self, model: str) -> PoolPlan:
        """The pool that serves `model` (a resolved name: it is there, or it is our bug)."""
        return next(pool for pool in self.pools if pool.model == model)
