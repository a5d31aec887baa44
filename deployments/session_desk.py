"""The KV of a session as a file: GET takes it out of the replica that has it, PUT gives it to the one that its next
turn goes to.

Both move it in pieces, so neither the ingress nor a message between processes ever holds a whole one, and a slow client
slows only itself. A file fits engines with the same model, runtime and provider; the engine checks.
"""

import asyncio
from collections.abc import AsyncGenerator
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from deployments.accounts import key_of
from deployments.affinity import ranked, session_key
from deployments.answering import Answerer
from deployments.pool_client import PoolClient
from deployments.session_transfer import PIECE_BYTES, Saved
from replicas.errors import BodyTooLarge, DeadlineExceeded, NotFound, Unavailable
from router.keys.key import session_of

STEP_WAIT_S = 90.0  # an engine copies between two of its steps
LOAD_WAIT_S = 600.0
OCTETS = "application/octet-stream"


class SessionDesk:
    """Handlers for /v1/sessions/{session_id}/kv."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._limit_bytes = answerer.plan.http.session_limit_bytes

    async def save(self, request: Request) -> Response:
        """The session's KV, from the replica that has it. Raises NotFound."""
        client, session_id, replica_ids = self._asked(request)
        for replica_id in replica_ids:
            try:
                saved = await client.ask(replica_id, STEP_WAIT_S, "save_session", session_id)
            except NotFound:
                continue
            assert isinstance(saved, Saved)
            headers = {"content-length": str(saved.size_bytes)}
            return StreamingResponse(_pieces(client, replica_id, saved), headers=headers, media_type=OCTETS)
        raise NotFound("session", str(request.path_params["session_id"]), "no replica keeps anything of it (any more)")

    async def load(self, request: Request) -> Response:
        """Take a session's KV over. Raises InvalidRequest if it does not fit, BodyTooLarge, DeadlineExceeded."""
        client, session_id, replica_ids = self._asked(request)
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._limit_bytes:
            raise BodyTooLarge(self._limit_bytes)
        try:
            async with asyncio.timeout(LOAD_WAIT_S):
                tokens = await self._load(request, client, replica_ids[0])
        except TimeoutError:
            raise DeadlineExceeded(LOAD_WAIT_S) from None
        return JSONResponse({"session_id": session_id, "tokens": tokens, "replica": replica_ids[0]})

    async def _load(self, request: Request, client: PoolClient, replica_id: str) -> object:
        transfer_id, gathered, size_bytes = uuid4().hex, bytearray(), 0
        async for part in request.stream():
            gathered += part
            size_bytes += len(part)
            if size_bytes > self._limit_bytes:
                raise BodyTooLarge(self._limit_bytes)
            if len(gathered) >= PIECE_BYTES:
                await client.ask(replica_id, STEP_WAIT_S, "write_session", transfer_id, bytes(gathered))
                gathered.clear()
        await client.ask(replica_id, STEP_WAIT_S, "write_session", transfer_id, bytes(gathered))
        return await client.ask(replica_id, STEP_WAIT_S, "load_session", transfer_id, _session_id(request))

    def _asked(self, request: Request) -> tuple[PoolClient, str, list[str]]:
        """The pool, the session, and its replicas, the one that the session belongs to first."""
        model = self._answerer.catalog.resolve(request.query_params.get("model")).id
        session_id = _session_id(request)
        client = self._answerer.clients[model]
        replica_ids = ranked(session_key(session_id), client.replica_ids)
        if not replica_ids:
            raise Unavailable(f"a replica of {model}", "`shoal status` shows what is up")
        return client, session_id, replica_ids


def _session_id(request: Request) -> str:
    return session_of(key_of(request), str(request.path_params["session_id"]))


async def _pieces(client: PoolClient, replica_id: str, saved: Saved) -> AsyncGenerator[bytes, None]:
    start = 0
    while start < saved.size_bytes:
        piece = await client.ask(replica_id, STEP_WAIT_S, "read_session", saved.transfer_id, start)
        assert isinstance(piece, bytes)
        yield piece
        start += len(piece)
