"""The decisions that the journal keeps: a row each, read in the order of time with what callers said of the answers.

They are read page by page, each page in a transaction of its own: who reads a million of them holds up no writer, and
rows that are added meanwhile may or may not be seen. Rows of experiments that are under way may be spared from the
purge; where such a row goes all the same, that is kept: who compares variants must know that the beginning is missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, not_, select, true, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from router.journal.entry import Feedback, JournalEntry, Option, Outcome, Result, Score, Try
from router.store.database import Database
from router.store.journal_tables import decisions, experiment_cuts, feedback

PAGE = 1_000
NAMES = ("id", "at", "key_id", "session", "rule", "experiment", "variant", "is_private")
MEASURES = ("prompt", "cached", "generated", "latency_s", "ttft_s", "cost_nano", "mean_logprob", "min_logprob")


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows that stay: the newest `rows` of all, from `since` on (seconds since 1970); and of `experiments` the newest
    `rows` from `experiments_since` on, wherever they are among all."""

    since: float
    rows: int
    experiments: tuple[str, ...] = ()
    experiments_since: float = 0.0


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

    def cut_at(self, experiment: str) -> float | None:
        """When the newest decision of `experiment` was made (seconds since 1970) that is not kept any more; None: all
        that was ever kept is there."""
        wanted = select(experiment_cuts.c.at).where(experiment_cuts.c.experiment == experiment)
        with self._database.reading() as connection:
            found = connection.execute(wanted).scalar_one_or_none()
        return None if found is None else float(found)

    def purge(self, kept: Kept, limit: int) -> int:
        """Drop what is not `kept`, with its feedback, the oldest first and `limit` rows at most; how many that were.
        PAGE at a time, so that nobody waits for long. Of several made at once, too many may stay."""
        is_spared = decisions.c.experiment.in_(kept.experiments)
        dropped = self._drop(not_(is_spared), max(kept.since, self._made_at(true(), kept.rows)), limit)
        if kept.experiments:
            before = max(kept.experiments_since, self._made_at(is_spared, kept.rows))
            dropped += self._drop(is_spared, before, limit - dropped)
        return dropped

    def _drop(self, which: ColumnElement[bool], before: float, limit: int) -> int:
        # Each page begins behind the last one: else it would pass over all that is spared once more.
        dropped, after = 0, (-1.0, "")
        key = (decisions.c.at, decisions.c.id)
        oldest = select(*key, decisions.c.experiment).where(decisions.c.at < before, which).order_by(*key)
        while dropped < limit:
            page = oldest.where(tuple_(*key) > after).limit(min(PAGE, limit - dropped))
            with self._database.writing() as connection:
                rows = connection.execute(page).all()
                if not rows:
                    break
                ids = [row.id for row in rows]
                # In this order: whoever gives feedback locks the decision first too.
                connection.execute(delete(decisions).where(decisions.c.id.in_(ids)))
                connection.execute(delete(feedback).where(feedback.c.decision_id.in_(ids)))
                self._note_cuts(connection, {row.experiment: row.at for row in rows if row.experiment})
            dropped += len(rows)
            after = (rows[-1].at, rows[-1].id)
        return dropped

    def _note_cuts(self, connection: Connection, cuts: Mapping[str, float]) -> None:
        if not cuts:
            return
        insert = sqlite.insert(experiment_cuts) if self._database.is_sqlite else postgresql.insert(experiment_cuts)
        newest = insert.on_conflict_do_update(
            index_elements=["experiment"],
            set_={"at": insert.excluded.at},
            where=insert.excluded.at > experiment_cuts.c.at,
        )
        connection.execute(newest, [{"experiment": name, "at": at} for name, at in sorted(cuts.items())])

    def _made_at(self, which: ColumnElement[bool], number: int) -> float:
        """When the `number`-th newest of `which` was made; 0 if there are fewer."""
        wanted = select(decisions.c.at).where(which).order_by(decisions.c.at.desc()).offset(number - 1).limit(1)
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
    told = (
        feedback.c.score,
        feedback.c.label.label("told"),
        feedback.c.at.label("told_at"),
        feedback.c.first_score,
        feedback.c.first_at,
    )
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
    first = None if found["first_score"] is None else Score(found["first_score"], found["first_at"])
    told = None if found["score"] is None else Feedback(found["score"], found["told"], found["told_at"], first)
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
