"""Rows of the journal for tests."""

from dataclasses import replace

from hypothesis import strategies as st

from router.journal.entry import Feedback, JournalEntry, Option, Outcome, Result, Try

ANSWERED = Result(Outcome.ANSWERED, "small", "", (Try("small", "answered"),), 10, 4, 3, 0.5, 0.1, 0, -0.2, -1.5)
ENTRY = JournalEntry(
    id="msg_1",
    at=100.0,
    key_id="k1",
    session="",
    by="policy",
    rule="prefer-local",
    is_private=False,
    options=(Option("small", 0.75), Option("acme/big", 0.25)),
    result=ANSWERED,
    features={"tokens_in": 10, "code": True, "language": "en"},
)


def entry(id_: str, at: float = 100.0, **changes: object) -> JournalEntry:
    """A row; `changes` are fields of it."""
    return replace(ENTRY, id=id_, at=at, **changes)  # type: ignore[arg-type]


def tried(
    experiment: str, variant: str, id_: str, *, is_good: bool = True, score: float | None = None, at: float = 100.0
) -> JournalEntry:
    """A row of an experiment, of a unit of its own."""
    result = ANSWERED if is_good else replace(ANSWERED, outcome=Outcome.FAILED, answered_by="", reason="EngineFailed")
    said = None if score is None else Feedback(score, "", at + 1)
    return replace(
        ENTRY, id=id_, at=at, key_id="", experiment=experiment, variant=variant, result=result, feedback=said
    )


NAMES = st.text(max_size=20).map(lambda text: text.replace("\0", "").encode("utf-8", "replace").decode())
REALS = st.floats(-1e6, 1e6)
COUNTS = st.integers(0, 2**40)
RESULTS = st.builds(
    Result,
    outcome=st.sampled_from(Outcome),
    answered_by=NAMES,
    reason=NAMES,
    tries=st.lists(st.builds(Try, NAMES, NAMES, NAMES), max_size=3).map(tuple),
    prompt=COUNTS,
    cached=COUNTS,
    generated=COUNTS,
    latency_s=REALS,
    ttft_s=st.none() | REALS,
    cost_nano=COUNTS,
    mean_logprob=st.none() | REALS,
    min_logprob=st.none() | REALS,
)
ENTRIES = st.builds(
    JournalEntry,
    id=NAMES,
    at=st.floats(0, 1e10),
    key_id=NAMES,
    session=NAMES,
    by=st.sampled_from(["rule", "policy", "model"]),
    rule=NAMES,
    is_private=st.booleans(),
    options=st.lists(st.builds(Option, NAMES, st.floats(0, 1)), max_size=3).map(tuple),
    result=RESULTS,
    features=st.dictionaries(NAMES, st.booleans() | COUNTS | REALS | NAMES, max_size=4),
    experiment=NAMES,
    variant=NAMES,
)
"""Whatever a row can be, as the journal makes it: names are labels."""
