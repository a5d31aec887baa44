"""Swarms on a real Ray cluster: shards as tasks, the conductor as an actor, and both of them killed."""

import asyncio
import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from cluster.swarm.event import Event, EventType
from cluster.swarm.job_view import JobStatus
from cluster.swarm.ray_conductor import ConductorPlan, RayConductor, conductor_handle
from replicas.errors import InvalidRequest, NotFound
from tests.swarm.answerers import swarm_of
from tests.swarm.lingering import Lingering

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "disabled")
        environment.setenv("PYTHONPATH", os.getcwd())
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, namespace="shoal", address="local")
        yield
        ray.shutdown()


@pytest.fixture
def answerer(tmp_path: Path) -> Lingering:
    return Lingering(tmp_path)


@pytest.fixture
def plan(cluster: None, answerer: Lingering, tmp_path: Path) -> Iterator[ConductorPlan]:
    made = ConductorPlan(tmp_path / "journal", functools.partial(Lingering, answerer.folder))
    yield made
    ray.kill(conductor_handle(made))  # for good: the next test has its own journal


async def first(port: RayConductor, job_id: str, kind: EventType, agent: int) -> Event:
    after = 0
    while True:
        batch = await port.events(job_id, after, 10.0)
        for event in batch.events:
            after = event.seq
            if (event.type, event.agent) == (kind, agent):
                return event
        assert not batch.is_last


def test_what_shards_have_counted_is_summed_when_they_end(plan: ConductorPlan) -> None:
    async def run() -> list[tuple[str, float]]:
        port = RayConductor(plan)
        for job in ("one", "two"):
            await port.submit(job, swarm_of(["fast"]))
            await port.job(job, wait_s=30)
        return [(sample.name, sample.value) for family in await port.metrics() for sample in family.samples]

    assert asyncio.run(run()) == [("calls_total", 6.0)]


def test_a_killed_shard_is_launched_again_for_what_it_had_not_finished(
    plan: ConductorPlan, answerer: Lingering
) -> None:
    async def run() -> None:
        port = RayConductor(plan)
        answerer.hold("slow", "late")
        await port.submit("job", swarm_of(["fast", "slow", "late"]))
        await first(port, "job", EventType.OUTPUT, 0)
        assert (await first(port, "job", EventType.DELTA, 1)).text == "s"
        os.kill(answerer.wait_for_call("slow", 1), signal.SIGKILL)
        assert "worker died" in str((await first(port, "job", EventType.RETRY, 1)).error)
        answerer.let_go("slow", "late")
        view = await port.job("job", wait_s=30)
        assert (view.status, [output.text for output in view.outputs]) == (
            JobStatus.SUCCEEDED,
            ["fast", "slow", "late"],
        )
        assert [len(answerer.calls(prompt)) for prompt in ("fast", "slow", "late")] == [1, 2, 2]

    asyncio.run(run())


def test_a_killed_conductor_comes_back_with_its_jobs(plan: ConductorPlan, answerer: Lingering) -> None:
    async def run() -> None:
        port = RayConductor(plan)
        answerer.hold("slow")
        await port.submit("job", swarm_of(["fast", "slow"]))
        seen = await first(port, "job", EventType.OUTPUT, 0)
        ray.kill(conductor_handle(plan), no_restart=False)
        answerer.let_go("slow")
        view = await port.job("job", wait_s=30)
        assert (view.status, [output.text for output in view.outputs]) == (JobStatus.SUCCEEDED, ["fast", "slow"])
        assert len(answerer.calls("fast")) == 1
        batch = await port.events("job", seen.seq, 0)
        assert (batch.is_last, batch.events[-1].type) == (True, EventType.DONE)

    asyncio.run(run())


def test_cancelling_frees_the_worker_and_errors_keep_their_class(plan: ConductorPlan, answerer: Lingering) -> None:
    async def run() -> None:
        port = RayConductor(plan)
        answerer.hold("slow")
        await port.submit("job", swarm_of(["slow"]))
        await first(port, "job", EventType.STARTED, 0)
        assert (await port.cancel("job")).status is JobStatus.CANCELLED
        await asyncio.to_thread(answerer.wait_until_gone, "slow")
        await port.submit("next", swarm_of(["after"]))
        assert (await port.job("next", wait_s=30)).status is JobStatus.SUCCEEDED
        with pytest.raises(NotFound):
            await port.job("nope")
        with pytest.raises(InvalidRequest, match="another swarm"):
            await port.submit("job", swarm_of(["other"]))

    asyncio.run(run())
