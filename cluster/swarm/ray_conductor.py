"""The conductor as a Ray actor, and the port to it.

One detached actor per Ray cluster: it ends with the instance, not with whoever asked for it first. Ray restarts it
as often as it dies, and its constructor takes up what the journal holds. It stays on the head node, where the journal's
file is. Every method of the port may be sent twice, so the port does that while the actor restarts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import ray
from prometheus_client.metrics_core import Metric
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from cluster.swarm.answerer import Connect
from cluster.swarm.conductor import Conductor
from cluster.swarm.event import Event, EventBatch
from cluster.swarm.job_view import JobView
from cluster.swarm.journal import Journal
from cluster.swarm.limits import Limits
from cluster.swarm.owner import NOBODY, Owner
from cluster.swarm.ray_launcher import RayLauncher
from cluster.swarm.spec import SwarmSpec
from replicas.errors import ShoalError, Unavailable

log = logging.getLogger(__name__)

NAMESPACE = "shoal"
NAME = "conductor"
HEAD_NODE = "node:__internal_head__"  # Ray gives it to the head node alone
ANSWER_S = 30.0  # for an answer that waits for nothing; covers a restart of the actor
AGAIN_S = 0.25

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConductorPlan:
    """What the actor is made from. `connect` makes each shard's answerer and crosses processes."""

    journal_path: Path
    connect: Connect
    limits: Limits = field(default_factory=Limits)


class ConductorActor:
    """The actor's shell. Reports of many shards and many waiting readers are under way at once."""

    async def __init__(self, plan: ConductorPlan) -> None:  # type: ignore[misc]  # Ray awaits it for async actors
        self._launcher = RayLauncher(ray.get_runtime_context().current_actor, plan.connect)
        self._conductor = Conductor(Journal(plan.journal_path), self._launcher, plan.limits)
        await self._conductor.start()

    async def submit(self, job_id: str, spec: SwarmSpec, owner: Owner = NOBODY) -> JobView:
        return await self._conductor.submit(job_id, spec, owner)

    async def cancel(self, job_id: str) -> JobView:
        return await self._conductor.cancel(job_id)

    async def job(self, job_id: str, wait_s: float) -> JobView:
        return await self._conductor.job(job_id, wait_s)

    async def jobs(self) -> list[JobView]:
        return await self._conductor.jobs()

    async def events(self, job_id: str, after: int, wait_s: float) -> EventBatch:
        return await self._conductor.events(job_id, after, wait_s)

    async def metrics(self) -> list[Metric]:
        return self._launcher.metrics.families()

    async def deliver(self, shard_id: str, number: int, events: Sequence[Event]) -> bool:
        return await self._launcher.deliver(shard_id, number, events)


def conductor_handle(plan: ConductorPlan) -> ActorHandle[ConductorActor]:
    """The cluster's conductor, made from `plan` if there is none yet. Blocks for about a second."""
    actor = ray.remote(ConductorActor).options(
        name=NAME,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        max_concurrency=2000,  # readers wait inside; the conductor's own bound on them is lower
        num_cpus=0,
        resources={HEAD_NODE: 0.001},
    )
    return cast("ActorHandle[ConductorActor]", actor.remote(plan))


class RayConductor:
    """The port of the cluster. Makes the actor at the first call; every call has a deadline."""

    def __init__(self, plan: ConductorPlan, answer_s: float = ANSWER_S) -> None:
        self._plan = plan
        self._answer_s = answer_s
        self._handle: ActorHandle[ConductorActor] | None = None
        self._opening = asyncio.Lock()

    async def submit(self, job_id: str, spec: SwarmSpec, owner: Owner = NOBODY) -> JobView:
        """See JobDesk."""
        return await self._ask(lambda conductor: conductor.submit.remote(job_id, spec, owner))

    async def cancel(self, job_id: str) -> JobView:
        """See JobDesk."""
        return await self._ask(lambda conductor: conductor.cancel.remote(job_id))

    async def job(self, job_id: str, wait_s: float = 0.0) -> JobView:
        """See JobWindow."""
        return await self._ask(lambda conductor: conductor.job.remote(job_id, wait_s), wait_s)

    async def jobs(self) -> list[JobView]:
        """See JobWindow."""
        return await self._ask(lambda conductor: conductor.jobs.remote())

    async def events(self, job_id: str, after: int, wait_s: float) -> EventBatch:
        """See JobWindow."""
        return await self._ask(lambda conductor: conductor.events.remote(job_id, after, wait_s), wait_s)

    async def metrics(self) -> list[Metric]:
        """What the shards have counted that have ended."""
        return await self._ask(lambda conductor: conductor.metrics.remote())

    async def _ask(self, call: Callable[[ActorHandle[ConductorActor]], Awaitable[T]], wait_s: float = 0.0) -> T:
        lost: RayError | None = None
        try:
            async with asyncio.timeout(self._answer_s + wait_s):
                while True:
                    try:
                        return await call(await self._opened())
                    except RayTaskError as error:
                        raise _cause(error) from None
                    except RayError as error:
                        lost = error
                        self._handle = None
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            log.warning("the conductor gave no answer: %s", lost)
            raise Unavailable("the swarm conductor", "it restarts by itself: try again in some seconds") from None

    async def _opened(self) -> ActorHandle[ConductorActor]:
        async with self._opening:
            if self._handle is None:
                self._handle = await asyncio.to_thread(conductor_handle, self._plan)
            return self._handle


def _cause(error: RayTaskError) -> ShoalError:
    cause = error.cause
    if isinstance(cause, ShoalError):
        return cause
    log.error("the conductor failed: %s", cause)
    return ShoalError("internal error: the log of the conductor says more")
