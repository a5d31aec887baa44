"""A job in the conductor's memory: what is done, what runs, the text so far of what runs, and its feed.

`apply` takes a shard's events one after the other. What it lets through is coherent whatever shards do: an agent that
has its output gets no further event, so a late or doubled report of a lost shard changes nothing.
"""

import asyncio
from collections.abc import Iterable

from cluster.swarm.event import Event, EventBatch, EventType
from cluster.swarm.feed import Feed
from cluster.swarm.job_view import NO_USAGE, Counts, JobStatus, JobView, Output, total_usage
from cluster.swarm.journal import JobRecord
from cluster.swarm.spec import SwarmSpec


class Job:
    """One job. One event loop."""

    def __init__(self, record: JobRecord, spec: SwarmSpec, outputs: Iterable[Output], ring_events: int) -> None:
        self.id = record.id
        self.record = record
        self.spec = spec
        self.status = record.status
        self.error = record.error
        self.created_at = record.created_at
        self.finished_at = record.finished_at
        self.outputs = {output.agent: output for output in outputs}
        self.feed = Feed(record.epoch, ring_events)
        self.is_stopped = asyncio.Event()  # somebody cancelled it
        self.is_over = asyncio.Event()  # its end is journalled and told
        self._texts: dict[int, list[str]] = {}  # of the agents that run

    @property
    def running(self) -> int:
        """How many agents have a call under way."""
        return len(self._texts)

    def unfinished(self) -> list[int]:
        """The agents without an output, in order."""
        return [index for index in range(self.spec.instances) if index not in self.outputs]

    def output(self, agent: int, told: Event) -> Output:
        """What `told` (an output event) says about `agent`."""
        item, number = divmod(agent, len(self.spec.agents))
        role = self.spec.agents[number].role
        return Output(agent, item, role, told.text or "", told.usage or NO_USAGE, told.finish, told.error)

    def fresh_outputs(self, events: Iterable[Event]) -> list[Output]:
        """The outputs in `events` that the job does not have yet."""
        told = [event for event in events if event.type is EventType.OUTPUT and event.agent is not None]
        fresh = {event.agent: event for event in told if self._is_open(event.agent)}
        return [self.output(agent, event) for agent, event in fresh.items() if agent is not None]

    def apply(self, events: Iterable[Event]) -> None:
        """Take what a shard told and pass it on to the followers."""
        for event in events:
            if event.agent is None or not self._is_open(event.agent):
                continue
            self._note(event.agent, event)
            self.feed.publish(event)

    def publish_status(self, status: JobStatus) -> None:
        """The status changed; the last one comes with `done`."""
        self.status = status
        self.feed.publish(Event(EventType.STATUS, status=status))

    def publish_done(self) -> None:
        """Tell the end."""
        self.feed.publish(self._done())

    def batch(self, after: int) -> EventBatch:
        """The events after `after`, or a snapshot in their place."""
        events = self.feed.after(after)
        if events is None:
            events = snapshot(self._state(), after if after <= self.feed.last_seq else 0, self.feed.last_seq)
        return EventBatch(events, is_last=self.is_over.is_set())

    def view(self) -> JobView:
        """The job as its callers see it."""
        failed = sum(output.error is not None for output in self.outputs.values())
        done = len(self.outputs)
        outputs = sorted(self.outputs.values(), key=lambda output: output.agent) if self.status.is_terminal else ()
        return JobView(
            id=self.id,
            name=self.spec.name,
            status=self.status,
            error=self.error,
            created_at=self.created_at,
            finished_at=self.finished_at,
            counts=Counts(self.spec.instances - done - self.running, self.running, done - failed, failed),
            usage=total_usage(output.usage for output in self.outputs.values()),
            roles=tuple(agent.role for agent in self.spec.agents),
            outputs=tuple(outputs),
        )

    def _is_open(self, agent: int | None) -> bool:
        return agent is not None and 0 <= agent < self.spec.instances and agent not in self.outputs

    def _note(self, agent: int, event: Event) -> None:
        if event.type is EventType.OUTPUT:
            self._texts.pop(agent, None)
            self.outputs[agent] = self.output(agent, event)
        elif event.type is EventType.DELTA:
            self._texts.setdefault(agent, []).append(event.text or "")
        elif event.type is EventType.STARTED:
            self._texts[agent] = []
        else:
            self._texts.pop(agent, None)

    def _state(self) -> list[Event]:
        events = [Event(EventType.STATUS, status=self.status)]
        events += [output_event(output) for output in self.view().outputs or self.outputs.values()]
        for agent, texts in self._texts.items():
            events.append(Event(EventType.STARTED, agent=agent))
            if texts:
                events.append(Event(EventType.DELTA, agent=agent, text="".join(texts)))
        if self.status.is_terminal:
            events.append(self._done())
        return events

    def _done(self) -> Event:
        usage = total_usage(output.usage for output in self.outputs.values())
        return Event(EventType.DONE, status=self.status, usage=usage, error=self.error)


def snapshot(state: list[Event], after: int, last_seq: int) -> tuple[Event, ...]:
    """`state` as the events that follow `after`: only the last one moves a follower on to `last_seq`."""
    last = len(state) - 1
    return tuple(_stamped(event, last_seq if place == last else after) for place, event in enumerate(state))


def finished_state(view: JobView) -> list[Event]:
    """All there is to tell of a job that is over."""
    outputs = [output_event(output) for output in view.outputs]
    return [*outputs, Event(EventType.DONE, status=view.status, usage=view.usage, error=view.error)]


def output_event(output: Output) -> Event:
    """The event that tells `output`."""
    return Event(
        EventType.OUTPUT,
        agent=output.agent,
        text=output.text,
        usage=output.usage,
        finish=output.finish,
        error=output.error,
    )


def _stamped(event: Event, seq: int) -> Event:
    return Event(event.type, seq, event.agent, event.text, event.usage, event.status, event.finish, event.error)
