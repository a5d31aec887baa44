"""PoolReplica: admits batches to an engine, cancels with its callers, hands chunks to their clients' token streams."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from deployments.outbox import WireChunk
from deployments.replica import Admission, PoolReplica, Ticket, warm_up
from deployments.replica_metrics import ReplicaMetrics
from replicas.echo import EchoConfig, EchoEngine
from replicas.engine import Finish, Generation, Grammar, Message, Sampling
from replicas.errors import EngineFailed, InvalidRequest, Overloaded
from tests.deployments.hand_engine import HandEngine

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine() -> Iterator[EchoEngine]:
    engine = EchoEngine(EchoConfig(slots=2, queue_limit=4))
    yield engine
    engine.close()


def replica_of(engine: EchoEngine | HandEngine) -> PoolReplica:
    return PoolReplica(engine, ReplicaMetrics(engine.stats))


def generation(id_: str, text: str = "hello", max_tokens: int = 100) -> Generation:
    return Generation(id_, (Message("user", text),), Sampling(max_tokens=max_tokens))


async def until_finals(stream: AsyncIterator[list[WireChunk]], count: int) -> list[WireChunk]:
    """Read `stream` until `count` generations have ended."""
    chunks: list[WireChunk] = []
    while sum(final is not None for _, _, _, final, _ in chunks) < count:
        chunks += await asyncio.wait_for(anext(stream), 10)
    return chunks


async def test_every_request_of_a_batch_is_answered_on_the_one_stream_of_its_client(engine: EchoEngine) -> None:
    replica = replica_of(engine)
    tickets = replica.admit([Admission("me", generation(id_, f"text {id_}")) for id_ in "abc"])
    async with aclosing(replica.pump("me")) as stream:
        chunks = await until_finals(stream, 3)
    assert [await replica.finish(ticket) for ticket in tickets] == [None] * 3
    for id_ in "abc":
        assert "".join(text for i, text, *_ in chunks if i == id_) == f"text {id_}"


async def test_the_first_chunk_of_a_generation_only_says_that_it_is_admitted() -> None:
    replica = replica_of(HandEngine())
    replica.admit([Admission("me", generation("a"))])
    async with aclosing(replica.pump("me")) as stream:
        assert await anext(stream) == [("a", "", 0, None, ())]


class SlowCompiler(HandEngine):
    """Compiles a grammar for as long as `may_go` is not set; a regex is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go = threading.Event()

    def prepare(self, request: Generation) -> None:
        if request.grammar is not None and request.grammar.kind == "regex":
            raise InvalidRequest("no regular expressions", "regex")
        assert self.may_go.wait(10)


async def test_a_grammar_that_takes_long_to_compile_holds_up_nobody() -> None:
    engine = SlowCompiler()
    replica = replica_of(engine)
    compiling = asyncio.create_task(replica.prepare(replace(generation("slow"), grammar=Grammar("lark", "start: 'a'"))))
    assert await replica.prepare(generation("quick")) is None
    assert not compiling.done()
    engine.may_go.set()
    assert await compiling is None


async def test_a_grammar_that_is_wrong_is_refused_before_it_is_admitted() -> None:
    refused = await replica_of(SlowCompiler()).prepare(replace(generation("wrong"), grammar=Grammar("regex", "[")))
    assert isinstance(refused, InvalidRequest)


async def test_clients_get_their_own_chunks_only(engine: EchoEngine) -> None:
    replica = replica_of(engine)
    replica.admit([Admission("me", generation("a")), Admission("you", generation("b"))])
    async with aclosing(replica.pump("me")) as mine, aclosing(replica.pump("you")) as yours:
        assert {chunk[0] for chunk in await until_finals(mine, 1)} == {"a"}
        assert {chunk[0] for chunk in await until_finals(yours, 1)} == {"b"}


async def test_a_refused_request_returns_its_error_and_the_others_go_on(engine: EchoEngine) -> None:
    replica = replica_of(engine)
    wrong = generation("b", max_tokens=0)
    good, bad = replica.admit([Admission("me", generation("a")), Admission("me", wrong)])
    refusal = await replica.finish(bad)
    assert isinstance(refusal, InvalidRequest)
    assert refusal.param == "max_tokens"
    assert await replica.finish(good) is None


