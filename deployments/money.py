"""The money of one process: its budgets, and the ledger in which every answer is entered when it has ended.

Entries and settlements are written behind, by threads of their own: nothing that makes tokens waits for the store.
Local answers cost nothing; the ledger says what they would have cost at the baseline's price.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from deployments.accounts import utc_day
from deployments.plan import AppPlan
from replicas.engine import Chunk, Finish, Generation, Usage
from replicas.errors import ShoalError
from router.budget import Budgets
from router.budget.budgets import Settlement, no_budgets
from router.budget.money import nano_of
from router.label import label
from router.origin import Origin
from router.policy.decision import Decision
from router.prices import Price
from router.store import Entry, Store, Use, WriteBehind, join_store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cause:
    """Who an answer is for, and why `model` gave it."""

    origin: Origin
    rule: str
    model: str

    @classmethod
    def of(cls, origin: Origin, decision: Decision | None, model: str) -> "Cause":
        """`decision` None: there was nothing to decide."""
        if decision is None or decision.by == "model":
            return cls(origin, "asked for by name", model)
        return cls(origin, f"{decision.by} {decision.rule}", model)


class Tally:
    """What an answer has used so far."""

    def __init__(self) -> None:
        self.generated = 0
        self.cached = 0
        self.has_ended = False

    def count(self, chunks: Sequence[Chunk]) -> None:
        """These were made."""
        self.generated += sum(chunk.tokens for chunk in chunks)
        for final in [chunk.final for chunk in chunks if chunk.final is not None]:
            self.cached += final.usage.cached
            self.has_ended = final.error is None and final.finish not in (Finish.CANCELLED, Finish.ERROR)


def _nowhere(_: Entry) -> None:
    """For a process without a store."""


class Money:
    """Budgets, and a ledger that `enter` must put entries into without waiting. No `baseline`: nothing is compared."""

    def __init__(
        self,
        budgets: Budgets | None = None,
        enter: Callable[[Entry], None] = _nowhere,
        baseline: Price | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.budgets = budgets or no_budgets()
        self.enter = enter
        self._baseline = baseline
        self.close = close

    @contextmanager
    def local(self, cause: Cause, generation: Generation) -> Iterator[Tally]:
        """An answer that is made here, entered at the end of the block if anything of it was made. Embeddings are
        compared with nothing: a price for chat says little about them."""
        tally = Tally()
        try:
            yield tally
        finally:
            if tally.has_ended or tally.generated:
                usage = Usage(len(generation.prompt), tally.generated, tally.cached)
                baseline = None if generation.wants_embedding else self._baseline
                self.enter(entry_of(cause, usage, 0.0, baseline))

    def answered(self, cause: Cause, usage: Usage, cost_usd: float) -> None:
        """Enter an answer of a cloud, and what it has cost."""
        self.enter(entry_of(cause, usage, cost_usd, self._baseline))


def entry_of(cause: Cause, usage: Usage, cost_usd: float, baseline: Price | None) -> Entry:
    """One answer, of today."""
    origin = cause.origin
    return Entry(
        day=utc_day(),
        key_id=origin.payer.key_id,
        job=label(origin.payer.job),
        agent=label(origin.agent or origin.role),
        rule=label(cause.rule),
        model=label(cause.model),
        answers=1,
        prompt=usage.prompt,
        cached=usage.cached,
        generated=usage.generated,
        cost_nano=nano_of(cost_usd),
        baseline_nano=0 if baseline is None else nano_of(baseline.cost_usd(usage)),
    )


def money_of(plan: AppPlan, store: Store, on_lost: Callable[[int], None]) -> Money:
    """The money of a process that has `store` open. Closing it writes what is left."""
    entries = WriteBehind[Entry](store.ledger.add, on_lost)
    if not plan.budgets:
        return Money(None, entries.put, plan.baseline, entries.close)
    settlements = WriteBehind[Settlement](store.budgets.settle, on_lost)
    budgets = Budgets(plan.budgets, store.budgets, settlements.put)

    def close() -> None:
        budgets.close()
        settlements.close()
        entries.close()

    return Money(budgets, entries.put, plan.baseline, close)


def joined_money(plan: AppPlan) -> Money:
    """The money of a process beside the ingress, which keeps the store's tables up to date. What it enters counts as
    use of its key too: there are no accounts here. Raises SettingsError and
    Unavailable only where there are budgets to keep."""
    if plan.store is None:
        return Money()
    try:
        store = join_store(plan.store)
    except ShoalError as error:
        if plan.budgets:
            raise
        logger.warning("what this process answers will not be in the ledger: %s", error)
        return Money()
    money = money_of(plan, store, _lost)
    uses = WriteBehind[Use](store.usage.add, _lost)

    def enter(entry: Entry) -> None:
        money.enter(entry)
        if entry.key_id:
            counts = (entry.answers, entry.prompt, entry.cached, entry.generated)
            uses.put(Use(entry.key_id, entry.day, entry.model, *counts))

    def close() -> None:
        uses.close()
        money.close()
        store.close()

    return Money(money.budgets, enter, plan.baseline, close)


def _lost(count: int) -> None:
    logger.warning("%d records of money were lost", count)
