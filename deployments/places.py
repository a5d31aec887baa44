"""The places in every pool. Without keys whoever comes first gets one, and the engine's queue is where requests wait.
With keys they wait here, where it can be told whose turn it is, and the engine gets little more than its slots hold.
"""

import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from deployments.ingress_metrics import IngressMetrics
from deployments.plan import PoolPlan
from replicas.engine import Generation
from router.admission import Admission
from router.fair_queue import Ask, FairQueue, Room
from router.keys import Key

ANSWER_TOKENS = 256
"""What an answer is taken to cost at most before it is there; callers often allow far more than they get."""

AHEAD = 0.25
"""Of its slots, so many more requests are given to an engine: the next one is there when a slot comes free."""


class Places:
    """Who is inside, and who is next. One per ingress."""

    def __init__(self, pools: Sequence[PoolPlan], metrics: IngressMetrics) -> None:
        self._metrics = metrics
        self._open = {pool.model: Admission(pool.model, pool.request_limit) for pool in pools}
        rooms = {pool.model: room_of(pool) for pool in pools}
        self._fair = {model: Admission(model, room.most) for model, room in rooms.items()}
        self._queues = {model: FairQueue(room, self._fair[model].refusal) for model, room in rooms.items()}
        metrics.waiting.set_function(lambda: float(sum(queue.waiting for queue in self._queues.values())))

    @asynccontextmanager
    async def taken(
        self, pool: PoolPlan, generations: Sequence[Generation], key: Key | None
    ) -> AsyncGenerator[float, None]:
        """One place in `pool` for the length of the block, and the seconds that it took. Raises Overloaded,
        DeadlineExceeded."""
        if key is None:
            with self._open[pool.model].admitted(), self._metrics.in_flight.track_inprogress():
                yield 0.0
            return
        began_s = time.monotonic()
        async with self._queues[pool.model].turn(ask_of(generations, key)):
            with self._fair[pool.model].admitted(), self._metrics.in_flight.track_inprogress():
                yield time.monotonic() - began_s


def room_of(pool: PoolPlan) -> Room:
    """How many requests with keys a pool takes. What is over the slots waits for the engine to preempt, or for one."""
    slots, limit = pool.engine.most_slots, pool.engine.queue_limit
    running = pool.max_replicas * (slots + min(limit, math.ceil(slots * AHEAD)))
    return Room(running, min(pool.request_limit, 2 * running), pool.request_limit - running)


def ask_of(generations: Sequence[Generation], key: Key) -> Ask:
    """A turn for all of `generations` together; there is at least one."""
    cost = sum(len(one.prompt) + min(one.sampling.max_tokens, ANSWER_TOKENS) for one in generations)
    return Ask(key.id, key.weight, float(cost), generations[0].priority, generations[0].deadline_s)
