"""The swarm routes. Every error becomes a response in one place; every await on the conductor has a deadline there.

POST /v1/swarms                 202 with the job; Idempotency-Key makes sending it twice safe
GET  /v1/swarms                 the latest jobs, without outputs
GET  /v1/swarms/{id}            the job, outputs once it is over; ?wait_s=N waits for that
GET  /v1/swarms/{id}/events     server-sent events; ?after=N or Last-Event-ID goes on after an event
POST /v1/swarms/{id}/cancel     the job, cancelled
"""

import asyncio
import hashlib
import logging
import math
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cluster.swarm.error_wire import error_json
from cluster.swarm.event import EventBatch
from cluster.swarm.owner import Owner
from cluster.swarm.port import ConductorPort
from cluster.swarm.spec import SwarmSpec, parse_swarm_json
from cluster.swarm.wire import JOB, JOBS_PAGE, event_frame
from deployments.accounts import key_of
from deployments.desk import read_body
from deployments.event_stream import EventStream
from deployments.openapi import Documented, Operation, Parameter
from deployments.openapi.operation import EVENTS
from replicas.errors import InvalidRequest, Overloaded, ShoalError
from router.origin import origin_of

log = logging.getLogger(__name__)

JSON = "application/json"
PING = b": ping\n\n"
WAIT_MAX_S = 20.0
KEY_CHARS_MAX = 200

SUBMITTED = Operation(
    "Submit a job",
    SwarmSpec,
    status=202,
    parameters=(Parameter("idempotency-key", "makes sending it twice safe", in_header=True),),
)
JOBS = Operation("The latest jobs, without outputs")
SHOWN = Operation("A job", parameters=(Parameter("wait_s", "wait so long for its end"),))
FOLLOWED = Operation("The events of a job", gives=(EVENTS,), parameters=(Parameter("after", "an event's number"),))
CANCELLED = Operation("Cancel a job")

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class SwarmApi:
    """The handlers. `ping_s` is how long an event stream may be silent."""

    def __init__(self, port: ConductorPort, body_limit_bytes: int, ping_s: float) -> None:
        self._port = port
        self._body_limit_bytes = body_limit_bytes
        self._ping_s = ping_s

    def routes(self) -> list[Route]:
        """Every route, for an application to mount."""
        return [
            Documented("/v1/swarms", answering(self.submit), SUBMITTED, "POST"),
            Documented("/v1/swarms", answering(self.jobs), JOBS),
            Documented("/v1/swarms/{job_id}", answering(self.job), SHOWN),
            Documented("/v1/swarms/{job_id}/events", answering(self.events), FOLLOWED),
            Documented("/v1/swarms/{job_id}/cancel", answering(self.cancel), CANCELLED, "POST"),
        ]

    async def submit(self, request: Request) -> Response:
        """Accept a job."""
        owner = owner_of(request)
        body = await read_body(request, self._body_limit_bytes)
        spec = await asyncio.to_thread(parse_swarm_json, body)  # a large one takes a while
        tenant = "" if owner.key is None else owner.key.id
        job_id = _job_id(request.headers.get("idempotency-key"), tenant)
        view = await self._port.submit(job_id, spec, owner)
        return Response(JOB.dump_json(view), 202, {"location": f"/v1/swarms/{view.id}"}, JSON)

    async def jobs(self, _: Request) -> Response:
        """List jobs."""
        return Response(JOBS_PAGE.dump_json({"data": await self._port.jobs()}), media_type=JSON)

    async def job(self, request: Request) -> Response:
        """Show a job."""
        wait_s = min(WAIT_MAX_S, _number(request.query_params.get("wait_s"), "wait_s"))
        return Response(JOB.dump_json(await self._port.job(_id(request), wait_s)), media_type=JSON)

    async def cancel(self, request: Request) -> Response:
        """End a job."""
        return Response(JOB.dump_json(await self._port.cancel(_id(request))), media_type=JSON)

    async def events(self, request: Request) -> Response:
        """Follow a job."""
        seen = request.query_params.get("after") or request.headers.get("last-event-id")
        after = int(_number(seen, "after"))
        first = await self._port.events(_id(request), after, 0.0)  # an unknown job is a 404, not a broken stream
        return EventStream(self._frames(_id(request), after, first), {})

    async def _frames(self, job_id: str, after: int, batch: EventBatch) -> AsyncGenerator[bytes, None]:
        while True:
            if batch.events:
                after = batch.events[-1].seq
            yield b"".join(map(event_frame, batch.events)) or PING
            if batch.is_last:
                return
            try:
                batch = await self._port.events(job_id, after, self._ping_s)
            except ShoalError as error:  # the stream ends early; a reader comes back with the last id it saw
                log.warning("the events of job %s broke off: %s", job_id, error)
                return


def error_response(error: ShoalError) -> Response:
    """`error` as the routes answer it."""
    headers = {"retry-after": str(math.ceil(error.retry_after_s))} if isinstance(error, Overloaded) else {}
    return Response(error_json(error), error.status, headers, JSON)


def answering(handler: Handler) -> Handler:
    """`handler`, its errors as responses."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ShoalError as error:
            return error_response(error)

    return answer


def owner_of(request: Request) -> Owner:
    """Whose a job is that comes with `request`."""
    return Owner(key_of(request), origin_of(request.headers).is_private)


def _job_id(key: str | None, tenant: str) -> str:
    """A new id, or the one that `key` always has for this tenant."""
    if key is None:
        return f"swarm_{uuid.uuid4().hex[:24]}"
    if not 0 < len(key) <= KEY_CHARS_MAX:
        raise InvalidRequest(f"Idempotency-Key must have 1 to {KEY_CHARS_MAX} characters", "idempotency-key")
    named = f"{tenant}/{key}" if tenant else key
    return f"swarm_{hashlib.sha256(named.encode()).hexdigest()[:24]}"


def _id(request: Request) -> str:
    return str(request.path_params["job_id"])


def _number(text: str | None, param: str) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        number = math.nan
    if not 0 <= number < 2**53:
        raise InvalidRequest(f"{param} must be a number, at least 0", param)
    return number
