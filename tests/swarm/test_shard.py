"""A shard against a puppet: what it reports, what it retries, and that it ends when it is not wanted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from cluster.swarm.assignment import assignment
from cluster.swarm.event import Event, EventType
from cluster.swarm.outbox import BATCH_EVENTS, Outbox
from cluster.swarm.patience import Patience
from cluster.swarm.shard import Shard, run_shard
from replicas.errors import EngineFailed, InvalidRequest, Overloaded, ShoalError, Unavailable
from tests.swarm.answerers import EchoAnswerer, Odd, Puppet, swarm_of

QUICK = Patience(first_s=0.001, most_s=0.002)


def shard_of(texts: list[str], budget_s: float = 60.0, calls_max: int = 4) -> Shard:
    spec = swarm_of(texts)
    return Shard("s", tuple(assignment(spec, index) for index in range(spec.instances)), calls_max, budget_s, QUICK)


def told_by(shard: Shard, puppet: Puppet) -> list[Event]:
    """All events of `shard`, run to its end."""
    told: list[Event] = []

    async def report(events: Sequence[Event]) -> bool:
        told.extend(events)
        return True

    asyncio.run(run_shard(shard, puppet, report))
    return told


def outputs(told: list[Event]) -> dict[int | None, tuple[str | None, str | None]]:
    return {event.agent: (event.text, event.error) for event in told if event.type is EventType.OUTPUT}


def test_every_item_starts_and_ends_with_its_whole_text() -> None:
    told = told_by(shard_of(["aa", "bb"]), Puppet())
    assert outputs(told) == {0: ("aa", None), 1: ("bb", None)}
    assert [event.type for event in told if event.agent == 0] == [EventType.STARTED, EventType.DELTA, EventType.OUTPUT]
    assert "".join(event.text or "" for event in told if event.type is EventType.DELTA) in ("aabb", "abab")


def test_the_role_of_the_agent_goes_along_for_the_rules() -> None:
    puppet = Puppet()
    told_by(shard_of(["aa"]), puppet)
    assert [call.origin.role for call in puppet.calls] == [swarm_of(["aa"]).agents[0].role] != [""]


def test_no_more_calls_than_allowed_are_in_flight() -> None:
    puppet = Puppet()
    told_by(shard_of([f"text {n}" for n in range(20)], calls_max=3), puppet)
    assert puppet.most_in_flight == 3


@pytest.mark.parametrize("error", [Overloaded("pool", 0.001), EngineFailed("x"), Unavailable("a replica")])
def test_a_call_that_may_work_later_is_made_again_and_its_text_starts_anew(error: ShoalError) -> None:
    puppet = Puppet(failures={"aa": [error, error]})
    told = told_by(shard_of(["aa"]), puppet)
    assert outputs(told) == {0: ("aa", None)}
    assert [event.error for event in told if event.type is EventType.RETRY] == [str(error)] * 2
    assert len({call.id for call in puppet.calls}) == 3


def test_an_engine_that_keeps_failing_becomes_the_items_error() -> None:
    puppet = Puppet(failures={"aa": [EngineFailed("broken")] * 10})
    told = told_by(shard_of(["aa", "bb"]), puppet)
    assert outputs(told) == {0: ("", "the engine failed: broken"), 1: ("bb", None)}
    assert puppet.prompts().count("aa") == QUICK.failed_attempts


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InvalidRequest("too long"), "too long"),
        (Odd("x"), "x"),
        (ZeroDivisionError("secret"), "internal error: ZeroDivisionError"),
    ],
)
def test_what_cannot_work_is_told_at_once_and_spoils_no_other_item(error: Exception, words: str) -> None:
    puppet = Puppet(failures={"aa": [error]})
    assert outputs(told_by(shard_of(["aa", "bb"]), puppet)) == {0: ("", words), 1: ("bb", None)}


def test_a_call_that_hangs_ends_with_the_shards_time() -> None:
    async def run() -> list[Event]:
        told: list[Event] = []

        async def report(events: Sequence[Event]) -> bool:
            told.extend(events)
            return True

        puppet = Puppet(gates={"aa": asyncio.Event()})
        await run_shard(shard_of(["aa"], budget_s=0.05), puppet, report)
        assert puppet.cancelled == ["aa"]
        return told

    assert outputs(asyncio.run(run())) == {0: ("", "not finished within 0.05 s")}


def test_a_shard_that_is_not_wanted_makes_no_call() -> None:
    puppet = Puppet()

    async def report(_: Sequence[Event]) -> bool:
        return False

    asyncio.run(run_shard(shard_of(["aa"]), puppet, report))
    assert puppet.calls == []


def test_a_quiet_shard_notices_that_it_is_not_wanted_any_more() -> None:
    async def run() -> None:
        puppet = Puppet(gates={"aa": asyncio.Event()})
        reports = 0

        async def report(events: Sequence[Event]) -> bool:
            nonlocal reports
            reports += not events
            return reports < 2  # the hello and one heartbeat

        await run_shard(shard_of(["aa"]), puppet, report)
        assert puppet.cancelled == ["aa"]

    asyncio.run(run())


def test_a_report_that_cannot_be_made_ends_the_shard_and_its_calls() -> None:
    async def run() -> None:
        puppet = Puppet(gates={"aa": asyncio.Event()})

        async def report(events: Sequence[Event]) -> bool:
            if events:
                raise Unavailable("the conductor")
            return True

        with pytest.raises(Unavailable):
            await run_shard(shard_of(["aa"]), puppet, report)
        assert puppet.in_flight == 0

    asyncio.run(run())


def test_a_real_engine_answers_through_a_shard() -> None:
    async def run() -> list[Event]:
        told: list[Event] = []

        async def report(events: Sequence[Event]) -> bool:
            told.extend(events)
            return True

        answerer = EchoAnswerer()
        await run_shard(shard_of(["one", "zwölf"]), answerer, report)
        await answerer.close()
        return told

    assert outputs(asyncio.run(run())) == {0: ("one", None), 1: ("zwölf", None)}


def pumped(add: Callable[[Outbox], None]) -> list[list[Event]]:
    batches: list[list[Event]] = []

    async def report(events: Sequence[Event]) -> bool:
        batches.append(list(events))
        return True

    async def nothing(_: None = None) -> None:
        return None

    async def run(make: Callable[[], Awaitable[None]]) -> None:
        outbox = Outbox(report)
        add(outbox)
        await outbox.pump(asyncio.ensure_future(make()))

    asyncio.run(run(nothing))
    return batches[1:]


def test_deltas_of_an_agent_merge_but_not_across_its_other_events() -> None:
    def add(outbox: Outbox) -> None:
        for text in ("a", "b"):
            outbox.add(Event(EventType.DELTA, agent=0, text=text))
            outbox.add(Event(EventType.DELTA, agent=1, text=text))
        outbox.add(Event(EventType.RETRY, agent=0))
        outbox.add(Event(EventType.DELTA, agent=0, text="c"))

    (batch,) = pumped(add)
    assert [(event.agent, event.text) for event in batch] == [(0, "ab"), (1, "ab"), (0, None), (0, "c")]


def test_what_is_left_goes_out_when_the_calls_are_done() -> None:
    def add(outbox: Outbox) -> None:
        for agent in range(BATCH_EVENTS * 2):
            outbox.add(Event(EventType.STARTED, agent=agent))

    assert sum(map(len, pumped(add))) == BATCH_EVENTS * 2


def test_patience_grows_is_bounded_and_heeds_retry_after() -> None:
    patience = Patience()
    waits = [patience.wait_s(Unavailable("x"), attempt, 0.0) for attempt in range(1, 13)]
    assert waits[0] == pytest.approx(0.1)
    assert waits[-2] == pytest.approx(4.0)
    assert waits[-1] is None
    assert patience.wait_s(Overloaded("pool", 3.0), 1, 0.0) == pytest.approx(3.0)
    assert patience.wait_s(InvalidRequest("x"), 1, 0.0) is None
