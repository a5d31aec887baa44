"""The caller's side of a pool: one token stream open to each replica, one open call per generation.

The streams follow the set of replicas as Ray announces it. A stream that breaks while its replica is still listed is
opened again; a replica that left the list keeps its stream until nothing of this client is under way there, then the
stream is closed so that the replica can drain.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from functools import partial
from typing import ParamSpec, TypeVar, cast

from prometheus_client.metrics_core import Metric
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

from deployments.mailbox import Mailbox
from deployments.outbox import WireChunk
from deployments.replica_watch import Target, watch
from replicas.engine import Chunk, EngineStats, Generation
from replicas.errors import DeadlineExceeded, EngineFailed, ShoalError

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# How long a final chunk may lag behind the end of its call before we call it lost.
STRAGGLER_S = 10.0
REOPEN_WAIT_S = 0.2
DEADLINE_GRACE_S = 5.0


class PoolClient:
    """Talks to every replica of one deployment. Lives on one event loop."""

    def __init__(self, handle: DeploymentHandle[object], deployment: str, quiet_s: float) -> None:
        self._handle = handle
        self._quiet_s = quiet_s
        self._deployment = deployment
        self._client_id = uuid.uuid4().hex
        self._mailboxes: dict[str, Mailbox] = {}
        self._pumps: dict[str, asyncio.Task[None]] = {}
        self._listed: frozenset[str] = frozenset()
        self._owed: dict[str, frozenset[str]] = {}  # what a replica that left may still send, while its stream is open
        self._opening: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def replica_ids(self) -> frozenset[str]:
        """The replicas that take calls now."""
        return self._listed

    @property
    def stream_ids(self) -> frozenset[str]:
        """The replicas to which a token stream is held open."""
        return frozenset(self._pumps)

    def start(self) -> None:
        """Begin to follow the replicas. Call once, on the loop."""
        watch(self._deployment).subscribe(self._follow)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def close(self) -> None:
        """Follow no longer, and close every token stream."""
        self._is_closed = True
        watch(self._deployment).unsubscribe(self._follow)
        tasks = [*self._pumps.values(), *([self._opening] if self._opening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def generate(self, generation: Generation) -> AsyncGenerator[list[Chunk], None]:
        """Answer `generation`: an empty list when a replica has admitted it and after every `quiet_s` of silence,
        chunks as they come.

        Leaving the iterator early cancels the generation. Raises what the replica refused it with, EngineFailed when
        the replica is lost, DeadlineExceeded when it is silent past the deadline.
        """
        response = self._call(generation)
        mailbox = self._mailboxes[generation.id] = Mailbox()
        outcome = asyncio.ensure_future(self._outcome(response, mailbox))
        deadline_s = time.monotonic() + generation.deadline_s + DEADLINE_GRACE_S
        is_done = False
        try:
            while not is_done:
                chunks = await mailbox.take(min(self._quiet_s, deadline_s - time.monotonic()))
                if not chunks and time.monotonic() >= deadline_s:
                    raise DeadlineExceeded(generation.deadline_s)
                is_done = bool(chunks) and chunks[-1].final is not None
                if chunks or mailbox.is_admitted:
                    yield chunks
        finally:
            del self._mailboxes[generation.id]
            if not is_done:
                response.cancel()  # type: ignore[no-untyped-call]  # of Ray, which has no types there
            outcome.cancel()

    async def ask(self, replica_id: str, timeout_s: float, method: str, *arguments: object) -> object:
        """What a method of one replica gives. Raises the ShoalError that it returns, EngineFailed, DeadlineExceeded."""
        try:
            answer = await asyncio.wait_for(self._ask(method, replica_id, *arguments), timeout_s)
        except (RayError, RayServeException) as broken:
            raise EngineFailed(f"the replica was lost ({type(broken).__name__})") from broken
        except TimeoutError:
            raise DeadlineExceeded(timeout_s) from None
        if isinstance(answer, ShoalError):
            raise answer
        return answer

    async def stats(self, timeout_s: float) -> dict[str, EngineStats]:
        """The engine state of every replica that answers within `timeout_s`, by replica id."""
        answers = await self._ask_all("stats", timeout_s)
        return {i: answer for i, answer in answers.items() if isinstance(answer, EngineStats)}

    async def metrics(self, timeout_s: float) -> list[Metric]:
        """The metric families of every replica that answers within `timeout_s`."""
        answers = await self._ask_all("metrics", timeout_s)
        return [family for families in answers.values() if isinstance(families, list) for family in families]

    async def _open(self) -> None:
        """Make the first call: until then Ray does not tell this process which replicas there are."""
        try:
            await self._handle.is_ready.remote()
        except (RayError, RayServeException) as broken:
            logger.warning("no replica of %s is up yet: %s", self._deployment, type(broken).__name__)

    async def _ask_all(self, method: str, timeout_s: float) -> dict[str, object]:
        ids = sorted(self._listed)
        asked = [asyncio.wait_for(self._ask(method, replica_id), timeout_s) for replica_id in ids]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for replica_id, answer in zip(ids, answers, strict=True):
            if isinstance(answer, BaseException):
                logger.warning("replica %s did not answer %s: %r", replica_id, method, answer)
        return {i: a for i, a in zip(ids, answers, strict=True) if not isinstance(a, BaseException)}

    async def _ask(self, method: str, replica_id: str, *arguments: object) -> object:
        target = Target(replica_id, self._client_id)
        return await _in_fresh_context(getattr(self._handle, method).remote, target, *arguments)

    def _call(self, generation: Generation) -> DeploymentResponse[object]:
        response = _in_fresh_context(self._handle.generate.remote, self._client_id, generation)
        return cast("DeploymentResponse[object]", response)

    async def _outcome(self, response: DeploymentResponse[object], mailbox: Mailbox) -> None:
        """Turn the end of a generation's call into what its mailbox must still hear, however the call ends."""
        loss: ShoalError = EngineFailed("the end of the answer was lost between replica and ingress")
        try:
            refusal = await response
            if isinstance(refusal, ShoalError):
                loss = refusal
            else:
                await asyncio.sleep(STRAGGLER_S)
        except asyncio.CancelledError:
            loss = EngineFailed("the replica gave the answer up")
            raise  # ends this task alone: the mailbox has heard
        except (RayError, RayServeException) as broken:
            loss = EngineFailed(f"the replica was lost ({type(broken).__name__})")
        finally:
            mailbox.fail(loss)

    def _follow(self, replica_ids: frozenset[str]) -> None:
        if self._is_closed:
            return
        for gone in self._listed - replica_ids:
            self._owed[gone] = frozenset(self._mailboxes)
        self._listed = replica_ids
        for replica_id in replica_ids - self._pumps.keys():
            pump = asyncio.get_running_loop().create_task(self._pump(replica_id))
            self._pumps[replica_id] = pump
            pump.add_done_callback(partial(self._forget, replica_id))

    def _forget(self, replica_id: str, _: asyncio.Task[None]) -> None:
        del self._pumps[replica_id]
        self._owed.pop(replica_id, None)
        if replica_id in self._listed:  # it came back while its stream was closing
            self._follow(self._listed)

    async def _pump(self, replica_id: str) -> None:
        """Keep the token stream of one replica open for as long as it is listed or owes us chunks."""
        drain = asyncio.get_running_loop().create_task(self._drained(replica_id))
        try:
            while not drain.done():
                reader = asyncio.get_running_loop().create_task(self._read(replica_id))
                try:
                    await asyncio.wait({reader, drain}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    reader.cancel()
                    await asyncio.gather(reader, return_exceptions=True)
                if not drain.done():
                    await asyncio.sleep(REOPEN_WAIT_S)
        finally:
            drain.cancel()

    async def _drained(self, replica_id: str) -> None:
        """Returns when the replica is not listed and nothing that began while it was is under way any more."""
        while replica_id in self._listed or not self._owed[replica_id].isdisjoint(self._mailboxes):  # noqa: ASYNC110 - two things, of which neither tells
            await asyncio.sleep(REOPEN_WAIT_S)

    async def _read(self, replica_id: str) -> None:
        opened = _in_fresh_context(self._handle.options(stream=True).pump.remote, Target(replica_id, self._client_id))
        stream = cast("DeploymentResponseGenerator[list[WireChunk]]", opened)
        try:
            async for items in stream:
                self._deliver(items)
        except (RayError, RayServeException) as broken:
            logger.warning("token stream of replica %s broke: %s", replica_id, type(broken).__name__)
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]  # of Ray, which has no types there

    def _deliver(self, items: list[WireChunk]) -> None:
        for item in items:
            mailbox = self._mailboxes.get(item[0])
            if mailbox is not None:
                mailbox.put(Chunk(*item))


def _in_fresh_context(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make a call that Serve does not count to the request that is being served.

    Ray 2.60 gives all calls made for one request one internal id, and its router finds a waiting call by that id: of
    two that wait at once, one would go to the other's replica and one would never be sent.
    """
    return Context().run(call, *args, **kwargs)
