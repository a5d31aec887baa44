"""What the journal says becomes examples: scores first, then the gate's word; private requests are none."""

from dataclasses import replace

import pytest

from router.chain.failure import Reason
from router.journal.entry import Feedback, JournalEntry, Option, Outcome, Result, Try
from router.journal.journal import entry_of
from router.journal.record import Made
from router.learned.examples import cloud_quality, examples_of, logged_of, most_scored
from router.learned.traits import TRAITS, traits_of
from router.origin import Origin
from tests.router.asked import policy
from tests.router.learned.made import asked

LINE = traits_of(asked("hello")).line
SCORED = JournalEntry(
    id="a",
    at=1.0,
    key_id="",
    session="",
    by="policy",
    rule="learned",
    is_private=False,
    options=(Option("small", 0.95), Option("acme/large", 0.05)),
    result=Result(Outcome.ANSWERED, "small", tries=(Try("small", Reason.ANSWERED.value),), cost_nano=2_000_000),
    features={TRAITS: LINE, "tools": 0},
    feedback=Feedback(0.8, "", 2.0),
)
REJECTED = replace(
    SCORED,
    result=replace(
        SCORED.result,
        answered_by="acme/large",
        tries=(Try("small", Reason.REJECTED.value, "refusal"), Try("acme/large", Reason.ANSWERED.value)),
    ),
)


def is_cloud(name: str) -> bool:
    return "/" in name


def labels(*entries: JournalEntry) -> list[tuple[float, float]]:
    return [(one.good, one.weight) for one in examples_of(entries, "small")]


def test_the_score_of_a_local_answer_is_its_label() -> None:
    assert labels(SCORED) == [(0.8, 1.0)]


def test_an_answer_that_the_gate_rejected_was_not_good_whatever_the_cloud_then_got() -> None:
    assert labels(REJECTED, replace(REJECTED, feedback=None)) == [(0.0, 0.5), (0.0, 0.5)]


def test_what_says_nothing_of_the_local_answer_is_no_example() -> None:
    silent = replace(SCORED, feedback=None)
    elsewhere = replace(SCORED, result=replace(SCORED.result, answered_by="other"))
    private = replace(SCORED, is_private=True, features={"tools": 0})
    older = replace(SCORED, features={TRAITS: "0:1 2:3"})
    assert labels(silent, elsewhere, private, older) == []


def test_a_logged_choice_has_the_propensities_of_both_sides() -> None:
    three = replace(SCORED, options=(Option("acme/large", 0.5), Option("small", 0.3), Option("tiny", 0.2)))
    told = list(logged_of([SCORED, three, replace(SCORED, feedback=None)], is_cloud))
    assert [(one.chose, one.propensities) for one in told] == [(0, (0.95, 0.05)), (1, (0.5, 0.5))]
    assert (told[0].quality, told[0].cost_usd) == (0.8, 0.002)


def test_requests_with_one_side_alone_are_no_choices() -> None:
    alone = replace(SCORED, options=(Option("small", 1.0),))
    assert list(logged_of([alone, replace(SCORED, options=())], is_cloud)) == []


def test_who_was_scored_most_and_how_well_the_clouds_do() -> None:
    by_cloud = replace(SCORED, result=replace(SCORED.result, answered_by="acme/large"), feedback=Feedback(0.5, "", 2.0))
    entries = [SCORED, by_cloud, by_cloud, replace(by_cloud, feedback=Feedback(1.0, "", 2.0))]
    assert most_scored(entries, is_cloud) == "small"
    assert most_scored([by_cloud], is_cloud) is None
    assert round(cloud_quality(entries, is_cloud), 3) == 0.667
    assert cloud_quality([SCORED], is_cloud) == 1.0


@pytest.mark.parametrize("is_private", [False, True])
def test_the_journal_keeps_the_traits_of_requests_that_are_not_private(is_private: bool) -> None:
    request = replace(asked("What is 12 * 3?"), origin=Origin(is_private=is_private))
    made = Made(request, policy().decide(request), "ok", 1.0)
    features = entry_of(made, Result(Outcome.ANSWERED, "small")).features
    assert features.get(TRAITS) == (None if is_private else traits_of(request).line)
