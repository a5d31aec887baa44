"""Requests that grow beyond LongRoPE's switch are prefilled again, once, and share no call with the others' regime."""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from replicas.collect import collect
from replicas.engine import Priority
from replicas.slot import SlotEngine
from replicas.slot.model.forward import Forward
from replicas.slot.request.lane import BARE, Lane
from replicas.slot.request.lookup import Lookup
from tests.replicas.engines import sampled
from tests.replicas.passes import BLOCK, Logits, chunks, opened, prefilled
from tests.replicas.schedules import (
    BLOCK_BYTES,
    DICTATED,
    PLAIN,
    Arrival,
    Crowd,
    Kind,
    alone,
    is_same,
    longrope,
    longrope_engine,
    prompt,
)

SWITCH = 48
LONG = Lane(is_long=True)
GREEDY = sampled(max_tokens=30, ignore_eos=True)
CACHED = replace(PLAIN, slots=4, cache_bytes=16 * BLOCK_BYTES)


@pytest.fixture
def engine() -> Iterator[SlotEngine]:
    engine = longrope_engine(CACHED)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def forward() -> Iterator[Forward]:
    forward = opened(longrope())
    yield forward
    forward.close()


def _by_hand(forward: Forward, ids: tuple[int, ...], count: int) -> list[tuple[int, float]]:
    """`count` greedy tokens with their log-probabilities, by the rule itself."""
    tokens, lane, chosen = list(ids), LONG if len(ids) > SWITCH else BARE, list[tuple[int, float]]()
    logits = prefilled(forward, 0, ids, chunks(len(ids), [BLOCK]), lane)
    while True:
        chosen.append(_greedy(logits))
        tokens.append(chosen[-1][0])
        if len(chosen) == count:
            return chosen
        if len(tokens) == SWITCH + 1 and lane is BARE:
            lane = LONG
            logits = prefilled(forward, 0, tuple(tokens), chunks(len(tokens), [BLOCK]), lane)
        else:
            logits = forward.decode(0, tokens[-1:], [len(tokens) - 1], lane)[0].copy()


def _greedy(logits: Logits) -> tuple[int, float]:
    token = int(logits.argmax())
    exact = logits.astype(np.float64) - logits[token]
    return token, -float(np.log(np.exp(exact).sum()))


@pytest.mark.parametrize("length", [1, 2, 20, 46, 47, 48, 49, 70])
def test_a_request_that_crosses_is_prefilled_again_under_the_long_factors(
    engine: SlotEngine, forward: Forward, length: int
) -> None:
    count = max(30, SWITCH + 12 - length)
    expected = _by_hand(forward, prompt(length), count)
    kind = Kind(prompt(length), sampled(max_tokens=count, ignore_eos=True), top_logprobs=0)
    answer = collect(engine, kind.named("one"))
    assert [score.chosen.token for score in answer.scores] == [token for token, _ in expected]
    got = [score.chosen.logprob for score in answer.scores]
    np.testing.assert_allclose(got, [logprob for _, logprob in expected], rtol=0, atol=1e-5)
    read_again = SWITCH + 1 if length <= SWITCH else 0
    assert engine.stats().prompt_tokens_total + engine.stats().cached_tokens_total == length + read_again


def test_rows_of_both_regimes_give_what_they_give_alone(engine: SlotEngine) -> None:
    kinds = [Kind(prompt(length), GREEDY, top_logprobs=1) for length in (5, 40, 60, 47, 30, 48, 49, 100)]
    crowd = Crowd(engine, [Arrival(kind) for kind in kinds])
    crowd.run()
    assert all(is_same(kind, inbox, longrope_engine) for kind, inbox in zip(kinds, crowd.inboxes, strict=True))


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> set[tuple[bool, int]]:
    """Of every call: whether it was one of the long regime, and how many tokens its longest row had at its end."""
    width, ends = Forward._width, set[tuple[bool, int]]()

    def noted(self: Forward, tokens: int, lane: Lane) -> int:
        ends.add((lane.is_long, tokens))
        return width(self, tokens, lane)

    monkeypatch.setattr(Forward, "_width", noted)
    return ends


