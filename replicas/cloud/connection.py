"""From a response to chunks: reads the body as it comes, within its deadline, and closes the connection in any case.

A body is a stream of events or one JSON document, by its content type, or by its first byte where that says neither:
services answer a streamed request with a whole error, and call events plain text.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

import httpx2
from pydantic_core import from_json

from replicas.cloud.answer import Spent
from replicas.cloud.errors import CloudBroken, CloudSilent
from replicas.cloud.reader import Reader
from replicas.cloud.sending import Sending, watched
from replicas.cloud.sse import Event, EventParser
from replicas.engine import Chunk
from replicas.errors import DeadlineExceeded

BODY_LIMIT_BYTES = 64 * 1024 * 1024
"""Of an answer that is not streamed, or of an error. A choice: no real one is near it."""

DRAIN_S = 0.1
"""So long the end of a body is waited for once its last event is here: a connection read to its end is used again."""

T = TypeVar("T")


class Deadline:
    """A point in time, `deadline_s` from now. Needs a running loop."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._at = asyncio.get_running_loop().time() + deadline_s

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """What `awaitable` gives. Raises DeadlineExceeded."""
        limit = asyncio.timeout_at(self._at)
        try:
            async with limit:
                return await awaitable
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(self._deadline_s) from None


class CloudAnswer:
    """An answer under way (see replicas/cloud/answer.py: Answer), of which `reader` knows what it has used."""

    def __init__(self, chunks: AsyncGenerator[Chunk, None], reader: Reader, sending: Sending) -> None:
        self._chunks = chunks
        self._reader = reader
        self._sending = sending

    @property
    def spent(self) -> Spent:
        """What it has used so far."""
        return replace(self._reader.spent, is_sent=self._sending.is_sent)

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._chunks

    async def aclose(self) -> None:
        """Close the connection."""
        await self._chunks.aclose()


def wants_stream(body: bytes) -> bool:
    """Whether the request `body` asks for a stream."""
    value: object = from_json(body)
    return isinstance(value, dict) and value.get("stream") is True


async def chunks_of(
    response: httpx2.Response, reader: Reader, deadline: Deadline, cloud: str
) -> AsyncGenerator[Chunk, None]:
    """The chunks of a response with status 200, which is closed afterwards. The first is empty: the request is taken.
    Raises what `reader` raises."""
    try:
        yield Chunk(reader.id, "", 0)
        async with aclosing(_pieces(response, reader, deadline, cloud)) as pieces:
            async for chunks in pieces:
                for chunk in chunks:
                    yield chunk
        last = reader.end()
    finally:
        await response.aclose()
    for chunk in last:
        yield chunk


async def answer_of(response: httpx2.Response, deadline: Deadline, cloud: str) -> bytes:
    """The body of a response with status 200 that is not streamed; the response is closed afterwards. Raises
    CloudBroken if it breaks off or is too large, DeadlineExceeded."""
    if (sending := watched()) is not None:
        sending.is_taken = True
    try:
        async with aclosing(_parts(response, deadline)) as parts:
            return await _rest(b"", parts, cloud)
    except httpx2.HTTPError as error:
        raise broken(cloud, error) from error
    finally:
        await response.aclose()


async def body_of(response: httpx2.Response, deadline: Deadline) -> bytes:
    """The body of a response that is an error, as far as it comes; the response is closed afterwards."""
    body = bytearray()
    try:
        async with aclosing(_parts(response, deadline)) as parts:
            async for part in parts:
                body += part
                if len(body) >= BODY_LIMIT_BYTES:
                    break
    except httpx2.HTTPError:
        pass  # the status is what matters, and it is known
    finally:
        await response.aclose()
    return bytes(body)


async def _pieces(
    response: httpx2.Response, reader: Reader, deadline: Deadline, cloud: str
) -> AsyncGenerator[list[Chunk], None]:
    async with aclosing(_bytes(response, reader, deadline, cloud)) as parts:
        first = await anext(parts, b"")
        kind = response.headers.get("content-type", "")
        if "json" in kind or ("event-stream" not in kind and first.lstrip()[:1] == b"{"):
            yield reader.whole(await _rest(first, parts, cloud))
            return
        parser = EventParser()
        part: bytes | None = first
        while part is not None:
            for event in _events(parser, part, cloud):
                yield reader.event(event)
            part = None if reader.is_done else await anext(parts, None)
        await _drained(parts)


def _events(parser: EventParser, part: bytes, cloud: str) -> list[Event]:
    try:
        return parser.feed(part)
    except ValueError as error:
        raise CloudBroken(cloud, "the answer is no stream of events") from error


async def _bytes(
    response: httpx2.Response, reader: Reader, deadline: Deadline, cloud: str
) -> AsyncGenerator[bytes, None]:
    """The body as it comes. A connection that breaks after the answer has said why it ended is the end of it."""
    try:
        async with aclosing(_parts(response, deadline)) as parts:
            async for part in parts:
                yield part
    except httpx2.HTTPError as error:
        if not reader.reason:
            raise broken(cloud, error) from error


async def _parts(response: httpx2.Response, deadline: Deadline) -> AsyncGenerator[bytes, None]:
    async with aclosing(response.aiter_bytes()) as parts:
        while (part := await deadline.wait(anext(parts, None))) is not None:
            yield part


async def _rest(first: bytes, parts: AsyncIterator[bytes], cloud: str) -> bytes:
    body = bytearray(first)
    async for part in parts:
        body += part
        if len(body) > BODY_LIMIT_BYTES:
            raise CloudBroken(cloud, f"the answer is larger than {BODY_LIMIT_BYTES} bytes")
    return bytes(body)


async def _drained(parts: AsyncIterator[bytes]) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            async for _ in parts:
                pass
    except TimeoutError:
        return  # then the connection is closed rather than kept


def broken(cloud: str, error: httpx2.HTTPError) -> CloudBroken:
    """A failure of the connection, in words without addresses."""
    if isinstance(error, httpx2.ReadTimeout):
        return CloudSilent(cloud)
    return CloudBroken(cloud, f"the connection failed ({type(error).__name__})")
