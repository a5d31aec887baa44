"""Lets an ingress have its port again at once after the one before it died.

Ray 2.60 binds the port of a direct ingress without SO_REUSEADDR. Connections of a killed ingress linger for a minute,
the bind fails, and Serve then blocks the port for good: the service would never come back. Ray has no setting for
it, so the one function that binds is replaced in the process of the ingress, before Serve calls it.
"""

import asyncio
import socket

import uvicorn
from ray.serve._private import http_util, replica
from ray.serve.config import HTTPOptions
from starlette.types import ASGIApp

from deployments.own_watch import OwnWatch

_start = http_util.start_asgi_http_server


def reuse_port() -> None:
    """Make Serve's server in this process bind with SO_REUSEADDR. Not SO_REUSEPORT: two services must not share one.
    What it passes on goes through OwnWatch."""
    setattr(http_util, "set_socket_reuse_port", _reuse_address)  # noqa: B010 - a function of Ray's
    setattr(replica, "start_asgi_http_server", _start_server)  # noqa: B010 - another


def _reuse_address(listener: socket.socket) -> bool:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return True


async def _start_server(
    app: ASGIApp, options: HTTPOptions, *, event_loop: asyncio.AbstractEventLoop, enable_so_reuseport: bool = False
) -> "tuple[asyncio.Task[None], uvicorn.Server]":
    return await _start(OwnWatch(app), options, event_loop=event_loop, enable_so_reuseport=True)
