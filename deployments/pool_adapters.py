"""Keeps the adapters of all replicas of a pool alike, while they are loaded and unloaded.

The ingress alone does this. What is loaded it learns from the first replicas that it sees, so that it knows it again
when it has died; from then on every replica that appears is given what it lacks and relieved of what was unloaded. A
change holds on all replicas or on none.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping

from deployments.plan import PoolPlan
from deployments.pool_client import PoolClient
from deployments.prompting import Prompter
from deployments.replica_watch import watch
from replicas.adapters import StoredAdapter, adapters_of
from replicas.errors import InvalidRequest, NotFound, ShoalError, Unavailable

logger = logging.getLogger(__name__)

STATS_WAIT_S = 2.0
CHANGE_WAIT_S = 90.0  # an engine changes its adapters between two of its steps
LOAD, UNLOAD = "load_adapter", "unload_adapter"


class PoolAdapters:
    """The adapters of one pool. Lives on the loop of `client`; `prompter` hears of every change."""

    def __init__(self, pool: PoolPlan, client: PoolClient, prompter: Prompter) -> None:
        self._pool = pool
        self._client = client
        self._prompter = prompter
        self._wanted: dict[str, StoredAdapter | None] | None = None  # None: no replica has been seen yet
        self._seen: frozenset[str] = frozenset()
        self._changing = asyncio.Lock()
        self._aligning: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to follow the replicas. Call once, on the loop, after the client's start."""
        watch(self._pool.deployment).subscribe(self._follow)

    async def close(self) -> None:
        """Follow no longer."""
        watch(self._pool.deployment).unsubscribe(self._follow)
        for task in self._aligning:
            task.cancel()
        await asyncio.gather(*self._aligning, return_exceptions=True)

    @property
    def names(self) -> tuple[str, ...]:
        """What is meant to be loaded; until a replica was seen, what lay beside the model at the start."""
        return self._pool.adapters if self._wanted is None else tuple(sorted(self._wanted))

    async def loaded(self) -> Mapping[str, Collection[str]]:
        """The replicas that have it, for each adapter that is loaded. Raises Unavailable."""
        has = await self._has_all()
        return {name: sorted(i for i in has if name in has[i]) for name in sorted(set().union(*has.values()))}

    async def load(self, name: str) -> None:
        """Load an adapter that lies beside the model. Raises NotFound, InvalidRequest (it does not fit, or is loaded
        everywhere), and as `loaded` does."""
        async with self._changing:
            has = await self._has_all()
            lacking = [replica_id for replica_id, names in has.items() if name not in names]
            if not lacking:
                raise InvalidRequest(f"the adapter {name!r} is loaded already; unload it first", "name")
            wanted = await self._learned(has)
            await self._change(lacking, name, LOAD, UNLOAD)
            self._want({**wanted, name: (await self._stored()).get(name)})

    async def unload(self, name: str) -> None:
        """Raises NotFound, InvalidRequest while requests for it are under way, and as `loaded` does."""
        async with self._changing:
            has = await self._has_all()
            having = [replica_id for replica_id, names in has.items() if name in names]
            if not having:
                loaded = ", ".join(sorted(set().union(*has.values())))
                raise NotFound("adapter", name, f"loaded: {loaded or 'none'}")
            wanted = await self._learned(has)
            self._want({other: about for other, about in wanted.items() if other != name})
            try:
                await self._change(having, name, UNLOAD, LOAD)
            except ShoalError:
                self._want(wanted)
                raise

    async def restored(self, name: str) -> bool:
        """Whether an adapter that a replica lacked is meant to be loaded; then all replicas have it now."""
        await self._align(self._client.replica_ids)
        return name in (self._wanted or ())

    def _follow(self, replica_ids: frozenset[str]) -> None:
        new, self._seen = replica_ids - self._seen, replica_ids
        if new:
            task = asyncio.get_running_loop().create_task(self._align(new))
            self._aligning.add(task)
            task.add_done_callback(self._aligning.discard)

    async def _align(self, replica_ids: frozenset[str]) -> None:
        """Give replicas what they lack, and take what they should not have. One that fails costs only itself: it is
        tried again when a request misses an adapter there."""
        async with self._changing:
            has = await self._has()
            wanted = (await self._learned(has)).keys() if has else frozenset()
            for replica_id in sorted(replica_ids & has.keys()):
                try:
                    for name in sorted(wanted - has[replica_id]):
                        await self._client.ask(replica_id, CHANGE_WAIT_S, LOAD, name)
                    for name in sorted(has[replica_id] - wanted):
                        await self._client.ask(replica_id, CHANGE_WAIT_S, UNLOAD, name)
                except ShoalError as error:
                    logger.warning("the adapters of replica %s are not as they should be: %s", replica_id, error)

    async def _has(self) -> Mapping[str, frozenset[str]]:
        """The adapters of each replica that answers."""
        stats = await self._client.stats(STATS_WAIT_S)
        return {replica_id: frozenset(one.adapters) for replica_id, one in stats.items()}

    async def _has_all(self) -> Mapping[str, frozenset[str]]:
        has = await self._has()
        if not has or self._client.replica_ids - has.keys():
            raise Unavailable(f"every replica of {self._pool.model}", "`shoal status` shows what is up")
        return has

    async def _learned(self, has: Mapping[str, frozenset[str]]) -> Mapping[str, StoredAdapter | None]:
        """What is meant to be loaded: at first, what any replica has."""
        if self._wanted is None:
            stored = await self._stored()
            self._want({name: stored.get(name) for name in sorted(set().union(*has.values()))})
        assert self._wanted is not None
        return self._wanted

    async def _stored(self) -> dict[str, StoredAdapter]:
        return {adapter.name: adapter for adapter in await asyncio.to_thread(adapters_of, self._pool.path)}

    def _want(self, wanted: Mapping[str, StoredAdapter | None]) -> None:
        self._wanted = dict(wanted)
        self._prompter.use([about for _, about in sorted(wanted.items()) if about is not None])

    async def _change(self, replica_ids: Collection[str], name: str, method: str, undo: str) -> None:
        """Call `method` on the replicas, one after the other; if one refuses, `undo` on those before it."""
        done: list[str] = []
        try:
            for replica_id in replica_ids:
                await self._client.ask(replica_id, CHANGE_WAIT_S, method, name)
                done.append(replica_id)
        except ShoalError:
            for replica_id in done:
                try:
                    await self._client.ask(replica_id, CHANGE_WAIT_S, undo, name)
                except ShoalError as error:
                    logger.warning("%s of %s on replica %s failed: %s", undo, name, replica_id, error)
            raise
