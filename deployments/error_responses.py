"""Errors become HTTP here and nowhere else, in the shape of the dialect that the request speaks."""

import logging
import math
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from deployments.event_stream import ClientGone
from deployments.noted import noted
from replicas.cloud.errors import CloudBusy
from replicas.errors import InvalidRequest, NotFound, Overloaded, ShoalError, Unauthenticated, Unavailable
from router.call import Dialect

logger = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499  # nginx's status for it; only logs and metrics ever see it
SERVER_ERROR = 500
METHOD_NOT_ALLOWED = 405

Handler = Callable[[Request, Exception], Awaitable[Response]]


class ErrorResponses:
    """Starlette's exception handlers. Anthropic's paths and clients get Anthropic's shape, all others OpenAI's."""

    def __init__(self, anthropic: Dialect, openai: Dialect) -> None:
        self._anthropic = anthropic
        self._openai = openai

    def handlers(self) -> dict[type[Exception], Handler]:
        """One for each kind of exception that can reach the edge."""
        return {
            ShoalError: self._shoal_error,
            HTTPException: self._http_error,
            ClientGone: self._client_gone,
            ClientDisconnect: self._client_gone,
            Exception: self._bug,
        }

    def render(self, request: Request, error: ShoalError) -> Response:
        """`error` as a response. It tells what was decided before, if anything was."""
        headers = noted(request)
        if isinstance(error, Overloaded | CloudBusy | Unavailable) and error.retry_after_s is not None:
            headers["retry-after"] = str(math.ceil(error.retry_after_s))
            headers["retry-after-ms"] = str(math.ceil(error.retry_after_s * 1000))
        if isinstance(error, Unauthenticated):
            headers["www-authenticate"] = "Bearer"
        is_anthropic = request.url.path.startswith("/v1/messages") or "anthropic-version" in request.headers
        dialect = self._anthropic if is_anthropic else self._openai
        return Response(dialect.error(error, _request_id(request)), error.status, headers, "application/json")

    async def _shoal_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ShoalError)
        if error.status >= SERVER_ERROR:
            logger.error("request %s failed: %s", _request_id(request), error)
        return self.render(request, error)

    async def _http_error(self, request: Request, error: Exception) -> Response:
        """Starlette's own: an unknown path, or a method that a path does not have."""
        assert isinstance(error, HTTPException)
        if error.status_code != METHOD_NOT_ALLOWED:
            return self.render(request, NotFound("path", request.url.path, "GET /v1/models lists what is served"))
        response = self.render(request, InvalidRequest(f"{request.method} is not allowed on {request.url.path}"))
        response.status_code = METHOD_NOT_ALLOWED
        response.headers.update(error.headers or {})
        return response

    async def _client_gone(self, _: Request, __: Exception) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    async def _bug(self, request: Request, error: Exception) -> Response:
        logger.error("request %s hit a bug", _request_id(request), exc_info=error)
        return self.render(request, ShoalError("internal error; the server's log has the details"))


def _request_id(request: Request) -> str:
    return str(request.state.request_id)
