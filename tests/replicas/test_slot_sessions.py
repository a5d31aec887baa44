"""Which sessions are known, and for how many tokens; which saved ones fit."""

from array import array

import pytest

from replicas.errors import InvalidRequest
from replicas.slot.kv.session_file import Origin, packed, unpacked
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


@pytest.mark.parametrize(
    ("field", "saved", "fix"),
    [
        ("determinism", "strict", "start this model with `engine.determinism: strict`"),
        ("threads", 9, "start this model with `engine.threads: 9`"),
        ("provider", "cuda", "start this model with `engine.provider: cuda`"),
        ("model", "ab12", "load it into the model that it was saved from"),
        ("block_bytes", 7, "load it with the version of Shoal that saved it"),
    ],
)
def test_a_session_from_elsewhere_is_refused_with_what_to_do(field: str, saved: object, fix: str) -> None:
    ours = Origin(
        model="m", runtime="r", provider="cpu", processor="p", threads=2, determinism="relaxed", block_bytes=64
    )
    data = packed(ours.model_copy(update={field: saved}), "mine", session(0), "", [])
    with pytest.raises(InvalidRequest, match=f"of another {field} .*{fix}, or send the conversation as a whole"):
        unpacked(data, ours)
