"""Along a chain: retries, fallback, deadlines, hedges, and no silent switch after the first content."""

import asyncio
from contextlib import aclosing

import pytest
from prometheus_client import CollectorRegistry

from replicas.cloud.errors import CloudBroken, CloudBusy, CloudDenied, CloudRefused
from replicas.engine import CallPiece, Chunk, Finish
from replicas.errors import (
    ContextOverflow,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    NotFound,
    Overloaded,
    ShoalError,
    Unavailable,
    Withheld,
)
from router.chain.backend import Asked
from router.chain.backoff import Retries
from router.chain.breaker import Limits, State
from tests.router.chains import Step, asks, chain, chunk, end, link, ran, saying, scripted, skipping, told

BROKEN = CloudBroken("cloud", "HTTP 500")


def test_an_answer_comes_through_as_it_is() -> None:
    found = ran(link("a", saying("one ", "two")))
    assert (found.answer.text, found.answer.final.usage.generated) == ("one two", 2)
    assert found.lists[0] == []  # admitted
    assert (found.reasons, found.run.answered_by) == ([("a", "answered")], "a")


def test_a_broken_pool_is_asked_again_and_then_the_next_one() -> None:
    bad, good = link("a", [BROKEN]), link("b", saying("hello"))
    found = ran(bad, good)
    assert found.answer.text == "hello"
    assert found.reasons == [("a", "broken")] * 3 + [("b", "answered")]


def test_a_pool_that_recovers_answers_itself() -> None:
    found = ran(link("a", [EngineFailed("x")], saying("hello")), link("b", saying("no")))
    assert (found.answer.text, found.run.answered_by) == ("hello", "a")


@pytest.mark.parametrize(
    "error",
    [
        ContextOverflow(9, 8),
        Withheld("it is private"),
        NotFound("model", "x"),
        CloudRefused("cloud", "no such field", 400, "{}"),
        CloudDenied("cloud", "HTTP 401"),
        DeadlineExceeded(0.1),
    ],
)
def test_a_backend_that_cannot_is_not_asked_again(error: ShoalError) -> None:
    first = link("a", [error])
    found = ran(first, link("b", saying("hello")))
    assert (found.answer.text, len(asks(first))) == ("hello", 1)


def test_a_wrong_request_goes_nowhere_else() -> None:
    second = link("b", saying("hello"))
    found = ran(link("a", [InvalidRequest("top_p: from 0 to 1")]), second)
    assert isinstance(found.error, InvalidRequest)
    assert (asks(second), found.reasons) == ([], [("a", "invalid")])


@pytest.mark.parametrize("error", [Overloaded("a", 1.5), CloudBusy("a", "slow down", 429, 1.5)])
def test_retry_after_is_honoured(error: ShoalError) -> None:
    busy = link("a", [error], saying("hello"))
    found = ran(busy)
    assert found.answer.text == "hello"
    assert 1.5 <= asks(busy)[1][0] <= 1.5 + Retries().base_s


def test_a_pool_that_wants_a_long_wait_is_left_for_the_next() -> None:
    busy = link("a", [CloudBusy("a", "slow down", 429, 30.0)])
    found = ran(busy, link("b", saying("hello")))
    assert (found.answer.text, len(asks(busy)), found.times_s[-1]) == ("hello", 1, 0.0)


def test_a_cloud_that_named_a_time_is_not_asked_by_others_before() -> None:
    async def test() -> None:
        shared, busy = chain(), link("a", [CloudBusy("a", "slow down", 429, 30.0)], saying("hello"))
        first, second = await told(Asked((busy,)), shared), await told(Asked((busy,)), shared)
        assert isinstance(first.error, CloudBusy)
        assert isinstance(second.error, Overloaded)
        assert second.error.retry_after_s == 30.0
        await asyncio.sleep(30.0)
        assert (await told(Asked((busy,)), shared)).answer.text == "hello"
        assert len(asks(busy)) == 2

    skipping(test())


def test_who_comes_while_a_cloud_wants_a_short_rest_waits_for_its_end_too() -> None:
    async def test() -> None:
        shared, busy = chain(), link("a", [CloudBusy("a", "slow down", 429, 1.5)], saying("hello"))
        first = asyncio.create_task(told(Asked((busy,)), shared))
        await asyncio.sleep(0.5)
        second = await told(Asked((link("a", saying("hello")),)), shared)
        assert (second.answer.text, second.reasons) == ("hello", [("a", "open"), ("a", "answered")])
        assert 1.5 <= second.times_s[0] <= 1.5 + Retries().base_s
        assert (await first).answer.text == "hello"

    skipping(test())


