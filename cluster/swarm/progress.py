"""A job's progress for people, from its events alone: one line per agent at work, and totals.

Bounded whatever the size of the job: only agents that run, and the last ones that ended, have a line with the tail of
their text.
"""

from collections import OrderedDict
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cluster.swarm.event import Event, EventType
from cluster.swarm.job_view import JobStatus

LINES = 20
TAIL_CHARS = 400
MARKS = {"running": ("…", "cyan"), "waiting": ("↻", "yellow"), "done": ("✓", "green"), "failed": ("✗", "red")}


class Progress:
    """Follows one job of `roles` (one per agent of the swarm) on as many items as make `total` outputs."""

    def __init__(self, job_id: str, roles: Sequence[str], total: int) -> None:
        self.status = JobStatus.QUEUED
        self.done = 0
        self.failed = 0
        self.tokens = 0
        self._job_id = job_id
        self._roles = roles
        self._total = total
        self._tails: OrderedDict[int, tuple[str, str]] = OrderedDict()  # agent -> mark, tail of its text
        self._over: set[int] = set()

    def note(self, event: Event) -> None:
        """Take the next event."""
        if event.status is not None:
            self.status = event.status
        if event.agent is None or event.agent in self._over:
            return
        if event.type is EventType.OUTPUT:
            self._finish(event.agent, event)
        elif event.type is EventType.DELTA:
            mark, tail = self._tails.get(event.agent, ("running", ""))
            self._tails[event.agent] = mark, (tail + (event.text or ""))[-TAIL_CHARS:]
        elif event.type is EventType.RETRY:
            self._tails[event.agent] = "waiting", event.error or ""
        else:
            self._tails[event.agent] = "running", ""

    def _finish(self, agent: int, event: Event) -> None:
        self._over.add(agent)
        self.done += 1
        self.failed += event.error is not None
        self.tokens += event.usage.generated if event.usage else 0
        mark = "done" if event.error is None else "failed"
        self._tails[agent] = mark, (event.error or event.text or "")[-TAIL_CHARS:]
        while len(self._tails) > LINES and (oldest := self._oldest_over()) is not None:
            del self._tails[oldest]

    def _oldest_over(self) -> int | None:
        return next((agent for agent, (mark, _) in self._tails.items() if mark in ("done", "failed")), None)

    def summary(self) -> str:
        """One line of totals."""
        errors = f", {self.failed} with an error" if self.failed else ""
        return f"{self._job_id} {self.status}: {self.done} of {self._total} done{errors}, {self.tokens} tokens"

    def __rich__(self) -> Group:
        """What a terminal shows now."""
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for agent in sorted(self._tails)[-LINES:]:
            mark, tail = self._tails[agent]
            sign, color = MARKS[mark]
            item, number = divmod(agent, len(self._roles))
            words = " ".join(tail.split())[-90:]
            table.add_row(Text(sign, style=color), Text(f"{self._roles[number]} {item}"), Text(words, style="dim"))
        return Group(table, Text(self.summary(), style="bold"))
