"""Which replica a call goes to.

A call whose first argument is a `Target` goes to exactly that replica: so an ingress holds one token stream open to
each (see `pool_client`), and can ask each for its metrics. A generation goes to the replica that has most likely its
KV (`affinity`), unless that is clearly busier than the others; without a preference, and any other call, to the
replica with the fewest calls under way, as far as this caller knows. A generation is one call from its admission to
its last token.

Ray pickles this module by value into every caller, so it holds no state: that is in `replica_watch`.
"""

import time
from collections import Counter, deque

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from deployments.affinity import affinity_key, bounded, ranked
from deployments.replica_watch import Target, watch
from replicas.engine import Generation

BURST_S = 0.02
"""Calls that come together are all placed before the first is sent and counted: what was placed so recently counts."""


class TargetedRouter(RequestRouter):
    """Obeys a `Target`; otherwise prefers the replica that knows a beginning, or that this caller keeps least busy."""

    clock = staticmethod(time.monotonic)

    def initialize_state(self, **kwargs: object) -> None:
        """Serve calls this once. Equally busy replicas take turns: in a burst all look idle to every call."""
        self._turn = 0
        self._placed: deque[tuple[float, str]] = deque(maxlen=1024)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """One rank of replicas, the best first."""
        by_id = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        key = None
        if pending_request is not None:
            # Without it Serve asks again at once, forever, while a named replica is not listed: the loop would stand.
            pending_request.routing_context.should_backoff = True
            target, generation = (*pending_request.args[:2], None, None)[:2]
            if isinstance(target, Target):
                return [[by_id[target.replica_id]]] if target.replica_id in by_id else []
            key = affinity_key(generation) if isinstance(generation, Generation) else None
        order = self._order(by_id, key)
        return [[by_id[replica_id]] for replica_id in order]

    def _order(self, by_id: dict[str, RunningReplica], key: str | None) -> list[str]:
        cache = self.replica_queue_len_cache
        loads = {id_: cache.get(replica.replica_id) or 0 for id_, replica in by_id.items()}
        if key is None:
            self._turn += 1
            first = self._turn % max(1, len(by_id))
            return sorted([*by_id][first:] + [*by_id][:first], key=lambda id_: loads[id_])
        now_s = self.clock()
        recent = Counter(id_ for placed_s, id_ in self._placed if now_s - placed_s < BURST_S)
        order = bounded(ranked(key, by_id), {id_: load + recent[id_] for id_, load in loads.items()})
        self._placed.extend((now_s, id_) for id_ in order[:1])
        return order

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take the new set and tell this process about it."""
        super().update_replicas(replicas)
        watch(self._deployment_id.name).announce(frozenset(r.replica_id.unique_id for r in replicas))
