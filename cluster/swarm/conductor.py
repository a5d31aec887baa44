"""The conductor owns the jobs: accepts, runs, shows and ends them. Plain asyncio; Ray is behind the Launcher.

A job is journalled before it is accepted and an output before it is told. At most `jobs_running` jobs run, the others
wait in order of acceptance. One task per job waits for the first of: all outputs there, cancelled, deadline; then every
agent that has no output gets one that says so. `start` takes up what an earlier conductor left on the journal's file.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ParamSpec, TypeVar

from pydantic import ValidationError

from cluster.swarm.event import Event, EventBatch, EventType
from cluster.swarm.fan_out import FanOut
from cluster.swarm.job import Job, finished_state, snapshot
from cluster.swarm.job_view import NO_USAGE, Counts, JobStatus, JobView, total_usage
from cluster.swarm.journal import JobRecord, Journal
from cluster.swarm.launcher import Launcher
from cluster.swarm.limits import Limits
from cluster.swarm.owner import NOBODY, Owner
from cluster.swarm.spec import SwarmSpec
from replicas.engine import Usage
from replicas.errors import DeadlineExceeded, InvalidRequest, NotFound, Overloaded

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

JOBS_LISTED = 100
BUSY_RETRY_S = 5.0
CANCELLED = "cancelled"
UNREADABLE = "this version of Shoal cannot read the job's specification: submit it again"


class Conductor:
    """The jobs of one instance. One event loop; `start` first, `close` last."""

    def __init__(
        self, journal: Journal, launcher: Launcher, limits: Limits | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._journal = journal
        self._launcher = launcher
        self._limits = limits or Limits()
        self._clock = clock
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal")  # one thread: commits keep their order
        self._slots = asyncio.Semaphore(self._limits.jobs_running)
        self._open: dict[str, Job] = {}
        self._recent: OrderedDict[str, Job] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._readers = 0
        self._accepting = asyncio.Lock()

    async def start(self) -> None:
        """Take up the jobs that are not over."""
        for record in await self._write(self._journal.resume):
            outputs = await self._write(self._journal.outputs, record.id)
            try:
                spec = SwarmSpec.model_validate_json(await self._write(self._journal.spec, record.id))
            except ValidationError:  # another version took it; it must not keep the others from going on
                log.exception("job %s cannot be taken up", record.id)
                lost = replace(record, status=JobStatus.FAILED, error=UNREADABLE, finished_at=self._clock())
                await self._write(self._journal.finish, lost, self._limits.jobs_kept)
                continue
            log.info("job %s resumes with %d of %d outputs", record.id, len(outputs), spec.instances)
            self._take(Job(record, spec, outputs, self._limits.ring_events))

    async def close(self) -> None:
        """Stop here and now; what is not over goes on at the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._disk.shutdown)
        self._journal.close()

    async def submit(self, job_id: str, spec: SwarmSpec, owner: Owner = NOBODY) -> JobView:
        """Accept a job; see JobDesk."""
        text = spec.model_dump_json()
        async with self._accepting:
            known = await self._write(self._journal.job, job_id)
            if known is None:
                return await self._accept(job_id, spec, text, owner)
        if await self._write(self._journal.spec, job_id) != text:
            raise InvalidRequest(f"job {job_id} is another swarm: use a new idempotency key", "idempotency_key")
        return await self.job(job_id)

    async def _accept(self, job_id: str, spec: SwarmSpec, text: str, owner: Owner) -> JobView:
        if len(self._open) >= self._limits.jobs_running + self._limits.jobs_queued:
            raise Overloaded("swarm jobs", BUSY_RETRY_S)
        roles = tuple(agent.role for agent in spec.agents)
        record = JobRecord(job_id, spec.name, roles, spec.instances, self._clock(), owner=owner)
        await self._write(self._journal.accept, record, text)
        log.info("job %s accepted: %d agents on %d items", job_id, len(spec.agents), spec.items)
        return self._take(Job(record, spec, (), self._limits.ring_events)).view()

    async def cancel(self, job_id: str) -> JobView:
        """End a job; see JobDesk."""
        if job := self._open.get(job_id):
            job.is_stopped.set()
            await job.is_over.wait()
        return await self.job(job_id)

    async def job(self, job_id: str, wait_s: float = 0.0) -> JobView:
        """The job; see JobWindow."""
        if (job := self._open.get(job_id)) and wait_s > 0:
            async with self._reading():
                await _within(job.is_over, min(wait_s, self._limits.wait_max_s))
        if job := self._in_memory(job_id):
            return job.view()
        return await self._journalled(await self._known(job_id))

    async def jobs(self) -> list[JobView]:
        """The latest jobs; see JobWindow."""
        records = await self._write(self._journal.jobs, JOBS_LISTED)
        counted = await self._write(self._journal.output_counts, [record.id for record in records])
        return [self._listed(record, counted.get(record.id, (0, 0, NO_USAGE))) for record in records]

    async def events(self, job_id: str, after: int, wait_s: float) -> EventBatch:
        """What happened; see JobWindow."""
        if job := self._in_memory(job_id):
            batch = job.batch(after)
            if batch.events or batch.is_last:
                return batch
            async with self._reading():
                await job.feed.wait(min(wait_s, self._limits.wait_max_s))
            return job.batch(after)
        record = await self._known(job_id)
        if after == record.last_seq:
            return EventBatch((), is_last=True)
        state = finished_state(await self._journalled(record))
        return EventBatch(snapshot(state, min(after, record.last_seq), record.last_seq), is_last=True)

    # What follows runs jobs.

    def _take(self, job: Job) -> Job:
        self._open[job.id] = job
        task = asyncio.create_task(self._conduct(job), name=f"job {job.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def _conduct(self, job: Job) -> None:
        try:
            error = await self._run(job)
        except Exception:  # the boundary of a job: its end must be told whatever broke, or its followers hang
            log.exception("job %s broke", job.id)
            error = "internal error: the log of the conductor says more"
        try:
            await self._finish(job, error)
        except Exception:  # the journal itself: what is in memory still gets its end, the next start tries again
            log.exception("the end of job %s cannot be journalled", job.id)
            job.error = "internal error: the journal cannot be written"
            self._end(job, JobStatus.FAILED)

    async def _run(self, job: Job) -> str | None:
        """Run `job`; None, or why it ended before all its outputs were there."""
        deadline_s = job.spec.deadline_s
        budget_s = job.created_at + deadline_s - self._clock()
        work = asyncio.create_task(self._work(job, budget_s))
        stopped = asyncio.create_task(job.is_stopped.wait())
        try:
            await asyncio.wait((work, stopped), timeout=max(0.0, budget_s), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return None
            return CANCELLED if job.is_stopped.is_set() else str(DeadlineExceeded(deadline_s))
        finally:
            work.cancel()
            stopped.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)

    async def _work(self, job: Job, budget_s: float) -> None:
        async with self._slots:
            await self._write(self._journal.begin, job.id)
            job.publish_status(JobStatus.RUNNING)
            await FanOut(job, self._launcher, self._commit, self._limits).run(budget_s)

    async def _commit(self, job: Job, events: Sequence[Event]) -> bool:
        if job.is_stopped.is_set() or job.is_over.is_set():
            return False
        if outputs := job.fresh_outputs(events):
            await self._write(self._journal.add_outputs, job.id, outputs)
        job.apply(events)
        return not job.is_stopped.is_set()

    async def _finish(self, job: Job, error: str | None) -> None:
        told = [
            Event(EventType.OUTPUT, agent=agent, text="", usage=NO_USAGE, error=error) for agent in job.unfinished()
        ]
        await self._write(self._journal.add_outputs, job.id, job.fresh_outputs(told))
        job.apply(told)
        status = _end_status(job, error)
        job.error = error or (_first_error(job) if status is JobStatus.FAILED else None)
        job.finished_at = self._clock()
        last_seq = job.feed.last_seq + 1  # `done` is still to come
        record = replace(job.record, status=status, error=job.error, finished_at=job.finished_at, last_seq=last_seq)
        await self._write(self._journal.finish, record, self._limits.jobs_kept)
        log.info("job %s %s", job.id, status.value)
        self._end(job, status)

    def _end(self, job: Job, status: JobStatus) -> None:
        job.status = status
        job.publish_done()
        job.is_over.set()
        del self._open[job.id]
        self._recent[job.id] = job
        while len(self._recent) > self._limits.jobs_recent:
            self._recent.popitem(last=False)

    def _in_memory(self, job_id: str) -> Job | None:
        return self._open.get(job_id) or self._recent.get(job_id)

    async def _known(self, job_id: str) -> JobRecord:
        record = await self._write(self._journal.job, job_id)
        if record is None:
            raise NotFound(
                "job", job_id, f"it was never submitted here, or {self._limits.jobs_kept} others ended since"
            )
        return record

    async def _journalled(self, record: JobRecord) -> JobView:
        outputs = await self._write(self._journal.outputs, record.id)
        failed = sum(output.error is not None for output in outputs)
        usage = total_usage(output.usage for output in outputs)
        return replace(self._listed(record, (len(outputs), failed, usage)), outputs=tuple(outputs))

    def _listed(self, record: JobRecord, counted: tuple[int, int, Usage]) -> JobView:
        done, failed, usage = counted
        job = self._open.get(record.id)
        running = min(job.running, record.instances - done) if job else 0
        return JobView(
            id=record.id,
            name=record.name,
            status=record.status,
            error=record.error,
            created_at=record.created_at,
            finished_at=record.finished_at,
            counts=Counts(record.instances - done - running, running, done - failed, failed),
            usage=usage,
            roles=record.roles,
        )

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        if self._readers >= self._limits.readers:
            raise Overloaded("readers of swarm events", BUSY_RETRY_S)
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1

    async def _write(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, lambda: act(*args, **kwargs))


async def _within(event: asyncio.Event, wait_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), wait_s)


def _end_status(job: Job, error: str | None) -> JobStatus:
    if error == CANCELLED:
        return JobStatus.CANCELLED
    is_good = any(output.error is None for output in job.outputs.values())
    return JobStatus.SUCCEEDED if is_good and error is None else JobStatus.FAILED


def _first_error(job: Job) -> str | None:
    return job.outputs[min(job.outputs)].error
