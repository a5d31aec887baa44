"""From a call in no dialect to chunks: picks the pool, renders and counts the prompt, clamps it to the context.

Used by every process that asks for answers: the ingress for HTTP requests, swarm shards for theirs.
"""

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.engines import build_tokenizer
from deployments.plan import APP_NAME, AppPlan, PoolPlan
from deployments.pool_client import PoolClient
from replicas.chat import Tokenizer
from replicas.engine import Chunk, Generation
from replicas.errors import ContextOverflow, EngineFailed
from router.call import Call
from router.catalog import Catalog, ModelCard

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # of a generation whose replica is lost before its first token


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that is ready to run: which pool, and the generation with its prompt as token ids."""

    pool: PoolPlan
    generation: Generation

    @property
    def prompt_tokens(self) -> int:
        """How long the prompt is."""
        return len(self.generation.prompt)


def serve_handle(pool: PoolPlan) -> DeploymentHandle[object]:
    """The handle of a pool that runs in this Ray cluster."""
    return serve.get_deployment_handle(pool.deployment, app_name=APP_NAME)


class Answerer:
    """Answers calls with the pools of a plan. Lives on one event loop. `handle_of` is for tests without Ray."""

    def __init__(self, plan: AppPlan, handle_of: Callable[[PoolPlan], DeploymentHandle[object]] = serve_handle) -> None:
        self.plan = plan
        self._handle_of = handle_of
        self.catalog = catalog(plan)
        self.clients: dict[str, PoolClient] = {}
        self._tokenizers: dict[str, Tokenizer] = {}

    def start(self) -> None:
        """Open the pools. Call once, on the loop."""
        for pool in self.plan.pools:
            client = PoolClient(self._handle_of(pool), pool.deployment, self.plan.http.ping_interval_s)
            client.start()
            self.clients[pool.model] = client
            self._tokenizers[pool.model] = build_tokenizer(pool)

    async def close(self) -> None:
        """Close the pools."""
        for client in self.clients.values():
            await client.close()

    def prepare(self, call: Call) -> Prepared:
        """Resolve and count. Raises NotFound for the model, ContextOverflow for the prompt."""
        pool = self.plan.pool(self.catalog.resolve(call.model).id)
        prompt = self._tokenizers[pool.model].encode_chat(call.messages)
        room = pool.context_tokens - len(prompt)
        if room < 1:
            raise ContextOverflow(len(prompt), pool.context_tokens - 1)
        generation = Generation(
            id=call.id,
            prompt=prompt,
            sampling=call.sampling,
            deadline_s=min(call.deadline_s, self.plan.http.request_deadline_s),
            priority=call.priority,
            session_id=call.session_id,
        )
        return Prepared(pool, generation)

    def tokenizer(self, model: str) -> Tokenizer:
        """The tokenizer of a resolved model."""
        return self._tokenizers[model]

    def count(self, call: Call) -> int:
        """How many tokens the prompt of `call` has, however long it is."""
        return len(self._tokenizers[self.catalog.resolve(call.model).id].encode_chat(call.messages))

    async def run(self, prepared: Prepared) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of an answer; the first list is empty and says that a replica has admitted it.

        A replica that is lost before the first token is replaced by another one, silently.
        """
        client = self.clients[prepared.pool.model]
        ends_at_s = time.monotonic() + prepared.generation.deadline_s
        for attempt in range(ATTEMPTS):
            has_begun = False
            attempt_id = f"{prepared.generation.id}.{secrets.token_hex(4)}"
            left_s = max(0.0, ends_at_s - time.monotonic())
            generation = replace(prepared.generation, id=attempt_id, deadline_s=left_s)
            try:
                async with aclosing(client.generate(generation)) as stream:
                    async for chunks in stream:
                        has_begun = has_begun or bool(chunks)
                        yield chunks
                return
            except EngineFailed as lost:
                if has_begun or attempt == ATTEMPTS - 1:
                    raise
                logger.warning("generation restarted: %s", lost)

    async def answer(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """The chunks of an answer, one by one."""
        async with aclosing(self.run(self.prepare(call))) as stream:
            async for chunks in stream:
                for chunk in chunks:
                    yield chunk


def catalog(plan: AppPlan) -> Catalog:
    """The models that `plan` serves."""
    cards = [
        ModelCard(
            id=pool.model,
            display_name=pool.display_name or pool.model,
            created_at=pool.created_at,
            context_tokens=pool.context_tokens,
            aliases=pool.aliases,
        )
        for pool in plan.pools
    ]
    return Catalog(tuple(cards), plan.default_model)


def connect(plan: AppPlan) -> Answerer:
    """An answerer for this process, started. Call it on a running event loop inside the cluster."""
    answerer = Answerer(plan)
    answerer.start()
    return answerer
