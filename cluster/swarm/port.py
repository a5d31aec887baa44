"""What the edge asks of the conductor. In process it is the Conductor itself; in the cluster, its actor's handle."""

from typing import Protocol

from cluster.swarm.event import EventBatch
from cluster.swarm.job_view import JobView
from cluster.swarm.owner import NOBODY, Owner
from cluster.swarm.spec import SwarmSpec


class JobDesk(Protocol):
    """Takes jobs in and calls them off."""

    async def submit(self, job_id: str, spec: SwarmSpec, owner: Owner = NOBODY) -> JobView:
        """Accept a job of `owner`: once this returns it is journalled. Again under its id it changes nothing.

        Raises Overloaded, and InvalidRequest if the id belongs to another swarm.
        """
        ...

    async def cancel(self, job_id: str) -> JobView:
        """End a job; one that is over stays as it is. Raises NotFound."""
        ...


class JobWindow(Protocol):
    """Shows jobs."""

    async def job(self, job_id: str, wait_s: float = 0.0) -> JobView:
        """The job, once it is over or `wait_s` have passed. Raises NotFound."""
        ...

    async def jobs(self) -> list[JobView]:
        """The latest jobs, newest first, without outputs."""
        ...

    async def events(self, job_id: str, after: int, wait_s: float) -> EventBatch:
        """What happened after `after`, waiting up to `wait_s` for something to happen. Raises NotFound."""
        ...


class ConductorPort(JobDesk, JobWindow, Protocol):
    """Both."""
