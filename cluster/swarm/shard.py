"""A shard: some of a job's calls, made from one process, so that a thousand agents are not a thousand processes.

At most `calls_max` are in flight at once; they meet other shards' calls in the replicas' batches. Each call is retried
as Patience says until the shard's time is up; whatever happens, an item ends with exactly one `output` event, which
carries either the whole text or the error. The first report that is not wanted any more ends the shard.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from dataclasses import dataclass, field

from cluster.swarm.answerer import Answerer
from cluster.swarm.assignment import Assignment
from cluster.swarm.event import Event, EventType
from cluster.swarm.job_view import NO_USAGE
from cluster.swarm.outbox import Outbox, Report
from cluster.swarm.owner import NOBODY, Owner
from cluster.swarm.patience import Patience
from replicas.engine import Final, Finish, Priority
from replicas.errors import DeadlineExceeded, EngineFailed, ShoalError
from router.call import Call
from router.keys.limiter import Limiter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """What one shard does. `budget_s` is the time it has; `id` is unique, a relaunched shard gets a new one."""

    id: str
    assignments: tuple[Assignment, ...]
    calls_max: int
    budget_s: float
    patience: Patience = field(default_factory=Patience)
    job: str = ""
    owner: Owner = NOBODY  # with his limits for this shard


async def run_shard(shard: Shard, answerer: Answerer, report: Report) -> None:
    """Make the calls of `shard` and report them. Returns early when the shard is no longer wanted."""
    outbox = Outbox(report)
    calls = asyncio.create_task(_Calls(shard, answerer, outbox).make())
    try:
        if await outbox.pump(calls):
            calls.result()
    finally:
        calls.cancel()
        await asyncio.gather(calls, return_exceptions=True)


class _Calls:
    """The calls of one shard under way."""

    def __init__(self, shard: Shard, answerer: Answerer, outbox: Outbox) -> None:
        self._shard = shard
        self._answerer = answerer
        self._outbox = outbox
        self._left = list(reversed(shard.assignments))
        self._ends_at = asyncio.get_running_loop().time() + shard.budget_s
        self._limiter = Limiter()

    async def make(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._shard.calls_max, len(self._left))):
                group.create_task(self._work())

    async def _work(self) -> None:
        while self._left:
            await self._answer(self._left.pop())

    async def _answer(self, item: Assignment) -> None:
        attempt = 1
        while wait_s := await self._attempt(item, attempt):
            await asyncio.sleep(wait_s)
            attempt += 1

    async def _attempt(self, item: Assignment, attempt: int) -> float | None:
        """Make the call once. None: the item is done, well or not; else how long to wait before the next attempt."""
        self._outbox.add(Event(EventType.STARTED, agent=item.index))
        try:
            text, final = await self._call(item, attempt)
        except ShoalError as error:
            return self._failed(item.index, error, attempt)
        except Exception as error:  # an item's bug must not take its shard's other items with it
            log.exception("the call of agent %d broke", item.index)
            self._give_up(item.index, f"internal error: {type(error).__name__}")
            return None
        self._outbox.add(
            Event(EventType.OUTPUT, agent=item.index, text=text, usage=final.usage, finish=final.finish.value)
        )
        return None

    def _failed(self, index: int, error: ShoalError, attempt: int) -> float | None:
        chance = random.random()  # noqa: S311 (jitter)
        wait_s = self._shard.patience.wait_s(error, attempt, chance)
        if wait_s is None or wait_s >= self._left_s():
            self._give_up(index, str(error))
            return None
        self._outbox.add(Event(EventType.RETRY, agent=index, error=str(error)))
        return wait_s

    def _give_up(self, index: int, error: str) -> None:
        self._outbox.add(Event(EventType.OUTPUT, agent=index, text="", usage=NO_USAGE, error=error))

    async def _call(self, item: Assignment, attempt: int) -> tuple[str, Final]:
        call = Call(
            id=f"{self._shard.id}-{item.index}-{attempt}",
            model=item.model,
            messages=item.messages,
            sampling=item.sampling,
            is_stream=True,
            priority=Priority.BATCH,
            deadline_s=max(0.001, self._left_s()),
            origin=self._shard.owner.origin(self._shard.job, item.role),
        )
        key = self._shard.owner.key
        try:
            async with asyncio.timeout_at(self._ends_at):
                with nullcontext() if key is None else self._limiter.admitted(key):
                    text, final = await self._read(call, item.index)
        except TimeoutError:
            raise DeadlineExceeded(self._shard.budget_s) from None
        if key is not None:
            self._limiter.spend(key, final.usage.prompt + final.usage.generated)
        return text, final

    async def _read(self, call: Call, index: int) -> tuple[str, Final]:
        texts: list[str] = []
        chunks = self._answerer.answer(call)
        try:
            async for chunk in chunks:
                if chunk.text:
                    texts.append(chunk.text)
                    self._outbox.add(Event(EventType.DELTA, agent=index, text=chunk.text))
                if chunk.final is not None:
                    return "".join(texts), _whole(chunk.final)
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()  # now, not when collected: it frees the slot
        raise EngineFailed("the answer ended before its last chunk")

    def _left_s(self) -> float:
        return self._ends_at - asyncio.get_running_loop().time()


def _whole(final: Final) -> Final:
    if final.error is not None:
        raise final.error
    if final.finish in (Finish.CANCELLED, Finish.ERROR):  # nobody here cancelled it: its replica went away
        raise EngineFailed(f"the generation ended as {final.finish.value}")
    return final
