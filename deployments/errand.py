"""What a cloud is asked beside answers: how long a prompt is, and vectors. One question, one body, no stream, no retry.

It passes the same guard as a request for an answer: without its clearance no cloud client takes it.
"""

import asyncio
from collections.abc import Mapping

from deployments.clouds import CloudModel
from replicas.cloud.fields import parsed
from replicas.cloud.release import Draft, Releasable, release
from router.chain.cloud import OFF_LOOP_BYTES
from router.privacy.guard import Guard, Marking


async def fetched(model: CloudModel, draft: Draft, guard: Guard, marking: Marking) -> Mapping[str, object]:
    """The cloud's answer. Raises Withheld, CloudError, ContextOverflow, DeadlineExceeded."""
    raw = await model.client.fetch(await _cleared(draft, guard, marking))
    return parsed(model.candidate.name, raw)


async def _cleared(draft: Draft, guard: Guard, marking: Marking) -> Releasable:
    if len(draft.body) < OFF_LOOP_BYTES:
        return release(draft, guard.clear(draft, marking))
    return release(draft, await asyncio.to_thread(guard.clear, draft, marking))
