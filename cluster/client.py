"""The Python client: submit a swarm, follow it, get its outputs. Blocking, over HTTP.

A job lives in the service: its id is enough to come back to it from another process, and following it survives broken
connections and restarts of the service. Nothing is sent until something is asked for.
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import quote

import httpx

from cluster.connection import Connection
from cluster.swarm.event import Event, EventType
from cluster.swarm.job_view import JobStatus, JobView, Output
from cluster.swarm.spec import SwarmSpec
from cluster.swarm.swarm import Swarm
from cluster.swarm.wire import EVENT, JOB, JOBS_PAGE
from replicas.engine import Usage
from replicas.errors import DeadlineExceeded, ShoalError, Unavailable

WAIT_S = 15.0  # of one request that waits for a job's end
DATA = "data: "


class JobFailed(ShoalError):
    """Job `job_id` failed or was cancelled (`job_status`) for `reason`. `result(partial=True)` shows what it has."""

    def __init__(self, job_id: str, job_status: str, reason: str) -> None:
        super().__init__(job_id, job_status, reason)
        self.job_id = job_id
        self.job_status = job_status
        self.reason = reason

    def __str__(self) -> str:
        return f"job {self.job_id} {self.job_status}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a job made: one output per agent on every item, in the order of `over`, agents in theirs within an item."""

    status: JobStatus
    outputs: tuple[Output, ...]
    usage: Usage
    error: str | None


class Job:
    """A job in the service."""

    def __init__(self, connection: Connection, job_id: str) -> None:
        self.id = job_id
        self._connection = connection
        self._path = f"/v1/swarms/{quote(job_id, safe='')}"

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def view(self, wait_s: float = 0.0) -> JobView:
        """The whole job, outputs once it is over; waits up to `wait_s` (at most about 20) for that. Raises NotFound."""
        return JOB.validate_json(self._connection.get(self._path, {"wait_s": f"{max(0.0, wait_s):.3f}"}))

    def status(self) -> JobStatus:
        """queued, running, succeeded, failed or cancelled."""
        return self.view().status

    def cancel(self) -> JobStatus:
        """End it; what its agents have finished stays. A job that is over stays as it is."""
        return JOB.validate_json(self._connection.post(f"{self._path}/cancel")).status

    def events(self, after: int = 0) -> Iterator[Event]:
        """What happens, live, up to and with `done`. What happened before comes first, summed up if it was long ago.

        `started` and `retry` empty an agent's text, `delta` adds to it, `output` replaces it: that holds across
        reconnections, which this makes by itself. `after` goes on after an event's `seq`.
        """
        patience = self._connection.patience()
        while True:
            cause: Exception = Unavailable("the event stream")
            try:
                for event in self._stream(after):
                    after = event.seq
                    yield event
                    if event.type is EventType.DONE:
                        return
                    patience = self._connection.patience()
            except (httpx.TransportError, Unavailable) as error:
                cause = error
            if self._connection.has_spoken():
                patience = self._connection.patience()
            if not patience.waits():
                raise self._connection.unavailable(cause) from cause

    def _stream(self, after: int) -> Iterator[Event]:
        for line in self._connection.lines(f"{self._path}/events", {"after": str(after)}):
            if line.startswith(DATA):
                yield EVENT.validate_json(line.removeprefix(DATA))

    def result(self, timeout_s: float | None = None, *, partial: bool = False) -> Result:
        """Wait for the end. In a job that succeeded single outputs may still carry an `error`.

        Raises JobFailed for one that failed or was cancelled, unless `partial`; DeadlineExceeded after `timeout_s`, and
        the job goes on.
        """
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = WAIT_S if ends_at is None else ends_at - time.monotonic()
            view = self.view(min(WAIT_S, left_s))
            if view.status.is_terminal:
                break
            if timeout_s is not None and left_s <= WAIT_S:
                raise DeadlineExceeded(timeout_s)
        if view.status is not JobStatus.SUCCEEDED and not partial:
            raise JobFailed(self.id, view.status.value, view.error or "no reason was given")
        return Result(view.status, view.outputs, view.usage, view.error)


class Client:
    """The service at `url`. Close it, or use it in a `with`; jobs go on either way."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._connection = Connection(url, api_key)

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._connection.url

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def submit(self, swarm: Swarm | SwarmSpec) -> Job:
        """Start a job. Raises InvalidRequest that names what is wrong with the swarm, Overloaded, Unavailable."""
        spec = swarm.spec() if isinstance(swarm, Swarm) else swarm
        headers = {"content-type": "application/json", "idempotency-key": uuid.uuid4().hex}
        answer = self._connection.post("/v1/swarms", spec.model_dump_json().encode(), headers)
        return Job(self._connection, JOB.validate_json(answer).id)

    def job(self, job_id: str) -> Job:
        """A job by its id, whoever submitted it. Raises NotFound."""
        job = Job(self._connection, job_id)
        job.view()
        return job

    def jobs(self) -> list[JobView]:
        """The latest jobs, newest first, without outputs."""
        return JOBS_PAGE.validate_json(self._connection.get("/v1/swarms"))["data"]


def connect(url: str, api_key: str | None = None) -> Client:
    """A client of the service at `url`, such as http://127.0.0.1:8000; `api_key` None takes that of SHOAL_API_KEY."""
    return Client(url, api_key)
