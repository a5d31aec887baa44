"""From a call in no dialect to chunks: picks the pool, has its prompt made, runs it, reads the calls in the answer.
A call that several may answer gets a chain instead, in which local pools are links like clouds.

Used by every process that asks for answers: the ingress for HTTP requests, swarm shards for theirs.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from prometheus_client.metrics_core import Metric
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.chains import Chains, Wanted
from deployments.clouds import Clouds
from deployments.delivery import Delivery
from deployments.engines import build_tokenizer
from deployments.journalling import followed, joined_archive
from deployments.money import Cause, Money, joined_money
from deployments.plan import APP_NAME, EPOCH, AppPlan, PoolPlan
from deployments.pool_adapters import PoolAdapters
from deployments.pool_client import PoolClient
from deployments.prepared import Prepared, Run
from deployments.prompting import Prompter
from deployments.replica_metrics import labelled
from deployments.routed import Routed
from replicas.chat import Tokenizer
from replicas.engine import Chunk, Generation
from replicas.errors import ContextOverflow, EngineFailed, InvalidRequest, NotFound, ShoalError
from router.budget import State
from router.call import Call
from router.catalog import Catalog, ModelCard
from router.experiments.trials import Experiments
from router.journal.archive import Archive
from router.journal.journal import Journal
from router.policy.candidate import Candidate
from router.policy.decide import Policy
from router.policy.decision import Decision
from router.policy.features import AUTO, tokens_in

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # of a generation whose replica is lost
OFF_LOOP_TOKENS = 4000  # of a prompt: more takes the tokenizer longer than a thread's start


def serve_handle(pool: PoolPlan) -> DeploymentHandle[object]:
    """The handle of a pool that runs in this Ray cluster."""
    return serve.get_deployment_handle(pool.deployment, app_name=APP_NAME)


class Answerer:
    """Answers calls with the pools of a plan. Lives on one event loop. `handle_of` is for tests without Ray."""

    def __init__(
        self,
        plan: AppPlan,
        handle_of: Callable[[PoolPlan], DeploymentHandle[object]] = serve_handle,
        money: Money | None = None,
        archive: Archive | None = None,
    ) -> None:
        self.plan = plan
        self.money = money or Money()
        self.archive = archive
        self._handle_of = handle_of
        self.clouds = Clouds(plan)
        self.catalog = catalog(plan, self.clouds.candidates)
        self.clients: dict[str, PoolClient] = {}
        self.adapters: dict[str, PoolAdapters] = {}  # of the pools whose adapters are kept here
        self.policy = Policy(plan.routes, self.clouds.missing, is_limited=self.money.budgets.is_limited)
        self.experiments = Experiments(plan.experiments, self.policy)
        self._chains = Chains(self.policy, self.clouds, self.money, plan.http)
        self.registry = self._chains.registry
        self.journal = Journal(self.registry, None if archive is None else archive.put)
        self._prompters: dict[str, Prompter] = {}

    def start(self) -> None:
        """Open the pools. Call once, on the loop."""
        for pool in self.plan.pools:
            client = PoolClient(self._handle_of(pool), pool.deployment, self.plan.http.ping_interval_s)
            client.start()
            self.clients[pool.model] = client
            self._prompters[pool.model] = Prompter(pool, build_tokenizer(pool))

    def keep_adapters(self) -> None:
        """Keep the adapters of all replicas alike. For the ingress alone: two would undo each other's work."""
        for pool in self.plan.pools:
            if pool.engine.kind == "slot":
                keeper = PoolAdapters(pool, self.clients[pool.model], self._prompters[pool.model])
                keeper.start()
                self.adapters[pool.model] = keeper

    def metrics(self) -> list[Metric]:
        """What this process has counted."""
        return [labelled(family, {}) for family in self.registry.collect()]

    async def close(self) -> None:
        """Close the pools, and the books."""
        for keeper in self.adapters.values():
            await keeper.close()
        for client in self.clients.values():
            await client.close()
        await self.clouds.close()
        await asyncio.to_thread(self.money.close)
        if self.archive is not None:
            await asyncio.to_thread(self.archive.close)

    def prepare(
        self,
        call: Call,
        budget: State = "ok",
        run: Run | None = None,
        told: Callable[[Decision], None] = lambda _: None,
    ) -> Prepared | Routed:
        """Decide who answers, and count. Where several may answer, `run` is for the local models among them. `told`
        hears what is decided, before anything comes of it. Raises NotFound for the model, ContextOverflow for a prompt
        that fits none of the route, Withheld, BudgetSpent and Unavailable where nobody may answer, InvalidRequest."""
        tried, decision = self.experiments.decide(call, budget)  # on record is the call as it came, as policies saw it
        told(decision)
        try:
            work = self._ready(tried, decision, run or self.run, told)
        except ShoalError as refusal:
            self.journal.refused(call, decision, budget, refusal)
            raise
        return replace(work, record=self.journal.begun(call, decision, budget))

    def _ready(self, call: Call, decision: Decision, run: Run, told: Callable[[Decision], None]) -> Prepared | Routed:
        if self._chains.are_needed(decision):
            return self._routed(call, decision, run)
        is_asked = decision.by == "model" and not decision.is_degraded
        if decision.is_unknown or (is_asked and decision.names):
            prompter, call = self._resolved(call)
            return self._prepared(prompter, call, decision)
        overflow: ContextOverflow | None = None
        for name in decision.names:
            try:
                return self._prepared(self._prompters[name], call, decision)
            except ContextOverflow as error:
                overflow = overflow or error
                decision = decision.without(name, str(error))
                told(decision)
        raise overflow or decision.refusal()

    def _prepared(self, prompter: Prompter, call: Call, decision: Decision) -> Prepared:
        generation = prompter.generation(call, self.plan.http.request_deadline_s)
        reader, blamed = partial(prompter.reader, call, generation), partial(prompter.blamed, call, generation)
        return Prepared(prompter.pool, generation, reader, blamed, decision, call.origin)

    def _routed(self, call: Call, decision: Decision, run: Run) -> Routed:
        """The chain of `decision`, in which `run` is for local models; nothing is asked yet."""

        async def local(name: str, asked: Call, left_s: float) -> AsyncGenerator[list[Chunk], None]:
            make = partial(self._prepared, self._prompters[name], replace(asked, deadline_s=left_s), decision)
            prepared = await asyncio.to_thread(make) if tokens_in(asked) > OFF_LOOP_TOKENS else make()
            async with aclosing(run(prepared)) as stream:
                async for chunks in stream:
                    yield chunks

        return self._chains.routed(Wanted(call, decision, local))

    def tokenizer(self, model: str) -> Tokenizer:
        """The tokenizer of a resolved model."""
        return self._prompters[model].tokenizer

    def count(self, call: Call) -> int:
        """How many tokens the prompt of `call` has for a local model, however long it is."""
        prompter, call = self._resolved(call)
        return len(prompter.prompt(call))

    def _resolved(self, call: Call) -> tuple[Prompter, Call]:
        """The pool's prompter. A model that nobody knows may be `MODEL:ADAPTER`."""
        base, colon, adapter = (call.model or "").rpartition(":")
        name = None if call.model == AUTO else call.model
        try:
            return self._prompters[self.catalog.resolve(name).id], call
        except NotFound:
            if not colon or not adapter or not base:
                raise
            return self._prompters[self.catalog.resolve(base).id], replace(call, adapter=adapter)

    async def run(self, prepared: Prepared) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of an answer, tool calls read out of its text; the first list is empty and says that a replica
        has admitted it.

        A replica that is lost is replaced by another one, silently: before the first token, and after it too where the
        engine is strict. Such an answer begins again, and what has been delivered is skipped.
        """
        reader, told_s = prepared.reader(), time.monotonic()
        cause = Cause.of(prepared.origin, prepared.decision, prepared.pool.model)
        with self.money.local(cause, prepared.generation) as tally:
            async with aclosing(self._texts(prepared)) as stream:
                async for chunks in stream:
                    tally.count(chunks)
                    self._observe(prepared.model, chunks)
                    told = chunks if reader is None else reader.read(chunks)
                    # While a call is held until it is whole, an empty list now and then says that it is coming.
                    if told or not chunks or time.monotonic() - told_s > self.plan.http.ping_interval_s:
                        yield told
                        told_s = time.monotonic()
                    if reader is not None and reader.has_stopped:
                        return

    def _observe(self, model: str, chunks: Sequence[Chunk]) -> None:
        """The pace of an answer, when it has ended."""
        final = chunks[-1].final if chunks else None
        if final is not None and final.error is None:
            times = final.timings
            self.policy.speeds.observe(model, times.queued_s + times.prefill_s, final.usage.generated, times.decode_s)

    async def _texts(self, prepared: Prepared) -> AsyncGenerator[list[Chunk], None]:
        delivery = Delivery()
        ends_at_s = time.monotonic() + prepared.generation.deadline_s
        for attempt in range(ATTEMPTS):
            attempt_id = f"{prepared.generation.id}.{secrets.token_hex(4)}"
            left_s = max(0.0, ends_at_s - time.monotonic())
            generation = replace(prepared.generation, id=attempt_id, deadline_s=left_s)
            try:
                async with aclosing(self._generated(prepared.pool.model, generation)) as stream:
                    async for chunks in stream:
                        yield [delivery.rest(chunk) for chunk in chunks]
                return
            except InvalidRequest as refusal:
                raise prepared.blamed(refusal) from refusal
            except EngineFailed as lost:
                is_repeatable = not delivery.has_begun or prepared.pool.engine.determinism == "strict"
                if not is_repeatable or delivery.is_contradicted or attempt == ATTEMPTS - 1:
                    raise
                delivery.begin_again()
                logger.warning("generation restarted: %s", lost)

    async def _generated(self, model: str, generation: Generation) -> AsyncGenerator[list[Chunk], None]:
        """The chunks of one attempt. A replica that has just started may lack an adapter that was loaded before: it is
        given that, and asked again."""
        client, keeper = self.clients[model], self.adapters.get(model)
        try:
            async with aclosing(client.generate(generation)) as stream:
                async for chunks in stream:
                    yield chunks
            return
        except NotFound as missing:
            if keeper is None or missing.kind != "adapter" or not await keeper.restored(missing.name):
                raise
        async with aclosing(client.generate(generation)) as stream:
            async for chunks in stream:
                yield chunks

    async def answer(self, call: Call) -> AsyncGenerator[Chunk, None]:
        """The chunks of an answer, one by one."""
        budget = await self.money.budgets.state(call.origin.payer)
        prepared = self.prepare(call, budget)
        chosen = self.run(prepared) if isinstance(prepared, Prepared) else prepared.chunks()
        async with aclosing(followed(prepared, chosen)) as stream:
            async for chunks in stream:
                for chunk in chunks:
                    yield chunk


def catalog(plan: AppPlan, clouds: Sequence[Candidate] = ()) -> Catalog:
    """The models that `plan` serves, and those of `clouds` that can be asked."""
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
    far = [
        ModelCard(one.name, one.name, EPOCH, one.context_tokens, one.aliases, one.name.partition("/")[0])
        for one in clouds
    ]
    return Catalog(cards, plan.default_model, far)


def connect(plan: AppPlan) -> Answerer:
    """An answerer for this process, started. Call it on a running event loop inside the cluster."""
    answerer = Answerer(plan, money=joined_money(plan), archive=joined_archive(plan))
    answerer.start()
    return answerer