@pytest.mark.parametrize(
    ("errors", "wanted"),
    [
        ([ContextOverflow(9, 8), BROKEN], CloudBroken),
        ([BROKEN, Overloaded("b", 40.0)], Overloaded),
        ([Withheld("it is private"), ContextOverflow(9, 8)], ContextOverflow),
        ([CloudDenied("a", "HTTP 401"), ContextOverflow(9, 8)], CloudDenied),
        ([Unavailable("a"), InvalidRequest("no")], InvalidRequest),
    ],
)
def test_the_caller_is_told_what_helps_most(errors: list[ShoalError], wanted: type[ShoalError]) -> None:
    found = ran(*(link(f"pool-{i}", [error]) for i, error in enumerate(errors)))
    assert type(found.error) is wanted


def test_of_several_waits_the_caller_is_told_the_shortest() -> None:
    found = ran(link("a", [Overloaded("a", 50.0)]), link("b", [Overloaded("b", 20.0)]))
    assert isinstance(found.error, Overloaded)
    assert found.error.retry_after_s == 20.0


@pytest.mark.parametrize("content", [chunk("he"), chunk(call=CallPiece(0, "look"))])
def test_nobody_takes_over_after_the_first_content(content: Chunk) -> None:
    second = link("b", saying("hello"))
    found = ran(link("a", [[], [content], BROKEN]), second)
    assert (found.lists, found.error, asks(second)) == ([[], [content]], BROKEN, [])
    assert found.reasons == [("a", "broken")]


def test_an_error_in_the_last_chunk_goes_out_with_its_usage_once_content_has() -> None:
    second = link("b", saying("hello"))
    found = ran(link("a", [[chunk("he")], [end(Finish.ERROR, BROKEN)]]), second)
    assert (found.answer.final.error, found.answer.final.usage.generated) == (BROKEN, 2)
    assert (found.reasons, asks(second)) == ([("a", "broken")], [])


@pytest.mark.parametrize(
    "script",
    [
        [[], [end(Finish.ERROR, BROKEN)]],
        [[], [end(Finish.CANCELLED)]],
        [[], [chunk(tokens=1)], [end(Finish.ERROR)]],
        [[]],
        [],
    ],
)
def test_an_answer_that_ends_badly_before_any_content_falls_back(script: list[Step]) -> None:
    found = ran(link("a", script), link("b", saying("hello")), retries=Retries(0))
    assert (found.answer.text, found.reasons) == ("hello", [("a", "broken"), ("b", "answered")])
    assert [one.tokens for one in found.lists[1]] == [1]  # nothing of the first one


def test_a_stream_that_just_stops_after_content_ends_in_an_error() -> None:
    found = ran(link("a", [[chunk("he")]]), link("b", saying("hello")))
    assert isinstance(found.error, EngineFailed)
    assert "without its last chunk" in str(found.error)


def test_an_answer_that_breaks_off_while_its_reader_is_busy_is_told_without_a_wait() -> None:
    async def read() -> None:
        run = chain().run(Asked((link("a", [[chunk("x")], [chunk("y")], BROKEN]),)))
        async for _ in run.chunks():
            await asyncio.sleep(0.1)

    async def test() -> float:
        with pytest.raises(CloudBroken):
            await read()
        return asyncio.get_running_loop().time()

    assert skipping(test()) < 1.0


def test_an_empty_answer_is_an_answer() -> None:
    found = ran(link("a", [[], [end()]]), link("b", saying("hello")))
    assert (found.answer.text, found.run.answered_by) == ("", "a")


def test_the_deadline_is_carried_through() -> None:
    first, second = link("a", [1.0, BROKEN]), link("b", [[], 60.0, *saying("late")])
    found = ran(first, second, deadline_s=10.0, retries=Retries(0))
    assert isinstance(found.error, DeadlineExceeded)
    assert found.error.deadline_s == 10.0
    assert [left_s for _, left_s in asks(first) + asks(second)] == [10.0, 9.0]


