"""How one job's agents become shards, and what happens to the items of a shard that dies.

Agents are dealt to pieces in order, few large ones (a small job is one shard), and `shards_per_job` run at once. The
unfinished rest of a lost shard is launched again after a growing wait; a launch that finished at least one item counts
as progress and starts the count anew, so preempted workers cost time, never the job.
"""

import asyncio
import itertools
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from cluster.swarm.assignment import assignment
from cluster.swarm.event import Event, EventType
from cluster.swarm.job import Job
from cluster.swarm.job_view import NO_USAGE
from cluster.swarm.launcher import Launcher, ShardLost
from cluster.swarm.limits import Limits
from cluster.swarm.shard import Shard

log = logging.getLogger(__name__)

Commit: TypeAlias = Callable[[Job, Sequence[Event]], Awaitable[bool]]
"""Journals the outputs among a job's events, then applies them all; False: the job is no longer wanted."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Agents for one shard. `launches` counts those that finished none of them."""

    agents: tuple[int, ...]
    launches: int = 0


class FanOut:
    """Runs one job's unfinished agents."""

    def __init__(self, job: Job, launcher: Launcher, commit: Commit, limits: Limits) -> None:
        self._job = job
        self._launcher = launcher
        self._commit = commit
        self._limits = limits
        owner = job.record.owner
        self._at_once = owner.shards(limits.shards_per_job)
        self._owner = replace(owner.part(self._at_once), is_private=owner.is_private or job.spec.private)
        self._pieces = deque(pieces(job.unfinished(), limits))

    async def run(self, budget_s: float) -> None:
        """Return when every agent has its output."""
        ends_at = asyncio.get_running_loop().time() + budget_s
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._at_once, len(self._pieces))):
                group.create_task(self._drain(ends_at))

    async def _drain(self, ends_at: float) -> None:
        while self._pieces:
            piece: Piece | None = self._pieces.popleft()
            while piece is not None:
                piece = await self._launch(piece, ends_at)

    async def _launch(self, piece: Piece, ends_at: float) -> Piece | None:
        """Run `piece` once; what is left of it."""
        budget_s = max(0.001, ends_at - asyncio.get_running_loop().time())
        shard = Shard(
            id=f"{self._job.id}-{secrets.token_hex(4)}",
            assignments=tuple(assignment(self._job.spec, agent) for agent in piece.agents),
            calls_max=self._owner.calls(self._limits.calls_per_shard),
            budget_s=budget_s,
            patience=self._limits.patience,
            job=self._job.id,
            owner=self._owner,
        )
        reason = "it ended early"
        try:
            await self._launcher.run(shard, lambda events: self._commit(self._job, events))
        except ShardLost as lost:
            reason = lost.reason
        left = tuple(agent for agent in piece.agents if agent not in self._job.outputs)
        return await self._again(piece, left, reason) if left else None

    async def _again(self, piece: Piece, left: tuple[int, ...], reason: str) -> Piece | None:
        launches = piece.launches + 1 if left == piece.agents else 0
        log.warning("job %s lost a shard with %d unfinished agents: %s", self._job.id, len(left), reason)
        error = str(ShardLost(reason))
        if launches >= self._limits.launches:
            told = [Event(EventType.OUTPUT, agent=agent, text="", usage=NO_USAGE, error=error) for agent in left]
            await self._commit(self._job, told)
            return None
        self._job.apply(Event(EventType.RETRY, agent=agent, error=error) for agent in left)
        await asyncio.sleep(self._limits.relaunch_s * 2**launches)
        return Piece(left, launches)


def pieces(agents: Sequence[int], limits: Limits) -> list[Piece]:
    """`agents` cut into even pieces in order: as few as keep all shards' calls in flight, none over the bound."""
    wanted = min(limits.shards_per_job, -(-len(agents) // limits.calls_per_shard))
    count = max(wanted, -(-len(agents) // limits.instances_per_shard))
    if not count:
        return []
    size, rest = divmod(len(agents), count)
    ends = [0]
    for number in range(count):
        ends.append(ends[-1] + size + (number < rest))
    return [Piece(tuple(agents[start:end])) for start, end in itertools.pairwise(ends)]
