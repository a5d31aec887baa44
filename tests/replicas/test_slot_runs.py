"""What a grammar dictates is written in one call, and nothing of the answer shows it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from replicas.collect import collect
from replicas.engine import Finish, Grammar, Priority
from replicas.errors import EngineFailed, InvalidRequest
from replicas.grammar import Constraint
from replicas.grammar.mask import Mask
from replicas.slot import SlotEngine
from replicas.slot.model.forward import MAX_VERIFIED, Forward
from replicas.slot.model.passes import ModelPasses
from replicas.slot.request.sequence import RUN_MOST, Sequence
from tests.replicas.engines import Inbox, sampled
from tests.replicas.schedules import (
    BLOCK_BYTES,
    DICTATED,
    PLAIN,
    Arrival,
    Crowd,
    Kind,
    alone,
    is_same,
    prompt,
    tiny_engine,
)

SEEDED = sampled(max_tokens=70, temperature=1.0, seed=4)
CHAINED = Grammar("regex", r"[xyz]{2} " + "the user and the system, " * 4 + r"[xyz]{2} and the assistant[xyz]")
"""Runs that follow each other at once, as one call takes only so many tokens."""


@pytest.fixture
def engine() -> Iterator[SlotEngine]:
    engine = tiny_engine(replace(PLAIN, slots=4, cache_bytes=16 * BLOCK_BYTES))
    yield engine
    engine.close()


def test_dictated_tokens_share_calls(engine: SlotEngine) -> None:
    answer = collect(engine, Kind(prompt(20), SEEDED, DICTATED, 0).named("one"))
    stats = engine.stats()
    assert re.fullmatch(DICTATED.text, answer.text)
    assert stats.forced_tokens_total >= 20
    assert stats.generated_tokens_total == answer.final.usage.generated == len(answer.scores)
    assert sum(count for _, count in stats.batch_sizes) < answer.final.usage.generated - 15


def test_scores_of_dictated_tokens_are_the_models(engine: SlotEngine) -> None:
    kind = Kind(prompt(20), sampled(max_tokens=70), DICTATED, 3)
    answer = collect(engine, kind.named("one"))
    logprobs = [score.chosen.logprob for score in answer.scores]
    assert answer.final.min_logprob == min(logprobs)
    assert answer.final.mean_logprob == sum(logprobs) / len(logprobs)
    assert b"".join(score.chosen.bytes_ for score in answer.scores).decode().startswith(answer.text)
    assert all(score.top[0].logprob >= score.chosen.logprob for score in answer.scores)
    assert min(logprobs) < -5  # no model would have said that


@pytest.mark.parametrize("grammar", [DICTATED, CHAINED])
@pytest.mark.parametrize("prefill_chunk", [4, 64])
def test_a_crowd_of_runs_gives_each_what_it_gets_alone(grammar: Grammar, prefill_chunk: int) -> None:
    engine = tiny_engine(replace(PLAIN, slots=5, prefill_chunk=prefill_chunk))
    plan = [Arrival(Kind(prompt(length), SEEDED, grammar, 1)) for length in (1, 9, 31, 33, 64)]
    crowd = Crowd(engine, plan)
    crowd.run()
    engine.close()
    assert [is_same(arrival.kind, inbox) for arrival, inbox in zip(plan, crowd.inboxes, strict=True)] == [True] * 5


@pytest.mark.parametrize("cache_bytes", [0, 16 * BLOCK_BYTES], ids=["written again", "kept"])
@pytest.mark.parametrize("grammar", [DICTATED, CHAINED])
@pytest.mark.parametrize("chunks", range(1, 8))
def test_a_preemption_does_not_show(chunks: int, grammar: Grammar, cache_bytes: int) -> None:
    engine = tiny_engine(replace(PLAIN, cache_bytes=cache_bytes))
    kind, other = Kind(prompt(20), SEEDED, grammar, 1), Kind(prompt(9), sampled(max_tokens=2))
    crowd = Crowd(engine, [Arrival(kind, priority=Priority.BATCH), Arrival(other)])
    crowd.plan[0] = replace(crowd.plan[0], gap=chunks)
    crowd.run()
    stats = engine.stats()
    engine.close()
    assert stats.preemptions_total == 1
    assert (stats.replayed_tokens_total > 0) == (cache_bytes == 0)
    assert [is_same(kind, crowd.inboxes[0]), is_same(other, crowd.inboxes[1])] == [True, True]


def test_a_call_takes_as_many_tokens_as_there_is_room_for(engine: SlotEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    verify, sizes = Forward.verify, list[int]()

    def noted(self: Forward, row: int, tokens: tuple[int, ...], *rest: object) -> object:
        sizes.append(len(tokens))
        return verify(self, row, tokens, *rest)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(Forward, "verify", noted)
    collect(engine, Kind(prompt(20), SEEDED, CHAINED).named("one"))
    assert sizes == [RUN_MOST, RUN_MOST, 5]
    assert RUN_MOST <= MAX_VERIFIED


def test_requests_write_their_runs_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    extend, turns = ModelPasses.extend, list[str]()

    def noted(self: ModelPasses, row: int, sequence: Sequence, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        turns.append(sequence.request.id)  # rows change hands when the first has ended
        return extend(self, row, sequence, tokens)

    monkeypatch.setattr(ModelPasses, "extend", noted)
    engine = tiny_engine(replace(PLAIN, slots=2, prefill_chunk=4))
    long = Grammar("regex", "[xyz]{2} " + "the user and the system, " * 14)
    crowd = Crowd(engine, [Arrival(Kind(prompt(4), sampled(max_tokens=200), long))] * 2)
    crowd.run()
    engine.close()
    first, second = dict.fromkeys(turns)
    meeting = turns[turns.index(second) : len(turns) - turns[::-1].index(first)]
    assert len(meeting) >= 6
    assert [one for one, following in pairwise(meeting) if one == following] == []


@pytest.mark.parametrize("chunks", range(8))
def test_a_request_can_end_while_its_run_waits_for_others(chunks: int) -> None:
    engine = tiny_engine(replace(PLAIN, slots=3, prefill_chunk=4))
    plan = [Arrival(Kind(prompt(length), SEEDED, CHAINED, 1)) for length in (4, 5, 6)]
    plan[1] = replace(plan[1], cancel=chunks)
    crowd = Crowd(engine, plan)
    crowd.run()
    used = engine.stats().slots_used
    engine.close()
    assert (used, crowd.inboxes[1].final().finish) == (0, Finish.CANCELLED)
    assert [is_same(arrival.kind, inbox) for arrival, inbox in zip(plan, crowd.inboxes, strict=True)] == [True] * 3


def test_a_limit_in_a_run_ends_it_there(engine: SlotEngine) -> None:
    whole = collect(engine, Kind(prompt(20), SEEDED, CHAINED, 0).named("one"))
    tokens = [score.chosen.token for score in whole.scores]
    for limit in range(1, len(tokens)):
        kind = Kind(prompt(20), replace(SEEDED, max_tokens=limit), CHAINED, 0)
        answer = collect(engine, kind.named("one"))
        assert (answer.final.finish, answer.final.usage.generated) == (Finish.LENGTH, limit)
        assert [score.chosen.token for score in answer.scores] == tokens[:limit]
        assert whole.text.startswith(answer.text)


@pytest.mark.parametrize("stop", ["e", "user", "system,", "the assistant"])
def test_a_stop_string_in_a_run_ends_it_there(engine: SlotEngine, stop: str) -> None:
    for length in range(2, 66, 3):
        kind = Kind(prompt(length), replace(SEEDED, stop=(stop,)), CHAINED, 0)
        answer = collect(engine, kind.named("one"))
        assert (answer.final.finish, answer.final.stop_sequence) == (Finish.STOP, stop)
        assert answer.text == alone(replace(kind, sampling=SEEDED)).text.split(stop)[0]
        assert len(answer.scores) == answer.final.usage.generated
    assert engine.stats().restarts_total == 0


def test_a_run_in_a_slot_that_is_too_short_ends_with_the_slot() -> None:
    engine = tiny_engine(replace(PLAIN, max_len=64))
    answer = collect(engine, Kind(prompt(40), SEEDED, CHAINED, 0).named("one"))
    engine.close()
    assert (answer.final.finish, answer.final.usage.generated) == (Finish.CONTEXT, 24)
    assert alone(Kind(prompt(40), SEEDED, CHAINED, 0)).text.startswith(answer.text)


def test_a_run_that_throws_fails_its_request_alone(engine: SlotEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> object:
        raise RuntimeError("no memory")

    plain, dictated = Kind(prompt(20), sampled(max_tokens=40, ignore_eos=True)), Kind(prompt(9), SEEDED, CHAINED)
    monkeypatch.setattr(Forward, "verify", broken)
    crowd = Crowd(engine, [Arrival(plain), Arrival(dictated)])
    crowd.run()
    assert isinstance(crowd.inboxes[1].final().error, EngineFailed)
    assert is_same(plain, crowd.inboxes[0])
    assert engine.is_healthy
    assert engine.stats().slots_used == 0


@pytest.mark.parametrize("accepted", [0, 2, 3, 17, 40])
def test_a_grammar_that_cannot_go_on_fails_its_request_alone(
    engine: SlotEngine, monkeypatch: pytest.MonkeyPatch, accepted: int
) -> None:
    mask, accept, counts = Constraint.mask, Constraint.accept, dict[Constraint, int]()

    def noted(self: Constraint, token: int) -> None:
        counts[self] = counts.get(self, 0) + 1
        accept(self, token)

    def stuck(self: Constraint) -> Mask:
        if counts.get(self, 0) >= accepted:
            raise InvalidRequest("too complex to follow", "regex")
        return mask(self)

    plain = Kind(prompt(20), sampled(max_tokens=40, ignore_eos=True))
    alone(plain)
    collect(engine, Kind(prompt(9), sampled(max_tokens=1), CHAINED).named("compiled"))
    monkeypatch.setattr(Constraint, "accept", noted)
    monkeypatch.setattr(Constraint, "mask", stuck)
    inboxes = [Inbox() for _ in range(4)]
    engine.submit(plain.named("plain"), inboxes[0])
    for number in (1, 2, 3):
        engine.submit(Kind(prompt(9 * number), SEEDED, CHAINED).named(str(number)), inboxes[number])
    finals = [inbox.final() for inbox in inboxes]
    assert [type(final.error) for final in finals] == [type(None), *[InvalidRequest] * 3]
    assert is_same(plain, inboxes[0])
    assert (engine.is_healthy, engine.stats().restarts_total) == (True, 0)
    assert sum(final.usage.generated for final in finals) + 1 == engine.stats().generated_tokens_total


@pytest.mark.parametrize("place", [0, 5, 15])
def test_a_run_that_is_not_a_number_fails_its_request_alone(
    engine: SlotEngine, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    verify = Forward.verify

    def poisoned(*args: object) -> NDArray[np.float32]:
        logits = verify(*args)  # type: ignore[arg-type]  # passed on as they came
        logits[place:] = np.nan
        return logits

    monkeypatch.setattr(Forward, "verify", poisoned)
    finals = [collect(engine, Kind(prompt(length), SEEDED, CHAINED).named("one")).final for length in range(10, 45)]
    assert {type(final.error) for final in finals} == {EngineFailed}
    assert all("not a number" in str(final.error) for final in finals)
    assert engine.stats().restarts_total == 0
    assert sum(final.usage.generated for final in finals) == engine.stats().generated_tokens_total
