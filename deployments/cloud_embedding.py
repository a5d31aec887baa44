"""Embeddings of a cloud's model: texts go through the same guard, budgets and books as requests for answers.

Only clouds of kind openai have any, and only texts are sent: who guards what leaves cannot read token ids. Vectors of
another model are no substitute, so nobody takes over where the cloud cannot be asked.
"""

import asyncio
import json
from dataclasses import replace
from functools import partial
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from deployments.accounts import is_private, key_of, payer_of
from deployments.clouds import CloudModel
from deployments.desk import JSON, Desk, off_loop
from deployments.errand import fetched
from deployments.event_stream import unless_disconnected
from deployments.money import Cause, entry_of
from deployments.noted import noted
from replicas.cloud.answer import Spent
from replicas.cloud.errors import CloudBroken, CloudSilent
from replicas.cloud.fields import Fields, count, fields, number
from replicas.cloud.release import Draft
from replicas.cloud.sending import Sending, watching
from replicas.engine import Message, Sampling, Usage
from replicas.errors import DeadlineExceeded, InvalidRequest
from router.body import parsed_json
from router.budget.tokens import likely_tokens, most_tokens
from router.call import Call
from router.openai.embeddings import EmbeddingsCall
from router.origin import origin_of
from router.policy.decision import Decision
from router.policy.features import tokens_in
from router.translate.bounds import refuse_dearer
from router.translate.source import Source


class CloudEmbedding:
    """Asks clouds for embeddings, on the books of `desk`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._answerer = desk.answerer

    async def respond(self, request: Request, body: bytes, asked: EmbeddingsCall) -> Response:
        """The cloud's answer. Raises Withheld, BudgetSpent, BudgetHeld, Unavailable, InvalidRequest, CloudError."""
        call = _call(request, body, asked)
        budget = await self._answerer.money.budgets.state(call.origin.payer)
        decision = await off_loop(len(body), partial(self._answerer.policy.decide, call, budget))
        if decision.is_degraded:
            decision = replace(decision, route=())  # vectors of another model are no substitute
        self._desk.note(request, budget, decision)
        cloud = self._cloud(decision)
        sent = {**fields(parsed_json(body)), "model": cloud.target.model}
        if self._answerer.money.budgets.is_limited(call.origin.payer):
            refuse_dearer(sent)
        deadline_s = self._answerer.plan.http.request_deadline_s
        draft = Draft(call.id, "openai", json.dumps(sent).encode("ascii"), (), deadline_s, "embeddings")
        told = await unless_disconnected(request, self._paid(request, draft, cloud, decision, call))
        headers = {**noted(request), "x-shoal-model": cloud.candidate.name}
        return Response(json.dumps({**told, "model": asked.model}), headers=headers, media_type=JSON)

    def _cloud(self, decision: Decision) -> CloudModel:
        cloud = next((self._answerer.clouds.models.get(name) for name in decision.names), None)
        if cloud is None:
            raise decision.refusal()
        if cloud.kind != "openai":
            raise InvalidRequest(f"model: {cloud.candidate.name} gives no embeddings", "model")
        return cloud

    async def _paid(
        self, request: Request, draft: Draft, cloud: CloudModel, decision: Decision, call: Call
    ) -> dict[str, object]:
        """The cloud's body, paid for: money is held before, and what it cost entered after. One that does not say, that
        nobody waits for or that breaks off costs what its texts are likely to be, or the most where there are
        budgets."""
        money, payer = self._answerer.money, call.origin.payer
        tokens = most_tokens(draft) if money.budgets.is_limited(payer) else likely_tokens(draft)
        cause, sending = Cause.of(call.origin, decision, cloud.candidate.name), Sending()
        async with money.budgets.held(payer, cloud.worst_usd(draft, tokens, 0), draft.deadline_s) as hold:
            spent = Spent()
            try:
                with (
                    self._desk.accounts.opened(key_of(request), cloud.candidate.name, tokens_in(call)),
                    watching(sending),
                ):
                    told = await fetched(cloud, draft, self._answerer.policy.guard, decision.marking)
                spent = _spent(fields(told.get("usage")), tokens)
            except (asyncio.CancelledError, DeadlineExceeded, CloudSilent):
                spent = Spent(Usage(tokens if sending.is_sent else 0, 0))
                raise
            except CloudBroken:
                spent = Spent(Usage(tokens if sending.is_taken else 0, 0))
                raise
            finally:
                hold.cost_usd = cloud.cost_usd(spent)
                if spent.usage.prompt or hold.cost_usd:
                    money.enter(entry_of(cause, spent.usage, hold.cost_usd, None))
        return dict(told)


def _spent(used: Fields, most: int) -> Spent:
    """By the cloud's own count, if it is one."""
    cost_usd, prompt = number(used.get("cost")), count(used.get("prompt_tokens"))
    is_told = cost_usd is not None or prompt > 0
    return Spent(Usage(prompt if is_told else most, 0), cost_usd=cost_usd, is_settled=is_told)


def _call(request: Request, body: bytes, asked: EmbeddingsCall) -> Call:
    """What is to be embedded as a call, for the policy and the guard."""
    texts = tuple(Message("user", text) for text in asked.inputs if isinstance(text, str))
    if len(texts) < len(asked.inputs):
        raise InvalidRequest("input: token ids stay with the local models; send text to a cloud", "input")
    key = key_of(request)
    origin = origin_of(request.headers)
    origin = replace(origin, payer=payer_of(key, origin.payer.job), is_tenant_private=is_private(key))
    source = Source.of("openai", body, request.headers, "embeddings")
    return Call(f"embd-{uuid4().hex}", asked.model, texts, Sampling(1), origin=origin, source=source)
