"""The journal of one process: every decision is counted, and kept where there is somewhere to keep it.

What is kept is worded later (row.py), by whoever keeps it: here, between the chunks of other answers, is no time.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter

from replicas.errors import ShoalError
from router.call import Call
from router.journal.entry import JournalEntry, Outcome, Result
from router.journal.record import Made, Record
from router.journal.row import entry_of, row_id
from router.policy.decision import Decision

BY_NAME = "asked for by name"

Keep: TypeAlias = Callable[[str, Callable[[], JournalEntry]], None]
"""Takes the id of a row, and what words it, which any thread may do."""


class Journal:
    """Counts decisions in `registry`. `keep` must not wait; without it nothing is kept."""

    def __init__(
        self, registry: CollectorRegistry, keep: Keep | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._keep = keep
        self._now = now
        self._count = Counter(
            "shoal_route_decisions",
            "Decisions on who answers, by rule, by who answered, and by how it ended",
            ["rule", "model", "outcome"],
            registry=registry,
        )

    def begun(self, call: Call, decision: Decision, budget: str) -> Record:
        """The record of a decision whose answer begins now."""
        return Record(self._made(call, decision, budget), self._ended)

    def refused(self, call: Call, decision: Decision, budget: str, refusal: ShoalError) -> None:
        """Nobody could be asked. For any thread."""
        self._ended(self._made(call, decision, budget), Result(Outcome.REFUSED, reason=type(refusal).__name__))

    def _made(self, call: Call, decision: Decision, budget: str) -> Made:
        # A row has nothing of the body as it came, pictures and all, which would be held until the row is worded.
        return Made(replace(call, source=None), decision, budget, self._now())

    def _ended(self, made: Made, result: Result) -> None:
        self._count.labels(rule_label(made.decision), result.answered_by, result.outcome.value).inc()
        if self._keep is not None:
            self._keep(row_id(made), partial(entry_of, made, result))


def rule_label(decision: Decision) -> str:
    """What decided, in words that the settings know: callers make up names of models."""
    return BY_NAME if decision.by == "model" else f"{decision.by} {decision.rule}"