@pytest.mark.parametrize("pieces", [[], [[chunk("he")]]])
def test_a_backend_that_ignores_its_deadline_is_cut_off(pieces: list[Step]) -> None:
    found = ran(link("a", [[], 1.0, BROKEN], [*pieces, 1e6]), deadline_s=5.0)
    assert isinstance(found.error, DeadlineExceeded)
    assert found.error.deadline_s == 5.0  # all of it, not what was left
    assert found.reasons == [("a", "broken"), ("a", "late")]
    assert found.run.tries[1].wall_s == pytest.approx(4.0, abs=0.5)


def test_no_wait_goes_past_the_deadline() -> None:
    found = ran(link("a", [Overloaded("a", 5.0)]), deadline_s=3.0)
    assert isinstance(found.error, Overloaded)
    assert len(found.run.tries) == 1


def test_a_silent_pool_is_given_up_while_another_is_left() -> None:
    silent, slow = link("a", [[], 1e6], patience_s=2.0), link("b", [[], 30.0, *saying("hello")], patience_s=2.0)
    found = ran(silent, slow)
    assert (found.answer.text, found.reasons) == ("hello", [("a", "late"), ("b", "answered")])
    assert asks(slow)[0][0] == pytest.approx(2.0)


def test_while_nothing_comes_there_are_pings_once_admitted() -> None:
    found = ran(link("a", [5.0, [], 35.0, *saying("hello")]), ping_s=10.0)
    assert [when_s for when_s, chunks in zip(found.times_s, found.lists, strict=True) if not chunks] == [
        pytest.approx(when_s) for when_s in (5.0, 15.0, 25.0, 35.0)
    ]


def test_a_hedge_is_answered_by_whoever_speaks_first() -> None:
    slow, fast = link("a", [[], 9.0, *saying("slow")]), link("b", [1.0, *saying("fast")])
    found = ran(slow, fast, hedge_after_s=2.0)
    assert found.answer.text == "fast"
    assert found.times_s[-1] == pytest.approx(3.0)
    assert sorted(found.reasons) == [("a", "beaten"), ("b", "answered")]


def test_a_hedge_that_loses_is_closed_and_says_nothing() -> None:
    first, second = link("a", [[], 3.0, [chunk("one")], 9.0, *saying(" two")]), link("b", [5.0, *saying("no")])
    found = ran(first, second, hedge_after_s=2.0)
    assert found.answer.text == "one two"
    assert sorted(found.reasons) == [("a", "answered"), ("b", "beaten")]
    assert scripted(second).closed_early == 1


def test_the_loser_of_a_hedge_is_stopped_as_soon_as_there_is_a_winner() -> None:
    slow, fast = link("a", [[], 1e6]), link("b", [[chunk("fa")], 60.0, [chunk("st"), end()]])
    found = ran(slow, fast, hedge_after_s=2.0, ping_s=1e3)
    assert (found.answer.text, scripted(slow).ended_s, scripted(fast).ended_s) == ("fast", [2.0], [62.0])


def test_of_two_that_speak_at_the_same_moment_one_answers() -> None:
    found = ran(link("a", [[], 3.0, *saying(*"aaa")]), link("b", [[], 2.0, *saying(*"bbb")]), hedge_after_s=1.0)
    assert found.answer.text in ("aaa", "bbb")
    assert sorted(reason for _, reason in found.reasons) == ["answered", "beaten"]


def test_what_follows_the_end_is_dropped() -> None:
    found = ran(link("a", [[chunk("one")], [end(), chunk(" two")], [end()]]))
    assert [len(chunks) for chunks in found.lists if chunks] == [1, 1]
    assert found.answer.text == "one"


def test_without_a_hedge_nobody_else_is_asked() -> None:
    second = link("b", saying("fast"))
    assert ran(link("a", [[], 9.0, *saying("slow")]), second).answer.text == "slow"
    assert asks(second) == []


def test_a_hedge_survives_the_failure_of_the_first() -> None:
    found = ran(link("a", [4.0, BROKEN]), link("b", [[], 9.0, *saying("b")]), hedge_after_s=1.0, retries=Retries(0))
    assert found.answer.text == "b"
    assert found.times_s[-1] == pytest.approx(10.0)