def test_runs_stay_in_their_regime(engine: SlotEngine, ends: set[tuple[bool, int]]) -> None:
    sampling = sampled(max_tokens=60, temperature=1.0, seed=2)
    crowd = Crowd(engine, [Arrival(Kind(prompt(length), sampling, DICTATED)) for length in range(2, 48, 5)])
    crowd.run()
    assert [inbox.final().error for inbox in crowd.inboxes] == [None] * len(crowd.plan)
    assert max(end for is_long, end in ends if not is_long) == SWITCH
    assert max(end for is_long, end in ends if is_long) > SWITCH


def test_drafts_stay_in_their_regime(ends: set[tuple[bool, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lookup, "guess", lambda self, tokens, most: (tokens[-1],) * most if most > 0 else ())
    engine = longrope_engine(replace(CACHED, determinism="relaxed", speculation=True))
    kind = Kind(prompt(20), sampled(max_tokens=60, ignore_eos=True))
    answer = collect(engine, kind.named("one"))
    drafted = engine.stats().draft_tokens_total
    engine.close()
    assert (answer.text, drafted > 100) == (alone(kind, longrope_engine).text, True)
    assert max(end for is_long, end in ends if not is_long) == SWITCH


@pytest.mark.parametrize("cache_bytes", [0, 16 * BLOCK_BYTES], ids=["written again", "kept"])
@pytest.mark.parametrize("chunks", [1, 5, 6, 7, 8, 9, 10, 15])
def test_a_preemption_before_or_after_the_switch_does_not_show(chunks: int, cache_bytes: int) -> None:
    engine = longrope_engine(replace(PLAIN, cache_bytes=cache_bytes))
    kinds = [Kind(prompt(40), GREEDY, top_logprobs=0), Kind(prompt(9), sampled(max_tokens=3))]
    crowd = Crowd(engine, [Arrival(kinds[0], gap=chunks, priority=Priority.BATCH), Arrival(kinds[1])])
    crowd.run()
    preemptions = engine.stats().preemptions_total
    engine.close()
    assert preemptions == (chunks != 6)  # there it had just given up its row by itself, to be prefilled again
    assert all(is_same(kind, inbox, longrope_engine) for kind, inbox in zip(kinds, crowd.inboxes, strict=True))


@pytest.mark.parametrize("length", range(30, 49))
def test_a_run_up_to_the_switch_does_not_show(engine: SlotEngine, length: int) -> None:
    kind = Kind(prompt(length), sampled(max_tokens=60, temperature=1.0, seed=2), DICTATED, 0)
    crowd = Crowd(engine, [Arrival(Kind(prompt(70), GREEDY)), Arrival(kind), Arrival(Kind(prompt(45), GREEDY))])
    crowd.run()
    assert is_same(kind, crowd.inboxes[1], longrope_engine)
    assert re.fullmatch(DICTATED.text, crowd.inboxes[1].text)


def test_what_is_kept_of_one_regime_is_not_used_in_the_other(engine: SlotEngine) -> None:
    short, long = (Kind(ids, sampled(max_tokens=2)) for ids in (prompt(46, 40), prompt(90, 40, 7)))
    answers = [collect(engine, kind.named("one")) for kind in (short, long, long, short)]
    assert [answer.final.usage.cached for answer in answers] == [0, 0, 64, 32]
    texts = [alone(kind, longrope_engine).text for kind in (short, long)]
    assert [answer.text for answer in answers] == [*texts, *texts[::-1]]


def test_the_next_turn_of_one_that_crossed_goes_on_from_what_was_prefilled(engine: SlotEngine) -> None:
    first = collect(engine, Kind(prompt(40), GREEDY, top_logprobs=0).named("one"))
    turn = (*prompt(40), *(score.chosen.token for score in first.scores), *prompt(9))
    answer = collect(engine, Kind(turn, GREEDY).named("two"))
    assert answer.final.usage.cached == 32  # of the 49 that were prefilled again; the rest was decoded
    assert answer.text == alone(Kind(turn, GREEDY), longrope_engine).text
