"""PoolClient and Answerer against replicas in this process: loss, cancellation, deadlines, changes of the set."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest

from deployments.answering import ATTEMPTS, Answerer
from deployments.plan import AppPlan, HttpPlan, PoolPlan
from deployments.pool_client import PoolClient
from deployments.prepared import Prepared
from deployments.replica_watch import watch
from replicas.engine import Chunk, Determinism, Generation, Message, Sampling
from replicas.errors import DeadlineExceeded, EngineFailed, InvalidRequest
from router.call import Call
from tests.deployments.hand_engine import HandEngine, HandStream
from tests.deployments.local_pool import LocalPool, LocalReplica
from tests.deployments.served import ECHO, echo

pytestmark = pytest.mark.anyio

CALL = Call("call", "echo", (Message("user", "hello"),), Sampling(max_tokens=100))


class Bench:
    """A pool with replicas, and an answerer in front of it."""

    def __init__(self, *engines: HandEngine, pool: PoolPlan = ECHO) -> None:
        self.engines = engines
        self.pool = LocalPool(ECHO.deployment, "echo")
        watch(ECHO.deployment).announce(frozenset())
        for engine in engines:
            self.pool.add(engine)
        self.answerer = Answerer(AppPlan((pool,), "echo", HttpPlan()), lambda _: self.pool.handle())
        self.answerer.start()

    @property
    def client(self) -> PoolClient:
        return self.answerer.clients["echo"]

    def ask(self) -> "asyncio.Task[str]":
        return asyncio.ensure_future(self._text())

    async def submitted(self, engine: HandEngine) -> HandStream:
        return await asyncio.to_thread(engine.next)

    async def until_closed(self, lost: LocalReplica) -> None:
        """Returns when the client has given up the token stream of `lost`."""
        while lost.id in self.client.stream_ids:  # noqa: ASYNC110 - the client has no event to tell it
            await asyncio.sleep(0.01)

    async def _text(self) -> str:
        return "".join([chunk.text async for chunk in self.answerer.answer(CALL)])


async def exhaust(answer: AsyncGenerator[list[Chunk], None]) -> None:
    async with aclosing(answer) as stream:
        async for _ in stream:
            pass


async def test_an_answer_comes_through_the_token_stream() -> None:
    bench = Bench(HandEngine())
    asked = bench.ask()
    stream = await bench.submitted(bench.engines[0])
    stream.say("hel")
    stream.say("lo")
    stream.end()
    assert await asyncio.wait_for(asked, 10) == "hello"
    await bench.answerer.close()


async def test_a_replica_lost_before_the_first_token_is_replaced_silently() -> None:
    bench = Bench(HandEngine(), HandEngine())
    asked = bench.ask()
    await bench.submitted(bench.engines[0])
    bench.pool.kill(bench.pool.replicas[0])
    stream = await bench.submitted(bench.engines[1])
    stream.say("from the other")
    stream.end()
    assert await asyncio.wait_for(asked, 10) == "from the other"
    await bench.answerer.close()


async def test_a_replica_lost_after_the_first_token_is_finished_by_another_one() -> None:
    bench = Bench(HandEngine(), HandEngine())
    async with aclosing(bench.answerer.answer(replace(CALL, id="half"))) as chunks:
        first = asyncio.ensure_future(anext(chunks))
        (await bench.submitted(bench.engines[0])).say("half")
        assert (await first).text == "half"
        bench.pool.kill(bench.pool.replicas[0])
        rest = asyncio.ensure_future(anext(chunks))
        again = await bench.submitted(bench.engines[1])
        again.say("half of it")
        assert (await asyncio.wait_for(rest, 10)).text == " of it"
    assert again.request.prompt == bench.engines[0].streams[0].request.prompt
    assert again.request.sampling == bench.engines[0].streams[0].request.sampling
    await bench.answerer.close()


@pytest.mark.parametrize(("determinism", "restarts"), [("strict", 1), ("relaxed", 0)])
async def test_an_answer_that_cannot_be_finished_as_it_began_is_a_typed_error(
    determinism: Determinism, restarts: int
) -> None:
    bench = Bench(HandEngine(), HandEngine(), pool=replace(ECHO, engine=replace(ECHO.engine, determinism=determinism)))
    async with aclosing(bench.answerer.answer(CALL)) as chunks:
        first = asyncio.ensure_future(anext(chunks))
        (await bench.submitted(bench.engines[0])).say("half")
        assert (await first).text == "half"
        bench.pool.kill(bench.pool.replicas[0])
        rest = asyncio.ensure_future(anext(chunks))
        if restarts:
            (await bench.submitted(bench.engines[1])).say("another")
        with pytest.raises(EngineFailed):
            await asyncio.wait_for(rest, 10)
    assert bench.pool.replicas[1].generations == restarts
    await bench.answerer.close()


async def test_when_every_replica_is_lost_the_last_error_is_told() -> None:
    bench = Bench(*(HandEngine() for _ in range(ATTEMPTS + 1)))
    asked = bench.ask()
    for replica, engine in list(zip(bench.pool.replicas, bench.engines, strict=True))[:ATTEMPTS]:
        await bench.submitted(engine)
        bench.pool.kill(replica)
    with pytest.raises(EngineFailed):
        await asyncio.wait_for(asked, 10)
    await bench.answerer.close()


async def test_a_replica_that_joins_gets_a_token_stream() -> None:
    bench, late = Bench(HandEngine()), HandEngine()
    bench.pool.add(late)
    holder = bench.ask()
    first = await bench.submitted(bench.engines[0])
    asked = bench.ask()
    stream = await bench.submitted(late)
    stream.say("late")
    stream.end()
    assert await asyncio.wait_for(asked, 10) == "late"
    first.end()
    await holder
    await bench.answerer.close()


async def test_leaving_an_answer_early_cancels_its_generation() -> None:
    bench = Bench(HandEngine())
    asked = bench.ask()
    stream = await bench.submitted(bench.engines[0])
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert await asyncio.to_thread(stream.cancelled.wait, 10)
    await bench.answerer.close()


async def test_a_replica_that_is_silent_past_the_deadline_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.pool_client.DEADLINE_GRACE_S", 0.0)
    bench = Bench(HandEngine())
    prepared = bench.answerer.prepare(CALL)
    assert isinstance(prepared, Prepared)
    hurried = Prepared(prepared.pool, replace(prepared.generation, deadline_s=0.01))
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(exhaust(bench.answerer.run(hurried)), 10)
    assert bench.engines[0].streams[0].cancelled.is_set()
    await bench.answerer.close()


async def test_quiet_spells_are_told_by_empty_lists() -> None:
    pool = LocalPool(ECHO.deployment, "echo")
    watch(ECHO.deployment).announce(frozenset())
    pool.add(HandEngine())
    client = PoolClient(pool.handle(), ECHO.deployment, quiet_s=0.01)
    client.start()
    async with aclosing(client.generate(Generation("a", (1,), Sampling(max_tokens=1)))) as stream:
        assert [await anext(stream) for _ in range(3)] == [[], [], []]
    await client.close()


async def test_a_token_stream_that_breaks_is_opened_again() -> None:
    bench = Bench(HandEngine())
    asked = bench.ask()
    stream = await bench.submitted(bench.engines[0])
    bench.pool.replicas[0].break_streams()
    stream.say("after the break")
    stream.end()
    assert await asyncio.wait_for(asked, 10) == "after the break"
    await bench.answerer.close()


async def test_the_stream_of_a_lost_replica_closes_while_others_keep_answering() -> None:
    bench = Bench(HandEngine(), HandEngine())
    lost = bench.pool.replicas[0]
    older = bench.ask()
    await bench.submitted(bench.engines[0])
    bench.pool.kill(lost)
    stream = await bench.submitted(bench.engines[1])
    newer = bench.ask()
    await bench.submitted(bench.engines[1])
    stream.end()
    await older
    await asyncio.wait_for(bench.until_closed(lost), 10)
    assert not newer.done()
    bench.engines[1].streams[1].end()
    await newer
    await bench.answerer.close()


async def test_state_and_metrics_come_from_every_replica_that_answers() -> None:
    bench = Bench(HandEngine(), HandEngine())
    assert set(await bench.client.stats(5)) == {"replica0", "replica1"}
    bench.pool.replicas[1].is_stuck = True
    assert set(await bench.client.stats(0.05)) == {"replica0"}
    names = {family.name for family in await bench.client.metrics(0.05)}
    assert {"shoal_engine_slots_used", "vllm:num_requests_running"} <= names
    await bench.answerer.close()


async def test_a_replica_that_is_asked_by_name_answers_or_its_failure_is_typed() -> None:
    bench = Bench(HandEngine(), HandEngine())
    assert await bench.client.ask("replica1", 5, "stats") == bench.engines[1].stats()
    bench.pool.replicas[0].is_stuck = True
    with pytest.raises(DeadlineExceeded):
        await bench.client.ask("replica0", 0.01, "stats")
    asking = asyncio.ensure_future(bench.client.ask("replica0", 10, "stats"))
    await asyncio.sleep(0)
    bench.pool.kill(bench.pool.replicas[0])
    with pytest.raises(EngineFailed):
        await asking
    with pytest.raises(InvalidRequest, match="keeps no sessions"):
        await bench.client.ask("replica1", 5, "save_session", "mine")
    await bench.answerer.close()


async def test_chunks_of_a_request_that_has_gone_disturb_nobody() -> None:
    bench = Bench(HandEngine())
    leaver, stayer = bench.ask(), bench.ask()
    await bench.submitted(bench.engines[0])
    await bench.submitted(bench.engines[0])
    gone, here = bench.engines[0].streams
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    gone.say("nobody wants this")
    here.say("mine")
    here.end()
    assert await asyncio.wait_for(stayer, 10) == "mine"
    await bench.answerer.close()


async def test_a_real_engine_answers_many_at_once_through_one_stream() -> None:
    pool, engine = LocalPool(ECHO.deployment, "echo"), echo(ECHO)
    watch(ECHO.deployment).announce(frozenset())
    pool.add(engine)
    client = PoolClient(pool.handle(), ECHO.deployment, quiet_s=10)
    client.start()

    async def text(number: int) -> str:
        prompt = (Message("user", f"number {number}"),)
        generation = Generation(str(number), prompt, Sampling(max_tokens=50))
        parts: list[Chunk] = []
        async with aclosing(client.generate(generation)) as stream:
            async for chunks in stream:
                parts += chunks
        return "".join(part.text for part in parts)

    assert await asyncio.gather(*(text(n) for n in range(40))) == [f"number {n}" for n in range(40)]
    await client.close()
    engine.close()


async def test_a_closed_client_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    bench = Bench(HandEngine())
    task = bench.ask()
    (await bench.submitted(bench.engines[0])).end()
    await task
    await bench.answerer.close()
    await asyncio.sleep(0)  # callbacks of what was cancelled
    watch(ECHO.deployment).announce(frozenset({"late"}))
    await asyncio.sleep(0)
    mine = [t for t in asyncio.all_tasks() - before if "PoolClient" in repr(t.get_coro())]
    assert mine == []
