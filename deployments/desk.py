"""Answers requests: reads the body within its bound, parses, counts, admits, and words the answer whole or as events.

The stream's head goes out when a replica has admitted the request, so a refusal still has its own status; after that
an error is the dialect's own error event. While nothing comes from the model, pings do.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import replace
from functools import partial
from typing import TypeAlias, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from deployments.accounts import Account, Accounts, is_private, key_of, payer_of
from deployments.answering import Answerer
from deployments.choices import Choice, side_by_side
from deployments.event_stream import EventStream, unless_disconnected
from deployments.ingress_metrics import IngressMetrics
from deployments.journalling import followed
from deployments.noted import Noted, note
from deployments.places import Places
from deployments.prepared import Prepared
from deployments.routed import Routed
from replicas.engine import Chunk, Final, Finish, Usage
from replicas.errors import BodyTooLarge, DeadlineExceeded, EngineFailed, ShoalError
from router.anthropic import AnthropicDialect
from router.budget import State
from router.budget.payer import JOB, Payer
from router.call import Answer, Call, Dialect, Exchange
from router.catalog import Adapters
from router.keys import Key
from router.keys.key import session_of
from router.keys.limiter import Limiter
from router.openai import CompletionsDialect, OpenAIDialect
from router.policy.decision import Decision
from router.policy.features import AUTO, model_asked

logger = logging.getLogger(__name__)

JSON = "application/json"
BODY_WAIT_S = 60.0
OFF_LOOP_BYTES = 16 * 1024  # about 4,500 tokens: 6 ms of the tokenizer
T = TypeVar("T")
Work: TypeAlias = Prepared | Routed
"""A call that is ready: for a local pool, or for a route with clouds."""

Works: TypeAlias = Sequence[Work]
"""One for each choice of an answer, at least one."""


class Desk:
    """Turns requests into answers. One per ingress."""

    def __init__(self, answerer: Answerer, metrics: IngressMetrics, accounts: Accounts | None = None) -> None:
        self.answerer = answerer
        self.accounts = accounts or Accounts(Limiter())
        self.limit_bytes = answerer.plan.http.body_limit_bytes
        self.places = Places(answerer.plan.pools, metrics)
        self.metrics = metrics
        self.anthropic: Dialect = AnthropicDialect(answerer.plan.default_model)
        self.openai: Dialect = OpenAIDialect(answerer.plan.default_model)
        self.completions: Dialect = CompletionsDialect(answerer.plan.default_model)

    async def respond(self, request: Request, dialect: Dialect) -> Response:
        """Answer a request for a completion."""
        body = await read_body(request, self.limit_bytes)
        payer = payer_of(key_of(request), request.headers.get(JOB, ""))
        budget = await self.answerer.money.budgets.state(payer)
        exchange = await off_loop(len(body), partial(dialect.parse, body, request.headers))
        key = key_of(request)
        if key is not None:
            self.accounts.limiter.add(key, len(exchange.more))
        size_bytes = len(body) * (1 + len(exchange.more))
        works = await off_loop(size_bytes, partial(self._prepare, exchange, request, budget))
        try:
            return await self._answered(exchange, works, request, budget)
        except ShoalError:
            self.note(request, budget, _failed(works))
            raise

    async def _answered(self, exchange: Exchange, works: Works, request: Request, budget: State) -> Response:
        key = key_of(request)
        if exchange.call.is_stream:
            events = self._events(exchange, works, key)
            head = await unless_disconnected(request, anext(events))
            return EventStream(_with_head(head, events), self._headers(_speaker(works), budget))
        answers = await unless_disconnected(request, self._whole(works, key))
        _name(exchange, _speaker(works))
        headers = self._headers(_speaker(works), budget)
        return Response(exchange.reply.whole(*answers), headers=headers, media_type=JSON)

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models."""
        return Response(self.answerer.catalog.list_body(self._adapters), media_type=JSON)

    async def show_model(self, request: Request) -> Response:
        """GET /v1/models/{id}."""
        shown = self.answerer.catalog.one_body(request.path_params["model_id"], self._adapters)
        return Response(shown, media_type=JSON)

    @property
    def _adapters(self) -> Adapters:
        return {model: keeper.names for model, keeper in self.answerer.adapters.items()}

    def _prepare(self, exchange: Exchange, request: Request, budget: State) -> Works:
        payer = payer_of(key_of(request), exchange.call.origin.payer.job)
        return [self._prepared(call, payer, request, budget) for call in (exchange.call, *exchange.more)]

    def _prepared(self, call: Call, payer: Payer, request: Request, budget: State) -> Work:
        origin = replace(call.origin, payer=payer, is_tenant_private=is_private(key_of(request)))
        call = replace(call, origin=origin)
        if call.session_id is not None:
            call = replace(call, session_id=session_of(key_of(request), call.session_id))
        run, told = partial(self._run, key=key_of(request)), partial(self.note, request, budget)
        return self.answerer.prepare(call, budget, run, told)

    def note(self, request: Request, budget: State, decision: Decision | None) -> None:
        """Whatever becomes of `request`, it tells `decision` from now on, and `budget` where there are any."""
        if decision is not None:
            note(request, decision, self._shown(budget))

    def _shown(self, budget: State) -> str:
        return budget if self.answerer.plan.budgets else ""

    def _headers(self, work: Work, budget: State) -> dict[str, str]:
        """Who answers, and why. Of a call that a cloud may answer the first is not known before the first content."""
        decision = work.decision
        headers = {} if decision is None else Noted(decision, self._shown(budget)).headers
        if work.model is not None:
            headers["x-shoal-model"] = work.model
            if work.model not in self.answerer.clouds.models:
                headers["x-shoal-pool"] = self.answerer.plan.pool(work.model).deployment
        return headers

    def _chunks(self, work: Work, key: Key | None) -> AsyncGenerator[list[Chunk], None]:
        return followed(work, self._run(work, key) if isinstance(work, Prepared) else self._along(work, key))

    async def _along(self, routed: Routed, key: Key | None) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of the answer, whoever gives it; those of a cloud on the account of `key`."""
        async with aclosing(routed.chunks()) as stream:
            with ExitStack() as books:
                account: Account | None = None
                async for chunks in stream:
                    if account is None and chunks and (model := routed.model) in self.answerer.clouds.models:
                        account = books.enter_context(self.accounts.opened(key, model, routed.prompt_tokens))
                    if account is not None:
                        account.count(chunks)
                    yield chunks

    async def _run(self, prepared: Prepared, key: Key | None) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of the answer, in a place of the pool and on the account of `key`."""
        async with self.places.taken(prepared.pool, [prepared.generation], key) as waited_s:
            left_s = max(0.0, prepared.generation.deadline_s - waited_s)
            ready = replace(prepared, generation=replace(prepared.generation, deadline_s=left_s))
            with self.accounts.opened(key, prepared.pool.model, prepared.prompt_tokens) as account:
                async with aclosing(self.answerer.run(ready)) as stream:
                    async for chunks in stream:
                        account.count(chunks)
                        yield chunks

    async def _events(self, exchange: Exchange, works: Works, key: Key | None) -> AsyncGenerator[bytes, None]:
        reply, has_begun = exchange.reply, False
        under_way = set(range(len(works)))
        try:
            async with aclosing(side_by_side(self._choices(works, key))) as stream:
                async for number, chunks in stream:
                    if not has_begun:
                        _name(exchange, _speaker(works))
                    head = b"" if has_begun else reply.begin(works[0].prompt_tokens)
                    yield head + (reply.feed(chunks, number) if chunks else reply.ping if has_begun else b"")
                    has_begun = True
                    if chunks and (final := chunks[-1].final) is not None:
                        under_way.discard(number)
                        if final.error is not None:
                            return  # of several choices the others are given up
        except ShoalError as error:
            if not has_begun:
                raise
            yield reply.feed([_failure(works[0], error)], min(under_way, default=0))

    async def _whole(self, works: Works, key: Key | None) -> list[Answer]:
        told: list[list[Chunk]] = [[] for _ in works]
        finals: dict[int, Final] = {}
        async with aclosing(side_by_side(self._choices(works, key))) as stream:
            async for number, chunks in stream:
                told[number] += chunks
                if chunks and chunks[-1].final is not None:
                    finals[number] = settled(chunks[-1].final)
        if len(finals) < len(works):
            raise EngineFailed("the answer ended without its last chunk")
        return [Answer.of(chunks, finals[number]) for number, chunks in enumerate(told)]

    def _choices(self, works: Works, key: Key | None) -> list[Choice]:
        return [partial(self._chunks, work, key) for work in works]


