"""`OnnxPool`: one Serve deployment per model and kind of node. A shell round `replica.PoolReplica`.

Replicas are pinned by the resource `shoal_cpu` or `shoal_gpu` that nodes are started with. Every generation is one
open call (see `replica`), admitted together with its neighbours through `@serve.batch`.
"""

from collections.abc import AsyncIterator

from prometheus_client.metrics_core import Metric
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

from deployments.adapter_loading import AdapterLoading
from deployments.engines import build_engine, warm_up_generation
from deployments.outbox import WireChunk
from deployments.plan import PoolPlan
from deployments.replica import Admission, PoolReplica, Ticket, warm_up
from deployments.replica_metrics import ReplicaMetrics
from deployments.replica_watch import Target
from deployments.session_transfer import Saved, SessionTransfers, returned
from replicas.engine import EngineStats, Generation
from replicas.errors import EngineFailed, ShoalError

# Token streams and metric reads are calls too: room for this many clients beside the generations.
CLIENT_CALLS = 64
ROUTER = "deployments.replica_router.TargetedRouter"
PIN_SHARE = 0.001  # of a node's tag, per replica: the tag pins, it does not ration


class OnnxPool:
    """One replica. Methods are called through handles by `pool_client.PoolClient`."""

    def __init__(self, plan: PoolPlan) -> None:
        self._plan = plan
        self._id = serve.get_replica_context().replica_id.unique_id
        engine = build_engine(plan)
        self._replica = PoolReplica(engine, ReplicaMetrics(engine.stats))
        self._sessions = SessionTransfers(engine)
        self._adapters = AdapterLoading(engine, plan.path)
        self._is_warm = False

    async def check_health(self) -> None:
        """Serve calls this before it sends traffic and then every few seconds; it replaces a replica that raises."""
        if not self._is_warm:
            await warm_up(self._replica.engine, warm_up_generation())
            self._is_warm = True
        if not self._replica.stats().is_healthy:
            raise EngineFailed("runs of the model keep failing")

    async def generate(self, client_id: str, generation: Generation) -> ShoalError | None:
        """Returns when the last chunk is on the client's stream; an error is returned, not raised."""
        refused = await self._replica.prepare(generation)
        if refused is not None:
            return refused
        try:
            return await self._replica.finish(await self.admit(Admission(client_id, generation)))
        finally:
            self._replica.release(generation.id)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def admit(self, batch: list[Admission]) -> list[Ticket | ShoalError]:
        """Admit requests that arrived together in one go."""
        return self._replica.admit(batch)

    async def pump(self, target: Target) -> AsyncIterator[list[WireChunk]]:
        """The token stream of one client."""
        async for items in self._replica.pump(target.client_id):
            yield items

    async def is_ready(self) -> bool:
        """True: a replica that takes calls has answered a prompt. The first call makes Serve list the replicas."""
        return self._is_warm

    async def stats(self, target: Target) -> EngineStats:
        """The engine's state now."""
        return self._replica.stats()

    async def metrics(self, target: Target) -> list[Metric]:
        """Every metric of this replica."""
        return self._replica.metrics.families(self._plan.model, self._id)

    async def save_session(self, target: Target, session_id: str) -> Saved | ShoalError:
        """Make a session's KV ready to be fetched."""
        return await returned(self._sessions.save(session_id))

    async def read_session(self, target: Target, transfer_id: str, start: int) -> bytes | ShoalError:
        """A piece of it."""
        return await returned(self._sessions.read(transfer_id, start))

    async def write_session(self, target: Target, transfer_id: str, piece: bytes) -> ShoalError | None:
        """A piece of one that is to be loaded."""
        return await returned(self._sessions.write(transfer_id, piece))

    async def load_session(self, target: Target, transfer_id: str, session_id: str) -> int | ShoalError:
        """Give it to the engine."""
        return await returned(self._sessions.load(transfer_id, session_id))

    async def load_adapter(self, target: Target, name: str) -> ShoalError | None:
        """Load an adapter that lies beside the model."""
        return await returned(self._adapters.load(name))

    async def unload_adapter(self, target: Target, name: str) -> ShoalError | None:
        """Unload one."""
        return await returned(self._adapters.unload(name))


def actor_options(plan: PoolPlan) -> dict[str, object]:
    """What Ray must find on a node before it puts a replica there."""
    actor: dict[str, object] = {"num_cpus": plan.cpus_per_replica, "resources": {f"shoal_{plan.node}": PIN_SHARE}}
    return {**actor, "num_gpus": 1} if plan.node == "gpu" else actor


def autoscaling(plan: PoolPlan) -> AutoscalingConfig:
    """Scale on generations under way: a replica is full when every slot decodes. Its token streams, one per client,
    are calls too: one is allowed for."""
    return AutoscalingConfig(
        min_replicas=plan.min_replicas,
        max_replicas=plan.max_replicas,
        target_ongoing_requests=plan.engine.assumed_slots + 1,
        upscale_delay_s=10,
        downscale_delay_s=120,
    )


def onnx_pool(plan: PoolPlan) -> serve.Application:
    """The deployment of `plan`, bound. Every Serve default that matters is set here."""
    deployed: serve.Deployment = serve.deployment(
        name=plan.deployment,
        ray_actor_options=actor_options(plan),
        max_ongoing_requests=plan.engine.most_slots + plan.engine.queue_limit + CLIENT_CALLS,
        request_router_config=RequestRouterConfig.model_validate({"request_router_class": ROUTER}),
        autoscaling_config=autoscaling(plan),
        graceful_shutdown_timeout_s=plan.drain_s,
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=5,
        health_check_timeout_s=60,
    )(OnnxPool)
    return deployed.bind(plan)
