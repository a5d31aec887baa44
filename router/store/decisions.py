"""The decisions that the journal keeps: a row each, read in the order of time with what callers said of the answers.

They are read page by page, each page in a transaction of its own: who reads a million of them holds up no writer, and
rows that are added meanwhile may or may not be seen.
"""

from collections.abc import Iterator, Sequence

from sqlalchemy import Row, Select, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from router.journal.entry import Feedback, JournalEntry, Option, Outcome, Result, Try
from router.store.database import Database
from router.store.journal_tables import decisions, feedback

PAGE = 1_000
NAMES = ("id", "at", "key_id", "session", "rule", "experiment", "variant", "is_private")
MEASURES = ("prompt", "cached", "generated", "latency_s", "ttft_s", "cost_nano", "mean_logprob", "min_logprob")


class DecisionTable:
    """The decisions in `database`. Methods block, and raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, entries: Sequence[JournalEntry]) -> None:
        """Keep all of `entries`, or none. Of those that share an id the first stays."""
        insert = sqlite.insert(decisions) if self._database.is_sqlite else postgresql.insert(decisions)
        rows = [_row(entry) for entry in sorted(entries, key=lambda entry: entry.id)]  # writers that meet lock in order
        if rows:
            with self._database.writing() as connection:
                connection.execute(insert.on_conflict_do_nothing(), rows)

    def since(self, at: float, experiment: str | None = None) -> Iterator[JournalEntry]:
        """Every decision from `at` on (seconds since 1970), the oldest first, with its feedback; those of
        `experiment` alone where one is named."""
        after: tuple[float, str | None] = (at, None)
        while page := self._page(after, experiment):
            yield from page
            after = (page[-1].at, page[-1].id)

    def purge(self, before: float, most: int, limit: int) -> int:
        """Drop what is older than `before`, and what is older than the newest `most`, with its feedback, the oldest
        first and `limit` of them at most; how many that were. PAGE at a time, so that nobody waits for long. Of several
        made at once, too many may stay."""
        dropped, before = 0, max(before, self._made_at(most))
        oldest = select(decisions.c.id).where(decisions.c.at < before).order_by(decisions.c.at)
        while dropped < limit:
            with self._database.writing() as connection:
                ids = connection.execute(oldest.limit(min(PAGE, limit - dropped))).scalars().all()
                if not ids:
                    break
                # In this order: whoever gives feedback locks the decision first too.
                connection.execute(delete(decisions).where(decisions.c.id.in_(ids)))
                connection.execute(delete(feedback).where(feedback.c.decision_id.in_(ids)))
            dropped += len(ids)
        return dropped

    def _made_at(self, number: int) -> float:
        """When the `number`-th newest was made; 0 if there are fewer."""
        wanted = select(decisions.c.at).order_by(decisions.c.at.desc()).offset(number - 1).limit(1)
        with self._database.reading() as connection:
            return float(connection.execute(wanted).scalar() or 0.0)

    def _page(self, after: tuple[float, str | None], experiment: str | None) -> list[JournalEntry]:
        with self._database.reading() as connection:
            return [_entry(row) for row in connection.execute(wanted(after, experiment))]


def wanted(after: tuple[float, str | None], experiment: str | None) -> Select[tuple[object, ...]]:
    """The page of decisions behind the one of that time and id; from that time on, where there is no id."""
    at, id_ = after
    # Compared as a row, for which databases go straight to the place in the index.
    later = decisions.c.at >= at if id_ is None else tuple_(decisions.c.at, decisions.c.id) > (at, id_)
    told = (feedback.c.score, feedback.c.label.label("told"), feedback.c.at.label("told_at"))
    wanted = (
        select(decisions, *told)
        .outerjoin(feedback, feedback.c.decision_id == decisions.c.id)
        .where(later)
        .order_by(decisions.c.at, decisions.c.id)
        .limit(PAGE)
    )
    return wanted if experiment is None else wanted.where(decisions.c.experiment == experiment)


def _row(entry: JournalEntry) -> dict[str, object]:
    result = entry.result
    return {
        **{name: getattr(entry, name) for name in NAMES},
        **{name: getattr(result, name) for name in MEASURES},
        "decided_by": entry.by,
        "features": dict(entry.features),
        "options": [[one.name, one.propensity] for one in entry.options],
        "tries": [[one.name, one.reason, one.check] for one in result.tries],
        "outcome": result.outcome.value,
        "answered_by": result.answered_by,
        "reason": result.reason,
    }


def _entry(row: Row[tuple[object, ...]]) -> JournalEntry:
    found = row._asdict()
    told = None if found["score"] is None else Feedback(found["score"], found["told"], found["told_at"])
    result = Result(
        outcome=Outcome(found["outcome"]),
        answered_by=found["answered_by"],
        reason=found["reason"],
        tries=tuple(Try(*one) for one in found["tries"]),
        **{name: found[name] for name in MEASURES},
    )
    return JournalEntry(
        **{name: found[name] for name in NAMES},
        by=found["decided_by"],
        options=tuple(Option(*one) for one in found["options"]),
        result=result,
        features=found["features"],
        feedback=told,
    )
