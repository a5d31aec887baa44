"""Ray's replica is told not to watch the clients of answers, whose makers watch them, and of nothing else."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from deployments.own_watch import UNWATCHED, OwnWatch


@pytest.mark.parametrize(
    ("path", "is_told"),
    [("/v1/messages", True), ("/v1/chat/completions", True), ("/v1/swarms", False), ("/v1/sessions/a/kv", False)],
)
def test_only_requests_for_answers_are_left_to_themselves(path: str, is_told: bool) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def receive() -> Message:
        raise AssertionError("nobody reads")

    async def send(message: Message) -> None:
        raise AssertionError("nobody answers")

    scope: Scope = {"type": "http", "path": path, "headers": [(b"host", b"x")]}
    asyncio.run(OwnWatch(app)(scope, receive, send))
    assert [(UNWATCHED in one["headers"], one["headers"][0]) for one in seen] == [(is_told, (b"host", b"x"))]
