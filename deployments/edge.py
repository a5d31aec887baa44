"""The HTTP edge as a Starlette application: which path is answered by whom. Plain ASGI, tested without Ray."""

import uuid
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.adapter_desk import AdapterDesk
from deployments.authentication import Authentication, Door
from deployments.counting import CountDesk
from deployments.desk import Desk
from deployments.embedding import EmbeddingDesk
from deployments.error_responses import CLIENT_CLOSED_REQUEST, ErrorResponses
from deployments.feedback import FeedbackDesk
from deployments.operations import Operations
from deployments.session_desk import SessionDesk
from router.keys.keyring import Keyring


def build_app(
    desk: Desk, operations: Operations, extra_routes: Sequence[BaseRoute] = (), keyring: Keyring | None = None
) -> ASGIApp:
    """The whole HTTP surface. `extra_routes` come from above (swarm jobs): this layer knows nothing of them. Without a
    `keyring` it is open."""
    errors = ErrorResponses(desk.anthropic, desk.openai)
    app = Starlette(
        routes=[
            *_answer_routes(desk),
            *_adapter_routes(AdapterDesk(desk.answerer)),
            *_operation_routes(operations),
            *extra_routes,
        ],
        exception_handlers=errors.handlers(),
    )
    app.router.redirect_slashes = False  # an unknown path is a 404, not a redirect to a guess
    door = Door(keyring or Keyring(), desk.accounts.limiter, errors, desk.answerer.plan.http)
    guarded = Authentication(app, door)
    return RequestEnvelope(guarded, desk.metrics.observe_request)


def _answer_routes(desk: Desk) -> list[Route]:
    async def messages(request: Request) -> Response:
        return await desk.respond(request, desk.anthropic)

    embeddings, sessions = EmbeddingDesk(desk), SessionDesk(desk.answerer)

    async def chat_completions(request: Request) -> Response:
        return await desk.respond(request, desk.openai)

    async def completions(request: Request) -> Response:
        return await desk.respond(request, desk.completions)

    return [
        Route("/v1/messages", messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", CountDesk(desk).respond, methods=["POST"]),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/sessions/{session_id:path}/kv", sessions.save, methods=["GET"]),
        Route("/v1/sessions/{session_id:path}/kv", sessions.load, methods=["PUT"]),
        Route("/v1/embeddings", embeddings.respond, methods=["POST"]),
        Route("/v1/feedback", FeedbackDesk(desk).take, methods=["POST"]),
        Route("/v1/models", desk.list_models, methods=["GET"]),
        Route("/v1/models/{model_id:path}", desk.show_model, methods=["GET"]),
    ]


def _adapter_routes(adapters: AdapterDesk) -> list[Route]:
    return [
        Route("/v1/adapters", adapters.show, methods=["GET"]),
        Route("/v1/adapters", adapters.load, methods=["POST"]),
        Route("/v1/adapters/{name}", adapters.unload, methods=["DELETE"]),
    ]


def _operation_routes(operations: Operations) -> list[Route]:
    async def hello(_: Request) -> Response:
        return Response()

    return [
        Route("/", hello, methods=["GET", "HEAD"]),
        Route("/api/hello", hello, methods=["GET", "HEAD"]),
        Route("/health", operations.health, methods=["GET"]),
        Route("/ready", operations.ready, methods=["GET"]),
        Route("/metrics", operations.metrics, methods=["GET"]),
        Route("/status", operations.status, methods=["GET"]),
    ]


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
