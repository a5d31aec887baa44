"""Which sessions are known, and for how many tokens."""

from array import array

from replicas.slot.kv.sessions import Session, Sessions
from replicas.slot.request.lane import BARE


def session(tokens: int) -> Session:
    return Session(BARE, array("i", range(tokens)))


def test_the_least_recently_used_sessions_are_forgotten_first() -> None:
    sessions = Sessions(most_tokens=100)
    for name, tokens in (("a", 40), ("b", 40), ("a", 50), ("c", 30)):
        sessions.note(name, session(tokens))
    assert [sessions.find(name) is not None for name in "abc"] == [True, False, True]
    sessions.note("d", session(60))
    assert [sessions.find(name) is not None for name in "acd"] == [False, True, True]


def test_one_that_is_longer_than_all_may_be_is_not_kept() -> None:
    sessions = Sessions(most_tokens=100)
    sessions.note("a", session(101))
    assert sessions.find("a") is None
