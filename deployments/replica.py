"""What one pool replica does, without Ray: admits generations to its engine, hands chunks to their clients' outboxes.

`generate` stays open from admission to the last token, so that Ray Serve's own count of calls under way is the count
of generations: its routing, autoscaling, draining and cancellation then mean what they say. Tokens do not come back
on that call but through `pump`, one stream per client for all of its generations.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from deployments.outbox import Outbox, WireChunk
from deployments.replica_metrics import ReplicaMetrics
from replicas.engine import Chunk, Engine, EngineStats, Finish, Generation, Stream
from replicas.errors import ShoalError

logger = logging.getLogger(__name__)

# A client opens a broken token stream again within a fraction of a second; one that has not for so long is dead, and
# nobody reads what its generations still make.
IDLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Admission:
    """One generation on its way into the engine, for one client."""

    client_id: str
    generation: Generation


@runtime_checkable
class Preparing(Protocol):
    """An engine that may need long before it can take a request."""

    def prepare(self, request: Generation) -> None:
        """Do it now, so that `submit` returns at once. Blocks, and raises what `submit` would."""
        ...


class Ticket:
    """An admitted generation: `done` resolves with its last chunk."""

    def __init__(self, stream: Stream, done: asyncio.Future[None], caller: "Caller") -> None:
        self.stream = stream
        self.done = done
        self.caller = caller


class Caller:
    """One client: its chunks, and its generations under way."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.tickets: set[Ticket] = set()


class PoolReplica:
    """One engine and the clients that it answers. Lives on one event loop; only sinks run elsewhere."""

    def __init__(self, engine: Engine, metrics: ReplicaMetrics, idle_s: float = IDLE_S) -> None:
        self.engine = engine
        self.metrics = metrics
        self._idle_s = idle_s
        self._callers: dict[str, Caller] = {}
        self._tickets: dict[str, Ticket] = {}

    async def prepare(self, generation: Generation) -> ShoalError | None:
        """Have the engine compile the grammar, and open what the adapter needs, while the other answers go on."""
        if (generation.grammar is None and generation.adapter is None) or not isinstance(self.engine, Preparing):
            return None
        try:
            await asyncio.to_thread(self.engine.prepare, generation)
        except ShoalError as error:
            self.metrics.refused(error)
            return error
        return None

    def admit(self, batch: Sequence[Admission]) -> list[Ticket | ShoalError]:
        """Submit every generation of `batch` to the engine at once; a refused one gets its error, the others go on."""
        self.metrics.admission_batch.observe(len(batch))
        return [self._submit(admission) for admission in batch]

    async def finish(self, ticket: Ticket | ShoalError) -> ShoalError | None:
        """Wait for the last chunk; if the caller goes away first, the generation is cancelled.

        Errors are returned, not raised: an expected refusal is no traceback in Serve's log.
        """
        if isinstance(ticket, ShoalError):
            self.metrics.refused(ticket)
            return ticket
        try:
            await ticket.done
        finally:
            ticket.caller.tickets.discard(ticket)
            if not ticket.done.done() or ticket.done.cancelled():
                ticket.stream.cancel()
        return None

    def release(self, generation_id: str) -> None:
        """The caller of a generation is gone or served: if it still runs, cancel it. Without this a caller that leaves
        between admission and `finish` would leave it running."""
        ticket = self._tickets.pop(generation_id, None)
        if ticket is not None:
            ticket.caller.tickets.discard(ticket)
            if not ticket.done.done() or ticket.done.cancelled():
                ticket.stream.cancel()

    async def pump(self, client_id: str) -> AsyncGenerator[list[WireChunk], None]:
        """Everything the engine makes for `client_id`, one item per engine step; ends when the client opens another."""
        outbox = self._caller(client_id).outbox
        reader = outbox.open()
        try:
            while items := await outbox.take(reader):
                yield items
        finally:
            self._expect_reader(client_id, reader)
            logger.info("token stream closed", extra={"client_id": client_id})

    def stats(self) -> EngineStats:
        """The engine's state now."""
        return self.engine.stats()

    def _caller(self, client_id: str) -> Caller:
        caller = self._callers.get(client_id)
        if caller is None:
            caller = self._callers[client_id] = Caller()
            self._expect_reader(client_id, caller.outbox.reader)
        return caller

    def _expect_reader(self, client_id: str, last_reader: int) -> None:
        """Drop the client and its generations unless it opens a token stream in time."""

        def drop() -> None:
            caller = self._callers.get(client_id)
            if caller is None or caller.outbox.reader != last_reader:
                return
            del self._callers[client_id]
            logger.warning("client dropped", extra={"client_id": client_id, "generations": len(caller.tickets)})
            for ticket in caller.tickets:
                ticket.stream.cancel()

        asyncio.get_running_loop().call_later(self._idle_s, drop)

    def _submit(self, admission: Admission) -> Ticket | ShoalError:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        caller = self._caller(admission.client_id)
        outbox = caller.outbox
        meter = self.metrics.meter()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        def sink(chunk: Chunk) -> None:
            meter.observe(chunk)
            outbox.put(chunk)
            if chunk.final is not None and not loop.is_closed():
                loop.call_soon_threadsafe(settle)

        try:
            ticket = Ticket(self.engine.submit(admission.generation, sink), done, caller)
        except ShoalError as error:
            return error
        outbox.put(Chunk(admission.generation.id, "", 0))  # admitted; a first token that was faster says so too
        caller.tickets.add(ticket)
        self._tickets[admission.generation.id] = ticket
        return ticket


async def warm_up(engine: Engine, generation: Generation) -> None:
    """Answer one prompt, so that a replica that reports ready has answered. Raises what the engine failed with."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Chunk] = loop.create_future()

    def settle(chunk: Chunk) -> None:
        if not done.done():  # the wait may have timed out
            done.set_result(chunk)

    def sink(chunk: Chunk) -> None:
        if chunk.final is not None:
            loop.call_soon_threadsafe(settle, chunk)

    engine.submit(generation, sink)
    last = await asyncio.wait_for(done, generation.deadline_s)
    if last.final is not None and last.final.finish is Finish.ERROR and last.final.error is not None:
        raise last.final.error
