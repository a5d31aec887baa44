"""The conductor on a real journal, with shards in process: jobs from submit to end, restarts, losses, followers."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.swarm.conductor import Conductor
from cluster.swarm.event import Event, EventType
from cluster.swarm.fan_out import pieces
from cluster.swarm.job_view import JobStatus, JobView
from cluster.swarm.journal import JobRecord, Journal
from cluster.swarm.launcher import InProcessLauncher, Launcher, ShardLost
from cluster.swarm.limits import Limits
from cluster.swarm.outbox import Report
from cluster.swarm.patience import Patience
from cluster.swarm.shard import Shard
from replicas.errors import InvalidRequest, NotFound, Overloaded
from tests.swarm.answerers import EchoAnswerer, Odd, Puppet, swarm_of

QUICK = Patience(first_s=0.001, most_s=0.002)
LIMITS = Limits(patience=QUICK, relaunch_s=0.001)


@asynccontextmanager
async def conducting(
    path: Path, answerer: Puppet, limits: Limits = LIMITS, launcher: Launcher | None = None
) -> AsyncIterator[Conductor]:
    conductor = Conductor(Journal(path / "j"), launcher or InProcessLauncher(answerer.connect), limits)
    await conductor.start()
    try:
        yield conductor
    finally:
        await conductor.close()


async def followed(conductor: Conductor, job_id: str, after: int = 0) -> list[Event]:
    """Every event up to the last."""
    told: list[Event] = []
    while True:
        batch = await conductor.events(job_id, after, 10.0)
        told.extend(batch.events)
        after = told[-1].seq if told else after
        if batch.is_last:
            return told


async def until(conductor: Conductor, job_id: str, is_it: Callable[[Event], bool]) -> Event:
    """The first event that `is_it`."""
    after = 0
    while True:
        batch = await conductor.events(job_id, after, 10.0)
        for event in batch.events:
            after = event.seq
            if is_it(event):
                return event
        assert not batch.is_last


def texts(view: JobView) -> list[str]:
    return [output.text for output in view.outputs]


def test_a_job_runs_to_its_outputs_in_the_order_of_over(tmp_path: Path) -> None:
    async def run() -> None:
        puppet = Puppet()
        async with conducting(tmp_path, puppet) as conductor:
            assert (await conductor.submit("a", swarm_of(["x", "yy", "zzz"]))).status is JobStatus.QUEUED
            view = await conductor.job("a", wait_s=10)
        assert (view.status, texts(view)) == (JobStatus.SUCCEEDED, ["x", "yy", "zzz"])
        assert (view.usage.prompt, view.counts.succeeded, puppet.closed) == (6, 3, 1)

    asyncio.run(run())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text("ab", max_size=6), min_size=1, max_size=40), st.integers(0, 9))
def test_finishing_order_and_sharding_do_not_show_in_the_result(
    tmp_path_factory: pytest.TempPathFactory, values: list[str], chance: int
) -> None:
    class Shuffled(Puppet):
        async def close(self) -> None: ...

    async def run() -> list[tuple[int, int, str, str]]:
        puppet = Shuffled()
        draw = random.Random(chance)
        for value in set(values):
            puppet.gates[value] = asyncio.Event()
        limits = Limits(shards_per_job=draw.randint(1, 4), calls_per_shard=len(values), instances_per_shard=9)
        async with conducting(tmp_path_factory.mktemp("job"), puppet, limits) as conductor:
            await conductor.submit("a", swarm_of(values))
            for gate in draw.sample(list(puppet.gates.values()), len(puppet.gates)):
                gate.set()
                await asyncio.sleep(0)
            view = await conductor.job("a", wait_s=10)
        return [(output.agent, output.item, output.role, output.text) for output in view.outputs]

    assert asyncio.run(run()) == [(index, index, "echo", value) for index, value in enumerate(values)]


def test_outputs_carry_their_errors_and_the_job_still_succeeds(tmp_path: Path) -> None:
    async def run() -> None:
        puppet = Puppet(failures={"bad": [Odd("no")]})
        async with conducting(tmp_path, puppet) as conductor:
            await conductor.submit("a", swarm_of(["good", "bad"]))
            view = await conductor.job("a", wait_s=10)
        assert (view.status, [output.error for output in view.outputs]) == (JobStatus.SUCCEEDED, [None, "no"])

    asyncio.run(run())


def test_a_job_without_any_good_output_failed_and_says_why(tmp_path: Path) -> None:
    async def run() -> None:
        async with conducting(tmp_path, Puppet(failures={"bad": [Odd("no"), Odd("no")]})) as conductor:
            await conductor.submit("a", swarm_of(["bad", "bad"]))
            view = await conductor.job("a", wait_s=10)
        assert (view.status, view.error, view.counts.failed) == (JobStatus.FAILED, "no", 2)

    asyncio.run(run())


def test_after_a_restart_only_unfinished_items_are_called(tmp_path: Path) -> None:
    async def run() -> None:
        first = Puppet(gates={"slow": asyncio.Event()})
        async with conducting(tmp_path, first) as conductor:
            await conductor.submit("a", swarm_of(["fast", "slow", "quick"]))
            seen = [await until(conductor, "a", lambda e: e.type is EventType.OUTPUT and e.agent == 0)]
            seen.append(await until(conductor, "a", lambda e: e.type is EventType.OUTPUT and e.agent == 2))
        second = Puppet()
        async with conducting(tmp_path, second) as conductor:
            told = await followed(conductor, "a", after=seen[-1].seq)
            view = await conductor.job("a", wait_s=10)
        assert second.prompts() == ["slow"]
        assert (view.status, texts(view)) == (JobStatus.SUCCEEDED, ["fast", "slow", "quick"])
        assert {event.agent for event in told if event.type is EventType.OUTPUT} == {0, 1, 2}
        assert all(event.seq >= seen[-1].seq for event in told)

    asyncio.run(run())


def test_a_job_that_cannot_be_read_keeps_no_other_from_going_on(tmp_path: Path) -> None:
    async def run() -> None:
        journal = Journal(tmp_path / "j")
        journal.accept(JobRecord("old", None, ("r",), 1, created_at=time.time()), '{"agents": 1}')
        journal.accept(JobRecord("new", None, ("r",), 1, created_at=time.time()), swarm_of(["x"]).model_dump_json())
        journal.close()
        async with conducting(tmp_path, Puppet()) as conductor:
            assert (await conductor.job("new", wait_s=10)).status is JobStatus.SUCCEEDED
            old = await conductor.job("old")
            assert (old.status, "submit it again" in str(old.error)) == (JobStatus.FAILED, True)

    asyncio.run(run())


def test_a_finished_job_is_shown_by_the_next_conductor_without_any_call(tmp_path: Path) -> None:
    async def run() -> None:
        async with conducting(tmp_path, Puppet()) as conductor:
            await conductor.submit("a", swarm_of(["x", "y"]))
            before = await conductor.job("a", wait_s=10)
            last = (await followed(conductor, "a"))[-1]
        puppet = Puppet()
        async with conducting(tmp_path, puppet) as conductor:
            assert await conductor.job("a") == before
            assert await conductor.jobs() == [replace(before, outputs=())]
            told = await followed(conductor, "a")
            assert [event.text for event in told] == ["x", "y", None]
            assert (await conductor.events("a", last.seq, 0)).events == ()
        assert puppet.calls == []

    asyncio.run(run())


def test_cancelling_ends_the_calls_and_keeps_what_is_done(tmp_path: Path) -> None:
    async def run() -> None:
        puppet = Puppet(gates={"slow": asyncio.Event()})
        async with conducting(tmp_path, puppet) as conductor:
            await conductor.submit("a", swarm_of(["fast", "slow"]))
            await until(conductor, "a", lambda e: e.type is EventType.OUTPUT)
            view = await conductor.cancel("a")
            again = await conductor.cancel("a")
            told = await followed(conductor, "a")
        assert view.status is again.status is JobStatus.CANCELLED
        assert [(output.text, output.error) for output in view.outputs] == [("fast", None), ("", "cancelled")]
        assert (puppet.in_flight, told[-1].type, told[-1].status) == (0, EventType.DONE, JobStatus.CANCELLED)

    asyncio.run(run())


def test_the_deadline_counts_from_submit_and_keeps_what_is_done(tmp_path: Path) -> None:
    async def run() -> None:
        puppet = Puppet(gates={"slow": asyncio.Event()})
        async with conducting(tmp_path, puppet) as conductor:
            await conductor.submit("a", swarm_of(["fast", "slow"], deadline_s=0.3))
            view = await conductor.job("a", wait_s=10)
        assert (view.status, view.error) == (JobStatus.FAILED, "not finished within 0.3 s")
        assert texts(view) == ["fast", ""]

    asyncio.run(run())


def test_jobs_beyond_the_bound_wait_and_beyond_the_queue_are_refused(tmp_path: Path) -> None:
    async def run() -> None:
        gate = asyncio.Event()
        limits = Limits(jobs_running=1, jobs_queued=1)
        async with conducting(tmp_path, Puppet(gates={"x": gate}), limits) as conductor:
            await conductor.submit("a", swarm_of(["x"]))
            await until(conductor, "a", lambda e: e.type is EventType.STARTED)
            await conductor.submit("b", swarm_of(["x"]))
            with pytest.raises(Overloaded):
                await conductor.submit("c", swarm_of(["x"]))
            assert [view.status for view in await conductor.jobs()] == [JobStatus.QUEUED, JobStatus.RUNNING]
            gate.set()
            assert (await conductor.job("b", wait_s=10)).status is JobStatus.SUCCEEDED

    asyncio.run(run())


def test_submitting_twice_under_one_id_is_one_job(tmp_path: Path) -> None:
    async def run() -> None:
        puppet = Puppet()
        async with conducting(tmp_path, puppet) as conductor:
            await asyncio.gather(*(conductor.submit("a", swarm_of(["x"])) for _ in range(3)))
            await conductor.job("a", wait_s=10)
            with pytest.raises(InvalidRequest, match="another swarm"):
                await conductor.submit("a", swarm_of(["y"]))
        assert puppet.prompts() == ["x"]

    asyncio.run(run())


def test_an_unknown_job_is_not_found(tmp_path: Path) -> None:
    async def run() -> None:
        async with conducting(tmp_path, Puppet()) as conductor:
            asks: list[Awaitable[object]] = [
                conductor.job("x"),
                conductor.cancel("x"),
                conductor.events("x", 0, 0),
            ]
            for ask in asks:
                with pytest.raises(NotFound):
                    await ask

    asyncio.run(run())


class Mortal:
    """Loses shards: each launch reports at most `outputs_each` outputs and dies."""

    def __init__(self, outputs_each: int) -> None:
        self.launched: list[list[int]] = []
        self._outputs_each = outputs_each

    async def run(self, shard: Shard, report: Report) -> None:
        agents = [item.index for item in shard.assignments]
        self.launched.append(agents)
        done = agents[: self._outputs_each]
        await report([Event(EventType.OUTPUT, agent=agent, text=f"out {agent}") for agent in done])
        if len(done) < len(agents):
            raise ShardLost("killed")


def test_what_a_lost_shard_had_finished_is_not_launched_again(tmp_path: Path) -> None:
    async def run() -> None:
        mortal = Mortal(outputs_each=2)
        async with conducting(tmp_path, Puppet(), LIMITS, mortal) as conductor:
            await conductor.submit("a", swarm_of(["x"] * 5))
            told = await followed(conductor, "a")
            view = await conductor.job("a")
        assert mortal.launched == [[0, 1, 2, 3, 4], [2, 3, 4], [4]]
        assert texts(view) == [f"out {index}" for index in range(5)]
        assert "the worker died: killed" in {event.error for event in told if event.type is EventType.RETRY}

    asyncio.run(run())


def test_a_shard_that_dies_without_progress_is_given_up_after_some_launches(tmp_path: Path) -> None:
    async def run() -> None:
        mortal = Mortal(outputs_each=0)
        async with conducting(tmp_path, Puppet(), LIMITS, mortal) as conductor:
            await conductor.submit("a", swarm_of(["x"]))
            view = await conductor.job("a", wait_s=10)
        assert len(mortal.launched) == LIMITS.launches
        assert (view.status, view.error) == (JobStatus.FAILED, "the worker died: killed")

    asyncio.run(run())


def test_a_broken_launcher_fails_the_job_instead_of_hanging_it(tmp_path: Path) -> None:
    class Broken:
        async def run(self, shard: Shard, report: Report) -> None:
            raise ZeroDivisionError

    async def run() -> None:
        async with conducting(tmp_path, Puppet(), LIMITS, Broken()) as conductor:
            await conductor.submit("a", swarm_of(["x"]))
            view = await conductor.job("a", wait_s=10)
        assert view.status is JobStatus.FAILED
        assert view.error == "internal error: the log of the conductor says more"

    asyncio.run(run())


def replayed(told: Sequence[Event]) -> dict[int, str]:
    """What a follower that keeps the rule of event.py shows."""
    shown: dict[int, str] = {}
    for event in told:
        if event.agent is not None:
            if event.type is EventType.DELTA:
                shown[event.agent] = shown.get(event.agent, "") + (event.text or "")
            else:
                shown[event.agent] = event.text or ""
    return shown


def test_a_late_follower_sees_outputs_and_the_text_so_far_then_live_text(tmp_path: Path) -> None:
    async def run() -> None:
        gate = asyncio.Event()
        puppet = Puppet(gates={"slow": gate})
        async with conducting(tmp_path, puppet, Limits(ring_events=1)) as conductor:
            await conductor.submit("a", swarm_of(["fast", "slow"]))
            await until(conductor, "a", lambda e: e.type is EventType.OUTPUT)
            batch = await conductor.events("a", 0, 0)
            assert replayed(batch.events) == {0: "fast", 1: "sl"}
            assert [event.seq for event in batch.events[:-1]] == [0] * (len(batch.events) - 1)
            gate.set()
            told = await followed(conductor, "a", after=batch.events[-1].seq)
        assert replayed(told)[1] == "slow"

    asyncio.run(run())


def test_every_follower_sees_the_same_end_wherever_it_comes_in(tmp_path: Path) -> None:
    async def run() -> None:
        async with conducting(tmp_path, Puppet(), Limits(ring_events=7)) as conductor:
            await conductor.submit("a", swarm_of([f"text {n}" for n in range(10)]))
            await conductor.job("a", wait_s=10)
            whole = await followed(conductor, "a")
            for after in (0, 1, whole[-1].seq - 3, whole[-1].seq + 5):
                told = await followed(conductor, "a", after)
                assert told[-1] == whole[-1]
        assert replayed(whole) == {n: f"text {n}" for n in range(10)}

    asyncio.run(run())


def test_a_real_engine_serves_a_job_of_many_agents(tmp_path: Path) -> None:
    async def run() -> None:
        launcher = InProcessLauncher(EchoAnswerer)
        async with conducting(tmp_path, Puppet(), LIMITS, launcher) as conductor:
            await conductor.submit("a", swarm_of([f"text {n}" for n in range(40)]))
            view = await conductor.job("a", wait_s=30)
        assert texts(view) == [f"text {n}" for n in range(40)]
        assert view.usage.generated > 0

    asyncio.run(run())


@given(st.integers(0, 2000), st.integers(1, 5), st.integers(1, 40), st.integers(1, 300))
def test_pieces_are_whole_even_and_bounded(agents: int, shards: int, calls: int, most: int) -> None:
    limits = Limits(shards_per_job=shards, calls_per_shard=calls, instances_per_shard=most)
    cut = pieces(range(agents), limits)
    assert [agent for piece in cut for agent in piece.agents] == list(range(agents))
    sizes = [len(piece.agents) for piece in cut]
    assert all(0 < size <= most for size in sizes)
    assert not sizes or max(sizes) - min(sizes) <= 1
