"""The door of the edge: every request has a key that may do what it asks, or the instance has no keys and the request
comes from no web page.

What is not listed here wants the scope `admin`: a route that somebody adds is closed until it is named.
"""

from contextlib import AbstractContextManager, ExitStack, nullcontext

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.error_responses import ErrorResponses
from deployments.plan import HttpPlan
from deployments.web_pages import refuse_web_pages
from replicas.errors import Forbidden, ShoalError
from router.keys import Key
from router.keys import Scope as KeyScope
from router.keys.keyring import Keyring
from router.keys.limiter import Limiter

OPEN = frozenset({"/", "/api/hello", "/health", "/ready"})
"""Probes; they tell nothing but that the service is up."""

ANY_KEY = ("/v1/models", "/openapi.json")
SCOPES = {
    "/v1/messages": KeyScope.INFERENCE,
    "/v1/chat/completions": KeyScope.INFERENCE,
    "/v1/completions": KeyScope.INFERENCE,
    "/v1/embeddings": KeyScope.EMBEDDINGS,
    "/v1/feedback": KeyScope.INFERENCE,
    "/v1/sessions": KeyScope.SESSIONS,
    "/v1/swarms": KeyScope.SWARM,
}
BEARER = "bearer "
POLICY_VIOLATION = 1008  # RFC 6455; there is no web socket here, and none gets past the door


METERED = frozenset({KeyScope.INFERENCE, KeyScope.EMBEDDINGS})
"""Whose requests count towards a key's limits, from the first byte to the last of their answers."""


class Door:
    """Decides who gets in."""

    def __init__(self, keyring: Keyring, limiter: Limiter, errors: ErrorResponses, http: HttpPlan) -> None:
        self._keyring = keyring
        self._limiter = limiter
        self._http = http
        self.errors = errors

    async def key_of(self, request: Request) -> Key | None:
        """The key that a request comes in with, if one is needed. Raises Unauthenticated, Forbidden, Unavailable."""
        path = str(request.scope["path"])
        if path in OPEN:
            return None
        key = await self._keyring.key_of(presented(request))
        if key is None:
            refuse_web_pages(request.method, request.headers, self._http)
            return None
        wanted = scope_of(path)
        if wanted is not None and wanted not in key.scopes:
            raise Forbidden(f"the API key lacks the scope {wanted}")
        return key

    def admitted(self, key: Key | None, path: str) -> AbstractContextManager[None]:
        """One request within the limits of `key`, for the length of a `with` block. Raises LimitReached."""
        is_metered = scope_of(path) in METERED
        return self._limiter.admitted(key) if key is not None and is_metered else nullcontext()


class Authentication:
    """Lets a request on to `app`, its key in `request.state.key` (None without keys), or answers why not."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, and pass it on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        with ExitStack() as inside:
            try:
                request.state.key = key = await self._door.key_of(request)
                inside.enter_context(self._door.admitted(key, str(scope["path"])))
            except ShoalError as error:
                await self._door.errors.render(request, error)(scope, receive, send)
                return
            await self._app(scope, receive, send)


def presented(request: Request) -> str | None:
    """The key that a request carries, as either protocol's clients send it."""
    text = request.headers.get("x-api-key")
    authorization = request.headers.get("authorization", "")
    if text is None and authorization.lower().startswith(BEARER):
        return authorization[len(BEARER) :].strip()
    return text


def scope_of(path: str) -> KeyScope | None:
    """The scope that a path wants; None if any key will do."""
    if _is_below(path, ANY_KEY):
        return None
    return next((scope for prefix, scope in SCOPES.items() if _is_below(path, (prefix,))), KeyScope.ADMIN)


def _is_below(path: str, prefixes: tuple[str, ...]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)