async def test_past_the_engines_queue_the_caller_gets_overloaded() -> None:
    engine = EchoEngine(EchoConfig(slots=1, queue_limit=1, delay_s=0.01))
    replica = replica_of(engine)
    tickets = replica.admit([Admission("me", generation(str(i), "x" * 1000, 1000)) for i in range(4)])
    refused = [ticket for ticket in tickets if not isinstance(ticket, Ticket)]
    engine.close()
    assert refused
    assert all(isinstance(refusal, Overloaded) for refusal in refused)


async def test_a_caller_that_is_cancelled_frees_its_slot() -> None:
    engine = HandEngine()
    replica = replica_of(engine)
    [ticket] = replica.admit([Admission("me", generation("a"))])
    caller = asyncio.ensure_future(replica.finish(ticket))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert caller.cancelled()
    assert engine.streams[0].cancelled.is_set()
    assert replica.stats().slots_used == 0


async def test_a_generation_that_ended_by_itself_is_not_cancelled() -> None:
    engine = HandEngine()
    replica = replica_of(engine)
    [ticket] = replica.admit([Admission("me", generation("a"))])
    engine.streams[0].end()
    assert await replica.finish(ticket) is None
    assert not engine.streams[0].cancelled.is_set()


async def test_a_token_stream_that_is_opened_again_misses_nothing() -> None:
    engine = HandEngine()
    replica = replica_of(engine)
    replica.admit([Admission("me", generation("a"))])
    first = replica.pump("me")
    assert await anext(first) == [("a", "", 0, None, ())]
    await first.aclose()
    engine.streams[0].say("while nobody listened")
    async with aclosing(replica.pump("me")) as second:
        assert await asyncio.wait_for(anext(second), 10) == [("a", "while nobody listened", 1, None, ())]


async def test_a_token_stream_that_closes_late_leaves_the_one_that_replaced_it_alone() -> None:
    engine = HandEngine()
    replica = replica_of(engine)
    replica.admit([Admission("me", generation("a"))])
    first, second = replica.pump("me"), replica.pump("me")
    await anext(first)
    waiting = asyncio.ensure_future(anext(second))
    await asyncio.sleep(0)
    await first.aclose()
    replica.admit([Admission("me", generation("b"))])
    assert await asyncio.wait_for(waiting, 10) == [("b", "", 0, None, ())]
    await second.aclose()


async def test_a_client_whose_token_stream_stays_closed_is_dropped_with_its_generations() -> None:
    engine = HandEngine()
    replica = PoolReplica(engine, ReplicaMetrics(engine.stats), idle_s=0.0)
    stream = replica.pump("me")
    [ticket] = replica.admit([Admission("me", generation("a"))])
    await anext(stream)
    waiting = asyncio.ensure_future(replica.finish(ticket))
    await stream.aclose()
    await asyncio.wait_for(waiting, 10)
    assert engine.streams[0].cancelled.is_set()


async def test_a_client_that_never_opens_a_token_stream_is_dropped_too() -> None:
    engine = HandEngine()
    replica = PoolReplica(engine, ReplicaMetrics(engine.stats), idle_s=0.0)
    [ticket] = replica.admit([Admission("me", generation("a"))])
    await asyncio.wait_for(replica.finish(ticket), 10)
    assert engine.streams[0].cancelled.is_set()


async def test_warming_up_answers_a_prompt(engine: EchoEngine) -> None:
    await warm_up(engine, generation("warm-up"))
    assert engine.stats().generated_tokens_total > 0


async def test_warming_up_raises_what_the_engine_failed_with() -> None:
    engine = HandEngine()
    task = asyncio.ensure_future(warm_up(engine, generation("warm-up")))
    await asyncio.sleep(0)
    engine.streams[0].end(Finish.ERROR, EngineFailed("no memory"))
    with pytest.raises(EngineFailed, match="no memory"):
        await task


async def test_a_refused_generation_is_never_acknowledged() -> None:
    engine = EchoEngine(EchoConfig(slots=1, queue_limit=1, delay_s=0.05))
    replica = replica_of(engine)
    tickets = replica.admit([Admission("me", generation(id_)) for id_ in "abc"])
    assert [isinstance(ticket, Overloaded) for ticket in tickets] == [False, False, True]
    async with aclosing(replica.pump("me")) as stream:
        chunks = await until_finals(stream, 2)
    assert {id_ for id_, *_ in chunks} == {"a", "b"}
    engine.close()


async def test_a_caller_that_leaves_between_admission_and_finish_frees_its_slot() -> None:
    engine = HandEngine()
    replica = replica_of(engine)
    replica.admit([Admission("me", generation("a"))])
    replica.release("a")
    assert engine.next().cancelled.wait(5)
