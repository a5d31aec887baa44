"""Tells Ray's replica which requests watch for their client's leaving themselves: it need not watch them too.

Its watch costs two tasks and a queue for each request. An answer's own (deployments/event_stream.py) is there in any
case, because it must end what the request has under way in the engines and at clouds.
"""

from ray.serve._private.constants import SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER
from starlette.types import ASGIApp, Receive, Scope, Send

WATCHED = frozenset({"/v1/messages", "/v1/chat/completions", "/v1/completions"})
UNWATCHED = (SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER.encode(), b"?1")


class OwnWatch:
    """In front of `app`, which is Ray's replica."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with Ray's word for it in its headers."""
        if scope["type"] == "http" and scope["path"] in WATCHED:
            scope["headers"] = [*scope["headers"], UNWATCHED]
        await self._app(scope, receive, send)
