"""What the journal says becomes examples: scores first, then the gate's word; private requests are none."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from router.chain.failure import Reason
from router.journal.entry import BY_UNIT, Feedback, JournalEntry, Option, Outcome, Result, Try
from router.journal.record import Made
from router.journal.row import entry_of
from router.learned.cloud_quality import UNKNOWN, CloudQuality, cloud_quality
from router.learned.examples import Heard, examples_of, logged_of, most_scored
from router.learned.traits import TRAITS, traits_of
from router.origin import Origin
from tests.router.asked import policy
from tests.router.decisions import entry
from tests.router.learned.made import asked

LINE = traits_of(asked("hello")).line
CLOUD = "acme/large"
SCORED = entry(
    "a",
    key_id="",
    rule="learned",
    options=(Option("small", 0.95), Option(CLOUD, 0.05)),
    result=Result(Outcome.ANSWERED, "small", tries=(Try("small", Reason.ANSWERED.value),), cost_nano=2_000_000),
    features={TRAITS: LINE, "tools": 0},
    feedback=Feedback(0.8, "", 2.0),
)
SILENT = replace(SCORED, feedback=None)
KEPT_BACK = (Try("small", Reason.REJECTED.value, "refusal"), Try(CLOUD, Reason.ANSWERED.value))
REJECTED = replace(SCORED, result=replace(SCORED.result, answered_by=CLOUD, tries=KEPT_BACK))


def is_cloud(name: str) -> bool:
    return "/" in name


def by_cloud(score: float, to_local: float, first: str = CLOUD) -> JournalEntry:
    """An answer of the cloud, which went first unless it says otherwise."""
    odds = {"small": to_local, CLOUD: 1 - to_local}
    route = tuple(Option(name, odds[name]) for name in sorted(odds, key=lambda name: name != first))
    result = replace(SCORED.result, answered_by=CLOUD)
    return replace(SCORED, options=route, result=result, feedback=Feedback(score, "", 2.0))


def labels(*entries: JournalEntry) -> list[tuple[float, float]]:
    return [(one.good, one.weight) for one in examples_of(Heard.of(entries), "small")]


def test_the_score_of_a_local_answer_is_its_label() -> None:
    assert labels(SCORED) == [(0.8, 1.0)]


def test_an_answer_that_the_gate_kept_back_was_not_good_whatever_the_cloud_then_got() -> None:
    unanswered = replace(REJECTED, result=replace(REJECTED.result, answered_by="", outcome=Outcome.FAILED))
    told = labels(SCORED, REJECTED, replace(REJECTED, feedback=None), replace(unanswered, feedback=None))
    assert told == [(0.8, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)]


def test_the_gates_word_counts_as_much_as_the_share_of_other_answers_that_is_scored() -> None:
    assert labels(REJECTED, SCORED, SILENT, SILENT, SILENT) == [(0.0, 0.25), (0.8, 1.0)]
    assert labels(REJECTED, SILENT) == []


def test_what_was_kept_back_and_went_out_all_the_same_is_as_good_as_its_caller_says() -> None:
    result = replace(SCORED.result, outcome=Outcome.BELOW_BAR, tries=(KEPT_BACK[0], *SCORED.result.tries))
    below = replace(SCORED, result=result)
    assert labels(below, replace(below, feedback=None)) == [(0.8, 1.0)]


def journal(count: int, seed: int) -> Iterator[JournalEntry]:
    """Of local answers 7 in 10 are good; a gate keeps back half of the others, and 1 in 5 that go out are scored."""
    draw = random.Random(seed)
    for _ in range(count):
        is_good = draw.random() < 0.7
        if not is_good and draw.random() < 0.5:
            yield replace(REJECTED, feedback=None)
        else:
            said = Feedback(float(is_good), "", 2.0) if draw.random() < 0.2 else None
            yield replace(SCORED, feedback=said)


def test_where_a_gate_is_on_and_few_say_something_the_share_of_good_answers_is_still_the_true_one() -> None:
    found = []
    for seed in range(20):
        told = np.array(labels(*journal(500, seed)))
        found.append(float(np.average(told[:, 0], weights=told[:, 1])))
    assert np.mean(found) == pytest.approx(0.7, abs=4 * float(np.std(found)) / 20**0.5)


def test_what_says_nothing_of_the_local_answer_is_no_example() -> None:
    elsewhere = replace(SCORED, result=replace(SCORED.result, answered_by="other"))
    private = replace(SCORED, is_private=True, features={"tools": 0})
    older = replace(SCORED, features={TRAITS: "0:1 2:3"})
    assert labels(SILENT, elsewhere, private, older) == []


def test_answers_without_traits_are_not_among_those_that_could_have_been_scored() -> None:
    older, private = replace(SILENT, features={TRAITS: "0:1 2:3"}), replace(SILENT, features={"tools": 0})
    assert labels(SCORED, REJECTED, older, private) == [(0.8, 1.0), (0.0, 1.0)]


def test_a_logged_choice_has_the_propensities_of_both_sides() -> None:
    three = replace(SCORED, options=(Option(CLOUD, 0.5), Option("small", 0.3), Option("tiny", 0.2)))
    told = list(logged_of([SCORED, three, SILENT], is_cloud))
    assert [(one.chose, one.propensities) for one in told] == [(0, (0.95, 0.05)), (1, (0.5, 0.5))]
    assert (told[0].quality, told[0].cost_usd) == (0.8, 0.002)


def test_requests_with_one_side_alone_are_no_choices() -> None:
    alone = replace(SCORED, options=(Option("small", 1.0),))
    assert list(logged_of([alone, replace(SCORED, options=())], is_cloud)) == []


@pytest.mark.parametrize(
    ("session", "key_id", "experiment", "features", "unit"),
    [
        ("", "", "", {}, "request chat-a"),
        ("", "k1", "", {}, "request chat-a"),  # chance drew for each request
        ("s", "k1", "", {}, "session s"),
        ("", "k1", "size", {}, "key k1"),
        ("", "k1", "", {BY_UNIT: True}, "key k1"),  # drawn for no variant
        ("s", "k1", "size", {}, "session s"),
    ],
)
def test_what_was_drawn_together_is_one_unit(
    session: str, key_id: str, experiment: str, features: dict[str, bool], unit: str
) -> None:
    row = replace(SCORED, session=session, key_id=key_id, experiment=experiment)
    choices = [replace(row, id=id_, features={**row.features, **features}) for id_ in ("chat-a", "chat-a-1")]
    assert [one.unit for one in logged_of(choices, is_cloud)] == [unit, unit]


def test_the_local_model_is_whose_answers_were_scored_most() -> None:
    assert most_scored([SCORED, by_cloud(1.0, 0.5), by_cloud(1.0, 0.5)], is_cloud) == "small"
    assert most_scored([by_cloud(1.0, 0.5)], is_cloud) is None


def test_of_few_answers_of_the_cloud_the_plain_mean_is_all_there_is() -> None:
    assert cloud_quality([SCORED], is_cloud) == UNKNOWN
    assert cloud_quality([SCORED, by_cloud(0.5, 0.9), by_cloud(1.0, 0.9)], is_cloud) == CloudQuality(0.75, "mean")
    certain = [by_cloud(0.5, 0.0)] * 50
    assert cloud_quality(certain, is_cloud) == CloudQuality(0.5, "mean")
    one_counts_for_all = [by_cloud(1.0, 0.999), *[by_cloud(0.5, 0.01)] * 200]
    assert cloud_quality(one_counts_for_all, is_cloud).by == "mean"


def test_a_cloud_that_stood_in_says_nothing_of_what_it_would_have_been_given() -> None:
    drawn, stood_in = [by_cloud(1.0, 0.5)] * 20, [by_cloud(0.0, 0.5, first="small")] * 80
    assert cloud_quality([*drawn, *stood_in], is_cloud) == CloudQuality(1.0, "odds")


def scored_clouds(count: int, seed: int) -> Sequence[JournalEntry]:
    """Half of the requests are hard: they go to the cloud in nine of ten cases, the easy ones in one. It does six in
    ten of the hard ones, and nine in ten of the easy ones."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        to_local, good = (0.1, 0.6) if draw.random() < 0.5 else (0.9, 0.9)
        if draw.random() >= to_local:
            found.append(by_cloud(float(draw.random() < good), to_local))
    return found


def test_by_the_odds_it_is_how_the_cloud_does_what_the_local_model_was_given() -> None:
    told = [cloud_quality(scored_clouds(2_000, seed), is_cloud) for seed in range(20)]
    values = np.array([one.value for one in told])
    truth = 0.1 * 0.6 + 0.9 * 0.9  # what the local model was given is easy in nine of ten cases
    plain = np.mean([row.feedback.score for row in scored_clouds(2_000, 0) if row.feedback is not None])
    assert {one.by for one in told} == {"odds"}
    assert values.mean() == pytest.approx(truth, abs=4 * float(values.std()) / 20**0.5)
    assert plain < truth - 0.1


@pytest.mark.parametrize("is_private", [False, True])
def test_the_journal_keeps_the_traits_of_requests_that_are_not_private(is_private: bool) -> None:
    request = replace(asked("What is 12 * 3?"), origin=Origin(is_private=is_private))
    made = Made(request, policy().decide(request), "ok", 1.0)
    features = entry_of(made, Result(Outcome.ANSWERED, "small")).features
    assert features.get(TRAITS) == (None if is_private else traits_of(request).line)
