"""The model file is followed while it changes, a bad one keeps the one before; feedback moves what was predicted."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.learned.live import LOOK_S, LiveModel
from router.learned.model import Model, write_model
from router.learned.online import KEYS, MOST, OF_ONE_KEY, PENDING, PRIOR, Evidence, Posterior
from router.learned.opinion import Prediction
from tests.router.learned.made import trained


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def models() -> list[Model]:
    return [trained(80, f"model-{seed}", seed) for seed in (1, 2)]


def name_of(live: LiveModel) -> str | None:
    model = live.current()
    return None if model is None else model.file.local


def at_once(work: Callable[[], None]) -> None:
    work()


def replaced(path: Path, text: str, at_s: int) -> None:
    """A new file at `path`, as of another second: some file systems count no finer."""
    path.write_text(text)
    os.utime(path, (at_s, at_s))


def test_a_new_file_is_taken_up_and_looked_for_only_now_and_then(tmp_path: Path, models: list[Model]) -> None:
    path, clock = tmp_path / "route.json", Clock()
    live = LiveModel(path, clock, at_once)
    assert name_of(live) is None
    assert "cannot read" in live.problem
    write_model(models[0], path)
    assert name_of(live) is None  # not looked at yet
    clock.now_s += LOOK_S
    assert (name_of(live), live.problem) == ("model-1", "")
    replaced(path, models[1].file.text, 5)
    clock.now_s += LOOK_S / 2
    assert name_of(live) == "model-1"
    clock.now_s += LOOK_S / 2
    assert name_of(live) == "model-2"


def test_a_bad_file_keeps_the_model_before_it_and_is_told_once(
    tmp_path: Path, models: list[Model], caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "route.json", Clock()
    replaced(path, models[0].file.text, 1)
    live = LiveModel(path, clock, at_once)
    assert name_of(live) == "model-1"
    replaced(path, models[1].file.text[:-100], 2)
    for _ in range(3):
        clock.now_s += LOOK_S
        assert name_of(live) == "model-1"
    assert "train it again" in live.problem
    assert [record.message for record in caplog.records].count(
        f"no model for learned routing, the one before it stays: {live.problem}"
    ) == 1
    path.unlink()
    clock.now_s += LOOK_S
    assert name_of(live) == "model-1"
    replaced(path, models[1].file.text, 3)
    clock.now_s += LOOK_S
    assert (name_of(live), live.problem) == ("model-2", "")


def test_whoever_asks_for_the_model_waits_for_no_file(tmp_path: Path, models: list[Model]) -> None:
    path, clock, looks = tmp_path / "route.json", Clock(), list[Callable[[], None]]()
    write_model(models[0], path)
    live = LiveModel(path, clock, looks.append)
    assert name_of(live) == "model-1"
    replaced(path, models[1].file.text, 5)
    clock.now_s += LOOK_S
    assert [name_of(live) for _ in range(3)] == ["model-1"] * 3
    assert len(looks) == 1
    looks[0]()
    assert name_of(live) == "model-2"


def scored(posterior: Posterior, prediction: Prediction, key_id: str, count: int, score: float = 0.0) -> None:
    for at in range(count):
        posterior.note(f"{key_id}-{at}", key_id, prediction)
        assert posterior.learn(f"{key_id}-{at}", score)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_scores_move_predictions_like_it_and_no_others() -> None:
    posterior, sure, other = Posterior(), Prediction(0.9, 0.8, 0.95), Prediction(0.2, 0.1, 0.4)
    scored(posterior, sure, "", 60)
    assert posterior.adjusted(sure, "").probability == pytest.approx(20 * 0.9 / 80)
    assert posterior.adjusted(other, "") == other


def test_scores_of_other_requests_make_nobody_surer_of_one_that_is_like_none() -> None:
    posterior, unsure = Posterior(), Prediction(0.9, 0.2, 0.99)
    scored(posterior, Prediction(0.9, 0.88, 0.92), "", int(MOST), 0.8)
    moved = posterior.adjusted(unsure, "")
    assert moved.low < 0.2 < moved.probability < 0.9
    assert logit(moved.high) - logit(moved.low) == pytest.approx(logit(0.99) - logit(0.2))
    assert logit(moved.high) - logit(moved.probability) == pytest.approx(logit(0.99) - logit(0.9))


def test_a_certain_prediction_can_be_moved() -> None:
    posterior, certain = Posterior(), Prediction(1.0, 0.0, 1.0)
    scored(posterior, certain, "", 20)
    assert posterior.adjusted(certain, "").probability == pytest.approx(0.5)


def test_what_one_key_says_counts_wholly_for_itself_and_little_for_others() -> None:
    posterior, sure = Posterior(), Prediction(0.9, 0.8, 0.95)
    scored(posterior, sure, "mallory", 150)
    assert posterior.adjusted(sure, "mallory").probability == pytest.approx(0.9 * PRIOR / (PRIOR + 150))
    assert posterior.adjusted(sure, "jane").probability == pytest.approx(0.9 * PRIOR / (PRIOR + OF_ONE_KEY))
    for key in range(20):
        scored(posterior, sure, f"key-{key}", 3, 1.0)
    assert posterior.adjusted(sure, "jane").probability == pytest.approx((0.9 * PRIOR + 60) / (PRIOR + OF_ONE_KEY + 60))


def test_all_keys_together_are_bounded_and_the_one_that_was_silent_longest_is_forgotten() -> None:
    posterior, sure = Posterior(), Prediction(0.9, 0.8, 0.95)
    scored(posterior, sure, "first", 10)
    for key in range(KEYS):
        scored(posterior, Prediction(0.2, 0.1, 0.3), f"key-{key}", 1)
    assert posterior.adjusted(sure, "first") == sure
    assert posterior.adjusted(Prediction(0.2, 0.1, 0.3), "jane").probability == pytest.approx(
        0.2 * PRIOR / (PRIOR + MOST)
    )


def test_only_the_first_score_of_an_answer_that_was_predicted_here_counts() -> None:
    posterior = Posterior()
    posterior.note("call-1", "", Prediction(0.5, 0.4, 0.6))
    assert [posterior.learn("call-1", 1.0), posterior.learn("call-1", 1.0), posterior.learn("call-2", 1.0)] == [
        True,
        False,
        False,
    ]


def test_the_oldest_predictions_are_forgotten_first() -> None:
    posterior = Posterior()
    for at in range(PENDING + 1):
        posterior.note(f"call-{at}", "", Prediction(0.5, 0.4, 0.6))
    assert not posterior.learn("call-0", 1.0)
    assert posterior.learn("call-1", 1.0)


@given(st.lists(st.floats(0, 1), max_size=400))
def test_evidence_is_bounded_and_its_mean_is_one_of_scores(scores: list[float]) -> None:
    evidence = Evidence()
    for score in scores:
        evidence = evidence.plus(score)
    assert evidence.answers <= MOST + 1e-6
    assert -1e-9 <= evidence.good <= evidence.answers + 1e-9
    assert 0 <= evidence.mixed(0.5) <= 1


def test_old_scores_fade() -> None:
    evidence = Evidence()
    for score in [0.0] * 1000 + [1.0] * 400:
        evidence = evidence.plus(score)
    assert evidence.mixed(0.0) > 0.7
