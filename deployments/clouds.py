"""The clouds of a plan: a client for each one whose key is there, and for the models of the others why they lose.

A process without clouds loads none of their packages. Keys are read from the environment of this process, once, and
are in no plan.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from deployments.money import Cause, Money
from deployments.plan import AppPlan, CloudPlan
from replicas.cloud.answer import Cloud, CloudChunk, Spent
from replicas.cloud.errors import CloudRefused, CloudSilent
from replicas.cloud.release import CloudKind, Draft
from replicas.engine import Chunk, Usage
from replicas.errors import DeadlineExceeded, InvalidRequest, Unavailable
from router.budget.tokens import LIKELY_BYTES, likely_tokens, most_tokens
from router.call import Call
from router.chain.cloud import OFF_LOOP_BYTES, CloudBackend
from router.policy.candidate import Candidate
from router.policy.decision import Decision
from router.policy.speed import Speeds
from router.privacy.guard import Guard
from router.translate.draft import Target, drafted
from router.translate.plain import source_of

KEPT_1H = b'"1h"'
"""Only a body that says so has its prompt written to a cache for an hour, which is the dearest."""


@dataclass(frozen=True, slots=True)
class CloudModel:
    """One model of a cloud that can be asked from here."""

    candidate: Candidate
    kind: CloudKind
    client: Cloud

    @property
    def target(self) -> Target:
        """Whom a draft is for."""
        return Target(self.kind, self.candidate.name.partition("/")[2])

    def cost_usd(self, spent: Spent) -> float:
        """What an answer has cost; without a price only what the cloud says itself is known."""
        price = self.candidate.price
        return price.spent_usd(spent) if price is not None else spent.cost_usd or 0.0

    def worst_usd(self, draft: Draft, tokens_in: int, tokens_out: int) -> float:
        """The most that `draft` can cost with so many tokens; nobody knows it without a price."""
        price = self.candidate.price
        if price is None:
            return float("inf")
        return price.worst_usd(tokens_in, tokens_out, is_kept_1h=KEPT_1H in draft.body)


class Clouds:
    """What of the clouds of `plan` can be asked from this process: `models`, and why others are `missing`, by name."""

    def __init__(self, plan: AppPlan, environment: Mapping[str, str] = os.environ) -> None:
        self.models: dict[str, CloudModel] = {}
        self.missing: dict[str, str] = {}
        self._clients: dict[str, Cloud] = {}
        plans = {cloud.at.name: cloud for cloud in plan.clouds}
        reasons = {name: self._open(cloud, environment) for name, cloud in plans.items()}
        for one in [one for one in plan.routes.candidates if not one.is_local]:
            name = one.name.partition("/")[0]
            if name in self._clients:
                self.models[one.name] = CloudModel(one, plans[name].kind, self._clients[name])
            else:
                self.missing[one.name] = reasons.get(name, "no client for it runs here")

    @property
    def candidates(self) -> list[Candidate]:
        """Those whose models can be asked."""
        return [model.candidate for model in self.models.values()]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()

    def _open(self, cloud: CloudPlan, environment: Mapping[str, str]) -> str:
        """Make the client; why there is none, or nothing."""
        try:
            self._clients[cloud.at.name] = _client(cloud, environment)
        except Unavailable as error:
            return str(error)
        return ""


@dataclass(frozen=True, slots=True)
class Escort:
    """What goes with every request to a cloud: the guard before it, the money for it, and a clock beside it."""

    guard: Guard
    money: Money
    speeds: Speeds


class PaidBackend:
    """A cloud's model for one call: drafted when it is asked, money held while it answers, and entered afterwards.

    An answer that broke off, or whose cloud never counts, is entered with what it is likely to have cost at most, and
    so is one that nobody waited for once the request had left; one that ended in the cloud's own error costs nothing.
    """

    def __init__(self, model: CloudModel, call: Call, decision: Decision, escort: Escort) -> None:
        self._model = model
        self._call = call
        self._decision = decision
        self._escort = escort
        self._backend: CloudBackend | None = None
        self._is_limited = escort.money.budgets.is_limited(call.origin.payer)
        self._tokens_in = 0
        self._usage = Usage(0, 0)
        self._spent_usd = 0.0
        self._seen = Seen()

    async def ask(self, left_s: float) -> AsyncGenerator[list[Chunk], None]:
        """Its answer. Raises Withheld, BudgetSpent, CloudError, ContextOverflow, DeadlineExceeded."""
        self._spent_usd, self._usage = 0.0, Usage(0, 0)
        backend = self._backend = self._backend or await self._made()
        worst_usd = self._model.worst_usd(backend.draft, self._tokens_in, self._call.sampling.max_tokens)
        async with self._escort.money.budgets.held(self._call.origin.payer, worst_usd, left_s) as hold:
            seen = self._seen = Seen()
            try:
                async with aclosing(backend.ask(left_s)) as stream:
                    async for chunks in stream:
                        seen.count(chunks)
                        yield chunks
            except (asyncio.CancelledError, GeneratorExit, DeadlineExceeded, CloudSilent):
                seen.is_left = True
                raise
            finally:
                hold.cost_usd = self._spent_usd = backend.spent_usd()
                self._enter()

    def spent_usd(self) -> float:
        """What the last ask has cost."""
        return self._spent_usd

    async def _made(self) -> CloudBackend:
        source = self._call.source
        is_large = source is not None and len(source.body) >= OFF_LOOP_BYTES
        draft = await asyncio.to_thread(self._draft) if is_large else self._draft()
        return CloudBackend(self._model.client, draft, self._escort.guard, self._decision.marking, self._cost)

    def _draft(self) -> Draft:
        """Raises CloudRefused for what this kind of cloud cannot be asked: somebody else may do it."""
        try:
            source = self._call.source or source_of(self._call)
            target, limit = self._model.target, self._call.sampling.max_tokens
            draft = drafted(source, target, self._call.id, self._call.deadline_s, limit if self._is_limited else None)
        except InvalidRequest as error:
            raise CloudRefused(self._model.candidate.name, str(error), error.status, "") from error
        self._tokens_in = most_tokens(draft) if self._is_limited else likely_tokens(draft)
        return draft

    def _cost(self, spent: Spent) -> float:
        is_charged = self._seen.is_taken or (self._seen.is_left and spent.is_sent)
        if is_charged and not spent.is_settled and spent.cost_usd is None:
            spent = replace(spent, usage=self._likely(spent.usage))
        self._usage = spent.usage
        return self._model.cost_usd(spent)

    def _likely(self, known: Usage) -> Usage:
        """What an answer has used that was never counted to its end: rather too much than too little, and the most that
        came of it can be where there are budgets. Of one that came as a whole and cannot be read, all that it was
        allowed."""
        prompt = known.prompt or self._tokens_in
        came, most = self._seen.size_bytes, self._call.sampling.max_tokens
        said = max(known.generated, min(came, most) if self._is_limited else came // LIKELY_BYTES)
        is_unread = not self._call.is_stream and not came
        return replace(known, prompt=prompt, generated=most if is_unread else said)

    def _enter(self) -> None:
        name, usage, seen = self._model.candidate.name, self._usage, self._seen
        if seen.ended_s is not None and seen.first_s is not None:
            self._escort.speeds.observe(name, seen.first_s, usage.generated, seen.ended_s - seen.first_s)
        if usage.generated or self._spent_usd:
            cause = Cause.of(self._call.origin, self._decision, name)
            self._escort.money.answered(cause, usage, self._spent_usd)


class Seen:
    """What of a cloud's answer has come, and when, counted from now."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self.is_taken = False
        self.is_left = False
        """By whoever asked, before it ended."""
        self.size_bytes = 0
        """Of its words, or of what it has in their place."""
        self.first_s: float | None = None
        self.ended_s: float | None = None

    def count(self, chunks: Sequence[Chunk]) -> None:
        """These have come."""
        self.is_taken = True
        for chunk in chunks:
            self.size_bytes += len(_said(chunk).encode("utf-8", "surrogatepass"))
            if self.first_s is None and (chunk.tokens or self.size_bytes):
                self.first_s = time.monotonic() - self._began_s
            if chunk.final is not None:
                self.ended_s = time.monotonic() - self._began_s


class LocalBackend:
    """A local model for one call: `answer` gives its answer within so many seconds. It costs nothing."""

    def __init__(self, answer: Callable[[float], AsyncGenerator[list[Chunk], None]]) -> None:
        self._answer = answer

    def ask(self, left_s: float) -> AsyncGenerator[list[Chunk], None]:
        """Its answer. Raises ShoalErrors."""
        return self._answer(left_s)

    def spent_usd(self) -> float:
        """Nothing."""
        return 0.0


def _said(chunk: Chunk) -> str:
    """What a model wrote of `chunk`: its own dialect has a form around that, which counts."""
    called = "" if chunk.call is None else (chunk.call.name or "") + chunk.call.arguments
    native = chunk.native.json if isinstance(chunk, CloudChunk) and chunk.native is not None else ""
    return (chunk.text + called) or native


def _client(cloud: CloudPlan, environment: Mapping[str, str]) -> Cloud:
    if cloud.kind == "anthropic":
        from replicas.cloud.anthropic import AnthropicCloud

        return AnthropicCloud(cloud.at, environment)
    from replicas.cloud.openai import OpenAICloud

    return OpenAICloud(cloud.at, environment)