def test_a_caller_who_leaves_ends_it_and_nobody_is_to_blame() -> None:
    async def test() -> None:
        shared, slow = chain(), link("a", [[], [chunk("one")], 1e6])
        run = shared.run(Asked((slow,)))
        async with aclosing(run.chunks()) as stream:
            assert [await anext(stream), await anext(stream)] == [[], [chunk("one")]]
        assert [(tried.reason.value, scripted(slow).open) for tried in run.tries] == [("left", 0)]
        assert shared.breaker("a").state is State.CLOSED

    skipping(test())


def test_a_reader_who_is_cancelled_leaves_nothing_behind() -> None:
    async def test() -> None:
        first, second = link("a", [1e6]), link("b", [1e6])
        reader = asyncio.create_task(told(Asked((first, second), hedge_after_s=1.0, deadline_s=1e7)))
        await asyncio.sleep(5.0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        assert [len(asks(one)) for one in (first, second)] == [1, 1]
        assert [scripted(one).open for one in (first, second)] == [0, 0]

    skipping(test())


def test_a_slow_reader_slows_the_backend_down() -> None:
    async def test() -> None:
        many = link("a", [*([chunk("x")] for _ in range(1000)), [end()]])
        async with aclosing(chain().run(Asked((many,))).chunks()) as stream:
            assert await anext(stream) == []
            await asyncio.sleep(60.0)
            assert scripted(many).open == 1
            assert sum([len(chunks) async for chunks in stream]) == 1001

    skipping(test())


def test_an_open_breaker_sends_requests_elsewhere_at_once_and_a_probe_brings_them_back() -> None:
    async def test() -> None:
        shared = chain(Limits(failures=3, rest_s=5.0, probes=1))
        first, second = link("a", [BROKEN], [BROKEN], [BROKEN], saying("a")), link("b", saying("b"))
        asked = Asked((first, second), retries=Retries(0))
        said = [(await told(asked, shared)).answer.text for _ in range(5)]
        assert (said, len(asks(first)), shared.breaker("a").state) == (["b"] * 5, 3, State.OPEN)
        await asyncio.sleep(6.0)
        assert (await told(asked, shared)).answer.text == "a"
        assert shared.breaker("a").state is State.CLOSED

    skipping(test())


def test_when_every_breaker_is_open_the_caller_is_told_so() -> None:
    async def test() -> None:
        registry = CollectorRegistry()
        shared = chain(Limits(failures=1), registry)
        asked = Asked((link("a", [BROKEN]),), retries=Retries(0))
        await told(asked, shared)
        assert registry.get_sample_value("shoal_breaker_state", {"pool": "a"}) == 2
        error = (await told(asked, shared)).error
        assert isinstance(error, Unavailable)
        assert "left alone" in str(error)
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 6

    skipping(test())


def test_answers_that_break_off_open_a_breaker_too() -> None:
    async def test() -> None:
        shared = chain(Limits(failures=4))
        for _ in range(4):
            await told(Asked((link("a", [[chunk("he")], BROKEN]),)), shared)
        assert shared.breaker("a").state is State.OPEN

    skipping(test())


def test_callers_in_a_hurry_open_no_breaker_but_a_slow_pool_does() -> None:
    async def test() -> None:
        shared = chain(Limits(failures=2))
        for deadline_s in (1.0, 1.0, 1.0):
            await told(Asked((link("a", [1e6], patience_s=5.0),), deadline_s), shared)
        assert shared.breaker("a").state is State.CLOSED
        for _ in range(2):
            await told(Asked((link("a", [1e6], patience_s=5.0), link("b", saying("b"))), 60.0), shared)
        assert shared.breaker("a").state is State.OPEN

    skipping(test())


def test_metrics_tell_tries_times_costs_and_who_answered() -> None:
    registry = CollectorRegistry()

    async def test() -> None:
        second = link("b", [[], 2.0, *saying("hello")])
        scripted(second).price_usd = 0.25
        await told(Asked((link("a", [1.0, BROKEN]), second), retries=Retries(0)), chain(registry=registry))

    skipping(test())
    value = registry.get_sample_value
    assert value("shoal_chain_tries_total", {"pool": "a", "reason": "broken"}) == 1
    assert value("shoal_chain_try_seconds_total", {"pool": "a", "reason": "broken"}) == 1.0
    assert value("shoal_chain_cost_usd_total", {"pool": "b", "reason": "answered"}) == 0.25
    assert value("shoal_chain_first_content_seconds_sum", {"pool": "b"}) == 2.0
    assert value("shoal_chain_answers_total", {"by": "other"}) == 1
