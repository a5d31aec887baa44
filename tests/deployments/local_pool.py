"""A pool without Ray: replicas in this process behind what a `DeploymentHandle` shows of itself to a `PoolClient`.

`LocalPool.handle()` takes the calls that a deployment would; a replica can be killed as a process is: its calls end
with ActorDiedError, its token streams break, nothing that it still made arrives.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import aclosing
from pathlib import Path
from typing import Concatenate, Generic, ParamSpec, TypeVar, cast

from prometheus_client.metrics_core import Metric
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import RequestCancelledError
from ray.serve.handle import DeploymentHandle

from deployments.adapter_loading import AdapterLoading
from deployments.outbox import WireChunk
from deployments.replica import Admission, PoolReplica
from deployments.replica_metrics import ReplicaMetrics
from deployments.replica_watch import Target, watch
from deployments.session_transfer import SessionTransfers, returned
from replicas.engine import Engine, EngineStats, Generation
from replicas.errors import ShoalError

T = TypeVar("T")
P = ParamSpec("P")
PUMP = "pump"


class LocalReplica:
    """One replica and the calls that are open on it."""

    def __init__(self, id_: str, engine: Engine, model: Path) -> None:
        self.id = id_
        self.engine = engine
        self.pool = PoolReplica(engine, ReplicaMetrics(engine.stats))
        self.sessions = SessionTransfers(engine)
        self.adapters = AdapterLoading(engine, model)
        self.is_dead = False
        self.is_stuck = False
        self.generations = 0
        self._tasks: set[asyncio.Task[object]] = set()

    def spawn(self, work: Coroutine[object, object, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        kept = cast("asyncio.Task[object]", task)
        self._tasks.add(kept)
        kept.add_done_callback(self._tasks.discard)
        return task

    def break_streams(self) -> None:
        """End the token streams as a broken connection does; the generations go on."""
        for task in self._tasks:
            if task.get_name() == PUMP:
                task.cancel()

    async def answer(self, what: Callable[[], T]) -> T:
        """`what` as the result of a call; never, while stuck."""
        if self.is_dead:
            raise ActorDiedError()
        while self.is_stuck:
            await asyncio.Event().wait()
        return what()

    def kill(self) -> None:
        self.is_dead = True
        for task in self._tasks:
            task.cancel()


class LocalCall(Generic[T]):
    """A unary call: awaited for its result, cancelled by name."""

    def __init__(self, replica: LocalReplica, work: Coroutine[object, object, T]) -> None:
        self._replica = replica
        self._task = replica.spawn(work)

    def cancel(self) -> None:
        self._task.cancel()

    def __await__(self) -> Generator[object, None, T]:
        return self._result().__await__()

    async def _result(self) -> T:
        await asyncio.wait([self._task])
        if self._task.cancelled():
            raise ActorDiedError() if self._replica.is_dead else RequestCancelledError("cancelled")
        return self._task.result()


class LocalStream:
    """A streaming call: the token stream of one client."""

    def __init__(self, replica: LocalReplica, client_id: str) -> None:
        self._items: asyncio.Queue[list[WireChunk] | None] = asyncio.Queue()
        self._task = replica.spawn(self._run(replica, client_id))
        self._task.set_name(PUMP)

    def cancel(self) -> None:
        self._task.cancel()

    def __aiter__(self) -> AsyncIterator[list[WireChunk]]:
        return self

    async def __anext__(self) -> list[WireChunk]:
        items = await self._items.get()
        if items is None:
            raise ActorDiedError
        return items

    async def _run(self, replica: LocalReplica, client_id: str) -> None:
        try:
            async with aclosing(replica.pool.pump(client_id)) as stream:
                async for items in stream:
                    self._items.put_nowait(items)
        finally:
            self._items.put_nowait(None)


class Method(Generic[T]):
    """One method of a handle."""

    def __init__(self, call: Callable[..., T]) -> None:
        self.remote = call


class LocalPool:
    """The replicas of one deployment. Make it on the loop on which it is called."""

    def __init__(self, deployment: str, model: str, path: Path = Path()) -> None:
        self.deployment = deployment
        self.model = model
        self.path = path
        self.replicas: list[LocalReplica] = []
        self.generate = Method(self._generate)
        self.is_ready = Method(self._is_ready)
        self.stats = Method(self._stats)
        self.metrics = Method(self._metrics)
        self.pump = Method(self._pump)
        self.save_session = Method(self._transfers(SessionTransfers.save))
        self.read_session = Method(self._transfers(SessionTransfers.read))
        self.write_session = Method(self._transfers(SessionTransfers.write))
        self.load_session = Method(self._transfers(SessionTransfers.load))
        self.load_adapter = Method(self._adapters(AdapterLoading.load))
        self.unload_adapter = Method(self._adapters(AdapterLoading.unload))

    def handle(self) -> "DeploymentHandle[object]":
        return cast("DeploymentHandle[object]", self)

    def options(self, *, stream: bool) -> "LocalPool":
        assert stream
        return self

    def add(self, engine: Engine) -> LocalReplica:
        replica = LocalReplica(f"replica{len(self.replicas)}", engine, self.path)
        self.replicas.append(replica)
        self.announce()
        return replica

    def kill(self, replica: LocalReplica) -> None:
        """Ray tells of a death after the calls have felt it."""
        replica.kill()
        self.announce()

    def announce(self) -> None:
        watch(self.deployment).announce(frozenset(r.id for r in self.replicas if not r.is_dead))

    def _generate(self, client_id: str, generation: Generation) -> LocalCall[ShoalError | None]:
        replica = min((r for r in self.replicas if not r.is_dead), key=lambda r: r.engine.stats().slots_used)
        replica.generations += 1

        async def work() -> ShoalError | None:
            [ticket] = replica.pool.admit([Admission(client_id, generation)])
            return await replica.pool.finish(ticket)

        return LocalCall(replica, work())

    def _is_ready(self) -> LocalCall[bool]:
        replica = self.replicas[0]
        return LocalCall(replica, replica.answer(lambda: True))

    def _stats(self, target: Target) -> LocalCall[EngineStats]:
        replica = self._named(target)
        return LocalCall(replica, replica.answer(replica.pool.stats))

    def _metrics(self, target: Target) -> LocalCall[list[Metric]]:
        replica = self._named(target)
        return LocalCall(replica, replica.answer(lambda: replica.pool.metrics.families(self.model, replica.id)))

    def _transfers(
        self, method: Callable[Concatenate[SessionTransfers, P], Awaitable[T]]
    ) -> Callable[Concatenate[Target, P], LocalCall[T | ShoalError]]:
        def call(target: Target, /, *args: P.args, **kwargs: P.kwargs) -> LocalCall[T | ShoalError]:
            replica = self._named(target)
            return LocalCall(replica, returned(method(replica.sessions, *args, **kwargs)))

        return call

    def _adapters(
        self, method: Callable[[AdapterLoading, str], Awaitable[None]]
    ) -> Callable[[Target, str], LocalCall[ShoalError | None]]:
        def call(target: Target, name: str) -> LocalCall[ShoalError | None]:
            replica = self._named(target)
            return LocalCall(replica, returned(method(replica.adapters, name)))

        return call

    def _pump(self, target: Target) -> LocalStream:
        return LocalStream(self._named(target), target.client_id)

    def _named(self, target: Target) -> LocalReplica:
        return next(r for r in self.replicas if r.id == target.replica_id)
