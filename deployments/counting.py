"""POST /v1/messages/count_tokens: exact for a local model, its chat template and tools included; asked of the cloud for
one of kind anthropic; else, and for what may not leave, an estimate. `x-shoal-count` says which.
"""

from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from deployments.accounts import is_private, key_of, payer_of
from deployments.clouds import CloudModel
from deployments.desk import JSON, Desk, off_loop, read_body
from deployments.errand import fetched
from deployments.event_stream import unless_disconnected
from deployments.noted import note
from replicas.cloud.errors import CloudBroken
from router.anthropic import count_body, parse_count
from router.call import Call
from router.policy.features import tokens_in
from router.privacy.guard import Marking
from router.translate.draft import drafted

HEADER = "x-shoal-count"


class CountDesk:
    """Counts the tokens of prompts, with the models of `desk`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._answerer = desk.answerer

    async def respond(self, request: Request) -> Response:
        """Answer a request. Raises InvalidRequest, NotFound, CloudError."""
        body = await read_body(request, self._desk.limit_bytes)
        call = await off_loop(len(body), partial(parse_count, body, request.headers))
        key = key_of(request)
        payer = payer_of(key, call.origin.payer.job)
        call = replace(call, origin=replace(call.origin, payer=payer, is_tenant_private=is_private(key)))
        if not self._answerer.policy.is_cloud(call.model):
            tokens = await off_loop(len(body), partial(self._answerer.count, call))
            return Response(count_body(tokens), headers={HEADER: "exact"}, media_type=JSON)
        decision = await off_loop(len(body), partial(self._answerer.policy.decide, call))
        note(request, decision)
        cloud = next((self._answerer.clouds.models.get(name) for name in decision.names), None)
        if cloud is None or cloud.kind != "anthropic":
            return Response(count_body(tokens_in(call)), headers={HEADER: "estimate"}, media_type=JSON)
        tokens = await unless_disconnected(request, self._asked(call, cloud, decision.marking))
        return Response(count_body(tokens), headers={HEADER: "exact"}, media_type=JSON)

    async def _asked(self, call: Call, cloud: CloudModel, marking: Marking) -> int:
        assert call.source is not None, "it came in the dialect of this path"
        draft = drafted(call.source, cloud.target, call.id, self._answerer.plan.http.request_deadline_s)
        told = await fetched(cloud, draft, self._answerer.policy.guard, marking)
        tokens = told.get("input_tokens")
        if not isinstance(tokens, int):
            raise CloudBroken(cloud.candidate.name, "the answer has no count of tokens")
        return tokens
