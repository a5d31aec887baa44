"""Where every agent of the demo is, from the events of its job alone. What the table shows and the report tells."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cluster.swarm.event import Event, EventType
from cluster.swarm.job_view import NO_USAGE, JobStatus
from replicas.engine import Usage

CHARS_PER_TOKEN = 4  # English, about: only for what an agent that still writes shows

State: TypeAlias = Literal["waiting", "working", "retrying", "done", "failed"]


@dataclass(slots=True)
class Agent:
    """One agent. Times are of this process's clock, from the moment its call was under way."""

    name: str
    state: State = "waiting"
    text: str = ""
    usage: Usage = NO_USAGE
    finish: str | None = None
    error: str | None = None
    began_s: float = 0.0
    time_s: float = 0.0

    @property
    def is_over(self) -> bool:
        """It has its output."""
        return self.state in ("done", "failed")

    @property
    def tokens(self) -> int:
        """Tokens written: exact once it is over, estimated from the text before."""
        return self.usage.generated if self.is_over else -(-len(self.text) // CHARS_PER_TOKEN)

    @property
    def tokens_s(self) -> float:
        """Tokens written per second, the reading of the prompt included."""
        return self.usage.generated / self.time_s if self.time_s > 0 else 0.0


class Board:
    """All agents of a job, in order."""

    def __init__(self, names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.agents = [Agent(name) for name in names]
        self.status = JobStatus.QUEUED
        self.error: str | None = None
        self._clock = clock

    def take(self, event: Event) -> None:
        """Note what happened."""
        if event.status is not None:
            self.status = event.status
        if event.agent is None:
            self.error = event.error or self.error
        elif event.agent < len(self.agents):
            self._note(self.agents[event.agent], event)

    def _note(self, agent: Agent, event: Event) -> None:
        if event.type is EventType.STARTED:
            agent.state, agent.text, agent.began_s = "working", "", self._clock()
        elif event.type is EventType.DELTA:
            agent.text += event.text or ""
        elif event.type is EventType.RETRY:
            agent.state, agent.text = "retrying", ""
        elif event.type is EventType.OUTPUT:
            agent.state = "done" if event.error is None else "failed"
            agent.text, agent.usage = event.text or "", event.usage or NO_USAGE
            agent.finish, agent.error = event.finish, event.error
            agent.time_s = self._clock() - agent.began_s if agent.began_s else 0.0
