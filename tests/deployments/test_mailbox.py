"""Mailbox: what arrived for one request, in order; silence has an end; an error comes after what came before it."""

import asyncio

import pytest

from deployments.mailbox import Mailbox
from replicas.engine import Chunk, Final, Finish, Usage
from replicas.errors import DeadlineExceeded, EngineFailed

pytestmark = pytest.mark.anyio

PATIENCE_S = 10.0


async def test_everything_that_arrived_is_taken_at_once_and_in_order() -> None:
    mailbox, chunks = Mailbox(), [Chunk("a", "x", 1), Chunk("a", "y", 1)]
    for chunk in chunks:
        mailbox.put(chunk)
    assert await mailbox.take(PATIENCE_S) == chunks


async def test_the_acknowledgement_wakes_but_carries_nothing() -> None:
    mailbox = Mailbox()
    reader = asyncio.ensure_future(mailbox.take(PATIENCE_S))
    await asyncio.sleep(0)
    mailbox.put(Chunk("a", "", 0))
    assert await reader == []
    assert mailbox.is_admitted


async def test_a_last_chunk_without_text_is_kept() -> None:
    mailbox, last = Mailbox(), Chunk("a", "", 0, Final(Finish.END, Usage(1, 0)))
    mailbox.put(last)
    assert await mailbox.take(PATIENCE_S) == [last]


async def test_silence_ends_with_an_empty_list() -> None:
    mailbox = Mailbox()
    assert await mailbox.take(0.0) == []
    mailbox.put(Chunk("a", "x", 1))
    assert [chunk.text for chunk in await mailbox.take(0.0)] == ["x"]


async def test_an_error_comes_after_the_chunks_that_came_before_it() -> None:
    mailbox = Mailbox()
    mailbox.put(Chunk("a", "x", 1))
    mailbox.fail(EngineFailed("first"))
    mailbox.fail(DeadlineExceeded(1.0))
    assert [chunk.text for chunk in await mailbox.take(PATIENCE_S)] == ["x"]
    for _ in range(2):
        with pytest.raises(EngineFailed, match="first"):
            await mailbox.take(PATIENCE_S)


async def test_an_error_wakes_a_reader() -> None:
    mailbox = Mailbox()
    reader = asyncio.ensure_future(mailbox.take(PATIENCE_S))
    await asyncio.sleep(0)
    mailbox.fail(EngineFailed("gone"))
    with pytest.raises(EngineFailed, match="gone"):
        await reader


async def test_a_reader_that_is_cancelled_leaves_the_mailbox_usable() -> None:
    mailbox = Mailbox()
    reader = asyncio.ensure_future(mailbox.take(PATIENCE_S))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    mailbox.put(Chunk("a", "x", 1))
    assert [chunk.text for chunk in await mailbox.take(PATIENCE_S)] == ["x"]
