"""SlotEngine beyond the contract: the same bytes at any load, and faults that stay where they are."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from replicas.collect import Completed, collect
from replicas.engine import Chunk, Finish, Generation, Sampling
from replicas.export import Export
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.model.forward import Forward
from tests.models import ENDOFTEXT, IM_END
from tests.replicas.engines import Inbox, sampled, slot_engine, tiny
from tests.replicas.schedules import EDITED

GREEDY = sampled(max_tokens=12, ignore_eos=True)
SAMPLINGS = (
    GREEDY,
    sampled(max_tokens=30, ignore_eos=True),
    sampled(max_tokens=9, temperature=1.0, seed=7),
    sampled(max_tokens=20, temperature=0.7, top_p=0.9, seed=8, ignore_eos=True),
    sampled(max_tokens=15, temperature=1.5, top_k=20, repetition_penalty=1.2, seed=9, ignore_eos=True),
    sampled(max_tokens=10, min_tokens=10, repetition_penalty=1.3),
    EDITED,
)


@pytest.fixture(scope="module")
def engine() -> Iterator[SlotEngine]:
    engine = slot_engine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def crowd() -> Iterator[SlotEngine]:
    """More slots, and chunks so small that prompts interleave."""
    engine = slot_engine(8, prefill_chunk=8)
    yield engine
    engine.close()


def _prompt(length: int) -> tuple[int, ...]:
    return tuple(3 + (11 * place + 5 * length) % 270 for place in range(length))


def _request(id_: str, length: int, sampling: Sampling) -> Generation:
    return Generation(id_, _prompt(length), sampling)


@cache
def _alone(length: int, sampling: Sampling) -> Completed:
    engine = slot_engine(1)
    answer = collect(engine, _request("alone", length, sampling))
    engine.close()
    return answer


class Crowd:
    """Submits the next request when the one before has had so many chunks; remembers everyone's answer."""

    def __init__(self, engine: SlotEngine, plan: list[tuple[int, int, int]]) -> None:
        self._engine = engine
        self._plan = plan
        self._next = 0
        self.inboxes = [Inbox() for _ in plan]

    def submit(self) -> None:
        number, self._next = self._next, self._next + 1
        length, which, gap = self._plan[number]
        inbox = self.inboxes[number]

        def sink(chunk: Chunk) -> None:
            is_last = self._next == len(self._plan)
            if self._next == number + 1 and not is_last and (len(inbox.chunks) >= gap or chunk.final is not None):
                self.submit()
            inbox(chunk)

        self._engine.submit(_request(str(number), length, SAMPLINGS[which]), sink)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5), st.integers(0, 12)), min_size=2, max_size=12))
def test_any_schedule_gives_every_request_what_it_gets_alone(
    crowd: SlotEngine, plan: list[tuple[int, int, int]]
) -> None:
    run = Crowd(crowd, plan)
    run.submit()
    for (length, which, _), inbox in zip(plan, run.inboxes, strict=True):
        final, alone = inbox.final(), _alone(length, SAMPLINGS[which])
        assert inbox.text == alone.text
        assert replace(final.usage, cached=0) == alone.final.usage
        assert (final.mean_logprob, final.min_logprob) == (alone.final.mean_logprob, alone.final.min_logprob)


def test_seven_neighbours_do_not_change_a_byte(crowd: SlotEngine) -> None:
    gate = threading.Event()
    held = Inbox(gate)
    sampling = sampled(max_tokens=120, ignore_eos=True)
    crowd.submit(_request("first", 33, sampling), held)
    held.begun()
    others = [Inbox() for _ in range(7)]
    for number, inbox in enumerate(others):
        crowd.submit(_request(f"other-{number}", 5 + 9 * number, sampling), inbox)
    gate.set()
    for length, inbox in [(33, held), *((5 + 9 * number, inbox) for number, inbox in enumerate(others))]:
        assert inbox.final().usage.generated == 120
        assert inbox.text == _alone(length, sampling).text
    assert max(rows for rows, _ in crowd.stats().batch_sizes) == 8


def test_rows_that_finish_in_any_order_leave_the_others_alone(engine: SlotEngine) -> None:
    lengths = [(20, 4), (31, 30), (12, 2), (47, 17), (9, 8), (28, 40), (5, 3), (60, 11)]
    inboxes = [Inbox() for _ in lengths]
    for number, ((prompt, tokens), inbox) in enumerate(zip(lengths, inboxes, strict=True)):
        engine.submit(_request(str(number), prompt, sampled(max_tokens=tokens, ignore_eos=True)), inbox)
    for (prompt, tokens), inbox in zip(lengths, inboxes, strict=True):
        inbox.final()
        assert inbox.text == _alone(prompt, sampled(max_tokens=tokens, ignore_eos=True)).text


