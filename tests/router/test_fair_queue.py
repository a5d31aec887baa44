"""Turns: fair by weight, interactive before batch, bounded, and given to somebody whenever there is one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.engine import Priority
from replicas.errors import DeadlineExceeded, Overloaded
from router.fair_queue import PATIENCE_S, Ask, FairQueue, Room

BATCH, INTERACTIVE = Priority.BATCH, Priority.INTERACTIVE


class Hall:
    """A queue whose clock and turns the test holds: `order` is who got a turn, `end` ends the oldest one."""

    def __init__(self, running: int = 1, most: int | None = None, waiting: int = 1000) -> None:
        self.now_s = 0.0
        self.queue = FairQueue(
            Room(running, most or running, waiting), lambda: Overloaded("p", 1.0), lambda: self.now_s
        )
        self.order: list[str] = []
        self.refused: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def ask(self, name: str, weight: float = 1.0, cost: float = 1.0, priority: Priority = INTERACTIVE) -> None:
        """A request called KEY or KEY.NUMBER."""
        ask = Ask(name.partition(".")[0], weight, cost, priority, 3600.0)
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._turn(name, ask))
        await settled()

    async def _turn(self, name: str, ask: Ask) -> None:
        try:
            async with self.queue.turn(ask):
                self.order.append(name)
                await self._ends[name].wait()
        except Overloaded:
            self.refused.append(name)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settled()

    async def run_dry(self) -> list[str]:
        """End turns in the order in which they were given until none is left."""
        ended = 0
        while ended < len(self.order):
            await self.end(self.order[ended])
            ended += 1
        return self.order


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def hall(running: int = 1, most: int | None = None, waiting: int = 1000) -> AsyncIterator[Hall]:
    made = Hall(running, most, waiting)
    yield made
    for task in made.tasks.values():
        task.cancel()
    await asyncio.gather(*made.tasks.values(), return_exceptions=True)
    assert made.queue.waiting == 0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_key_that_floods_waits_behind_itself() -> None:
    async with hall() as it:
        for number in range(5):
            await it.ask(f"flood.{number}")
        await it.ask("quiet")
        assert (await it.run_dry())[:3] == ["flood.0", "quiet", "flood.1"]


@pytest.mark.anyio
async def test_costly_requests_count_for_more() -> None:
    async with hall() as it:
        await it.ask("first")
        for number in range(4):
            await it.ask(f"big.{number}", cost=30.0)
            await it.ask(f"small.{number}", cost=10.0)
        assert Counter(name.partition(".")[0] for name in (await it.run_dry())[1:5]) == {"big": 1, "small": 3}


@pytest.mark.anyio
async def test_interactive_goes_before_batch() -> None:
    async with hall() as it:
        await it.ask("first")
        await it.ask("job", priority=BATCH)
        await it.ask("person")
        assert await it.run_dry() == ["first", "person", "job"]


@pytest.mark.anyio
async def test_interactive_does_not_wait_for_running_batch_work_while_there_is_room_to_preempt() -> None:
    async with hall(running=1, most=2) as it:
        await it.ask("job.0", priority=BATCH)
        await it.ask("job.1", priority=BATCH)
        await it.ask("person.0")
        await it.ask("person.1")
        assert it.order == ["job.0", "person.0"]


@pytest.mark.anyio
async def test_batch_work_that_has_waited_long_goes_first() -> None:
    async with hall() as it:
        await it.ask("first")
        await it.ask("job", priority=BATCH)
        it.now_s = PATIENCE_S + 1
        await it.ask("person")
        assert await it.run_dry() == ["first", "job", "person"]


@pytest.mark.anyio
async def test_a_full_room_turns_away_the_last_of_who_waits_with_the_most() -> None:
    async with hall(waiting=3) as it:
        for number in range(4):
            await it.ask(f"flood.{number}")
        await it.ask("quiet")
        await it.ask("flood.4")
        assert it.refused == ["flood.3", "flood.4"]
        assert await it.run_dry() == ["flood.0", "quiet", "flood.1", "flood.2"]


@pytest.mark.anyio
async def test_without_room_to_wait_the_newcomer_is_refused_at_once() -> None:
    async with hall(waiting=0) as it:
        await it.ask("a")
        await it.ask("b")
        assert (it.order, it.refused) == (["a"], ["b"])


@pytest.mark.anyio
async def test_who_gives_up_makes_room_wherever_it_stood() -> None:
    async with hall() as it:
        for name in ("a", "b", "c"):
            await it.ask(name)
        it.tasks["b"].cancel()
        it.tasks["a"].cancel()
        await settled()
        assert it.order == ["a", "c"]


@pytest.mark.anyio
async def test_nobody_waits_longer_than_the_deadline() -> None:
    async with hall() as it:
        await it.ask("a")
        with pytest.raises(DeadlineExceeded):
            async with it.queue.turn(Ask("b", 1.0, 1.0, INTERACTIVE, 0.01)):
                pass
        assert it.queue.waiting == 0


def served_in_turn(weights: dict[str, float], each: int) -> list[str]:
    """The keys in the order of their turns, when each wants `each` of them at once."""

    async def run() -> list[str]:
        async with hall() as it:
            await it.ask("zero")
            for number in range(each):
                for key, weight in weights.items():
                    await it.ask(f"{key}.{number}", weight)
            return [name.partition(".")[0] for name in (await it.run_dry())[1:]]

    return asyncio.run(run())


@given(st.lists(st.sampled_from([1.0, 2.0, 4.0]), min_size=2, max_size=4))
def test_while_all_wait_turns_are_shared_by_weight(weights: list[float]) -> None:
    named = {f"k{number}": weight for number, weight in enumerate(weights)}
    order = served_in_turn(named, each=12)
    heaviest = max(named, key=lambda key: named[key])
    all_wait = order[: [i for i, key in enumerate(order) if key == heaviest][-1]]
    turns = Counter(all_wait)
    for key, weight in named.items():
        assert abs(turns[key] / weight - turns[heaviest] / named[heaviest]) <= 1 / weight + 1 / named[heaviest]
    assert Counter(order) == dict.fromkeys(named, 12)


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([BATCH, INTERACTIVE]), st.booleans()), max_size=40)


@given(STEPS, st.integers(1, 3), st.integers(0, 2), st.integers(0, 5))
def test_there_are_never_too_many_and_never_idle_places(
    steps: list[tuple[str, Priority, bool]], running: int, extra: int, waiting: int
) -> None:
    async def run() -> None:
        async with hall(running, running + extra, waiting) as it:
            ended = 0
            for number, (key, priority, is_end) in enumerate(steps):
                await it.ask(f"{key}.{number}", priority=priority)
                if is_end and ended < len(it.order):
                    await it.end(it.order[ended])
                    ended += 1
                inside = len(it.order) - ended
                assert inside <= running + extra
                assert it.queue.waiting <= waiting
                assert inside >= running or it.queue.waiting == 0
            await it.run_dry()
            assert len(it.order) + len(it.refused) == len(steps)

    asyncio.run(run())
