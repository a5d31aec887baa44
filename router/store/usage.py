"""What was used: a row per key, day and model, added up where it is, so that no number of writers loses any."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import Insert, func, select
from sqlalchemy.dialects import postgresql, sqlite

from router.store.database import Database
from router.store.tables import usage

NAMES = ("key_id", "day", "model")
SUMS = ("requests", "prompt", "cached", "generated")


@dataclass(frozen=True, slots=True)
class Use:
    """So many requests and tokens of `model` on `day` (2026-01-31, UTC) by a key."""

    key_id: str
    day: str
    model: str
    requests: int
    prompt: int
    cached: int
    generated: int

    @property
    def name(self) -> tuple[str, str, str]:
        """What rows are told apart by."""
        return self.key_id, self.day, self.model

    def plus(self, other: "Use") -> "Use":
        """Both together; their names are the same."""
        sums = [getattr(self, name) + getattr(other, name) for name in SUMS]
        return Use(*self.name, *sums)


class UsageTable:
    """The usage in `database`. Methods block, and raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, uses: Sequence[Use]) -> None:
        """Add all of `uses`, or none."""
        rows = [{field.name: getattr(use, field.name) for field in fields(Use)} for use in summed(uses)]
        if rows:
            with self._database.writing() as connection:
                connection.execute(self._adding(), rows)

    def totals(self) -> dict[str, tuple[int, int, str]]:
        """By key: requests, tokens of prompts and answers, and the last day."""
        tokens = func.sum(usage.c.prompt + usage.c.generated)
        wanted = select(usage.c.key_id, func.sum(usage.c.requests), tokens, func.max(usage.c.day))
        with self._database.reading() as connection:
            rows = connection.execute(wanted.group_by(usage.c.key_id)).all()
        return {str(row[0]): (int(row[1]), int(row[2]), str(row[3])) for row in rows}

    def _adding(self) -> Insert:
        insert = sqlite.insert(usage) if self._database.is_sqlite else postgresql.insert(usage)
        sums = {name: usage.c[name] + insert.excluded[name] for name in SUMS}
        return insert.on_conflict_do_update(index_elements=NAMES, set_=sums)


def summed(uses: Iterable[Use]) -> list[Use]:
    """One of each name, in the order of names: writers that meet lock rows in the same order, and do not deadlock."""
    found: dict[tuple[str, str, str], Use] = {}
    for use in uses:
        found[use.name] = found[use.name].plus(use) if use.name in found else use
    return [found[name] for name in sorted(found)]
