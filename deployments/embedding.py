"""POST /v1/embeddings: every input is a generation that generates nothing and ends with its embedding.

The inputs of one request run beside each other, at most `AT_ONCE` of them, in the same batches as everything else; the
request takes one place in its pool's admission. If one fails, the rest are cancelled and the request fails with it.
"""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from deployments.accounts import key_of, payer_of
from deployments.cloud_embedding import CloudEmbedding
from deployments.desk import JSON, Desk, off_loop, read_body, settled
from deployments.event_stream import unless_disconnected
from deployments.plan import PoolPlan
from deployments.prepared import Prepared
from replicas.chat import Tokenizer
from replicas.engine import Final, Generation, Sampling
from replicas.errors import EngineFailed, InvalidRequest
from router.keys import Key
from router.openai.embeddings import EmbeddingsCall, Input, embeddings_body, parse_embeddings, shortened
from router.origin import Origin

AT_ONCE = 8
VECTOR_BYTES = 8 * 1024  # about what a vector is as JSON
NOTHING = Sampling(max_tokens=1)
PROMPT = "prompt"  # as engines call what a request calls an input


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of one request as generations for `pool`; `model` is the name that the caller used."""

    pool: PoolPlan
    model: str
    generations: tuple[Generation, ...]
    places: tuple[str, ...]  # where each of them is in the request

    @property
    def prompt_tokens(self) -> int:
        """Of all inputs."""
        return sum(len(generation.prompt) for generation in self.generations)


class EmbeddingDesk:
    """Answers requests for embeddings, with the pools and the admission of `desk`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._answerer = desk.answerer
        self._clouds = CloudEmbedding(desk)

    async def respond(self, request: Request) -> Response:
        """Answer a request. Raises what the first input that fails ends with."""
        body = await read_body(request, self._desk.limit_bytes)
        asked = await off_loop(len(body), partial(parse_embeddings, body))
        if self._answerer.policy.is_cloud(asked.model):
            return await self._clouds.respond(request, body, asked)
        batch = await off_loop(len(body), partial(self._prepare, asked))
        finals = await unless_disconnected(request, self._placed(batch, key_of(request)))
        content = await off_loop(VECTOR_BYTES * len(finals), partial(_worded, asked, batch.model, finals))
        return Response(content, headers={"x-shoal-model": batch.pool.model}, media_type=JSON)

    def _prepare(self, call: EmbeddingsCall) -> Batch:
        base, adapter = self._answerer.catalog.split(call.model or "")
        if adapter is not None:
            words = f"model: embeddings have no adapters, so {adapter!r} cannot be used; ask for {base!r}"
            raise InvalidRequest(words, "model")
        pool = self._answerer.plan.pool(self._answerer.catalog.resolve(call.model).id)
        tokenizer = self._answerer.tokenizer(pool.model)
        deadline_s = self._answerer.plan.http.request_deadline_s
        generations = []
        for index, item in enumerate(call.inputs):
            with _named(call.place(index)):
                tokens = _tokens(item, tokenizer, pool)
            name = f"embd-{uuid4().hex}"
            generations.append(Generation(name, tokens, NOTHING, deadline_s, wants_embedding=True))
        places = tuple(call.place(index) for index in range(len(call.inputs)))
        return Batch(pool, call.model or pool.model, tuple(generations), places)

    async def _placed(self, batch: Batch, key: Key | None) -> list[Final]:
        """How every input ended, in one place of the pool and on the account of `key`."""
        async with self._desk.places.taken(batch.pool, batch.generations, key):
            with self._desk.accounts.opened(key, batch.pool.model, batch.prompt_tokens):
                return await self._finals(batch, Origin(payer=payer_of(key)))

    async def _finals(self, batch: Batch, origin: Origin) -> list[Final]:
        """How every input ended, in order."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(generation: Generation, place: str) -> Final:
            async with gate:
                with _named(place):
                    return await self._final(Prepared(batch.pool, generation, origin=origin))

        tasks = [asyncio.ensure_future(one(*each)) for each in zip(batch.generations, batch.places, strict=True)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _final(self, prepared: Prepared) -> Final:
        async with aclosing(self._answerer.run(prepared)) as stream:
            async for chunks in stream:
                if chunks and chunks[-1].final is not None:
                    return settled(chunks[-1].final)
        raise EngineFailed("the embedding ended without its last chunk")


def _tokens(item: Input, tokenizer: Tokenizer, pool: PoolPlan) -> tuple[int, ...]:
    """The tokens of one input: of a text as it is, without a chat template. Raises InvalidRequest if it is too long."""
    tokens = tokenizer.encode(item) if isinstance(item, str) else item
    most = pool.context_tokens - 1
    if len(tokens) > most:
        raise InvalidRequest(f"the input is too long: {len(tokens)} tokens > {most} maximum", PROMPT)
    return tokens


@contextmanager
def _named(place: str) -> Iterator[None]:
    """What is wrong with a prompt is told as wrong with the input at `place`."""
    try:
        yield
    except InvalidRequest as error:
        if error.param != PROMPT:
            raise
        raise InvalidRequest(f"{place}: {error.message}", place) from error


def _worded(call: EmbeddingsCall, model: str, finals: list[Final]) -> bytes:
    vectors = [final.embedding for final in finals if final.embedding is not None]
    if len(vectors) < len(finals):
        raise InvalidRequest(f"the model {model!r} gives no embeddings", "model")
    cut = [shortened(vector, call.dimensions) for vector in vectors]
    return embeddings_body(model, cut, sum(final.usage.prompt for final in finals), call.encoding)
