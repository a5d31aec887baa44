"""Where shards run: the seam between the conductor and Ray. In the cluster a shard is one Ray task (ray_launcher)."""

import asyncio
import logging
from typing import Protocol

from prometheus_client.metrics_core import Metric

from cluster.swarm.answerer import Connect
from cluster.swarm.outbox import Report
from cluster.swarm.shard import Shard, run_shard
from replicas.errors import ShoalError

log = logging.getLogger(__name__)

CLOSE_S = 10.0  # for letting go of the answerer


class ShardLost(ShoalError):
    """The process of a shard went away before the shard was done: `reason`. Its unfinished items run again."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the worker died: {self.reason}"


class Launcher(Protocol):
    """Runs shards."""

    async def run(self, shard: Shard, report: Report) -> None:
        """Run `shard` to its end, its events going to `report`. Cancelling ends it. Raises ShardLost."""
        ...


class InProcessLauncher:
    """Runs shards in the conductor's own event loop: no Ray, nothing survives the process."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def run(self, shard: Shard, report: Report) -> None:
        """Run `shard` here."""
        await run_connected(shard, self._connect, report)


async def run_connected(shard: Shard, connect: Connect, report: Report) -> list[Metric]:
    """Run `shard` on an answerer of its own; what that has counted."""
    answerer = connect()
    try:
        await run_shard(shard, answerer, report)
        return answerer.metrics()
    finally:
        try:
            await asyncio.wait_for(answerer.close(), CLOSE_S)
        except TimeoutError:  # the shard's outputs are there all the same
            log.warning("shard %s could not let go of its answerer within %g s", shard.id, CLOSE_S)
