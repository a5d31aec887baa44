"""What a job's followers are told, in order.

`seq` never goes back, and following `after` the last one seen misses nothing that still matters: a follower that comes
late, or fell behind the bounded ring, gets a snapshot (outputs so far, then the text so far of what is running) and
then live events. In a snapshot only the last event moves `seq`, so one that broke off half-way is asked for again.
The rule that makes all of it coherent: `started` and `retry` empty an agent's text, `delta` adds, `output` replaces.
"""

from dataclasses import dataclass
from enum import StrEnum

from cluster.swarm.job_view import JobStatus
from replicas.engine import Usage


class EventType(StrEnum):
    """What happened."""

    STATUS = "status"  # the job's status changed
    STARTED = "started"  # an agent's call is under way
    DELTA = "delta"  # more of an agent's text
    RETRY = "retry"  # the call failed with `error` and is made again: the text so far is void
    OUTPUT = "output"  # an agent is done: whole text, usage, error
    DONE = "done"  # the last event: terminal status and the job's usage


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `agent` is the index of the agent instance, None in those of the whole job.

    `text` is new text in a delta and the whole text in an output.
    """

    type: EventType
    seq: int = 0
    agent: int | None = None
    text: str | None = None
    usage: Usage | None = None
    status: JobStatus | None = None
    finish: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events in order; none when nothing happened while waiting. `is_last`: nothing follows them."""

    events: tuple[Event, ...]
    is_last: bool
