"""The HTTP edge as a Starlette application: which path is answered by whom. Plain ASGI, tested without Ray."""

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from functools import cache
from importlib import metadata

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.adapter_desk import AdapterDesk
from deployments.authentication import Authentication, Door
from deployments.counting import CountDesk
from deployments.desk import JSON, Desk
from deployments.embedding import EmbeddingDesk
from deployments.error_responses import CLIENT_CLOSED_REQUEST, ErrorResponses
from deployments.feedback import FeedbackDesk
from deployments.openapi import Documented, document
from deployments.openapi import description as told
from deployments.operations import Operations
from deployments.session_desk import SessionDesk
from router.keys.keyring import Keyring


def build_app(
    desk: Desk, operations: Operations, extra_routes: Sequence[BaseRoute] = (), keyring: Keyring | None = None
) -> ASGIApp:
    """The whole HTTP surface. `extra_routes` come from above (swarm jobs): this layer knows nothing of them. Without a
    `keyring` it is open."""
    errors = ErrorResponses(desk.anthropic, desk.openai)
    routes: list[BaseRoute] = [
        *_answer_routes(desk),
        *_adapter_routes(AdapterDesk(desk.answerer)),
        *_operation_routes(operations),
        *extra_routes,
    ]
    app = Starlette(routes=[*routes, _document_route(routes)], exception_handlers=errors.handlers())
    app.router.redirect_slashes = False  # an unknown path is a 404, not a redirect to a guess
    door = Door(keyring or Keyring(), desk.accounts.limiter, errors, desk.answerer.plan.http)
    guarded = Authentication(app, door)
    return RequestEnvelope(guarded, desk.metrics.observe_request)


def _answer_routes(desk: Desk) -> list[Documented]:
    async def messages(request: Request) -> Response:
        return await desk.respond(request, desk.anthropic)

    embeddings, sessions = EmbeddingDesk(desk), SessionDesk(desk.answerer)

    async def chat_completions(request: Request) -> Response:
        return await desk.respond(request, desk.openai)

    async def completions(request: Request) -> Response:
        return await desk.respond(request, desk.completions)

    return [
        Documented("/v1/messages", messages, told.MESSAGES, "POST"),
        Documented("/v1/messages/count_tokens", CountDesk(desk).respond, told.COUNT, "POST"),
        Documented("/v1/chat/completions", chat_completions, told.CHAT, "POST"),
        Documented("/v1/completions", completions, told.COMPLETIONS, "POST"),
        Documented("/v1/sessions/{session_id:path}/kv", sessions.save, told.SESSION_SAVED),
        Documented("/v1/sessions/{session_id:path}/kv", sessions.load, told.SESSION_LOADED, "PUT"),
        Documented("/v1/embeddings", embeddings.respond, told.EMBEDDINGS, "POST"),
        Documented("/v1/feedback", FeedbackDesk(desk).take, told.FEEDBACK, "POST"),
        Documented("/v1/models", desk.list_models, told.MODELS),
        Documented("/v1/models/{model_id:path}", desk.show_model, told.MODEL_SHOWN),
    ]


def _adapter_routes(adapters: AdapterDesk) -> list[Documented]:
    return [
        Documented("/v1/adapters", adapters.show, told.ADAPTERS),
        Documented("/v1/adapters", adapters.load, told.ADAPTER_LOADED, "POST"),
        Documented("/v1/adapters/{name}", adapters.unload, told.ADAPTER_UNLOADED, "DELETE"),
    ]


def _operation_routes(operations: Operations) -> list[Documented]:
    async def hello(_: Request) -> Response:
        return Response()

    return [
        Documented("/", hello, told.HELLO),
        Documented("/api/hello", hello, told.HELLO),
        Documented("/health", operations.health, told.HEALTH),
        Documented("/ready", operations.ready, told.READY),
        Documented("/metrics", operations.metrics, told.METRICS),
        Documented("/status", operations.status, told.STATUS),
    ]


def _document_route(routes: Sequence[BaseRoute]) -> BaseRoute:
    @cache
    def written() -> bytes:
        return json.dumps(document([*routes, route], metadata.version("shoal"))).encode("ascii")

    async def show(_: Request) -> Response:
        return Response(await asyncio.to_thread(written), media_type=JSON)

    route = Documented("/openapi.json", show, told.DOCUMENT)
    return route


class RequestEnvelope:
    """Gives every request an id, returns it in `request-id`, and reports status and route when it is done."""

    def __init__(self, app: ASGIApp, observe: Callable[[str, str, int], None]) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid.uuid4().hex[:24]}"
        scope.setdefault("state", {})["request_id"] = request_id
        status = CLIENT_CLOSED_REQUEST

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            route = scope.get("route")
            path = route.path if isinstance(route, Route) else "other"
            self._observe(scope["method"], path, status)
