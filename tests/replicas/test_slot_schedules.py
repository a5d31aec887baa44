"""The same request, the same bytes, in a thousand schedules of arrivals, cancels, priorities, hits and preemptions."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.engine import Priority
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.step.rows import Rows
from tests.replicas.engines import sampled
from tests.replicas.schedules import (
    BLOCK_BYTES,
    DICTATED,
    SAMPLINGS,
    SOME_DIGITS,
    Arrival,
    Crowd,
    Kind,
    Opened,
    is_same,
    longrope_engine,
    prompt,
    tiny_engine,
)

SCHEDULES = 1000

PROMPTS = (
    prompt(1),
    prompt(2),
    prompt(9),
    prompt(33),
    prompt(46),
    prompt(70, 64),
    prompt(70, 64, 7),
    prompt(97, 64, 9),
)
LONG = sampled(max_tokens=60, temperature=1.0, seed=4)
KINDS = (
    *(Kind(ids, sampling) for ids in PROMPTS for sampling in SAMPLINGS[:2]),
    *(Kind(ids, sampling, top_logprobs=2) for ids in PROMPTS[::2] for sampling in SAMPLINGS[2:]),
    *(Kind(ids, LONG, DICTATED, 0) for ids in PROMPTS[1::2]),
    *(Kind(ids, sampled(max_tokens=23), DICTATED) for ids in PROMPTS[::3]),
    Kind(PROMPTS[3], sampled(max_tokens=30, stop=("user",)), DICTATED),
    Kind(PROMPTS[2], sampled(max_tokens=8, temperature=1.0, seed=6, repetition_penalty=1.5), SOME_DIGITS, 1),
    Kind(PROMPTS[2], sampled(max_tokens=50, ignore_eos=True)),
)

ENGINES: dict[str, tuple[Opened, SlotConfig]] = {
    "keeps much": (
        tiny_engine,
        SlotConfig(slots=3, cache_bytes=64 * BLOCK_BYTES, prefill_chunk=8),
    ),
    "keeps little": (
        tiny_engine,
        SlotConfig(slots=2, cache_bytes=3 * BLOCK_BYTES, prefill_chunk=5),
    ),
    "keeps nothing": (tiny_engine, SlotConfig(slots=2, cache_bytes=0)),
    "changes factors": (longrope_engine, SlotConfig(slots=3, cache_bytes=8 * BLOCK_BYTES, prefill_chunk=16)),
}

ARRIVALS = st.builds(
    Arrival,
    kind=st.sampled_from(KINDS),
    gap=st.integers(0, 3),
    priority=st.sampled_from([Priority.BATCH, Priority.BATCH, Priority.INTERACTIVE]),
    cancel=st.none() | st.none() | st.integers(0, 6),
    session=st.none() | st.sampled_from(["a", "b"]),
)


@pytest.fixture
def engines() -> Iterator[dict[str, SlotEngine]]:
    engines = {name: opened(replace(config, max_len=256, threads=1)) for name, (opened, config) in ENGINES.items()}
    yield engines
    for engine in engines.values():
        engine.close()


def test_any_schedule_gives_every_request_what_it_gets_alone(engines: dict[str, SlotEngine]) -> None:
    @settings(max_examples=SCHEDULES, deadline=None)
    @given(st.sampled_from(sorted(ENGINES)), st.lists(ARRIVALS, min_size=3, max_size=10))
    def hold(name: str, plan: list[Arrival]) -> None:
        crowd = Crowd(engines[name], plan)
        crowd.run()
        answers = zip(plan, crowd.inboxes, strict=True)
        assert [arrival for arrival, inbox in answers if not is_same(arrival.kind, inbox, ENGINES[name][0])] == []

    hold()
    stats = {name: engine.stats() for name, engine in engines.items()}
    assert all(each.forced_tokens_total > 0 and each.preemptions_total > 0 for each in stats.values())
    assert [name for name, each in stats.items() if not each.cached_tokens_total] == ["keeps nothing"]
    assert (stats["keeps much"].replayed_tokens_total, stats["keeps nothing"].replayed_tokens_total > 0) == (0, True)
    assert [(each.slots_used, each.queued, each.restarts_total) for each in stats.values()] == [(0, 0, 0)] * len(stats)


def test_a_fault_in_any_schedule_costs_nothing_but_time(
    engines: dict[str, SlotEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    sort, steps = Rows.sort, [0]

    def broken(self: Rows) -> None:
        steps[0] -= 1
        if steps[0] == 0:
            raise RuntimeError("copy failed")
        sort(self)

    @settings(max_examples=SCHEDULES // 10, deadline=None)
    @given(st.sampled_from(sorted(ENGINES)), st.integers(1, 60), st.lists(ARRIVALS, min_size=3, max_size=10))
    def hold(name: str, fault_after: int, plan: list[Arrival]) -> None:
        steps[0] = fault_after
        crowd = Crowd(engines[name], plan)
        crowd.run()
        answers = zip(plan, crowd.inboxes, strict=True)
        assert [arrival for arrival, inbox in answers if not is_same(arrival.kind, inbox, ENGINES[name][0])] == []

    monkeypatch.setattr(Rows, "sort", broken)
    hold()
    stats = [engine.stats() for engine in engines.values()]
    assert sum(each.restarts_total for each in stats) > 20
    assert sum(each.replayed_tokens_total for each in stats) > 20
    assert [each.slots_used for each in stats] == [0] * len(stats)
