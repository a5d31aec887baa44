"""Estimates from a log of chance are right: their intervals hold the truth as often as they say, whoever logged.

Every log is drawn from a seed, its choices by propensities that hang on the request. The truth is what the other policy
would get in the mean.
"""

import random
from dataclasses import replace

import numpy as np
import pytest

from replicas.errors import SettingsError
from router.learned.offpolicy import CLOUD, FEWEST, FEWEST_UNITS, LOCAL, Log, Logged, Value
from router.learned.traits import NAMES, Traits, traits_of
from tests.router.learned.made import asked, question

GOOD = {(True, LOCAL): 0.2, (False, LOCAL): 0.85, (True, CLOUD): 0.9, (False, CLOUD): 0.95}
COST_USD = {LOCAL: 0.0, CLOUD: 0.01}
TRUTH = 0.5 * 0.9 + 0.5 * 0.85
"""Of the policy that sends what is hard to the cloud."""

LOGS = 120


def pools() -> dict[bool, list[Traits]]:
    draw = random.Random(1)
    return {hard: [traits_of(asked(question(draw, is_hard=hard))) for _ in range(60)] for hard in (True, False)}


POOLS = pools()


def logged(count: int, seed: int) -> tuple[list[Logged], list[bool]]:
    """A log of a policy that goes to the cloud more often with what is easy: the wrong way round. And what was hard."""
    draw, found, hard = random.Random(seed), [], []
    for at in range(count):
        is_hard = draw.random() < 0.5
        to_local = 0.7 if is_hard else 0.3
        chose = LOCAL if draw.random() < to_local else CLOUD
        quality = float(draw.random() < GOOD[is_hard, chose])
        traits = draw.choice(POOLS[is_hard])
        found.append(Logged(traits, chose, (to_local, 1 - to_local), quality, COST_USD[chose], f"request {at}"))
        hard.append(is_hard)
    return found, hard


def value(seed: int) -> Value:
    """By a model of the rewards that sees counts and no words: BLAS has threads for larger ones, and on cores that are
    busy they take a hundred times as long."""
    rows, hard = logged(300, seed)
    log = Log.of(rows)
    log = replace(log, inputs=log.inputs[:, : len(NAMES)])
    return log.value(1 - np.array(hard, float), log.quality, log.expected_quality(), seed)


@pytest.fixture(scope="module")
def values() -> list[Value]:
    return [value(seed) for seed in range(LOGS)]


@pytest.mark.parametrize("way", ["ips", "snips", "dr"])
def test_intervals_of_95_percent_hold_the_truth_about_that_often(values: list[Value], way: str) -> None:
    told = [getattr(one, way) for one in values]
    covered = sum(one.low <= TRUTH <= one.high for one in told) / LOGS
    assert covered >= 0.89
    error = np.mean([one.value for one in told]) - TRUTH
    deviation = np.std([one.value for one in told]) / np.sqrt(LOGS)
    assert abs(error) < 4 * deviation


def test_the_mean_of_the_log_itself_is_not_the_truth_and_doubly_robust_ones_vary_least(values: list[Value]) -> None:
    naive = np.mean([one.quality for seed in range(LOGS) for one in logged(300, seed)[0]])
    assert abs(naive - TRUTH) > 0.1
    spread = {way: np.std([getattr(one, way).value for one in values]) for way in ("ips", "snips", "dr")}
    assert spread["dr"] < spread["snips"] < spread["ips"]


def test_a_wrong_model_of_the_rewards_leaves_the_doubly_robust_estimate_unbiased() -> None:
    found = []
    for seed in range(LOGS):
        rows, hard = logged(300, seed)
        log = Log.of(rows)
        wrong = np.column_stack([np.full(300, 0.95), np.full(300, 0.05)])
        found.append(log.value(1 - np.array(hard, float), log.quality, wrong, seed).dr)
    error = np.mean([one.value for one in found]) - TRUTH
    assert abs(error) < 4 * np.std([one.value for one in found]) / np.sqrt(LOGS)
    assert sum(one.low <= TRUTH <= one.high for one in found) / LOGS >= 0.89


