"""What callers say of answers: one row a decision, the last word counts. Only whose answer it was has a say."""

from sqlalchemy import select
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
        row = {"decision_id": id_, "score": said.score, "label": said.label, "at": said.at}
        kept = insert.values(row)
        changed = {name: kept.excluded[name] for name in ("score", "label", "at")}
        own = (decisions.c.id == id_) & (decisions.c.key_id == key_id)
        known = select(decisions.c.answered_by).where(own).with_for_update()
        with self._database.writing() as connection:
            answered_by = connection.execute(known).scalar_one_or_none()
            if answered_by is not None:
                connection.execute(kept.on_conflict_do_update(index_elements=["decision_id"], set_=changed))
        return None if answered_by is None else str(answered_by)
