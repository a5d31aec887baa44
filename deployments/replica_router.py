"""Which replica a call goes to.

A call whose first argument is a `Target` goes to exactly that replica: so an ingress holds one token stream open to
each (see `pool_client`), and can ask each for its metrics. Any other call goes to the replica with the fewest calls
under way, as far as this caller knows; a generation is one call from its admission to its last token.

Ray pickles this module by value into every caller, so it holds no state: that is in `replica_watch`.
"""

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from deployments.replica_watch import Target, watch


class TargetedRouter(RequestRouter):
    """Obeys a `Target`; otherwise prefers the replica that this caller keeps least busy."""

    def initialize_state(self, **kwargs: object) -> None:
        """Serve calls this once. Equally busy replicas take turns: in a burst all look idle to every call."""
        self._turn = 0

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """One rank of replicas, the best first."""
        target = None
        if pending_request is not None:
            # Without it Serve asks again at once, forever, while a named replica is not listed: the loop would stand.
            pending_request.routing_context.should_backoff = True
            target = pending_request.args[0] if pending_request.args else None
        if isinstance(target, Target):
            named = [r for r in candidate_replicas if r.replica_id.unique_id == target.replica_id]
            return [named] if named else []
        self._turn += 1
        first = self._turn % max(1, len(candidate_replicas))
        rotated = candidate_replicas[first:] + candidate_replicas[:first]
        ranked = sorted(rotated, key=lambda r: self.replica_queue_len_cache.get(r.replica_id) or 0)
        return [[replica] for replica in ranked]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take the new set and tell this process about it."""
        super().update_replicas(replicas)
        watch(self._deployment_id.name).announce(frozenset(r.replica_id.unique_id for r in replicas))