def test_costs_are_estimated_alike() -> None:
    rows, hard = logged(600, 3)
    log = Log.of(rows)
    cost = log.value(1 - np.array(hard, float), log.cost_usd, log.expected_cost()).dr
    assert cost.value == pytest.approx(0.01 * np.mean(hard), rel=1e-6)


def certain(count: int) -> list[Logged]:
    return [Logged(POOLS[True][0], LOCAL, (1.0, 0.0), 1.0, 0.0, "alone")] * count


def test_a_log_without_overlap_is_refused_with_why_and_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"only 0 of 500 .* had propensity 1.*routing.learned.explore"):
        Log.of(certain(500))
    with pytest.raises(SettingsError, match=f"only {FEWEST - 1} of"):
        Log.of([*logged(FEWEST - 1, 1)[0], *certain(500)])


def test_decisions_that_could_not_have_gone_otherwise_are_left_out() -> None:
    rows = logged(FEWEST, 1)[0]
    log = Log.of([*rows, *certain(7)])
    assert (len(log.chose), log.left_out) == (FEWEST, 7)
    assert log.quality.mean() == np.mean([one.quality for one in rows])


def test_a_policy_that_the_log_never_agrees_with_gives_zero_weight_and_no_division_by_it() -> None:
    rows = [Logged(POOLS[True][0], LOCAL, (0.5, 0.5), 1.0, 0.0, f"request {at}") for at in range(FEWEST)]
    log = Log.of(rows)
    never = log.value(np.zeros(FEWEST), log.quality, log.expected_quality())
    assert (never.ips.value, never.snips.value) == (0.0, 0.0)


SESSION = 10
"""Requests of each. An experiment drew for all of them at once, and some who ask are more easily pleased."""


def by_session(sessions: int, seed: int) -> list[Logged]:
    draw, found = random.Random(seed), []
    for session in range(sessions):
        chose = LOCAL if draw.random() < 0.5 else CLOUD
        good = draw.random()
        for _ in range(SESSION):
            quality = float(draw.random() < good)
            found.append(Logged(draw.choice(POOLS[False]), chose, (0.5, 0.5), quality, 0.0, f"session {session}"))
    return found


def all_local(rows: list[Logged]) -> Value:
    """What the local model alone would get; half of all are pleased."""
    log = Log.of(rows)
    local = np.ones(len(rows))
    return log.value(local, log.quality, np.full((len(rows), 2), 0.5))


def test_where_sessions_were_drawn_whole_intervals_count_sessions() -> None:
    logs = [by_session(60, seed) for seed in range(LOGS)]
    told = [all_local(rows) for rows in logs]
    apart = [all_local([replace(one, unit=f"{at}") for at, one in enumerate(rows)]) for rows in logs]
    for way in ("ips", "snips", "dr"):
        whole, split = ([getattr(one, way) for one in values] for values in (told, apart))
        assert [one.value for one in whole] == [one.value for one in split]
        assert sum(one.low <= 0.5 <= one.high for one in whole) / LOGS >= 0.89
        assert sum(one.low <= 0.5 <= one.high for one in split) / LOGS < 0.8


def test_the_mean_of_what_was_logged_counts_sessions_too() -> None:
    found = [Log.of(by_session(60, seed)) for seed in range(LOGS)]
    told = [log.mean(log.quality) for log in found]
    assert sum(one.low <= 0.5 <= one.high for one in told) / LOGS >= 0.89


def test_nothing_is_guessed_of_a_session_by_its_own_requests() -> None:
    rows = [replace(one, quality=float(one.unit == "session 0")) for one in by_session(40, 1)]
    guessed = Log.of(rows).expected_quality()
    assert guessed[:SESSION].max() < 0.01


def test_a_log_of_too_few_sessions_is_refused_with_what_to_do() -> None:
    with pytest.raises(SettingsError, match=rf"of {FEWEST_UNITS - 1} sessions or keys.*Send a session"):
        Log.of(by_session(FEWEST_UNITS - 1, 1))
    assert len(Log.of(by_session(FEWEST_UNITS, 1)).quality) == FEWEST_UNITS * SESSION
