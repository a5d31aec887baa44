"""Outbox: from an engine's thread to a client's token stream, in batches, and nothing lost on the way."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.outbox import Outbox
from replicas.engine import Chunk, Final, Finish, Scored, TokenScore, Usage

pytestmark = pytest.mark.anyio

SCORES = (TokenScore(Scored(7, b"y", -0.5)),)


async def test_what_was_put_is_taken_in_order_with_its_final_and_scores() -> None:
    outbox, final = Outbox(), Final(Finish.END, Usage(1, 2))
    outbox.put(Chunk("a", "x", 1))
    outbox.put(Chunk("b", "y", 2, final, SCORES))
    assert await outbox.take(outbox.reader) == [("a", "x", 1, None, ()), ("b", "y", 2, final, SCORES)]


async def test_the_reader_is_woken_once_for_a_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, loop = Outbox(), asyncio.get_running_loop()
    wakes: list[object] = []
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda call: wakes.append(wake(call)))
    for number in range(50):
        outbox.put(Chunk("a", str(number), 1))
    assert (len(await outbox.take(outbox.reader)), len(wakes)) == (50, 1)
    outbox.put(Chunk("a", "next", 1))
    assert (len(await outbox.take(outbox.reader)), len(wakes)) == (1, 2)


async def test_a_reader_that_came_first_is_woken() -> None:
    outbox = Outbox()
    reader = asyncio.ensure_future(outbox.take(outbox.reader))
    await asyncio.sleep(0)
    outbox.put(Chunk("a", "x", 1))
    assert await reader == [("a", "x", 1, None, ())]


async def test_a_new_reader_ends_the_old_one_and_gets_everything() -> None:
    outbox = Outbox()
    first = asyncio.ensure_future(outbox.take(outbox.open()))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(outbox.take(outbox.open()))
    assert await first == []
    outbox.put(Chunk("a", "x", 1))
    assert await second == [("a", "x", 1, None, ())]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_nothing_is_lost_however_many_threads_put(counts: list[int]) -> None:
    taken = asyncio.run(everything(counts))
    for thread, count in enumerate(counts):
        assert [text for id_, text in taken if id_ == str(thread)] == [str(n) for n in range(count)]


async def everything(counts: list[int]) -> list[tuple[str, str]]:
    outbox = Outbox()
    taken: list[tuple[str, str]] = []

    def put(thread: int, count: int) -> None:
        for number in range(count):
            outbox.put(Chunk(str(thread), str(number), 1))

    threads = [threading.Thread(target=put, args=pair) for pair in enumerate(counts)]
    for thread in threads:
        thread.start()
    while len(taken) < sum(counts):
        taken += [(id_, text) for id_, text, *_ in await asyncio.wait_for(outbox.take(outbox.reader), 10)]
    for thread in threads:
        thread.join()
    return taken


def test_a_chunk_after_the_end_of_the_loop_is_no_error() -> None:
    async def make() -> Outbox:
        return Outbox()

    asyncio.run(make()).put(Chunk("a", "late", 1))
