"""What callers say of answers: one row a decision, with the last word, which counts, and with the first score, which
tests that are looked at again and again must hold on to. Only whose answer it was has a say.

Of a private request's answer the scores alone are kept: a label is the caller's own words, and may quote.
"""

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from router.journal.entry import Feedback
from router.store.database import Database
from router.store.journal_tables import decisions, feedback


class FeedbackTable:
    """The feedback in `database`. Methods block, and raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def give(self, id_: str, key_id: str, said: Feedback) -> str | None:
        """Keep what the key `key_id` (empty: nobody's) says of the answer `id_`, in the place of what it said before;
        who gave that answer. None: that key has got no such answer, as far as the journal goes back."""
        insert = sqlite.insert(feedback) if self._database.is_sqlite else postgresql.insert(feedback)
        own = (decisions.c.id == id_) & (decisions.c.key_id == key_id)
        known = select(decisions.c.answered_by, decisions.c.is_private).where(own).with_for_update()
        with self._database.writing() as connection:
            found = connection.execute(known).one_or_none()
            if found is None:
                return None
            told = "" if found.is_private else said.label
            kept = insert.values(decision_id=id_, score=said.score, label=told, at=said.at)
            changed = {
                **{name: kept.excluded[name] for name in ("score", "label", "at")},
                "first_score": func.coalesce(feedback.c.first_score, feedback.c.score),
                "first_at": func.coalesce(feedback.c.first_at, feedback.c.at),
            }
            connection.execute(kept.on_conflict_do_update(index_elements=["decision_id"], set_=changed))
            return str(found.answered_by)