@pytest.mark.parametrize("prefill_chunk", [4, 5, 17, 128])
def test_the_size_of_prefill_chunks_does_not_show(prefill_chunk: int) -> None:
    engine = slot_engine(2, prefill_chunk=prefill_chunk)
    texts = [collect(engine, _request("one", length, GREEDY)).text for length in (1, 2, 3, 66, 129)]
    engine.close()
    assert texts == [_alone(length, GREEDY).text for length in (1, 2, 3, 66, 129)]


def test_a_seed_repeats_itself_and_another_does_not(engine: SlotEngine) -> None:
    def text(seed: int | None) -> str:
        sampling = sampled(max_tokens=24, temperature=1.0, seed=seed, ignore_eos=True)
        return collect(engine, _request("one", 20, sampling)).text

    assert text(1) == text(1)
    assert len({text(1), text(2), text(None), text(None)}) == 4


def test_top_k_of_one_is_greedy(engine: SlotEngine) -> None:
    sampling = sampled(max_tokens=12, temperature=2.0, top_k=1, ignore_eos=True)
    assert collect(engine, _request("one", 20, sampling)).text == _alone(20, GREEDY).text


def test_a_penalty_lowers_repetition(engine: SlotEngine) -> None:
    def different(penalty: float) -> int:
        sampling = sampled(max_tokens=100, repetition_penalty=penalty, ignore_eos=True)
        return len(set(collect(engine, _request("one", 20, sampling)).text))

    assert different(2.0) > different(1.0)


def test_no_end_before_min_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    decode, prefill = Forward.decode, Forward.prefill

    def eager(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        logits[:, [ENDOFTEXT, IM_END]] = 100.0
        return logits

    monkeypatch.setattr(Forward, "decode", lambda *args: eager(decode(*args)))
    monkeypatch.setattr(Forward, "prefill", lambda *args: eager(prefill(*args)))
    engine = slot_engine()
    at_once = collect(engine, _request("one", 9, sampled()))
    later = collect(engine, _request("one", 9, sampled(min_tokens=5)))
    never = collect(engine, _request("one", 9, sampled(ignore_eos=True)))
    engine.close()
    assert (at_once.final.finish, at_once.text, at_once.final.usage.generated) == (Finish.END, "", 1)
    assert (later.final.finish, later.final.usage.generated) == (Finish.END, 6)
    assert (never.final.finish, never.final.usage.generated) == (Finish.LENGTH, 16)


def test_log_probabilities_are_of_the_unmodified_model(engine: SlotEngine) -> None:
    plain = collect(engine, _request("one", 20, sampled(max_tokens=1, ignore_eos=True))).final
    hot = collect(engine, _request("one", 20, sampled(max_tokens=1, temperature=9.0, top_k=1, ignore_eos=True))).final
    assert plain.mean_logprob == plain.min_logprob == hot.mean_logprob
    assert plain.mean_logprob is not None
    assert -20 < plain.mean_logprob < 0


def test_a_long_prompt_does_not_hold_up_those_that_run() -> None:
    engine, gate = slot_engine(2, prefill_chunk=4), threading.Event()
    running, late = Inbox(gate), Inbox()
    engine.submit(_request("running", 4, sampled(max_tokens=60, ignore_eos=True)), running)
    running.begun()
    engine.submit(_request("late", 150, sampled(max_tokens=1, ignore_eos=True)), late)
    gate.set()
    late.final()
    # 150 tokens at 4 beside one running row: 37 steps, each with a token for it.
    assert sum(chunk.tokens for chunk in running.chunks) >= 37
    running.final()
    engine.close()


def test_sizes_are_the_models_or_less() -> None:
    engine = SlotEngine(tiny(), SlotConfig(slots=3, threads=1))
    stats = engine.stats()
    engine.close()
    token_bytes = Export.load(tiny().directory).kv_token_bytes
    assert (stats.context_tokens, stats.kv_bytes) == (
        512,
        (3 + 1) * 512 * token_bytes,
    )  # one row is for exchanging two others
    assert (stats.provider, stats.engine, stats.model) == ("cpu", "slot", "tiny")


def test_a_closed_engine_frees_session_and_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    close, closed = Forward.close, list[Forward]()

    def noted(forward: Forward) -> None:
        close(forward)
        closed.append(forward)

    monkeypatch.setattr(Forward, "close", noted)
    engine = slot_engine()
    engine.close()
    engine.close()
    assert len(closed) == 1
    with pytest.raises(AttributeError):
        closed[0].prefill(0, (3, 4), 0)
