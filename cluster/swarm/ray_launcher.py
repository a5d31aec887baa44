"""Shards as Ray tasks, each one process with asyncio inside, and their reports on the way back.

A shard reports by calling the conductor's actor, every batch numbered: one that is sent again because its answer got
lost is taken once. The answer says whether the shard is still known here; a cancelled one is not, so it ends at its
next report (every half second at least). Ray retries no task: only the conductor knows what a dead worker had done.
"""

import asyncio
import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from prometheus_client.metrics_core import Metric
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from cluster.swarm.answerer import Connect
from cluster.swarm.event import Event
from cluster.swarm.launcher import ShardLost, run_connected
from cluster.swarm.outbox import Report
from cluster.swarm.shard import Shard
from cluster.swarm.shard_metrics import ShardMetrics
from replicas.errors import Unavailable

log = logging.getLogger(__name__)

CPUS = 0  # a shard waits for replicas, which may hold every CPU: asking for any part of one it could wait forever
REPORT_S = 10.0
REPORT_AGAIN_S = 0.5
REPORT_ATTEMPTS = 60


@dataclass(slots=True)
class _Inbox:
    report: Report
    last_number: int = 0  # taken for good
    taking_number: int = 0
    taking: "asyncio.Future[bool] | None" = None  # a batch that is sent again while it is taken waits for the first


class RayLauncher:
    """Launches shards as Ray tasks that answer to `conductor`, a handle of the actor this lives in."""

    def __init__(self, conductor: ActorHandle[object], connect: Connect) -> None:
        self._conductor = conductor
        self._connect = connect
        self._inboxes: dict[str, _Inbox] = {}
        self.metrics = ShardMetrics()

    async def run(self, shard: Shard, report: Report) -> None:
        """Run `shard` in a worker process."""
        self._inboxes[shard.id] = _Inbox(report)
        try:
            self.metrics.add(await _shard_task.remote(shard, self._connect, self._conductor))
        except RayTaskError as error:
            raise ShardLost(f"{type(error.cause).__name__}: {error.cause}") from None
        except RayError as error:
            raise ShardLost(" ".join(str(error).split())[:300]) from None
        finally:
            del self._inboxes[shard.id]

    async def deliver(self, shard_id: str, number: int, events: Sequence[Event]) -> bool:
        """Take a batch of a shard."""
        inbox = self._inboxes.get(shard_id)
        if inbox is None:
            return False
        if number <= inbox.last_number:
            return True
        if inbox.taking is None or inbox.taking_number != number:
            inbox.taking_number = number
            inbox.taking = asyncio.ensure_future(inbox.report(events))
        taking = inbox.taking
        try:
            answer = await asyncio.shield(taking)
        finally:
            if taking.done() and inbox.taking is taking:
                inbox.taking = None
        inbox.last_number = number
        return answer


@ray.remote(num_cpus=CPUS, max_retries=0, scheduling_strategy="SPREAD")
def _shard_task(shard: Shard, connect: Connect, conductor: ActorHandle[object]) -> list[Metric]:
    reports = _Reports(shard.id, conductor)
    return _runner().run(run_connected(shard, connect, reports.send))


@functools.cache
def _runner() -> asyncio.Runner:
    """The event loop of this worker process. Ray runs one shard after another in it, and Serve's handles stay bound to
    the loop that they were first used on."""
    return asyncio.Runner()


class _Reports:
    """A shard's line to the conductor."""

    def __init__(self, shard_id: str, conductor: ActorHandle[object]) -> None:
        self._shard_id = shard_id
        self._conductor = conductor
        self._number = 0

    async def send(self, events: Sequence[Event]) -> bool:
        """Send a batch until it is taken. Raises Unavailable."""
        self._number += 1
        for _ in range(REPORT_ATTEMPTS):
            try:
                async with asyncio.timeout(REPORT_S):
                    return bool(await self._conductor.deliver.remote(self._shard_id, self._number, events))
            except (RayError, TimeoutError) as error:
                log.warning("shard %s cannot reach the conductor: %s", self._shard_id, type(error).__name__)
                await asyncio.sleep(REPORT_AGAIN_S)
        raise Unavailable("the swarm conductor")
