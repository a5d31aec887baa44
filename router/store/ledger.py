"""The ledger: what answers have cost, local ones nothing, and what each would have cost had one cloud model made all.

A row per day, key, job, agent, rule and model, added up where it is, so that no number of writers loses any.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from sqlalchemy import Insert, select
from sqlalchemy.dialects import postgresql, sqlite

from router.store.database import Database
from router.store.money_tables import ledger

NAMES = ("day", "key_id", "job", "agent", "rule", "model")
SUMS = ("answers", "prompt", "cached", "generated", "cost_nano", "baseline_nano")


@dataclass(frozen=True, slots=True)
class Entry:
    """So many answers of `model` on `day` (2026-01-31, UTC), who they were for, and by which rule. Empty: none.

    Names are labels (router/label.py). Money is in nano-dollars.
    """

    day: str
    key_id: str
    job: str
    agent: str
    rule: str
    model: str
    answers: int
    prompt: int
    cached: int
    generated: int
    cost_nano: int
    baseline_nano: int

    @property
    def name(self) -> tuple[str, ...]:
        """What rows are told apart by."""
        return tuple(getattr(self, name) for name in NAMES)

    def plus(self, other: "Entry") -> "Entry":
        """Both together, under the names of this one."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in SUMS})


class LedgerTable:
    """The ledger in `database`. Methods block, and raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, entries: Sequence[Entry]) -> None:
        """Add all of `entries`, or none."""
        rows = [{field.name: getattr(entry, field.name) for field in fields(Entry)} for entry in summed(entries)]
        if rows:
            with self._database.writing() as connection:
                connection.execute(self._adding(), rows)

    def since(self, day: str) -> list[Entry]:
        """Every row from `day` on, in order of names."""
        wanted = (
            select(*(ledger.c[name] for name in (*NAMES, *SUMS)))
            .where(ledger.c.day >= day)
            .order_by(*(ledger.c[name] for name in NAMES))
        )
        with self._database.reading() as connection:
            return [Entry(*row) for row in connection.execute(wanted)]

    def _adding(self) -> Insert:
        made = sqlite.insert(ledger) if self._database.is_sqlite else postgresql.insert(ledger)
        sums = {name: ledger.c[name] + made.excluded[name] for name in SUMS}
        return made.on_conflict_do_update(index_elements=NAMES, set_=sums)


def summed(entries: Iterable[Entry]) -> list[Entry]:
    """One of each name, in the order of names: writers that meet lock rows in the same order, and do not deadlock."""
    found: dict[tuple[str, ...], Entry] = {}
    for entry in entries:
        found[entry.name] = found[entry.name].plus(entry) if entry.name in found else entry
    return [found[name] for name in sorted(found)]
