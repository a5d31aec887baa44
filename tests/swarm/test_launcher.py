"""Batches that a shard sends twice."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from ray.actor import ActorHandle

from cluster.swarm.answerer import Connect
from cluster.swarm.event import Event
from cluster.swarm.ray_launcher import RayLauncher, _Inbox

pytestmark = pytest.mark.anyio


def launcher(report: "Reporter") -> RayLauncher:
    made = RayLauncher(cast("ActorHandle[object]", None), cast("Connect", None))
    made._inboxes["shard"] = _Inbox(report)
    return made


class Reporter:
    """A conductor's end that can fail or wait."""

    def __init__(self) -> None:
        self.taken = 0
        self.is_broken = False
        self.may_go = asyncio.Event()

    async def __call__(self, events: Sequence[Event]) -> bool:
        await self.may_go.wait()
        if self.is_broken:
            raise OSError("disk full")
        self.taken += 1
        return True


async def test_a_batch_that_could_not_be_stored_is_stored_when_it_comes_again() -> None:
    report = Reporter()
    report.may_go.set()
    report.is_broken = True
    shards = launcher(report)
    with pytest.raises(OSError, match="disk full"):
        await shards.deliver("shard", 1, [])
    report.is_broken = False
    assert await shards.deliver("shard", 1, [])
    assert report.taken == 1


async def test_a_batch_that_comes_again_while_it_is_taken_is_taken_once() -> None:
    report = Reporter()
    shards = launcher(report)
    both = [asyncio.ensure_future(shards.deliver("shard", 1, [])) for _ in range(2)]
    await asyncio.sleep(0)
    report.may_go.set()
    assert await asyncio.gather(*both) == [True, True]
    assert (report.taken, await shards.deliver("shard", 1, [])) == (1, True)
