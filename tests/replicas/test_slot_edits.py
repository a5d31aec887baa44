"""Biases, penalties, min_p and stop tokens: as their plain definitions say, in the sampler and through the engine."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.collect import collect
from replicas.engine import Finish, Generation, Sampling
from replicas.errors import InvalidRequest
from replicas.slot import SlotEngine
from replicas.slot.model.sampler import Sampler
from replicas.slot.request.edits import Edits
from tests.models import IM_END
from tests.replicas.engines import sampled, slot_engine, tiny
from tests.replicas.test_slot_sampler import _chosen, _sequence, _spelled

VOCAB = 40
PROMPT = (5, 6, 7, 6)
tokens = st.integers(0, VOCAB - 1)
penalties = st.floats(-2, 2, width=32)


@pytest.fixture(scope="module")
def engine() -> Iterator[SlotEngine]:
    engine = slot_engine()
    yield engine
    engine.close()


def defined(logits: list[float], sampling: Sampling, prompt: tuple[int, ...], written: list[int]) -> list[float]:
    """The edited logits, token by token."""
    edited = []
    for token, logit in enumerate(logits):
        value = logit + dict(sampling.logit_bias).get(token, 0.0)
        if token in (*prompt, *written):
            by = sampling.repetition_penalty
            value = value / by if value > 0 else value * by
        value -= sampling.frequency_penalty * written.count(token)
        value -= sampling.presence_penalty * (token in written)
        edited.append(value)
    return edited


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=VOCAB, max_size=VOCAB),
    st.lists(tokens, max_size=12),
    st.dictionaries(tokens, st.floats(-100, 100, width=32), max_size=4),
    st.tuples(penalties, penalties, st.sampled_from([1.0, 0.5, 1.5])),
)
def test_edits_are_what_their_definitions_say(
    logits: list[float], written: list[int], biases: dict[int, float], by: tuple[float, float, float]
) -> None:
    sampling = replace(
        Sampling(20, logit_bias=tuple(biases.items())),
        frequency_penalty=by[0],
        presence_penalty=by[1],
        repetition_penalty=by[2],
    )
    edits, edited = Edits(sampling, PROMPT, 20), np.array(logits, np.float32)
    for token in written:
        edits.add(token)
    edits.apply(edited)
    np.testing.assert_allclose(edited, defined(logits, sampling, PROMPT, written), rtol=1e-4, atol=1e-4)
    assert edits.has_any == (by != (0, 0, 1) or bool(biases))


def test_a_bias_moves_the_choice_of_a_greedy_answer() -> None:
    assert _chosen([1.0, 3.0, 2.0], sampled(logit_bias=((2, 1.5),))) == 2
    assert _chosen([1.0, 3.0, 2.0], sampled(logit_bias=((1, -100.0), (2, -100.0)))) == 0


def test_the_prompt_counts_for_repetition_alone() -> None:
    logits = [0.0, 3.0, 2.9, 2.0]  # 1 and 2 are in the prompt
    assert _chosen(logits, sampled(frequency_penalty=2.0, presence_penalty=2.0)) == 1
    assert _chosen(logits, sampled(repetition_penalty=1.6)) == 3


def test_what_was_written_is_penalised_each_time_or_once() -> None:
    sequence = _sequence(sampled(frequency_penalty=0.6))
    once = _sequence(sampled(presence_penalty=0.6))
    sampler, logits = Sampler(4, [0], _spelled), np.array([[0.0, 0.0, 3.0, 2.0]], np.float32)
    for _ in range(2):
        sequence.edits.add(2)
        once.edits.add(2)
    assert sampler.choose(logits, [sequence])[0].token == 3
    assert sampler.choose(logits, [once])[0].token == 2


def test_min_p_leaves_only_what_is_likely_beside_the_likeliest() -> None:
    logits = [2.0, 1.9, 0.0, -1.0]
    hot = {_chosen(logits, sampled(temperature=1.0, min_p=0.5, seed=seed)) for seed in range(100)}
    assert hot == {0, 1}
    assert {_chosen(logits, sampled(temperature=1.0, min_p=1.0, seed=seed)) for seed in range(50)} == {0}
    hotter = {_chosen(logits, sampled(temperature=5.0, min_p=0.5, seed=seed)) for seed in range(200)}
    assert hotter == {0, 1, 2, 3}  # it looks at what the temperature has made


def test_min_tokens_forbids_the_tokens_that_end_the_answer_too() -> None:
    assert _chosen([1.0, 9.0, 2.0], sampled(stop_token_ids=(1,))) == 1
    assert _chosen([1.0, 9.0, 2.0], sampled(stop_token_ids=(1,), min_tokens=1)) == 2


def answer(engine: SlotEngine, **fields: object) -> tuple[str, Finish, int]:
    sampling = sampled(**{"max_tokens": 12, "ignore_eos": True, **fields})
    got = collect(engine, Generation("one", (3, 14, 25, 36), sampling))
    return got.text, got.final.finish, got.final.usage.generated


def written(engine: SlotEngine, count: int, **fields: object) -> list[int]:
    """The ids of an answer's tokens, found one by one: each is what the next answer may not begin with."""
    got = collect(
        engine,
        Generation("ids", (3, 14, 25, 36), sampled(max_tokens=count, ignore_eos=True, **fields), top_logprobs=0),
    )
    return [score.chosen.token for score in got.scores]


