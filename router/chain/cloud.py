"""A cloud as a link of a chain: the request is drafted, cleared by the privacy guard, released, and asked.

It is cleared right before it first leaves; asked again, the same bytes leave. One that may not leave raises Withheld,
and the chain goes on to whoever is local.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias

from replicas.cloud.answer import Answer, Cloud, Spent
from replicas.cloud.release import Clearance, Draft, release
from replicas.engine import Chunk
from router.privacy.guard import Guard, Marking

OFF_LOOP_BYTES = 16 * 1024
"""A longer body is examined on a thread of its own: a megabyte takes the guard about a second."""

Price: TypeAlias = Callable[[Spent], float]
"""What an answer costs, in USD."""


class CloudBackend:
    """`cloud`, for one request: `draft` as it would leave, and what has been said of its privacy so far."""

    def __init__(self, cloud: Cloud, draft: Draft, guard: Guard, marking: Marking, price: Price) -> None:
        self._cloud = cloud
        self.draft = draft
        self._guard = guard
        self._marking = marking
        self._price = price
        self._cleared: Clearance | None = None
        self._answer: Answer | None = None

    async def ask(self, left_s: float) -> AsyncGenerator[list[Chunk], None]:
        """Its answer. Raises Withheld, CloudError, ContextOverflow, DeadlineExceeded."""
        self._answer = None
        asked = self.draft
        draft = Draft(asked.id, asked.kind, asked.body, asked.headers, left_s, asked.asking)
        cleared = self._cleared = self._cleared or await self._clear(draft)
        answer = self._answer = self._cloud.ask(release(draft, cleared))
        async with aclosing(answer):
            async for chunk in answer:
                yield [chunk]

    def spent_usd(self) -> float:
        """By the cloud's own count, as far as it got; nothing was spent on what never left."""
        return 0.0 if self._answer is None else self._price(self._answer.spent)

    async def _clear(self, draft: Draft) -> Clearance:
        if len(draft.body) < OFF_LOOP_BYTES:
            return self._guard.clear(draft, self._marking)
        return await asyncio.to_thread(self._guard.clear, draft, self._marking)