def _speaker(works: Works) -> Work:
    """The first of whom it is known who answers it."""
    return next((work for work in works if work.model is not None), works[0])


def _failed(works: Works) -> Decision | None:
    """What was decided of the one that came to nothing, less those who were tried in vain, if that is known."""
    return next((work for work in works if work.model is None and work.tries), works[0]).decision


def settled(final: Final) -> Final:
    """`final` if the generation ended by itself. Raises what it failed with otherwise."""
    if final.error is not None:
        raise final.error
    if final.finish is Finish.CANCELLED:
        raise EngineFailed("the replica shut down before the answer was done")
    return final


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as it is known to be over `limit_bytes`, DeadlineExceeded if it takes
    longer than BODY_WAIT_S."""
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            return await _read_body(request, limit_bytes)
    except TimeoutError:
        raise DeadlineExceeded(BODY_WAIT_S) from None


async def _read_body(request: Request, limit_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    parts: list[bytes] = []
    size_bytes = 0
    async for part in request.stream():
        size_bytes += len(part)
        if size_bytes > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        parts.append(part)
    return b"".join(parts)


async def off_loop(size_bytes: int, work: Callable[[], T]) -> T:
    """Counting a small prompt takes less time than a thread's start; a large one would stop every stream meanwhile."""
    return work() if size_bytes < OFF_LOOP_BYTES else await asyncio.to_thread(work)


async def _with_head(head: bytes, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        yield head
        async for event in events:
            yield event


def _name(exchange: Exchange, work: Work) -> None:
    """Who left the choice is told who answers."""
    if model_asked(exchange.call) == AUTO and work.model is not None:
        exchange.reply.model = work.model


def _failure(prepared: Work, error: ShoalError) -> Chunk:
    usage = Usage(prompt=prepared.prompt_tokens, generated=0)
    return Chunk(prepared.id, "", 0, Final(Finish.ERROR, usage, error=error))
