"""An embedding is the mean of the prompt's hidden states, whatever else the engine does meanwhile."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from replicas.collect import Completed, collect
from replicas.engine import Chunk, Finish, Generation, Priority
from replicas.errors import EngineFailed
from replicas.export import Export
from replicas.slot import SlotEngine
from replicas.slot.model.forward import Forward
from replicas.slot.request.lane import BARE, Lane
from tests.replicas.engines import Inbox, sampled, tiny
from tests.replicas.passes import BLOCK, chunks, opened
from tests.replicas.schedules import BLOCK_BYTES, PLAIN, Kind, alone, longrope, longrope_engine, prompt, tiny_engine

CACHED = replace(PLAIN, slots=3, cache_bytes=16 * BLOCK_BYTES)
STREAM = Kind(prompt(9), sampled(max_tokens=60, ignore_eos=True))
Vector = tuple[float, ...]


@pytest.fixture
def engine() -> Iterator[SlotEngine]:
    engine = tiny_engine(CACHED)
    yield engine
    engine.close()


def _asked(ids: tuple[int, ...], id_: str = "embedded", priority: Priority = Priority.INTERACTIVE) -> Generation:
    return Generation(id_, ids, sampled(), priority=priority, wants_embedding=True)


def _by_hand(export: Export, ids: tuple[int, ...], lane: Lane = BARE) -> Vector:
    forward, start, total = opened(export), 0, np.zeros(64)
    for cut in chunks(len(ids), [BLOCK]):
        for state in forward.embed(0, ids[start : start + cut], start, lane):
            total += state
        start += cut
    forward.close()
    return tuple((total / np.linalg.norm(total)).tolist())


def _embedded(engine: SlotEngine, ids: tuple[int, ...]) -> Vector:
    answer = collect(engine, _asked(ids))
    assert answer.final.embedding is not None
    return answer.final.embedding


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 100])
def test_it_is_the_mean_of_the_hidden_states_at_length_one(engine: SlotEngine, length: int) -> None:
    answer = collect(engine, _asked(prompt(length)))
    assert answer.final.embedding == _by_hand(tiny(), prompt(length))
    assert np.linalg.norm(answer.final.embedding) == pytest.approx(1.0, abs=1e-12)
    assert (answer.text, answer.final.finish, answer.final.mean_logprob) == ("", Finish.END, None)
    assert (answer.final.usage.prompt, answer.final.usage.generated) == (length, 0)


def test_a_long_prompt_is_embedded_under_the_long_factors() -> None:
    engine = longrope_engine(CACHED)
    assert _embedded(engine, prompt(48)) == _by_hand(longrope(), prompt(48))
    assert _embedded(engine, prompt(49)) == _by_hand(longrope(), prompt(49), Lane(is_long=True))
    engine.close()


@pytest.mark.parametrize("prefill_chunk", [4, 5, 17, 64])
def test_neither_neighbours_nor_the_cut_show(prefill_chunk: int) -> None:
    engine = tiny_engine(replace(CACHED, prefill_chunk=prefill_chunk))
    stream, inboxes = Inbox(), [Inbox() for _ in range(4)]
    engine.submit(STREAM.named("stream"), stream)
    for number, inbox in enumerate(inboxes):
        engine.submit(_asked(prompt(40 + 9 * number), str(number)), inbox)
    got = [inbox.final().embedding for inbox in inboxes]
    assert got == [_by_hand(tiny(), prompt(40 + 9 * number)) for number in range(4)]
    assert (stream.final().finish, stream.text) == (Finish.LENGTH, alone(STREAM).text)
    engine.close()


def test_prompts_that_differ_have_embeddings_that_differ(engine: SlotEngine) -> None:
    vectors = {_embedded(engine, prompt(70, 64, seed)) for seed in (1, 2, 3, 1)}
    assert len(vectors) == 3


def test_the_cache_neither_shortens_nor_spoils_it(engine: SlotEngine) -> None:
    kind = Kind(prompt(70), sampled(max_tokens=20, ignore_eos=True))
    generated = [collect(engine, kind.named("before"))]
    vectors = [collect(engine, _asked(prompt(70))) for _ in range(2)]
    generated.append(collect(engine, kind.named("after")))
    assert [answer.final.usage.cached for answer in (*vectors, *generated)] == [0, 0, 0, 64]
    assert [answer.final.embedding for answer in vectors] == [_by_hand(tiny(), prompt(70))] * 2
    assert [answer.text for answer in generated] == [alone(kind).text] * 2


def test_a_generation_may_use_what_an_embedding_read(engine: SlotEngine) -> None:
    kind = Kind(prompt(70), sampled(max_tokens=20, ignore_eos=True))
    _embedded(engine, prompt(70))
    answer = collect(engine, kind.named("after"))
    assert (answer.final.usage.cached, answer.text) == (64, alone(kind).text)


class _Interrupted:
    """A stream during which a batch embedding comes, and then another interactive request; `at` its chunks."""

    def __init__(self, engine: SlotEngine, at: tuple[int, int]) -> None:
        self.stream, self.embedded, self.late = Inbox(), Inbox(), Inbox()
        coming = {
            at[0]: lambda: engine.submit(_asked(prompt(100), priority=Priority.BATCH), self.embedded),
            at[1]: lambda: engine.submit(Kind(prompt(9), sampled(max_tokens=2)).named("late"), self.late),
        }

        def sink(chunk: Chunk) -> None:
            self.stream(chunk)
            coming.get(len(self.stream.chunks), int)()

        engine.submit(STREAM.named("stream"), sink)


@pytest.mark.parametrize("cache_bytes", [0, 16 * BLOCK_BYTES])
def test_it_gives_way_in_the_middle_and_comes_out_the_same(cache_bytes: int) -> None:
    engine = tiny_engine(replace(CACHED, prefill_chunk=4, cache_bytes=cache_bytes))
    run = _Interrupted(engine, (2, 12))
    assert run.embedded.final().embedding == _by_hand(tiny(), prompt(100))
    assert run.late.is_done.is_set()
    assert engine.stats().preemptions_total == 1
    engine.close()


def test_it_begins_again_after_a_fault_and_comes_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(10**6))

    def broken(*args: object) -> None:
        if next(calls) == 30:
            raise RuntimeError("copy failed")

    monkeypatch.setattr("replicas.slot.step.rows.Rows.sort", broken)
    engine = tiny_engine(replace(CACHED, prefill_chunk=4))
    run = _Interrupted(engine, (20, 60))
    assert run.embedded.final().embedding == _by_hand(tiny(), prompt(100))
    assert run.stream.final().error is None
    assert engine.stats().restarts_total == 2
    engine.close()


def test_one_that_is_cancelled_has_none(engine: SlotEngine) -> None:
    gate, inbox = threading.Event(), Inbox()
    held = Inbox(gate)
    engine.submit(STREAM.named("stream"), held)
    held.begun()
    engine.submit(_asked(prompt(100)), inbox).cancel()
    gate.set()
    assert (inbox.final().finish, inbox.final().embedding) == (Finish.CANCELLED, None)


def test_one_that_is_not_a_number_is_an_error(engine: SlotEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = Forward.embed

    def poisoned(*args: object) -> NDArray[np.float32]:
        hidden = embed(*args)  # type: ignore[arg-type]  # passed on as they came
        hidden[-1, 3] = np.nan
        return hidden

    with monkeypatch.context() as patched:
        patched.setattr(Forward, "embed", poisoned)
        answer: Completed = collect(engine, _asked(prompt(70)))
    assert isinstance(answer.final.error, EngineFailed)
    assert answer.final.embedding is None
    assert _embedded(engine, prompt(70)) == _by_hand(tiny(), prompt(70))
