"""A model is trained the same every time, says how good it is, and its file is taken only whole."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.errors import SettingsError
from router.learned.model import SIZE_LIMIT_BYTES, Model, read_model, write_model
from router.learned.opinion import Prediction, opinion_of
from router.learned.scores import scored
from router.learned.thresholds import NOBODY
from router.learned.training import Example, train
from router.learned.traits import traits_of
from tests.router.learned.made import asked, examples, trained


@pytest.fixture(scope="module")
def model() -> Model:
    return trained()


def test_training_is_deterministic_to_the_last_byte(model: Model) -> None:
    assert train(examples(400), "small").file.text == model.file.text


def test_it_tells_hard_requests_from_easy_ones_that_it_has_not_seen(model: Model) -> None:
    fresh = examples(400, seed=99)
    scores = scored(model.probabilities([one.traits for one in fresh]), np.array([one.good for one in fresh]))
    assert scores.auc > 0.85
    assert scores.brier < 0.6 * scores.brier_of_share
    assert scores.ece < 0.08
    told = model.file.summary
    assert told.auc == pytest.approx(scores.auc, abs=0.08)
    assert told.brier == pytest.approx(scores.brier, abs=0.05)


def test_labels_of_pure_chance_score_no_better_than_their_share() -> None:
    rng = np.random.default_rng(5)
    blind = train([Example(one.traits, float(rng.random() < 0.5)) for one in examples(400)], "small")
    assert blind.file.summary.brier > 0.97 * blind.file.summary.brier_of_share
    assert abs(blind.file.summary.auc - 0.5) < 0.1


def test_less_data_makes_wider_intervals() -> None:
    easy = traits_of(asked("Tell me the colour of the barn. sky sea lamp"))
    few, many = (trained(count).predict(easy) for count in (80, 400))
    assert few.high - few.low > many.high - many.low


def test_counts_and_words_like_none_that_it_learned_from_are_strange(model: Model) -> None:
    easy = model.predict(traits_of(asked("Tell me the colour of the barn. sky sea lamp")))
    words = model.predict(traits_of(asked("Warum ist wasser nass und feuer heiss, mein kind?")))
    assert "chars" in model.predict(traits_of(asked("word " * 700))).strange
    assert (easy.strange, words.strange) == ("", "words not like those that it learned from")
    assert words.high - words.low > 2 * (easy.high - easy.low)
    for threshold in (0.0, 0.5, NOBODY):
        assert opinion_of(words, "small", threshold).abstains


def test_of_requests_like_those_that_it_learned_from_about_a_tenth_is_strange(model: Model) -> None:
    others = [model.predict(one.traits) for one in examples(400, seed=99)]
    assert sum(bool(one.strange) for one in others) <= 0.15 * len(others)


@pytest.mark.parametrize("allowed", [1, 512, 4096, 100_000])
def test_how_many_tokens_a_caller_allows_is_never_strange(model: Model, allowed: int) -> None:
    """All examples allow the same."""
    easy = asked("Tell me the colour of the barn. sky sea lamp")
    other = replace(easy, sampling=replace(easy.sampling, max_tokens=allowed))
    assert model.predict(traits_of(other)) == model.predict(traits_of(easy))
    assert (model.probabilities([traits_of(other)]) == model.probabilities([traits_of(easy)])).all()


@pytest.mark.parametrize("count", [10, 59])
def test_too_few_examples_are_refused_with_what_to_do(count: int) -> None:
    with pytest.raises(SettingsError, match=r"too few to learn from.*POST /v1/feedback"):
        train(examples(count), "small")


def test_examples_of_one_kind_are_refused() -> None:
    with pytest.raises(SettingsError, match="too few"):
        train([Example(one.traits, 1.0) for one in examples(200)], "small")


def test_the_file_is_small_and_gives_the_same_predictions(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "new" / "route.json"
    write_model(model, path)
    assert path.stat().st_size < SIZE_LIMIT_BYTES
    assert list(path.parent.iterdir()) == [path]
    traits = examples(5, seed=3)[0].traits
    assert read_model(path).predict(traits) == model.predict(traits)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coefficients": [1.0]}, "not what this version of Shoal trains"),
        ({"version": 1}, "version"),
        ({"calibration": [2.0, 0.5]}, "its hash is not that of what it holds"),
        ({"more": 1}, "more"),
        ({"mean": None}, "mean"),
    ],
)
def test_a_file_that_was_changed_is_refused(
    model: Model, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    path = tmp_path / "route.json"
    path.write_text(json.dumps(json.loads(model.file.text) | change))
    with pytest.raises(SettingsError, match=words):
        read_model(path)


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_bytes_that_are_no_model_are_refused(tmp_path_factory: pytest.TempPathFactory, written: bytes) -> None:
    path = tmp_path_factory.mktemp("file") / "route.json"
    path.write_bytes(written)
    with pytest.raises(SettingsError, match="train it again"):
        read_model(path)


def test_a_file_that_is_missing_or_huge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="shoal route train"):
        read_model(tmp_path / "none.json")
    (tmp_path / "huge.json").write_bytes(b" " * (SIZE_LIMIT_BYTES + 1))
    with pytest.raises(SettingsError, match="larger than"):
        read_model(tmp_path / "huge.json")


def test_the_threshold_for_a_quality_keeps_it_with_a_margin_on_the_examples_held_out(model: Model) -> None:
    strict, loose = model.threshold_for(0.99), model.threshold_for(0.85)
    assert loose < strict
    kept = next(point for point in model.file.frontier if point.threshold == loose)
    assert 0.85 <= kept.low < kept.quality
    assert kept.local_share > 0.2
    assert model.threshold_for(1.0) == NOBODY


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1.01))
def test_local_is_what_reaches_the_threshold_and_a_clouds_what_surely_does_not(
    a: float, b: float, c: float, at: float
) -> None:
    low, middle, high = sorted((a, b, c))
    opinion = opinion_of(Prediction(middle, low, high), "small", at)
    assert opinion.pick == ("local" if middle >= at else "cloud" if high < at else None)
    assert opinion.abstains == (middle < at <= high)
    assert opinion_of(Prediction(middle, low, high, "too long"), "small", at).abstains
