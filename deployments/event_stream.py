"""A streamed response that ends its work when the client goes away.

Two tasks: one sends, one waits for the disconnect; whichever ends first cancels the other. Cancelling the sender
closes the generator it reads, which cancels the generation, which frees the slot.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed the connection before its answer was done."""


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`; cancels it and raises ClientGone if the client leaves first."""
    worker = asyncio.ensure_future(work)
    leaver = asyncio.ensure_future(disconnected(request.receive))
    try:
        await asyncio.wait({worker, leaver}, return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            raise ClientGone
        return await worker
    finally:
        await _end(worker, leaver)


class EventStream(Response):
    """Server-sent events from an async generator of bytes."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        self._events = events
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send every event as it comes."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sender = asyncio.ensure_future(self._send(send))
        leaver = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait({sender, leaver}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done():
                await sender
        finally:
            await _end(sender, leaver)

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _end(*tasks: "asyncio.Future[T] | asyncio.Future[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
