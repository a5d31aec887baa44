"""Choosing tokens: the shortcuts give what the plain definitions give."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from replicas.engine import GREEDY_BELOW, LEAST_PENALTY, Generation, Sampling
from replicas.errors import InvalidRequest
from replicas.slot.model.sampler import Sampler, drawn, heaviest, nucleus, uniform
from replicas.slot.request.answer import Answer
from replicas.slot.request.sequence import Sequence
from tests.replicas.engines import Inbox, sampled, tiny

Weights = NDArray[np.float32]
VOCAB = 1000
numbers = st.floats(0, 1, exclude_max=True)
sizes = st.integers(1, 1500)


def _weights(size: int, seed: int) -> Weights:
    """Many are equal and some are 0, as far out in a real distribution."""
    weights = np.random.default_rng(seed).exponential(1, size).round(1).astype(np.float32)
    weights[seed % size] = 1.0
    return weights


def _sequence(sampling: Sampling, prompt: tuple[int, ...] = (1, 2)) -> Sequence:
    from replicas.echo import EchoTokenizer

    answer = Answer(sampling, EchoTokenizer().detokenizer(), {0}, 100)
    return Sequence(Generation("one", prompt, sampling), prompt, answer, Inbox(), 100)


def _spelled(token: int) -> bytes:
    return bytes([token % 256])


def _chosen(logits: list[float], sampling: Sampling) -> int:
    row = np.array([logits], np.float32)
    choice = Sampler(len(logits), [0], _spelled).choose(row, [_sequence(sampling)])[0]
    assert choice.error is None
    return choice.token


@given(sizes, st.integers(0, 99), st.integers(1, 60))
def test_the_heaviest_are_no_lighter_than_the_others(size: int, seed: int, count: int) -> None:
    weights, count = _weights(size, seed), min(count, size)
    least = np.sort(weights)[-count]
    assert heaviest(weights, count).tolist() == np.flatnonzero(weights >= least).tolist()


@given(sizes, st.integers(0, 99), st.floats(0.01, 0.99))
def test_the_nucleus_is_the_smallest_that_holds_the_mass(size: int, seed: int, top_p: float) -> None:
    weights = _weights(size, seed)
    kept, mass = nucleus(weights, top_p), float(weights.sum(dtype=np.float64))
    lightest = weights[kept].min()
    assert kept.tolist() == np.flatnonzero(weights >= lightest).tolist()
    assert weights[kept].sum(dtype=np.float64) >= top_p * mass * (1 - 1e-5)
    assert weights[weights > lightest].sum(dtype=np.float64) <= top_p * mass * (1 + 1e-5)


@given(sizes, st.integers(0, 99), numbers)
def test_a_draw_falls_where_the_cumulated_weights_say(size: int, seed: int, number: float) -> None:
    weights = _weights(size, seed)
    place, ends = drawn(weights, number), weights.cumsum(dtype=np.float64)
    assert weights[place] > 0
    slack = 1e-4 * ends[-1]
    assert ends[place] - weights[place] - slack <= number * ends[-1] <= ends[place] + slack


def test_the_end_of_the_range_never_draws_a_weight_of_zero() -> None:
    weights = np.zeros(1000, np.float32)
    weights[3] = weights[300] = 1.5
    assert drawn(weights, float(np.nextafter(1, 0))) == 300


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**40))
def test_a_number_depends_on_seed_and_position_alone(seed: int, position: int) -> None:
    number = uniform(seed, position)
    assert 0 <= number < 1
    assert uniform(seed, position) == number != uniform(seed, position + 1)


def test_draws_follow_the_distribution() -> None:
    sampler, counts = Sampler(4, [], _spelled), np.zeros(4)
    logits = np.log(np.array([[0.1, 0.2, 0.3, 0.4]], np.float32))
    for seed in range(2000):
        sequence = _sequence(sampled(temperature=1.0, seed=seed))
        counts[sampler.choose(logits, [sequence])[0].token] += 1
    np.testing.assert_allclose(counts / 2000, [0.1, 0.2, 0.3, 0.4], atol=0.04)


def test_temperature_sharpens_and_flattens() -> None:
    def share(temperature: float) -> int:
        logits = [0.0, 1.0, 0.0, 0.0]
        return sum(_chosen(logits, sampled(temperature=temperature, seed=seed)) == 1 for seed in range(200))

    assert share(0.1) == 200
    assert share(0.1) > share(1.0) > share(10.0)


def test_top_k_and_top_p_leave_only_the_likely() -> None:
    logits = [2.0, 1.9, 0.0, -1.0]
    hot = [_chosen(logits, sampled(temperature=5.0, top_k=2, seed=seed)) for seed in range(100)]
    assert set(hot) == {0, 1}
    assert {_chosen(logits, sampled(temperature=1.0, top_p=0.5, seed=seed)) for seed in range(100)} == {0, 1}
    assert {_chosen(logits, sampled(temperature=1.0, top_p=0.4, seed=seed)) for seed in range(100)} == {0}


def test_the_penalty_divides_above_zero_and_multiplies_below() -> None:
    assert _chosen([0.0, 3.0, 2.9, 2.0], sampled(repetition_penalty=1.6)) == 3  # 3.0 and 2.9 were in the prompt
    assert _chosen([-3.0, -1.0, -1.1, -1.3], sampled(repetition_penalty=1.6)) == 3


def test_min_tokens_forbids_the_end() -> None:
    assert _chosen([9.0, 1.0, 2.0, 1.0], sampled()) == 0
    assert _chosen([9.0, 1.0, 2.0, 1.0], sampled(min_tokens=1)) == 2


def test_each_row_is_chosen_as_if_alone() -> None:
    logits = np.random.default_rng(5).normal(0, 3, (7, VOCAB)).astype(np.float32)
    samplings = [sampled(), sampled(temperature=1.0, seed=1), sampled(temperature=0.5, top_k=9, seed=2)]
    samplings += [sampled(repetition_penalty=3.0), sampled(temperature=2.0, top_p=0.7, seed=3), sampled(min_tokens=3)]
    samplings += [sampled(temperature=1.0, min_p=0.1, logit_bias=((5, 9.0),), seed=4)]
    sampler = Sampler(VOCAB, tiny().eos_ids, _spelled)
    together = sampler.choose(logits, [_sequence(sampling) for sampling in samplings])
    alone = [sampler.choose(logits[[row]], [_sequence(sampling)])[0] for row, sampling in enumerate(samplings)]
    assert together == alone


def test_broken_logits_have_no_probability() -> None:
    logits = np.zeros((3, VOCAB), np.float32)
    logits[0, 7], logits[1, 7], logits[2] = np.nan, np.inf, -np.inf
    sequences = [_sequence(sampled(temperature=1.0)) for _ in range(3)]
    assert np.isnan([choice.logprob for choice in Sampler(VOCAB, [], _spelled).choose(logits, sequences)]).all()


def test_a_row_that_nothing_can_follow_has_an_error_and_the_others_have_tokens() -> None:
    logits = np.array([[3.0, 1.0, 2.0], [3.0, -np.inf, -np.inf], [3.0, 1.0, 2.0]], np.float32)
    samplings = [sampled(), sampled(min_tokens=1, temperature=0.7, top_p=0.9), sampled(min_tokens=1)]
    choices = Sampler(3, [0], _spelled).choose(logits, [_sequence(sampling) for sampling in samplings])
    assert [choice.token for choice in choices if choice.error is None] == [0, 2]
    assert isinstance(choices[1].error, InvalidRequest)


@given(st.floats(LEAST_PENALTY, 100), st.floats(GREEDY_BELOW, 100), st.floats(0.01, 1), st.integers(0, 50))
def test_every_sampling_that_is_let_in_chooses_a_token(penalty: float, heat: float, top_p: float, top_k: int) -> None:
    logits = (np.random.default_rng(5).normal(0, 1e4, 300)).astype(np.float32).tolist()
    sampling = sampled(repetition_penalty=penalty, temperature=heat, top_p=top_p, top_k=top_k, seed=3)
    assert 0 <= _chosen(logits, sampling) < 300
