"""Drafts: tokens that the text repeats are confirmed in one call, and the answer is that without them.

KV that a draft wrote differs in the last bits from KV that decoding wrote, and now and then that rounds an activation
to another of its 8 bits: most log-probabilities are the same, some differ by up to 0.01. The text of every request here
is the same with drafts and without.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.collect import Completed, collect
from replicas.engine import Finish
from replicas.errors import SettingsError
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.request.lookup import LEAST, NGRAM, Lookup
from replicas.slot.step.extending import DRAFT_ROWS
from tests.models import TINY, tiny_export
from tests.replicas.engines import kept_folder, sampled
from tests.replicas.schedules import DICTATED, PLAIN, Arrival, Crowd, Kind, alone, prompt

DRAFTING = replace(PLAIN, slots=4, determinism="relaxed", speculation=True)
GREEDY = sampled(max_tokens=150, ignore_eos=True)
SEEDED = replace(GREEDY, temperature=0.5, seed=3)
REPEATING = [
    Kind(prompt(12, 0, seed) * 2, sampling, top_logprobs=1) for seed in range(4) for sampling in (GREEDY, SEEDED)
]


@cache
def _repetitive() -> Export:
    """A tiny model whose layers add little, so that it runs in circles."""
    random, tensors = np.random.default_rng(1), {}
    for layer in range(TINY.layers):
        for name, width in (("attn_output", TINY.heads * TINY.head_size), ("ffn_down", TINY.ffn)):
            weights = random.normal(0, 0.05 / np.sqrt(width), (TINY.hidden, width))
            tensors[f"blk.{layer}.{name}.weight"] = weights.astype(np.float32)
    return Export.load(tiny_export(kept_folder() / "repetitive", replace(TINY, tensors=tensors)))


def _opened(config: SlotConfig) -> SlotEngine:
    return SlotEngine(_repetitive(), config)


@pytest.fixture
def engine() -> Iterator[SlotEngine]:
    engine = _opened(DRAFTING)
    yield engine
    engine.close()


def _agree(got: Completed, expected: Completed) -> bool:
    apart = [
        abs(one.chosen.logprob - other.chosen.logprob) for one, other in zip(got.scores, expected.scores, strict=True)
    ]
    tokens = [[score.chosen.token for score in answer.scores] for answer in (got, expected)]
    return (got.text, tokens[0]) == (expected.text, tokens[1]) and max(apart) < 0.05 and float(np.median(apart)) < 1e-5


def test_what_repeats_takes_fewer_calls_and_reads_the_same(engine: SlotEngine) -> None:
    for kind in REPEATING:
        assert _agree(collect(engine, kind.named("one")), alone(kind, _opened))
    stats = engine.stats()
    assert 0 < stats.accepted_tokens_total < stats.draft_tokens_total
    assert stats.generated_tokens_total == 150 * len(REPEATING)
    decoded = sum(count for _, count in stats.batch_sizes)
    # A token comes from the prefill, from decoding, as an accepted draft, or as the choice behind a draft.
    assert stats.generated_tokens_total - len(REPEATING) - decoded - stats.accepted_tokens_total in range(
        1, stats.draft_tokens_total // LEAST + 1
    )


def test_a_limit_in_a_draft_ends_it_there(engine: SlotEngine) -> None:
    kind = REPEATING[0]
    whole = alone(kind, _opened)
    for limit in range(1, 60):
        answer = collect(engine, replace(kind, sampling=replace(GREEDY, max_tokens=limit)).named("one"))
        assert (answer.final.finish, answer.final.usage.generated) == (Finish.LENGTH, limit)
        assert [score.chosen.token for score in answer.scores] == [s.chosen.token for s in whole.scores[:limit]]
        assert whole.text.startswith(answer.text)


def test_a_stop_string_in_a_draft_ends_it_there(engine: SlotEngine) -> None:
    whole = alone(REPEATING[0], _opened).text
    for start in range(30, len(whole) - 4, 3):
        stop = whole[start : start + 4]
        answer = collect(engine, replace(REPEATING[0], sampling=replace(GREEDY, stop=(stop,))).named("one"))
        assert (answer.final.finish, answer.text) == (Finish.STOP, whole.split(stop)[0])
        assert len(answer.scores) == answer.final.usage.generated
    assert engine.stats().accepted_tokens_total > 0


def test_a_penalty_counts_the_tokens_of_a_draft(engine: SlotEngine) -> None:
    kind = replace(REPEATING[0], sampling=replace(GREEDY, repetition_penalty=1.02))
    assert _agree(collect(engine, kind.named("one")), alone(kind, _opened))
    assert engine.stats().accepted_tokens_total > 0


def test_a_crowd_drafts_nothing(engine: SlotEngine) -> None:
    crowd = Crowd(engine, [Arrival(REPEATING[0])] * (DRAFT_ROWS + 2))
    crowd.run()
    before = engine.stats().draft_tokens_total
    crowd = Crowd(engine, [Arrival(REPEATING[0])] * DRAFT_ROWS)
    crowd.run()
    assert before < engine.stats().draft_tokens_total - before


def test_an_answer_with_a_grammar_is_not_drafted(engine: SlotEngine) -> None:
    collect(engine, Kind(prompt(12) * 3, sampled(max_tokens=60), DICTATED).named("one"))
    assert engine.stats().draft_tokens_total == 0


def test_a_slot_that_is_too_short_ends_a_draft() -> None:
    engine = _opened(replace(DRAFTING, max_len=70))
    answer = collect(engine, REPEATING[0].named("one"))
    engine.close()
    assert (answer.final.finish, answer.final.usage.generated) == (Finish.CONTEXT, 70 - 24)


def test_strict_determinism_refuses_drafts() -> None:
    with pytest.raises(SettingsError, match="determinism: relaxed"):
        SlotConfig(speculation=True)


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(0, 9))
def test_a_guess_is_what_followed_the_same_tokens(tokens: list[int], most: int) -> None:
    guess = Lookup().guess(tokens, most)
    if guess:
        assert LEAST <= len(guess) <= most
        key = tokens[-NGRAM:]
        places = [end for end in range(NGRAM, len(tokens)) if tokens[end - NGRAM : end] == key]
        assert guess == tuple(tokens[places[-1] : places[-1] + most])


@given(st.lists(st.integers(0, 2), max_size=40), st.integers(0, 40))
def test_a_text_may_grow_between_guesses(tokens: list[int], cut: int) -> None:
    lookup = Lookup()
    lookup.guess(tokens[:cut], 4)
    assert lookup.guess(tokens, 4) == Lookup().guess(tokens, 4)


def test_guesses_that_do_not_come_true_become_rare() -> None:
    lookup, tokens, guesses = Lookup(), [1, 2, 3, 4, 5, 1, 2, 3], 0
    for _ in range(200):
        if lookup.guess(tokens, 4):
            lookup.learn(4, 0)
            guesses += 1
    assert 5 < guesses < 25
