"""Adapters side by side in one engine: each request gets what it gets alone, and no call mixes them."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.collect import collect
from replicas.engine import Priority
from replicas.errors import NotFound
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.step.loop import Loop
from replicas.slot.step.requests import Call
from tests.replicas.engines import WAIT_S, Inbox, kept_folder, sampled
from tests.replicas.peft import random_pairs, write_peft
from tests.replicas.schedules import (
    BLOCK_BYTES,
    DICTATED,
    PLAIN,
    SAMPLINGS,
    Arrival,
    Crowd,
    Kind,
    alone,
    is_same,
    longrope_engine,
    prompt,
    tiny_engine,
)

NAMES = (None, "one", "two")
CACHED = replace(PLAIN, slots=6, cache_bytes=32 * BLOCK_BYTES)
GREEDY = sampled(max_tokens=25, ignore_eos=True)


@cache
def _folder(seed: int) -> Path:
    return write_peft(kept_folder() / "adapter", random_pairs(seed=seed))


def _loaded(engine: SlotEngine) -> SlotEngine:
    engine.load_adapter("one", _folder(1))
    engine.load_adapter("two", _folder(2))
    return engine


def _opened(config: SlotConfig) -> SlotEngine:
    return _loaded(tiny_engine(config))


def _opened_longrope(config: SlotConfig) -> SlotEngine:
    return _loaded(longrope_engine(config))


@pytest.fixture
def engine() -> Iterator[SlotEngine]:
    engine = _opened(CACHED)
    yield engine
    engine.close()


def test_adapters_and_the_bare_model_give_what_they_give_alone(engine: SlotEngine) -> None:
    lengths = (2, 20, 33, 70)
    plan = [
        Arrival(Kind(prompt(length), sampling, adapter=name, top_logprobs=1), priority=priority, gap=2)
        for length, sampling in zip(lengths, SAMPLINGS[1:], strict=False)
        for name, priority in zip(NAMES, (Priority.BATCH, *Priority), strict=True)
    ]
    crowd = Crowd(engine, plan)
    crowd.run()
    assert all(is_same(arrival.kind, inbox, _opened) for arrival, inbox in zip(plan, crowd.inboxes, strict=True))


def test_lanes_of_adapters_and_of_longrope_stand_side_by_side() -> None:
    engine = _opened_longrope(CACHED)
    kinds = [Kind(prompt(length), GREEDY, adapter=name) for length in (30, 40, 60) for name in NAMES]
    crowd = Crowd(engine, [Arrival(kind) for kind in (*kinds, Kind(prompt(35), GREEDY, DICTATED, adapter="one"))])
    crowd.run()
    engine.close()
    answers = zip(crowd.plan, crowd.inboxes, strict=True)
    assert all(is_same(arrival.kind, inbox, _opened_longrope) for arrival, inbox in answers)


ARRIVALS = st.builds(
    Arrival,
    kind=st.builds(
        Kind,
        prompt=st.sampled_from([prompt(9), prompt(40), prompt(46), prompt(70, 64)]),
        sampling=st.sampled_from([GREEDY, SAMPLINGS[3]]),
        grammar=st.sampled_from([None, None, DICTATED]),
        adapter=st.sampled_from(NAMES),
    ),
    gap=st.integers(0, 3),
    priority=st.sampled_from(Priority),
    cancel=st.none() | st.none() | st.integers(0, 6),
)


def test_any_schedule_of_lanes_gives_every_request_what_it_gets_alone() -> None:
    engine = _opened_longrope(replace(CACHED, slots=4, cache_bytes=6 * BLOCK_BYTES, prefill_chunk=12))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(ARRIVALS, min_size=4, max_size=10))
    def hold(plan: list[Arrival]) -> None:
        crowd = Crowd(engine, plan)
        crowd.run()
        answers = zip(plan, crowd.inboxes, strict=True)
        assert [arrival for arrival, inbox in answers if not is_same(arrival.kind, inbox, _opened_longrope)] == []

    hold()
    stats = engine.stats()
    engine.close()
    assert min(stats.preemptions_total, stats.cached_tokens_total, stats.forced_tokens_total) > 0 == stats.slots_used


def test_an_adapter_changes_the_answer(engine: SlotEngine) -> None:
    texts = {collect(engine, Kind(prompt(20), GREEDY, adapter=name).named("one")).text for name in NAMES}
    assert len(texts) == 3


def test_what_is_kept_of_one_adapter_serves_no_other(engine: SlotEngine) -> None:
    kinds = [Kind(prompt(70), GREEDY, adapter=name) for name in (*NAMES, *NAMES)]
    answers = [collect(engine, kind.named("one")) for kind in kinds]
    assert [answer.final.usage.cached for answer in answers] == [0, 0, 0, 64, 64, 64]
    assert [answer.text for answer in answers] == [alone(kind, _opened).text for kind in kinds]


def test_rows_of_one_adapter_come_to_stand_together(engine: SlotEngine) -> None:
    sampling = sampled(max_tokens=60, ignore_eos=True)
    crowd = Crowd(engine, [Arrival(Kind(prompt(9), sampling, adapter=name)) for name in (*NAMES, *NAMES)])
    crowd.run()
    calls = dict(engine.stats().batch_sizes)
    # They came in turns, so that each would decode by itself; sorted it is one call for each of three pairs.
    assert calls[2] > 2 * sum(count for rows, count in calls.items() if rows != 2)


@pytest.mark.parametrize("others", [0, 6], ids=["active", "waiting"])
def test_an_adapter_in_use_is_not_unloaded(engine: SlotEngine, monkeypatch: pytest.MonkeyPatch, others: int) -> None:
    call, is_asked, gate = Loop.call, threading.Event(), threading.Event()

    def noted(self: Loop, wanted: Call) -> Future[object]:
        future = call(self, wanted)
        is_asked.set()
        return future

    inboxes = [Inbox(gate) for _ in range(others + 1)]
    streams = []
    for number, inbox in enumerate(inboxes):
        name = "one" if number == others else None
        streams.append(engine.submit(Kind(prompt(9), GREEDY, adapter=name).named(str(number)), inbox))
    inboxes[0].begun()  # and held there
    monkeypatch.setattr(Loop, "call", noted)
    with ThreadPoolExecutor(1) as pool:
        unloading = pool.submit(engine.unload_adapter, "one")
        assert is_asked.wait(WAIT_S)
        gate.set()
        assert "under way" in str(unloading.exception())
    streams[-1].cancel()
    inboxes[-1].final()
    engine.unload_adapter("one")
    assert engine.stats().adapters == ("two",)
    with pytest.raises(NotFound, match="loaded: two"):
        engine.submit(Kind(prompt(9), GREEDY, adapter="one").named("late"), Inbox())


def test_another_adapter_of_the_same_name_is_another(engine: SlotEngine) -> None:
    kind, other = Kind(prompt(70), GREEDY, adapter="one"), Kind(prompt(70), GREEDY, adapter="two")
    before = collect(engine, kind.named("before"))
    engine.unload_adapter("one")
    engine.load_adapter("one", _folder(2))
    after = collect(engine, kind.named("after"))
    assert (before.text, before.final.usage.cached) == (alone(kind, _opened).text, 0)
    assert (after.text, after.final.usage.cached) == (alone(other, _opened).text, 0)


def test_an_adapter_may_come_while_others_run(engine: SlotEngine) -> None:
    engine.unload_adapter("two")
    kind, inbox = Kind(prompt(9), sampled(max_tokens=200, ignore_eos=True)), Inbox()
    engine.submit(kind.named("running"), inbox)
    engine.load_adapter("two", _folder(2))
    late = Kind(prompt(20), GREEDY, adapter="two")
    assert collect(engine, late.named("late")).text == alone(late, _opened).text
    assert is_same(kind, inbox, _opened)
