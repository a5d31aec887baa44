"""Jobs and events as JSON, both ways: the dataclasses are the wire format, pydantic checks and writes them."""

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from cluster.swarm.event import Event
from cluster.swarm.job_view import JobView

EVENT = TypeAdapter(Event)
JOB = TypeAdapter(JobView)


def event_frame(event: Event) -> bytes:
    """`event` as one server-sent event; its id is what a reader sends as Last-Event-ID to go on after it."""
    return b"id: %d\ndata: %s\n\n" % (event.seq, EVENT.dump_json(event))


class JobsPage(TypedDict):
    """What GET /v1/swarms answers."""

    data: list[JobView]


JOBS_PAGE = TypeAdapter(JobsPage)