def test_an_answer_ends_before_a_stop_token_or_behind_it(engine: SlotEngine) -> None:
    ids = written(engine, 12)
    stop = next(token for token in ids[1:] if token not in ids[: ids.index(token)])
    place = ids.index(stop)
    whole, _, _ = answer(engine)
    before, finish, generated = answer(engine, stop_token_ids=(stop,))
    behind, _, _ = answer(engine, stop_token_ids=(stop,), keeps_stop=True)
    assert (finish, generated) == (Finish.STOP, place + 1)
    assert whole.startswith(behind)
    assert behind.startswith(before)
    assert len(behind) > len(before)


def test_a_stop_string_is_kept_where_that_is_asked_for(engine: SlotEngine) -> None:
    whole, _, _ = answer(engine)
    stop = whole[len(whole) // 2 :][:3]
    cut, kept = answer(engine, stop=(stop,)), answer(engine, stop=(stop,), keeps_stop=True)
    assert kept[0] == cut[0] + stop
    assert kept[1:] == cut[1:] == (Finish.STOP, cut[2])


def test_a_bias_reaches_the_end_of_an_answer(engine: SlotEngine) -> None:
    text, finish, generated = answer(engine, ignore_eos=False, logit_bias=((IM_END, 100.0),))
    assert (text, finish, generated) == ("", Finish.END, 1)


def test_a_penalty_ends_a_loop(engine: SlotEngine) -> None:
    banned = tuple((token, -100.0) for token in range(8, tiny().vocab))
    free = written(engine, 40, logit_bias=banned)
    spread = written(engine, 40, logit_bias=banned, frequency_penalty=2.0)
    assert max(map(free.count, free)) > max(map(spread.count, spread))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"min_p": 1.5}, "min_p"),
        ({"frequency_penalty": 2.5}, "frequency_penalty"),
        ({"presence_penalty": float("nan")}, "presence_penalty"),
        ({"logit_bias": ((1, 101.0),)}, "logit_bias"),
        ({"logit_bias": ((10**6, 1.0),)}, "logit_bias"),
        ({"stop_token_ids": (-1,)}, "stop_token_ids"),
        ({"stop_token_ids": tuple(range(1025))}, "stop_token_ids"),
    ],
)
def test_what_can_mean_nothing_is_refused(engine: SlotEngine, fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        answer(engine, **fields)
    assert refused.value.param == param
