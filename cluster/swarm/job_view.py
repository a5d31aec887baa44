"""A job as its callers see it: status, counts, usage, and one output per agent instance.

An agent instance is one agent of the swarm on one item; its index is item * len(agents) + agent, so outputs in the
order of that index are in the order of `over`, whatever finished first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from replicas.engine import Usage

NO_USAGE = Usage(prompt=0, generated=0, cached=0)


class JobStatus(StrEnum):
    """Where a job is. It failed if no output succeeded or its deadline cut it; else outputs carry their own error."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Nothing follows it."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Output:
    """What one agent instance (`agent`) made of one item. `error` is None, or says why there is no whole text.

    `finish` is why the generation ended ("end", "stop", "length", ...): "length" means max_tokens cut it.
    """

    agent: int
    item: int
    role: str
    text: str
    usage: Usage
    finish: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Agent instances by state; they add up to the size of the job."""

    queued: int
    running: int
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True)
class JobView:
    """A snapshot of a job. Times are seconds since the epoch; `outputs` is empty until the status is terminal."""

    id: str
    name: str | None
    status: JobStatus
    error: str | None
    created_at: float
    finished_at: float | None
    counts: Counts
    usage: Usage
    roles: tuple[str, ...]
    outputs: tuple[Output, ...] = ()

    @property
    def total(self) -> int:
        """How many outputs it has when it is whole."""
        return self.counts.queued + self.counts.running + self.counts.succeeded + self.counts.failed


def total_usage(parts: Iterable[Usage]) -> Usage:
    """The sum of `parts`."""
    prompt = generated = cached = 0
    for usage in parts:
        prompt += usage.prompt
        generated += usage.generated
        cached += usage.cached
    return Usage(prompt=prompt, generated=generated, cached=cached)
