"""A store that an earlier version wrote, opened by this one: what was there stays, and means what it meant."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from router.journal.entry import Feedback, Score
from router.journal.session import KEYED_BY, digest, sealed
from router.store import StoreAddress, open_store
from router.store.database import Database
from router.store.decisions import DecisionTable
from tests.router.decisions import ENTRY, entry

NAMES = ("k1/jane", "k1/john", "")
ROWS = 1_500
"""More than are keyed at a time."""


@pytest.fixture
def older(address: StoreAddress) -> StoreAddress:
    """A store without first scores, in which sessions have plain digests."""
    database, config = Database(address.resolved()), Config()
    config.set_main_option("script_location", "router.store:migrations")
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
    sessions = [digest(name) if name else "" for name in NAMES]
    DecisionTable(database).add([entry(f"msg_{n:04}", float(n), session=sessions[n % 3]) for n in range(ROWS)])
    with database.writing() as connection:
        said = sa.text("INSERT INTO feedback (decision_id, score, label, at) VALUES ('msg_0000', 0.5, 'x', 3)")
        connection.execute(said)
    database.close()
    return address


def test_sessions_stay_told_apart_and_lose_what_could_be_guessed(older: StoreAddress) -> None:
    store = open_store(older)
    secret = store.secrets.of(KEYED_BY)
    wanted = [sealed(digest(name), secret) if name else "" for name in NAMES]
    assert [one.session for one in store.decisions.since(0.0)] == [wanted[n % 3] for n in range(ROWS)]
    assert len({*wanted, *map(digest, NAMES)}) == 6
    store.close()
    again = open_store(older)
    assert again.secrets.of(KEYED_BY) == secret
    again.close()


def test_a_score_that_was_there_is_the_first_one(older: StoreAddress) -> None:
    store = open_store(older)
    [first, *_] = store.decisions.since(0.0)
    assert first == replace(ENTRY, id="msg_0000", at=0.0, session=first.session, feedback=Feedback(0.5, "x", 3.0))
    assert store.feedback.give("msg_0000", "k1", Feedback(1.0, "", 9.0)) == "small"
    [first, *_] = store.decisions.since(0.0)
    assert first.feedback == Feedback(1.0, "", 9.0, Score(0.5, 3.0))
    store.close()
