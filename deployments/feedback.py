"""POST /v1/feedback: a caller says how good an answer was. What it says last counts.

Only the key that got an answer has a say in it; for all others it does not exist. Comments are taken and not kept: they
quote.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.accounts import key_of
from deployments.desk import JSON, Desk, read_body
from replicas.errors import NotFound, Overloaded
from router import sse
from router.body import Wire, read
from router.journal.entry import Feedback
from router.label import LIMIT, label

OFF = "decisions are not kept here, so there is nothing to say of them: set journal.enabled to true"
UNKNOWN = "it is another key's, its answer has not ended, or it is older than journal.keep_days"
ACCEPTED = 202
AT_ONCE = 4
"""Threads that wait for the store: the other ones are for prompts."""

MOST_WAITING = 64
"""That wait for one of those threads, or have it: with more, the last one would wait for long."""

RETRY_AFTER_S = 1.0
QUOTED_CHARS = 64


class FeedbackBody(Wire):
    """What a caller sends. `id` is that of the answer, `score` from 0 (useless) to 1 (just right)."""

    id: Annotated[str, Field(min_length=1, max_length=LIMIT)]
    score: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
    label: Annotated[str, Field(max_length=LIMIT)] | None = None


class FeedbackDesk:
    """Takes feedback on the answers of `desk`."""

    def __init__(self, desk: Desk) -> None:
        self._answerer = desk.answerer
        self._limit_bytes = desk.limit_bytes
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def take(self, request: Request) -> Response:
        """Keep what a request says. Raises NotFound where there is no such answer of its key, InvalidRequest,
        Overloaded."""
        archive = self._answerer.archive
        if archive is None:
            raise NotFound("path", request.url.path, OFF)
        body = read(FeedbackBody, await read_body(request, self._limit_bytes))
        said = Feedback(body.score, label(body.label or ""), time.time())
        key = key_of(request)
        give = partial(archive.give, label(body.id), "" if key is None else key.id, said)
        answered_by = await self._in_turn(give)
        if answered_by is None:
            raise NotFound("answer", body.id[:QUOTED_CHARS], UNKNOWN)
        self._answerer.policy.learn(body.id, answered_by, body.score)
        return Response(
            sse.encoded({"object": "feedback", "id": body.id, "score": body.score, "label": said.label}),
            ACCEPTED,
            media_type=JSON,
        )

    async def _in_turn(self, give: Callable[[], str | None]) -> str | None:
        if self._waiting >= MOST_WAITING:
            raise Overloaded("feedback", RETRY_AFTER_S)
        self._waiting += 1
        try:
            async with self._gate:
                return await asyncio.to_thread(give)
        finally:
            self._waiting -= 1
